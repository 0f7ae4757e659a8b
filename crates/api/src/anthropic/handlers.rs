//! Routes: parse, ask whoever answers, write the wire form.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use chat::{Caller, GenerateRequest, ModelCard};

use super::Failure;
use super::error::{REQUEST_ID, header};
use super::files::is_shown;
use super::to_wire::{self, Head, MessageStream};
use super::types::{ModelPage, PageQuery, TokenCount, WireModel};
use super::{from_wire, page};
use crate::fields::{Body, whole};
use crate::kept::{Who, owner_of};
use crate::{App, answer, attached, sse, time};

/// What is sent while nothing happens.
const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";

pub(super) async fn messages(State(app): State<Arc<App>>, who: Who, body: Body) -> Response {
    let id = app.request_id();
    let answered = async { message(&app, id, owner_of(who), &whole(body)?).await };
    named(id, answered.await)
}

/// Answers a message, on somebody's behalf.
pub(super) async fn message(
    app: &App,
    id: RequestId,
    caller: Option<Caller>,
    body: &[u8],
) -> Result<Response, Failure> {
    let mut call = from_wire::message(body, id)?;
    see_files(app, id, caller.as_ref(), &mut call.request).await?;
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

pub(super) async fn count_tokens(State(app): State<Arc<App>>, who: Who, body: Body) -> Response {
    let id = app.request_id();
    let counted = async {
        let mut request = from_wire::count(&whole(body)?, id)?;
        see_files(&app, id, owner_of(who).as_ref(), &mut request).await?;
        let counted = app.generate.count_tokens(request).await;
        let input_tokens = counted.map_err(|error| Failure::of(&error, id))?;
        Ok(axum::Json(TokenCount { input_tokens }).into_response())
    };
    named(id, counted.await)
}

/// Puts the pictures that the caller uploaded in their places.
async fn see_files(
    app: &App,
    id: RequestId,
    caller: Option<&Caller>,
    request: &mut GenerateRequest,
) -> Result<(), Failure> {
    let filled = attached::fill(app, caller, is_shown, std::slice::from_mut(request)).await;
    filled.map_err(|fault| Failure::of_attached(fault, id))
}

pub(crate) async fn list_models(
    State(app): State<Arc<App>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let page = query.map_err(|why| Failure::invalid(why.body_text())).and_then(|Query(query)| page(&app, &query));
    named(app.request_id(), page.map(|page| axum::Json(page).into_response()))
}

fn page(app: &App, query: &PageQuery) -> Result<ModelPage, Failure> {
    let cards = app.models();
    let ids: Vec<&str> = cards.iter().map(|card| card.id.as_str()).collect();
    let shown = page::shown(query, &ids, Failure::unknown_model)?;
    let data: Vec<WireModel> = cards[shown.range].iter().map(wire_model).collect();
    Ok(ModelPage {
        has_more: shown.has_more,
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
