//! Objects in a bucket of Amazon S3 or Alibaba Cloud OSS, by opendal.
//!
//! Creating an object only if its name is free is `If-None-Match: *` (S3) or `x-oss-forbid-overwrite` (OSS). It is sent
//! once: whoever wants to know after an error compares the bytes. Everything else may happen twice, and is tried
//! [`TRIES_MAX`] times when the service says that it failed for a moment.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, try_join_all};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use opendal::{ErrorKind, HttpTransporter, OperationContext, Operator, services};
use opendal_http_transport_reqwest::ReqwestTransport;

use crate::memory::check_size;
use crate::{Entry, Error, Location, Name, OBJECT_BYTES_MAX, Result, Service, Store};

/// How often what failed for a moment is tried.
const TRIES_MAX: u32 = 4;
/// How long it waits before the second try; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// How long one request may take: the largest object at 1 MiB/s.
const REQUEST_TIME: Duration = Duration::from_secs(64);
/// How long one request may take that carries no object.
const SHORT_REQUEST_TIME: Duration = Duration::from_secs(20);
/// Ranges of one object that lie nearer together than this are fetched by one request: less than the bytes that come
/// over a line of 1 GB/s while a request would be on its way.
const GAP_BYTES: u64 = 64 << 10;
/// How many requests one call has under way.
const REQUESTS_MAX: usize = 64;
/// How many names one request lists at most; the limit of both services.
const PAGE: usize = 1_000;

/// Who asks. Without it, the vendor's own means are tried: environment, profile, the machine's role.
#[derive(Clone)]
pub struct Credentials {
    /// Names the key pair.
    pub access_key: String,
    /// The other half.
    pub secret: String,
    /// Of temporary pairs.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Credentials({})", self.access_key)
    }
}

/// Objects in a bucket.
///
/// The futures need a tokio runtime around them. The process must have installed a default provider of cryptography for
/// rustls, also when the endpoint is `http://`.
#[derive(Clone)]
pub struct Remote {
    operator: Operator,
    location: Location,
}

impl Remote {
    /// A view of a bucket; asks the service nothing yet.
    ///
    /// # Errors
    /// [`Error::Io`] if the service's client refuses the settings.
    pub fn open(location: &Location, credentials: Option<&Credentials>) -> Result<Self> {
        let refused = |source| Error::Io { action: "open", what: location.to_string(), source: other(source) };
        let operator = match location.service {
            Service::S3 => Operator::new(s3(location, credentials)),
            Service::Oss => Operator::new(oss(location, credentials)),
        };
        let transport = HttpTransporter::new(ReqwestTransport::default());
        let context = OperationContext::new().with_http_transport(transport);
        Ok(Self { operator: operator.map_err(refused)?.with_context(context), location: location.clone() })
    }

    fn failed(&self, action: &'static str, name: &Name, source: opendal::Error) -> Error {
        match source.kind() {
            ErrorKind::NotFound => Error::NotFound { name: name.clone() },
            ErrorKind::ConditionNotMatch => Error::Exists { name: name.clone() },
            _ => Error::Io { action, what: format!("{name} of {}", self.location), source: other(source) },
        }
    }

    async fn read(&self, name: &Name, limit_bytes: u64) -> Result<Bytes> {
        let failed = |source| self.failed("read", name, source);
        let whole = retried(REQUEST_TIME, || async {
            let reader = self.operator.reader(name.as_str()).await?;
            let mut stream = reader.clone().into_stream(..).await?;
            let mut bytes = BytesMut::new();
            while let Some(piece) = stream.next().await {
                let length = reader.metadata().map(opendal::Metadata::content_length);
                if let Some(length) = length.filter(|&length| length > limit_bytes) {
                    return Ok(Err(length));
                }
                for piece in piece? {
                    bytes.extend_from_slice(&piece);
                }
                if bytes.len() as u64 > limit_bytes {
                    return Ok(Err(bytes.len() as u64));
                }
            }
            Ok(Ok(bytes.freeze()))
        });
        match whole.await.map_err(failed)? {
            Ok(bytes) => Ok(bytes),
            Err(size_bytes) => Err(Error::TooLarge { name: name.clone(), size_bytes, limit_bytes }),
        }
    }

