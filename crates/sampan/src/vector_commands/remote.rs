//! The same commands against a server, over its Amazon dialect, signed.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use api::signature::Request;
use api::signature::sigv4::{Signer, sign};
use axum::http::{HeaderMap, HeaderValue, Uri};
use base::Clock as _;
use serde_json::{Value, json};
use vectors::{BATCH_ROWS_MAX, TextField};

use super::args::{
    BucketCommand, CreateIndex, Export, IndexCommand, Ls, Place, Put, Query, VectorsCommand, field_and_words,
};
use super::source::Source;
use super::write::bar;
use super::{metric, names, show};
use crate::machine::{self, SystemClock, say};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The longest answer: a page of a thousand vectors is far below.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How often a write is tried again while compaction lags.
const TRIES_MAX: u32 = 100;
/// How long it waits between.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A server, and with what requests to it are signed.
struct Remote {
    agent: ureq::Agent,
    base: String,
    host: HeaderValue,
    pair: Option<(String, String)>,
}

pub(super) fn run(server: &str, place: &Place, command: &VectorsCommand) -> anyhow::Result<()> {
    let remote = Remote::new(server, place)?;
    match command {
        VectorsCommand::Bucket { command } => bucket(&remote, place, command),
        VectorsCommand::Index { command } => index(&remote, place, command),
        VectorsCommand::Put(command) => put(&remote, command),
        VectorsCommand::Query(command) => query(&remote, place, command),
        VectorsCommand::Ls(command) => list(&remote, place, command),
        VectorsCommand::Export(command) => export(&remote, command),
        VectorsCommand::Verify { .. } | VectorsCommand::Compact { .. } | VectorsCommand::Stats { .. } => {
            bail!("verify, compact and stats work on a data folder\nhint: --data DIR instead of --server")
        }
    }
}

impl Remote {
    fn new(server: &str, place: &Place) -> anyhow::Result<Self> {
        let uri: Uri = server.parse().with_context(|| format!("--server {server:?} is no address"))?;
        ensure!(uri.scheme_str() == Some("http"), "--server {server:?} must begin with http://");
        let host = uri.authority().with_context(|| format!("--server {server:?} names no host"))?;
        let pair = match (&place.access_key, &place.secret) {
            (Some(access_key), Some(secret)) => Some((access_key.clone(), secret.clone())),
            (None, None) => local_pair(place)?,
            _ => bail!("--access-key and --secret are given together"),
        };
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        Ok(Self {
            agent: config.into(),
            base: format!("http://{host}"),
            host: HeaderValue::from_str(host.as_str())?,
            pair,
        })
    }

    /// Asks until the answer is not that the server is busy.
    fn ask(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = body.to_string().into_bytes();
        for _ in 0..TRIES_MAX {
            let (status, answer) = self.send(path, &body)?;
            match status {
                200 => return serde_json::from_slice(&answer).with_context(|| format!("read the answer of {path}")),
                429 => std::thread::sleep(RETRY_AFTER),
                _ => {
                    let said: Value = serde_json::from_slice(&answer).unwrap_or_default();
                    bail!("{}: {}", path.trim_start_matches('/'), said["message"].as_str().unwrap_or("no reason given"))
                }
            }
        }
        bail!("{}: the server was busy {TRIES_MAX} times", path.trim_start_matches('/'))
    }

    fn send(&self, path: &str, body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut request = self.agent.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        if let Some((access_key, secret)) = &self.pair {
            let headers = HeaderMap::from_iter([(axum::http::header::HOST, self.host.clone())]);
            let signed = Request { method: "POST", path, query: "", headers: &headers, body };
            let signer = Signer { access_key, secret, region: "us-east-1", service: "s3vectors" };
            let (date, authorization) = sign(&signed, signer, SystemClock::start().now_ms());
            request = request.header("x-amz-date", date).header("authorization", authorization);
        }
        let mut response = request.send(body).with_context(|| format!("ask {}", self.base))?;
        let status = response.status().as_u16();
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        Ok((status, answer.with_context(|| format!("read the answer of {}", self.base))?))
    }

