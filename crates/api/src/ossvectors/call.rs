//! A request whose sender is known, and the way to its operation.

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use base::RequestId;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ledger::usage::Activity;
use md5::{Digest as _, Md5};
use serde::de::DeserializeOwned;
use vectors::{Bucket, BucketName, IndexEntry, IndexName, Remembered};

use super::error::{Failure, shown};
use super::{Target, control, fusion, host, vector_calls};
use crate::App;
use crate::buckets::{Access, Asker, Barred, Buckets, is_allowed};
use crate::policy::Wish;
use crate::signature::{self, Refusal, decoded_pairs, oss4};

/// What a key pair's scope calls this dialect.
const SCOPE: &str = "ossvectors";
/// Bytes of a request.
const BODY_BYTES_MAX: usize = 20 << 20;

pub(super) struct Call {
    pub(super) app: Arc<App>,
    pub(super) buckets: Arc<Buckets>,
    pub(super) id: RequestId,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    query: String,
    asker: Asker,
    bucket: Option<BucketName>,
}

/// Answers a request that is meant for this dialect.
pub(super) async fn answer(app: Arc<App>, target: Option<Target>, request: Request) -> Response {
    let id = app.request_id();
    let host = host(request.uri(), request.headers());
    let answered = match read(&app, id, target, request).await {
        Ok((call, method)) => {
            let call = Arc::new(call);
            let done = run(&call, &method).await;
            let response = done.unwrap_or_else(|failure| failure.response(id, &host));
            note(&call, &method, response.status()).await;
            Ok(response)
        }
        Err(failure) => Err(failure),
    };
    let mut response = answered.unwrap_or_else(|failure| failure.response(id, &host));
    let text = HeaderValue::from_str(&shown(id)).expect("digits are a header");
    response.headers_mut().insert("x-oss-request-id", text);
    response
}

async fn read(
    app: &Arc<App>,
    id: RequestId,
    target: Option<Target>,
    request: Request,
) -> Result<(Call, Method), Failure> {
    let buckets = app.buckets.clone().ok_or_else(Failure::unavailable)?;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| Failure::too_large(BODY_BYTES_MAX))?;
    let query = parts.uri.query().unwrap_or_default();
    let signed = signature::Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query,
        headers: &parts.headers,
        body: &body,
    };
    let asker = asker(app, &buckets, target.as_ref(), &signed).await?;
    check_digest(&parts.headers, &body)?;
    if parts.uri.path() != "/" {
        return Err(Failure::wrong_method());
    }
    let served = &buckets.identity.account;
    if let Some(other) = target.as_ref().filter(|target| target.account != *served) {
        let why = format!("the account {} is not served here; account_id is {served}", other.account);
        return Err(Failure::denied(why));
    }
    let (query, bucket) = (query.to_owned(), target.map(|target| target.bucket));
    let call = Call { app: Arc::clone(app), buckets, id, headers: parts.headers, body, query, asker, bucket };
    Ok((call, parts.method))
}

async fn asker(
    app: &App,
    buckets: &Buckets,
    target: Option<&Target>,
    request: &signature::Request<'_>,
) -> Result<Asker, Failure> {
    let refused = |refusal: Refusal| Failure::signature(&refusal);
    let Some(claim) = oss4::read(request).map_err(refused)? else {
        return match buckets.access {
            Access::Open => Ok(Asker::ANYBODY),
            Access::Signed => Err(Failure::denied("You have no right to access this bucket: sign the request.")),
        };
    };
    match (buckets.keys.find(&claim.access_key).await, buckets.access) {
        (Some(pair), _) => {
            let bucket = target.map(|target| format!("{}:{}", target.account, target.bucket));
            let now_ms = app.clock.now_ms();
            claim.check(request, &pair.secret, bucket.as_deref(), now_ms).map_err(refused)?;
            let asker = Asker::of(pair, SCOPE).map_err(Failure::denied)?;
            match target.filter(|target| !asker.may_use(&target.bucket)) {
                Some(target) => Err(Failure::denied(format!("the key pair is not good for {}", target.bucket))),
                None => Ok(asker),
            }
        }
        (None, Access::Open) => Ok(Asker::ANYBODY),
        (None, Access::Signed) => Err(refused(Refusal::UnknownKey(claim.access_key))),
    }
}

