//! Amazon S3 Vectors (botocore's model `s3vectors`, 2025-07-15): all operations at their paths.
//!
//! The mode `CLASSIC` is refused by name. Beyond the vendor's form, vectors may be written in base64, as
//! text, or behind the JSON in binary, and an index can be followed (`docs/vectors.md`).

mod call;
mod control;
mod error;
mod from_wire;
mod resource;
mod subscribe;
mod tags;
mod texts;
mod to_wire;
mod types;
mod vector_calls;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderValue;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};

use crate::App;

/// Bytes of a request; the vendor's limit.
const BODY_BYTES_MAX: usize = 20 << 20;

pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/CreateVectorBucket", post(control::create_bucket))
        .route("/GetVectorBucket", post(control::get_bucket))
        .route("/DeleteVectorBucket", post(control::delete_bucket))
        .route("/ListVectorBuckets", post(control::list_buckets))
        .route("/PutVectorBucketPolicy", post(control::put_policy))
        .route("/GetVectorBucketPolicy", post(control::get_policy))
        .route("/DeleteVectorBucketPolicy", post(control::delete_policy))
        .route("/PutVectorBucketDefaultIndexMode", post(control::put_default_mode))
        .route("/CreateIndex", post(control::create_index))
        .route("/GetIndex", post(control::get_index))
        .route("/DeleteIndex", post(control::delete_index))
        .route("/ListIndexes", post(control::list_indexes))
        .route("/UpdateIndexMode", post(control::update_mode))
        .route("/UpdateMetadataConfiguration", post(control::update_metadata))
        .route("/PutVectors", post(vector_calls::put))
        .route("/GetVectors", post(vector_calls::get))
        .route("/DeleteVectors", post(vector_calls::delete))
        .route("/ListVectors", post(vector_calls::list))
        .route("/QueryVectors", post(vector_calls::query))
        .route("/PutTimeToLive", post(control::put_time_to_live))
        .route("/SubscribeVectors", post(subscribe::subscribe))
        .route("/tags/{*arn}", get(tags::list).post(tags::put).delete(tags::remove))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(app), named))
}

/// Gives every answer the id by which a request is found in the log.
async fn named(State(app): State<Arc<App>>, mut request: axum::extract::Request, next: Next) -> Response {
    let id = app.request_id();
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    let text = HeaderValue::from_str(&id.to_string()).expect("digits are a header");
    response.headers_mut().insert("x-amzn-requestid", text);
    response
}
