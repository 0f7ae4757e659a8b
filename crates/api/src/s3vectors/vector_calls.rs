//! Routes of vectors: parse, ask the engine, write the wire form. Everything long happens off the serving threads.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use futures::join;
use ledger::usage::Activity;
use serde_json::{Value, json};
use vectors::{BATCH_ROWS_MAX, Bucket, BucketName, IndexEntry, IndexName, Key, Opened, Remembered, Row};

use super::call::Call;
use super::error::Failure;
use super::from_wire::{self, BINARY, Batch, Search};
use super::texts::{self, Shown};
use super::types::{FoundRow, KeysRequest, ListVectors, QueryOutput, RowsOutput};
use super::{resource, to_wire};
use crate::buckets::embed;
use crate::buckets::wire::{DataFormat, Numbers, float_bytes, position, returned, token, untoken};

/// Keys of one read; the vendor's limit.
const GET_KEYS_MAX: usize = 100;
/// A page of a listing ends behind so many bytes of numbers and metadata; the vendor's limit.
const LIST_BYTES_MAX: usize = 1 << 20;
/// Rows that a listing reads at once.
const LIST_ROWS: usize = 64;
/// A page of a query's answer ends behind so many bytes of keys and metadata.
const QUERY_BYTES_MAX: usize = 4 << 20;

/// A query of so many bytes is parsed where it arrives, ...
const SHORT_BODY_BYTES_MAX: usize = 64 << 10;
/// ... and answered there if it asks for no more neighbours
const SHORT_NEIGHBOURS_MAX: usize = 100;
/// among so many bytes: 37,000 rows of 384 dimensions, a scan of 0.1 to 0.3 ms (measured, see bench/README.md).
const SHORT_BYTES_MAX: u64 = 2 << 20;

fn has(headers: &HeaderMap, name: axum::http::HeaderName) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().starts_with(BINARY.as_bytes()))
}

pub(super) async fn put(call: Call) -> Result<Json<Value>, Failure> {
    let call = Arc::new(call);
    let (body, behind) = from_wire::split(&call.body, has(&call.headers, CONTENT_TYPE))?;
    let work = Arc::clone(&call);
    let done = call.buckets.compute(async move { put_batch(&work, &body, behind.as_ref()).await }).await;
    done.ok_or_else(Failure::busy)??;
    Ok(Json(json!({})))
}

async fn put_batch(call: &Call, body: &[u8], behind: Option<&Bytes>) -> Result<(), Failure> {
    let batch = Batch::parse(body, behind.map(AsRef::as_ref))?;
    let names = &batch.wire;
    let names = (names.vector_bucket_name.as_deref(), names.index_name.as_deref(), names.index_arn.as_deref());
    let (bucket, name) = resource::index(&call.buckets.identity, names.0, names.1, names.2)?;
    let (bucket, entry) = call.index(&bucket, &name, &["PutVectors"]).await?;
    let texts = batch.texts();
    let embedded = if texts.is_empty() {
        Vec::new()
    } else {
        embed(&call.app, call.id, texts).await.map_err(|why| Failure::field("/vectors", why))?
    };
    let rows = batch.rows(&entry, call.buckets.catalogue.config().metadata, embedded)?;
    let index = call.buckets.catalogue.open(&entry).await.map_err(call.failed())?;
    let written = rows.len();
    index.put(rows).await.map_err(call.failed())?;
    call.count(&bucket, Activity::VectorWrite, written);
    Ok(())
}

/// The index that a request is about, open, and its bucket.
async fn open(
    call: &Call,
    names: (Option<&str>, Option<&str>, Option<&str>),
    operations: &[&str],
) -> Result<(Arc<Bucket>, Opened), Failure> {
    let (bucket, name) = resource::index(&call.buckets.identity, names.0, names.1, names.2)?;
    let (bucket, entry) = call.index(&bucket, &name, operations).await?;
    Ok((bucket, call.buckets.catalogue.open(&entry).await.map_err(call.failed())?))
}

pub(super) async fn get(call: Call) -> Result<Response, Failure> {
    let wire: KeysRequest = call.json()?;
    let keys = from_wire::keys(&wire, GET_KEYS_MAX)?;
    let names = (wire.vector_bucket_name.as_deref(), wire.index_name.as_deref(), wire.index_arn.as_deref());
    let (bucket, index) = open(&call, names, &["GetVectors"]).await?;
    let rows = index.get(&keys).await.map_err(call.failed())?;
    call.count(&bucket, Activity::VectorRead, rows.len());
    let metadata = wire.return_metadata == Some(true);
    if has(&call.headers, ACCEPT) {
        return Ok(binary(&rows, metadata));
    }
    let data = (wire.return_data == Some(true)).then_some(wire.data_format);
    let vectors = rows.iter().map(|row| returned(row, data, metadata)).collect();
    Ok(Json(RowsOutput { vectors, next_token: None }).into_response())
}

