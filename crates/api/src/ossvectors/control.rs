//! Operations of buckets and indexes.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use vectors::{Bucket, BucketName, BucketSettings, IndexEntry, IndexName, IndexSettings, Metric, Select};

use super::call::Call;
use super::error::Failure;
use super::types::{IndexRequest, ListIndexes};
use super::{from_wire, fusion};
use crate::policy::Policy;
use crate::signature::decoded_pairs;
use crate::time::rfc3339;

type Answer = Result<Response, Failure>;

/// Buckets on a page if the request does not say, and at most.
const BUCKETS_DEFAULT: usize = 100;
const BUCKETS_MAX: usize = 1_000;
/// Indexes on a page if the request does not say, and at most.
const INDEXES_DEFAULT: i64 = 100;
const INDEXES_MAX: i64 = 500;

fn done() -> Response {
    StatusCode::OK.into_response()
}

fn gone() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// A bucket as the vendor shows it.
fn shown(call: &Call, bucket: &Bucket) -> Value {
    let region = &call.buckets.identity.region;
    json!({
        "Name": call.name_of(&bucket.name), "Location": format!("oss-{region}"), "Region": region,
        "CreationDate": rfc3339(bucket.created_ms), "ExtranetEndpoint": "localhost", "IntranetEndpoint": "localhost",
        "ResourceGroupId": bucket.settings.resource_group,
    })
}

/// An index as the vendor shows it.
fn shown_index(entry: &IndexEntry) -> Value {
    let mut index = json!({
        "indexName": entry.name.as_str(), "vectorBucketName": entry.bucket.as_str(),
        "createTime": rfc3339(entry.created_ms), "status": "enable",
    });
    let own = fusion::shown(entry).unwrap_or_else(|| standard(entry));
    for (name, value) in own.as_object().into_iter().flatten() {
        index[name] = value.clone();
    }
    index
}

fn standard(entry: &IndexEntry) -> Value {
    let metric = match entry.shape.metric {
        Metric::Cosine => "cosine",
        Metric::Euclidean => "euclidean",
    };
    json!({
        "dataType": "float32", "dimension": entry.shape.dimension, "distanceMetric": metric,
        "metadata": {"nonFilterableMetadataKeys": entry.shape.not_filterable},
    })
}

fn header(call: &Call, name: &str) -> Option<String> {
    call.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

pub(super) async fn put_bucket(call: &Call, name: &BucketName) -> Answer {
    let tags = header(call, "x-oss-bucket-tagging").unwrap_or_default();
    let settings = BucketSettings {
        tags: from_wire::tags(decoded_pairs(&tags)),
        resource_group: header(call, "x-oss-resource-group-id"),
        project: call.project(),
        ..BucketSettings::default()
    };
    call.confine(name, "PutVectorBucket")?;
    call.buckets.catalogue.create_bucket(name, settings).await.map_err(call.failed())?;
    Ok(done())
}

pub(super) async fn get_bucket(call: &Call, name: &BucketName) -> Answer {
    let bucket = call.bucket(name, "GetVectorBucket").await?;
    Ok(Json(json!({"BucketInfo": shown(call, &bucket)})).into_response())
}

pub(super) async fn delete_bucket(call: &Call, name: &BucketName) -> Answer {
    call.bucket(name, "DeleteVectorBucket").await?;
    call.buckets.catalogue.delete_bucket(name).await.map_err(call.failed())?;
    Ok(gone())
}

pub(super) async fn list_buckets(call: &Call) -> Answer {
    let limit = match call.parameter("max-keys") {
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=BUCKETS_MAX).contains(limit));
            limit.ok_or_else(|| Failure::invalid(format!("max-keys is {text:?}, it must be 1 to {BUCKETS_MAX}")))?
        }
        None => BUCKETS_DEFAULT,
    };
    let prefix = call.parameter("prefix").unwrap_or_default();
    let marker = call.parameter("marker").unwrap_or_default();
    let group = header(call, "x-oss-resource-group-id");
    // Of one group, all are looked at: there are no more than the catalogue allows.
    let count = if group.is_some() { vectors::BUCKETS_MAX } else { limit };
    let select = Select { prefix: &prefix, after: &marker, limit: count };
    let mut listing = call.buckets.catalogue.list_buckets(select).await.map_err(call.failed())?;
    if group.is_some() {
        listing.found.retain(|bucket| bucket.settings.resource_group == group);
        listing.more = listing.found.len() > limit;
        listing.found.truncate(limit);
    }
    let good = listing.found.iter().filter(|bucket| call.sees(bucket));
    let buckets: Vec<Value> = good.map(|bucket| shown(call, bucket)).collect();
    let mut result = json!({
        "Prefix": prefix, "Marker": marker, "MaxKeys": limit, "IsTruncated": listing.more, "Buckets": buckets,
    });
    if let Some(last) = listing.found.last().filter(|_| listing.more) {
        result["NextMarker"] = last.name.as_str().into();
    }
    Ok(Json(json!({"ListAllMyBucketsResult": result})).into_response())
}

/// The body as a text of JSON.
fn text(call: &Call) -> Result<String, Failure> {
    String::from_utf8(call.body.to_vec()).map_err(|_| Failure::malformed("the body is no text"))
}

