//! `/v1/batches`: <https://platform.openai.com/docs/api-reference/batch>.
//!
//! Lines may go to `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings` and `/v1/responses`. `completion_window`
//! is `24h`, or, as Alibaba Cloud's Model Studio has it, up to fourteen days in hours or days. Lines that a batch gave
//! up, because it expired or was cancelled, stand in its error file.

mod lines;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base::RequestId;
use chat::Caller;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Failure;
use super::files::{BATCH, PageQuery, found, limit_of};
use super::handlers::named;
use crate::batch::{Dialect, Lines, Record, Status, Wanted};
use crate::fields::{self, Body, Others, Refused, whole};
use crate::kept::{Who, owner_of};
use crate::{App, files};

pub(crate) use lines::OpenAiLines;

const PREFIX: &str = "batch_";
/// What lines may be sent to.
const ENDPOINTS: &[&str] = &["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];
/// Batches of a page, unless the request says otherwise, and at most.
const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 100;
/// Hours that a batch may take.
const WINDOW_HOURS: std::ops::RangeInclusive<u64> = 24..=14 * 24;
/// Labels of a batch, and the characters of their names and values.
const LABELS_MAX: usize = 16;
const LABEL_NAME_CHARS_MAX: usize = 64;
const LABEL_CHARS_MAX: usize = 512;

const FIELDS: &[&str] = &["input_file_id", "endpoint", "completion_window", "metadata"];
const REFUSED: &[Refused] =
    &[Refused { field: "output_expires_after", harmless: fields::never, why: "output is kept for thirty days" }];

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/batches", post(create).get(list))
        .route("/v1/batches/{id}", get(show))
        .route("/v1/batches/{id}/cancel", post(cancel))
}

#[derive(Deserialize)]
struct WireRequest {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    metadata: Option<Map<String, Value>>,
}

async fn create(State(app): State<Arc<App>>, who: Who, body: Body) -> Response {
    let id = app.request_id();
    named(id, created(&app, id, owner_of(who), body).await)
}

async fn created(app: &Arc<App>, id: RequestId, owner: Option<Caller>, body: Body) -> Result<Response, Failure> {
    let wire: WireRequest = fields::read(&fields::object(&whole(body)?, Others::Refused(FIELDS), REFUSED)?)?;
    app.may_keep("a batch", owner.as_ref(), None).map_err(|error| Failure::of(&error, id))?;
    let wrong = |param: &str, message: String| Err(Failure::invalid(message, Some(param.to_owned())));
    if !ENDPOINTS.contains(&wire.endpoint.as_str()) {
        let message = format!("endpoint is {:?}, allowed: {}", wire.endpoint, ENDPOINTS.join(", "));
        return wrong("endpoint", message);
    }
    let Some(window_ms) = window_ms(&wire.completion_window) else {
        let message = format!("completion_window is {:?}, allowed: 24h to 14d", wire.completion_window);
        return wrong("completion_window", message);
    };
    if let Some(why) = wire.metadata.as_ref().and_then(bad_label) {
        return wrong("metadata", why);
    }
    let input = found(app, id, owner.as_ref(), &wire.input_file_id).await;
    let input = input.map_err(|failure| failure.about("input_file_id"))?;
    if input.purpose != BATCH {
        let message = format!("the file {} is for {:?}, not for {BATCH:?}", input.id, input.purpose);
        return wrong("input_file_id", message);
    }
    if app.desk.is_full() {
        return Err(Failure::of(&app.desk.overloaded(), id));
    }
    let now_ms = app.clock.now_ms();
    let wanted = Wanted {
        id: files::new_id(PREFIX, now_ms, id),
        dialect: Dialect::OpenAi,
        endpoint: wire.endpoint,
        input: input.id,
        window: wire.completion_window,
        window_ms,
        metadata: wire.metadata,
    };
    let record = Record::new(wanted, owner.as_ref(), now_ms);
    let lines: Arc<dyn Lines> = Arc::new(OpenAiLines::of(app));
    app.desk.accept(record.clone(), lines).await.map_err(|error| Failure::of_store(&error, id))?;
    Ok(axum::Json(wire_batch(&record)).into_response())
}

