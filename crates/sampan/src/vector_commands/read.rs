//! Commands that read.

use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vectors::{Catalogue, Effort, Filter, IndexEntry, Key, Opened, PAGE_KEYS_MAX, Row, Span, TextQuery, Want};

use super::args::{Export, Ls, Place, Query, field_and_words};
use super::write::bar;
use super::{find, metric, open, show};
use crate::machine::{print, say};

pub(super) async fn query(catalogue: &Catalogue, place: &Place, query: &Query) -> anyhow::Result<()> {
    let (entry, index) = open(catalogue, &query.index).await?;
    let vector = match (&query.vector, &query.key) {
        (Some(text), _) => serde_json::from_str(text).with_context(|| format!("--vector {text:?} is no list"))?,
        (None, Some(key)) => {
            let found = index.get(&[Key::parse(key)?]).await?;
            found.first().with_context(|| format!("there is no vector {key:?}"))?.vector.to_vec()
        }
        (None, None) => Vec::new(),
    };
    let parse = |text: &String| -> anyhow::Result<Filter> {
        let json: Value = serde_json::from_str(text).with_context(|| format!("--filter {text:?} is no JSON"))?;
        Ok(Filter::parse(&json, &entry.shape.not_filterable)?)
    };
    let filter = query.filter.as_ref().map(parse).transpose()?;
    if !query.text.is_empty() {
        let vector = (!vector.is_empty()).then_some(vector);
        return query_texts(&entry, &index, place, query, (vector, filter)).await;
    }
    let want = Want { vector: false, metadata: true };
    let effort = Effort::percent(query.effort)?;
    let asked = vectors::Query { vector, neighbours: query.top_k, filter, want, effort };
    let found = index.query(&asked).await?;
    let rows = found.iter().map(|row| {
        let metadata = row.metadata.as_ref().map_or(Value::Null, vectors::Metadata::to_json);
        let cells = vec![row.key.as_str().to_owned(), format!("{:.6}", row.distance), metadata.to_string()];
        (cells, json!({"key": row.key.as_str(), "distance": row.distance, "metadata": metadata}))
    });
    show(place, &["key", "distance", "metadata"], rows)
}

/// Hands every page of keys to `take` until it wants no more.
async fn pages(index: &Opened, mut take: impl AsyncFnMut(Vec<Key>) -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let mut after = None;
    // Ends: each round moves forward in the listing.
    loop {
        let page = index.list(Span::ALL, after.as_ref(), PAGE_KEYS_MAX).await?;
        let goes_on = take(page.keys).await?;
        after = page.next;
        if after.is_none() || !goes_on {
            return Ok(());
        }
    }
}

pub(super) async fn list(catalogue: &Catalogue, place: &Place, ls: &Ls) -> anyhow::Result<()> {
    let (_, index) = open(catalogue, &ls.index).await?;
    let mut keys = Vec::new();
    pages(&index, async |some| {
        keys.extend(some);
        Ok(keys.len() < ls.limit)
    })
    .await?;
    keys.truncate(ls.limit);
    let rows = keys.iter().map(|key| (vec![key.as_str().to_owned()], json!({"key": key.as_str()})));
    show(place, &["key"], rows)
}

/// Hands all rows to `take`, and returns how many there were.
async fn rows(index: &Opened, mut take: impl FnMut(&Row) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    index.refresh().await?;
    let bar = bar(Some(index.stats().rows))?;
    let mut count = 0;
    pages(index, async |keys| {
        for row in index.get(&keys).await? {
            take(&row)?;
            count += 1;
            bar.inc(1);
        }
        Ok(true)
    })
    .await?;
    bar.finish_and_clear();
    Ok(count)
}

/// Where an export goes.
pub(super) fn output(export: &Export) -> anyhow::Result<Box<dyn Write>> {
    Ok(match &export.out {
        Some(path) => {
            Box::new(BufWriter::new(File::create(path).with_context(|| format!("write {}", path.display()))?))
        }
        None => Box::new(BufWriter::new(std::io::stdout())),
    })
}