/// The signature covers the digest of the body, so the digest must be that of the body.
fn check_digest(headers: &HeaderMap, body: &[u8]) -> Result<(), Failure> {
    let Some(said) = headers.get("content-md5") else { return Ok(()) };
    let is_right = said.as_bytes() == BASE64_STANDARD.encode(Md5::digest(body)).as_bytes();
    if is_right { Ok(()) } else { Err(Failure::digest()) }
}

/// Finds the operation by method and query, and does it.
async fn run(call: &Arc<Call>, method: &Method) -> Result<Response, Failure> {
    let Some(name) = &call.bucket else {
        return if *method == Method::GET { control::list_buckets(call).await } else { Err(Failure::wrong_method()) };
    };
    match (method.as_str(), call.operation()) {
        ("PUT", None) => control::put_bucket(call, name).await,
        ("GET", Some("bucketInfo")) => control::get_bucket(call, name).await,
        ("DELETE", None) => control::delete_bucket(call, name).await,
        ("PUT", Some("policy")) => control::put_policy(call, name).await,
        ("GET", Some("policy")) => control::get_policy(call, name).await,
        ("DELETE", Some("policy")) => control::delete_policy(call, name).await,
        ("PUT", Some("logging")) => control::put_logging(call, name).await,
        ("GET", Some("logging")) => control::get_logging(call, name).await,
        ("DELETE", Some("logging")) => control::delete_logging(call, name).await,
        ("POST", Some("putVectorIndex")) => control::put_index(call, name).await,
        ("POST", Some("getVectorIndex")) => control::get_index(call, name).await,
        ("POST", Some("listVectorIndexes")) => control::list_indexes(call, name).await,
        ("POST", Some("deleteVectorIndex")) => control::delete_index(call, name).await,
        ("POST", Some("putVectors")) => vector_calls::put(call, name).await,
        ("POST", Some("getVectors")) => vector_calls::get(call, name).await,
        ("POST", Some("listVectors")) => vector_calls::list(call, name).await,
        ("POST", Some("deleteVectors")) => vector_calls::delete(call, name).await,
        ("POST", Some("queryVectors")) => vector_calls::query(call, name).await,
        ("POST", Some("putVectorIndexFusion")) => fusion::put_index(call, name).await,
        ("POST", Some("queryVectorsFusion")) => fusion::query(call, name).await,
        _ => Err(Failure::wrong_method()),
    }
}

/// Writes down who did what in a bucket whose owner wants to know.
async fn note(call: &Call, method: &Method, status: StatusCode) {
    let Some(name) = &call.bucket else { return };
    let Ok(bucket) = call.buckets.catalogue.bucket(name).await else { return };
    if bucket.settings.logging.is_some() {
        let operation = call.operation().unwrap_or_default();
        let (status, user) = (status.as_u16(), call.asker.user().unwrap_or("anybody"));
        let id = call.id;
        tracing::info!(request.id = %id, bucket = %name, %method, operation, status, user, "bucket accessed");
    }
}

/// What a query may ask for.
const OPERATIONS: [&str; 14] = [
    "bucketInfo",
    "policy",
    "logging",
    "putVectorIndex",
    "getVectorIndex",
    "listVectorIndexes",
    "deleteVectorIndex",
    "putVectors",
    "getVectors",
    "listVectors",
    "deleteVectors",
    "queryVectors",
    "putVectorIndexFusion",
    "queryVectorsFusion",
];

impl Call {
    /// The body as a wire struct. An empty body is an empty object.
    pub(super) fn json<T: DeserializeOwned + Default>(&self) -> Result<T, Failure> {
        if self.body.is_empty() {
            return Ok(T::default());
        }
        json(&self.body)
    }

    /// What the query asks for.
    fn operation(&self) -> Option<&'static str> {
        OPERATIONS.into_iter().find(|name| decoded_pairs(&self.query).any(|(key, _)| key == *name))
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        decoded_pairs(&self.query).find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn failed(&self) -> impl Fn(vectors::Error) -> Failure + Copy + use<> {
        let id = self.id;
        move |error| Failure::of(&error, id)
    }

    pub(super) fn name_of(&self, bucket: &BucketName) -> String {
        let identity = &self.buckets.identity;
        format!("acs:ossvector:{}:{}:{bucket}", identity.region, identity.account)
    }

