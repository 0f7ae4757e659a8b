//! `sampan model convert`: a model in another form.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use chat::GgufLists;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use models::Checkpoint;
use models::convert::{Container, Order, Recipe, Written};
use models::embedding::EMBEDDING_END;
use models::observe::Importance;
use models::text::TokenizerSource;
use serde_json::json;

use crate::args::{Data, Processor};
use crate::{machine, shelf};

/// Bytes of one file of safetensors, as Hugging Face's own tools cut them.
const SHARD_BYTES_MAX: u64 = 5_000_000_000;

#[derive(Args)]
pub(crate) struct Convert {
    /// A name from `sampan ls`, a folder or a GGUF file.
    pub(crate) model: String,
    /// Where it is written: NAME.gguf is a GGUF file, anything else a Hugging Face folder. Nothing may be there.
    pub(crate) out: PathBuf,
    /// Format of the numbers.
    #[arg(long = "type", value_enum, default_value = "as-is")]
    pub(crate) numbers: Numbers,
    #[command(flatten)]
    pub(crate) data: Data,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) processor: Processor,
}

/// How numbers are written without being quantised further.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Numbers {
    /// Each as it is stored; what the new form cannot hold exactly (FP8, scattered groups; in folders all blocks)
    /// becomes BF16.
    AsIs,
    F32,
    F16,
    Bf16,
}

impl Numbers {
    fn recipe(self) -> Recipe {
        match self {
            Self::AsIs => Recipe::AsIs,
            Self::F32 => Recipe::F32,
            Self::F16 => Recipe::F16,
            Self::Bf16 => Recipe::Bf16,
        }
    }
}

pub(crate) fn run(convert: &Convert) -> anyhow::Result<()> {
    let entry = shelf::find(&machine::data_folder(&convert.data), &convert.model)?;
    let mut checkpoint = shelf::open(&entry)?;
    let written = write(
        &mut checkpoint,
        &Job {
            name: &entry.name,
            out: &convert.out,
            recipe: convert.numbers.recipe(),
            importance: None,
            threads: threads(&convert.processor),
        },
    )?;
    if convert.json {
        let told = json!({
            "model": entry.name, "out": convert.out, "numbers": written.numbers, "size_bytes": written.size_bytes,
            "bytes_by_format": written.bytes_by_format,
        });
        return machine::print(&format!("{}\n", serde_json::to_string_pretty(&told)?));
    }
    machine::print(&format!("{}\n", convert.out.display()))?;
    let formats: Vec<&str> = written.bytes_by_format.keys().map(String::as_str).collect();
    machine::say(&format!("{}: {} in {}", entry.name, super::bytes(written.size_bytes), formats.join(", ")));
    Ok(())
}

/// A model and how it is to be written.
pub(crate) struct Job<'a> {
    pub(crate) name: &'a str,
    pub(crate) out: &'a Path,
    pub(crate) recipe: Recipe,
    pub(crate) importance: Option<&'a Importance>,
    pub(crate) threads: NonZeroUsize,
}

/// Writes a model, with a bar for whoever waits.
pub(crate) fn write(checkpoint: &mut Checkpoint, job: &Job<'_>) -> anyhow::Result<Written> {
    let is_gguf = job.out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    let container = if is_gguf { Container::Gguf } else { Container::Folder };
    ensure!(job.recipe.fits(container), "{}: a quantised model is a GGUF file; call it NAME.gguf", job.out.display());
    let tokenizer = checkpoint.text.tokenizer.take().map(|source| exchanged(source, container, checkpoint.embeds));
    checkpoint.text.tokenizer = tokenizer.transpose().context("convert the tokenizer")?;
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {percent}%, {eta} left").expect("the template is ours");
    let bar = ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(format!("writing {}", job.name));
    let order = Order {
        name: job.name,
        out: job.out,
        container,
        recipe: job.recipe,
        importance: job.importance,
        threads: job.threads,
        shard_bytes_max: SHARD_BYTES_MAX,
    };
    let written = models::convert::convert(checkpoint, &order, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    written.with_context(|| format!("write {}", job.out.display()))
}

/// The tokenizer as the container has it.
fn exchanged(source: TokenizerSource, container: Container, embeds: bool) -> chat::Result<TokenizerSource> {
    Ok(match (source, container) {
        (TokenizerSource::Json(bytes), Container::Gguf) => {
            let GgufLists { pre, tokens, kinds, merges } = GgufLists::from_json(&bytes)?;
            let [tokens, merges] = [tokens, merges].map(|texts| texts.into_iter().collect());
            TokenizerSource::Gguf { pre, tokens, kinds, merges }
        }
        (TokenizerSource::Gguf { pre, tokens, kinds, merges }, Container::Folder) => {
            let lists = GgufLists { pre, tokens: tokens.to_vec(), kinds, merges: merges.to_vec() };
            TokenizerSource::Json(lists.to_json(embeds.then_some(EMBEDDING_END))?)
        }
        (same, _) => same,
    })
}

/// Threads that encode.
pub(crate) fn threads(processor: &Processor) -> NonZeroUsize {
    processor.threads.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}
