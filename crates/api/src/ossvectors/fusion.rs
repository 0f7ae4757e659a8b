//! Fusion indexes: several vectors a row, fields of declared types, search by words, and rankings made one.
//!
//! Served is what the vendor's page says of the types `vector`, `string`, `long`, `double` and `bool`, arrays of the
//! latter, a partition key, texts with the analyzer `standard`, `knn`, `query`, both together, and the retrievers
//! `simple`, `knn`, `rrf` and `weight`. Other types, analyzers and operators are refused by name. What the page leaves
//! open is decided thus:
//! * A vector scores `1 - d/2` by its cosine distance `d` (so 1 for the same direction, 0 for the opposite) and
//!   `1 / (1 + d²)` by its Euclidean distance, times `boost`.
//! * A test that holds scores its `boost`, 1 if there is none; a text what its words score by BM25 times its `boost`.
//!   Clauses add up, and so do `knn` and `query`: what either finds is found.
//! * `numCandidates` promises nothing that is not kept anyway: filters are applied before the search.

mod query;
mod ranking;
mod schema;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ledger::usage::Activity;
use serde_json::{Map, Value, json};
use vectors::{
    BATCH_ROWS_MAX, Bucket, BucketName, Effort, Filter, IndexEntry, IndexName, IndexSettings, Key, Metric,
    NEIGHBOURS_MAX, Op, Opened, Query, TextQuery, Want,
};

use super::call::{Call, json as read};
use super::error::Failure;
use crate::buckets::wire::token;
use query::Expression;
use ranking::{Hit, Sum, rank, reciprocal_ranks, sort};
use schema::{Schema, is_hidden, is_main, owner, with_vector};
use wire::{Asked, Knn, Plan, PutRows, Retriever, Shown};

type Answer = Result<Response, Failure>;

/// So many vectors may fit a query before the best of them are chosen.
const MATCHES_MAX: usize = NEIGHBOURS_MAX;

/// Whether an index is one of these.
pub(super) fn is_fusion(entry: &IndexEntry) -> bool {
    entry.settings.fusion.is_some()
}

/// What the vendor shows of such an index beside its name.
pub(super) fn shown(entry: &IndexEntry) -> Option<Value> {
    let schema = entry.settings.fusion.as_deref()?;
    Some(json!({"mode": "fusion", "schemaConfiguration": serde_json::from_str::<Value>(schema).ok()}))
}

pub(super) async fn put_index(call: &Call, bucket: &BucketName) -> Answer {
    let wire: wire::PutIndex = call.json()?;
    if wire.mode.as_deref().is_some_and(|mode| mode != "fusion") {
        return Err(Failure::invalid("mode must be fusion"));
    }
    let name = super::from_wire::index_name(wire.index_name.as_deref())?;
    let name = IndexName::parse(&name).map_err(|why| Failure::invalid(why.to_string()))?;
    let json = wire.schema_configuration.ok_or_else(|| Failure::invalid("schemaConfiguration is missing"))?;
    let schema = Schema::parse(&json)?;
    // The vendor's pages name either action.
    call.bucket(bucket, "PutVectorIndexFusion").await?;
    let bucket = call.bucket(bucket, "PutVectorIndex").await?;
    let (texts, fusion) = (schema.texts().collect(), Some(json.to_string()));
    let settings = IndexSettings { texts, fusion, ..IndexSettings::default() };
    call.buckets.catalogue.create_index(&bucket, &name, schema.shape(), settings).await.map_err(call.failed())?;
    Ok(StatusCode::OK.into_response())
}

fn schema_of(entry: &IndexEntry) -> Result<Schema, Failure> {
    let not_one = || Failure::invalid(format!("{} is no fusion index; QueryVectors asks it", entry.name));
    Schema::of(&entry.settings).ok_or_else(not_one)?
}

async fn open(call: &Call, entry: &IndexEntry) -> Result<Opened, Failure> {
    call.buckets.catalogue.open(entry).await.map_err(call.failed())
}

/// Puts the vectors of a body.
pub(super) async fn put(call: &Call, bucket: &Bucket, entry: &IndexEntry) -> Result<(), Failure> {
    let schema = schema_of(entry)?;
    let wire: PutRows = read(&call.body)?;
    let count = wire.vectors.len();
    if !(1..=BATCH_ROWS_MAX).contains(&count) {
        return Err(Failure::invalid(format!("{count} vectors, 1 to {BATCH_ROWS_MAX} allowed")));
    }
    let limits = call.buckets.catalogue.config().metadata;
    let mut ops = Vec::with_capacity(count);
    for (place, row) in wire.vectors.into_iter().enumerate() {
        let named = |why: String| Failure::invalid(format!("vectors[{place}]: {why}"));
        let key = row.key.ok_or_else(|| named("key is missing".to_owned()))?;
        let of_row = schema.put(&key, row.data.unwrap_or_default(), row.metadata.as_ref(), limits);
        ops.extend(of_row.map_err(named)?);
    }
    open(call, entry).await?.change(ops).await.map_err(call.failed())?;
    call.count(bucket, Activity::VectorWrite, count);
    Ok(())
}

