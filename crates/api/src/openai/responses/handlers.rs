//! Routes: parse, ask whoever answers, write the wire form.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use chat::{Caller, GenerateRequest, Prompt};
use serde_json::json;

use super::builder::Builder;
use super::from_wire;
use super::run::Run;
use super::shelf::{self, Record};
use super::types::{Item, ItemsQuery, Status, WireError, WireResponse};
use crate::fields::{Body, whole};
use crate::kept::{Who, owner_of};
use crate::openai::Failure;
use crate::openai::handlers::{named, see_files};
use crate::{App, sse};

/// Items of a page, unless the request says otherwise.
const PAGE_DEFAULT: usize = 20;
/// Items of a page at most.
const PAGE_MAX: usize = 100;

pub(super) async fn create(State(app): State<Arc<App>>, who: Who, body: Body) -> Response {
    let id = app.request_id();
    let answered = async { respond(&app, id, owner_of(who), &whole(body)?).await };
    named(id, answered.await)
}

pub(super) async fn count(State(app): State<Arc<App>>, who: Who, body: Body) -> Response {
    let id = app.request_id();
    let counted = async {
        let (_, request) = prepared(&app, id, owner_of(who), &whole(body)?).await?;
        let counted = app.generate.count_tokens(request).await.map_err(|error| Failure::of(&error, id))?;
        Ok(axum::Json(json!({"object": "response.input_tokens", "input_tokens": counted})).into_response())
    };
    named(id, counted.await)
}

/// A parsed request in its conversation.
struct Prepared {
    context: Vec<Item>,
    response: WireResponse,
    stream: bool,
}

async fn prepared(
    app: &App,
    id: RequestId,
    caller: Option<Caller>,
    body: &[u8],
) -> Result<(Prepared, GenerateRequest), Failure> {
    let now_ms = app.clock.now_ms();
    let mut call = from_wire::create(body, id, shelf::new_id(app, now_ms), now_ms / 1000)?;
    if call.response.store
        && let Err(error) = app.may_keep("the response", caller.as_ref(), Some(&call.request.model))
    {
        // Whoever did not ask for it goes without, as with the vendor where an organisation keeps nothing.
        if call.asks_to_store {
            return Err(Failure::of(&error, id).about("store"));
        }
        call.response.store = false;
    }
    let mut context = match &call.response.previous_response_id {
        Some(previous) => conversation(app, id, caller.as_ref(), previous).await?,
        None => Vec::new(),
    };
    context.extend(call.input);
    let mut request = call.request;
    request.prompt = Prompt::Messages(from_wire::messages(call.instructions.as_deref(), &context)?);
    see_files(app, id, caller.as_ref(), std::slice::from_mut(&mut request)).await?;
    request.caller = caller;
    Ok((Prepared { context, response: call.response, stream: call.stream }, request))
}

/// Makes a response, on somebody's behalf.
pub(in crate::openai) async fn respond(
    app: &Arc<App>,
    id: RequestId,
    caller: Option<Caller>,
    body: &[u8],
) -> Result<Response, Failure> {
    let failed = |error: chat::Error| Failure::of(&error, id);
    let not_kept = |error: store::Error| Failure::of_store(&error, id);
    let (Prepared { context, response, stream }, request) = prepared(app, id, caller.clone(), body).await?;
    let expires_at_ms = app.clock.now_ms() + shelf::KEPT_MS;
    let record = response.store.then(|| Record { expires_at_ms, context, response: response.clone() });
    if record.is_some() {
        shelf::sweep(&*app.objects, caller.as_ref(), &*app.clock).await.map_err(not_kept)?;
    }
    let mut run = Run { record, ..Run::new(app, caller, id, Builder::new(response)) };
    if run.builder.response.background {
        let queued = run.builder.response.clone();
        // What is wrong with a request is told now; the model is asked for by name only.
        request.validate().map_err(failed)?;
        if !app.models().iter().any(|card| card.id == request.model) {
            return Err(Failure::unknown_model(&request.model));
        }
        run.keep().await.map_err(not_kept)?;
        app.background.start(run, request).map_err(failed)?;
        return Ok(axum::Json(queued).into_response());
    }
    let events = app.generate.generate(request).await.map_err(failed)?;
    if stream {
        return Ok(sse::response(run.streamed(events), sse::COMMENT));
    }
    run.drain(events).await;
    match run.failure.take() {
        // Nobody has seen anything of it, so it can be an error instead of a response that failed.
        Some(failure) => Err(failure),
        None => Ok(axum::Json(run.builder.response).into_response()),
    }
}

