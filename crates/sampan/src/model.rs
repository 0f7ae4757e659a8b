//! `sampan ls` and `sampan model show`.

pub(crate) mod convert;
pub(crate) mod plan;
pub(crate) mod quantize;
mod reading;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use comfy_table::{Table, presets};
use models::Checkpoint;
use models::bert::BertFiles;
use serde_json::{Value, json};

use crate::args::{Ls, Show};
use crate::built_in;
use crate::depot;
use crate::machine;
use crate::shelf::{self, Entry, Place};

pub(crate) fn list(ls: &Ls) -> anyhow::Result<()> {
    let entries = shelf::entries(&machine::data_folder(&ls.data))?;
    let cached = depot::cache().map_or_else(Vec::new, |cache| shelf::cached(&cache));
    let rows: Vec<Value> = entries.iter().chain(&cached).map(row).collect();
    if ls.json {
        return machine::print(&format!("{}\n", serde_json::to_string_pretty(&rows)?));
    }
    let mut table = table(&["NAME", "KIND", "PARAMETERS", "SIZE", "CONTEXT", "WHERE"]);
    for row in &rows {
        let text = |field: &str| row[field].as_str().unwrap_or("-").to_owned();
        let parameters = row["parameters"].as_u64().map_or("-".to_owned(), count);
        let size = row["size_bytes"].as_u64().map_or("-".to_owned(), bytes);
        let context = row["context_tokens"].to_string();
        table.add_row([text("name"), text("kind"), parameters, size, context, text("where")]);
    }
    machine::print(&format!("{table}\n"))
}

/// What the console's shelf shows: the same as the two commands.
pub(crate) fn shelf(data: &Path) -> api::Shelf {
    let (here, there) = (data.to_owned(), data.to_owned());
    let list = move || match shelf::entries(&here) {
        Ok(entries) => Ok(entries.iter().map(row).collect()),
        Err(error) => Err(format!("{error:#}")),
    };
    let show = move |name: &str| {
        let entry = match shelf::entries(&there) {
            Ok(entries) => entries.into_iter().find(|entry| entry.name == name)?,
            Err(error) => return Some(Err(format!("{error:#}"))),
        };
        let looked = shelf::open(&entry).map(|checkpoint| facts(&entry, &checkpoint, true));
        Some(looked.map_err(|error| format!("{error:#}")))
    };
    api::Shelf { list: Arc::new(list), show: Arc::new(show) }
}

/// A model that cannot be opened is listed with the reason.
fn row(entry: &Entry) -> Value {
    let place = match &entry.place {
        Place::BuiltIn | Place::BuiltInEmbedder => "built in".to_owned(),
        Place::Path(path) => path.display().to_string(),
    };
    if let Some(row) = encoder_row(entry, &place) {
        return row;
    }
    match shelf::open(entry) {
        Ok(checkpoint) => {
            let config = &checkpoint.config;
            json!({
                "name": entry.name, "kind": config.architecture.model_type(), "parameters": config.parameters().0,
                "size_bytes": size_bytes(&checkpoint), "context_tokens": config.context_tokens, "where": place,
            })
        }
        Err(error) => json!({"name": entry.name, "kind": format!("unreadable: {error:#}"), "where": place}),
    }
}

/// An encoder that turns texts into vectors, if this is one that can be opened.
fn encoder_row(entry: &Entry, place: &str) -> Option<Value> {
    let files = match &entry.place {
        Place::BuiltInEmbedder => BertFiles::embedded(built_in::EMBEDDER_FILES).ok()?,
        Place::Path(path) if BertFiles::are_here(path) => BertFiles::open(path).ok()?,
        Place::BuiltIn | Place::Path(_) => return None,
    };
    let parameters: u64 = files.weights().iter().map(|tensor| tensor.shape().iter().product::<u64>()).sum();
    let size_bytes: u64 = files.weights().bytes_by_type().values().sum();
    Some(json!({
        "name": entry.name, "kind": "bert", "parameters": parameters, "size_bytes": size_bytes,
        "context_tokens": files.tokens_max(), "where": place,
    }))
}

pub(crate) fn show(show: &Show) -> anyhow::Result<()> {
    let entry = shelf::find(&machine::data_folder(&show.data), &show.model)?;
    let checkpoint = shelf::open(&entry)?;
    let facts = facts(&entry, &checkpoint, show.tensors);
    if show.json {
        return machine::print(&format!("{}\n", serde_json::to_string_pretty(&facts)?));
    }
    let mut table = table(&["", ""]);
    for (name, value) in facts.as_object().into_iter().flatten().filter(|(name, _)| *name != "tensors") {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.add_row([name.replace('_', " "), text]);
    }
    machine::print(&format!("{table}\n"))?;
    if show.tensors {
        let mut tensors = self::table(&["TENSOR", "TYPE", "SHAPE"]);
        for tensor in checkpoint.weights.iter() {
            tensors.add_row([
                tensor.name().to_owned(),
                format!("{:?}", tensor.format()),
                format!("{:?}", tensor.shape()),
            ]);
        }
        machine::print(&format!("{tensors}\n"))?;
    }
    Ok(())
}

fn facts(entry: &Entry, checkpoint: &Checkpoint, tensors: bool) -> Value {
    let config = &checkpoint.config;
    let (total, active) = config.parameters();
    let mut formats: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in checkpoint.weights.iter() {
        *formats.entry(format!("{:?}", tensor.format())).or_default() += 1;
    }
    let mut facts = json!({
        "name": entry.name,
        "container": checkpoint.container,
        "architecture": config.architecture.model_type(),
        "parameters": total,
        "active_parameters": active,
        "size_bytes": size_bytes(checkpoint),
        "layers": config.layers,
        "hidden": config.hidden,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocabulary": config.vocabulary,
        "tied_head": config.tied,
        "context_tokens": config.context_tokens,
        "kv_bytes_per_token_bf16": config.kv_numbers_per_token() * 2,
        "tensor_types": formats,
        "has_tokenizer": checkpoint.text.tokenizer.is_some(),
        "has_chat_template": checkpoint.text.chat_template.is_some(),
        "end_tokens": checkpoint.text.generation.eos,
    });
    if let Some(experts) = &config.experts {
        facts["experts"] = json!(experts.count);
        facts["experts_per_token"] = json!(experts.per_token);
    }
    if tensors {
        let list = checkpoint.weights.iter().map(
            |tensor| json!({"name": tensor.name(), "type": format!("{:?}", tensor.format()), "shape": tensor.shape()}),
        );
        facts["tensors"] = list.collect();
    }
    facts
}

fn size_bytes(checkpoint: &Checkpoint) -> u64 {
    checkpoint.weights.bytes_by_type().values().sum()
}

/// A table without frames.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    table
}

/// 596,049,920 as `596 M`.
fn count(number: u64) -> String {
    match number {
        0..1_000_000 => format!("{} k", number / 1000),
        1_000_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.2} B", number as f64 / 1e9),
    }
}

pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1_000_000 => format!("{} kB", number / 1000),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number as f64 / 1e6),
        _ => format!("{:.2} GB", number as f64 / 1e9),
    }
}
