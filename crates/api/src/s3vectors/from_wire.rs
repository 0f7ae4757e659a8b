//! Wire forms into what the catalogue and the engine take.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde_json::Value;
use vectors::{
    BATCH_ROWS_MAX, Effort, Encryption, Filter, IndexEntry, Key, MetadataLimits, Metric, NEIGHBOURS_MAX, Query,
};
use vectors::{Row, Shape, Span, TextField, TextQuery, Want};

use super::call::json;
use super::error::{Check, Failure};
use super::texts;
use super::types::{
    CreateIndex, EncryptionConfiguration, KeysRequest, ListVectors, MetadataConfiguration, PutVectors, QueryVectors,
};
use crate::buckets::wire::{self, Numbers, WireData, floats};

/// The media type of a body with vectors in binary behind its JSON.
pub(super) const BINARY: &str = "application/vnd.sampan.vectors";
/// Tags of one resource; the vendor's limit.
const TAGS_MAX: usize = 50;
/// Rows of a listing if the request does not say.
const LIST_DEFAULT: i64 = 500;

/// What a bucket or an index is to be encrypted with.
pub(super) fn encryption(wire: Option<EncryptionConfiguration>) -> Result<Option<Encryption>, Failure> {
    let Some(wire) = wire else { return Ok(None) };
    let mut check = Check::default();
    check.one_of("/encryptionConfiguration/sseType", wire.sse_type.as_deref(), &["AES256", "aws:kms"]);
    check.finish()?;
    match (wire.sse_type.as_deref(), wire.kms_key_arn) {
        (Some("aws:kms"), _) => {
            let why = "aws:kms is not supported: this server has no key management service";
            Err(Failure::field("/encryptionConfiguration/sseType", why))
        }
        (_, Some(_)) => {
            Err(Failure::field("/encryptionConfiguration/kmsKeyArn", "kmsKeyArn is allowed only with aws:kms"))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Ok(Some(Encryption::Aes256)),
    }
}

/// Tags that may be set.
pub(super) fn tags(wire: Option<BTreeMap<String, String>>) -> Result<BTreeMap<String, String>, Failure> {
    let tags = wire.unwrap_or_default();
    let mut check = Check::default();
    for (key, value) in &tags {
        check.length("/tags", key.chars().count(), 1..=128);
        check.length(&format!("/tags/{key}"), value.chars().count(), 0..=256);
        let allowed = |text: &str| text.chars().all(|char| char.is_alphanumeric() || "_.:/=+-@ ".contains(char));
        if !allowed(key) || !allowed(value) {
            check.add("/tags", format!("the tag {key:?} has a character other than letters, digits and _.:/=+-@"));
        }
        if key.to_lowercase().starts_with("aws:") {
            check.add("/tags", format!("the tag {key:?} begins with aws:, which is reserved"));
        }
    }
    if tags.len() > TAGS_MAX {
        check.add("/tags", format!("{} tags, {TAGS_MAX} allowed", tags.len()));
    }
    check.finish()?;
    Ok(tags)
}

/// What a new index is made for.
pub(super) fn shape(wire: &CreateIndex) -> Result<Shape, Failure> {
    let mut check = Check::default();
    let data_type = check.required("/dataType", wire.data_type.as_deref());
    check.one_of("/dataType", data_type, &["float32"]);
    let dimension = check.required("/dimension", wire.dimension);
    check.range("/dimension", dimension, 1..=i64::from(vectors::DIMENSION_MAX));
    let metric = check.required("/distanceMetric", wire.distance_metric.as_deref());
    check.one_of("/distanceMetric", metric, &["euclidean", "cosine"]);
    let not_filterable = not_filterable(&mut check, wire.metadata_configuration.as_ref());
    check.finish()?;
    let metric = if metric == Some("cosine") { Metric::Cosine } else { Metric::Euclidean };
    Ok(Shape { dimension: dimension.and_then(|it| u32::try_from(it).ok()).unwrap_or_default(), metric, not_filterable })
}

/// Fields of a new index that are to be searched by words.
pub(super) fn text_fields(wire: &CreateIndex) -> Result<Vec<TextField>, Failure> {
    let texts = wire.metadata_configuration.as_ref().and_then(|wire| wire.text_search_configurations.as_deref());
    let mut check = Check::default();
    let path = "/metadataConfiguration/textSearchConfigurations";
    let fields = texts::fields(&mut check, path, texts.unwrap_or_default());
    check.finish().map(|()| fields)
}

fn not_filterable(check: &mut Check, wire: Option<&MetadataConfiguration>) -> Vec<String> {
    let Some(wire) = wire else { return Vec::new() };
    let path = "/metadataConfiguration/nonFilterableMetadataKeys";
    let keys = wire.non_filterable_metadata_keys.clone().unwrap_or_default();
    check.length(path, keys.len(), 0..=Shape::NOT_FILTERABLE_MAX);
    for (place, key) in keys.iter().enumerate() {
        check.length(&format!("{path}/{place}"), key.len(), 1..=63);
        if keys[..place].contains(key) {
            check.add(path, format!("the key {key:?} is given twice"));
        }
    }
    keys
}

/// A body in which vectors may lie behind the JSON: the JSON's length as a little-endian `u32`, the JSON, and the
/// numbers of all vectors in their order as little-endian `f32`s.
pub(super) fn split(body: &Bytes, is_binary: bool) -> Result<(Bytes, Option<Bytes>), Failure> {
    if !is_binary {
        return Ok((body.clone(), None));
    }
    let cut = || Failure::unreadable("the body is shorter than the length of its JSON says");
    let length = body.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes) as usize).ok_or_else(cut)?;
    let end = length.checked_add(4).filter(|end| *end <= body.len()).ok_or_else(cut)?;
    Ok((body.slice(4..end), Some(body.slice(end..))))
}

