//! From a request to a stream that tells the truth, whichever dialect it is written in.

use axum::body::Bytes;
use chat::{Answer, Error, Event, EventStream, Generate, GenerateRequest, Result};
use futures::future::{ready, try_join_all};
use futures::stream::select_all;
use futures::{Stream, StreamExt as _, stream};

/// How a dialect writes a stream down.
pub(crate) trait Wire: Send + 'static {
    /// An event of a choice.
    fn event(&mut self, choice: u32, event: Event) -> Vec<Bytes>;

    /// What follows when every choice has finished.
    fn end(&mut self) -> Vec<Bytes>;

    /// What follows when something went wrong. Nothing comes after it.
    fn failed(&mut self, error: &Error) -> Vec<Bytes>;
}

/// Starts every choice; if one is refused, the others are cancelled by being dropped.
pub(crate) async fn start(generate: &dyn Generate, requests: Vec<GenerateRequest>) -> Result<Vec<EventStream>> {
    try_join_all(requests.into_iter().map(|request| generate.generate(request))).await
}

/// The whole answer of every choice.
pub(crate) async fn collect(streams: Vec<EventStream>) -> Result<Vec<Answer>> {
    try_join_all(streams.into_iter().map(chat::collect)).await
}

/// Interleaves the choices. [`Wire::end`] is called only if every choice finished; else the stream ends with
/// [`Wire::failed`], so that a cut answer never looks whole.
pub(crate) fn streamed(streams: Vec<EventStream>, mut wire: impl Wire) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut finished = vec![false; streams.len()];
    let mut unfinished = streams.len();
    let indexed = streams.into_iter().enumerate().map(|(index, events)| {
        // `None` after the last event tells a stream that ended from one that waits.
        events.map(Some).chain(stream::iter([None])).map(move |event| (index, event)).boxed()
    });
    let mut over = false;
    let pieces = select_all(indexed).scan((), move |(), (index, event)| {
        if over {
            // What an error cut short is dropped, with everything that is still running.
            return ready(None);
        }
        let failed = match event {
            Some(Ok(event)) if !finished[index] => {
                finished[index] = matches!(event, Event::Finished(_));
                return ready(Some(wire.event(index as u32, event)));
            }
            None if finished[index] => {
                unfinished -= 1;
                return ready(Some(if unfinished == 0 { wire.end() } else { Vec::new() }));
            }
            Some(Err(error)) => error,
            Some(Ok(event)) => interrupted(format!("the event {event:?} follows the last one")),
            None => interrupted("the stream of events ended without its last one".to_owned()),
        };
        over = true;
        ready(Some(wire.failed(&failed)))
    });
    pieces.flat_map(stream::iter)
}

fn interrupted(reason: String) -> Error {
    Error::Interrupted { reason }
}