/// Everything up to the end of a stored response.
async fn conversation(app: &App, id: RequestId, caller: Option<&Caller>, previous: &str) -> Result<Vec<Item>, Failure> {
    let param = "previous_response_id";
    let record = found(app, id, caller, previous).await.map_err(|failure| failure.about(param))?;
    match record.response.status {
        Status::Completed | Status::Incomplete => {
            let mut context = record.context;
            context.extend(record.response.output);
            Ok(context)
        }
        Status::Queued | Status::InProgress | Status::Failed | Status::Cancelled => {
            let message = format!("{param}: the response {previous} is not complete");
            Err(Failure::invalid(message, Some(param.to_owned())))
        }
    }
}

/// A stored response as it stands now.
async fn found(app: &App, id: RequestId, caller: Option<&Caller>, response: &str) -> Result<Record, Failure> {
    // Asked first: a run is on the list until its end was stored.
    let is_running = app.background.has(response);
    let record = shelf::get(&*app.objects, caller, response, app.clock.now_ms()).await;
    let record = record.map_err(|error| Failure::of_store(&error, id))?;
    let missing = || Failure::not_found(format!("Response with id {response:?} not found."));
    let mut record = record.ok_or_else(missing)?;
    match (record.response.status, is_running) {
        (Status::Queued, true) => record.response.status = Status::InProgress,
        (Status::Queued | Status::InProgress, false) => {
            record.response.status = Status::Failed;
            let message = "the server was stopped before this response was complete".to_owned();
            record.response.error = Some(WireError { code: "server_error".to_owned(), message });
        }
        _ => {}
    }
    Ok(record)
}

pub(super) async fn show(State(app): State<Arc<App>>, who: Who, Path(response): Path<String>) -> Response {
    let id = app.request_id();
    let record = found(&app, id, owner_of(who).as_ref(), &response).await;
    named(id, record.map(|record| axum::Json(record.response).into_response()))
}

pub(super) async fn delete(State(app): State<Arc<App>>, who: Who, Path(response): Path<String>) -> Response {
    let id = app.request_id();
    let caller = owner_of(who);
    let deleted = async {
        found(&app, id, caller.as_ref(), &response).await?;
        app.background.cancel(&response).await;
        let deleted = shelf::delete(&*app.objects, caller.as_ref(), &response).await;
        deleted.map_err(|error| Failure::of_store(&error, id))?;
        Ok(axum::Json(json!({"id": response, "object": "response", "deleted": true})).into_response())
    };
    named(id, deleted.await)
}

pub(super) async fn cancel(State(app): State<Arc<App>>, who: Who, Path(response): Path<String>) -> Response {
    let id = app.request_id();
    let caller = owner_of(who);
    let cancelled = async {
        let record = found(&app, id, caller.as_ref(), &response).await?;
        if !record.response.background {
            let message = format!("the response {response} does not run in the background");
            return Err(Failure::invalid(message, None));
        }
        app.background.cancel(&response).await;
        let record = found(&app, id, caller.as_ref(), &response).await?;
        Ok(axum::Json(record.response).into_response())
    };
    named(id, cancelled.await)
}

pub(super) async fn input_items(
    State(app): State<Arc<App>>,
    who: Who,
    Path(response): Path<String>,
    query: Result<Query<ItemsQuery>, QueryRejection>,
) -> Response {
    let id = app.request_id();
    let page = async {
        let Query(query) = query.map_err(|why| Failure::invalid(why.body_text(), None))?;
        let record = found(&app, id, owner_of(who).as_ref(), &response).await?;
        page(record.context, &query)
    };
    named(id, page.await)
}

fn page(mut items: Vec<Item>, query: &ItemsQuery) -> Result<Response, Failure> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let message = format!("limit is {limit}, allowed: 1 to {PAGE_MAX}");
        return Err(Failure::invalid(message, Some("limit".to_owned())));
    }
    match query.order.as_deref() {
        Some("asc") => {}
        None | Some("desc") => items.reverse(),
        Some(other) => {
            let message = format!("order is {other:?}, allowed: asc, desc");
            return Err(Failure::invalid(message, Some("order".to_owned())));
        }
    }
    if let Some(after) = &query.after {
        let place = items.iter().position(|item| item.id() == after);
        let wrong = || Failure::invalid(format!("after: there is no item {after:?}"), Some("after".to_owned()));
        items.drain(..=place.ok_or_else(wrong)?);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let (first, last) = (items.first().map(Item::id), items.last().map(Item::id));
    let page = json!({"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more});
    Ok(axum::Json(page).into_response())
}