/// By words, and by a vector if there is one.
async fn query_texts(
    entry: &IndexEntry,
    index: &Opened,
    place: &Place,
    query: &Query,
    (vector, filter): (Option<Vec<f32>>, Option<Filter>),
) -> anyhow::Result<()> {
    let known = &entry.settings.texts;
    let text = |asked: &String| {
        let (field, words) = field_and_words(asked)?;
        let field = known.iter().find(|known| known.field == field);
        let field = field.with_context(|| format!("--text {asked:?}: the index has no such text field"))?;
        Ok((field.clone(), words.to_owned()))
    };
    let texts = query.text.iter().map(text).collect::<anyhow::Result<_>>()?;
    let found = index.query_texts(&TextQuery { vector, texts, neighbours: query.top_k, filter }).await?;
    let rows = found.iter().map(|row| {
        let (metadata, words) = (row.metadata.to_json(), row.scores.iter().flatten().sum::<f32>());
        let rank = row.fused.unwrap_or(words);
        let cells = vec![row.key.as_str().to_owned(), format!("{rank:.6}"), metadata.to_string()];
        let json = json!({
            "key": row.key.as_str(), "fused": row.fused, "words": words, "distance": row.distance, "metadata": metadata,
        });
        (cells, json)
    });
    show(place, &["key", "score", "metadata"], rows)
}

pub(super) async fn export(catalogue: &Catalogue, export: &Export) -> anyhow::Result<()> {
    let (_, index) = open(catalogue, &export.index).await?;
    let mut out = output(export)?;
    let line = |row: &Row| {
        let line = json!({"key": row.key.as_str(), "vector": row.vector, "metadata": row.metadata.to_json()});
        writeln!(out, "{line}").context("write a line")
    };
    let count = rows(&index, line).await?;
    out.flush().context("write the last lines")?;
    say(&format!("wrote {count} vectors"));
    Ok(())
}

/// Every object that is read is checked against its checksum by the engine; a damaged one is named.
pub(super) async fn verify(catalogue: &Catalogue, place: &Place, name: &str) -> anyhow::Result<()> {
    let (_, entry) = find(catalogue, name).await?;
    let found = catalogue.verify(&entry).await?;
    if place.json {
        let damaged = found.damaged.iter().map(|damaged| json!({"object": damaged.object, "what": damaged.what}));
        let damaged: Vec<Value> = damaged.collect();
        let facts = json!({
            "checked": found.checked, "row_bytes": found.row_bytes, "log_puts": found.log_puts, "damaged": damaged
        });
        print(&format!("{facts}\n"))?;
    } else {
        for damaged in &found.damaged {
            print(&format!("{}: {}\n", damaged.object, damaged.what))?;
        }
    }
    ensure!(found.damaged.is_empty(), "{} of {name}'s objects are damaged", found.damaged.len());
    if !place.json {
        let in_log = match found.log_puts {
            0 => String::new(),
            1 => " and 1 row that is not compacted yet".to_owned(),
            puts => format!(" and {puts} rows that are not compacted yet"),
        };
        let bytes = found.row_bytes;
        say(&format!("{} objects with {bytes} bytes of rows{in_log} are what was written", found.checked));
    }
    Ok(())
}

pub(super) async fn stats(catalogue: &Catalogue, place: &Place, name: &str) -> anyhow::Result<()> {
    let (entry, index) = open(catalogue, name).await?;
    index.refresh().await?;
    let stats = index.stats();
    let shape = &entry.shape;
    let facts = json!({
        "index": name, "dimension": shape.dimension, "metric": metric(shape.metric), "vectors": stats.rows,
        "not_compacted": stats.tail_rows, "segments": stats.segments, "manifest": stats.manifest,
        "log_next": stats.log_next,
    });
    if place.json {
        return print(&format!("{facts}\n"));
    }
    let lines = facts.as_object().into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (vec![name.clone(), value], Value::Null)
    });
    show(place, &["", ""], lines)
}
