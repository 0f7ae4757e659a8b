//! Reading the fixtures, and running a model on them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use kernels::{Cpu, CpuOptions, Isa, KV_BLOCK_TOKENS, KvFormat, Precision};
use models::{Checkpoint, Inserted, KvPool, LogitRows, Qwen3, Recurrence, Sequence, Workspace};
use safetensors::SafeTensors;
use serde_json::Value;

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

pub(crate) fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join(path)).unwrap()).unwrap()
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// A tensor of a golden file as `f32`.
pub(crate) fn tensor(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap();
    view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Root mean square of the difference over the standard deviation of the truth.
pub(crate) fn relative(found: &[f32], truth: &[f32]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let count = truth.len() as f64;
    let mean = truth.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = truth.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    let off = found.iter().zip(truth).map(|(&a, &b)| f64::from(a - b).powi(2)).sum::<f64>() / count;
    (off / variance).sqrt()
}

/// The largest difference, with its place and both values.
pub(crate) fn worst(found: &[f32], truth: &[f32]) -> (f32, usize, f32, f32) {
    let off = |index: usize| (found[index] - truth[index]).abs();
    let at = (0..found.len()).max_by(|&a, &b| off(a).total_cmp(&off(b))).unwrap();
    (off(at), at, found[at], truth[at])
}

/// A loaded model with its cache.
pub(crate) struct Runner {
    pub(crate) model: Qwen3,
    pub(crate) cpu: Cpu,
    kv: KvPool,
    blocks: Vec<u32>,
    pub(crate) workspace: Workspace,
    /// Tokens from this position on were generated.
    pub(crate) prompt_until: usize,
}

impl Runner {
    pub(crate) fn open(path: &str, precision: Precision, isa: Option<Isa>) -> Self {
        Self::with_room(path, precision, isa, 512)
    }

    /// With a cache for so many tokens.
    pub(crate) fn with_room(path: &str, precision: Precision, isa: Option<Isa>, tokens: usize) -> Self {
        let format = if precision == Precision::Exact { KvFormat::F32 } else { KvFormat::Bf16 };
        Self::with_cache(path, precision, isa, tokens, format)
    }

    /// With keys and values in a format of their own.
    pub(crate) fn with_kv(path: &str, precision: Precision, isa: Option<Isa>, format: KvFormat) -> Self {
        Self::with_cache(path, precision, isa, 512, format)
    }

    fn with_cache(path: &str, precision: Precision, isa: Option<Isa>, tokens: usize, format: KvFormat) -> Self {
        let cpu = Cpu::new(CpuOptions { isa, threads: NonZeroUsize::new(2).unwrap(), is_pinned: false }).unwrap();
        let checkpoint = Checkpoint::open(&fixtures().join(path)).unwrap();
        let model = Qwen3::load(&cpu, &checkpoint, precision, |_, _| {}).unwrap();
        let count = tokens.div_ceil(KV_BLOCK_TOKENS) as u32;
        let kv = KvPool::new(model.config(), format, count).unwrap();
        // In an order that no code can take for granted.
        let blocks = (0..count).rev().collect();
        Self { model, cpu, kv, blocks, workspace: Workspace::default(), prompt_until: usize::MAX }
    }

    pub(crate) fn step(&mut self, tokens: &[u32], first_position: usize, logits: LogitRows) -> Vec<f32> {
        self.step_placed(tokens, first_position, None, &[], logits)
    }

    /// A step of a sequence with pictures.
    pub(crate) fn step_placed(
        &mut self,
        tokens: &[u32],
        first_position: usize,
        places: Option<&[[u32; 3]]>,
        inserted: &[Inserted<'_>],
        logits: LogitRows,
    ) -> Vec<f32> {
        let blocks = &self.blocks;
        let prompt_tokens = self.prompt_until.saturating_sub(first_position).min(tokens.len());
        let sequence = Sequence {
            tokens,
            prompt_tokens,
            first_position,
            blocks,
            state: Recurrence::default(),
            places,
            inserted,
            adapter: None,
            logits,
        };
        self.model.forward(&self.cpu, &mut self.kv, &[sequence], &mut self.workspace).to_vec()
    }

    /// The last hidden state of a sequence, behind the final norm.
    pub(crate) fn hidden(&mut self, tokens: &[u32]) -> Vec<f32> {
        let sequence = Sequence {
            tokens,
            prompt_tokens: tokens.len(),
            first_position: 0,
            blocks: &self.blocks,
            state: Recurrence::default(),
            places: None,
            inserted: &[],
            adapter: None,
            logits: LogitRows::Last,
        };
        self.model.hidden(&self.cpu, &mut self.kv, &[sequence], &mut self.workspace).to_vec()
    }

    /// Logits of every position, `[tokens, vocabulary]`, computed in steps of at most `chunk` tokens.
    pub(crate) fn logits(&mut self, tokens: &[u32], chunk: usize) -> Vec<f32> {
        let mut all = Vec::new();
        for (index, piece) in tokens.chunks(chunk).enumerate() {
            all.extend(self.step(piece, index * chunk, LogitRows::All));
        }
        all
    }

    /// The most likely continuation; stops after `count` tokens, or after one of `ends`.
    pub(crate) fn greedy(&mut self, prompt: &[u32], count: usize, ends: &[u32]) -> Vec<u32> {
        self.prompt_until = prompt.len();
        let mut next = best(&self.step(prompt, 0, LogitRows::Last));
        let mut continued = vec![next];
        while continued.len() < count && !ends.contains(&next) {
            next = best(&self.step(&[next], prompt.len() + continued.len() - 1, LogitRows::Last));
            continued.push(next);
        }
        continued
    }
}

pub(crate) fn best(logits: &[f32]) -> u32 {
    (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}
