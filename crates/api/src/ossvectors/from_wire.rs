//! Wire forms into what the catalogue and the engine take.

use std::collections::BTreeMap;

use vectors::{
    BATCH_ROWS_MAX, Effort, Filter, IndexEntry, Key, MetadataLimits, Metric, NEIGHBOURS_MAX, Query, Row, Shape,
};
use vectors::{Span, Want};

use super::error::Failure;
use super::types::{IndexRequest, ListVectors, PutVectors, QueryVectors};
use crate::buckets::wire::{self, Numbers, WireData};

/// Vectors on a page if the request does not say, and at most.
const LIST_DEFAULT: i64 = 500;
const LIST_MAX: i64 = 1_000;
/// The longest filter; the vendor's limit.
const FILTER_BYTES_MAX: usize = 64 << 10;

/// `a=b&c=d`, decoded.
pub(super) fn tags(pairs: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    pairs.collect()
}

/// The name of a new index.
pub(super) fn index_name(name: Option<&str>) -> Result<String, Failure> {
    let name = name.ok_or_else(|| Failure::invalid("indexName is missing"))?;
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !letters || !begins || name.len() > 63 {
        let shown: String = name.chars().take(80).collect();
        let rule = "1 to 63 letters and digits, a letter first";
        return Err(Failure::invalid(format!("indexName is {shown:?}, it must be {rule}")));
    }
    Ok(name.to_owned())
}

/// What a new index is made for, and its name.
pub(super) fn shape(wire: &IndexRequest) -> Result<(String, Shape), Failure> {
    let name = index_name(wire.index_name.as_deref())?;
    if wire.data_type.as_deref().is_some_and(|kind| kind != "float32") {
        return Err(Failure::invalid("dataType must be float32"));
    }
    let dimension = wire.dimension.unwrap_or(512);
    let metric = match wire.distance_metric.as_deref() {
        Some("euclidean") | None => Metric::Euclidean,
        Some("cosine") => Metric::Cosine,
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            return Err(Failure::invalid(format!("distanceMetric is {shown:?}, it must be euclidean or cosine")));
        }
    };
    let not_filterable =
        wire.metadata.as_ref().map(|metadata| metadata.non_filterable_metadata_keys.clone()).unwrap_or_default();
    let fits = u32::try_from(dimension).ok().filter(|it| (1..=vectors::DIMENSION_MAX).contains(it));
    let dimension = fits.ok_or_else(|| Failure::invalid(format!("dimension is {dimension}, it must be 1 to 4096")))?;
    let shape = Shape { dimension, metric, not_filterable };
    shape.check().map_err(|why| Failure::invalid(why.to_string()))?;
    Ok((name, shape))
}

/// Vectors to put.
pub(super) struct Batch {
    rows: Vec<(String, Numbers, Option<serde_json::Value>)>,
}

impl Batch {
    pub(super) fn parse(wire: PutVectors) -> Result<Self, Failure> {
        let count = wire.vectors.len();
        if !(1..=BATCH_ROWS_MAX).contains(&count) {
            return Err(Failure::invalid(format!("{count} vectors, 1 to {BATCH_ROWS_MAX} allowed")));
        }
        let mut rows = Vec::with_capacity(count);
        for (place, vector) in wire.vectors.into_iter().enumerate() {
            let key = vector.key.ok_or_else(|| Failure::invalid(format!("vectors[{place}].key is missing")))?;
            let numbers = vector.data.unwrap_or_default().numbers();
            let numbers = numbers.map_err(|why| Failure::invalid(format!("vectors[{place}].data: {why}")))?;
            rows.push((key, numbers, vector.metadata));
        }
        Ok(Self { rows })
    }

    pub(super) fn texts(&self) -> Vec<String> {
        let text = |(_, numbers, _): &(_, Numbers, _)| match numbers {
            Numbers::OfText(text) => Some(text.clone()),
            Numbers::Known(_) => None,
        };
        self.rows.iter().filter_map(text).collect()
    }

