//! Sessions of the console: a page signs in with a key once, and holds a cookie that no script can read.
//!
//! | route | |
//! |---|---|
//! | `POST /console/session` | `{"key": …}`; sets the cookie and answers who signed in, with the page's token |
//! | `GET /console/session` | the same for whoever has the cookie |
//! | `DELETE /console/session` | ends the session |
//!
//! Who may sign in elsewhere does so by `elsewhere`, and holds the same cookie.
//!
//! A browser sends a cookie whoever made the page ask. So the cookie is `SameSite=Strict`, a request with it must come
//! from a page of the host that it is sent to, and one that may change something carries the page's token
//! (`x-sampan-page`), which only a page of ours has read. A foreign name that was made to point here (DNS rebinding)
//! has no cookie: a browser keeps cookies by name.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, HeaderName, HeaderValue, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use base::Kind;
use meta::{Principal, Session, is_same_secret, page_token};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::App;
use crate::error::{chain, status};

/// The cookie's name.
const NAME: &str = "sampan_session";
/// The header with the page's token.
const TOKEN: &str = "x-sampan-page";

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/console/session", get(show).post(begin).delete(end))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    key: String,
}

/// The session of a request's cookie.
pub(super) fn of(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, NAME)
}

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|all| all.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

/// Whether it is a page that asks: it has a session, and no other credentials.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    of(headers).is_some() && !headers.contains_key(AUTHORIZATION) && !headers.contains_key("x-api-key")
}

/// Refuses what a foreign page made a browser ask.
pub(super) fn check_page(session: &str, method: &Method, headers: &HeaderMap) -> Result<(), String> {
    check_origin(headers)?;
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let token = headers.get(TOKEN).and_then(|token| token.to_str().ok()).unwrap_or_default();
    match is_same_secret(token, &page_token(session)) {
        true => Ok(()),
        false => Err(format!("the header {TOKEN} does not hold the token of this session: load the page again")),
    }
}

/// Refuses a page of another host than the one that is asked.
fn check_origin(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if matches!(site, Some(b"cross-site" | b"same-site")) {
        return Err("a page of another site may not do this".to_owned());
    }
    let Some(origin) = text(&ORIGIN) else { return Ok(()) };
    let host = text(&HOST).unwrap_or_default();
    match origin.split_once("://") {
        Some(("http" | "https", page)) if page.eq_ignore_ascii_case(&host) => Ok(()),
        _ => Err(format!("Origin {origin:?} is refused: this server is {host:?}")),
    }
}

async fn begin(State(app): State<Arc<App>>, headers: HeaderMap, body: Result<Json<SignIn>, JsonRejection>) -> Response {
    let Some(directory) = &app.directory else { return nobody_asks() };
    if let Err(why) = check_origin(&headers) {
        return refusal(StatusCode::FORBIDDEN, &why);
    }
    let Json(SignIn { key }) = match body {
        Ok(body) => body,
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    match directory.sign_in(key.trim()).await {
        Ok((principal, session)) => {
            let mut answer = Json(shown(&principal, &session.shown.text)).into_response();
            answer.headers_mut().append(SET_COOKIE, begun(&app, &headers, &session));
            uncached(answer)
        }
        Err(error) => failed(&error),
    }
}

async fn show(State(app): State<Arc<App>>, request: Request) -> Response {
    let Some(directory) = &app.directory else { return Json(json!({"keys": false})).into_response() };
    let headers = request.headers();
    let Some(session) = of(headers) else {
        let error = json!({"message": "nobody has signed in"});
        let offered = app.sign_in.as_ref().map(|_| super::elsewhere::PATH);
        let body = Json(json!({"error": error, "elsewhere": offered}));
        return uncached((StatusCode::UNAUTHORIZED, body).into_response());
    };
    if let Err(why) = check_origin(headers) {
        return refusal(StatusCode::FORBIDDEN, &why);
    }
    match directory.authenticate_session(session).await {
        Ok(principal) => uncached(Json(shown(&principal, session)).into_response()),
        Err(error) => failed(&error),
    }
}

async fn end(State(app): State<Arc<App>>, request: Request) -> Response {
    let Some(directory) = &app.directory else { return nobody_asks() };
    let headers = request.headers();
    if let Some(session) = of(headers) {
        if let Err(why) = check_page(session, &Method::DELETE, headers) {
            return refusal(StatusCode::FORBIDDEN, &why);
        }
        if let Err(error) = directory.sign_out(session).await {
            return failed(&error);
        }
    }
    let mut answer = StatusCode::NO_CONTENT.into_response();
    answer.headers_mut().append(SET_COOKIE, baked(NAME, "", "/", "Strict", 0, is_encrypted(&app, headers)));
    uncached(answer)
}

/// Who signed in, and what his pages must say.
fn shown(principal: &Principal, session: &str) -> Value {
    json!({
        "keys": true, "key": &*principal.key, "project": &*principal.project,
        "organisation": &*principal.organisation, "role": principal.role.name(),
        "runs_place": principal.runs_place, "page": page_token(session),
    })
}

/// The cookie of a session that was begun.
pub(super) fn begun(app: &App, headers: &HeaderMap, session: &Session) -> HeaderValue {
    let left_s = session.expires_ms.saturating_sub(app.clock.now_ms()) / 1000;
    baked(NAME, &session.shown.text, "/", "Strict", left_s, is_encrypted(app, headers))
}

/// A cookie that no script can read. `site` says which pages of others may have it sent along.
pub(super) fn baked(name: &str, value: &str, path: &str, site: &str, left_s: u64, is_encrypted: bool) -> HeaderValue {
    let secure = if is_encrypted { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path={path}; HttpOnly; SameSite={site}; Max-Age={left_s}{secure}");
    HeaderValue::from_str(&cookie).expect("secrets are letters, digits and dots")
}

/// Whether the browser's way here is encrypted, as far as it is known: by the address that people know us by, by the
/// page that asks, or by the proxy in front of us. A browser keeps a cookie that is marked so from any other way.
pub(super) fn is_encrypted(app: &App, headers: &HeaderMap) -> bool {
    let is = |name: &str, start: &[u8]| {
        headers.get(name).is_some_and(|value| value.as_bytes().get(..start.len()) == Some(start))
    };
    app.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
        || is("origin", b"https://")
        || is("x-forwarded-proto", b"https")
}

pub(super) fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn nobody_asks() -> Response {
    refusal(StatusCode::CONFLICT, "this server asks nobody for a key: there is nothing to sign in to")
}

fn failed(error: &meta::Error) -> Response {
    if error.kind() == Kind::Unauthenticated {
        return refusal(StatusCode::UNAUTHORIZED, &error.to_string());
    }
    tracing::error!(error = chain(error), "a session cannot be read or written");
    refusal(status(error.kind()), "sessions cannot be read or written at the moment")
}

fn refusal(status: StatusCode, message: &str) -> Response {
    uncached((status, Json(json!({"error": {"message": message}}))).into_response())
}
