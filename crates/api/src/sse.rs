//! Server-sent events: the transport of every streaming dialect.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use futures::{Stream, StreamExt as _, stream};

/// After so long without an event a comment is sent, so that proxies and clients see that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A comment line; clients skip it.
const KEEP_ALIVE_COMMENT: &[u8] = b": still working\n\n";

/// One event whose data is this JSON text.
pub(crate) fn data(json: &str) -> Bytes {
    debug_assert!(!json.contains('\n'), "an event is one line");
    Bytes::from(format!("data: {json}\n\n"))
}

/// A streaming response of these events.
pub(crate) fn response(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(kept_alive(events).map(Ok::<_, Infallible>));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of the nginx kind would otherwise collect events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn kept_alive(events: impl Stream<Item = Bytes> + Send + 'static) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(Box::pin(events), |mut events| async {
        match tokio::time::timeout(KEEP_ALIVE, events.next()).await {
            Ok(event) => event.map(|event| (event, events)),
            Err(_) => Some((Bytes::from_static(KEEP_ALIVE_COMMENT), events)),
        }
    })
}
