//! A request whose sender is known: the body is read, the signature checked.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue};
use base::RequestId;
use ledger::usage::Activity;
use serde::de::DeserializeOwned;
use vectors::{Bucket, BucketName, IndexEntry, IndexName, Remembered};

use super::BODY_BYTES_MAX;
use super::error::Failure;
use super::resource::{bucket_arn, index_arn};
use crate::App;
use crate::buckets::{Access, Asker, Barred, Buckets, is_allowed};
use crate::policy::Wish;
use crate::signature::{self, Refusal, sigv4};

/// The signing name of the service.
const SERVICE: &str = "s3vectors";

pub(super) struct Call {
    pub(super) app: Arc<App>,
    pub(super) buckets: Arc<Buckets>,
    pub(super) id: RequestId,
    pub(super) headers: HeaderMap,
    pub(super) query: String,
    pub(super) body: Bytes,
    asker: Asker,
}

impl FromRequest<Arc<App>> for Call {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let buckets = app.buckets.clone().ok_or_else(Failure::unavailable)?;
        let (mut parts, body) = request.into_parts();
        let id = parts.extensions.get::<RequestId>().copied().unwrap_or_else(|| app.request_id());
        let body = read(body).await?;
        // HTTP/2 has the host in the address, and there it is signed as well.
        if let Some(host) = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
            parts.headers.entry("host").or_insert(host);
        }
        let signed = signature::Request {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
            body: &body,
        };
        let asker = asker(app, &buckets, &signed).await?;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        Ok(Self { app: Arc::clone(app), buckets, id, headers: parts.headers, query, body, asker })
    }
}

async fn read(body: Body) -> Result<Bytes, Failure> {
    let too_large = |_| Failure::validation(format!("The request body must have at most {BODY_BYTES_MAX} bytes"));
    to_bytes(body, BODY_BYTES_MAX).await.map_err(too_large)
}

async fn asker(app: &App, buckets: &Buckets, request: &signature::Request<'_>) -> Result<Asker, Failure> {
    let refused = |refusal: Refusal| Failure::signature(&refusal);
    let Some(claim) = sigv4::read(request).map_err(refused)? else {
        return match buckets.access {
            Access::Open => Ok(Asker::ANYBODY),
            Access::Signed => Asker::signed_in().ok_or_else(Failure::unsigned),
        };
    };
    match (buckets.keys.find(&claim.access_key).await, buckets.access) {
        (Some(pair), _) => {
            claim.check(request, &pair.secret, SERVICE, app.clock.now_ms()).map_err(refused)?;
            Asker::of(pair, SERVICE).map_err(Failure::denied)
        }
        (None, Access::Open) => Ok(Asker::ANYBODY),
        (None, Access::Signed) => Err(refused(Refusal::UnknownKey(claim.access_key))),
    }
}

impl Call {
    /// The body as a wire struct. An empty body is an empty object, as some clients send it.
    pub(super) fn json<T: DeserializeOwned + Default>(&self) -> Result<T, Failure> {
        if self.body.is_empty() {
            return Ok(T::default());
        }
        json(&self.body)
    }

    pub(super) fn failed(&self) -> impl Fn(vectors::Error) -> Failure + Copy + use<> {
        let id = self.id;
        move |error| Failure::of(&error, id)
    }

    /// A bucket in which the sender may do this.
    pub(super) async fn bucket(&self, name: &BucketName, operation: &str) -> Result<Arc<Bucket>, Failure> {
        self.scoped(name, operation)?;
        let bucket = self.buckets.catalogue.bucket(name).await.map_err(self.failed())?;
        self.admit(&bucket, operation)?;
        self.allow(&bucket, operation, &bucket_arn(&self.buckets.identity, name))?;
        Ok(bucket)
    }

    /// An index with which the sender may do all of this.
    pub(super) async fn index(
        &self,
        bucket: &BucketName,
        name: &IndexName,
        operations: &[&str],
    ) -> Result<(Arc<Bucket>, Arc<IndexEntry>), Failure> {
        for operation in operations {
            self.scoped(bucket, operation)?;
        }
        self.buckets.catalogue.look_ahead(bucket, name).await;
        let bucket = self.buckets.catalogue.bucket(bucket).await.map_err(self.failed())?;
        self.admit_all(&bucket, name, operations)?;
        let index = self.buckets.catalogue.index(&bucket, name).await.map_err(self.failed())?;
        check_kind(&index, operations)?;
        Ok((bucket, index))
    }

    /// The same of what is remembered, which has still to be proved.
    pub(super) fn remembered_index(&self, known: &Remembered, operations: &[&str]) -> Result<(), Failure> {
        for operation in operations {
            self.scoped(&known.bucket.name, operation)?;
        }
        self.admit_all(&known.bucket, &known.index.name, operations)?;
        check_kind(&known.index, operations)
    }

    fn admit_all(&self, bucket: &Bucket, name: &IndexName, operations: &[&str]) -> Result<(), Failure> {
        for operation in operations {
            self.admit(bucket, operation)?;
        }
        if bucket.settings.policy.is_some() {
            let arn = index_arn(&self.buckets.identity, &bucket.name, name);
            for operation in operations {
                self.allow(bucket, operation, &arn)?;
            }
        }
        Ok(())
    }

    /// Refuses what is another project's, or is not paid for.
    pub(super) fn admit(&self, bucket: &Bucket, operation: &str) -> Result<(), Failure> {
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

    /// Whether the sender's pair is good for this bucket, which may not be there.
    pub(super) fn may_use(&self, bucket: &BucketName) -> bool {
        self.asker.may_use(bucket)
    }

    /// Refuses a pair that is not good for this bucket, whether it is there or not, and what may not be done here.
    pub(super) fn scoped(&self, bucket: &BucketName, operation: &str) -> Result<(), Failure> {
        if !self.may_use(bucket) {
            return Err(Failure::denied(format!("the key pair is not good for the vector bucket {bucket}")));
        }
        self.buckets.confine(&self.asker, bucket, operation).map_err(Failure::denied)
    }

    fn allow(&self, bucket: &Bucket, operation: &str, resource: &str) -> Result<(), Failure> {
        let principals = self.principals();
        let action = format!("s3vectors:{operation}");
        if is_allowed(bucket, Wish { principals: &principals, action: &action, resource }) {
            return Ok(());
        }
        let who = principals.last().map(String::as_str).unwrap_or_default();
        Err(Failure::denied(format!(
            "User: {who} is not authorized to perform: {action} on resource: {resource} with an explicit deny in a \
             resource-based policy"
        )))
    }

    /// Every name by which a policy may call the sender, the most exact last.
    fn principals(&self) -> Vec<String> {
        let account = &self.buckets.identity.account;
        let mut names = vec![account.clone(), format!("arn:aws:iam::{account}:root")];
        names.extend(self.asker.user().map(|user| format!("arn:aws:iam::{account}:user/{user}")));
        names
    }
}

/// Refuses what is asked of an index that is another dialect's.
fn check_kind(index: &IndexEntry, operations: &[&str]) -> Result<(), Failure> {
    let of_rows = |operation: &&str| operation.ends_with("Vectors") || operation.starts_with("Update");
    if index.settings.fusion.is_some() && operations.iter().any(of_rows) {
        let why = format!("The index {} is a fusion index, which the other vendor's client asks", index.name);
        return Err(Failure::validation(why));
    }
    Ok(())
}

/// Reads a wire struct; an error names the place.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(&mut reader).map_err(|why| Failure::unreadable(&why.to_string()))?;
    reader.end().map_err(|why| Failure::unreadable(&why.to_string()))?;
    Ok(value)
}
