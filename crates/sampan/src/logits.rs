//! `sampan model logits`: the numbers themselves.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use kernels::{KV_BLOCK_TOKENS, KvFormat};
use models::{KvPool, LogitRows, Qwen3, Sequence, Workspace};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::args::Logits;
use crate::{machine, shelf};

/// Positions that one call prints.
const POSITIONS_MAX: usize = 8192;

pub(crate) fn run(logits: &Logits) -> anyhow::Result<()> {
    let entry = shelf::find(&machine::data_folder(&logits.data), &logits.model)?;
    let checkpoint = shelf::open(&entry)?;
    let vocabulary = checkpoint.config.vocabulary;
    let positions = logits.tokens.len();
    ensure!(positions <= POSITIONS_MAX, "{positions} tokens, {POSITIONS_MAX} allowed");
    if let Some(token) = logits.tokens.iter().find(|&&token| token as usize >= vocabulary) {
        anyhow::bail!("token {token} is not below the vocabulary size {vocabulary}");
    }
    let cpu = machine::processor(&logits.processor)?;
    let bar = shelf::loading_bar(&entry.name);
    let model = Qwen3::load(&cpu, &checkpoint, logits.precision.kernel(), |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })
    .with_context(|| format!("load the model {}", entry.name))?;
    bar.finish_and_clear();
    let blocks: Vec<u32> = (0..positions.div_ceil(KV_BLOCK_TOKENS) as u32).collect();
    let mut kv = KvPool::new(model.config(), KvFormat::F32, blocks.len() as u32)?;
    let mut workspace = Workspace::default();
    let sequence = Sequence {
        tokens: &logits.tokens,
        first_position: 0,
        blocks: &blocks,
        state: 0,
        places: None,
        inserted: &[],
        logits: LogitRows::All,
    };
    let numbers = model.forward(&cpu, &mut kv, &[sequence], &mut workspace);

    if let Some(path) = &logits.out {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![positions, vocabulary], &bytes).context("shape the tensor")?;
        return safetensors::serialize_to_file([("logits", view)], None, path)
            .with_context(|| format!("write {}", path.display()));
    }
    if logits.json {
        let rows: Vec<&[f32]> = numbers.chunks_exact(vocabulary).collect();
        return machine::print(&format!("{}\n", json!({"logits": rows})));
    }
    let mut text = String::new();
    for row in numbers.chunks_exact(vocabulary) {
        let line: Vec<String> = row.iter().map(f32::to_string).collect();
        writeln!(text, "{}", line.join(" ")).context("write a line")?;
    }
    machine::print(&text)
}
