//! Alibaba Cloud OSS vector buckets, as the client alibabacloud-oss-v2 1.4 speaks to them: the bucket and the account
//! stand in the host's name (`films-000000000000.localhost`), the operation in the query.
//!
//! The buckets are those of the other vendor's dialect; indexes of several vectors a row (`fusion`) are this one's.

mod call;
mod control;
mod error;
mod from_wire;
mod fusion;
mod types;
mod vector_calls;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::Response;
use vectors::BucketName;

use crate::App;
use crate::signature::oss4;

/// Takes requests that are meant for this dialect out of the common router, which knows no hosts.
pub(crate) async fn taken(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let target = Target::of_host(&host(request.uri(), request.headers()));
    if target.is_none() && !oss4::is_signed(request.headers(), request.uri().query().unwrap_or_default()) {
        return next.run(request).await;
    }
    call::answer(app, target, request).await
}

/// The host that a request is for.
fn host(uri: &Uri, headers: &HeaderMap) -> String {
    let header = || headers.get(HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    uri.authority().map(|authority| authority.as_str().to_owned()).or_else(header).unwrap_or_default()
}

/// The bucket that a host names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    bucket: BucketName,
    account: String,
}

impl Target {
    /// `BUCKET-ACCOUNT.` in front of another name.
    fn of_host(host: &str) -> Option<Self> {
        let (label, rest) = host.split_once('.')?;
        let (bucket, account) = label.rsplit_once('-')?;
        let digits = !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit());
        let bucket = BucketName::parse(bucket).ok()?;
        (digits && !rest.is_empty()).then(|| Self { bucket, account: account.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn a_host_names_a_bucket_and_an_account() {
        let target = Target::of_host("my-films-123.localhost:8420").unwrap();
        assert_eq!((target.bucket.as_str(), target.account.as_str()), ("my-films", "123"));
        for other in
            ["localhost:8420", "127.0.0.1:8420", "films.localhost", "films-a1.localhost", "films-1", "a-1.b", ""]
        {
            assert_eq!(Target::of_host(other), None, "{other}");
        }
    }
}
