//! The console's files, compressed when they are first asked for.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::sync::{LazyLock, OnceLock};

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use axum::http::{Response, StatusCode};
use axum::response::{IntoResponse as _, Response as AnyResponse};
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;

use super::harden;

/// Stands in `index.html` where the hash over all files belongs.
const VERSION_MARK: &str = "VERSION";
/// The sheets that every page needs, in their order: they travel as one.
const SHEETS: [&str; 4] = ["style/tokens.css", "style/base.css", "style/parts.css", "style/views.css"];
const SHEET: &str = "style/all.css";
/// The name of an address with this in front never means another content.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
/// Asks again every time whether there is a newer shell.
const ASK_AGAIN: &str = "no-cache";

#[derive(RustEmbed)]
#[folder = "../../console"]
#[exclude = "test/*"]
#[exclude = "*.json"]
#[exclude = "*.md"]
struct Files;

/// A file as it travels.
struct Asset {
    kind: &'static str,
    bytes: Bytes,
    packed: OnceLock<Option<Bytes>>,
}

/// All files, and the hash over them.
struct Assets {
    version: String,
    index: Asset,
    files: BTreeMap<String, Asset>,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::read);

/// `GET /`: the shell.
pub(super) async fn index(headers: HeaderMap) -> AnyResponse {
    let tag = format!("\"{}\"", ASSETS.version);
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return harden((StatusCode::NOT_MODIFIED, [(CACHE_CONTROL, ASK_AGAIN), (ETAG, tag.as_str())]).into_response());
    }
    let mut response = ASSETS.index.response(&headers, ASK_AGAIN);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// `GET /console/{version}/{path}`: a file of the running version. A page of an older one is told that it is old.
pub(super) async fn asset(Path((version, path)): Path<(String, String)>, headers: HeaderMap) -> AnyResponse {
    match ASSETS.files.get(&path).filter(|_| version == ASSETS.version) {
        Some(asset) => asset.response(&headers, FOR_GOOD),
        None => harden((StatusCode::NOT_FOUND, [(CACHE_CONTROL, "no-store")], "no such file\n").into_response()),
    }
}

impl Assets {
    fn read() -> Self {
        let mut hasher = DefaultHasher::new();
        let mut files = BTreeMap::new();
        let mut names: Vec<String> = Files::iter().map(|name| name.into_owned()).collect();
        names.sort_unstable();
        for name in names {
            let file = Files::get(&name).expect("the name came from the list");
            (&name, &*file.data).hash(&mut hasher);
            files.insert(name.clone(), Asset::new(&name, file.data.into_owned()));
        }
        let sheets = SHEETS.map(|name| files.remove(name).expect("the console has its sheets").bytes);
        files.insert(SHEET.to_owned(), Asset::new(SHEET, sheets.concat()));
        let version = format!("{:016x}", hasher.finish());
        let index = files.remove("index.html").expect("the console has an index.html");
        let text = String::from_utf8_lossy(&index.bytes).replace(VERSION_MARK, &version);
        Self { index: Asset::new("index.html", text.into_bytes()), version, files }
    }
}

impl Asset {
    fn new(name: &str, bytes: Vec<u8>) -> Self {
        let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some("woff2") => "font/woff2",
            Some(_) | None => "text/plain; charset=utf-8",
        };
        Self { kind, bytes: bytes.into(), packed: OnceLock::new() }
    }

    fn response(&self, headers: &HeaderMap, cache: &'static str) -> AnyResponse {
        let response = Response::builder().header(CONTENT_TYPE, self.kind).header(CACHE_CONTROL, cache);
        let packed = accepts_gzip(headers).then(|| self.packed.get_or_init(|| pack(self.kind, &self.bytes)).as_ref());
        let (response, body) = match packed.flatten() {
            Some(packed) => (response.header(CONTENT_ENCODING, "gzip"), packed),
            None => (response, &self.bytes),
        };
        let built = response.header(VARY, "accept-encoding").body(Body::from(body.clone()));
        harden(built.expect("the headers are constants"))
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("gzip"))
}

/// Fonts are compressed already.
fn pack(kind: &str, bytes: &[u8]) -> Option<Bytes> {
    if kind == "font/woff2" {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}
