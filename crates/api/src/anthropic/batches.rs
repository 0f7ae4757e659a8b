//! `/v1/messages/batches`: <https://docs.anthropic.com/en/api/creating-message-batches>. Whole.
//!
//! The requests come in the body, so they are bounded by its size (64 MiB); each is a line of a file that is kept until
//! the batch has ended. Results are there when it has, in one file, in the order in which they came.

mod lines;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{OriginalUri, Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base::RequestId;
use chat::Caller;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::handlers::named;
use super::types::PageQuery;
use super::{Failure, page};
use crate::batch::{Dialect, LINES_MAX, Lines, Record, Status, Wanted};
use crate::fields::{Body as Bytes, whole};
use crate::files::{FILE_BYTES_MAX, Files};
use crate::kept::{Who, owner_of};
use crate::{App, files, time};

pub(crate) use lines::AnthropicLines;

const PREFIX: &str = "msgbatch_";
/// The requests of a batch, which the caller does not see as a file.
const INPUT: &str = "message_batch";
/// Its results, neither.
const RESULTS: &str = "message_batch_results";
/// Where each request goes.
const ENDPOINT: &str = "/v1/messages";
/// How long a batch may take.
const WINDOW_MS: u64 = 24 * 3_600_000;
/// Characters of a custom id.
const CUSTOM_ID_MAX: usize = 64;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/messages/batches", post(create).get(list))
        .route("/v1/messages/batches/{id}", get(show).delete(delete))
        .route("/v1/messages/batches/{id}/cancel", post(cancel))
        .route("/v1/messages/batches/{id}/results", get(results))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireBatch<'body> {
    #[serde(borrow)]
    requests: Vec<WireRequest<'body>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRequest<'body> {
    custom_id: String,
    #[serde(borrow)]
    params: &'body RawValue,
}

/// Where a request came to, for the address of the results.
struct Place {
    host: Option<String>,
    folder: String,
}

impl Place {
    fn of(uri: &axum::http::Uri, headers: &HeaderMap) -> Self {
        let host = uri.authority().map(ToString::to_string);
        let host = host.or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned));
        let folder = uri.path().split(ENDPOINT).next().unwrap_or_default().to_owned();
        Self { host, folder }
    }

    fn of_results(&self, id: &str) -> String {
        let root = self.host.as_ref().map(|host| format!("http://{host}")).unwrap_or_default();
        format!("{root}{}{ENDPOINT}/batches/{id}/results", self.folder)
    }
}

async fn create(
    State(app): State<Arc<App>>,
    who: Who,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let id = app.request_id();
    let created = created(&app, id, owner_of(who), body).await;
    named(id, created.map(|record| answer(&record, &Place::of(&uri, &headers))))
}

async fn created(app: &Arc<App>, id: RequestId, owner: Option<Caller>, body: Bytes) -> Result<Record, Failure> {
    app.may_keep("a batch", owner.as_ref(), None).map_err(|error| Failure::of(&error, id))?;
    let body = whole(body)?;
    let wire: WireBatch<'_> = serde_json::from_slice(&body).map_err(|why| match why.is_data() {
        true => Failure::wrong("requests", &why.to_string()),
        false => Failure::from(crate::fields::Fault::NotJson(why.to_string())),
    })?;
    let count = wire.requests.len() as u64;
    if !(1..=LINES_MAX).contains(&count) {
        return Err(Failure::invalid(format!("requests: there are {count}, allowed: 1 to {LINES_MAX}")));
    }
    let mut ids = std::collections::HashSet::new();
    for (index, request) in wire.requests.iter().enumerate() {
        let custom_id = request.custom_id.as_str();
        if !is_custom_id(custom_id) {
            let why = "1 to 64 letters, digits, underscores and hyphens are allowed";
            return Err(Failure::invalid(format!("requests.{index}.custom_id: {custom_id:?}: {why}")));
        }
        if !ids.insert(custom_id) {
            return Err(Failure::invalid(format!("requests.{index}.custom_id: {custom_id:?} was used before")));
        }
        if !request.params.get().starts_with('{') {
            return Err(Failure::invalid(format!("requests.{index}.params: Input should be an object")));
        }
    }
    if app.desk.is_full() {
        return Err(Failure::of(&app.desk.overloaded(), id));
    }
    let failed = |error: store::Error| Failure::of_store(&error, id);
    let now_ms = app.clock.now_ms();
    let files = Files::of(&app.objects, owner.as_ref());
    let mut writer = files.writer(files::new_id("file-", now_ms, id), FILE_BYTES_MAX);
    for request in &wire.requests {
        // In one line, whatever it was in the body.
        let params: Value = serde_json::from_str(request.params.get())
            .map_err(|why| Failure::wrong(&format!("{}.params", request.custom_id), &why.to_string()))?;
        let line = json!({"custom_id": request.custom_id, "params": params});
        writer.push(format!("{line}\n").as_bytes()).await.map_err(failed)?;
    }
    let input = writer.finish(INPUT.to_owned(), INPUT, now_ms, None).await.map_err(failed)?;
    let wanted = Wanted {
        id: files::new_id(PREFIX, now_ms, id),
        dialect: Dialect::Anthropic,
        endpoint: ENDPOINT.to_owned(),
        input: input.id,
        window: String::new(),
        window_ms: WINDOW_MS,
        metadata: None,
    };
    let mut record = Record::new(wanted, owner.as_ref(), now_ms);
    record.counts.total = count;
    let lines: Arc<dyn Lines> = Arc::new(AnthropicLines::of(app));
    app.desk.accept(record.clone(), lines).await.map_err(failed)?;
    Ok(record)
}

