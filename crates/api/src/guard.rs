//! Without accounts, only programs on this machine may talk to us, and no web page in their name. With accounts a key
//! decides, which no foreign page has.
//!
//! The listener is bound to loopback, but a browser will reach loopback for any page: either by a cross-origin request,
//! or after the page's own host name was made to point here (DNS rebinding). The first carries a foreign `Origin`, the
//! second a foreign `Host`. Both are refused.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::App;

pub(crate) async fn only_local_names(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.directory.is_some() {
        return next.run(request).await;
    }
    let headers = request.headers();
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let foreign_host = host.or_else(|| text(headers, &HOST)).filter(|host| !is_local(host));
    let foreign_origin = text(headers, &ORIGIN).filter(|origin| !is_local_origin(origin));
    match foreign_host.map(|host| ("Host", host)).or(foreign_origin.map(|origin| ("Origin", origin))) {
        None => next.run(request).await,
        Some((header, value)) => {
            tracing::warn!(header, value, "a request under a foreign name was refused");
            let body = format!("{header} {value:?} is refused: this server answers to localhost only\n");
            (StatusCode::FORBIDDEN, body).into_response()
        }
    }
}

/// The header as text; bytes that are not text become a name that is never local.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn is_local_origin(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, host)| matches!(scheme, "http" | "https") && is_local(host))
}

/// `localhost`, `*.localhost` (RFC 6761), `127.0.0.0/8` or `[::1]`, with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && port.chars().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.to_ascii_lowercase();
    let is_loopback_address = || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    name == "localhost" || name.ends_with(".localhost") || name == "[::1]" || is_loopback_address()
}

#[cfg(test)]
mod tests {
    use super::{is_local, is_local_origin};

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "LOCALHOST:8420", "127.0.0.1:8420", "127.9.9.9", "[::1]:80", "[::1]", "a.localhost"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "", "[::2]:80"]
        {
            assert!(!is_local(host), "{host}");
        }
        assert!(is_local_origin("http://localhost:3000"));
        assert!(!is_local_origin("https://evil.example"));
        assert!(!is_local_origin("null"));
        assert!(!is_local_origin("file://localhost"));
    }
}
