//! Routes of buckets and indexes: parse, change the catalogue, write the wire form.

use axum::Json;
use serde_json::{Value, json};
use vectors::{BucketSettings, IndexSettings, Select, TextField};

use super::call::Call;
use super::error::{Check, Failure};
use super::resource::{self, bucket_arn, index_arn};
use super::types::{BucketRequest, CreateIndex, CreateVectorBucket, IndexRequest, ListRequest};
use super::{from_wire, texts, to_wire};
use crate::buckets::wire::{token, untoken};
use crate::policy::Policy;

type Answer = Result<Json<Value>, Failure>;

/// Buckets and indexes on a page, unless the request says otherwise, and at most.
const PAGE_MAX: i64 = 500;

fn nothing() -> Answer {
    Ok(Json(json!({})))
}

fn written(value: impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|why| Failure::unreadable(&why.to_string()))
}

pub(super) async fn create_bucket(call: Call) -> Answer {
    let wire: CreateVectorBucket = call.json()?;
    let mut check = Check::default();
    let name = check.required("/vectorBucketName", wire.vector_bucket_name.as_deref());
    check.finish()?;
    let name = resource::bucket_name("/vectorBucketName", name.unwrap_or_default())?;
    call.scoped(&name, "CreateVectorBucket")?;
    let encryption = from_wire::encryption(wire.encryption_configuration)?;
    let tags = from_wire::tags(wire.tags)?;
    let settings = BucketSettings { encryption, tags, project: call.project(), ..BucketSettings::default() };
    let bucket = call.buckets.catalogue.create_bucket(&name, settings).await.map_err(call.failed())?;
    Ok(Json(json!({"vectorBucketArn": bucket_arn(&call.buckets.identity, &bucket.name)})))
}

/// The bucket that a request is about, and what else is in it.
async fn of_bucket(call: &Call, operation: &str) -> Result<(std::sync::Arc<vectors::Bucket>, BucketRequest), Failure> {
    let wire: BucketRequest = call.json()?;
    let (name, arn) = (wire.vector_bucket_name.as_deref(), wire.vector_bucket_arn.as_deref());
    let name = resource::bucket(&call.buckets.identity, name, arn)?;
    Ok((call.bucket(&name, operation).await?, wire))
}

pub(super) async fn get_bucket(call: Call) -> Answer {
    let (bucket, _) = of_bucket(&call, "GetVectorBucket").await?;
    Ok(Json(json!({"vectorBucket": written(to_wire::bucket(&call.buckets.identity, &bucket))?})))
}

pub(super) async fn delete_bucket(call: Call) -> Answer {
    let (bucket, _) = of_bucket(&call, "DeleteVectorBucket").await?;
    call.buckets.catalogue.delete_bucket(&bucket.name).await.map_err(call.failed())?;
    nothing()
}

/// What of a listing is asked for: the prefix, the name behind which it goes on, and how many.
fn page(wire: &ListRequest) -> Result<(String, String, usize), Failure> {
    let mut check = Check::default();
    check.range("/maxResults", wire.max_results, 1..=PAGE_MAX);
    if let Some(prefix) = &wire.prefix {
        check.length("/prefix", prefix.len(), 1..=63);
    }
    let after = match &wire.next_token {
        Some(text) => untoken(text).ok_or_else(|| Failure::field("/nextToken", "Invalid nextToken"))?,
        None => String::new(),
    };
    check.finish()?;
    let limit = usize::try_from(wire.max_results.unwrap_or(PAGE_MAX)).unwrap_or(1);
    Ok((wire.prefix.clone().unwrap_or_default(), after, limit))
}

pub(super) async fn list_buckets(call: Call) -> Answer {
    let (prefix, after, limit) = page(&call.json()?)?;
    let select = Select { prefix: &prefix, after: &after, limit };
    let listing = call.buckets.catalogue.list_buckets(select).await.map_err(call.failed())?;
    let identity = &call.buckets.identity;
    let mut answer = json!({"vectorBuckets": []});
    let shown = listing.found.iter().filter(|bucket| call.sees(bucket));
    let buckets = shown.map(|bucket| written(to_wire::bucket_summary(identity, bucket)));
    answer["vectorBuckets"] = buckets.collect::<Result<_, _>>()?;
    if let Some(last) = listing.found.last().filter(|_| listing.more) {
        answer["nextToken"] = token(last.name.as_str()).into();
    }
    Ok(Json(answer))
}

