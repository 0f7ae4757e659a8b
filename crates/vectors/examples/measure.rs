//! Recall, latency, memory and disk on a real set of embeddings, on a local folder with every write fsync'd. One JSON
//! object a line, so that `bench/vectors` can put them beside those of other engines.
//!
//! `measure EMBEDDINGS FOLDER [ROWS [EXHAUSTIVE]]`: EMBEDDINGS holds `base.npy` and `queries.npy` (`f32`) and
//! `base.jsonl` with a `meta` object a line; FOLDER is empty and receives the index, or holds one that an earlier run
//! filled with as many rows, which is then opened and asked, as a process that starts does. With more ROWS than there
//! are, the others are near copies. EXHAUSTIVE is `Config::exhaustive_rows`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement prints and reads the clock")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use base::Rng;
use kernels::codes::CodeKernels;
use serde_json::{Value as Json, json};
use store::{Folder, Name, Store};
use vectors::{Config, Effort, Filter, Index, Key, Metadata, MetadataLimits, Metric, Query, Row, Shape, Want};

/// How much of a near copy is noise.
const NOISE: f32 = 0.05;
/// Efforts that are asked for.
const EFFORTS: [i64; 10] = [10, 20, 25, 30, 35, 40, 45, 50, 60, 80];
/// Queries under each filter.
const FILTERED_QUERIES: usize = 200;
/// How long the two threads ask for the throughput.
const THROUGHPUT: Duration = Duration::from_secs(3);

struct Set {
    dimension: usize,
    rows: usize,
    /// `[rows, dimension]`
    base: Vec<f32>,
    queries: Vec<Vec<f32>>,
    meta: Vec<Json>,
}

impl Set {
    fn read(folder: &Path, rows: Option<usize>) -> Result<Self> {
        let (dimension, mut base) = floats(&folder.join("base.npy"))?;
        let (_, queries) = floats(&folder.join("queries.npy"))?;
        let text = std::fs::read_to_string(folder.join("base.jsonl"))?;
        let meta = text.lines().map(|line| Ok(serde_json::from_str::<Json>(line)?["meta"].take()));
        let meta: Vec<Json> = meta.collect::<Result<_>>()?;
        let known = base.len() / dimension;
        let rows = rows.unwrap_or(known);
        let mut rng = Rng::seeded(5);
        base.truncate(rows * dimension);
        for place in base.len()..rows * dimension {
            let near = base[place % (known * dimension)];
            base.push(near + (rng.unit_f64() as f32 - 0.5) * NOISE);
        }
        let queries = queries.chunks_exact(dimension).map(<[f32]>::to_vec).collect();
        Ok(Self { dimension, rows, base, queries, meta })
    }

    fn vector(&self, row: usize) -> &[f32] {
        &self.base[row * self.dimension..(row + 1) * self.dimension]
    }

    fn meta(&self, row: usize) -> &Json {
        &self.meta[row % self.meta.len()]
    }

    fn row(&self, number: usize, key: &str) -> Result<Row> {
        let metadata = Metadata::from_json(self.meta(number), &[], MetadataLimits::default())?;
        Ok(Row { key: Key::parse(key)?, vector: self.vector(number).into(), metadata })
    }

    /// The ten nearest rows that fit.
    fn truth(&self, query: &[f32], fits: &[bool]) -> Vec<usize> {
        let kernels = CodeKernels::best();
        let order = |row: usize| {
            let vector = self.vector(row);
            -kernels.dot_f32(query, vector) / kernels.dot_f32(vector, vector).sqrt()
        };
        let mut all: Vec<(f32, usize)> = (0..self.rows).filter(|&row| fits[row]).map(|row| (order(row), row)).collect();
        let count = all.len().min(10);
        if all.len() > count {
            all.select_nth_unstable_by(count - 1, |left, right| left.0.total_cmp(&right.0));
        }
        all[..count].iter().map(|&(_, row)| row).collect()
    }
}

/// Columns and numbers of a two-dimensional `.npy` file of `f32`.
fn floats(path: &Path) -> Result<(usize, Vec<f32>)> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..header]).into_owned();
    let shape = text.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next()).context("no shape")?;
    let columns = shape.split(',').nth(1).context("not two-dimensional")?.trim().parse()?;
    let numbers = bytes[header..].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Ok((columns, numbers))
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn folder_mb(path: &Path) -> f64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(facts) if facts.is_dir() => folder_mb(&entry.path()),
            Ok(facts) => facts.len() as f64 / 1e6,
            Err(_) => 0.0,
        })
        .sum()
}

