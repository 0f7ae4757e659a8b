//! Failures in OpenAI's body: `{"error": {"message", "type", "param", "code"}}`.

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base::{Kind, RequestId};

use super::types::{ErrorBody, ErrorDetail};
use crate::attached;
use crate::error::{chain, is_passing, retry_after, status};
use crate::fields::Fault;

/// A failure as OpenAI words it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
    /// The same request may succeed a little later.
    is_passing: bool,
}

impl Failure {
    pub(super) fn invalid(message: String, param: Option<String>) -> Self {
        let kind = "invalid_request_error";
        Self { status: StatusCode::BAD_REQUEST, message, kind, param, code: None, is_passing: false }
    }

    /// The same, about this parameter.
    pub(super) fn about(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    pub(super) fn not_found(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::invalid(message, None) }
    }

    pub(super) fn conflict(message: String) -> Self {
        Self { status: StatusCode::CONFLICT, ..Self::invalid(message, None) }
    }

    pub(super) fn too_large(message: String) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::invalid(message, None) }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_passing(&self) -> bool {
        self.is_passing
    }

    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Our fault, in words that may be shown.
    pub(super) fn internal(message: String) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let (kind, code) = ("server_error", Some("server_error"));
        Self { status, message, kind, param: None, code, is_passing: false }
    }

    /// What the caller may see of a failure to store or to find something.
    pub(super) fn of_store(error: &store::Error, id: RequestId) -> Self {
        match error {
            store::Error::TooLarge { size_bytes, limit_bytes, .. } => {
                Self::invalid(format!("there are {size_bytes} bytes to store, {limit_bytes} are allowed"), None)
            }
            _ => {
                tracing::error!(request.id = %id, error = chain(error), "the store failed");
                Self::internal(format!("internal error, request {id}"))
            }
        }
    }

    /// Why a file that the request names is not seen.
    pub(super) fn of_attached(fault: attached::Fault, id: RequestId) -> Self {
        match fault {
            attached::Fault::Unknown(file) => Self::no_such_file(&file).about("file_id"),
            attached::Fault::Unfit { id: file, why } => {
                Self::invalid(format!("the file {file} cannot be seen: {why}"), Some("file_id".to_owned()))
            }
            attached::Fault::TooMany(why) => Self::invalid(why, Some("file_id".to_owned())),
            attached::Fault::Store(error) => Self::of_store(&error, id),
        }
    }

    pub(super) fn no_such_file(file: &str) -> Self {
        Self::not_found(format!("No such File object: {file}"))
    }

    /// The code and the message.
    pub(super) fn words(&self) -> (&'static str, String) {
        (self.code.unwrap_or(self.kind), self.message.clone())
    }

    pub(super) fn unknown_model(model: &str) -> Self {
        let message = format!("The model {model:?} does not exist; GET /v1/models lists those that do");
        let code = Some("model_not_found");
        Self { status: StatusCode::NOT_FOUND, code, ..Self::invalid(message, Some("model".to_owned())) }
    }

    pub(crate) fn no_such_route(method: &Method, path: &str) -> Self {
        let message = format!("Unknown request URL: {method} {path}");
        Self { status: StatusCode::NOT_FOUND, code: Some("unknown_url"), ..Self::invalid(message, None) }
    }

    pub(crate) fn wrong_method(method: &Method, path: &str) -> Self {
        let message = format!("Not allowed to {method} on {path}");
        let code = Some("method_not_supported");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code, ..Self::invalid(message, None) }
    }

    /// A caller who is not let in.
    pub(crate) fn not_let_in(kind: Kind, message: String) -> Self {
        let (name, code) = match kind {
            Kind::Unauthenticated => ("invalid_request_error", Some("invalid_api_key")),
            Kind::Forbidden => ("permission_error", None),
            _ => ("service_unavailable_error", None),
        };
        Self { status: status(kind), message, kind: name, param: None, code, is_passing: false }
    }

    /// What the caller may see of an error. Causes on our side are logged, and hidden behind the request id.
    pub(super) fn of(error: &chat::Error, id: RequestId) -> Self {
        let kind = error.kind();
        if !kind.is_public() {
            tracing::error!(request.id = %id, error = chain(error), "a generation failed");
        }
        let (name, code) = match (error, kind) {
            (chat::Error::PromptTooLong { .. }, _) => ("invalid_request_error", Some("context_length_exceeded")),
            // What the vendor answers to an account without credit: 429, of a type of its own.
            (chat::Error::OutOfCredit { .. }, _) => ("insufficient_quota", Some("insufficient_quota")),
            (chat::Error::UnknownModel { model }, _) => return Self::unknown_model(model),
            // The vendor says in the type what there was too much of.
            (chat::Error::LimitReached { measure: measure @ ("requests" | "tokens"), .. }, _) => {
                (*measure, Some("rate_limit_exceeded"))
            }
            (_, Kind::Invalid | Kind::NotFound | Kind::Conflict) => ("invalid_request_error", None),
            (_, Kind::Unauthenticated) => ("invalid_request_error", Some("invalid_api_key")),
            (_, Kind::Forbidden) => ("permission_error", None),
            (_, Kind::Exhausted) => ("rate_limit_error", Some("rate_limit_exceeded")),
            (_, Kind::Unavailable) => ("service_unavailable_error", None),
            (_, Kind::Corrupt | Kind::Internal) => ("server_error", None),
        };
        let message = if kind.is_public() { error.to_string() } else { format!("internal error, request {id}") };
        let is_passing = is_passing(error);
        Self { status: status(kind), message, kind: name, param: param_of(error), code, is_passing }
    }

    /// The body, as one line of JSON.
    pub(super) fn body(&self) -> String {
        let param = self.param.as_deref();
        let error = ErrorDetail { message: &self.message, kind: self.kind, param, code: self.code };
        serde_json::to_string(&ErrorBody { error }).expect("strings become JSON")
    }

    pub(crate) fn into_response_without_id(self) -> Response {
        let headers = [("content-type", "application/json")];
        let mut response = (self.status, headers, self.body()).into_response();
        retry_after(&mut response);
        response
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unread(why) => Self::too_large(why),
            Fault::NotJson(why) => Self::invalid(format!("the body is not JSON: {why}"), None),
            Fault::NotAnObject => Self::invalid("the body is not a JSON object".to_owned(), None),
            Fault::Unsupported { field, why } => {
                let message = format!("{field} is not supported: {why}");
                Self { code: Some("unsupported_parameter"), ..Self::invalid(message, Some(field.to_owned())) }
            }
            Fault::Unknown { field } => {
                Self::invalid(format!("Unrecognized request argument supplied: {field}"), Some(field))
            }
            Fault::Wrong { path, why } => {
                Self::invalid(format!("{}: {why}", path.as_deref().unwrap_or("the body")), path)
            }
        }
    }
}

fn param_of(error: &chat::Error) -> Option<String> {
    match error {
        chat::Error::OutOfRange { name, .. } => Some((*name).to_owned()),
        chat::Error::PromptTooLong { .. } | chat::Error::EmptyPrompt => Some("messages".to_owned()),
        _ => None,
    }
}