/// Deletes vectors with all their rows.
pub(super) async fn delete(call: &Call, entry: &IndexEntry, keys: &[Key]) -> Result<(), Failure> {
    let rows = rows_of(&schema_of(entry)?, keys)?;
    open(call, entry).await?.change(rows.into_iter().map(Op::Delete).collect()).await.map_err(call.failed())
}

fn rows_of(schema: &Schema, keys: &[Key]) -> Result<Vec<Key>, Failure> {
    let of_one = keys.iter().map(|key| schema.keys(key.as_str()));
    Ok(of_one.collect::<Result<Vec<_>, _>>().map_err(Failure::invalid)?.into_iter().flatten().collect())
}

/// Vectors as they were sent, in the order of the keys.
pub(super) async fn get(
    call: &Call,
    (bucket, entry): (&Bucket, &IndexEntry),
    keys: &[Key],
    (data, metadata): (bool, bool),
) -> Result<Vec<Value>, Failure> {
    let schema = schema_of(entry)?;
    let rows = open(call, entry).await?.get(&rows_of(&schema, keys)?).await.map_err(call.failed())?;
    let mut vectors: HashMap<Key, Map<String, Value>> = HashMap::new();
    for row in &rows {
        if let Some((field, numbers)) = schema.vector_of(row) {
            vectors.entry(owner(&row.key)).or_default().insert(field.to_owned(), json!(numbers));
        }
    }
    let mains = rows.iter().filter(|row| !is_hidden(row.key.as_str()));
    let shown = mains.map(|row| {
        let mut shown = json!({"key": row.key.as_str()});
        if data {
            shown["data"] = Value::Object(vectors.remove(&row.key).unwrap_or_default());
        }
        if metadata {
            shown["metadata"] = Shown::All.of(&row.metadata);
        }
        shown
    });
    let shown: Vec<Value> = shown.collect();
    if data || metadata {
        call.count(bucket, Activity::VectorRead, shown.len());
    }
    Ok(shown)
}

/// The keys of a listing that are vectors of the API.
pub(super) fn listed(keys: Vec<Key>) -> Vec<Key> {
    keys.into_iter().filter(|key| !is_hidden(key.as_str())).collect()
}

pub(super) async fn query(call: &Arc<Call>, bucket: &BucketName) -> Answer {
    let wire: wire::QueryFusion = call.json()?;
    // The vendor's pages name either action.
    call.index(bucket, wire.index_name.as_deref(), "QueryVectorsFusion").await?;
    let (bucket, entry) = call.index(bucket, wire.index_name.as_deref(), "QueryVectors").await?;
    let plan = Plan::parse(schema_of(&entry)?, wire)?;
    let index = open(call, &entry).await?;
    let id = call.id;
    let answered = call.buckets.compute(async move { answer(&plan, &index, id).await }).await;
    let answer = answered.ok_or_else(Failure::unavailable)??;
    // A search that finds nothing was a search.
    call.count(&bucket, Activity::VectorRead, answer["vectors"].as_array().map_or(0, Vec::len).max(1));
    Ok(Json(answer).into_response())
}

async fn answer(plan: &Plan, index: &Opened, id: RequestId) -> Result<Value, Failure> {
    let search = Search { plan, index, id };
    let mut hits = match &plan.asked {
        Asked::Retriever(retriever) => search.retrieve(retriever).await?,
        Asked::Together { knns, query } => {
            let mut sum = Sum::default();
            for knn in knns {
                sum.add(search.near(knn).await?, 1.0);
            }
            if let Some(query) = query {
                sum.add(search.fitting(query).await?, 1.0);
            }
            sum.ranked()
        }
    };
    if !plan.sort.is_empty() {
        sort(&mut hits, &plan.sort);
    }
    let found = hits.len();
    let page: Vec<Hit> = hits.into_iter().skip(plan.skipped).take(plan.limit).collect();
    let end = plan.skipped + page.len();
    let mut answer = json!({"vectors": search.shown(page).await?});
    if plan.has_pages && end < found {
        answer["nextToken"] = token(&end.to_string()).into();
    }
    Ok(answer)
}

struct Search<'a> {
    plan: &'a Plan,
    index: &'a Opened,
    id: RequestId,
}

