//! Commands that write.

use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use vectors::{BATCH_ROWS_MAX, Catalogue, Compaction, IndexEntry, Key, Metadata, Opened, Row};

use super::args::{Place, Put};
use super::open;
use super::source::{Found, Source};
use crate::machine::{print, say};

pub(super) async fn put(catalogue: &Catalogue, put: &Put) -> anyhow::Result<()> {
    let (entry, index) = open(catalogue, &put.index).await?;
    let mut source = Source::open(&put.file, &put.key_prefix)?;
    source.skip(put.skip)?;
    let bar = bar(source.rows)?;
    bar.set_position(put.skip);
    let mut written = 0_u64;
    let done = put_all(catalogue, (&entry, &index), &mut source, |count| {
        written += count;
        bar.inc(count);
    });
    let done = done.await;
    bar.finish_and_clear();
    done.with_context(|| put.hint(written))?;
    say(&format!("wrote {written} vectors to {}", put.index));
    Ok(())
}

/// Writes what a file holds, in batches each of which is there whole or not at all.
async fn put_all(
    catalogue: &Catalogue,
    (entry, index): (&IndexEntry, &Opened),
    source: &mut Source,
    mut wrote: impl FnMut(u64),
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH_ROWS_MAX);
    // Ends: each round takes rows off the file.
    loop {
        let found = source.next()?;
        let is_last = found.is_none();
        if let Some(found) = found {
            batch.push(row(catalogue, entry, found)?);
        }
        if batch.len() == BATCH_ROWS_MAX || (is_last && !batch.is_empty()) {
            let count = batch.len() as u64;
            write(index, std::mem::take(&mut batch)).await?;
            wrote(count);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Writes rows; compacts when it is due, for nobody else may be there to do it.
async fn write(index: &Opened, rows: Vec<Row>) -> anyhow::Result<()> {
    index.put(rows).await?;
    if index.wants_compaction() {
        index.compact().await?;
    }
    Ok(())
}

fn row(catalogue: &Catalogue, entry: &IndexEntry, found: Found) -> anyhow::Result<Row> {
    let metadata = match &found.metadata {
        Some(json) if !json.is_null() => {
            Metadata::from_json(json, &entry.shape.not_filterable, catalogue.config().metadata)
        }
        _ => Ok(Metadata::default()),
    };
    let metadata = metadata.with_context(|| format!("key {:?}", found.key))?;
    entry.shape.check_vector(&found.vector).with_context(|| format!("key {:?}", found.key))?;
    Ok(Row { key: Key::parse(&found.key)?, vector: found.vector.into(), metadata })
}

/// Progress on stderr; without a terminal nothing is drawn.
pub(super) fn bar(rows: Option<u64>) -> anyhow::Result<ProgressBar> {
    let template = "{bar:30} {pos}/{len} vectors, {per_sec}, {eta} left";
    let bar = match rows {
        Some(rows) => ProgressBar::new(rows).with_style(ProgressStyle::with_template(template)?),
        None => {
            ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {pos} vectors, {per_sec}")?)
        }
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}

pub(super) async fn compact(catalogue: &Catalogue, place: &Place, name: &str) -> anyhow::Result<()> {
    let (_, index) = open(catalogue, name).await?;
    let outcome = index.compact_at_rest().await?;
    index.tidy().await?;
    let (outcome, rows) = match outcome {
        Compaction::Idle => ("idle", 0),
        Compaction::Done { rows } => ("done", rows),
        Compaction::Lost => ("another process was faster", 0),
    };
    if place.json {
        return print(&format!("{}\n", json!({"outcome": outcome, "rows": rows})));
    }
    say(&format!("{outcome}: {rows} rows were written"));
    Ok(())
}
