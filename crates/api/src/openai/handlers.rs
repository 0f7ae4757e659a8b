//! Routes: parse, ask whoever answers, write the wire form.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use chat::{Answer, Event, EventStream, ModelCard};
use futures::future::{ready, try_join_all};
use futures::stream::select_all;
use futures::{Stream, StreamExt as _, stream};

use super::Failure;
use super::from_wire::{self, Call};
use super::to_wire::{self, ChatStream, CompletionStream, Head};
use super::types::{ModelList, WireModel};
use crate::{App, sse};

/// The header by which a caller and our log speak of the same request.
const REQUEST_ID: &str = "x-request-id";

type Body = Result<Bytes, BytesRejection>;

pub(super) async fn list_models(State(app): State<Arc<App>>) -> Response {
    let data = app.generate.models().into_iter().map(wire_model).collect();
    axum::Json(ModelList { object: "list", data }).into_response()
}

pub(super) async fn show_model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    match app.generate.models().into_iter().find(|card| card.id == id) {
        Some(card) => axum::Json(wire_model(card)).into_response(),
        None => Failure::unknown_model(&id).into_response_without_id(),
    }
}

pub(super) async fn chat_completions(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    let answered = match whole(body).and_then(|body| from_wire::chat(&body, id)) {
        Ok(call) => answer_chat(&app, id, call).await,
        Err(failure) => Err(failure),
    };
    named(id, answered)
}

pub(super) async fn completions(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    let answered = match whole(body).and_then(|body| from_wire::completion(&body, id)) {
        Ok(call) => answer_completion(&app, id, call).await,
        Err(failure) => Err(failure),
    };
    named(id, answered)
}

async fn answer_chat(app: &App, id: RequestId, call: Call) -> Result<Response, Failure> {
    let head = head(app, "chatcmpl", id, &call);
    let streams = start(app, id, &call).await?;
    if call.stream {
        let mut wire = ChatStream::new(head, streams.len(), call.include_usage);
        return Ok(sse::response(streamed(id, streams, move |step| match step {
            Step::Event(index, event) => wire.push(index, event).into_iter().collect(),
            Step::End => wire.end(),
        })));
    }
    let answers = collect(id, streams).await?;
    Ok(json(to_wire::chat_completion(&head, answers, call.logprobs)))
}

async fn answer_completion(app: &App, id: RequestId, call: Call) -> Result<Response, Failure> {
    let head = head(app, "cmpl", id, &call);
    let streams = start(app, id, &call).await?;
    if call.stream {
        let mut wire = CompletionStream::new(head, streams.len(), call.include_usage);
        return Ok(sse::response(streamed(id, streams, move |step| match step {
            Step::Event(index, event) => wire.push(index, event).into_iter().collect(),
            Step::End => wire.end(),
        })));
    }
    let answers = collect(id, streams).await?;
    Ok(json(to_wire::completion(&head, answers, call.logprobs)))
}

fn head(app: &App, prefix: &str, id: RequestId, call: &Call) -> Head {
    // A call has one request or more.
    let model = call.requests[0].model.clone();
    Head { id: format!("{prefix}-{id}"), created_s: app.clock.now_ms() / 1000, model }
}

/// Starts every choice; if one is refused, the others are cancelled by being dropped.
async fn start(app: &App, id: RequestId, call: &Call) -> Result<Vec<EventStream>, Failure> {
    let choices = call.requests.iter().map(|request| app.generate.generate(request.clone()));
    try_join_all(choices).await.map_err(|error| Failure::of(&error, id))
}

async fn collect(id: RequestId, streams: Vec<EventStream>) -> Result<Vec<Answer>, Failure> {
    try_join_all(streams.into_iter().map(chat::collect)).await.map_err(|error| Failure::of(&error, id))
}

/// One step of a response's stream.
enum Step {
    /// An event of a choice.
    Event(u32, Event),
    /// All choices are finished.
    End,
}

/// Interleaves the choices. The stream ends with `Step::End` only if every choice finished; else with an error body,
/// so that a cut answer never looks whole.
fn streamed(
    id: RequestId,
    streams: Vec<EventStream>,
    mut write: impl FnMut(Step) -> Vec<Bytes> + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
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
            Some(Ok(event)) => {
                finished[index] |= matches!(event, Event::Finished(_));
                return ready(Some(write(Step::Event(index as u32, event))));
            }
            None if finished[index] => {
                unfinished -= 1;
                return ready(Some(if unfinished == 0 { write(Step::End) } else { Vec::new() }));
            }
            Some(Err(error)) => error,
            None => cut_short(),
        };
        over = true;
        ready(Some(vec![sse::data(&Failure::of(&failed, id).body())]))
    });
    pieces.flat_map(stream::iter)
}

/// What a stream that ended without its last event is.
fn cut_short() -> chat::Error {
    chat::Error::Interrupted { reason: "the stream of events ended without its last one".to_owned() }
}

fn whole(body: Body) -> Result<Bytes, Failure> {
    body.map_err(|rejection| Failure::too_large(format!("read the body: {}", rejection.body_text())))
}

fn json(text: String) -> Response {
    ([("content-type", "application/json")], text).into_response()
}

fn named(id: RequestId, answered: Result<Response, Failure>) -> Response {
    let mut response = answered.unwrap_or_else(Failure::into_response_without_id);
    let value = HeaderValue::from_str(&id.to_string()).expect("hexadecimal digits are a header value");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

fn wire_model(card: ModelCard) -> WireModel {
    WireModel {
        id: card.id,
        object: "model",
        created: card.created_s,
        owned_by: card.owner,
        max_model_len: card.context_tokens,
    }
}