impl Search<'_> {
    fn failed(&self) -> impl Fn(vectors::Error) -> Failure + Copy + use<> {
        let id = self.id;
        move |error| Failure::of(&error, id)
    }

    /// All that must hold.
    fn filter(&self, mark: Filter, own: Option<Filter>) -> Filter {
        Filter::All([Some(mark), self.plan.partitions.clone(), own].into_iter().flatten().collect())
    }

    /// The nearest by one vector field.
    async fn near(&self, knn: &Knn) -> Result<Vec<Hit>, Failure> {
        let filter = self.filter(with_vector(&knn.field), knn.filter.clone());
        let want = Want { vector: false, metadata: !self.plan.sort.is_empty() };
        let query = Query {
            vector: knn.vector.clone(),
            neighbours: knn.top_k,
            filter: Some(filter),
            want,
            effort: Effort::FULL,
        };
        let found = self.index.query(&query).await.map_err(self.failed())?;
        let score = |distance: f32| match self.plan.schema.metric {
            Metric::Cosine => 1.0 - distance / 2.0,
            Metric::Euclidean => 1.0 / (1.0 + distance * distance),
        };
        let hit = |found: vectors::Match| Hit {
            key: owner(&found.key),
            score: knn.boost * score(found.distance),
            metadata: found.metadata,
        };
        Ok(found.into_iter().map(hit).collect())
    }

    /// Whatever fits an expression, the best first.
    async fn fitting(&self, query: &Expression) -> Result<Vec<Hit>, Failure> {
        let filter = self.filter(is_main(), query.filter());
        let mut found = HashMap::new();
        if !query.needs_words() {
            let fitting = self.index.select(&filter, MATCHES_MAX).await.map_err(self.failed())?;
            let too_many = || Failure::invalid(format!("more than {MATCHES_MAX} vectors fit the query; narrow it"));
            let no_words = vec![None; query.texts.len()];
            let fitting = fitting.ok_or_else(too_many)?.into_iter();
            found.extend(fitting.map(|(key, metadata)| (key, (metadata, no_words.clone()))));
        }
        if !query.texts.is_empty() {
            let texts = query.texts.iter().map(|text| (text.field.clone(), text.question.clone())).collect();
            let words = TextQuery { vector: None, texts, neighbours: MATCHES_MAX, filter: Some(filter) };
            let rows = self.index.query_texts(&words).await.map_err(self.failed())?;
            found.extend(rows.into_iter().map(|row| (row.key, (row.metadata, row.scores))));
        }
        let scored = found.into_iter().filter_map(|(key, (metadata, words))| {
            let score = query.score(&metadata, &words)?;
            Some(Hit { key, score, metadata: Some(metadata) })
        });
        let mut hits: Vec<Hit> = scored.collect();
        rank(&mut hits);
        Ok(hits)
    }

    /// What a tree of retrievers finds, the best first. Its depth is limited.
    fn retrieve<'a>(&'a self, retriever: &'a Retriever) -> BoxFuture<'a, Result<Vec<Hit>, Failure>> {
        async move {
            match retriever {
                Retriever::Simple(query) => self.fitting(query).await,
                Retriever::Knn(knn) => self.near(knn).await,
                Retriever::Rrf { k, window, parts } => {
                    let mut sum = Sum::default();
                    for (part, weight) in parts {
                        let mut hits = self.retrieve(part).await?;
                        hits.truncate(*window);
                        reciprocal_ranks(&mut hits, *k);
                        sum.add(hits, *weight);
                    }
                    Ok(sum.ranked())
                }
                Retriever::Weight { window, parts } => {
                    let mut sum = Sum::default();
                    for (part, weight, normalizer) in parts {
                        let mut hits = self.retrieve(part).await?;
                        hits.truncate(*window);
                        normalizer.apply(&mut hits);
                        sum.add(hits, *weight);
                    }
                    Ok(sum.ranked())
                }
            }
        }
        .boxed()
    }

    /// Hits as they are shown. One that was deleted meanwhile is left out.
    async fn shown(&self, page: Vec<Hit>) -> Result<Vec<Value>, Failure> {
        let Some(shown) = &self.plan.shown else {
            let bare = page.iter().map(|hit| json!({"key": hit.key.as_str(), "score": hit.score}));
            return Ok(bare.collect());
        };
        let keys: Vec<Key> = page.iter().map(|hit| hit.key.clone()).collect();
        let rows = self.index.get(&keys).await.map_err(self.failed())?;
        let metadata: BTreeMap<&Key, Value> = rows.iter().map(|row| (&row.key, shown.of(&row.metadata))).collect();
        let whole = page.iter().filter_map(|hit| {
            let metadata = metadata.get(&hit.key)?;
            Some(json!({"key": hit.key.as_str(), "score": hit.score, "metadata": metadata}))
        });
        Ok(whole.collect())
    }
}

#[cfg(test)]
mod tests;
