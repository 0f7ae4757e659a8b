//! `sampan model quantize`: a model in fewer bits, and what that does to what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use base::Clock as _;
use chat::{Specials, Tokenizer};
use clap::{Args, ValueEnum};
use models::convert::Recipe;
use models::divergence::Summary;
use serde_json::{Value, json};

use super::convert::{Job, threads, write};
use super::reading::{Reader, calibrate, compare, predictions};
use crate::args::{Data, Precision, Processor};
use crate::machine::{self, SystemClock};
use crate::shelf;

/// The shortest window: half of it is read before anything is predicted.
const WINDOW_MIN: usize = 16;

#[derive(Args)]
pub(crate) struct Quantize {
    /// A name from `sampan ls`, a folder or a GGUF file.
    pub(crate) model: String,
    /// The GGUF file that is written. Nothing may be there.
    pub(crate) out: PathBuf,
    /// The mix of formats.
    #[arg(long, value_enum, default_value = "q4-k-m")]
    pub(crate) to: Mix,
    /// A text like those that the model will read: errors then count by what they do to it. Without `--measure` the
    /// last quarter of it is left out here and measures the result.
    #[arg(long, value_name = "FILE")]
    pub(crate) calibrate: Option<PathBuf>,
    /// A text that measures the result: perplexity before and after, and how far predictions moved.
    #[arg(long, value_name = "FILE")]
    pub(crate) measure: Option<PathBuf>,
    /// Tokens of a window; the second half of each is predicted and counted.
    #[arg(long, default_value_t = 512)]
    pub(crate) window: usize,
    /// Windows that are read of each text at most.
    #[arg(long, default_value_t = 64)]
    pub(crate) windows: usize,
    /// How weights and activations are multiplied while texts are read; `fast` is what `up` uses.
    #[arg(long, value_enum, default_value = "exact")]
    pub(crate) precision: Precision,
    #[command(flatten)]
    pub(crate) data: Data,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) processor: Processor,
}

/// Mixes of formats, llama.cpp's by the same names.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Mix {
    /// 8.5 bits a number: hardly to be told from the original.
    #[value(name = "q8-0", alias = "q8_0", alias = "Q8_0")]
    Q8,
    /// 6.6 bits a number.
    #[value(name = "q6-k", alias = "q6_k", alias = "Q6_K")]
    Q6,
    /// 4.5 bits a number, more where it matters most.
    #[value(name = "q4-k-m", alias = "q4_k_m", alias = "Q4_K_M")]
    Q4Km,
    /// 4.5 bits a number, simpler and faster.
    #[value(name = "q4-0", alias = "q4_0", alias = "Q4_0")]
    Q4,
}

impl Mix {
    fn recipe(self) -> Recipe {
        match self {
            Self::Q8 => Recipe::Q8_0,
            Self::Q6 => Recipe::Q6K,
            Self::Q4Km => Recipe::Q4KM,
            Self::Q4 => Recipe::Q4_0,
        }
    }
}

/// Windows of tokens.
type Windows = Vec<Vec<u32>>;

pub(crate) fn run(quantize: &Quantize) -> anyhow::Result<()> {
    ensure!(quantize.window >= WINDOW_MIN, "--window {}: it is at least {WINDOW_MIN}", quantize.window);
    ensure!(quantize.windows > 0, "--windows 0 reads nothing");
    let clock = SystemClock::start();
    let began_us = clock.monotonic_us();
    let entry = shelf::find(&machine::data_folder(&quantize.data), &quantize.model)?;
    let mut checkpoint = shelf::open(&entry)?;
    let most = checkpoint.config.context_tokens;
    ensure!(quantize.window <= most, "--window {}: the model's context is {most} tokens", quantize.window);
    let (calibration, measured) = texts(quantize, &checkpoint)?;
    let before_bytes: u64 = checkpoint.weights.bytes_by_type().values().sum();
    let cpu = machine::processor(&quantize.processor)?;
    let precision = quantize.precision.kernel();

    let is_read = !calibration.is_empty() || !measured.is_empty();
    let mut original = is_read.then(|| Reader::load(&cpu, &checkpoint, &entry.name, precision)).transpose()?;
    let importance = match &mut original {
        Some(reader) if !calibration.is_empty() => Some(calibrate(reader, &calibration)?),
        _ => None,
    };
    // One model at a time: of this one stays what it predicts.
    let expected = match original.take().filter(|_| !measured.is_empty()) {
        Some(reader) => Some(predictions(reader, &measured)?),
        None => None,
    };
    let written = write(
        &mut checkpoint,
        &Job {
            name: &entry.name,
            out: &quantize.out,
            recipe: quantize.to.recipe(),
            importance: importance.as_ref(),
            threads: threads(&quantize.processor),
        },
    )?;
    let summary = match &expected {
        Some(expected) => {
            let (name, quantised) = (quantize.out.display().to_string(), models::Checkpoint::open(&quantize.out)?);
            Some(compare(expected, &mut Reader::load(&cpu, &quantised, &name, precision)?, &measured)?)
        }
        None => None,
    };
    let report = Report {
        model: &entry.name,
        out: &quantize.out,
        before_bytes,
        size_bytes: written.size_bytes,
        numbers: written.numbers,
        formats: written.bytes_by_format,
        calibrated: calibration.iter().map(Vec::len).sum(),
        elapsed_ms: (clock.monotonic_us() - began_us) / 1000,
        summary,
    };
    machine::print(&if quantize.json { report.json()? } else { report.table() })
}