    /// The rows; `embedded` holds a vector for each of [`Self::texts`].
    pub(super) fn rows(
        self,
        entry: &IndexEntry,
        limits: MetadataLimits,
        embedded: Vec<Vec<f32>>,
    ) -> Result<Vec<Row>, Failure> {
        let mut embedded = embedded.into_iter();
        let mut rows = Vec::with_capacity(self.rows.len());
        for (place, (key, numbers, metadata)) in self.rows.into_iter().enumerate() {
            let numbers = match numbers {
                Numbers::Known(numbers) => numbers,
                Numbers::OfText(_) => embedded.next().unwrap_or_default(),
            };
            let row = wire::row(&key, numbers, metadata.as_ref(), entry, limits);
            rows.push(row.map_err(|why| Failure::invalid(format!("vectors[{place}]: {why}")))?);
        }
        Ok(rows)
    }
}

/// Keys, 1 to `max`.
pub(super) fn keys(keys: &[String], max: usize) -> Result<Vec<Key>, Failure> {
    if !(1..=max).contains(&keys.len()) {
        return Err(Failure::invalid(format!("{} keys, 1 to {max} allowed", keys.len())));
    }
    keys.iter().map(|key| Key::parse(key).map_err(|why| Failure::invalid(why.to_string()))).collect()
}

/// Which part of an index a listing goes through, and how many rows of it.
pub(super) fn span(wire: &ListVectors) -> Result<(Span, usize), Failure> {
    let limit = match wire.max_results.unwrap_or(0) {
        0 => LIST_DEFAULT,
        limit => limit,
    };
    if !(1..=LIST_MAX).contains(&limit) {
        return Err(Failure::invalid(format!("maxResults is {limit}, it must be 1 to {LIST_MAX}")));
    }
    let (count, index) = (wire.segment_count.unwrap_or(1), wire.segment_index.unwrap_or(0));
    if !(1..=16).contains(&count) || !(0..count).contains(&index) {
        let rule = "segmentCount must be 1 to 16 and segmentIndex less than it";
        return Err(Failure::invalid(format!("segmentCount is {count}, segmentIndex {index}; {rule}")));
    }
    let span = Span { part: u32::try_from(index).unwrap_or_default(), of: u32::try_from(count).unwrap_or(1) };
    Ok((span, usize::try_from(limit).unwrap_or(1)))
}

/// The numbers of a query.
pub(super) fn numbers(data: Option<WireData>) -> Result<Numbers, Failure> {
    let data = data.ok_or_else(|| Failure::invalid("queryVector is missing"))?;
    data.numbers().map_err(|why| Failure::invalid(format!("queryVector: {why}")))
}

/// The query of an index for a vector.
pub(super) fn query(wire: &QueryVectors, entry: &IndexEntry, vector: Vec<f32>) -> Result<Query, Failure> {
    entry.shape.check_vector(&vector).map_err(|why| Failure::invalid(format!("queryVector: {why}")))?;
    let top_k = wire.top_k.ok_or_else(|| Failure::invalid("topK is missing"))?;
    let neighbours = usize::try_from(top_k).ok().filter(|it| (1..=NEIGHBOURS_MAX).contains(it));
    let neighbours =
        neighbours.ok_or_else(|| Failure::invalid(format!("topK is {top_k}, it must be 1 to {NEIGHBOURS_MAX}")))?;
    // The vendor allows an empty filter, which fits everything.
    let filter =
        wire.filter.as_ref().filter(|filter| !filter.is_null() && filter.as_object().is_none_or(|it| !it.is_empty()));
    if filter.is_some_and(|filter| filter.to_string().len() > FILTER_BYTES_MAX) {
        return Err(Failure::invalid(format!("filter has more than {FILTER_BYTES_MAX} bytes")));
    }
    let filter = filter.map(|json| Filter::parse(json, &entry.shape.not_filterable)).transpose();
    let filter = filter.map_err(|why| Failure::invalid(why.to_string()))?;
    Ok(Query {
        vector,
        neighbours,
        filter,
        want: Want { vector: false, metadata: wire.return_metadata },
        effort: Effort::FULL,
    })
}
