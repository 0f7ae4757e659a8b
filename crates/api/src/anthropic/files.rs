//! `/v1/files`: <https://docs.anthropic.com/en/docs/build-with-claude/files>. Whole; nobody asks for the beta's header.
//!
//! Pages are asked for by `page`, which the answer before names as `next_page`, or, as older clients do, by `after_id`
//! and `before_id`; the newest file comes first. `ids` asks for some by name. What a caller uploaded can be downloaded
//! again.

use std::sync::Arc;

use axum::Router;
use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base::RequestId;
use chat::Caller;
use serde_json::{Value, json};

use super::error::extra;
use super::handlers::named;
use super::types::PageQuery;
use super::{Failure, page};
use crate::files::{self, FILE_BYTES_MAX, FILES_MAX, Files, Head, Writer, upload_limit};
use crate::kept::{Who, owner_of};
use crate::{App, time};

const PREFIX: &str = "file_";
/// What callers upload, told apart from what batches keep.
const PURPOSE: &str = "anthropic";
/// What a page's mark begins with; the id of the last file before the page follows.
const PAGE_PREFIX: &str = "page_";
/// Ids that may be asked for by name at once.
const IDS_MAX: usize = 100;
/// Seconds that a caller may have a file kept: an hour to ninety days.
const EXPIRES_IN_S: std::ops::RangeInclusive<u64> = 3600..=7_776_000;
/// Fields of an upload, and the bytes of one that is not the file.
const FIELDS_MAX: usize = 16;
const FIELD_BYTES_MAX: usize = 64;
/// Characters of a file's name, and those that it may not have.
const NAME_CHARS_MAX: usize = 255;
const FORBIDDEN: &[char] = &['<', '>', ':', '"', '|', '?', '*', '\\', '/'];
/// Bytes of a media type.
const MEDIA_TYPE_BYTES_MAX: usize = 128;
/// What a file is of which nobody says it.
const BYTES: &str = "application/octet-stream";

/// The routes, for a place where no other dialect has them.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/files", post(upload).layer(upload_limit()).get(list))
        .route("/v1/files/{id}", get(show).delete(delete))
        .route("/v1/files/{id}/content", get(content))
}

/// What stands in an address behind the question mark. A name may come more than once.
pub(crate) type Pairs = Vec<(String, String)>;

fn wire(head: &Head) -> Value {
    json!({
        "type": "file",
        "id": head.id,
        "filename": head.name,
        "mime_type": head.media_type.as_deref().unwrap_or(BYTES),
        "size_bytes": head.size_bytes,
        "created_at": time::rfc3339(head.created_at_ms),
        "expires_at": head.expires_at_ms.map(time::rfc3339),
        "downloadable": true,
    })
}

/// Whether callers of this dialect see this file.
pub(super) fn is_shown(head: &Head) -> bool {
    head.purpose == PURPOSE
}