/// The rows with their numbers behind the JSON.
fn binary(rows: &[Arc<Row>], metadata: bool) -> Response {
    let vectors = rows.iter().map(|row| returned(row, None, metadata)).collect();
    let head = serde_json::to_vec(&RowsOutput { vectors, next_token: None }).expect("texts are JSON");
    let mut body = u32::try_from(head.len()).expect("a hundred rows are small").to_le_bytes().to_vec();
    body.extend(head);
    for row in rows {
        body.extend(float_bytes(&row.vector));
    }
    ([(CONTENT_TYPE, BINARY)], body).into_response()
}

pub(super) async fn delete(call: Call) -> Result<Json<Value>, Failure> {
    let wire: KeysRequest = call.json()?;
    let keys = from_wire::keys(&wire, BATCH_ROWS_MAX)?;
    let names = (wire.vector_bucket_name.as_deref(), wire.index_name.as_deref(), wire.index_arn.as_deref());
    let (_, index) = open(&call, names, &["DeleteVectors"]).await?;
    index.delete(keys).await.map_err(call.failed())?;
    Ok(Json(json!({})))
}

pub(super) async fn list(call: Call) -> Result<Json<RowsOutput>, Failure> {
    let wire: ListVectors = call.json()?;
    let (span, limit) = from_wire::span(&wire)?;
    let bad = || Failure::field("/nextToken", "Invalid nextToken");
    let after = wire.next_token.as_deref().map(|text| position(text).ok_or_else(bad)).transpose()?;
    let data = (wire.return_data == Some(true)).then_some(wire.data_format);
    let metadata = wire.return_metadata == Some(true);
    let reads: &[&str] = if data.is_some() || metadata { &["ListVectors", "GetVectors"] } else { &["ListVectors"] };
    let names = (wire.vector_bucket_name.as_deref(), wire.index_name.as_deref(), wire.index_arn.as_deref());
    let (bucket, index) = open(&call, names, reads).await?;
    let page = index.list(span, after.as_ref(), limit).await.map_err(call.failed())?;
    let next = page.next.map(|next| token(next.key().as_str()));
    if data.is_none() && !metadata {
        let bare =
            |key: &Key| crate::buckets::wire::WireRow { key: key.as_str().to_owned(), data: None, metadata: None };
        return Ok(Json(RowsOutput { vectors: page.keys.iter().map(bare).collect(), next_token: next }));
    }
    let (vectors, cut) = whole(&call, &index, &page.keys, data, metadata).await?;
    call.count(&bucket, Activity::VectorRead, vectors.len());
    Ok(Json(RowsOutput { vectors, next_token: cut.or(next) }))
}