    /// Refuses what is another project's, or is not paid for.
    fn admit(&self, bucket: &Bucket, operation: &str) -> Result<(), Failure> {
        self.buckets.admit(&self.asker, bucket, operation).map_err(|barred| match barred {
            Barred::Foreign => Failure::denied(format!("the vector bucket {} is another project's", bucket.name)),
            Barred::NoCredit(why) => Failure::not_paid(why),
        })
    }

    /// Whether a listing shows this bucket to the sender.
    pub(super) fn sees(&self, bucket: &Bucket) -> bool {
        self.may_use(&bucket.name) && !self.buckets.is_foreign(&self.asker, bucket)
    }

    /// The project that makes a bucket.
    pub(super) fn project(&self) -> Option<String> {
        self.asker.project()
    }

    /// Counts vectors that were written or read.
    pub(super) fn count(&self, bucket: &Bucket, activity: Activity, vectors: usize) {
        self.buckets.count(&self.asker, bucket, activity, vectors);
    }

    /// Whether the sender's pair is good for this bucket.
    pub(super) fn may_use(&self, bucket: &BucketName) -> bool {
        self.asker.may_use(bucket)
    }

    /// Refuses what may not be computed or kept here.
    pub(super) fn confine(&self, bucket: &BucketName, operation: &str) -> Result<(), Failure> {
        self.buckets.confine(&self.asker, bucket, operation).map_err(Failure::denied)
    }

    /// A bucket in which the sender may do this.
    pub(super) async fn bucket(&self, name: &BucketName, operation: &str) -> Result<Arc<Bucket>, Failure> {
        self.confine(name, operation)?;
        let bucket = self.buckets.catalogue.bucket(name).await.map_err(self.failed())?;
        self.admit(&bucket, operation)?;
        self.allow(&bucket, operation, &self.name_of(name))?;
        Ok(bucket)
    }

    /// An index with which the sender may do this.
    pub(super) async fn index(
        &self,
        bucket: &BucketName,
        name: Option<&str>,
        operation: &str,
    ) -> Result<(Arc<Bucket>, Arc<IndexEntry>), Failure> {
        let name = index_name(name)?;
        self.confine(bucket, operation)?;
        self.buckets.catalogue.look_ahead(bucket, &name).await;
        let bucket = self.buckets.catalogue.bucket(bucket).await.map_err(self.failed())?;
        self.admit_index(&bucket, &name, operation)?;
        let index = self.buckets.catalogue.index(&bucket, &name).await.map_err(self.failed())?;
        Ok((bucket, index))
    }

    /// The same of what is remembered, which has still to be proved.
    pub(super) fn remembered_index(&self, known: &Remembered, operation: &str) -> Result<(), Failure> {
        self.confine(&known.bucket.name, operation)?;
        self.admit_index(&known.bucket, &known.index.name, operation)
    }

    fn admit_index(&self, bucket: &Bucket, name: &IndexName, operation: &str) -> Result<(), Failure> {
        self.admit(bucket, operation)?;
        self.allow(bucket, operation, &format!("{}/{name}", self.name_of(&bucket.name)))
    }

    fn allow(&self, bucket: &Bucket, operation: &str, resource: &str) -> Result<(), Failure> {
        let principals = self.principals();
        let action = format!("oss:{operation}");
        if is_allowed(bucket, Wish { principals: &principals, action: &action, resource }) {
            return Ok(());
        }
        Err(Failure::denied(format!("the policy of the bucket denies {action} on {resource}")))
    }

    /// Every name by which a policy may call the sender.
    fn principals(&self) -> Vec<String> {
        let account = &self.buckets.identity.account;
        let mut names = vec![account.clone(), format!("acs:ram::{account}:root")];
        names.extend(self.asker.user().map(|user| format!("acs:ram::{account}:user/{user}")));
        names
    }
}

/// The name of an index, which every request of one must have.
pub(super) fn index_name(name: Option<&str>) -> Result<IndexName, Failure> {
    let name = name.ok_or_else(|| Failure::invalid("indexName is missing"))?;
    IndexName::parse(name).map_err(|why| Failure::invalid(format!("indexName: {why}")))
}

/// Reads a wire struct; an error names the place.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|why| Failure::malformed(why.to_string()))
}