/// Vectors to put, with the places of those that are to be embedded first.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) wire: PutVectors,
    pub(super) numbers: Vec<Numbers>,
}

impl Batch {
    /// Reads a request; `behind` are the numbers behind the JSON.
    pub(super) fn parse(body: &[u8], behind: Option<&[u8]>) -> Result<Self, Failure> {
        let mut wire: PutVectors = json(body)?;
        let mut check = Check::default();
        let count = check.required("/vectors", wire.vectors.as_ref().map(Vec::len));
        check.length("/vectors", count.unwrap_or(1), 1..=BATCH_ROWS_MAX);
        for (place, vector) in wire.vectors.iter().flatten().enumerate() {
            check.required(&format!("/vectors/{place}/key"), vector.key.as_ref());
            if behind.is_none() {
                check.required(&format!("/vectors/{place}/data"), vector.data.as_ref());
            }
        }
        check.finish()?;
        let vectors = wire.vectors.as_deref_mut().unwrap_or_default();
        let numbers = match behind {
            Some(bytes) => rows_of(bytes, vectors.len())?,
            None => vectors
                .iter_mut()
                .map(|vector| {
                    let data = vector.data.take().unwrap_or_default();
                    data.numbers().map_err(|why| invalid_record(vector.key.as_deref(), &why))
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { wire, numbers })
    }

    /// The texts that are to be embedded.
    pub(super) fn texts(&self) -> Vec<String> {
        let text = |numbers: &Numbers| match numbers {
            Numbers::OfText(text) => Some(text.clone()),
            Numbers::Known(_) => None,
        };
        self.numbers.iter().filter_map(text).collect()
    }

    /// The rows; `embedded` holds a vector for each of [`Self::texts`].
    pub(super) fn rows(
        self,
        entry: &IndexEntry,
        limits: MetadataLimits,
        embedded: Vec<Vec<f32>>,
    ) -> Result<Vec<Row>, Failure> {
        let mut embedded = embedded.into_iter();
        let vectors = self.wire.vectors.unwrap_or_default();
        let mut rows = Vec::with_capacity(vectors.len());
        for (vector, numbers) in vectors.iter().zip(self.numbers) {
            let key = vector.key.as_deref().unwrap_or_default();
            let numbers = match numbers {
                Numbers::Known(numbers) => numbers,
                Numbers::OfText(_) => embedded.next().unwrap_or_default(),
            };
            let row = wire::row(key, numbers, vector.metadata.as_ref(), entry, limits);
            rows.push(row.map_err(|why| invalid_record(Some(key), &why))?);
        }
        Ok(rows)
    }
}

fn rows_of(bytes: &[u8], count: usize) -> Result<Vec<Numbers>, Failure> {
    let numbers = floats(bytes).filter(|numbers| count > 0 && numbers.len().is_multiple_of(count));
    let why = || Failure::unreadable(&format!("{} bytes of numbers are not {count} vectors", bytes.len()));
    let numbers = numbers.ok_or_else(why)?;
    let each = numbers.len() / count;
    Ok((0..count).map(|row| Numbers::Known(numbers[row * each..(row + 1) * each].to_vec())).collect())
}

fn invalid_record(key: Option<&str>, why: &str) -> Failure {
    let key: String = key.unwrap_or_default().chars().take(100).collect();
    Failure::field("/vectors", format!("Invalid record for key '{key}': {why}"))
}

/// The keys of a request, `max` at most.
pub(super) fn keys(wire: &KeysRequest, max: usize) -> Result<Vec<Key>, Failure> {
    let mut check = Check::default();
    let keys = check.required("/keys", wire.keys.as_deref()).unwrap_or_default();
    if wire.keys.is_some() {
        check.length("/keys", keys.len(), 1..=max);
    }
    for (place, key) in keys.iter().enumerate() {
        check.length(&format!("/keys/{place}"), key.len(), 1..=vectors::KEY_BYTES_MAX);
    }
    check.finish()?;
    keys.iter().map(|key| Key::parse(key).map_err(|why| Failure::validation(why.to_string()))).collect()
}

/// Which part of an index a listing goes through, and how many rows of it.
pub(super) fn span(wire: &ListVectors) -> Result<(Span, usize), Failure> {
    let mut check = Check::default();
    check.range("/maxResults", wire.max_results, 1..=1_000);
    check.range("/segmentCount", wire.segment_count, 1..=16);
    check.range("/segmentIndex", wire.segment_index, 0..=15);
    let span = match (wire.segment_count, wire.segment_index) {
        (None, None) => Span::ALL,
        (Some(count), Some(index)) => {
            if index >= count {
                check.add(
                    "/segmentIndex",
                    format!("segmentIndex is {index}, it must be less than segmentCount {count}"),
                );
            }
            Span { part: u32::try_from(index).unwrap_or_default(), of: u32::try_from(count).unwrap_or(1) }
        }
        _ => {
            check.add("/segmentIndex", "segmentCount and segmentIndex must be given together");
            Span::ALL
        }
    };
    check.finish()?;
    Ok((span, usize::try_from(wire.max_results.unwrap_or(LIST_DEFAULT)).unwrap_or(1)))
}

/// What a query looks for, its vector apart.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) wire: QueryVectors,
    /// `None` where words alone are asked for.
    pub(super) numbers: Option<Numbers>,
    pub(super) neighbours: usize,
    pub(super) effort: Effort,
}

impl Search {
    /// Reads a request; `behind` are the numbers behind the JSON.
    pub(super) fn parse(body: &[u8], behind: Option<&[u8]>) -> Result<Self, Failure> {
        let mut wire: QueryVectors = json(body)?;
        let mut check = Check::default();
        let top_k = check.required("/topK", wire.top_k);
        check.range("/topK", top_k, 1..=NEIGHBOURS_MAX as i64);
        check.one_of("/queryMode", wire.query_mode.as_deref(), &["CLASSIC", "ENHANCED"]);
        if wire.query_mode.as_deref() == Some("CLASSIC") {
            check.add("/queryMode", "CLASSIC can't be specified for an index in ENHANCED mode");
        }
        check.range("/effort", wire.effort, 1..=100);
        if wire.effort.is_some() && wire.query_texts.is_some() {
            check.add("/effort", "effort can't be specified with queryTexts");
        }
        match &wire.query_texts {
            Some(texts) => texts::check(&mut check, texts),
            None if behind.is_none() => drop(check.required("/queryVector", wire.query_vector.as_ref())),
            None => {}
        }
        check.finish()?;
        let numbers = match (behind, wire.query_vector.take()) {
            (Some([]), _) | (None, None) if wire.query_texts.is_some() => None,
            (Some(bytes), _) => Some(rows_of(bytes, 1)?.pop().unwrap_or(Numbers::Known(Vec::new()))),
            (None, data) => {
                let data: WireData = data.unwrap_or_default();
                Some(data.numbers().map_err(|why| Failure::field("/queryVector", why))?)
            }
        };
        let neighbours = top_k.and_then(|it| usize::try_from(it).ok()).unwrap_or(1);
        let effort = wire.effort.map(Effort::percent).transpose();
        let effort = effort.map_err(|why| Failure::field("/effort", why.to_string()))?.unwrap_or_default();
        Ok(Self { wire, numbers, neighbours, effort })
    }

