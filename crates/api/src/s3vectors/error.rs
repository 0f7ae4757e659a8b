//! Errors as Amazon writes them: the code in `x-amzn-errortype`, the rest in JSON.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base::{Kind, RequestId};
use serde::Serialize;

use crate::buckets::told;
use crate::signature::Refusal;
use crate::time::rfc3339;

/// What is wrong, in the vendor's terms.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    fields: Vec<Field>,
}

/// A field that breaks a rule.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Field {
    path: String,
    message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(rename = "fieldList", skip_serializing_if = "<[Field]>::is_empty")]
    fields: &'a [Field],
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), fields: Vec::new() }
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    /// One field that breaks a rule, with the rule in words.
    pub(super) fn field(path: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { fields: vec![Field { path: path.to_owned(), message: message.clone() }], ..Self::validation(message) }
    }

    /// The body cannot be read as what it must be.
    pub(super) fn unreadable(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "SerializationException", why)
    }

    pub(super) fn not_found(what: &str) -> Self {
        let message = format!("The specified {what} could not be found");
        Self::new(StatusCode::NOT_FOUND, "NotFoundException", message)
    }

    pub(super) fn conflict(message: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "ConflictException", message)
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", message)
    }

    pub(super) fn not_paid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYMENT_REQUIRED, "ServiceQuotaExceededException", message)
    }

    pub(super) fn busy() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Too many requests wait; try again")
    }

    /// No vector buckets are served here.
    pub(super) fn unavailable() -> Self {
        let message = "Currently unable to handle the request";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message)
    }

    pub(super) fn of(error: &vectors::Error, id: RequestId) -> Self {
        let (kind, message) = told(error, id);
        match (kind, error) {
            (Kind::Invalid, _) => Self::validation(message),
            (Kind::NotFound, _) => {
                let what = if message.starts_with("vector bucket") { "vector bucket" } else { "index" };
                Self::not_found(what)
            }
            (Kind::Conflict, vectors::Error::Conflict { what, why }) => Self::conflict(&conflict(what, why)),
            (Kind::Conflict, _) => Self::conflict(&message),
            (Kind::Exhausted, vectors::Error::Quota { .. }) => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "ServiceQuotaExceededException", message)
            }
            (Kind::Exhausted, _) => Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", message),
            (Kind::Forbidden | Kind::Unauthenticated, _) => Self::denied(message),
            (Kind::Unavailable, _) => Self { message, ..Self::unavailable() },
            (Kind::Corrupt | Kind::Internal, _) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException", message)
            }
        }
    }

    /// The code and the message, for those who are told in the middle of an answer.
    pub(super) fn told(&self) -> (&'static str, String) {
        (self.code, self.message.clone())
    }

    /// A signature that does not count.
    pub(super) fn signature(refusal: &Refusal) -> Self {
        let forbidden = |code, message: String| Self::new(StatusCode::FORBIDDEN, code, message);
        match refusal {
            Refusal::Malformed(why) => Self::new(StatusCode::BAD_REQUEST, "IncompleteSignatureException", why),
            Refusal::UnknownKey(_) => forbidden(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.".to_owned(),
            ),
            Refusal::Skewed { signed, now_ms } => forbidden(
                "InvalidSignatureException",
                format!("Signature expired: {signed} is more than 15 minutes from {}", rfc3339(*now_ms)),
            ),
            Refusal::Expired { until_ms, now_ms } => forbidden(
                "InvalidSignatureException",
                format!("Signature expired: {} is earlier than {}", rfc3339(*until_ms), rfc3339(*now_ms)),
            ),
            Refusal::Mismatch => forbidden(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. Check your Amazon \
                 Web Services Secret Access Key and signing method. Consult the service documentation for details."
                    .to_owned(),
            ),
        }
    }

    /// Nobody signed, and somebody must.
    pub(super) fn unsigned() -> Self {
        Self::new(StatusCode::FORBIDDEN, "MissingAuthenticationTokenException", "Missing Authentication Token")
    }
}

/// The vendor's words for what is in the way.
fn conflict(what: &str, why: &str) -> String {
    let kind = if what.starts_with("vector bucket") { "vector bucket" } else { "index" };
    match why {
        "exists already" => {
            let article = if kind == "index" { "An" } else { "A" };
            format!("{article} {kind} with the specified name already exists")
        }
        _ => format!("The specified {kind} {why}"),
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Body { message: &self.message, fields: &self.fields };
        let mut response = (self.status, axum::Json(body)).into_response();
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(self.code));
        crate::error::retry_after(&mut response);
        response
    }
}

/// Gathers every field that breaks a rule.
#[derive(Default)]
pub(super) struct Check(Vec<Field>);

impl Check {
    pub(super) fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Field { path: path.to_owned(), message: message.into() });
    }

    fn constraint(&mut self, subject: &str, path: &str, rule: &str) {
        self.add(path, format!("{subject} at '{path}' failed to satisfy constraint: Member must {rule}"));
    }

    /// A field that must be there.
    pub(super) fn required<T>(&mut self, path: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.constraint("Value", path, "not be null");
        }
        value
    }

    pub(super) fn length(&mut self, path: &str, length: usize, allowed: std::ops::RangeInclusive<usize>) {
        if !allowed.contains(&length) {
            let rule = format!("have length between {} and {}, inclusive", allowed.start(), allowed.end());
            self.constraint(&format!("Value with length {length}"), path, &rule);
        }
    }

    pub(super) fn range(&mut self, path: &str, value: Option<i64>, allowed: std::ops::RangeInclusive<i64>) {
        if let Some(value) = value.filter(|value| !allowed.contains(value)) {
            let rule = format!("be between {} and {}, inclusive; it is {value}", allowed.start(), allowed.end());
            self.constraint("Value", path, &rule);
        }
    }

    pub(super) fn one_of(&mut self, path: &str, value: Option<&str>, allowed: &[&str]) {
        if value.is_some_and(|value| !allowed.contains(&value)) {
            self.constraint("Value", path, &format!("satisfy enum value set: [{}]", allowed.join(", ")));
        }
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let count = self.0.len();
        let errors = if count == 1 { "error" } else { "errors" };
        let all: Vec<&str> = self.0.iter().map(|field| field.message.as_str()).collect();
        let message = format!("{count} validation {errors} detected. {}", all.join("; "));
        Err(Failure { fields: self.0, ..Failure::validation(message) })
    }
}
