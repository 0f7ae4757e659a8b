//! Failures in Anthropic's body: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base::{Kind, RequestId};

use super::types::{ErrorBody, ErrorDetail};
use crate::attached;
use crate::error::{chain, is_passing, retry_after, status};
use crate::fields::Fault;

/// The header by which a caller and our log speak of the same request.
pub(super) const REQUEST_ID: &str = "request-id";

/// A failure as Anthropic words it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// The same request may succeed a little later.
    is_passing: bool,
}

impl Failure {
    pub(super) fn invalid(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "invalid_request_error", message, is_passing: false }
    }

    /// A field that the vendor documents and we do not support.
    pub(super) fn unsupported(path: &str, why: &str) -> Self {
        Self::invalid(format!("{path}: not supported here: {why}"))
    }

    pub(super) fn unknown_model(model: &str) -> Self {
        Self::not_found(format!("model: {model}"))
    }

    pub(super) fn not_found(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, kind: "not_found_error", ..Self::invalid(message) }
    }

    pub(super) fn too_large(message: String) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, kind: "request_too_large", ..Self::invalid(message) }
    }

    /// Why a file that the request names is not seen.
    pub(super) fn of_attached(fault: attached::Fault, id: RequestId) -> Self {
        match fault {
            attached::Fault::Unknown(file) => Self::no_such_file(&file),
            attached::Fault::Unfit { id: file, why } => Self::invalid(format!("file {file}: {why}")),
            attached::Fault::TooMany(why) => Self::invalid(why),
            attached::Fault::Store(error) => Self::of_store(&error, id),
        }
    }

    pub(super) fn no_such_file(file: &str) -> Self {
        Self::not_found(format!("File not found: {file}"))
    }

    /// What the caller may see of a failure to store or to find something.
    pub(super) fn of_store(error: &store::Error, id: RequestId) -> Self {
        tracing::error!(request.id = %id, error = chain(error), "the store failed");
        let message = format!("Internal server error, request {id}");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "api_error", ..Self::invalid(message) }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_passing(&self) -> bool {
        self.is_passing
    }

    pub(crate) fn no_such_route(method: &Method, path: &str) -> Self {
        Self::not_found(format!("Not Found: {method} {path}"))
    }

    pub(crate) fn wrong_method(method: &Method, path: &str) -> Self {
        let message = format!("Method Not Allowed: {method} {path}");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, ..Self::invalid(message) }
    }

    /// A caller who is not let in.
    pub(crate) fn not_let_in(kind: Kind, message: String) -> Self {
        let name = match kind {
            Kind::Unauthenticated => "authentication_error",
            Kind::Forbidden => "permission_error",
            _ => "api_error",
        };
        Self { status: status(kind), kind: name, message, is_passing: false }
    }

    /// What the caller may see of an error. Causes on our side are logged, and hidden behind the request id.
    pub(super) fn of(error: &chat::Error, id: RequestId) -> Self {
        let kind = error.kind();
        if !kind.is_public() {
            tracing::error!(request.id = %id, error = chain(error), "a generation failed");
        }
        if let chat::Error::UnknownModel { model } = error {
            return Self::unknown_model(model);
        }
        if let chat::Error::OutOfCredit { reason } = error {
            // https://docs.anthropic.com/en/api/errors
            let status = StatusCode::PAYMENT_REQUIRED;
            let (kind, message) = ("billing_error", reason.clone());
            return Self { status, kind, message, is_passing: is_passing(error) };
        }
        let (status, name) = match kind {
            Kind::Exhausted if matches!(error, chat::Error::ProjectBusy { .. } | chat::Error::LimitReached { .. }) => {
                (status(kind), "rate_limit_error")
            }
            Kind::Invalid | Kind::Conflict => (status(kind), "invalid_request_error"),
            Kind::Unauthenticated => (status(kind), "authentication_error"),
            Kind::Forbidden => (status(kind), "permission_error"),
            Kind::NotFound => (status(kind), "not_found_error"),
            // https://docs.anthropic.com/en/api/errors: 529 is a server that is busy, 429 a caller's own limit.
            Kind::Exhausted | Kind::Unavailable => {
                (StatusCode::from_u16(529).expect("a status below 1000"), "overloaded_error")
            }
            Kind::Corrupt | Kind::Internal => (status(kind), "api_error"),
        };
        let message = match error {
            chat::Error::PromptTooLong { prompt_tokens, context_tokens } => {
                format!("prompt is too long: {prompt_tokens} tokens > {context_tokens} maximum")
            }
            _ if kind.is_public() => error.to_string(),
            _ => format!("Internal server error, request {id}"),
        };
        Self { status, kind: name, message, is_passing: is_passing(error) }
    }

    /// The body, as one line of JSON.
    pub(super) fn body(&self, id: Option<RequestId>) -> String {
        let error = ErrorDetail { kind: self.kind, message: &self.message };
        let request_id = id.map(|id| format!("req_{id}"));
        serde_json::to_string(&ErrorBody { kind: "error", error, request_id }).expect("strings become JSON")
    }

    pub(crate) fn response(&self, id: RequestId) -> Response {
        let body = self.body(Some(id));
        let mut response = (self.status, [("content-type", "application/json")], body).into_response();
        retry_after(&mut response);
        response.headers_mut().insert(REQUEST_ID, header(id));
        response
    }
}

/// The value of [`REQUEST_ID`].
pub(super) fn header(id: RequestId) -> HeaderValue {
    HeaderValue::from_str(&format!("req_{id}")).expect("hexadecimal digits are a header value")
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unread(message) => Self::too_large(message),
            Fault::NotJson(why) => Self::invalid(format!("The request body is not valid JSON: {why}")),
            Fault::NotAnObject => Self::invalid("The request body is not a JSON object".to_owned()),
            Fault::Unsupported { field, why } => Self::unsupported(field, why),
            Fault::Unknown { field } => extra(&field),
            Fault::Wrong { path, why } => Self::wrong(path.as_deref().unwrap_or(""), &why),
        }
    }
}

impl Failure {
    /// A value of the wrong type, in the vendor's words where it has some.
    pub(super) fn wrong(path: &str, why: &str) -> Self {
        let path = dotted(path);
        let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match (named(why, "missing field `"), named(why, "unknown field `")) {
            (Some(field), _) => Self::invalid(format!("{}: Field required", inside(field))),
            // The path leads to the unknown field itself, unless the object was read as a whole before.
            (_, Some(field)) if path == field || path.ends_with(&format!(".{field}")) => extra(&path),
            (_, Some(field)) => extra(&inside(field)),
            (None, None) => Self::invalid(format!("{}: {why}", if path.is_empty() { "body" } else { &path })),
        }
    }
}

/// A field that nobody knows.
pub(super) fn extra(path: &str) -> Failure {
    Failure::invalid(format!("{path}: Extra inputs are not permitted"))
}

/// The name behind a prefix, up to the next backtick.
fn named<'text>(text: &'text str, prefix: &str) -> Option<&'text str> {
    text.strip_prefix(prefix)?.split('`').next()
}

/// `messages[0].content` as the vendor writes it: `messages.0.content`.
fn dotted(path: &str) -> String {
    path.replace('[', ".").replace(']', "")
}