/// The windows to calibrate with and those to measure with.
fn texts(quantize: &Quantize, checkpoint: &models::Checkpoint) -> anyhow::Result<(Windows, Windows)> {
    if quantize.calibrate.is_none() && quantize.measure.is_none() {
        return Ok((Windows::new(), Windows::new()));
    }
    ensure!(checkpoint.has_head(), "this model has no vocabulary head, so it predicts nothing that could be measured");
    let source = checkpoint.text.tokenizer.clone().context("this model has no tokenizer to read a text with")?;
    let tokenizer = engine::tokenizer_of(source)?;
    let read = |path: &Option<PathBuf>| {
        let windows = path.as_deref().map(|path| windows(&tokenizer, path, quantize.window));
        Ok::<_, anyhow::Error>(windows.transpose()?.unwrap_or_default())
    };
    let (mut calibration, mut measured) = (read(&quantize.calibrate)?, read(&quantize.measure)?);
    if quantize.measure.is_none() {
        measured = calibration.split_off(calibration.len() - calibration.len() / 4);
    }
    calibration.truncate(quantize.windows);
    measured.truncate(quantize.windows);
    Ok((calibration, measured))
}

fn windows(tokenizer: &Tokenizer, path: &Path, tokens: usize) -> anyhow::Result<Windows> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let ids = tokenizer.encode(&text, Specials::AsText).with_context(|| format!("encode {}", path.display()))?;
    let windows: Windows = ids.chunks_exact(tokens).map(<[u32]>::to_vec).collect();
    let found = ids.len();
    ensure!(!windows.is_empty(), "{} has {found} tokens, less than one window of {tokens}", path.display());
    Ok(windows)
}

struct Report<'a> {
    model: &'a str,
    out: &'a Path,
    before_bytes: u64,
    size_bytes: u64,
    numbers: u64,
    formats: BTreeMap<String, u64>,
    /// Tokens of calibration.
    calibrated: usize,
    elapsed_ms: u64,
    summary: Option<Summary>,
}

impl Report<'_> {
    fn bits(&self, bytes: u64) -> f64 {
        bytes as f64 * 8.0 / self.numbers as f64
    }

    fn json(&self) -> anyhow::Result<String> {
        let measured = self.summary.map(|summary| {
            json!({
                "tokens": summary.tokens, "perplexity_before": summary.before, "perplexity_after": summary.after,
                "log_ratio_error": summary.ratio_error, "divergence_mean": summary.divergence_mean,
                "divergence_99": summary.divergence_99, "divergence_max": summary.divergence_most,
                "same_choice": summary.same_choice,
            })
        });
        let told: Value = json!({
            "model": self.model, "out": self.out, "numbers": self.numbers, "size_bytes_before": self.before_bytes,
            "size_bytes": self.size_bytes, "bits_per_number": self.bits(self.size_bytes),
            "bytes_by_format": self.formats, "calibration_tokens": self.calibrated, "measured": measured,
            "elapsed_ms": self.elapsed_ms, "peak_rss_bytes": machine::peak_rss_bytes(),
        });
        Ok(format!("{}\n", serde_json::to_string_pretty(&told)?))
    }

    fn table(&self) -> String {
        let mut table = super::table(&["", "BEFORE", "AFTER", ""]);
        let (before, after) = (self.before_bytes, self.size_bytes);
        let share = format!("{:.1} %", after as f64 * 100.0 / before as f64);
        table.add_row(["size".to_owned(), super::bytes(before), super::bytes(after), share]);
        let bits = |bytes| format!("{:.2}", self.bits(bytes));
        table.add_row(["bits a number".to_owned(), bits(before), bits(after), String::new()]);
        if let Some(summary) = &self.summary {
            let ratio = (summary.after / summary.before - 1.0) * 100.0;
            let change = format!("{ratio:+.2} % ± {:.2}", summary.ratio_error * 100.0);
            let [before, after] = [summary.before, summary.after].map(|perplexity| format!("{perplexity:.4}"));
            table.add_row(["perplexity".to_owned(), before, after, change]);
            let tokens = format!("of {} tokens", summary.tokens);
            let nats = |divergence: f64| format!("{divergence:.5}");
            for (name, value, note) in [
                ("divergence, mean (nats)", nats(summary.divergence_mean), tokens.as_str()),
                ("divergence, 99 % below", nats(summary.divergence_99), ""),
                ("divergence, largest", nats(summary.divergence_most), ""),
                ("same first choice", format!("{:.2} %", summary.same_choice * 100.0), ""),
            ] {
                table.add_row([name.to_owned(), String::new(), value, note.to_owned()]);
            }
        }
        let formats: Vec<String> =
            self.formats.iter().map(|(name, size)| format!("{name} {}", super::bytes(*size))).collect();
        let how = match self.calibrated {
            0 => "every number counts alike".to_owned(),
            tokens => format!("weighed by {tokens} tokens of calibration"),
        };
        format!("{table}\n{}: {}; {how}\n", self.out.display(), formats.join(", "))
    }
}
