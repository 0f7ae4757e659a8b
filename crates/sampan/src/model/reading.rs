//! Reading texts with a model, to learn what its matrices are multiplied with and what it predicts.

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use kernels::{Cpu, KV_BLOCK_TOKENS, KvFormat, Precision};
use models::divergence::{Divergence, Summary};
use models::observe::Importance;
use models::{Checkpoint, KvPool, LogitRows, Qwen3, Recurrence, Sequence, Workspace};

use crate::shelf;

/// Tokens of a step: their logits are in memory, of two models at a time.
const STEP_TOKENS: usize = 64;

/// A model that reads window after window.
pub(super) struct Reader<'a> {
    cpu: &'a Cpu,
    model: Qwen3,
    precision: Precision,
    kv: Option<KvPool>,
    workspace: Workspace,
}

impl<'a> Reader<'a> {
    pub(super) fn load(
        cpu: &'a Cpu,
        checkpoint: &Checkpoint,
        name: &str,
        precision: Precision,
    ) -> anyhow::Result<Self> {
        let bar = shelf::loading_bar(name);
        let model = Qwen3::load(cpu, checkpoint, precision, |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let model = model.with_context(|| format!("load the model {name}"))?;
        Ok(Self { cpu, model, precision, kv: None, workspace: Workspace::default() })
    }

    /// Logits of tokens that follow those of the window that are read already.
    fn step(&mut self, tokens: &[u32], first_position: usize, window: usize) -> anyhow::Result<&[f32]> {
        let blocks: Vec<u32> = (0..window.div_ceil(KV_BLOCK_TOKENS) as u32).collect();
        let format = if self.precision == Precision::Exact { KvFormat::F32 } else { KvFormat::Bf16 };
        let made = match self.kv.take() {
            Some(kv) if kv.blocks() as usize >= blocks.len() => kv,
            _ => KvPool::new(self.model.config(), format, blocks.len() as u32)?,
        };
        let sequence = Sequence {
            tokens,
            prompt_tokens: tokens.len(),
            first_position,
            blocks: &blocks,
            state: Recurrence::default(),
            places: None,
            inserted: &[],
            adapter: None,
            logits: LogitRows::All,
        };
        Ok(self.model.forward(self.cpu, self.kv.insert(made), &[sequence], &mut self.workspace))
    }
}

fn bar(doing: &str, windows: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} windows, {eta} left");
    let style = style.expect("the template is ours").progress_chars("=> ");
    ProgressBar::new(windows as u64).with_style(style).with_message(doing.to_owned())
}

/// What counts in the model's matrices while it reads these windows.
pub(super) fn calibrate(reader: &mut Reader<'_>, windows: &[Vec<u32>]) -> anyhow::Result<Importance> {
    let bar = bar("calibrating", windows.len());
    reader.workspace.observe();
    for window in windows {
        for (index, tokens) in window.chunks(STEP_TOKENS).enumerate() {
            reader.step(tokens, index * STEP_TOKENS, window.len())?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(reader.workspace.observed().unwrap_or_default())
}

/// How far the second model's predictions lie from the first's, in the second half of every window.
pub(super) fn compare(
    first: &mut Reader<'_>,
    second: &mut Reader<'_>,
    windows: &[Vec<u32>],
) -> anyhow::Result<Summary> {
    let bar = bar("measuring", windows.len());
    let vocabulary = first.model.config().vocabulary;
    let mut divergence = Divergence::default();
    for window in windows {
        for (index, tokens) in window.chunks(STEP_TOKENS).enumerate() {
            let position = index * STEP_TOKENS;
            let before = first.step(tokens, position, window.len())?;
            let after = second.step(tokens, position, window.len())?;
            let rows = before.chunks_exact(vocabulary).zip(after.chunks_exact(vocabulary)).enumerate();
            for (row, (before, after)) in rows {
                let next = position + row + 1;
                if next > window.len() / 2 && next < window.len() {
                    divergence.add(before, after, window[next]);
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    divergence.summary().context("no token was predicted")
}
