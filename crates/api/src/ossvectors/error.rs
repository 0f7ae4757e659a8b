//! Errors as OSS writes them for vector buckets: `{"Error": {...}}` in JSON.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base::{Kind, RequestId};
use serde_json::json;

use crate::buckets::told;
use crate::signature::Refusal;

/// What is wrong, in the vendor's terms.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
    }

    /// The body cannot be read as what it must be.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MalformedJSON", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the body has more than {limit} bytes");
        Self::new(StatusCode::BAD_REQUEST, "EntityTooLarge", message)
    }

    pub(super) fn digest() -> Self {
        let message = "The Content-MD5 you specified did not match what we received.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidDigest", message)
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    /// The vendor's word for an account that is overdue.
    pub(super) fn not_paid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "UserDisable", message)
    }

    pub(super) fn no_policy() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchBucketPolicy", "The bucket has no policy.")
    }

    pub(super) fn not_implemented(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", format!("{what} is not supported"))
    }

    pub(super) fn wrong_method() -> Self {
        let message = "The specified method is not allowed against this resource.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub(super) fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "Please reduce your request rate.")
    }

    pub(super) fn of(error: &vectors::Error, id: RequestId) -> Self {
        let (kind, message) = told(error, id);
        let of_bucket = message.starts_with("vector bucket");
        match kind {
            Kind::Invalid => Self::invalid(message),
            Kind::NotFound if of_bucket => Self::new(StatusCode::NOT_FOUND, "NoSuchBucket", message),
            Kind::NotFound => Self::new(StatusCode::NOT_FOUND, "NoSuchVectorIndex", message),
            Kind::Conflict if message.ends_with("is not empty") => {
                Self::new(StatusCode::CONFLICT, "BucketNotEmpty", message)
            }
            Kind::Conflict if of_bucket => Self::new(StatusCode::CONFLICT, "BucketAlreadyExists", message),
            Kind::Conflict => Self::new(StatusCode::CONFLICT, "VectorIndexAlreadyExists", message),
            Kind::Exhausted if matches!(error, vectors::Error::Quota { .. }) => {
                Self::new(StatusCode::BAD_REQUEST, "QuotaExceeded", message)
            }
            Kind::Exhausted => Self::new(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", message),
            Kind::Forbidden | Kind::Unauthenticated => Self::denied(message),
            Kind::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message),
            Kind::Corrupt | Kind::Internal => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message),
        }
    }

    /// A signature that does not count.
    pub(super) fn signature(refusal: &Refusal) -> Self {
        let forbidden = |code, message: &str| Self::new(StatusCode::FORBIDDEN, code, message);
        match refusal {
            Refusal::Malformed(why) => Self::new(StatusCode::BAD_REQUEST, "InvalidArgument", why),
            Refusal::UnknownKey(_) => {
                forbidden("InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records.")
            }
            Refusal::Skewed { .. } => forbidden(
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            ),
            Refusal::Expired { .. } => forbidden("AccessDenied", "Request has expired."),
            Refusal::Mismatch => forbidden(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your key and \
                 signing method.",
            ),
        }
    }

    pub(super) fn response(self, id: RequestId, host: &str) -> Response {
        let error = json!({"Error": {
            "Code": self.code, "Message": self.message, "RequestId": shown(id), "HostId": host,
        }});
        let mut response = (self.status, axum::Json(error)).into_response();
        crate::error::retry_after(&mut response);
        response
    }
}

/// A request's id as the vendor writes it.
pub(super) fn shown(id: RequestId) -> String {
    id.to_string().to_uppercase()
}
