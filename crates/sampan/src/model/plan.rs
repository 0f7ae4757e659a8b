//! `sampan model plan`: what of a model fits on a machine, and why not.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use models::convert::config_json;
use netplan::local::{Format, Row, Wanted, best, rows};
use netplan::model::{Model, PRESETS, from_config, preset};
use serde_json::{Value, json};

use super::{bytes, table};
use crate::args::Data;
use crate::machine::{self, print, say};
use crate::shelf::{self, Place};

#[derive(Args)]
pub(crate) struct Plan {
    /// A name from `sampan ls`, a folder, a GGUF file, a config.json, or a preset; `list` lists the presets.
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) data: Data,
    /// Memory of the machine in GB; default: what this one has.
    #[arg(long, value_name = "GB")]
    pub(crate) memory: Option<f64>,
    /// Tokens of a sequence, prompt and answer together.
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub(crate) context: u64,
    /// Sequences at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) concurrency: u64,
    /// GB a second that the memory gives: then each row says how fast one sequence is at most.
    #[arg(long, value_name = "GB/S")]
    pub(crate) bandwidth: Option<f64>,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The longest config.json.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

pub(crate) fn run(plan: &Plan) -> anyhow::Result<()> {
    if plan.model == "list" {
        let lines: String = PRESETS.iter().map(|(name, what)| format!("{name:24} {what}\n")).collect();
        return print(&lines);
    }
    let memory_bytes = match plan.memory {
        Some(gigabytes) => positive("--memory", gigabytes)? * 1e9,
        None => machine::memory_bytes().context("this machine does not say its memory\nhint: --memory GB")? as f64,
    };
    let bandwidth = plan.bandwidth.map(|gigabytes| positive("--bandwidth", gigabytes)).transpose()?;
    let wanted = Wanted {
        memory_bytes,
        context: plan.context,
        sequences: plan.concurrency,
        bandwidth: bandwidth.map(|gigabytes| gigabytes * 1e9),
    };
    let (model, own) = model(plan)?;
    let mut rows = rows(&model, &wanted, own);
    if own.is_some() {
        rows.extend(netplan::local::rows(&model, &wanted, None));
    }
    let chosen = best(&rows).copied();
    if plan.json {
        let told = json!({
            "model": model.name, "notes": model.notes, "parameters": model.parameters().total,
            "active_parameters": model.parameters().active, "memory_bytes": memory_bytes as u64,
            "context": plan.context, "concurrency": plan.concurrency,
            "fits": chosen.map(|row| told(&row)), "rows": rows.iter().map(told).collect::<Vec<_>>(),
        });
        return print(&format!("{}\n", serde_json::to_string_pretty(&told)?));
    }
    show(plan, &wanted, &rows)?;
    for note in &model.notes {
        say(&format!("note: {note}"));
    }
    let what = format!("{} with {} tokens for {} at once", model.name, plan.context, plan.concurrency);
    match chosen {
        Some(row) => say(&format!("{what}: {} with keys in {}", row.weights.name, row.keys.name)),
        None => {
            let least = rows.iter().map(|row| row.short_bytes).fold(f64::INFINITY, f64::min);
            say(&format!("{what} does not fit: {} are missing even in the smallest form", size(least)));
            // What is there as it is, otherwise the smallest form, which keeps the most.
            let of_own =
                own.and_then(|_| rows.iter().find(|row| row.weights.name == "as it is" && row.streamed.is_some()));
            if let Some(row) = of_own.or_else(|| rows.iter().rev().find(|row| row.streamed.is_some())) {
                say(&streams(row));
            }
        }
    }
    Ok(())
}

/// How a mixture runs that does not fit.
fn streams(row: &Row) -> String {
    let Some(streamed) = row.streamed else { return String::new() };
    format!(
        "with --expert-memory {} it runs from its files, in {} with keys in {}: {:.0} % of the experts stay in memory, \
         and a token reads about {} of others, less \
         where the same ones are chosen again; a disk that gives 1 GB/s allows \
         {:.2} tokens/s then",
        streamed.experts_mib,
        row.weights.name,
        row.keys.name,
        streamed.kept * 100.0,
        size(streamed.read_bytes),
        1e9 / streamed.read_bytes.max(1.0),
    )
}

fn positive(name: &str, number: f64) -> anyhow::Result<f64> {
    if !number.is_finite() || number <= 0.0 {
        bail!("{name} {number}: a number above 0 is needed");
    }
    Ok(number)
}

