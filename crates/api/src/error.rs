//! The one place where an error kind becomes an HTTP status.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base::Kind;

pub(crate) use base::chain;

/// The status of a kind. 500 means our bug, 503 means: the same request may succeed later.
pub(crate) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Corrupt | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Tells whoever may try again when: an answer takes about so long to leave its place to another.
pub(crate) fn retry_after(response: &mut Response) {
    // 529 is Anthropic's.
    if matches!(response.status().as_u16(), 429 | 503 | 529) {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    }
}

/// Whether the same request may succeed a little later, though nothing about it changes.
pub(crate) fn is_passing(error: &chat::Error) -> bool {
    match error {
        // The model was tried often enough; money does not come by waiting.
        chat::Error::FormMissed { .. } | chat::Error::OutOfCredit { .. } => false,
        _ => matches!(error.kind(), Kind::Exhausted | Kind::Unavailable),
    }
}
