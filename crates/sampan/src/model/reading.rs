//! Reading texts with a model, to learn what its matrices are multiplied with and what it predicts.

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use kernels::{Cpu, KV_BLOCK_TOKENS, KvFormat, Precision};
use models::divergence::{Divergence, Summary};
use models::observe::Importance;
use models::{Checkpoint, Head, KvPool, LogitRows, Qwen3, Recurrence, Sequence, Workspace};

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

    /// Computes tokens that follow those of the window that are read already; `compute` says what of them.
    fn step<'r>(
        &'r mut self,
        tokens: &[u32],
        first_position: usize,
        window: usize,
        compute: impl FnOnce(&Qwen3, &Cpu, &mut KvPool, &[Sequence<'_>], &'r mut Workspace) -> &'r [f32],
    ) -> anyhow::Result<&'r [f32]> {
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
        Ok(compute(&self.model, self.cpu, self.kv.insert(made), &[sequence], &mut self.workspace))
    }

    fn logits(&mut self, tokens: &[u32], first_position: usize, window: usize) -> anyhow::Result<&[f32]> {
        self.step(tokens, first_position, window, |model, cpu, kv, batch, workspace| {
            model.forward(cpu, kv, batch, workspace)
        })
    }

    /// Hidden states behind the final norm.
    fn states(&mut self, tokens: &[u32], first_position: usize, window: usize) -> anyhow::Result<&[f32]> {
        self.step(tokens, first_position, window, |model, cpu, kv, batch, workspace| {
            model.hidden(cpu, kv, batch, workspace)
        })
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
            reader.logits(tokens, index * STEP_TOKENS, window.len())?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(reader.workspace.observed().unwrap_or_default())
}

/// What a model predicts in the second half of every window: the hidden states there, which are small, and what makes
/// logits of them. The model itself is let go.
pub(super) struct Predictions<'a> {
    cpu: &'a Cpu,
    head: Head,
    states: Vec<f32>, // [positions that are counted, H]
    hidden: usize,
}

/// Has a model read the windows.
pub(super) fn predictions<'a>(mut reader: Reader<'a>, windows: &[Vec<u32>]) -> anyhow::Result<Predictions<'a>> {
    let bar = bar("reading", windows.len());
    let hidden = reader.model.config().hidden;
    let mut states = Vec::new();
    for window in windows {
        for (index, tokens) in window.chunks(STEP_TOKENS).enumerate() {
            let position = index * STEP_TOKENS;
            let rows = reader.states(tokens, position, window.len())?.chunks_exact(hidden).enumerate();
            rows.filter(|(row, _)| counts(window, position + row)).for_each(|(_, row)| states.extend_from_slice(row));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let head = reader.model.into_head().context("this model has no vocabulary head")?;
    Ok(Predictions { cpu: reader.cpu, head, states, hidden })
}

/// Whether what is predicted at a position counts: it has something before it, and something follows.
fn counts(window: &[u32], position: usize) -> bool {
    position + 1 > window.len() / 2 && position + 1 < window.len()
}

/// How far the second model's predictions lie from the first's.
pub(super) fn compare(
    first: &Predictions<'_>,
    second: &mut Reader<'_>,
    windows: &[Vec<u32>],
) -> anyhow::Result<Summary> {
    let bar = bar("measuring", windows.len());
    let vocabulary = second.model.config().vocabulary;
    let (mut divergence, mut workspace) = (Divergence::default(), Workspace::default());
    let mut states = first.states.chunks_exact(first.hidden);
    for window in windows {
        for (index, tokens) in window.chunks(STEP_TOKENS).enumerate() {
            let position = index * STEP_TOKENS;
            let counted: Vec<usize> = (0..tokens.len()).filter(|row| counts(window, position + row)).collect();
            let known: Vec<f32> = states.by_ref().take(counted.len()).flatten().copied().collect();
            let before = first.head.logits(first.cpu, &known, &mut workspace);
            let after = second.logits(tokens, position, window.len())?;
            for (&row, before) in counted.iter().zip(before.chunks_exact(vocabulary)) {
                let after = &after[row * vocabulary..(row + 1) * vocabulary];
                divergence.add(before, after, window[position + row + 1]);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    divergence.summary().context("no token was predicted")
}