async fn found(app: &App, id: RequestId, owner: Option<&Caller>, file: &str) -> Result<Head, Failure> {
    let head = Files::of(&app.objects, owner).get(file, app.clock.now_ms()).await;
    let head = head.map_err(|error| Failure::of_store(&error, id))?.filter(is_shown);
    head.ok_or_else(|| Failure::no_such_file(file))
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
    let mut form = form.map_err(|why| Failure::invalid(why.body_text()))?;
    let (files, now_ms) = (Files::of(&app.objects, owner), app.clock.now_ms());
    let failed = |error: store::Error| Failure::of_store(&error, id);
    files.sweep(now_ms).await.map_err(failed)?;
    if files.is_full().await.map_err(failed)? {
        return Err(Failure::invalid(format!("there are {FILES_MAX} files already, delete some")));
    }
    let writer = files.writer(files::new_id(PREFIX, now_ms, id), FILE_BYTES_MAX);
    let mut upload = Upload { writer, name: None, seconds: None };
    let settings = match upload.read(&mut form, id).await {
        Ok(()) => upload.settings(now_ms),
        Err(failure) => Err(failure),
    };
    match settings {
        Ok((name, expires_at_ms)) => {
            let head = upload.writer.finish(name, PURPOSE, now_ms, expires_at_ms).await.map_err(failed)?;
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
    seconds: Option<String>,
}

impl Upload {
    async fn read(&mut self, form: &mut Multipart, id: RequestId) -> Result<(), Failure> {
        for _ in 0..FIELDS_MAX {
            let Some(field) = form.next_field().await.map_err(|error| broken(&error))? else { return Ok(()) };
            match field.name().unwrap_or_default() {
                "file" => self.take_file(field, id).await?,
                "expires_in_seconds" => self.seconds = Some(text(field).await?),
                other => return Err(extra(other)),
            }
        }
        Err(Failure::invalid(format!("the form has more than {FIELDS_MAX} fields")))
    }

    async fn take_file(&mut self, mut field: Field<'_>, id: RequestId) -> Result<(), Failure> {
        if self.name.is_some() {
            return Err(Failure::invalid("file: there are two".to_owned()));
        }
        self.writer.media_type = media_type(field.content_type())?;
        self.name = Some(name(field.file_name(), self.writer.media_type.as_deref())?);
        while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
            let too_large = |error: &store::Error| matches!(error, store::Error::TooLarge { .. });
            self.writer.push(&piece).await.map_err(|error| match too_large(&error) {
                true => Failure::too_large(format!("file: it may have {FILE_BYTES_MAX} bytes")),
                false => Failure::of_store(&error, id),
            })?;
        }
        Ok(())
    }

    /// Name and end, if the form is complete.
    fn settings(&mut self, now_ms: u64) -> Result<(String, Option<u64>), Failure> {
        let name = self.name.take().ok_or_else(|| Failure::invalid("file: Field required".to_owned()))?;
        let Some(seconds) = self.seconds.take() else { return Ok((name, None)) };
        let valid = seconds.parse().ok().filter(|seconds| EXPIRES_IN_S.contains(seconds));
        let (least, most) = EXPIRES_IN_S.into_inner();
        let wrong =
            || Failure::invalid(format!("expires_in_seconds: Input should be {least} to {most}, it is {seconds:?}"));
        Ok((name, Some(now_ms + 1000 * valid.ok_or_else(wrong)?)))
    }
}

/// The last part of the name that a file was sent under; the vendor calls a file without one after its type.
fn name(sent: Option<&str>, media_type: Option<&str>) -> Result<String, Failure> {
    let last = sent.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    if last.is_empty() {
        return Ok(match media_type {
            Some("image/png") => "unnamed.png",
            Some("image/jpeg") => "unnamed.jpg",
            Some("image/gif") => "unnamed.gif",
            Some("image/webp") => "unnamed.webp",
            Some("application/pdf") => "unnamed.pdf",
            Some("text/plain") => "unnamed.txt",
            Some(_) | None => "unnamed",
        }
        .to_owned());
    }
    let is_forbidden = |letter: char| letter.is_control() || FORBIDDEN.contains(&letter);
    if last.chars().count() > NAME_CHARS_MAX || last.contains(is_forbidden) {
        let forbidden: String = FORBIDDEN.iter().collect();
        let why = format!("1 to {NAME_CHARS_MAX} characters, none of {forbidden} and no control character");
        let shown: String = last.chars().take(NAME_CHARS_MAX).collect();
        return Err(Failure::invalid(format!("file: its name is {shown:?}, allowed: {why}")));
    }
    Ok(last.to_owned())
}

fn media_type(sent: Option<&str>) -> Result<Option<String>, Failure> {
    match sent {
        Some(sent) if sent.len() > MEDIA_TYPE_BYTES_MAX => {
            let why = format!("its media type has {} bytes, {MEDIA_TYPE_BYTES_MAX} are allowed", sent.len());
            Err(Failure::invalid(format!("file: {why}")))
        }
        sent => Ok(sent.map(str::to_owned)),
    }
}

fn broken(error: &MultipartError) -> Failure {
    match error.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::too_large(format!("file: it may have {FILE_BYTES_MAX} bytes"))
        }
        _ => Failure::invalid(format!("read the form: {}", error.body_text())),
    }
}

async fn text(mut field: Field<'_>) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > FIELD_BYTES_MAX {
            let message = format!("a field of the form has more than {FIELD_BYTES_MAX} bytes");
            return Err(Failure::invalid(message));
        }
    }
    String::from_utf8(bytes).map_err(|_| Failure::invalid("a field of the form is not text".to_owned()))
}

/// What a list is asked for.
struct Wanted {
    ids: Vec<String>,
    page: PageQuery,
}

