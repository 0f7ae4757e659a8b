//! Decoders that embed or rank: Qwen3-Embedding and Qwen3-Reranker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chat::{Segment, Specials, Tokenizer};
use kernels::{Cpu, KV_BLOCK_TOKENS, KvFormat, Precision};
use models::embedding::{self, EMBEDDING_END, RERANK_ANSWERS, RERANK_PREFIX, RERANK_SUFFIX};
use models::{Checkpoint, Config, KvPool, LogitRows, Qwen3, Recurrence, Sequence, Workspace};

use crate::prompt::TextSide;
use crate::{Error, Result};

/// Rows that are computed together.
pub(super) const GROUP_TOKENS: usize = 512;
/// Texts that are computed together: each has cache blocks of its own, and a recurrent state where there is one.
pub(super) const GROUP_TEXTS: usize = 64;
/// The longest text, in tokens: as OpenAI's, and no more than is computed while somebody waits.
const TEXT_TOKENS_MAX: usize = 8192;

/// A loaded decoder that is read at its last token.
pub(crate) struct Decoder {
    model: Qwen3,
    tokenizer: Arc<Tokenizer>,
    /// The token that ends what is embedded.
    end: u32,
    /// The tokens that "no" and "yes" begin with; in published tokenizers they are one token each.
    answers: Option<[u32; 2]>,
    tokens_max: usize,
    memory: Mutex<Memory>,
}

struct Memory {
    kv: KvPool,
    workspace: Workspace,
}

impl Decoder {
    pub(crate) fn load(
        cpu: &Cpu,
        checkpoint: &Checkpoint,
        precision: Precision,
        format: KvFormat,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let text = TextSide::new(checkpoint, None)?;
        let missing = |what: &str| Error::Unsupported { what: "embedding".to_owned(), why: what.to_owned() };
        let tokenizer = text.tokenizer.ok_or_else(|| missing("this model has no tokenizer"))?;
        let end = tokenizer.token_id(EMBEDDING_END).or_else(|| text.defaults.eos.first().copied());
        let [no, yes] = RERANK_ANSWERS.map(|answer| tokenizer.encode(answer, Specials::AsText));
        let (no, yes) = (no?.first().copied(), yes?.first().copied());
        let config = &checkpoint.config;
        let kv = KvPool::with_slots(config, format, blocks(config), GROUP_TEXTS as u32)?;
        Ok(Self {
            end: end.ok_or_else(|| missing("this model's tokenizer has no token that ends a text"))?,
            answers: no.zip(yes).filter(|(no, yes)| no != yes).map(|(no, yes)| [no, yes]),
            tokens_max: tokens_max(config),
            model: Qwen3::load(cpu, checkpoint, precision, progress)?,
            tokenizer,
            memory: Mutex::new(Memory { kv, workspace: Workspace::default() }),
        })
    }

    /// Bytes that the keys and values of one group or of one long text take.
    pub(crate) fn memory_bytes(config: &Config, format: KvFormat) -> Result<u64> {
        let block_bytes = KvPool::new(config, format, 1)?.block_bytes() as u64;
        Ok(u64::from(blocks(config)) * block_bytes + (GROUP_TEXTS * config.state_bytes()) as u64)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.model.size_bytes() as u64
    }

    pub(crate) fn width(&self) -> usize {
        self.model.config().hidden
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.model.config().vocabulary
    }

    pub(crate) fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    pub(crate) fn encode_text(&self, instruction: Option<&str>, text: &str) -> chat::Result<Vec<u32>> {
        let mut tokens = match instruction {
            Some(instruction) => self.tokenizer.encode(&embedding::query_text(instruction, text), Specials::AsText)?,
            None => self.tokenizer.encode(text, Specials::AsText)?,
        };
        tokens.push(self.end);
        Ok(tokens)
    }

    /// A question to the model, whose document loses its end if it is too long.
    pub(crate) fn encode_pair(&self, instruction: &str, query: &str, document: &str) -> chat::Result<Vec<u32>> {
        let part = |text: &str, specials| self.tokenizer.encode_segments(&[Segment { text, specials }]);
        let mut tokens = part(RERANK_PREFIX, Specials::Parse)?;
        let suffix = part(RERANK_SUFFIX, Specials::Parse)?;
        tokens.extend(part(&embedding::rerank_text(instruction, query, document), Specials::AsText)?);
        tokens.truncate(self.tokens_max - suffix.len());
        tokens.extend(suffix);
        Ok(tokens)
    }

    /// How relevant each row's document is; `None` if the model cannot answer yes or no.
    pub(crate) fn scores(&self, rows: &[Vec<f32>]) -> Option<Vec<f32>> {
        let answers = self.answers.filter(|_| self.model.has_head())?;
        let score = |row: &Vec<f32>| {
            let logits = self.model.logits_of(row, &answers);
            embedding::relevance(logits[0], logits[1])
        };
        Some(rows.iter().map(score).collect())
    }

    /// The hidden states of the last tokens of a group of texts, or of one long text.
    pub(crate) fn rows(&self, cpu: &Cpu, texts: &[Vec<u32>], is_left: &AtomicBool) -> chat::Result<Vec<Vec<f32>>> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Memory { kv, workspace } = &mut *memory;
        let mut free = 0..kv.blocks();
        let blocks: Vec<Vec<u32>> =
            texts.iter().map(|text| free.by_ref().take(text.len().div_ceil(KV_BLOCK_TOKENS)).collect()).collect();
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let mut rows = Vec::new();
        // A group is computed at once; only a text that is a group of its own can be longer.
        for first in (0..longest).step_by(GROUP_TOKENS) {
            if is_left.load(Ordering::Relaxed) {
                return Err(chat::Error::Interrupted { reason: "nobody waits for these vectors".to_owned() });
            }
            let piece = |(index, (text, blocks))| {
                let (text, blocks): (&Vec<u32>, &Vec<u32>) = (text, blocks);
                let end = text.len().min(first + GROUP_TOKENS);
                Sequence {
                    tokens: &text[first..end],
                    prompt_tokens: end - first,
                    first_position: first,
                    blocks,
                    state: Recurrence::in_slot(index),
                    places: None,
                    inserted: &[],
                    adapter: None,
                    logits: if end == text.len() { LogitRows::Last } else { LogitRows::None },
                }
            };
            let batch: Vec<Sequence<'_>> = (0..).zip(texts.iter().zip(&blocks)).map(piece).collect();
            let hidden = self.model.hidden(cpu, kv, &batch, workspace);
            rows.extend(hidden.chunks_exact(self.model.config().hidden).map(<[f32]>::to_vec));
        }
        Ok(rows)
    }
}

fn tokens_max(config: &Config) -> usize {
    config.context_tokens.min(TEXT_TOKENS_MAX)
}

/// Enough for the longest text, and for a group of texts whose last blocks are nearly empty.
fn blocks(config: &Config) -> u32 {
    let of_group = GROUP_TEXTS + GROUP_TOKENS / KV_BLOCK_TOKENS;
    tokens_max(config).div_ceil(KV_BLOCK_TOKENS).max(of_group) as u32
}
