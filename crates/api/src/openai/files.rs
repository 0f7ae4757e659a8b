//! `/v1/files`: <https://platform.openai.com/docs/api-reference/files>.

use std::sync::Arc;

use axum::Router;
use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base::RequestId;
use chat::Caller;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Failure;
use super::handlers::named;
use crate::App;
use crate::files::{self, FILE_BYTES_MAX, FILES_MAX, Files, Head, Writer, upload_limit};
use crate::kept::{Who, owner_of};

/// What a batch reads.
pub(super) const BATCH: &str = "batch";
/// What a batch writes.
pub(super) const BATCH_OUTPUT: &str = "batch_output";
/// What files may be for. Only batches use them here; the others are kept and given back.
const PURPOSES: &[&str] = &["assistants", BATCH, "fine-tune", "vision", "user_data", "evals", "file-extract"];
/// Files of a page, unless the request says otherwise, and at most.
const PAGE_MAX: usize = FILES_MAX;
/// Files for batches are kept for thirty days, others until they are deleted.
const BATCH_KEPT_MS: u64 = crate::batch::KEPT_MS;
/// Seconds that a caller may have a file kept: an hour to thirty days.
const EXPIRES_AFTER_S: std::ops::RangeInclusive<u64> = 3600..=2_592_000;
/// Fields of an upload.
const FIELDS_MAX: usize = 16;
/// Bytes of a field that is not the file.
const FIELD_BYTES_MAX: usize = 4096;
/// Bytes of a file's name.
const NAME_BYTES_MAX: usize = 1024;

/// The routes, for a place where no other dialect has them.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/files", post(upload).layer(upload_limit()).get(list))
        .route("/v1/files/{id}", get(show).delete(delete))
        .route("/v1/files/{id}/content", get(content))
}

#[derive(Serialize)]
struct WireFile<'a> {
    id: &'a str,
    object: &'static str,
    bytes: u64,
    created_at: u64,
    expires_at: Option<u64>,
    filename: &'a str,
    purpose: &'a str,
    status: &'static str,
    status_details: Option<&'static str>,
}

fn wire(head: &Head) -> WireFile<'_> {
    WireFile {
        id: &head.id,
        object: "file",
        bytes: head.size_bytes,
        created_at: head.created_at_ms / 1000,
        expires_at: head.expires_at_ms.map(|ms| ms / 1000),
        filename: &head.name,
        purpose: &head.purpose,
        status: "processed",
        status_details: None,
    }
}

/// The files of whoever asks.
pub(super) fn files_of(app: &App, owner: Option<&Caller>) -> Files {
    Files::of(&app.objects, owner)
}

/// A file that a caller may see: not what other dialects keep in the same place.
pub(super) async fn found(app: &App, id: RequestId, owner: Option<&Caller>, file: &str) -> Result<Head, Failure> {
    let head = files_of(app, owner).get(file, app.clock.now_ms()).await;
    let head = head.map_err(|error| Failure::of_store(&error, id))?.filter(is_shown);
    head.ok_or_else(|| Failure::no_such_file(file).about("id"))
}

/// Whether callers see this file.
pub(super) fn is_shown(head: &Head) -> bool {
    PURPOSES.contains(&head.purpose.as_str()) || head.purpose == BATCH_OUTPUT
}

pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    who: Who,
    form: Result<Multipart, MultipartRejection>,
) -> Response {
    let id = app.request_id();
    named(id, uploaded(&app, id, owner_of(who).as_ref(), form).await)
}

