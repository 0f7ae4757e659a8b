//! `GET /admin/v1/vectors/{bucket}/{index}`: what an index holds, in figures, for whoever watches it fill.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use base::Kind;
use serde_json::json;
use vectors::{BucketName, IndexName, Stats};

use super::told;
use crate::App;
use crate::error::status;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/admin/v1/vectors/{bucket}/{index}", get(counts))
}

async fn counts(State(app): State<Arc<App>>, Path((bucket, index)): Path<(String, String)>) -> Response {
    match found(&app, &bucket, &index).await {
        Ok(stats) => Json(json!({
            "rows": stats.rows, "tail_rows": stats.tail_rows, "segments": stats.segments, "manifest": stats.manifest,
            "log_next": stats.log_next, "damaged_manifests": stats.damaged_manifests,
        }))
        .into_response(),
        Err((kind, message)) => (status(kind), Json(json!({"error": {"message": message}}))).into_response(),
    }
}

async fn found(app: &App, bucket: &str, index: &str) -> Result<Stats, (Kind, String)> {
    let Some(buckets) = app.buckets.clone() else {
        return Err((Kind::NotFound, "this server keeps no vectors".to_owned()));
    };
    let id = app.request_id();
    let failed = |error: vectors::Error| told(&error, id);
    let (bucket, index) = (BucketName::parse(bucket).map_err(failed)?, IndexName::parse(index).map_err(failed)?);
    let bucket = buckets.catalogue.bucket(&bucket).await.map_err(failed)?;
    let entry = buckets.catalogue.index(&bucket, &index).await.map_err(failed)?;
    let opened = buckets.catalogue.open(&entry).await.map_err(failed)?;
    opened.refresh().await.map_err(failed)?;
    Ok(opened.stats())
}
