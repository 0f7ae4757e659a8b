//! Two dialects have their models and their files in one place; clients of one say who they are by a header. Files of
//! the one are not there for the other.

use std::sync::Arc;

use axum::Router;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};

use crate::files::upload_limit;
use crate::kept::Who;
use crate::{App, anthropic, openai};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(show_model))
        .route("/v1/files", post(upload).layer(upload_limit()).get(list_files))
        .route("/v1/files/{id}", get(show_file).delete(delete_file))
        .route("/v1/files/{id}/content", get(content))
}

fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key(anthropic::VERSION_HEADER)
}

async fn list_models(
    headers: HeaderMap,
    app: State<Arc<App>>,
    query: Result<Query<anthropic::PageQuery>, QueryRejection>,
) -> Response {
    match is_anthropic(&headers) {
        true => anthropic::list_models(app, query).await,
        false => openai::list_models(app).await,
    }
}

async fn show_model(headers: HeaderMap, app: State<Arc<App>>, id: Path<String>) -> Response {
    match is_anthropic(&headers) {
        true => anthropic::show_model(app, id).await,
        false => openai::show_model(app, id).await,
    }
}

async fn upload(
    headers: HeaderMap,
    app: State<Arc<App>>,
    who: Who,
    form: Result<Multipart, MultipartRejection>,
) -> Response {
    match is_anthropic(&headers) {
        true => anthropic::files::upload(app, who, form).await,
        false => openai::files::upload(app, who, form).await,
    }
}

async fn list_files(
    headers: HeaderMap,
    app: State<Arc<App>>,
    who: Who,
    ours: Result<Query<openai::files::PageQuery>, QueryRejection>,
    theirs: Result<Query<anthropic::files::Pairs>, QueryRejection>,
) -> Response {
    match is_anthropic(&headers) {
        true => anthropic::files::list(app, who, theirs).await,
        false => openai::files::list(app, who, ours).await,
    }
}

async fn show_file(headers: HeaderMap, app: State<Arc<App>>, who: Who, id: Path<String>) -> Response {
    match is_anthropic(&headers) {
        true => anthropic::files::show(app, who, id).await,
        false => openai::files::show(app, who, id).await,
    }
}

async fn delete_file(headers: HeaderMap, app: State<Arc<App>>, who: Who, id: Path<String>) -> Response {
    match is_anthropic(&headers) {
        true => anthropic::files::delete(app, who, id).await,
        false => openai::files::delete(app, who, id).await,
    }
}

async fn content(headers: HeaderMap, app: State<Arc<App>>, who: Who, id: Path<String>) -> Response {
    match is_anthropic(&headers) {
        true => anthropic::files::content(app, who, id).await,
        false => openai::files::content(app, who, id).await,
    }
}
