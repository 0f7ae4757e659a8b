//! The console: the pages that people see, and what only they need.
//!
//! | route | |
//! |---|---|
//! | `GET /` | the shell; everything else is loaded by it |
//! | `GET /console/{version}/{path}` | its modules, styles, texts and fonts |
//! | `POST /console/render` | Markdown as harmless HTML |
//!
//! The files are embedded as they lie in `console/`. Their address holds a hash over all of them, so a browser keeps
//! them for good and never mixes two versions.

mod assets;
mod highlight;
mod render;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::Response;
use axum::routing::{get, post};

use crate::App;

/// Nothing inline, nothing from elsewhere; HTML in strings goes through the one policy that `console/parts` makes.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      font-src 'self'; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types sampan";

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(assets::index))
        .route("/console/{version}/{*path}", get(assets::asset))
        .route("/console/render", post(render::render).layer(DefaultBodyLimit::max(render::BODY_BYTES_MAX)))
}

/// What every answer to a browser says about itself.
fn harden(mut response: Response) -> Response {
    let rules: [(HeaderName, &'static str); 6] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ];
    for (name, value) in rules {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Keeps an answer out of every cache.
fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