/// The middle and the 99th percentile.
fn percentiles(mut spans: Vec<Duration>) -> (f64, f64) {
    spans.sort_unstable();
    let at = |percent: usize| spans[(spans.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    (at(50), at(99))
}

async fn put(index: &Index, rows: Vec<Row>, spans: &mut Vec<Duration>, compacting: &mut Duration) -> Result<()> {
    let began = Instant::now();
    index.put(rows).await?;
    spans.push(began.elapsed());
    if index.wants_compaction() {
        let began = Instant::now();
        index.compact().await?;
        *compacting += began.elapsed();
    }
    Ok(())
}

async fn fill(index: &Index, set: &Set) -> Result<()> {
    let (start, mut spans, mut compacting) = (Instant::now(), Vec::new(), Duration::ZERO);
    let all: Vec<usize> = (0..set.rows).collect();
    for batch in all.chunks(500) {
        let rows = batch.iter().map(|&row| set.row(row, &row.to_string())).collect::<Result<Vec<_>>>()?;
        put(index, rows, &mut spans, &mut compacting).await?;
    }
    let began = Instant::now();
    // As a server does when nobody writes.
    index.compact_at_rest().await?;
    index.tidy().await?;
    compacting += began.elapsed();
    let (p50, p99) = percentiles(spans);
    let (seconds, compacting) = (start.elapsed().as_secs_f64(), compacting.as_secs_f64());
    println!(
        "{}",
        json!({
            "what": "fill", "seconds": seconds, "compacting_s": compacting, "batch_p50_ms": p50, "batch_p99_ms": p99
        })
    );
    let mut spans = Vec::new();
    for row in 0..200 {
        let began = Instant::now();
        index.put(vec![set.row(row, &row.to_string())?]).await?;
        spans.push(began.elapsed());
    }
    let (p50, p99) = percentiles(spans);
    println!("{}", json!({"what": "insert one", "p50_ms": p50, "p99_ms": p99}));
    Ok(())
}

/// Queries under one filter, and what they should find.
struct Question {
    name: &'static str,
    filter: Option<Filter>,
    matching: usize,
    /// The ten nearest rows of each query.
    truths: Vec<Vec<usize>>,
}

impl Question {
    /// Looks at every row for each of so many queries, before any clock runs.
    fn new(set: &Set, name: &'static str, filter: Option<Json>, queries: usize) -> Result<Self> {
        let filter = filter.map(|filter| Filter::parse(&filter, &[])).transpose()?;
        let limits = MetadataLimits::default();
        let fits = |meta: &Json| -> Result<bool> {
            let metadata = Metadata::from_json(meta, &[], limits)?;
            Ok(filter.as_ref().is_none_or(|filter| filter.matches(&metadata)))
        };
        let fits_meta = set.meta.iter().map(fits).collect::<Result<Vec<bool>>>()?;
        let fits: Vec<bool> = (0..set.rows).map(|row| fits_meta[row % fits_meta.len()]).collect();
        let matching = fits.iter().filter(|&&fits| fits).count();
        let truths = set.queries.iter().take(queries).map(|vector| set.truth(vector, &fits)).collect();
        Ok(Self { name, filter, matching, truths })
    }

    async fn ask(&self, index: &Index, set: &Set, percent: i64) -> Result<()> {
        let (effort, want) = (Effort::percent(percent)?, Want::default());
        let (mut spans, mut right, mut total) = (Vec::new(), 0, 0);
        for (vector, truth) in set.queries.iter().zip(&self.truths) {
            let filter = self.filter.clone();
            let query = Query { vector: vector.clone(), neighbours: 10, filter, want, effort };
            let began = Instant::now();
            let found = index.query(&query).await?;
            spans.push(began.elapsed());
            total += truth.len();
            let keys: Vec<&str> = found.iter().map(|found| found.key.as_str().trim_start_matches('n')).collect();
            right += truth.iter().filter(|row| keys.contains(&row.to_string().as_str())).count();
        }
        let mean = spans.iter().sum::<Duration>().as_secs_f64() / spans.len() as f64;
        let (p50, p99) = percentiles(spans);
        let recall = right as f64 / total.max(1) as f64;
        println!(
            "{}",
            json!({
                "what": "query", "filter": self.name, "effort": percent, "matching": self.matching, "recall": recall,
                "p50_ms": p50, "p99_ms": p99, "per_second": 1.0 / mean
            })
        );
        Ok(())
    }
}

async fn throughput(index: &Arc<Index>, set: &Set) -> Result<()> {
    let (want, effort) = (Want::default(), Effort::FULL);
    let queries = Arc::new(set.queries.clone());
    let tasks: Vec<_> = (0..2_usize)
        .map(|task| {
            let (index, queries) = (Arc::clone(index), Arc::clone(&queries));
            tokio::spawn(async move {
                let (start, mut count) = (Instant::now(), 0_u32);
                while start.elapsed() < THROUGHPUT {
                    let vector = queries[(task * 500 + count as usize) % queries.len()].clone();
                    let query = Query { vector, neighbours: 10, filter: None, want, effort };
                    index.query(&query).await?;
                    count += 1;
                }
                vectors::Result::Ok(f64::from(count) / start.elapsed().as_secs_f64())
            })
        })
        .collect();
    let mut per_second = 0.0;
    for task in tasks {
        per_second += task.await??;
    }
    println!("{}", json!({"what": "throughput", "threads": 2, "queries_per_second": per_second}));
    Ok(())
}

/// A tenth of the rows is deleted and comes back under other keys.
async fn churn(index: &Index, set: &Set) -> Result<()> {
    let changed: Vec<usize> = (0..set.rows).step_by(10).collect();
    let (mut spans, mut compacting) = (Vec::new(), Duration::ZERO);
    for batch in changed.chunks(500) {
        index.delete(batch.iter().map(|row| Key::parse(&row.to_string())).collect::<vectors::Result<_>>()?).await?;
        let rows = batch.iter().map(|&row| set.row(row, &format!("n{row}"))).collect::<Result<Vec<_>>>()?;
        put(index, rows, &mut spans, &mut compacting).await?;
    }
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [embeddings, root, numbers @ ..] = arguments.as_slice() else {
        anyhow::bail!("EMBEDDINGS FOLDER [ROWS [EXHAUSTIVE]]")
    };
    let mut config = Config::default();
    let rows = numbers.first().map(|rows| rows.parse()).transpose()?;
    if let Some(exhaustive) = numbers.get(1) {
        config.exhaustive_rows = exhaustive.parse()?;
    }
    let set = Set::read(Path::new(embeddings), rows)?;
    let store: Arc<dyn Store> = Arc::new(Folder::open(Path::new(root))?);
    let folder = Name::parse("bucket/index")?;
    let shape = Shape { dimension: set.dimension as u32, metric: Metric::Cosine, not_filterable: Vec::new() };
    let mut rng = Rng::seeded(1);
    let is_new = match Index::create(&store, &folder, &shape).await {
        Ok(()) => true,
        Err(vectors::Error::Conflict { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    if is_new {
        fill(&Index::open(&store, &folder, config, &mut rng).await?, &set).await?;
    }
    let first = Question::new(&set, "first", None, 1)?;
    let (before, began) = (resident_mb(), Instant::now());
    let index = Arc::new(Index::open(&store, &folder, config, &mut rng).await?);
    let opened = began.elapsed().as_secs_f64() * 1e3;
    first.ask(&index, &set, 100).await?;
    println!(
        "{}",
        json!({"what": "open", "ms": opened, "rows": set.rows, "disk_mb": folder_mb(Path::new(root)),
        "raw_mb": (set.rows * set.dimension * 4) as f64 / 1e6, "stats": format!("{:?}", index.stats())})
    );
    let queries = set.queries.len().min(if set.rows > 200_000 { 200 } else { 1_000 });
    let all = Question::new(&set, "none", None, queries)?;
    all.ask(&index, &set, 100).await?;
    println!("{}", json!({"what": "memory", "rss_more_mb": resident_mb() - before}));
    for percent in EFFORTS {
        all.ask(&index, &set, percent).await?;
    }
    ask_filtered(&index, &set).await?;
    throughput(&index, &set).await?;
    if is_new {
        ask_after_churn(&index, &set).await?;
        index.compact_at_rest().await?;
        index.tidy().await?;
    }
    println!(
        "{}",
        json!({"what": "end", "stats": format!("{:?}", index.stats()), "disk_mb": folder_mb(Path::new(root))})
    );
    Ok(())
}

async fn ask_filtered(index: &Index, set: &Set) -> Result<()> {
    for (name, filter) in [
        ("10 %", json!({"bucket": {"$lt": 10}})),
        ("1 %", json!({"bucket": 7})),
        ("correlated", json!({"source": "python"})),
        ("rare", json!({"score": {"$lt": 0.0003}})),
    ] {
        let question = Question::new(set, name, Some(filter), FILTERED_QUERIES)?;
        for percent in [20, 100] {
            question.ask(index, set, percent).await?;
        }
    }
    Ok(())
}

async fn ask_after_churn(index: &Index, set: &Set) -> Result<()> {
    churn(index, set).await?;
    Question::new(set, "none, after churn", None, FILTERED_QUERIES)?.ask(index, set, 100).await?;
    let tenth = json!({"bucket": {"$lt": 10}});
    Question::new(set, "10 %, after churn", Some(tenth), FILTERED_QUERIES)?.ask(index, set, 100).await
}
