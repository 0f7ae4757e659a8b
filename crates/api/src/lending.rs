//! Models for other machines: what was pulled here, in Hugging Face's protocol, so that `sampan pull NAME --from
//! http://HERE:8420` and Hugging Face's own tools (`HF_ENDPOINT=http://HERE:8420`) fetch from this machine.
//!
//! | route | |
//! |---|---|
//! | `GET /api/models/ID[/revision/REVISION]` | the files with sizes and digests |
//! | `GET /api/models/ID/tree/REVISION` | the same as newer tools ask for it |
//! | `GET`, `HEAD /ID/resolve/REVISION/PATH` | a file, whole or a range of it |
//! | `POST /api/models/ID/send/REVISION` | our own: files by the mover, see [`sending`] |
//!
//! ID is `OWNER/NAME` as it was pulled, or the name here. A revision is `main` or the commit that is listed. Beside the
//! digests of the protocol a file has its `blake3`. Source: huggingface_hub 2.4, `hf_api.py`, `file_download.py`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hub::{Depot, Digest, Record, RecordedFile, hex};
use serde_json::{Value, json};
use tower_http::services::ServeFile;

use crate::App;
use crate::refusal::Refusal;

mod sending;

pub(crate) use sending::Mover;

/// The branch that everything has.
const MAIN: &str = "main";
/// Bytes of the pointer that stands for a large file at a hub; nobody has one here, but the form asks for it.
const POINTER_BYTES: u32 = 135;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/models/{name}", get(newest))
        .route("/api/models/{name}/revision/{revision}", get(listed))
        .route("/api/models/{owner}/{name}", get(owned_newest))
        .route("/api/models/{owner}/{name}/revision/{revision}", get(owned))
        .route("/api/models/{name}/tree/{revision}", get(tree))
        .route("/api/models/{owner}/{name}/tree/{revision}", get(owned_tree))
        .route("/api/models/{name}/send/{revision}", post(sending::send))
        .route("/api/models/{owner}/{name}/send/{revision}", post(sending::owned_send))
        .route("/{name}/resolve/{revision}/{*path}", get(file))
        .route("/{owner}/{name}/resolve/{revision}/{*path}", get(owned_file))
}

async fn newest(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    list(app, id, MAIN.to_owned()).await
}

async fn listed(State(app): State<Arc<App>>, Path((id, revision)): Path<(String, String)>) -> Answer {
    list(app, id, revision).await
}

async fn owned_newest(State(app): State<Arc<App>>, Path((owner, name)): Path<(String, String)>) -> Answer {
    list(app, format!("{owner}/{name}"), MAIN.to_owned()).await
}

async fn owned(State(app): State<Arc<App>>, Path((owner, name, revision)): Path<(String, String, String)>) -> Answer {
    list(app, format!("{owner}/{name}"), revision).await
}

async fn tree(State(app): State<Arc<App>>, Path((id, revision)): Path<(String, String)>) -> Answer {
    entries(app, id, revision).await
}

async fn owned_tree(
    State(app): State<Arc<App>>,
    Path((owner, name, revision)): Path<(String, String, String)>,
) -> Answer {
    entries(app, format!("{owner}/{name}"), revision).await
}

async fn file(
    State(app): State<Arc<App>>,
    Path((id, revision, path)): Path<(String, String, String)>,
    request: Request,
) -> Answer<Response> {
    send(app, id, revision, path, request).await
}

async fn owned_file(
    State(app): State<Arc<App>>,
    Path((owner, name, revision, path)): Path<(String, String, String, String)>,
    request: Request,
) -> Answer<Response> {
    send(app, format!("{owner}/{name}"), revision, path, request).await
}

/// Why nothing is lent. Hugging Face's tools read which it is in a header.
enum Refused {
    Repository(String),
    Revision(String),
    File(String),
    /// Not one of the protocol.
    Other(StatusCode, String),
    Broken,
}

type Answer<T = Json<Value>> = Result<T, Refused>;

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::Repository(message) => ("RepoNotFound", message),
            Self::Revision(message) => ("RevisionNotFound", message),
            Self::File(message) => ("EntryNotFound", message),
            Self::Other(status, message) => return Refusal(status, message).into_response(),
            Self::Broken => {
                let refusal = Refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error, see the log".to_owned());
                return refusal.into_response();
            }
        };
        let mut response = Refusal(StatusCode::NOT_FOUND, message).into_response();
        response.headers_mut().insert("x-error-code", HeaderValue::from_static(code));
        response
    }
}

/// A model of the depot, found by its name there or here.
struct Lent {
    folder: PathBuf,
    record: Record,
    commit: String,
}