pub(super) async fn put_policy(call: &Call, name: &BucketName) -> Answer {
    call.bucket(name, "PutBucketPolicy").await?;
    let text = text(call)?;
    Policy::parse(&text).map_err(|why| Failure::invalid(format!("policy: {why}")))?;
    let set = |settings: &mut BucketSettings| {
        settings.policy = Some(text.clone());
        Ok(())
    };
    call.buckets.catalogue.update_bucket(name, set).await.map_err(call.failed())?;
    Ok(done())
}

pub(super) async fn get_policy(call: &Call, name: &BucketName) -> Answer {
    let bucket = call.bucket(name, "GetBucketPolicy").await?;
    let policy = bucket.settings.policy.clone().ok_or_else(Failure::no_policy)?;
    Ok(([("content-type", "application/json")], policy).into_response())
}

/// The owner may always take a policy away; otherwise one that denies everything could never be undone.
pub(super) async fn delete_policy(call: &Call, name: &BucketName) -> Answer {
    let unset = |settings: &mut BucketSettings| {
        settings.policy = None;
        Ok(())
    };
    call.buckets.catalogue.update_bucket(name, unset).await.map_err(call.failed())?;
    Ok(gone())
}

/// Accesses go to the server's own log; where else the owner wants them is kept and shown.
pub(super) async fn put_logging(call: &Call, name: &BucketName) -> Answer {
    call.bucket(name, "PutBucketLogging").await?;
    let wire: Value = super::call::json(&call.body)?;
    let status = &wire["BucketLoggingStatus"];
    if !status.is_object() {
        return Err(Failure::malformed("BucketLoggingStatus is missing"));
    }
    let enabled = &status["LoggingEnabled"];
    let logging = (!enabled.is_null()).then(|| enabled.to_string());
    let set = |settings: &mut BucketSettings| {
        settings.logging.clone_from(&logging);
        Ok(())
    };
    call.buckets.catalogue.update_bucket(name, set).await.map_err(call.failed())?;
    Ok(done())
}

pub(super) async fn get_logging(call: &Call, name: &BucketName) -> Answer {
    let bucket = call.bucket(name, "GetBucketLogging").await?;
    let enabled: Option<Value> = bucket.settings.logging.as_ref().and_then(|text| serde_json::from_str(text).ok());
    let status = enabled.map_or_else(|| json!({}), |enabled| json!({"LoggingEnabled": enabled}));
    Ok(Json(json!({"BucketLoggingStatus": status})).into_response())
}

pub(super) async fn delete_logging(call: &Call, name: &BucketName) -> Answer {
    call.bucket(name, "DeleteBucketLogging").await?;
    let unset = |settings: &mut BucketSettings| {
        settings.logging = None;
        Ok(())
    };
    call.buckets.catalogue.update_bucket(name, unset).await.map_err(call.failed())?;
    Ok(gone())
}

pub(super) async fn put_index(call: &Call, bucket: &BucketName) -> Answer {
    let (name, shape) = from_wire::shape(&call.json::<IndexRequest>()?)?;
    let name = IndexName::parse(&name).map_err(|why| Failure::invalid(why.to_string()))?;
    let bucket = call.bucket(bucket, "PutVectorIndex").await?;
    let settings = IndexSettings::default();
    call.buckets.catalogue.create_index(&bucket, &name, shape, settings).await.map_err(call.failed())?;
    Ok(done())
}

pub(super) async fn get_index(call: &Call, bucket: &BucketName) -> Answer {
    let wire: IndexRequest = call.json()?;
    let (_, entry) = call.index(bucket, wire.index_name.as_deref(), "GetVectorIndex").await?;
    Ok(Json(json!({"index": shown_index(&entry)})).into_response())
}

pub(super) async fn delete_index(call: &Call, bucket: &BucketName) -> Answer {
    let wire: IndexRequest = call.json()?;
    let (bucket, entry) = call.index(bucket, wire.index_name.as_deref(), "DeleteVectorIndex").await?;
    call.buckets.catalogue.delete_index(&bucket, &entry.name).await.map_err(call.failed())?;
    Ok(gone())
}

pub(super) async fn list_indexes(call: &Call, bucket: &BucketName) -> Answer {
    let wire: ListIndexes = call.json()?;
    let limit = match wire.max_results.unwrap_or(0) {
        0 => INDEXES_DEFAULT,
        limit => limit,
    };
    if !(1..=INDEXES_MAX).contains(&limit) {
        return Err(Failure::invalid(format!("maxResults is {limit}, it must be 0 to {INDEXES_MAX}")));
    }
    let bucket = call.bucket(bucket, "ListVectorIndexes").await?;
    let (prefix, after) = (wire.prefix.unwrap_or_default(), wire.next_token.unwrap_or_default());
    let select = Select { prefix: &prefix, after: &after, limit: usize::try_from(limit).unwrap_or(1) };
    let listing = call.buckets.catalogue.list_indexes(&bucket, select).await.map_err(call.failed())?;
    let indexes: Vec<Value> = listing.found.iter().map(|entry| shown_index(entry)).collect();
    let mut answer = json!({"indexes": indexes});
    if let Some(last) = listing.found.last().filter(|_| listing.more) {
        answer["nextToken"] = last.name.as_str().into();
    }
    Ok(Json(answer).into_response())
}