fn window_ms(window: &str) -> Option<u64> {
    let (number, unit) = window.split_at_checked(window.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    let hours = match unit {
        "h" => number,
        "d" => number.checked_mul(24)?,
        _ => return None,
    };
    WINDOW_HOURS.contains(&hours).then_some(hours * 3_600_000)
}

fn bad_label(labels: &Map<String, Value>) -> Option<String> {
    if labels.len() > LABELS_MAX {
        return Some(format!("metadata has {} pairs, {LABELS_MAX} allowed", labels.len()));
    }
    labels.iter().find_map(|(name, value)| match value.as_str() {
        None => Some(format!("metadata.{name} is not a string")),
        Some(value) if value.chars().count() > LABEL_CHARS_MAX => {
            Some(format!("metadata.{name} has more than {LABEL_CHARS_MAX} characters"))
        }
        Some(_) if name.chars().count() > LABEL_NAME_CHARS_MAX => {
            Some(format!("a name in metadata has more than {LABEL_NAME_CHARS_MAX} characters"))
        }
        Some(_) => None,
    })
}

async fn one(app: &App, id: RequestId, owner: Option<&Caller>, batch: &str) -> Result<Record, Failure> {
    let record = app.desk.get(owner, PREFIX, batch).await.map_err(|error| Failure::of_store(&error, id))?;
    record.ok_or_else(|| Failure::not_found(format!("No batch found with id '{batch}'.")))
}

async fn show(State(app): State<Arc<App>>, who: Who, Path(batch): Path<String>) -> Response {
    let id = app.request_id();
    let record = one(&app, id, owner_of(who).as_ref(), &batch).await;
    named(id, record.map(|record| axum::Json(wire_batch(&record)).into_response()))
}

async fn cancel(State(app): State<Arc<App>>, who: Who, Path(batch): Path<String>) -> Response {
    let id = app.request_id();
    let owner = owner_of(who);
    let cancelled = async {
        one(&app, id, owner.as_ref(), &batch).await?;
        let done = app.desk.cancel(&batch).await.map_err(|error| Failure::of_store(&error, id))?;
        let record = one(&app, id, owner.as_ref(), &batch).await?;
        if !done && record.status != Status::Cancelled {
            let status = wire_status(record.status);
            return Err(Failure::conflict(format!("Cannot cancel a batch with status '{status}'.")));
        }
        Ok(axum::Json(wire_batch(&record)).into_response())
    };
    named(id, cancelled.await)
}

async fn list(State(app): State<Arc<App>>, who: Who, query: Result<Query<PageQuery>, QueryRejection>) -> Response {
    let id = app.request_id();
    let owner = owner_of(who);
    let failed = |error: store::Error| Failure::of_store(&error, id);
    let page = async {
        let Query(query) = query.map_err(|why| Failure::invalid(why.body_text(), None))?;
        let limit = limit_of(&query, PAGE_DEFAULT, PAGE_MAX)?;
        let mut ids = app.desk.ids(owner.as_ref(), PREFIX).await.map_err(failed)?;
        if let Some(after) = &query.after {
            let wrong = || Failure::invalid(format!("after: there is no batch {after:?}"), Some("after".to_owned()));
            ids.drain(..=ids.iter().position(|batch| batch == after).ok_or_else(wrong)?);
        }
        let has_more = ids.len() > limit;
        let mut data = Vec::new();
        for batch in &ids[..ids.len().min(limit)] {
            data.extend(app.desk.get(owner.as_ref(), PREFIX, batch).await.map_err(failed)?.as_ref().map(wire_batch));
        }
        let (first_id, last_id) = (data.first().map(|one| &one["id"]), data.last().map(|one| &one["id"]));
        let page = json!({
            "object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": has_more,
        });
        Ok(axum::Json(page).into_response())
    };
    named(id, page.await)
}

fn wire_status(status: Status) -> &'static str {
    match status {
        Status::Validating => "validating",
        Status::InProgress => "in_progress",
        Status::Cancelling => "cancelling",
        Status::Finalizing => "finalizing",
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Expired => "expired",
        Status::Cancelled => "cancelled",
    }
}

fn wire_batch(record: &Record) -> Value {
    let seconds = |ms: Option<u64>| ms.map(|ms| ms / 1000);
    let over = |status: Status| seconds(record.over_at_ms.filter(|_| record.status == status));
    let faults: Vec<Value> = record
        .faults
        .iter()
        .map(|fault| json!({"code": fault.code, "message": fault.message, "param": fault.param, "line": fault.line}))
        .collect();
    // Until a batch is over its files are being written.
    let file = |id: &Option<String>| id.clone().filter(|_| record.status.is_over());
    json!({
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "errors": (!faults.is_empty()).then(|| json!({"object": "list", "data": faults})),
        "input_file_id": record.input,
        "completion_window": record.window,
        "status": wire_status(record.status),
        "output_file_id": file(&record.output),
        "error_file_id": file(&record.errors),
        "created_at": record.created_at_ms / 1000,
        "in_progress_at": seconds(record.in_progress_at_ms),
        "expires_at": record.expires_at_ms / 1000,
        "finalizing_at": seconds(record.finalizing_at_ms),
        "completed_at": over(Status::Completed),
        "failed_at": over(Status::Failed),
        "expired_at": over(Status::Expired),
        "cancelling_at": seconds(record.cancelling_at_ms),
        "cancelled_at": over(Status::Cancelled),
        "request_counts": {
            "total": record.counts.total,
            "completed": record.counts.succeeded,
            "failed": record.counts.errored + record.counts.unanswered,
        },
        "metadata": record.metadata,
    })
}

#[cfg(test)]
mod tests {
    use super::window_ms;

    #[test]
    fn a_window_is_a_day_to_two_weeks() {
        assert_eq!(window_ms("24h"), Some(86_400_000));
        assert_eq!(window_ms("14d"), Some(14 * 86_400_000));
        for text in ["", "h", "23h", "337h", "15d", "24", "1w", "-24h", "99999999999999999999d", "24ü"] {
            assert_eq!(window_ms(text), None, "{text}");
        }
    }
}