    /// What there is of a range: all of it, or less at the end of the object.
    async fn read_clipped(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        let read = retried(REQUEST_TIME, || async {
            let reader = self.operator.reader(name.as_str()).await?;
            let mut stream = reader.clone().into_stream(range.clone()).await?;
            let mut bytes = BytesMut::new();
            while let Some(piece) = stream.next().await {
                match piece {
                    Ok(piece) => bytes.extend_from_slice(&piece.to_bytes()),
                    // The client takes less than it asked for as an error; the answer has said how much there is.
                    Err(error) => {
                        let end = reader.metadata().map(opendal::Metadata::content_length);
                        let is_all = end == Some(range.start + bytes.len() as u64) && !error.is_temporary();
                        return if is_all { Ok(bytes.freeze()) } else { Err(error) };
                    }
                }
            }
            Ok(bytes.freeze())
        });
        match read.await {
            Err(source) if source.kind() == ErrorKind::RangeNotSatisfied => match self.size(name).await? {
                size_bytes if size_bytes <= range.start => Ok(Bytes::new()),
                _ => Err(self.failed("read", name, source)),
            },
            answer => answer.map_err(|source| self.failed("read", name, source)),
        }
    }

    async fn read_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.read_clipped(name, range.clone()).await?;
        if bytes.len() as u64 == range.end - range.start {
            return Ok(bytes);
        }
        let size_bytes = self.size(name).await?;
        if size_bytes < range.end {
            return Err(Error::Short { name: name.clone(), size_bytes, end: range.end });
        }
        // It was replaced between the two requests.
        Err(Error::Unavailable { action: "read", name: name.clone() })
    }

    async fn size(&self, name: &Name) -> Result<u64> {
        let stat = retried(SHORT_REQUEST_TIME, || self.operator.stat(name.as_str()));
        stat.await.map(|facts| facts.content_length()).map_err(|source| self.failed("look at", name, source))
    }

    async fn write(&self, name: &Name, bytes: Bytes) -> Result<()> {
        check_size(name, bytes.len() as u64, OBJECT_BYTES_MAX)?;
        let put = retried(REQUEST_TIME, || async {
            self.operator.write(name.as_str(), bytes.clone()).await?;
            Ok(())
        });
        put.await.map_err(|source| self.failed("write", name, source))
    }

    async fn create(&self, name: &Name, bytes: Bytes) -> Result<()> {
        check_size(name, bytes.len() as u64, OBJECT_BYTES_MAX)?;
        let put = async { self.operator.write_with(name.as_str(), bytes).if_not_exists(true).await };
        match timed(REQUEST_TIME, put).await {
            Ok(_) => Ok(()),
            Err(source) => Err(self.failed("create", name, source)),
        }
    }

    async fn list(&self, folder: &Name, after: Option<&Name>, limit: usize) -> Result<Vec<Entry>> {
        let path = format!("{folder}/");
        // A place before the folder would make the service list what lies between the two.
        let start = after.filter(|after| after.as_str() > path.as_str());
        let listed = retried(SHORT_REQUEST_TIME, || async {
            let mut call = self.operator.lister_with(&path).recursive(true).limit(limit.clamp(1, PAGE));
            if let Some(start) = start {
                call = call.start_after(start.as_str());
            }
            let found: Vec<opendal::Entry> = call
                .await?
                .try_filter(|entry| futures::future::ready(entry.metadata().is_file()))
                .take(limit)
                .try_collect()
                .await?;
            Ok(found)
        });
        let listed = listed.await.map_err(|source| self.failed("list", folder, source))?;
        // A name that is no object name is not ours; it is left alone.
        let ours = listed.into_iter().filter_map(|entry| {
            let size_bytes = entry.metadata().content_length();
            Some(Entry { name: Name::parse(entry.path()).ok()?, size_bytes })
        });
        Ok(ours.filter(|entry| after.is_none_or(|after| entry.name > *after)).collect())
    }
}

fn s3(location: &Location, credentials: Option<&Credentials>) -> services::S3 {
    let mut service = services::S3::default().bucket(&location.bucket).root(&location.prefix);
    service = service.region(location.region.as_deref().unwrap_or("us-east-1"));
    if let Some(endpoint) = &location.endpoint {
        service = service.endpoint(endpoint);
    }
    if let Some(Credentials { access_key, secret, session_token }) = credentials {
        service = service.access_key_id(access_key).secret_access_key(secret).disable_config_load();
        service = service.disable_ec2_metadata().session_token(session_token.as_deref().unwrap_or_default());
    }
    service
}

