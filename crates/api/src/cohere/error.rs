//! Failures in Cohere's body: `{"id": "…", "message": "…"}`.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base::{Kind, RequestId};
use serde_json::json;

use crate::error::{chain, retry_after, status};
use crate::fields::Fault;

/// A failure as Cohere words it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    pub(super) fn invalid(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message }
    }

    /// A caller who is not let in.
    pub(crate) fn not_let_in(kind: Kind, message: String) -> Self {
        Self { status: status(kind), message }
    }

    /// What the caller may see of an error. Causes on our side are logged, and hidden behind the request id.
    pub(super) fn of(error: &chat::Error, id: RequestId) -> Self {
        let kind = error.kind();
        if !kind.is_public() {
            tracing::error!(request.id = %id, error = chain(error), "a ranking failed");
        }
        let message = if kind.is_public() { error.to_string() } else { format!("internal error, request {id}") };
        Self { status: status(kind), message }
    }

    pub(crate) fn response(self, id: RequestId) -> Response {
        let body = json!({"id": id.to_string(), "message": self.message}).to_string();
        let mut response = (self.status, [("content-type", "application/json")], body).into_response();
        retry_after(&mut response);
        response
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unread(message) => Self { status: StatusCode::PAYLOAD_TOO_LARGE, message },
            fault => Self::invalid(fault.plainly()),
        }
    }
}
