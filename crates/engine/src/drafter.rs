//! Guesses of a second, smaller model with the same tokenizer.
//!
//! Where prompt lookup knows nothing, the small model says what it holds for likeliest, token by token, and the large
//! one computes all of it in one step. Every token is drawn from the large model's logits by the sequence's own
//! sampler, as with any guess (see `speculation`), so an answer is the same with any draft, and by seed too.
//!
//! The small model has a cache of its own. It follows a sequence as far as it was asked, at most [`ROWS_MAX`] tokens a
//! step, so that a long prompt holds up nobody.

use std::collections::BTreeMap;

use kernels::{Cpu, KV_BLOCK_TOKENS};
use models::{Checkpoint, Config, KvPool, LogitRows, Qwen3, Recurrence, Sequence, Workspace};

use crate::scheduler::SequenceId;
use crate::{Error, Options, Result};

/// Tokens that the small model catches up with in one step.
const ROWS_MAX: usize = 256;
/// Rows from which on a step is computed as a prompt is, faster and less exactly.
const PROMPT_ROWS_MIN: usize = 8;
/// Of the memory for keys and values, the small model gets this part besides.
const KV_SHARE: u64 = 8;

/// The small model with what it has seen.
pub(crate) struct Drafter {
    model: Qwen3,
    kv: KvPool,
    workspace: Workspace,
    free: Vec<u32>,
    followed: BTreeMap<SequenceId, Followed>,
}

/// A sequence that it follows.
#[derive(Default)]
struct Followed {
    blocks: Vec<u32>,
    /// So many of its tokens are in the cache.
    computed: usize,
}

impl Drafter {
    /// Loads the small model for a large one of this shape.
    ///
    /// # Errors
    /// If it has another vocabulary, no head or a recurrent state, or does not load.
    pub(crate) fn load(cpu: &Cpu, draft: &Checkpoint, large: &Checkpoint, options: &Options) -> Result<Self> {
        let (small, vocabulary) = (&draft.config, large.config.vocabulary);
        let refused = |why: String| Error::Unsupported { what: "this draft model".to_owned(), why };
        if !draft.has_head() || small.architecture.is_hybrid() {
            return Err(refused(
                "it must be a decoder with a vocabulary head and without a recurrent state".to_owned(),
            ));
        }
        if small.vocabulary != vocabulary || draft.text.tokenizer != large.text.tokenizer {
            let sizes = format!("{} and {vocabulary} logits", small.vocabulary);
            return Err(refused(format!("it must have the same tokenizer as the model ({sizes})")));
        }
        let model = Qwen3::load(cpu, draft, options.precision, |_, _| {})?;
        let kv = cache(small, options)?;
        let free = (0..kv.blocks()).rev().collect();
        Ok(Self { model, kv, workspace: Workspace::default(), free, followed: BTreeMap::new() })
    }

    /// Bytes of its weights, and of its cache when that is full.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.model.size_bytes() as u64 + u64::from(self.kv.blocks()) * self.kv.block_bytes() as u64
    }

    /// Forgets the sequences that are over.
    pub(crate) fn keep(&mut self, goes_on: impl Fn(SequenceId) -> bool) {
        let free = &mut self.free;
        self.followed.retain(|&id, followed| {
            let stays = goes_on(id);
            if !stays {
                free.append(&mut followed.blocks);
            }
            stays
        });
    }

    /// What may follow these tokens of a sequence, at most `most`; nothing while it is far behind, or without room.
    pub(crate) fn guess(&mut self, cpu: &Cpu, id: SequenceId, tokens: &[u32], most: usize) -> Vec<u32> {
        let length = tokens.len() + most;
        if length > self.model.config().context_tokens {
            return Vec::new();
        }
        let followed = self.followed.entry(id).or_default();
        while followed.blocks.len() * KV_BLOCK_TOKENS < length {
            let Some(block) = self.free.pop() else { return Vec::new() };
            followed.blocks.push(block);
        }
        // A step that came to nothing is asked for again.
        let first = followed.computed.min(tokens.len() - 1);
        let end = tokens.len().min(first + ROWS_MAX);
        followed.computed = end;
        let blocks = followed.blocks.clone();
        if end < tokens.len() {
            self.step(cpu, &blocks, &tokens[first..end], first, LogitRows::None);
            return Vec::new();
        }
        let mut next = self.step(cpu, &blocks, &tokens[first..], first, LogitRows::Last);
        let mut guessed = Vec::with_capacity(most);
        while let Some(token) = next {
            guessed.push(token);
            if guessed.len() == most {
                break;
            }
            next = self.step(cpu, &blocks, &[token], end + guessed.len() - 1, LogitRows::Last);
        }
        guessed
    }

    /// Computes some tokens; the likeliest one after them, if it is wanted.
    fn step(&mut self, cpu: &Cpu, blocks: &[u32], tokens: &[u32], first: usize, logits: LogitRows) -> Option<u32> {
        let prompt_tokens = if tokens.len() < PROMPT_ROWS_MIN { 0 } else { tokens.len() };
        let sequence = Sequence {
            tokens,
            prompt_tokens,
            first_position: first,
            blocks,
            state: Recurrence::default(),
            places: None,
            inserted: &[],
            adapter: None,
            logits,
        };
        let logits = self.model.forward(cpu, &mut self.kv, &[sequence], &mut self.workspace);
        (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).map(|best| best as u32)
    }
}

/// Bytes of keys and values besides those of the large model.
pub(crate) fn cache_bytes(small: &Config, options: &Options) -> Result<u64> {
    let kv = cache(small, options)?;
    Ok(u64::from(kv.blocks()) * kv.block_bytes() as u64)
}

fn cache(small: &Config, options: &Options) -> Result<KvPool> {
    let block_bytes = KvPool::new(small, options.kv_format, 1)?.block_bytes();
    let useful = small.context_tokens.div_ceil(KV_BLOCK_TOKENS) as u64 * options.sequences_max as u64;
    let blocks = (options.kv_bytes / KV_SHARE / block_bytes as u64).clamp(1, useful);
    Ok(KvPool::new(small, options.kv_format, u32::try_from(blocks).unwrap_or(u32::MAX))?)
}