/// The rows of keys, until the page is full; then also where it goes on.
async fn whole(
    call: &Call,
    index: &Opened,
    keys: &[Key],
    data: Option<DataFormat>,
    metadata: bool,
) -> Result<(Vec<crate::buckets::wire::WireRow>, Option<String>), Failure> {
    let (mut vectors, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for (chunk, some) in keys.chunks(LIST_ROWS).enumerate() {
        // A key that was deleted meanwhile is left out.
        for row in index.get(some).await.map_err(call.failed())? {
            bytes += row.vector.len() * if data.is_some() { 4 } else { 0 } + row.key.as_str().len();
            if metadata {
                bytes += row.metadata.to_json().to_string().len();
            }
            vectors.push(returned(&row, data, metadata));
        }
        let read = chunk * LIST_ROWS + some.len();
        if bytes >= LIST_BYTES_MAX && read < keys.len() {
            return Ok((vectors, some.last().map(|last| token(last.as_str()))));
        }
    }
    Ok((vectors, None))
}

pub(super) async fn query(call: Call) -> Result<Json<QueryOutput>, Failure> {
    let call = Arc::new(call);
    let asked = if call.body.len() <= SHORT_BODY_BYTES_MAX {
        let asked = Asked::parse(&call)?;
        if asked.is_short(&call) {
            return answer(&call, asked).await.map(Json);
        }
        Some(asked)
    } else {
        None
    };
    let work = Arc::clone(&call);
    let done = call.buckets.compute(async move { answer(&work, asked.map_or_else(|| Asked::parse(&work), Ok)?).await });
    done.await.ok_or_else(Failure::busy)?.map(Json)
}

/// A query, and where.
struct Asked {
    search: Search,
    bucket: BucketName,
    name: IndexName,
    /// What is remembered of them.
    known: Option<Remembered>,
}

impl Asked {
    fn parse(call: &Call) -> Result<Self, Failure> {
        let (body, behind) = from_wire::split(&call.body, has(&call.headers, CONTENT_TYPE))?;
        let search = Search::parse(&body, behind.as_ref().map(AsRef::as_ref))?;
        let names = &search.wire;
        let names = (names.vector_bucket_name.as_deref(), names.index_name.as_deref(), names.index_arn.as_deref());
        let (bucket, name) = resource::index(&call.buckets.identity, names.0, names.1, names.2)?;
        let known = call.buckets.catalogue.remembered(&bucket, &name);
        Ok(Self { search, bucket, name, known })
    }

    /// Whether it is answered sooner than another thread could take over the other requests meanwhile: in a tenth of a
    /// millisecond or two.
    fn is_short(&self, call: &Call) -> bool {
        let Some(known) = &self.known else { return false };
        let bytes = || call.buckets.catalogue.looks_at_bytes(&known.index, self.search.effort);
        self.search.wire.query_texts.is_none()
            && self.search.neighbours <= SHORT_NEIGHBOURS_MAX
            && bytes().is_some_and(|bytes| bytes <= SHORT_BYTES_MAX)
    }
}

async fn answer(call: &Call, asked: Asked) -> Result<QueryOutput, Failure> {
    let Asked { search, bucket, name, known } = asked;
    let skipped = match &search.wire.next_token {
        Some(text) => {
            let skipped = untoken(text).and_then(|text| text.parse::<usize>().ok());
            skipped.ok_or_else(|| Failure::field("/nextToken", "Invalid nextToken"))?
        }
        None => 0,
    };
    let catalogue = &call.buckets.catalogue;
    let found = match known {
        // It is searched while it is seen whether that is still so: one round trip to the store less.
        Some(known) => match join!(found_in_remembered(call, &search, &known), catalogue.still_holds(&known)) {
            (found, true) => found,
            (_, false) => found_in(call, &search, call.index(&bucket, &name, search.operations()).await?).await,
        },
        None => found_in(call, &search, call.index(&bucket, &name, search.operations()).await?).await,
    };
    let (bucket, entry, rows) = found?;
    let found = rows.len();
    // A search that finds nothing was a search.
    call.count(&bucket, Activity::VectorRead, found.max(1));
    let vectors = first_page(rows.into_iter().skip(skipped));
    let shown = skipped + vectors.len();
    let next_token = (shown < found).then(|| token(&shown.to_string()));
    Ok(QueryOutput { vectors, distance_metric: to_wire::metric(entry.shape.metric), next_token })
}

/// A bucket and an index, and what was found in it.
type Found = (Arc<Bucket>, Arc<IndexEntry>, Vec<FoundRow>);

async fn found_in_remembered(call: &Call, search: &Search, known: &Remembered) -> Result<Found, Failure> {
    call.remembered_index(known, search.operations())?;
    found_in(call, search, (Arc::clone(&known.bucket), Arc::clone(&known.index))).await
}

async fn found_in(
    call: &Call,
    search: &Search,
    (bucket, entry): (Arc<Bucket>, Arc<IndexEntry>),
) -> Result<Found, Failure> {
    let vector = match &search.numbers {
        None => None,
        Some(Numbers::Known(numbers)) => Some(numbers.clone()),
        Some(Numbers::OfText(text)) => {
            let embedded = embed(&call.app, call.id, vec![text.clone()]).await;
            Some(embedded.map_err(|why| Failure::field("/queryVector", why))?.pop().unwrap_or_default())
        }
    };
    let rows = match &search.wire.query_texts {
        Some(_) => by_words(call, search, &entry, vector).await?,
        None => by_vector(call, search, &entry, vector.unwrap_or_default()).await?,
    };
    Ok((bucket, entry, rows))
}

async fn by_vector(
    call: &Call,
    search: &Search,
    entry: &IndexEntry,
    vector: Vec<f32>,
) -> Result<Vec<FoundRow>, Failure> {
    let query = search.query(entry, vector)?;
    let index = call.buckets.catalogue.open(entry).await.map_err(call.failed())?;
    let found = index.query_since_open(&query).await.map_err(call.failed())?;
    let (distance, metadata) = (search.wire.return_distance == Some(true), search.wire.return_metadata == Some(true));
    Ok(found.iter().map(|row| to_wire::found(row, distance, metadata)).collect())
}

async fn by_words(
    call: &Call,
    search: &Search,
    entry: &IndexEntry,
    vector: Option<Vec<f32>>,
) -> Result<Vec<FoundRow>, Failure> {
    let query = search.text_query(entry, vector)?;
    let index = call.buckets.catalogue.open(entry).await.map_err(call.failed())?;
    let found = index.query_texts(&query).await.map_err(call.failed())?;
    let shown = Shown {
        distance: search.wire.return_distance == Some(true),
        metadata: search.wire.return_metadata == Some(true),
        scores: search.wire.return_scores == Some(true),
    };
    Ok(found.iter().map(|row| texts::found(row, &query.texts, shown)).collect())
}

/// Rows up to a page's size, one at least.
fn first_page(rows: impl Iterator<Item = FoundRow>) -> Vec<FoundRow> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    for row in rows {
        bytes += row.key.len() + row.metadata.as_ref().map_or(0, |metadata| metadata.to_string().len());
        if bytes > QUERY_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push(row);
    }
    page
}
