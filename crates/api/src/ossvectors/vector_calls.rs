//! Operations of vectors. Everything long happens off the serving threads.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures::join;
use ledger::usage::Activity;
use serde_json::{Value, json};
use vectors::{BATCH_ROWS_MAX, Bucket, BucketName, IndexEntry, Match, Remembered};

use super::call::{Call, index_name, json as read};
use super::error::Failure;
use super::from_wire::{self, Batch};
use super::fusion;
use super::types::{KeysRequest, ListVectors, PutVectors, QueryVectors};
use crate::buckets::embed;
use crate::buckets::wire::{Numbers, position, returned, token};

type Answer = Result<Response, Failure>;

/// Keys of one read; the vendor's limit.
const GET_KEYS_MAX: usize = 100;

pub(super) async fn put(call: &Arc<Call>, bucket: &BucketName) -> Answer {
    let (work, bucket) = (Arc::clone(call), bucket.clone());
    let done = call.buckets.compute(async move { put_batch(&work, &bucket).await }).await;
    done.ok_or_else(Failure::unavailable)??;
    Ok(StatusCode::OK.into_response())
}

async fn put_batch(call: &Call, bucket: &BucketName) -> Result<(), Failure> {
    let wire = read::<PutVectors>(&call.body);
    // The vectors of a fusion index have names of their own, which may be those of a standard one's forms.
    let name = match &wire {
        Ok(wire) => wire.index_name.clone(),
        Err(_) => read::<KeysRequest>(&call.body)?.index_name,
    };
    let (bucket, entry) = call.index(bucket, name.as_deref(), "PutVectors").await?;
    if fusion::is_fusion(&entry) {
        return fusion::put(call, &bucket, &entry).await;
    }
    let batch = Batch::parse(wire?)?;
    let texts = batch.texts();
    let embedded =
        if texts.is_empty() { Vec::new() } else { embed(&call.app, call.id, texts).await.map_err(Failure::invalid)? };
    let rows = batch.rows(&entry, call.buckets.catalogue.config().metadata, embedded)?;
    let index = call.buckets.catalogue.open(&entry).await.map_err(call.failed())?;
    let written = rows.len();
    index.put(rows).await.map_err(call.failed())?;
    call.count(&bucket, Activity::VectorWrite, written);
    Ok(())
}

pub(super) async fn get(call: &Call, bucket: &BucketName) -> Answer {
    let wire: KeysRequest = call.json()?;
    let keys = from_wire::keys(&wire.keys, GET_KEYS_MAX)?;
    let (bucket, entry) = call.index(bucket, wire.index_name.as_deref(), "GetVectors").await?;
    if fusion::is_fusion(&entry) {
        let vectors = fusion::get(call, (&bucket, &entry), &keys, (wire.return_data, wire.return_metadata)).await?;
        return Ok(Json(json!({"vectors": vectors})).into_response());
    }
    let index = call.buckets.catalogue.open(&entry).await.map_err(call.failed())?;
    let rows = index.get(&keys).await.map_err(call.failed())?;
    call.count(&bucket, Activity::VectorRead, rows.len());
    let data = wire.return_data.then_some(wire.data_format);
    let vectors: Vec<_> = rows.iter().map(|row| returned(row, data, wire.return_metadata)).collect();
    Ok(Json(json!({"vectors": vectors})).into_response())
}

