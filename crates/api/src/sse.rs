//! Server-sent events: the transport of every streaming dialect.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use futures::{Stream, StreamExt as _, stream};

/// After so long without an event something is sent, so that proxies and clients see that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A comment line, which says that the connection lives; clients skip it.
pub(crate) const COMMENT: &[u8] = b": still working\n\n";

/// One event whose data is this JSON text.
pub(crate) fn data(json: &str) -> Bytes {
    debug_assert!(!json.contains('\n'), "an event is one line");
    Bytes::from(format!("data: {json}\n\n"))
}

/// One event with a name.
pub(crate) fn named(name: &str, json: &str) -> Bytes {
    debug_assert!(!json.contains('\n'), "an event is one line");
    Bytes::from(format!("event: {name}\ndata: {json}\n\n"))
}

/// One event with a name and the id by which its reader goes on after it.
pub(crate) fn numbered(id: &str, name: &str, json: &str) -> Bytes {
    debug_assert!(!json.contains('\n') && !id.contains('\n'), "an event is one line");
    Bytes::from(format!("id: {id}\nevent: {name}\ndata: {json}\n\n"))
}

/// A streaming response of these events, with `alive` where nothing happens for a while.
pub(crate) fn response(events: impl Stream<Item = Bytes> + Send + 'static, alive: &'static [u8]) -> Response {
    streaming("text/event-stream; charset=utf-8", kept_alive(events, alive))
}

/// A response whose body is sent piece by piece.
pub(crate) fn streaming(content_type: &'static str, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(pieces.map(Ok::<_, Infallible>)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of the nginx kind would otherwise collect events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn kept_alive(
    events: impl Stream<Item = Bytes> + Send + 'static,
    alive: &'static [u8],
) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(Box::pin(events), move |mut events| async move {
        match tokio::time::timeout(KEEP_ALIVE, events.next()).await {
            Ok(event) => event.map(|event| (event, events)),
            Err(_) => Some((Bytes::from_static(alive), events)),
        }
    })
}