fn oss(location: &Location, credentials: Option<&Credentials>) -> services::Oss {
    let mut service = services::Oss::default().bucket(&location.bucket).root(&location.prefix);
    if let Some(endpoint) = &location.endpoint {
        service = service.endpoint(endpoint);
    }
    if let Some(Credentials { access_key, secret, session_token }) = credentials {
        service = service.access_key_id(access_key).access_key_secret(secret);
        if let Some(token) = session_token {
            service = service.security_token(token);
        }
    }
    service
}

fn other(source: opendal::Error) -> std::io::Error {
    std::io::Error::other(source)
}

/// Gives up after a while.
async fn timed<T>(limit: Duration, call: impl Future<Output = opendal::Result<T>>) -> opendal::Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(opendal::Error::new(ErrorKind::Unexpected, "the request took too long").set_temporary()),
    }
}

/// Calls again when the service says that it failed for a moment.
async fn retried<T, F>(limit: Duration, mut call: impl FnMut() -> F) -> opendal::Result<T>
where
    F: Future<Output = opendal::Result<T>>,
{
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES_MAX {
        match timed(limit, call()).await {
            Err(error) if error.is_temporary() => tokio::time::sleep(wait).await,
            answer => return answer,
        }
        wait *= 2;
    }
    timed(limit, call()).await
}

/// Ranges to fetch that hold all of these, in the order of their places, and which of them holds each.
fn join_near(ranges: &[Range<u64>]) -> (Vec<Range<u64>>, Vec<usize>) {
    let mut order: Vec<usize> = (0..ranges.len()).filter(|&index| !ranges[index].is_empty()).collect();
    order.sort_unstable_by_key(|&index| ranges[index].start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    let mut places = vec![0; ranges.len()];
    for index in order {
        let range = &ranges[index];
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP_BYTES => last.end = last.end.max(range.end),
            _ => joined.push(range.clone()),
        }
        places[index] = joined.len() - 1;
    }
    (joined, places)
}

impl fmt::Debug for Remote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Remote({})", self.location)
    }
}

impl Store for Remote {
    fn get<'a>(&'a self, name: &'a Name, limit_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.read(name, limit_bytes).boxed()
    }

    fn get_ranges<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>>> {
        async move {
            for range in ranges {
                assert!(range.start <= range.end, "range {range:?} is reversed");
            }
            let (joined, places) = join_near(ranges);
            let mut fetched = Vec::with_capacity(joined.len());
            for some in joined.chunks(REQUESTS_MAX) {
                fetched.extend(try_join_all(some.iter().map(|range| self.read_range(name, range.clone()))).await?);
            }
            let parts = ranges.iter().zip(places).map(|(range, place)| {
                if range.is_empty() {
                    return Bytes::new();
                }
                let start = (range.start - joined[place].start) as usize;
                fetched[place].slice(start..start + (range.end - range.start) as usize)
            });
            Ok(parts.collect())
        }
        .boxed()
    }

    fn get_clipped<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>>> {
        async move {
            let mut fetched = Vec::with_capacity(ranges.len());
            for some in ranges.chunks(REQUESTS_MAX) {
                fetched.extend(try_join_all(some.iter().map(|range| self.read_clipped(name, range.clone()))).await?);
            }
            Ok(fetched)
        }
        .boxed()
    }

    fn put_create<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        self.create(name, bytes).boxed()
    }

    fn put<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        self.write(name, bytes).boxed()
    }

    fn list_after<'a>(
        &'a self,
        folder: &'a Name,
        after: Option<&'a Name>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>>> {
        self.list(folder, after, limit).boxed()
    }

    fn delete<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<()>> {
        async move {
            let removed = retried(SHORT_REQUEST_TIME, || self.operator.delete(name.as_str()));
            match removed.await.map_err(|source| self.failed("delete", name, source)) {
                Err(error) if error.is_not_found() => Ok(()),
                answer => answer,
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::{GAP_BYTES, join_near};

    #[test]
    fn near_ranges_share_a_request() {
        let far = 3 * GAP_BYTES;
        let (joined, places) = join_near(&[far..far + 10, 5..9, 7..7, 0..6, 100..GAP_BYTES, far + 5..far + 7]);
        assert_eq!(joined, [0..GAP_BYTES, far..far + 10]);
        assert_eq!(places, [1, 0, 0, 0, 0, 1]);
        assert!(join_near(&[]).0.is_empty());
    }
}