fn wanted(pairs: Pairs) -> Result<Wanted, Failure> {
    let mut wanted = Wanted { ids: Vec::new(), page: PageQuery { limit: None, before_id: None, after_id: None } };
    let (mut is_paged, mut mark) = (false, None);
    for (name, value) in pairs {
        match name.as_str() {
            "ids" | "ids[]" => {
                if !wanted.ids.contains(&value) {
                    wanted.ids.push(value);
                }
                if wanted.ids.len() > IDS_MAX {
                    return Err(Failure::invalid(format!("ids: there are more than {IDS_MAX}")));
                }
                continue;
            }
            "limit" => {
                let wrong = || Failure::invalid(format!("limit: Input should be a number, it is {value:?}"));
                wanted.page.limit = Some(value.parse().map_err(|_| wrong())?);
            }
            "page" => mark = Some(value),
            "before_id" => wanted.page.before_id = Some(value),
            "after_id" => wanted.page.after_id = Some(value),
            "scope_id" => return Err(Failure::unsupported("scope_id", "files belong to no session")),
            // The vendor's clients of the beta send `beta=true`.
            _ => continue,
        }
        is_paged = true;
    }
    if is_paged && !wanted.ids.is_empty() {
        return Err(Failure::invalid("ids: not together with page and limit".to_owned()));
    }
    if let Some(mark) = mark {
        let after = mark.strip_prefix(PAGE_PREFIX).map(str::to_owned);
        let after = after.ok_or_else(|| Failure::invalid(format!("page: {mark:?} is not from a list")))?;
        wanted.page.after_id = Some(after);
    }
    Ok(wanted)
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Response {
    let id = app.request_id();
    let listed = async {
        let Query(pairs) = query.map_err(|why| Failure::invalid(why.body_text()))?;
        let wanted = wanted(pairs)?;
        let files = Files::of(&app.objects, owner_of(who).as_ref());
        let heads = files.list(app.clock.now_ms()).await;
        let mut heads = heads.map_err(|error| Failure::of_store(&error, id))?;
        heads.retain(is_shown);
        heads.reverse();
        if !wanted.ids.is_empty() {
            heads.retain(|head| wanted.ids.contains(&head.id));
            return Ok(answer(&heads, false));
        }
        let ids: Vec<&str> = heads.iter().map(|head| head.id.as_str()).collect();
        let shown = page::shown(&wanted.page, &ids, Failure::no_such_file)?;
        Ok(answer(&heads[shown.range], shown.has_more))
    };
    named(id, listed.await)
}

fn answer(heads: &[Head], has_more: bool) -> Response {
    let (first_id, last_id) = (heads.first().map(|head| &head.id), heads.last().map(|head| &head.id));
    let next_page = last_id.filter(|_| has_more).map(|id| format!("{PAGE_PREFIX}{id}"));
    let data: Vec<Value> = heads.iter().map(wire).collect();
    let page = json!({
        "data": data, "has_more": has_more, "first_id": first_id, "last_id": last_id, "next_page": next_page,
    });
    axum::Json(page).into_response()
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
        let deleted = Files::of(&app.objects, owner.as_ref()).delete(&file).await;
        deleted.map_err(|error| Failure::of_store(&error, id))?;
        Ok(axum::Json(json!({"id": file, "type": "file_deleted"})).into_response())
    };
    named(id, deleted.await)
}

pub(crate) async fn content(State(app): State<Arc<App>>, who: Who, Path(file): Path<String>) -> Response {
    let id = app.request_id();
    let owner = owner_of(who);
    let head = found(&app, id, owner.as_ref(), &file).await;
    named(id, head.map(|head| Files::of(&app.objects, owner.as_ref()).response(head, id)))
}

#[cfg(test)]
mod tests {
    use super::{NAME_CHARS_MAX, name, wanted};

    #[test]
    fn a_file_has_the_last_part_of_the_name_that_it_was_sent_under() {
        let long = "ü".repeat(NAME_CHARS_MAX);
        for (sent, media_type, expected) in [
            (Some("a.png"), None, "a.png"),
            (Some("/home/me/a.png"), None, "a.png"),
            (Some("C:\\pictures\\a.png"), None, "a.png"),
            (None, Some("image/png"), "unnamed.png"),
            (Some("folder/"), Some("x/y"), "unnamed"),
            (Some(&long), None, &long),
        ] {
            assert_eq!(name(sent, media_type).unwrap(), expected, "{sent:?}");
        }
        for sent in ["a?.png", "a\u{7}.png", "a:b", &format!("{long}x")] {
            assert!(name(Some(sent), None).is_err(), "{sent:?}");
        }
    }

    #[test]
    fn a_list_is_asked_for_by_ids_or_by_page() {
        let ask = |pairs: &[(&str, &str)]| {
            wanted(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        let by_ids = ask(&[("ids[]", "a"), ("ids[]", "b"), ("ids[]", "a"), ("beta", "true")]).unwrap();
        assert_eq!(by_ids.ids, ["a", "b"]);
        let by_page = ask(&[("page", "page_file_1"), ("limit", "5")]).unwrap();
        assert_eq!((by_page.page.after_id.as_deref(), by_page.page.limit), (Some("file_1"), Some(5)));
        let many: Vec<String> = (0..101).map(|id| id.to_string()).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|id| ("ids[]", id.as_str())).collect();
        for refused in
            [&[("ids", "a"), ("limit", "1")][..], &[("page", "x")], &[("limit", "x")], &[("scope_id", "s")], &many]
        {
            assert!(ask(refused).is_err(), "{refused:?}");
        }
    }
}