    /// All items of a listing, page by page.
    fn pages(&self, path: &str, field: &str, ask: &Value, mut take: impl FnMut(&Value) -> bool) -> anyhow::Result<()> {
        let mut ask = ask.clone();
        // Ends: each round moves forward in the listing.
        loop {
            let page = self.ask(path, &ask)?;
            for item in page[field].as_array().into_iter().flatten() {
                if !take(item) {
                    return Ok(());
                }
            }
            match page.get("nextToken") {
                Some(token) if token.is_string() => ask["nextToken"] = token.clone(),
                _ => return Ok(()),
            }
        }
    }
}

/// The pair of this machine's own data folder, if there is one.
fn local_pair(place: &Place) -> anyhow::Result<Option<(String, String)>> {
    let folder = crate::buckets::folder(&machine::data_folder(&place.data));
    if !folder.join("access-key.json").is_file() {
        return Ok(None);
    }
    let pair = crate::buckets::pair(&folder)?;
    Ok(Some((pair.access_key, pair.secret)))
}

fn of_index(name: &str) -> anyhow::Result<Value> {
    let (bucket, index) = names(name)?;
    Ok(json!({"vectorBucketName": bucket.as_str(), "indexName": index.as_str()}))
}

fn text(item: &Value, field: &str) -> String {
    item[field].as_str().unwrap_or_default().to_owned()
}

fn bucket(remote: &Remote, place: &Place, command: &BucketCommand) -> anyhow::Result<()> {
    match command {
        BucketCommand::Create { name } => {
            remote.ask("/CreateVectorBucket", &json!({"vectorBucketName": name}))?;
            say(&format!("created {name}"));
            Ok(())
        }
        BucketCommand::Rm { name } => {
            remote.ask("/DeleteVectorBucket", &json!({"vectorBucketName": name}))?;
            say(&format!("deleted {name}"));
            Ok(())
        }
        BucketCommand::Ls => {
            let mut rows = Vec::new();
            remote.pages("/ListVectorBuckets", "vectorBuckets", &json!({}), |item| {
                let name = text(item, "vectorBucketName");
                rows.push((vec![name.clone()], json!({"bucket": name})));
                true
            })?;
            show(place, &["bucket"], rows.into_iter())
        }
    }
}

fn index(remote: &Remote, place: &Place, command: &IndexCommand) -> anyhow::Result<()> {
    match command {
        IndexCommand::Create(create) => create_index(remote, create),
        IndexCommand::Rm { index } => {
            remote.ask("/DeleteIndex", &of_index(index)?)?;
            say(&format!("deleted {index}"));
            Ok(())
        }
        IndexCommand::Ls { bucket } => {
            let mut rows = Vec::new();
            remote.pages("/ListIndexes", "indexes", &json!({"vectorBucketName": bucket}), |item| {
                let name = text(item, "indexName");
                rows.push((vec![name.clone()], json!({"index": name})));
                true
            })?;
            show(place, &["index"], rows.into_iter())
        }
    }
}

fn create_index(remote: &Remote, create: &CreateIndex) -> anyhow::Result<()> {
    let mut ask = of_index(&create.index)?;
    ask["dataType"] = "float32".into();
    ask["dimension"] = create.dimension.into();
    ask["distanceMetric"] = metric(create.metric.of_engine()).into();
    let text = |field: TextField| match field.language.code() {
        Some(code) => json!({"metadataKey": field.field, "language": code}),
        None => json!({"metadataKey": field.field}),
    };
    let texts: Vec<Value> = create.text_fields()?.into_iter().map(text).collect();
    if let Some(field) = &create.time_to_live {
        ask["timeToLive"] = json!({"metadataKey": field});
    }
    ask["metadataConfiguration"] =
        json!({"nonFilterableMetadataKeys": create.not_filterable, "textSearchConfigurations": texts});
    remote.ask("/CreateIndex", &ask)?;
    say(&format!("created {}", create.index));
    Ok(())
}

fn put(remote: &Remote, put: &Put) -> anyhow::Result<()> {
    let mut source = Source::open(&put.file, &put.key_prefix)?;
    source.skip(put.skip)?;
    let bar = bar(source.rows)?;
    bar.set_position(put.skip);
    let mut written = 0_u64;
    let done = put_all(remote, &put.index, &mut source, |count| {
        written += count;
        bar.inc(count);
    });
    bar.finish_and_clear();
    done.with_context(|| put.hint(written))?;
    say(&format!("wrote {written} vectors to {}", put.index));
    Ok(())
}