    /// The operations that it needs: what it reads of the metadata needs the right to read vectors.
    pub(super) fn operations(&self) -> &'static [&'static str] {
        let is_text = self.wire.query_texts.is_some();
        let reads = self.wire.return_metadata == Some(true) || self.filter().is_some() || is_text;
        if reads { &["QueryVectors", "GetVectors"] } else { &["QueryVectors"] }
    }

    fn filter(&self) -> Option<&Value> {
        self.wire.filter.as_ref().filter(|filter| !filter.is_null())
    }

    /// The query of an index for a vector.
    pub(super) fn query(&self, entry: &IndexEntry, vector: Vec<f32>) -> Result<Query, Failure> {
        entry.shape.check_vector(&vector).map_err(|why| Failure::field("/queryVector", why.to_string()))?;
        let want = Want { vector: false, metadata: self.wire.return_metadata == Some(true) };
        let filter = self.parsed_filter(entry)?;
        Ok(Query { vector, neighbours: self.neighbours, filter, want, effort: self.effort })
    }

    fn parsed_filter(&self, entry: &IndexEntry) -> Result<Option<Filter>, Failure> {
        let parse = |json| Filter::parse(json, &entry.shape.not_filterable);
        let filter = self.filter().map(parse).transpose();
        filter.map_err(|why| Failure::field("/filter", format!("Invalid query filter: {why}")))
    }

    /// The query of an index by words, and by a vector if there is one.
    pub(super) fn text_query(&self, entry: &IndexEntry, vector: Option<Vec<f32>>) -> Result<TextQuery, Failure> {
        if let Some(vector) = &vector {
            entry.shape.check_vector(vector).map_err(|why| Failure::field("/queryVector", why.to_string()))?;
        }
        let texts = texts::questions(entry, self.wire.query_texts.as_deref().unwrap_or_default())?;
        Ok(TextQuery { vector, texts, neighbours: self.neighbours, filter: self.parsed_filter(entry)? })
    }
}
