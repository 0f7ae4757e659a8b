//! Recall, latency and memory on a real set of embeddings, on a local folder with every write fsync'd.
//!
//! `measure EMBEDDINGS FOLDER`: EMBEDDINGS holds `base.npy`, `queries.npy` (`f32`) and `gt.npy` (`i32`, the exact
//! neighbours by cosine); FOLDER is empty and receives the index.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement prints and reads the clock")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use base::Rng;
use serde_json::json;
use store::{Folder, Name, Store};
use vectors::{Config, Filter, Index, Key, Metadata, MetadataLimits, Metric, Query, Row, Shape, Want};

/// The rows of a two-dimensional `.npy` file of 4-byte numbers, as bytes.
fn read_npy(path: &Path) -> Result<(usize, Vec<[u8; 4]>)> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..header]).into_owned();
    let shape = text.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next()).context("no shape")?;
    let columns = shape.split(',').nth(1).context("not two-dimensional")?.trim().parse()?;
    Ok((columns, bytes[header..].as_chunks().0.to_vec()))
}

fn floats(path: &Path) -> Result<Vec<Vec<f32>>> {
    let (columns, numbers) = read_npy(path)?;
    let rows = numbers.chunks_exact(columns);
    Ok(rows.map(|row| row.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()).collect())
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn percentiles(mut spans_us: Vec<u128>) -> String {
    spans_us.sort_unstable();
    let at = |percent: usize| spans_us[(spans_us.len() - 1) * percent / 100] as f64 / 1000.0;
    format!("p50 {:.2} ms, p99 {:.2} ms", at(50), at(99))
}

async fn fill(index: &Index, base: &[Vec<f32>]) -> Result<()> {
    let start = Instant::now();
    let mut commits = Vec::new();
    let mut compacting = 0;
    for (batch, rows) in base.chunks(500).enumerate() {
        let of = |(place, vector): (usize, &Vec<f32>)| {
            let number = batch * 500 + place;
            let metadata = Metadata::from_json(&json!({"bucket": number % 100}), &[], MetadataLimits::default())?;
            anyhow::Ok(Row { key: Key::parse(&number.to_string())?, vector: vector.as_slice().into(), metadata })
        };
        let rows = rows.iter().enumerate().map(of).collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        index.put(rows).await?;
        commits.push(began.elapsed().as_micros());
        if index.wants_compaction() {
            let began = Instant::now();
            index.compact().await?;
            compacting += began.elapsed().as_millis();
        }
    }
    index.compact().await?;
    println!(
        "filled in {} ms, of which compaction {compacting} ms; batch of 500: {}",
        start.elapsed().as_millis(),
        percentiles(commits)
    );
    Ok(())
}

async fn ask(index: &Index, base: &[Vec<f32>], queries: &[Vec<f32>], filter: Option<serde_json::Value>) -> Result<()> {
    let bucket = filter.as_ref().and_then(|filter| filter["bucket"]["$lt"].as_u64());
    let parsed = filter.as_ref().map(|filter| Filter::parse(filter, &[])).transpose()?;
    let (mut spans, mut right) = (Vec::new(), 0);
    for vector in queries {
        let mut truth: Vec<(f32, usize)> = (0..base.len())
            .filter(|&row| bucket.is_none_or(|below| (row as u64 % 100) < below))
            .map(|row| (-base[row].iter().zip(vector).map(|(l, r)| l * r).sum::<f32>(), row))
            .collect();
        truth.select_nth_unstable_by(9, |left, right| left.0.total_cmp(&right.0));
        let query = Query { vector: vector.clone(), neighbours: 10, filter: parsed.clone(), want: Want::default() };
        let began = Instant::now();
        let found = index.query(&query).await?;
        spans.push(began.elapsed().as_micros());
        let is_right = |key: &str| truth[..10].iter().any(|(_, row)| row.to_string() == key);
        right += found.iter().filter(|found| is_right(found.key.as_str())).count();
    }
    let recall = right as f64 / (10 * queries.len()) as f64;
    println!("filter {filter:?}: recall@10 {recall:.4}, {}", percentiles(spans));
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (embeddings, root) = (arguments.next().context("EMBEDDINGS")?, arguments.next().context("FOLDER")?);
    let base = floats(&Path::new(&embeddings).join("base.npy"))?;
    let queries = floats(&Path::new(&embeddings).join("queries.npy"))?;
    let store: Arc<dyn Store> = Arc::new(Folder::open(Path::new(&root))?);
    let folder = Name::parse("bucket/index")?;
    let dimension = base.first().context("no rows")?.len() as u32;
    let shape = Shape { dimension, metric: Metric::Cosine, not_filterable: Vec::new() };
    Index::create(&store, &folder, &shape).await?;
    let mut rng = Rng::seeded(1);
    fill(&Index::open(&store, &folder, Config::default(), &mut rng).await?, &base).await?;
    let before = resident_mb();
    let began = Instant::now();
    let index = Index::open(&store, &folder, Config::default(), &mut rng).await?;
    println!(
        "opened in {} ms, {:.1} MB more; {:?}",
        began.elapsed().as_millis(),
        resident_mb() - before,
        index.stats()
    );
    for filter in [None, Some(json!({"bucket": {"$lt": 10}})), Some(json!({"bucket": {"$lt": 1}}))] {
        ask(&index, &base, &queries[..queries.len().min(200)], filter).await?;
    }
    Ok(())
}
