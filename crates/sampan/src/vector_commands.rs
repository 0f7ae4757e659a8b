//! `sampan vectors`: buckets and indexes of a data folder or of a server (`remote`), from the terminal.
//!
//! The folder is opened beside a server that may be running: processes agree on the store, so both see the same, and
//! what is written here is visible there at once.

pub(crate) mod args;
mod parquet;
mod read;
mod remote;
mod source;
mod write;

use std::sync::Arc;

use anyhow::Context as _;
use comfy_table::{Table, presets};
use serde_json::json;
use vectors::{
    Bucket, BucketName, BucketSettings, Catalogue, IndexEntry, IndexName, IndexSettings, Metric, Opened, Select, Shape,
};

use crate::machine::{self, SystemClock, print, say};
use args::{BucketCommand, CreateIndex, IndexCommand, Place, VectorsCommand};

/// Everything that is listed at once.
const LIST_MAX: usize = 10_000;

pub(crate) fn run(place: &Place, command: &VectorsCommand) -> anyhow::Result<()> {
    if let Some(server) = &place.server {
        return remote::run(server, place, command);
    }
    let folder = crate::buckets::folder(&machine::data_folder(&place.data));
    let limits = crate::buckets::limits(place.filterable_bytes)?;
    // A server may be using the folder's cache.
    let options = crate::buckets::StoreOptions { vectors_disk_mib: 0, ..place.store.clone() };
    let catalogue = crate::buckets::catalogue(&folder, &options, SystemClock::start(), limits)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        match command {
            VectorsCommand::Bucket { command } => bucket(&catalogue, place, command).await,
            VectorsCommand::Index { command } => index(&catalogue, place, command).await,
            VectorsCommand::Put(put) => write::put(&catalogue, put).await,
            VectorsCommand::Query(query) => read::query(&catalogue, place, query).await,
            VectorsCommand::Ls(ls) => read::list(&catalogue, place, ls).await,
            VectorsCommand::Export(export) => read::export(&catalogue, export).await,
            VectorsCommand::Verify { index } => read::verify(&catalogue, place, index).await,
            VectorsCommand::Compact { index } => write::compact(&catalogue, place, index).await,
            VectorsCommand::Stats { index } => read::stats(&catalogue, place, index).await,
        }
    })
}

/// An index that is named on the command line, open.
async fn open(catalogue: &Catalogue, name: &str) -> anyhow::Result<(Arc<IndexEntry>, Opened)> {
    let (_, entry) = find(catalogue, name).await?;
    let opened = catalogue.open(&entry).await?;
    Ok((entry, opened))
}

async fn find(catalogue: &Catalogue, name: &str) -> anyhow::Result<(Arc<Bucket>, Arc<IndexEntry>)> {
    let (bucket, index) = names(name)?;
    let bucket = catalogue.bucket(&bucket).await?;
    let entry = catalogue.index(&bucket, &index).await?;
    Ok((bucket, entry))
}

/// `BUCKET/INDEX`
fn names(name: &str) -> anyhow::Result<(BucketName, IndexName)> {
    let (bucket, index) = name.split_once('/').with_context(|| format!("{name:?} is not BUCKET/INDEX"))?;
    Ok((BucketName::parse(bucket)?, IndexName::parse(index)?))
}

async fn bucket(catalogue: &Catalogue, place: &Place, command: &BucketCommand) -> anyhow::Result<()> {
    match command {
        BucketCommand::Create { name } => {
            catalogue.create_bucket(&BucketName::parse(name)?, BucketSettings::default()).await?;
            say(&format!("created {name}"));
            Ok(())
        }
        BucketCommand::Rm { name } => {
            catalogue.delete_bucket(&BucketName::parse(name)?).await?;
            say(&format!("deleted {name}"));
            Ok(())
        }
        BucketCommand::Ls => {
            let all = Select { prefix: "", after: "", limit: LIST_MAX };
            let buckets = catalogue.list_buckets(all).await?.found;
            let rows = buckets.iter().map(|bucket| {
                let row = json!({"bucket": bucket.name.as_str(), "created_ms": bucket.created_ms});
                (vec![bucket.name.to_string()], row)
            });
            show(place, &["bucket"], rows)
        }
    }
}

async fn index(catalogue: &Catalogue, place: &Place, command: &IndexCommand) -> anyhow::Result<()> {
    match command {
        IndexCommand::Create(create) => create_index(catalogue, create).await,
        IndexCommand::Rm { index } => {
            let (bucket, entry) = find(catalogue, index).await?;
            catalogue.delete_index(&bucket, &entry.name).await?;
            say(&format!("deleted {index}"));
            Ok(())
        }
        IndexCommand::Ls { bucket } => {
            let bucket = catalogue.bucket(&BucketName::parse(bucket)?).await?;
            let all = Select { prefix: "", after: "", limit: LIST_MAX };
            let indexes = catalogue.list_indexes(&bucket, all).await?.found;
            let rows = indexes.iter().map(|entry| {
                let (dimension, metric) = (entry.shape.dimension, metric(entry.shape.metric));
                let row = json!({
                    "index": entry.name.as_str(), "dimension": dimension, "metric": metric,
                    "not_filterable": entry.shape.not_filterable, "created_ms": entry.created_ms,
                });
                (vec![entry.name.to_string(), dimension.to_string(), metric.to_owned()], row)
            });
            show(place, &["index", "dimension", "metric"], rows)
        }
    }
}

async fn create_index(catalogue: &Catalogue, create: &CreateIndex) -> anyhow::Result<()> {
    let (bucket, index) = names(&create.index)?;
    let bucket = catalogue.bucket(&bucket).await?;
    let shape = Shape {
        dimension: create.dimension,
        metric: create.metric.of_engine(),
        not_filterable: create.not_filterable.clone(),
    };
    let (texts, time_to_live) = (create.text_fields()?, create.time_to_live.clone());
    let settings = IndexSettings { texts, time_to_live, ..IndexSettings::default() };
    catalogue.create_index(&bucket, &index, shape, settings).await?;
    say(&format!("created {}", create.index));
    Ok(())
}

fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::Euclidean => "euclidean",
    }
}

/// A table for people, or a JSON object a line for scripts.
fn show(
    place: &Place,
    head: &[&str],
    rows: impl Iterator<Item = (Vec<String>, serde_json::Value)>,
) -> anyhow::Result<()> {
    if place.json {
        return print(&rows.map(|(_, row)| format!("{row}\n")).collect::<String>());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    for (cells, _) in rows {
        table.add_row(cells);
    }
    print(&format!("{table}\n"))
}