fn is_custom_id(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=CUSTOM_ID_MAX).contains(&id.len()) && id.bytes().all(fits)
}

async fn one(app: &App, id: RequestId, owner: Option<&Caller>, batch: &str) -> Result<Record, Failure> {
    let record = app.desk.get(owner, PREFIX, batch).await.map_err(|error| Failure::of_store(&error, id))?;
    record.ok_or_else(|| Failure::not_found(format!("there is no message batch {batch}")))
}

async fn show(
    State(app): State<Arc<App>>,
    who: Who,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    Path(batch): Path<String>,
) -> Response {
    let id = app.request_id();
    let record = one(&app, id, owner_of(who).as_ref(), &batch).await;
    named(id, record.map(|record| answer(&record, &Place::of(&uri, &headers))))
}

async fn cancel(
    State(app): State<Arc<App>>,
    who: Who,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    Path(batch): Path<String>,
) -> Response {
    let id = app.request_id();
    let owner = owner_of(who);
    let cancelled = async {
        one(&app, id, owner.as_ref(), &batch).await?;
        app.desk.cancel(&batch).await.map_err(|error| Failure::of_store(&error, id))?;
        let record = one(&app, id, owner.as_ref(), &batch).await?;
        Ok(answer(&record, &Place::of(&uri, &headers)))
    };
    named(id, cancelled.await)
}

async fn delete(State(app): State<Arc<App>>, who: Who, Path(batch): Path<String>) -> Response {
    let id = app.request_id();
    let owner = owner_of(who);
    let failed = |error: store::Error| Failure::of_store(&error, id);
    let deleted = async {
        let record = one(&app, id, owner.as_ref(), &batch).await?;
        if !record.status.is_over() {
            return Err(Failure::invalid(format!("the message batch {batch} has not ended, cancel it first")));
        }
        if let Some(results) = &record.output {
            Files::of(&app.objects, owner.as_ref()).delete(results).await.map_err(failed)?;
        }
        app.desk.delete(owner.as_ref(), &batch).await.map_err(failed)?;
        Ok(axum::Json(json!({"id": batch, "type": "message_batch_deleted"})).into_response())
    };
    named(id, deleted.await)
}

async fn results(State(app): State<Arc<App>>, who: Who, Path(batch): Path<String>) -> Response {
    let id = app.request_id();
    let owner = owner_of(who);
    let found = async {
        let record = one(&app, id, owner.as_ref(), &batch).await?;
        if !record.status.is_over() {
            return Err(Failure::invalid(format!("the message batch {batch} has not ended, it has no results yet")));
        }
        let files = Files::of(&app.objects, owner.as_ref());
        let head = files.get(record.output.as_deref().unwrap_or_default(), app.clock.now_ms()).await;
        let gone = || Failure::not_found(format!("the results of the message batch {batch} are gone"));
        let head = head.map_err(|error| Failure::of_store(&error, id))?.ok_or_else(gone)?;
        let headers = [("content-type", "application/x-jsonl")];
        Ok((headers, Body::from_stream(files.content(head))).into_response())
    };
    named(id, found.await)
}

async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let id = app.request_id();
    let owner = owner_of(who);
    let failed = |error: store::Error| Failure::of_store(&error, id);
    let page = async {
        let Query(query) = query.map_err(|why| Failure::invalid(why.body_text()))?;
        let ids = app.desk.ids(owner.as_ref(), PREFIX).await.map_err(failed)?;
        let known: Vec<&str> = ids.iter().map(String::as_str).collect();
        let missing = |id: &str| Failure::not_found(format!("there is no message batch {id}"));
        let shown = page::shown(&query, &known, missing)?;
        let place = Place::of(&uri, &headers);
        let mut data = Vec::new();
        for batch in &ids[shown.range] {
            let record = app.desk.get(owner.as_ref(), PREFIX, batch).await.map_err(failed)?;
            data.extend(record.map(|record| wire_batch(&record, &place)));
        }
        let (first_id, last_id) = (data.first().map(|one| &one["id"]), data.last().map(|one| &one["id"]));
        let page = json!({"data": data, "has_more": shown.has_more, "first_id": first_id, "last_id": last_id});
        Ok(axum::Json(page).into_response())
    };
    named(id, page.await)
}

fn answer(record: &Record, place: &Place) -> Response {
    axum::Json(wire_batch(record, place)).into_response()
}

fn wire_batch(record: &Record, place: &Place) -> Value {
    let status = match record.status {
        status if status.is_over() => "ended",
        _ if record.cancelling_at_ms.is_some() => "canceling",
        _ => "in_progress",
    };
    // As the vendor documents it, the other counts stay 0 until all of them are known.
    let is_over = record.status.is_over();
    let known = |count: u64| if is_over { count } else { 0 };
    let given_up = |by: Status| if record.status == by { record.counts.unanswered } else { 0 };
    let date = |ms: Option<u64>| ms.map(time::rfc3339);
    json!({
        "id": record.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": {
            "processing": if is_over { 0 } else { record.counts.total },
            "succeeded": known(record.counts.succeeded),
            "errored": known(record.counts.errored),
            "canceled": given_up(Status::Cancelled),
            "expired": given_up(Status::Expired),
        },
        "created_at": time::rfc3339(record.created_at_ms),
        "expires_at": time::rfc3339(record.expires_at_ms),
        "ended_at": date(record.over_at_ms),
        "cancel_initiated_at": date(record.cancelling_at_ms),
        "archived_at": null,
        "results_url": is_over.then(|| place.of_results(&record.id)),
    })
}
