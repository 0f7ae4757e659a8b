//! Failures in Ollama's body: `{"error": "…"}`.

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base::{Kind, RequestId};
use serde_json::json;

use crate::error::{chain, retry_after, status};
use crate::fields::Fault;

/// A failure as Ollama words it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    pub(super) fn invalid(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message }
    }

    pub(super) fn unknown_model(model: &str) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: format!("model '{model}' not found") }
    }

    pub(crate) fn no_such_route(method: &Method, path: &str) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: format!("there is no {method} {path}") }
    }

    pub(crate) fn wrong_method(method: &Method, path: &str) -> Self {
        Self { status: StatusCode::METHOD_NOT_ALLOWED, message: format!("{method} is not allowed on {path}") }
    }

    /// A caller who is not let in.
    pub(crate) fn not_let_in(kind: Kind, message: String) -> Self {
        Self { status: status(kind), message }
    }

    /// What the caller may see of an error. Causes on our side are logged, and hidden behind the request id.
    pub(super) fn of(error: &chat::Error, id: RequestId) -> Self {
        let kind = error.kind();
        if !kind.is_public() {
            tracing::error!(request.id = %id, error = chain(error), "a generation failed");
        }
        match error {
            chat::Error::UnknownModel { model } => Self::unknown_model(model),
            chat::Error::OutOfCredit { reason } => {
                Self { status: StatusCode::PAYMENT_REQUIRED, message: reason.clone() }
            }
            // The vendor's server answers 503 when its queue is full.
            chat::Error::Overloaded { .. } => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, message: error.to_string() }
            }
            _ if kind.is_public() => Self { status: status(kind), message: error.to_string() },
            _ => Self { status: status(kind), message: format!("internal error, request {id}") },
        }
    }

    /// The body, as one line of JSON.
    pub(super) fn body(&self) -> String {
        json!({"error": self.message}).to_string()
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = (self.status, [("content-type", "application/json")], self.body()).into_response();
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