pub(super) async fn put_policy(call: Call) -> Answer {
    let (bucket, wire) = of_bucket(&call, "PutVectorBucketPolicy").await?;
    let mut check = Check::default();
    let text = check.required("/policy", wire.policy).unwrap_or_default();
    check.finish()?;
    Policy::parse(&text).map_err(|why| Failure::field("/policy", format!("Invalid policy: {why}")))?;
    let set = |settings: &mut BucketSettings| {
        settings.policy = Some(text.clone());
        Ok(())
    };
    call.buckets.catalogue.update_bucket(&bucket.name, set).await.map_err(call.failed())?;
    nothing()
}

pub(super) async fn get_policy(call: Call) -> Answer {
    let (bucket, _) = of_bucket(&call, "GetVectorBucketPolicy").await?;
    match &bucket.settings.policy {
        Some(policy) => Ok(Json(json!({"policy": policy}))),
        None => Err(Failure::not_found("vector bucket policy")),
    }
}

/// The owner may always take a policy away; otherwise one that denies everything could never be undone.
pub(super) async fn delete_policy(call: Call) -> Answer {
    let wire: BucketRequest = call.json()?;
    let (name, arn) = (wire.vector_bucket_name.as_deref(), wire.vector_bucket_arn.as_deref());
    let name = resource::bucket(&call.buckets.identity, name, arn)?;
    call.scoped(&name, "DeleteVectorBucketPolicy")?;
    let bucket = call.buckets.catalogue.bucket(&name).await.map_err(call.failed())?;
    call.admit(&bucket, "DeleteVectorBucketPolicy")?;
    let unset = |settings: &mut BucketSettings| {
        settings.policy = None;
        Ok(())
    };
    call.buckets.catalogue.update_bucket(&name, unset).await.map_err(call.failed())?;
    nothing()
}

/// Modes that may be set: all indexes filter before they search, and the vendor has closed the other mode to new
/// buckets.
fn mode(path: &str, mode: Option<&str>) -> Result<(), Failure> {
    let mut check = Check::default();
    let mode = check.required(path, mode);
    check.one_of(path, mode, &["CLASSIC", "ENHANCED"]);
    if mode == Some("CLASSIC") {
        check.add(path, "CLASSIC is not available for this vector bucket; every index filters before it searches");
    }
    check.finish()
}

pub(super) async fn put_default_mode(call: Call) -> Answer {
    let (_, wire) = of_bucket(&call, "PutVectorBucketDefaultIndexMode").await?;
    mode("/defaultIndexMode", wire.default_index_mode.as_deref())?;
    nothing()
}

pub(super) async fn create_index(call: Call) -> Answer {
    let wire: CreateIndex = call.json()?;
    let (name, arn) = (wire.vector_bucket_name.as_deref(), wire.vector_bucket_arn.as_deref());
    let bucket = resource::bucket(&call.buckets.identity, name, arn)?;
    let mut check = Check::default();
    let name = check.required("/indexName", wire.index_name.as_deref());
    check.finish()?;
    let name = resource::index_name("/indexName", name.unwrap_or_default())?;
    if name.as_str().bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'_') {
        return Err(Failure::field("/indexName", format!("Invalid index name {:?}", name.as_str())));
    }
    let shape = from_wire::shape(&wire)?;
    let encryption = from_wire::encryption(wire.encryption_configuration.clone())?;
    let settings = IndexSettings {
        encryption,
        texts: from_wire::text_fields(&wire)?,
        time_to_live: wire.time_to_live.clone().map(|it| it.metadata_key),
        tags: from_wire::tags(wire.tags.clone())?,
        fusion: None,
    };
    let bucket = call.bucket(&bucket, "CreateIndex").await?;
    let catalogue = &call.buckets.catalogue;
    let entry = catalogue.create_index(&bucket, &name, shape, settings).await.map_err(call.failed())?;
    Ok(Json(json!({"indexArn": index_arn(&call.buckets.identity, &entry.bucket, &entry.name)})))
}

type OfIndex = (std::sync::Arc<vectors::Bucket>, std::sync::Arc<vectors::IndexEntry>, IndexRequest);