async fn lent(app: Arc<App>, id: String, revision: String) -> Answer<Lent> {
    let none = || Refused::Repository(format!("no model {id:?} was pulled here"));
    let depot = app.depot.clone().ok_or_else(none)?;
    let wanted = id.clone();
    let looked = tokio::task::spawn_blocking(move || find(&depot, &wanted)).await;
    let looked = looked.map_err(|error| hub::Error::Client(Box::new(error))).and_then(|found| found);
    let failed = |error: hub::Error| {
        tracing::error!(error = base::chain(&error), "the models here cannot be listed");
        Refused::Broken
    };
    let lent = looked.map_err(failed)?.ok_or_else(none)?;
    if revision != MAIN && revision != lent.commit {
        let why = format!("{id} is here as {} and {MAIN}, not as {revision:?}", lent.commit);
        return Err(Refused::Revision(why));
    }
    Ok(lent)
}

fn find(depot: &Depot, id: &str) -> hub::Result<Option<Lent>> {
    let models = depot.models()?;
    let by = |is_it: &dyn Fn(&(String, Record)) -> bool| models.iter().find(|model| is_it(model)).cloned();
    let found = by(&|(_, record)| record.repository == id).or_else(|| by(&|(name, _)| name == id));
    Ok(found.map(|(name, record)| Lent { folder: depot.folder().join(name), commit: commit(&record), record }))
}

/// The commit that the model has at its hub; one made of its contents where it has none.
fn commit(record: &Record) -> String {
    let is_commit = record.revision.len() == 40 && record.revision.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_commit {
        return record.revision.clone();
    }
    hex(&record.contents()[..20])
}

async fn list(app: Arc<App>, id: String, revision: String) -> Answer {
    let Lent { record, commit, .. } = lent(app, id, revision).await?;
    let siblings: Vec<Value> = record.files.iter().map(sibling).collect();
    let id = &record.repository;
    Ok(Json(json!({
        "_id": commit, "id": id, "modelId": id, "sha": commit, "private": true, "tags": [], "siblings": siblings,
    })))
}

fn sibling(file: &RecordedFile) -> Value {
    let mut sibling = json!({"rfilename": file.path, "size": file.size_bytes, "blake3": file.blake3});
    match file.digest.as_deref().and_then(Digest::parse) {
        Some(digest @ Digest::Sha256(_)) => {
            sibling["lfs"] = json!({"sha256": digest.hex(), "size": file.size_bytes, "pointerSize": POINTER_BYTES});
        }
        Some(digest @ Digest::GitBlob(_)) => sibling["blobId"] = digest.hex().into(),
        Some(Digest::Blake3(_)) | None => {}
    }
    sibling
}

async fn entries(app: Arc<App>, id: String, revision: String) -> Answer {
    let Lent { record, .. } = lent(app, id, revision).await?;
    Ok(Json(record.files.iter().map(entry).collect()))
}

fn entry(file: &RecordedFile) -> Value {
    let mut entry = json!({"type": "file", "path": file.path, "size": file.size_bytes, "oid": file.blake3});
    match file.digest.as_deref().and_then(Digest::parse) {
        Some(digest @ Digest::Sha256(_)) => {
            entry["lfs"] = json!({"oid": digest.hex(), "size": file.size_bytes, "pointerSize": POINTER_BYTES});
        }
        Some(digest @ Digest::GitBlob(_)) => entry["oid"] = digest.hex().into(),
        Some(Digest::Blake3(_)) | None => {}
    }
    entry
}

async fn send(app: Arc<App>, id: String, revision: String, path: String, request: Request) -> Answer<Response> {
    let Lent { folder, record, commit } = lent(app, id, revision).await?;
    let none = || Refused::File(format!("{} has no file {path:?}", record.repository));
    // Only what the record names is sent: nothing that stands in an address becomes a path.
    let file = record.files.iter().find(|file| file.path == path).ok_or_else(none)?;
    let (mut parts, _) = request.into_parts();
    // What the router and the gate left there is not the file server's.
    parts.extensions = Extensions::new();
    let request = Request::from_parts(parts, Body::empty());
    let sent = ServeFile::new(folder.join(&file.path)).try_call(request).await;
    let failed = |error: std::io::Error| {
        tracing::error!(%error, file = file.path, "a file of a model cannot be read");
        Refused::Broken
    };
    let mut response = sent.map_err(failed)?.into_response();
    let etag =
        file.digest.as_deref().and_then(Digest::parse).map_or_else(|| file.blake3.clone(), |digest| digest.hex());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    for (name, value) in [(ETAG, format!("\"{etag}\"")), (HeaderName::from_static("x-repo-commit"), commit)] {
        // Both are hexadecimal digits.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}
