//! Routes: parse, ask whoever answers, write the wire form.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use chat::{Caller, ModelCard};

use super::Failure;
use super::error::{REQUEST_ID, header};
use super::from_wire;
use super::to_wire::{self, Head, MessageStream};
use super::types::{ModelPage, PageQuery, TokenCount, WireModel};
use crate::fields::{Body, whole};
use crate::{App, answer, sse, time};

/// What is sent while nothing happens.
const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";
/// Models on a page, unless the request says otherwise.
const PAGE_DEFAULT: i64 = 20;
/// Models on a page at most.
const PAGE_MAX: i64 = 1000;

pub(super) async fn messages(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    let answered = async { message(&app, id, None, &whole(body)?).await };
    named(id, answered.await)
}

/// Answers a message, on somebody's behalf where this is not said by the way it came.
pub(super) async fn message(
    app: &App,
    id: RequestId,
    caller: Option<Caller>,
    body: &[u8],
) -> Result<Response, Failure> {
    let mut call = from_wire::message(body, id)?;
    call.request.caller = caller;
    let failed = |error: chat::Error| Failure::of(&error, id);
    let max_tokens = call.request.max_tokens.unwrap_or(u32::MAX);
    let head = Head { request: id, id: format!("msg_{id}"), model: call.request.model.clone(), max_tokens };
    let mut streams = answer::start(&*app.generate, vec![call.request]).await.map_err(failed)?;
    if call.stream {
        return Ok(sse::response(answer::streamed(streams, MessageStream::new(head)), PING));
    }
    let answer = chat::collect(streams.remove(0)).await.map_err(failed)?;
    Ok(json(to_wire::message(&head, answer).map_err(failed)?))
}

pub(super) async fn count_tokens(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    let counted = match whole(body).map_err(Failure::from).and_then(|body| from_wire::count(&body, id)) {
        Ok(request) => app.generate.count_tokens(request).await.map_err(|error| Failure::of(&error, id)),
        Err(failure) => Err(failure),
    };
    named(id, counted.map(|input_tokens| axum::Json(TokenCount { input_tokens }).into_response()))
}

pub(crate) async fn list_models(
    State(app): State<Arc<App>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let page = query.map_err(|why| Failure::invalid(why.body_text())).and_then(|Query(query)| page(&app, &query));
    named(app.request_id(), page.map(|page| axum::Json(page).into_response()))
}

fn page(app: &App, query: &PageQuery) -> Result<ModelPage, Failure> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Failure::invalid(format!("limit: Input should be 1 to {PAGE_MAX}, it is {limit}")));
    }
    let cards = app.models();
    let place = |id: &String| cards.iter().position(|card| card.id == *id).ok_or_else(|| Failure::unknown_model(id));
    let first = query.after_id.as_ref().map(place).transpose()?.map_or(0, |place| place + 1);
    let end = query.before_id.as_ref().map(place).transpose()?.unwrap_or(cards.len());
    let selected = cards.get(first..end).unwrap_or_default();
    // Before something, the last ones are nearest.
    let skipped = if query.before_id.is_some() { selected.len().saturating_sub(limit as usize) } else { 0 };
    let data: Vec<WireModel> = selected.iter().skip(skipped).take(limit as usize).map(wire_model).collect();
    Ok(ModelPage {
        has_more: data.len() < selected.len(),
        first_id: data.first().map(|model| model.id.clone()),
        last_id: data.last().map(|model| model.id.clone()),
        data,
    })
}

pub(crate) async fn show_model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let card = app.models().into_iter().find(|card| card.id == id);
    let model = card.map(|card| wire_model(&card)).ok_or_else(|| Failure::unknown_model(&id));
    named(app.request_id(), model.map(|model| axum::Json(model).into_response()))
}

fn wire_model(card: &ModelCard) -> WireModel {
    WireModel {
        kind: "model",
        id: card.id.clone(),
        display_name: card.id.clone(),
        created_at: time::rfc3339(card.created_s * 1000),
        lifecycle: "active",
        max_input_tokens: card.context_tokens,
        max_tokens: card.context_tokens,
    }
}

fn json(text: String) -> Response {
    ([("content-type", "application/json")], text).into_response()
}

pub(super) fn named(id: RequestId, answered: Result<Response, Failure>) -> Response {
    let mut response = answered.unwrap_or_else(|failure| failure.response(id));
    response.headers_mut().insert(REQUEST_ID, header(id));
    response
}
