//! Routes: parse, ask whoever answers, write the wire form.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use chat::{Answer, Caller, EventStream, GenerateRequest, ModelCard};

use super::Failure;
use super::files::is_shown;
use super::from_wire::{self, Call};
use super::to_wire::{self, ChatStream, CompletionStream, Head};
use super::types::{ModelList, WireModel};
use crate::fields::{Body, whole};
use crate::kept::{Who, owner_of};
use crate::{App, answer, attached, sse};

/// The header by which a caller and our log speak of the same request.
const REQUEST_ID: &str = "x-request-id";

pub(crate) async fn list_models(State(app): State<Arc<App>>) -> Response {
    let data = app.models().into_iter().map(wire_model).collect();
    axum::Json(ModelList { object: "list", data }).into_response()
}

pub(crate) async fn show_model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    match app.models().into_iter().find(|card| card.id == id) {
        Some(card) => axum::Json(wire_model(card)).into_response(),
        None => Failure::unknown_model(&id).into_response_without_id(),
    }
}

pub(super) async fn chat_completions(State(app): State<Arc<App>>, who: Who, body: Body) -> Response {
    let id = app.request_id();
    let answered = async { chat(&app, id, owner_of(who).as_ref(), &whole(body)?).await };
    named(id, answered.await)
}

pub(super) async fn completions(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    let answered = async { completion(&app, id, None, &whole(body)?).await };
    named(id, answered.await)
}

/// Answers a chat, on somebody's behalf.
pub(super) async fn chat(app: &App, id: RequestId, caller: Option<&Caller>, body: &[u8]) -> Result<Response, Failure> {
    let mut call = from_wire::chat(body, id)?.on_behalf_of(caller);
    see_files(app, id, caller, &mut call.requests).await?;
    let head = head(app, "chatcmpl", id, &call);
    let streams = start(app, id, &call).await?;
    if call.stream {
        let wire = ChatStream::new(head, id, streams.len(), call.include_usage);
        return Ok(sse::response(answer::streamed(streams, wire), sse::COMMENT));
    }
    let answers = collect(id, streams).await?;
    Ok(json(to_wire::chat_completion(&head, answers, call.logprobs)))
}

/// Continues a text, on somebody's behalf where this is not said by the way it came.
pub(super) async fn completion(
    app: &App,
    id: RequestId,
    caller: Option<&Caller>,
    body: &[u8],
) -> Result<Response, Failure> {
    let call = from_wire::completion(body, id)?.on_behalf_of(caller);
    let head = head(app, "cmpl", id, &call);
    let streams = start(app, id, &call).await?;
    if call.stream {
        let wire = CompletionStream::new(head, id, streams.len(), call.include_usage);
        return Ok(sse::response(answer::streamed(streams, wire), sse::COMMENT));
    }
    let answers = collect(id, streams).await?;
    Ok(json(to_wire::completion(&head, answers, call.logprobs)))
}

/// Puts the pictures that the caller uploaded in their places.
pub(super) async fn see_files(
    app: &App,
    id: RequestId,
    caller: Option<&Caller>,
    requests: &mut [GenerateRequest],
) -> Result<(), Failure> {
    let filled = attached::fill(app, caller, is_shown, requests).await;
    filled.map_err(|fault| Failure::of_attached(fault, id))
}

fn head(app: &App, prefix: &str, id: RequestId, call: &Call) -> Head {
    // A call has one request or more.
    let model = call.requests[0].model.clone();
    let created_s = app.clock.now_ms() / 1000;
    Head { id: format!("{prefix}-{id}"), created_s, model, choices_per_prompt: call.choices_per_prompt }
}

async fn start(app: &App, id: RequestId, call: &Call) -> Result<Vec<EventStream>, Failure> {
    answer::start(&*app.generate, call.requests.clone()).await.map_err(|error| Failure::of(&error, id))
}

async fn collect(id: RequestId, streams: Vec<EventStream>) -> Result<Vec<Answer>, Failure> {
    answer::collect(streams).await.map_err(|error| Failure::of(&error, id))
}

pub(super) fn json(text: String) -> Response {
    ([("content-type", "application/json")], text).into_response()
}

pub(super) fn named(id: RequestId, answered: Result<Response, Failure>) -> Response {
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