async fn uploaded(
    app: &App,
    id: RequestId,
    owner: Option<&Caller>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, Failure> {
    app.may_keep("a file", owner, None).map_err(|error| Failure::of(&error, id))?;
    let mut form = form.map_err(|why| Failure::invalid(why.body_text(), None))?;
    let (files, now_ms) = (files_of(app, owner), app.clock.now_ms());
    let failed = |error: store::Error| Failure::of_store(&error, id);
    files.sweep(now_ms).await.map_err(failed)?;
    if files.is_full().await.map_err(failed)? {
        return Err(Failure::invalid(format!("there are {FILES_MAX} files already, delete some"), None));
    }
    let file = files::new_id("file-", now_ms, id);
    let mut upload = Upload { writer: files.writer(file, FILE_BYTES_MAX), ..Upload::new(&files) };
    let whole = match upload.read(&mut form, id).await {
        Ok(()) => upload.settings(now_ms),
        Err(failure) => Err(failure),
    };
    match whole {
        Ok((name, purpose, expires_at_ms)) => {
            let head = upload.writer.finish(name, &purpose, now_ms, expires_at_ms).await.map_err(failed)?;
            Ok(axum::Json(wire(&head)).into_response())
        }
        Err(failure) => {
            upload.writer.abandon().await.map_err(failed)?;
            Err(failure)
        }
    }
}

/// What an upload brought so far.
struct Upload {
    writer: Writer,
    name: Option<String>,
    purpose: Option<String>,
    anchor: Option<String>,
    seconds: Option<String>,
}

impl Upload {
    fn new(files: &Files) -> Self {
        Self { writer: files.writer(String::new(), 0), name: None, purpose: None, anchor: None, seconds: None }
    }

    async fn read(&mut self, form: &mut Multipart, id: RequestId) -> Result<(), Failure> {
        for _ in 0..FIELDS_MAX {
            let Some(field) = form.next_field().await.map_err(|error| broken(&error))? else { return Ok(()) };
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "file" => self.take_file(field, id).await?,
                "purpose" => self.purpose = Some(text(field).await?),
                "expires_after[anchor]" => self.anchor = Some(text(field).await?),
                "expires_after[seconds]" => self.seconds = Some(text(field).await?),
                _ => return Err(wrong(&name, format!("Unrecognized request argument supplied: {name}"))),
            }
        }
        Err(Failure::invalid(format!("the form has more than {FIELDS_MAX} fields"), None))
    }

    async fn take_file(&mut self, mut field: Field<'_>, id: RequestId) -> Result<(), Failure> {
        let name = field.file_name().unwrap_or("file").to_owned();
        if self.name.is_some() || name.len() > NAME_BYTES_MAX {
            return Err(wrong("file", format!("one file with a name of at most {NAME_BYTES_MAX} bytes is taken")));
        }
        self.name = Some(name);
        while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
            self.writer.push(&piece).await.map_err(|error| Failure::of_store(&error, id).about("file"))?;
        }
        Ok(())
    }

    /// Name, purpose and end, if the form is complete.
    fn settings(&mut self, now_ms: u64) -> Result<(String, String, Option<u64>), Failure> {
        let missing = |field: &str| wrong(field, format!("Missing required parameter: '{field}'."));
        let name = self.name.take().ok_or_else(|| missing("file"))?;
        let purpose = self.purpose.take().ok_or_else(|| missing("purpose"))?;
        if !PURPOSES.contains(&purpose.as_str()) {
            return Err(wrong("purpose", format!("purpose is {purpose:?}, allowed: {}", PURPOSES.join(", "))));
        }
        let default = (purpose == BATCH).then_some(now_ms + BATCH_KEPT_MS);
        let expires_at_ms = match (self.anchor.take(), self.seconds.take()) {
            (None, None) => default,
            (anchor, seconds) => {
                if anchor.as_deref() != Some("created_at") {
                    return Err(wrong("expires_after.anchor", "allowed: created_at".to_owned()));
                }
                let seconds = seconds.unwrap_or_default();
                let valid = seconds.parse().ok().filter(|seconds| EXPIRES_AFTER_S.contains(seconds));
                let (least, most) = EXPIRES_AFTER_S.into_inner();
                let refused = || {
                    let message = format!("expires_after.seconds is {seconds:?}, allowed: {least} to {most}");
                    wrong("expires_after.seconds", message)
                };
                Some(now_ms + 1000 * valid.ok_or_else(refused)?)
            }
        };
        Ok((name, purpose, expires_at_ms))
    }
}