/// The shape, and for what lies here the bytes that it has.
fn model(plan: &Plan) -> anyhow::Result<(Model, Option<(Format, f64)>)> {
    let path = Path::new(&plan.model);
    if path.is_file() && path.extension().is_some_and(|ending| ending == "json") {
        let name = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        return Ok((from_config(&name, &text(path)?)?, None));
    }
    if !path.exists() {
        let known = shelf::find(&machine::data_folder(&plan.data), &plan.model);
        match (known, preset(&plan.model)) {
            (Ok(entry), _) => return opened(&entry),
            (Err(_), Ok(preset)) => return Ok((preset, None)),
            (Err(error), Err(_)) => return Err(error.context("`sampan model plan list` lists the presets")),
        }
    }
    let folder = path.is_dir() && !path.join("model.safetensors").exists();
    if folder && !path.join("model.safetensors.index.json").exists() {
        // Only the shape is here, not the weights.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok((from_config(&name, &text(&path.join("config.json"))?)?, None));
    }
    opened(&shelf::find(&machine::data_folder(&plan.data), &plan.model)?)
}

fn opened(entry: &shelf::Entry) -> anyhow::Result<(Model, Option<(Format, f64)>)> {
    let Place::Path(path) = &entry.place else {
        bail!("{} is built in; it fits", entry.name);
    };
    let checkpoint = shelf::open(entry)?;
    let config = match path.is_dir() {
        true => text(&path.join("config.json"))?,
        // A GGUF file says the same in other words.
        false => config_json(&checkpoint).to_string(),
    };
    let model = from_config(&entry.name, &config)?;
    let size = checkpoint.weights.bytes_by_type().values().sum::<u64>() as f64;
    let own = Format { name: "as it is", bits: size * 8.0 / model.parameters().total as f64 };
    Ok((model, Some((own, size))))
}

fn text(path: &Path) -> anyhow::Result<String> {
    let told = || format!("read {}", path.display());
    let size_bytes = std::fs::metadata(path).with_context(told)?.len();
    if size_bytes > CONFIG_BYTES_MAX {
        bail!("{} has {size_bytes} bytes, {CONFIG_BYTES_MAX} allowed", path.display());
    }
    std::fs::read_to_string(path).with_context(told)
}

fn size(number: f64) -> String {
    bytes(number.max(0.0) as u64)
}

fn show(plan: &Plan, wanted: &Wanted, rows: &[Row]) -> anyhow::Result<()> {
    let mut header = vec!["WEIGHTS", "KEYS", "WEIGHTS SIZE", "CACHE", "FITS", "CONTEXT MAX", "AT ONCE MAX"];
    if plan.bandwidth.is_some() {
        header.push("TOKENS/S MAX");
    }
    let may_stream = rows.iter().any(|row| row.streamed.is_some());
    if may_stream {
        header.extend(["EXPERT MEMORY", "READ A TOKEN"]);
    }
    let mut table = table(&header);
    for row in rows {
        let fits = match row.short_bytes {
            short if short > 0.0 => format!("no: {} short", size(short)),
            _ => "yes".to_owned(),
        };
        let mut cells = vec![
            row.weights.name.to_owned(),
            row.keys.name.to_owned(),
            size(row.weights_bytes),
            size(row.cache_bytes),
            fits,
            row.context_max.to_string(),
            row.sequences_max.to_string(),
        ];
        cells.extend(row.tokens_s_max.map(|speed| format!("{speed:.1}")));
        if may_stream {
            let told = row.streamed.map(|row| [format!("{} MiB", row.experts_mib), size(row.read_bytes)]);
            cells.extend(told.unwrap_or_else(|| ["-", "-"].map(str::to_owned)));
        }
        table.add_row(cells);
    }
    print(&format!("{table}\n"))?;
    say(&format!("memory: {}", size(wanted.memory_bytes)));
    Ok(())
}

fn told(row: &Row) -> Value {
    json!({
        "weights": row.weights.name, "bits": row.weights.bits, "keys": row.keys.name,
        "weights_bytes": row.weights_bytes as u64, "cache_bytes": row.cache_bytes as u64,
        "short_bytes": row.short_bytes as u64, "context_max": row.context_max, "concurrency_max": row.sequences_max,
        "tokens_per_second_max": row.tokens_s_max,
        "streamed": row.streamed.map(|row| json!({
            "expert_memory_mib": row.experts_mib, "kept": row.kept, "read_bytes_per_token": row.read_bytes as u64,
        })),
    })
}
