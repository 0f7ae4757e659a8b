//! Wire forms of the fusion calls, and what they ask for once they are checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use vectors::{Filter, Metadata, NEIGHBOURS_MAX};

use super::query::{Expression, positive};
use super::ranking::{Normalizer, SortKey};
use super::schema::{Schema, is_hidden};
use crate::buckets::wire::untoken;
use crate::ossvectors::error::Failure;

/// Vector searches of one request; the vendor's limit.
const KNNS_MAX: usize = 3;
/// Neighbours of a search if the request does not say.
const TOP_K_DEFAULT: i64 = 10;
/// Vectors on a page if the request does not say, and at most.
const LIMIT_DEFAULT: i64 = 10;
const LIMIT_MAX: i64 = 1_000;
/// How deep retrievers may be nested, and how many one may hold.
const RETRIEVER_DEPTH_MAX: usize = 4;
const RETRIEVERS_MAX: usize = 10;
/// How much of each ranking counts if the request does not say.
const WINDOW_DEFAULT: i64 = 100;
/// What is added to a rank if the request does not say.
const K_DEFAULT: i64 = 60;
/// Fields to sort by, partitions, and fields to show.
const NAMES_MAX: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PutIndex {
    pub(super) index_name: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) schema_configuration: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PutRows {
    pub(super) vectors: Vec<PutRow>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PutRow {
    pub(super) key: Option<String>,
    pub(super) data: Option<BTreeMap<String, Vec<f32>>>,
    pub(super) metadata: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct QueryFusion {
    pub(super) index_name: Option<String>,
    knn: Option<Value>,
    limit: Option<i64>,
    next_token: Option<String>,
    partition_keys: Option<Vec<String>>,
    query: Option<Value>,
    retriever: Option<Value>,
    return_metadata: Option<bool>,
    return_metadata_fields: Option<Vec<String>>,
    sort: Option<Vec<Map<String, Value>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireKnn {
    field: String,
    query_vector: Vec<f32>,
    top_k: Option<i64>,
    num_candidates: Option<i64>,
    boost: Option<Value>,
    filter: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WireRetriever {
    Simple(WireSimple),
    Knn(WireKnn),
    Rrf(WireRrf),
    Weight(WireWeight),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSimple {
    query: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireRrf {
    k: Option<i64>,
    window_size: Option<i64>,
    retrievers: Vec<WirePart>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireWeight {
    window_size: Option<i64>,
    retrievers: Vec<WirePart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePart {
    retriever: WireRetriever,
    weight: Option<Value>,
    normalizer: Option<Normalizer>,
}

/// A query that is checked.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) schema: Schema,
    pub(super) asked: Asked,
    pub(super) partitions: Option<Filter>,
    pub(super) sort: Vec<SortKey>,
    pub(super) limit: usize,
    pub(super) skipped: usize,
    /// Whether it can go on: the vendor's pages are for queries without vectors.
    pub(super) has_pages: bool,
    pub(super) shown: Option<Shown>,
}

#[derive(Debug)]
pub(super) enum Asked {
    Together { knns: Vec<Knn>, query: Option<Expression> },
    Retriever(Retriever),
}

/// A search of one vector field.
#[derive(Debug)]
pub(super) struct Knn {
    pub(super) field: String,
    /// As long as the vectors of the index.
    pub(super) vector: Vec<f32>,
    pub(super) top_k: usize,
    pub(super) boost: f32,
    pub(super) filter: Option<Filter>,
}

#[derive(Debug)]
pub(super) enum Retriever {
    Simple(Expression),
    Knn(Knn),
    Rrf { k: f32, window: usize, parts: Vec<(Retriever, f32)> },
    Weight { window: usize, parts: Vec<(Retriever, f32, Normalizer)> },
}

/// Which metadata is shown.
#[derive(Debug)]
pub(super) enum Shown {
    All,
    Fields(Vec<String>),
}

impl Shown {
    pub(super) fn of(&self, metadata: &Metadata) -> Value {
        let Value::Object(mut map) = metadata.to_json() else { return Value::Null };
        map.retain(|name, _| match self {
            Self::All => !is_hidden(name),
            Self::Fields(fields) => !is_hidden(name) && fields.contains(name),
        });
        Value::Object(map)
    }
}

impl Plan {
    pub(super) fn parse(schema: Schema, wire: QueryFusion) -> Result<Self, Failure> {
        let is_alone = wire.knn.is_none() && wire.query.is_none() && wire.sort.is_none() && wire.next_token.is_none();
        if wire.retriever.is_some() && !is_alone {
            return Err(Failure::invalid("retriever cannot be given with knn, query, sort or nextToken"));
        }
        if wire.retriever.is_none() && wire.knn.is_none() && wire.query.is_none() {
            return Err(Failure::invalid("one of knn, query and retriever must be given"));
        }
        let has_pages = wire.knn.is_none() && wire.retriever.is_none();
        if wire.next_token.is_some() && !has_pages {
            return Err(Failure::invalid("nextToken goes on with a query without knn only"));
        }
        let limit = bounded("limit", wire.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
        let skipped = wire.next_token.as_deref().map_or(Ok(0), |text| {
            let skipped = untoken(text).and_then(|text| text.parse().ok());
            skipped.ok_or_else(|| Failure::invalid("nextToken is none of ours"))
        })?;
        let partitions = wire.partition_keys.as_deref().map(|keys| partitions(&schema, keys)).transpose()?;
        let sort = sort_keys(&schema, wire.sort.as_deref().unwrap_or_default())?;
        let shown = shown(wire.return_metadata, wire.return_metadata_fields)?;
        let asked = match wire.retriever {
            Some(json) => Asked::Retriever(retriever(&schema, json)?),
            None => together(&schema, wire.knn, wire.query.as_ref())?,
        };
        Ok(Self { schema, asked, partitions, sort, limit, skipped, has_pages, shown })
    }
}

fn partitions(schema: &Schema, keys: &[String]) -> Result<Filter, Failure> {
    if !(1..=NAMES_MAX).contains(&keys.len()) {
        return Err(Failure::invalid(format!("{} partitionKeys, 1 to {NAMES_MAX} allowed", keys.len())));
    }
    schema.partitions(keys).map_err(Failure::invalid)
}

fn shown(all: Option<bool>, fields: Option<Vec<String>>) -> Result<Option<Shown>, Failure> {
    if fields.as_ref().is_some_and(|fields| fields.len() > NAMES_MAX) {
        return Err(Failure::invalid(format!("more than {NAMES_MAX} returnMetadataFields")));
    }
    Ok(match (all, fields) {
        (Some(true), None) => Some(Shown::All),
        (Some(true) | None, Some(fields)) if !fields.is_empty() => Some(Shown::Fields(fields)),
        (Some(true), Some(_)) => Some(Shown::Fields(Vec::new())),
        _ => None,
    })
}

/// A number of the request, or what is taken where there is none.
fn bounded(name: &str, number: Option<i64>, default: i64, max: i64) -> Result<usize, Failure> {
    let number = number.unwrap_or(default);
    let fits = usize::try_from(number).ok().filter(|_| (1..=max).contains(&number));
    fits.ok_or_else(|| Failure::invalid(format!("{name} is {number}, it must be 1 to {max}")))
}

fn together(schema: &Schema, knn: Option<Value>, query: Option<&Value>) -> Result<Asked, Failure> {
    let listed = match knn {
        None => Vec::new(),
        Some(Value::Array(all)) => all,
        Some(one) => vec![one],
    };
    if listed.len() > KNNS_MAX || (listed.is_empty() && query.is_none()) {
        return Err(Failure::invalid(format!("{} vector searches in knn, 1 to {KNNS_MAX} allowed", listed.len())));
    }
    let read = |json: Value| WireKnn::deserialize(json).map_err(|why| Failure::invalid(format!("knn: {why}")));
    let knns = listed.into_iter().map(|json| self::knn(schema, read(json)?)).collect::<Result<_, _>>()?;
    let query = query.map(|json| expression(schema, json)).transpose()?;
    Ok(Asked::Together { knns, query })
}

fn expression(schema: &Schema, json: &Value) -> Result<Expression, Failure> {
    Expression::parse(schema, json).map_err(|why| Failure::invalid(format!("query: {why}")))
}

fn knn(schema: &Schema, wire: WireKnn) -> Result<Knn, Failure> {
    let wrong = |why: String| Failure::invalid(format!("knn: {why}"));
    let field = schema.vector(&wire.field).map_err(wrong)?;
    let vector = schema.padded(field, wire.query_vector).map_err(wrong)?;
    schema.shape().check_vector(&vector).map_err(|why| wrong(format!("queryVector: {why}")))?;
    let most = i64::try_from(NEIGHBOURS_MAX).unwrap_or(i64::MAX);
    let top_k = bounded("topK", wire.top_k, TOP_K_DEFAULT, most)?;
    let candidates = bounded("numCandidates", wire.num_candidates, most, most)?;
    if candidates < top_k {
        return Err(wrong(format!("numCandidates is {candidates}, it must be at least topK, {top_k}")));
    }
    let boost = weight("boost", wire.boost.as_ref())?;
    let filter = wire.filter.as_ref().map(|json| Expression::parse_filter(schema, json)).transpose();
    let filter = filter.map_err(|why| wrong(format!("filter: {why}")))?;
    Ok(Knn { field: wire.field, vector, top_k, boost, filter })
}

fn weight(name: &str, value: Option<&Value>) -> Result<f32, Failure> {
    let Some(value) = value else { return Ok(1.0) };
    positive(value).ok_or_else(|| Failure::invalid(format!("{name} is {value}, it must be a number from 0 to 1e6")))
}

fn retriever(schema: &Schema, json: Value) -> Result<Retriever, Failure> {
    let wire = WireRetriever::deserialize(json).map_err(|why| Failure::invalid(format!("retriever: {why}")))?;
    checked(schema, wire, RETRIEVER_DEPTH_MAX)
}

fn checked(schema: &Schema, wire: WireRetriever, depth_left: usize) -> Result<Retriever, Failure> {
    if depth_left == 0 {
        return Err(Failure::invalid(format!("retrievers are nested deeper than {RETRIEVER_DEPTH_MAX}")));
    }
    match wire {
        WireRetriever::Simple(simple) => expression(schema, &simple.query).map(Retriever::Simple),
        WireRetriever::Knn(wire) => knn(schema, wire).map(Retriever::Knn),
        WireRetriever::Rrf(rrf) => {
            let k = bounded("k", rrf.k, K_DEFAULT, 10_000)? as f32;
            let window = window(rrf.window_size)?;
            let parts = parts(schema, rrf.retrievers, depth_left)?;
            if parts.iter().any(|(_, _, normalizer)| normalizer.is_some()) {
                return Err(Failure::invalid("rrf takes no normalizer"));
            }
            let parts = parts.into_iter().map(|(part, weight, _)| (part, weight)).collect();
            Ok(Retriever::Rrf { k, window, parts })
        }
        WireRetriever::Weight(wire) => {
            let window = window(wire.window_size)?;
            let parts = parts(schema, wire.retrievers, depth_left)?;
            let parts = parts.into_iter().map(|(part, weight, by)| (part, weight, by.unwrap_or_default())).collect();
            Ok(Retriever::Weight { window, parts })
        }
    }
}

fn window(size: Option<i64>) -> Result<usize, Failure> {
    bounded("windowSize", size, WINDOW_DEFAULT, i64::try_from(NEIGHBOURS_MAX).unwrap_or(i64::MAX))
}

type Part = (Retriever, f32, Option<Normalizer>);

fn parts(schema: &Schema, wire: Vec<WirePart>, depth_left: usize) -> Result<Vec<Part>, Failure> {
    if !(1..=RETRIEVERS_MAX).contains(&wire.len()) {
        return Err(Failure::invalid(format!("{} retrievers, 1 to {RETRIEVERS_MAX} allowed", wire.len())));
    }
    let one = |part: WirePart| {
        let weight = weight("weight", part.weight.as_ref())?;
        Ok((checked(schema, part.retriever, depth_left - 1)?, weight, part.normalizer))
    };
    wire.into_iter().map(one).collect()
}

fn sort_keys(schema: &Schema, wire: &[Map<String, Value>]) -> Result<Vec<SortKey>, Failure> {
    if wire.len() > NAMES_MAX {
        return Err(Failure::invalid(format!("{} fields to sort by, {NAMES_MAX} allowed", wire.len())));
    }
    wire.iter().map(|entry| sort_key(schema, entry)).collect()
}

fn sort_key(schema: &Schema, entry: &Map<String, Value>) -> Result<SortKey, Failure> {
    let wrong = || Failure::invalid("sort: an entry is one field with {\"order\": \"asc\" or \"desc\"}");
    let (name, order) = entry.iter().next().filter(|_| entry.len() == 1).ok_or_else(wrong)?;
    let order = order.as_object().filter(|order| order.keys().all(|key| key == "order")).ok_or_else(wrong)?;
    let is_ascending = match order.get("order").map(Value::as_str) {
        None => name != "_score",
        Some(Some("asc")) => true,
        Some(Some("desc")) => false,
        Some(_) => return Err(wrong()),
    };
    match name.as_str() {
        "_score" if is_ascending => Err(Failure::invalid("sort: _score takes the order desc only")),
        "_score" => Ok(SortKey::Score),
        name => {
            let name = schema.compared(name).map_err(|why| Failure::invalid(format!("sort: {why}")))?;
            Ok(SortKey::Field { name, is_ascending })
        }
    }
}
