//! Why a request to one of our own routes is not answered.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base::Kind;
use serde_json::{Value, json};

use crate::error::{chain, status};

/// A status and a sentence.
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

/// What a handler of ours returns.
pub(crate) type Answer<T = Json<Value>> = Result<T, Refusal>;

impl Refusal {
    /// An error in words, or only in the log where its words are nobody's business.
    fn of(kind: Kind, error: &(dyn std::error::Error + 'static), what: &'static str) -> Self {
        if kind.is_public() {
            return Self(status(kind), error.to_string());
        }
        tracing::error!(error = chain(error), "{what} cannot be read or written");
        Self(status(kind), "internal error, see the log".to_owned())
    }
}

impl From<ledger::Error> for Refusal {
    fn from(error: ledger::Error) -> Self {
        Self::of(error.kind(), &error, "the books")
    }
}

impl From<meta::Error> for Refusal {
    fn from(error: meta::Error) -> Self {
        Self::of(error.kind(), &error, "the directory")
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": {"message": self.1}}))).into_response()
    }
}