pub(super) async fn delete(call: &Call, bucket: &BucketName) -> Answer {
    let wire: KeysRequest = call.json()?;
    let keys = from_wire::keys(&wire.keys, BATCH_ROWS_MAX)?;
    let (_, entry) = call.index(bucket, wire.index_name.as_deref(), "DeleteVectors").await?;
    if fusion::is_fusion(&entry) {
        fusion::delete(call, &entry, &keys).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let index = call.buckets.catalogue.open(&entry).await.map_err(call.failed())?;
    index.delete(keys).await.map_err(call.failed())?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn list(call: &Call, bucket: &BucketName) -> Answer {
    let wire: ListVectors = call.json()?;
    let (span, limit) = from_wire::span(&wire)?;
    let bad = || Failure::invalid("nextToken is none of ours");
    let after = wire.next_token.as_deref().map(|text| position(text).ok_or_else(bad)).transpose()?;
    let (bucket, entry) = call.index(bucket, wire.index_name.as_deref(), "ListVectors").await?;
    let index = call.buckets.catalogue.open(&entry).await.map_err(call.failed())?;
    let page = index.list(span, after.as_ref(), limit).await.map_err(call.failed())?;
    let data = wire.return_data.then_some(wire.data_format);
    let vectors = if fusion::is_fusion(&entry) {
        drop(index);
        let keys = fusion::listed(page.keys);
        fusion::get(call, (&bucket, &entry), &keys, (wire.return_data, wire.return_metadata)).await?
    } else if data.is_some() || wire.return_metadata {
        let rows = index.get(&page.keys).await.map_err(call.failed())?;
        call.count(&bucket, Activity::VectorRead, rows.len());
        rows.iter().map(|row| json!(returned(row, data, wire.return_metadata))).collect()
    } else {
        page.keys.iter().map(|key| json!({"key": key.as_str()})).collect::<Vec<Value>>()
    };
    let mut answer = json!({"vectors": vectors});
    if let Some(next) = page.next {
        answer["nextToken"] = token(next.key().as_str()).into();
    }
    Ok(Json(answer).into_response())
}

pub(super) async fn query(call: &Arc<Call>, bucket: &BucketName) -> Answer {
    let (work, bucket) = (Arc::clone(call), bucket.clone());
    let done = call.buckets.compute(async move { search(&work, &bucket).await }).await;
    done.ok_or_else(Failure::unavailable)?
}

async fn search(call: &Call, bucket: &BucketName) -> Answer {
    let mut wire: QueryVectors = call.json()?;
    let numbers = from_wire::numbers(wire.query_vector.take())?;
    let name = index_name(wire.index_name.as_deref())?;
    let catalogue = &call.buckets.catalogue;
    let fresh = async || call.index(bucket, Some(name.as_str()), "QueryVectors").await;
    let found = match catalogue.remembered(bucket, &name) {
        // It is searched while it is seen whether that is still so: one round trip to the store less.
        Some(known) => match join!(found_in_remembered(call, &wire, &numbers, &known), catalogue.still_holds(&known)) {
            (found, true) => found,
            (_, false) => found_in(call, &wire, &numbers, fresh().await?).await,
        },
        None => found_in(call, &wire, &numbers, fresh().await?).await,
    };
    let (bucket, found) = found?;
    // A search that finds nothing was a search.
    call.count(&bucket, Activity::VectorRead, found.len().max(1));
    let row = |row: &Match| {
        let mut shown = json!({"key": row.key.as_str()});
        if wire.return_distance {
            shown["distance"] = row.distance.into();
        }
        if let Some(metadata) = &row.metadata {
            shown["metadata"] = metadata.to_json();
        }
        shown
    };
    let vectors: Vec<Value> = found.iter().map(row).collect();
    Ok(Json(json!({"vectors": vectors})).into_response())
}

/// A bucket, and what was found in an index of it.
type Found = (Arc<Bucket>, Vec<Match>);

async fn found_in_remembered(
    call: &Call,
    wire: &QueryVectors,
    numbers: &Numbers,
    known: &Remembered,
) -> Result<Found, Failure> {
    call.remembered_index(known, "QueryVectors")?;
    found_in(call, wire, numbers, (Arc::clone(&known.bucket), Arc::clone(&known.index))).await
}

async fn found_in(
    call: &Call,
    wire: &QueryVectors,
    numbers: &Numbers,
    (bucket, entry): (Arc<Bucket>, Arc<IndexEntry>),
) -> Result<Found, Failure> {
    if fusion::is_fusion(&entry) {
        return Err(Failure::invalid(format!("{} is a fusion index; QueryVectorsFusion asks it", entry.name)));
    }
    let vector = match numbers {
        Numbers::Known(numbers) => numbers.clone(),
        Numbers::OfText(text) => {
            let embedded = embed(&call.app, call.id, vec![text.clone()]).await;
            embedded.map_err(Failure::invalid)?.pop().unwrap_or_default()
        }
    };
    let query = from_wire::query(wire, &entry, vector)?;
    let index = call.buckets.catalogue.open(&entry).await.map_err(call.failed())?;
    Ok((bucket, index.query_since_open(&query).await.map_err(call.failed())?))
}