fn wrong(param: &str, message: String) -> Failure {
    Failure::invalid(message, Some(param.to_owned()))
}

fn broken(error: &MultipartError) -> Failure {
    match error.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::too_large(format!("a file may have {FILE_BYTES_MAX} bytes"))
        }
        _ => Failure::invalid(format!("read the form: {}", error.body_text()), None),
    }
}

async fn text(mut field: Field<'_>) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > FIELD_BYTES_MAX {
            return Err(Failure::invalid(format!("a field of the form has more than {FIELD_BYTES_MAX} bytes"), None));
        }
    }
    String::from_utf8(bytes).map_err(|_| Failure::invalid("a field of the form is not text".to_owned(), None))
}

#[derive(Deserialize)]
pub(crate) struct PageQuery {
    purpose: Option<String>,
    pub(super) limit: Option<usize>,
    order: Option<String>,
    pub(super) after: Option<String>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let id = app.request_id();
    let page = async {
        let Query(query) = query.map_err(|why| Failure::invalid(why.body_text(), None))?;
        let limit = limit_of(&query, PAGE_MAX, PAGE_MAX)?;
        let heads = files_of(&app, owner_of(who).as_ref()).list(app.clock.now_ms()).await;
        let mut heads = heads.map_err(|error| Failure::of_store(&error, id))?;
        heads.retain(|head| is_shown(head) && query.purpose.as_ref().is_none_or(|purpose| head.purpose == *purpose));
        match query.order.as_deref() {
            Some("asc") => {}
            None | Some("desc") => heads.reverse(),
            Some(other) => return Err(wrong("order", format!("order is {other:?}, allowed: asc, desc"))),
        }
        if let Some(after) = &query.after {
            let place = heads.iter().position(|head| head.id == *after);
            heads.drain(..=place.ok_or_else(|| wrong("after", format!("after: there is no file {after:?}")))?);
        }
        let has_more = heads.len() > limit;
        heads.truncate(limit);
        let data: Vec<WireFile<'_>> = heads.iter().map(wire).collect();
        let (first_id, last_id) = (data.first().map(|file| file.id), data.last().map(|file| file.id));
        let page = json!({
            "object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": has_more,
        });
        Ok(axum::Json(page).into_response())
    };
    named(id, page.await)
}

/// How many things a page has.
pub(super) fn limit_of(query: &PageQuery, default: usize, most: usize) -> Result<usize, Failure> {
    match query.limit.unwrap_or(default) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        limit => Err(wrong("limit", format!("limit is {limit}, allowed: 1 to {most}"))),
    }
}

pub(crate) async fn show(State(app): State<Arc<App>>, who: Who, Path(file): Path<String>) -> Response {
    let id = app.request_id();
    let head = found(&app, id, owner_of(who).as_ref(), &file).await;
    named(id, head.map(|head| axum::Json(wire(&head)).into_response()))
}

pub(crate) async fn delete(State(app): State<Arc<App>>, who: Who, Path(file): Path<String>) -> Response {
    let id = app.request_id();
    let owner = owner_of(who);
    let deleted = async {
        found(&app, id, owner.as_ref(), &file).await?;
        if let Some(batch) = app.desk.using(&file) {
            return Err(Failure::conflict(format!(
                "the file {file} is the input of the batch {batch}, cancel it first"
            )));
        }
        let deleted = files_of(&app, owner.as_ref()).delete(&file).await;
        deleted.map_err(|error| Failure::of_store(&error, id))?;
        Ok(axum::Json(json!({"id": file, "object": "file", "deleted": true})).into_response())
    };
    named(id, deleted.await)
}

pub(crate) async fn content(State(app): State<Arc<App>>, who: Who, Path(file): Path<String>) -> Response {
    let id = app.request_id();
    let owner = owner_of(who);
    let head = found(&app, id, owner.as_ref(), &file).await;
    named(id, head.map(|head| files_of(&app, owner.as_ref()).response(head, id)))
}