async fn of_index(call: &Call, operation: &str) -> Result<OfIndex, Failure> {
    let wire: IndexRequest = call.json()?;
    let names = (wire.vector_bucket_name.as_deref(), wire.index_name.as_deref(), wire.index_arn.as_deref());
    let (bucket, name) = resource::index(&call.buckets.identity, names.0, names.1, names.2)?;
    let (bucket, entry) = call.index(&bucket, &name, &[operation]).await?;
    Ok((bucket, entry, wire))
}

pub(super) async fn get_index(call: Call) -> Answer {
    let (bucket, entry, _) = of_index(&call, "GetIndex").await?;
    // What is being built is known to the open index alone.
    let opened = match entry.settings.texts.is_empty() {
        true => None,
        false => Some(call.buckets.catalogue.open(&entry).await.map_err(call.failed())?),
    };
    let index = to_wire::index(&call.buckets.identity, &bucket, &entry, opened.as_ref());
    Ok(Json(json!({"index": written(index)?})))
}

pub(super) async fn delete_index(call: Call) -> Answer {
    let (bucket, entry, _) = of_index(&call, "DeleteIndex").await?;
    call.buckets.catalogue.delete_index(&bucket, &entry.name).await.map_err(call.failed())?;
    nothing()
}

pub(super) async fn list_indexes(call: Call) -> Answer {
    let wire: ListRequest = call.json()?;
    let (name, arn) = (wire.vector_bucket_name.as_deref(), wire.vector_bucket_arn.as_deref());
    let bucket = resource::bucket(&call.buckets.identity, name, arn)?;
    let (prefix, after, limit) = page(&wire)?;
    let bucket = call.bucket(&bucket, "ListIndexes").await?;
    let select = Select { prefix: &prefix, after: &after, limit };
    let listing = call.buckets.catalogue.list_indexes(&bucket, select).await.map_err(call.failed())?;
    let identity = &call.buckets.identity;
    let mut answer = json!({"indexes": []});
    let indexes = listing.found.iter().map(|entry| written(to_wire::index_summary(identity, entry)));
    answer["indexes"] = indexes.collect::<Result<_, _>>()?;
    if let Some(last) = listing.found.last().filter(|_| listing.more) {
        answer["nextToken"] = token(last.name.as_str()).into();
    }
    Ok(Json(answer))
}

pub(super) async fn update_mode(call: Call) -> Answer {
    let (_, _, wire) = of_index(&call, "UpdateIndexMode").await?;
    mode("/indexMode", wire.index_mode.as_deref())?;
    nothing()
}

/// Ours: which metadata field says when a row ends; none, and rows stay.
pub(super) async fn put_time_to_live(call: Call) -> Answer {
    let (bucket, entry, wire) = of_index(&call, "PutTimeToLive").await?;
    let field = wire.time_to_live.map(|it| it.metadata_key);
    let set = |settings: &mut IndexSettings| {
        settings.time_to_live.clone_from(&field);
        Ok(())
    };
    call.buckets.catalogue.update_index(&bucket, &entry.name, set).await.map_err(call.failed())?;
    nothing()
}

pub(super) async fn update_metadata(call: Call) -> Answer {
    let (bucket, entry, wire) = of_index(&call, "UpdateMetadataConfiguration").await?;
    let change = match (wire.add, wire.delete) {
        (Some(add), None) => (add.text_search_configurations.unwrap_or_default(), true),
        (None, Some(delete)) => (delete.text_search_configurations.unwrap_or_default(), false),
        _ => return Err(Failure::validation("Specify either add or delete, but not both")),
    };
    let (wire, is_added) = change;
    let mut check = Check::default();
    let path = if is_added { "/add/textSearchConfigurations" } else { "/delete/textSearchConfigurations" };
    let fields = texts::fields(&mut check, path, &wire);
    check.finish()?;
    let has = |field: &TextField| entry.settings.texts.iter().any(|other| other.field == field.field);
    if let Some(field) = fields.iter().find(|field| has(field) == is_added) {
        let why = if is_added { "is configured already" } else { "is not configured" };
        return Err(Failure::conflict(&format!("the metadata key {:?} {why}", field.field)));
    }
    let update = |settings: &mut IndexSettings| {
        settings.texts.retain(|other| !fields.iter().any(|field| field.field == other.field));
        if is_added {
            settings.texts.extend(fields.iter().cloned());
        }
        Ok(())
    };
    call.buckets.catalogue.update_index(&bucket, &entry.name, update).await.map_err(call.failed())?;
    nothing()
}
