//! `POST /console/render`: what a model wrote becomes HTML in which nothing can run.
//!
//! The model is not trusted. HTML that it writes is shown as text, pictures become links (a picture's address tells its
//! server who reads), links lead to `http`, `https` and `mailto` only, and characters that turn the direction of
//! writing are spelled out. The result is sanitised once more, against an allow list.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use comrak::nodes::NodeValue;
use comrak::options::Plugins;
use comrak::{Arena, Options};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::highlight::Highlighter;
use super::{harden, uncached};

/// Bytes of a request.
pub(super) const BODY_BYTES_MAX: usize = 512 << 10;
/// Texts of a request.
const TEXTS_MAX: usize = 64;
/// Bytes of a text.
const TEXT_BYTES_MAX: usize = 32 << 10;
/// Quotations and lists that may begin on one line; the time of deeper ones grows with the square of their depth.
const NESTING_MAX: usize = 64;
/// Requests that are rendered at once; others wait.
const RENDERING_MAX: usize = 2;

static PLACES: Semaphore = Semaphore::const_new(RENDERING_MAX);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RenderRequest {
    texts: Vec<String>,
}

pub(super) async fn render(request: Result<Json<RenderRequest>, JsonRejection>) -> Response {
    let answer = match request {
        Ok(Json(request)) => answer(request.texts).await,
        Err(rejection) => refusal(rejection.status(), &rejection.body_text()),
    };
    uncached(harden(answer))
}

async fn answer(texts: Vec<String>) -> Response {
    if texts.len() > TEXTS_MAX {
        let why = format!("{} texts, at most {TEXTS_MAX} are rendered at once", texts.len());
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, &why);
    }
    if let Some(text) = texts.iter().find(|text| text.len() > TEXT_BYTES_MAX) {
        let why = format!("a text of {} bytes, at most {TEXT_BYTES_MAX} are rendered", text.len());
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, &why);
    }
    let place = PLACES.acquire().await.expect("nobody closes it");
    let rendered = tokio::task::spawn_blocking(move || {
        let _place = place;
        texts.iter().map(|text| html(text)).collect::<Vec<String>>()
    });
    match rendered.await {
        Ok(html) => Json(json!({"html": html})).into_response(),
        Err(error) => {
            tracing::error!(%error, "rendering Markdown failed");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "the text could not be rendered")
        }
    }
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message}}))).into_response()
}

/// Markdown as HTML that may stand in the console.
pub(super) fn html(markdown: &str) -> String {
    static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(options);
    static HIGHLIGHTER: LazyLock<Highlighter> = LazyLock::new(Highlighter::new);
    let text = spell_out_directions(markdown);
    if text.lines().any(|line| nesting(line) > NESTING_MAX) {
        return format!("<pre><code>{}</code></pre>", ammonia::clean_text(&text));
    }
    let arena = Arena::new();
    let root = comrak::parse_document(&arena, &text, &OPTIONS);
    for node in root.descendants() {
        let value = &mut node.data.borrow_mut().value;
        if let NodeValue::Image(link) = value {
            *value = NodeValue::Link(link.clone());
        }
    }
    let mut plugins = Plugins::default();
    plugins.render.codefence_syntax_highlighter = Some(&*HIGHLIGHTER);
    let mut out = String::with_capacity(text.len() * 2);
    comrak::format_html_with_plugins(root, &OPTIONS, &mut out, &plugins).expect("a string takes everything");
    sanitised(&out)
}

/// At most how many quotations and list items begin at the start of this line.
fn nesting(line: &str) -> usize {
    let is_opening = |letter: char| letter.is_ascii_digit() || ">-*+.) \t".contains(letter);
    let start = line.len() - line.trim_start_matches(is_opening).len();
    let opening = &line.as_bytes()[..start];
    let quotations = opening.iter().filter(|letter| **letter == b'>').count();
    let ends_item = |pair: &&[u8]| matches!(pair, [b'-' | b'*' | b'+' | b'.' | b')', b' ' | b'\t']);
    quotations + opening.windows(2).filter(ends_item).count()
}

fn options() -> Options<'static> {
    let mut options = Options::default();
    options.extension.strikethrough = true;
    options.extension.table = true;
    options.extension.autolink = true;
    options.extension.tasklist = true;
    options.extension.cjk_friendly_emphasis = true;
    options.render.escape = true;
    options
}

fn sanitised(html: &str) -> String {
    static RULES: LazyLock<Builder<'static>> = LazyLock::new(rules);
    RULES.clean(html).to_string()
}

fn rules() -> Builder<'static> {
    let tags = [
        "a",
        "blockquote",
        "br",
        "code",
        "del",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "input",
        "li",
        "ol",
        "p",
        "pre",
        "span",
        "strong",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ];
    let attributes: HashMap<&str, HashSet<&str>> = HashMap::from([
        ("a", HashSet::from(["href", "title"])),
        ("code", HashSet::from(["class"])),
        ("input", HashSet::from(["type", "checked", "disabled"])),
        ("ol", HashSet::from(["start"])),
        ("span", HashSet::from(["class"])),
        ("td", HashSet::from(["align"])),
        ("th", HashSet::from(["align"])),
    ]);
    let mut rules = Builder::new();
    rules
        .tags(HashSet::from(tags))
        .tag_attributes(attributes)
        .generic_attributes(HashSet::new())
        .url_schemes(HashSet::from(["http", "https", "mailto"]))
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .set_tag_attribute_value("a", "target", "_blank")
        .set_tag_attribute_value("input", "type", "checkbox")
        .set_tag_attribute_value("input", "disabled", "")
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            // Classes mean something in the console's style: only those of the highlighter may stand.
            ("span", "class") => Highlighter::is_class(value).then(|| value.into()),
            ("code", "class") => value.strip_prefix("language-").filter(|name| is_plain(name)).map(|_| value.into()),
            _ => Some(value.into()),
        });
    rules
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 32
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-#.".contains(letter))
}

/// Embeddings, overrides and isolates (UAX #9) let text look like other text; they are shown by their numbers.
fn spell_out_directions(text: &str) -> String {
    let turns = |letter: char| matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(turns) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 64);
    for letter in text.chars() {
        match turns(letter) {
            true => out.push_str(&format!("‹U+{:04X}›", u32::from(letter))),
            false => out.push(letter),
        }
    }
    out
}
