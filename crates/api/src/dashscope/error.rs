//! Failures in DashScope's body: `{"code", "message", "request_id"}`. Codes as in
//! <https://help.aliyun.com/zh/model-studio/error-code>.

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base::{Kind, RequestId};
use serde_json::json;

use crate::error::{chain, retry_after, status};
use crate::fields::Fault;

/// A failure as DashScope words it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    pub(super) fn invalid(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "InvalidParameter", message }
    }

    pub(crate) fn no_such_route(method: &Method, path: &str) -> Self {
        let message = format!("there is no {method} {path}");
        Self { status: StatusCode::NOT_FOUND, code: "NotFound", message }
    }

    pub(crate) fn wrong_method(method: &Method, path: &str) -> Self {
        let message = format!("{method} is not allowed on {path}");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code: "MethodNotAllowed", message }
    }

    /// A caller who is not let in.
    pub(crate) fn not_let_in(kind: Kind, message: String) -> Self {
        let code = match kind {
            Kind::Unauthenticated => "InvalidApiKey",
            Kind::Forbidden => "AccessDenied",
            _ => "InternalError",
        };
        Self { status: status(kind), code, message }
    }

    /// What the caller may see of an error. Causes on our side are logged, and hidden behind the request id.
    pub(super) fn of(error: &chat::Error, id: RequestId) -> Self {
        let kind = error.kind();
        if !kind.is_public() {
            tracing::error!(request.id = %id, error = chain(error), "a request failed");
        }
        let code = match (error, kind) {
            (chat::Error::OutOfCredit { .. }, _) => "Throttling.AllocationQuota",
            (chat::Error::LimitReached { measure: "tokens", .. }, _) => "Throttling.AllocationQuota",
            (chat::Error::UnknownModel { .. }, _) => "ModelNotFound",
            (_, Kind::Invalid | Kind::Conflict) => "InvalidParameter",
            (_, Kind::NotFound) => "NotFound",
            (_, Kind::Unauthenticated) => "InvalidApiKey",
            (_, Kind::Forbidden) => "AccessDenied",
            (_, Kind::Exhausted) => "Throttling.RateQuota",
            (_, Kind::Unavailable) => "ModelUnavailable",
            (_, Kind::Corrupt | Kind::Internal) => "InternalError",
        };
        let message = if kind.is_public() { error.to_string() } else { format!("internal error, request {id}") };
        Self { status: status(kind), code, message }
    }

    /// The body, as one line of JSON.
    fn body(&self, id: RequestId) -> String {
        json!({"code": self.code, "message": self.message, "request_id": id.to_string()}).to_string()
    }

    /// The event that ends a stream. The status stands in a comment, and in the field that the vendor's client reads.
    pub(super) fn event(&self, id: RequestId) -> Bytes {
        let status = self.status.as_u16();
        Bytes::from(format!("event:error\n:HTTP_STATUS/{status}\nstatus:{status}\ndata:{}\n\n", self.body(id)))
    }

    pub(crate) fn response(&self, id: RequestId) -> Response {
        let mut response = (self.status, [("content-type", "application/json")], self.body(id)).into_response();
        retry_after(&mut response);
        response
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unread(message) => {
                Self { status: StatusCode::PAYLOAD_TOO_LARGE, code: "BadRequest.TooLarge", message }
            }
            fault => Self::invalid(fault.plainly()),
        }
    }
}