/// Writes what a file holds, in batches each of which is there whole or not at all.
fn put_all(remote: &Remote, index: &str, source: &mut Source, mut wrote: impl FnMut(u64)) -> anyhow::Result<()> {
    let mut ask = of_index(index)?;
    let mut batch = Vec::with_capacity(BATCH_ROWS_MAX);
    // Ends: each round takes rows off the file.
    loop {
        let found = source.next()?;
        let is_last = found.is_none();
        if let Some(found) = found {
            let metadata = found.metadata.unwrap_or_else(|| json!({}));
            batch.push(json!({"key": found.key, "data": {"float32": found.vector}, "metadata": metadata}));
        }
        if batch.len() == BATCH_ROWS_MAX || (is_last && !batch.is_empty()) {
            let count = batch.len() as u64;
            ask["vectors"] = std::mem::take(&mut batch).into();
            remote.ask("/PutVectors", &ask)?;
            wrote(count);
        }
        if is_last {
            return Ok(());
        }
    }
}

fn query(remote: &Remote, place: &Place, query: &Query) -> anyhow::Result<()> {
    let mut ask = of_index(&query.index)?;
    ask["topK"] = query.top_k.into();
    ask["returnDistance"] = true.into();
    ask["returnMetadata"] = true.into();
    if query.text.is_empty() {
        ask["effort"] = query.effort.into();
    }
    if let Some(text) = &query.filter {
        ask["filter"] = serde_json::from_str(text).with_context(|| format!("--filter {text:?} is no JSON"))?;
    }
    for asked in &query.text {
        let (field, words) = field_and_words(asked)?;
        if ask["queryTexts"].is_null() {
            ask["queryTexts"] = json!([]);
        }
        let texts = ask["queryTexts"].as_array_mut().context("a list")?;
        texts.push(json!({"metadataKey": field, "text": words}));
    }
    ask["returnScores"] = (!query.text.is_empty()).into();
    ask["queryVector"] = match (&query.vector, &query.key) {
        (None, None) => Value::Null,
        (Some(text), _) => {
            let vector: Vec<f32> =
                serde_json::from_str(text).with_context(|| format!("--vector {text:?} is no list"))?;
            json!({"float32": vector})
        }
        (None, key) => {
            let mut get = of_index(&query.index)?;
            get["keys"] = json!([key]);
            get["returnData"] = true.into();
            let found = remote.ask("/GetVectors", &get)?["vectors"][0]["data"].take();
            ensure!(found.is_object(), "there is no vector {:?}", key.as_deref().unwrap_or_default());
            found
        }
    };
    let mut rows = Vec::new();
    remote.pages("/QueryVectors", "vectors", &ask, |item| {
        let cells = vec![text(item, "key"), rank(item), item["metadata"].to_string()];
        rows.push((cells, item.clone()));
        true
    })?;
    let ranked = if query.text.is_empty() { "distance" } else { "score" };
    show(place, &["key", ranked, "metadata"], rows.into_iter())
}

/// What a row is ranked by: both rankings together, its words, or its distance.
fn rank(item: &Value) -> String {
    let scores = &item["scores"];
    if !scores["fused"].is_null() {
        return scores["fused"].to_string();
    }
    match scores["bm25Scores"].as_array() {
        Some(all) => all.iter().filter_map(|one| one["score"].as_f64()).sum::<f64>().to_string(),
        None => item["distance"].to_string(),
    }
}

fn list(remote: &Remote, place: &Place, ls: &Ls) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    remote.pages("/ListVectors", "vectors", &of_index(&ls.index)?, |item| {
        rows.push((vec![text(item, "key")], item.clone()));
        rows.len() < ls.limit
    })?;
    show(place, &["key"], rows.into_iter())
}

fn export(remote: &Remote, export: &Export) -> anyhow::Result<()> {
    let mut ask = of_index(&export.index)?;
    ask["returnData"] = true.into();
    ask["returnMetadata"] = true.into();
    let mut out = super::read::output(export)?;
    let (mut count, mut failed) = (0_u64, None);
    remote.pages("/ListVectors", "vectors", &ask, |item| {
        let line = json!({"key": item["key"], "vector": item["data"]["float32"], "metadata": item["metadata"]});
        count += 1;
        failed = writeln!(out, "{line}").err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error).context("write a line");
    }
    out.flush().context("write the last lines")?;
    say(&format!("wrote {count} vectors"));
    Ok(())
}
