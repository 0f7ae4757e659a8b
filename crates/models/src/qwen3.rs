//! Qwen3 and Qwen3-MoE: weights and forward pass.
//!
//! Notation: `n` rows (tokens of all sequences of a step), `H` width, `nq`/`nk` query and key/value heads, `hd` head
//! width. The pass, for each layer (after Hugging Face transformers' `qwen3` and `qwen3_moe`):
//!
//! ```text
//! h = rms(x);  q, k, v = h Wq, h Wk, h Wv
//! q, k = rope(rms per head(q)), rope(rms per head(k));  cache += k, v
//! x += attention(q, cache) Wo
//! h = rms(x);  x += feed-forward(h)          // dense SwiGLU, or a mixture of experts
//! ```
//! and at the end `logits = rms(x) · head`.

mod feed_forward;
mod load;

use kernels::{AttentionShape, Cpu, HeadNorm, KV_BLOCK_TOKENS, KvCache, KvFormat, Matrix, Rope, Scratch, Span};

use crate::config::Config;
use crate::rope::Frequencies;
use crate::weights::Tensor;
use crate::{Error, Result};
use feed_forward::FeedForward;

/// A model that is ready to compute.
pub struct Qwen3 {
    config: Config,
    frequencies: Frequencies,
    embedding: Tensor,
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    head: Matrix,
}

struct Layer {
    attention_norm: Vec<f32>,
    q: Matrix,
    k: Matrix,
    v: Matrix,
    o: Matrix,
    q_norm: Vec<f32>,
    k_norm: Vec<f32>,
    feed_forward_norm: Vec<f32>,
    feed_forward: FeedForward,
    window: Option<usize>,
}

/// Of which rows of a sequence logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitRows {
    /// None: this is not the end of the prompt.
    None,
    /// The last row.
    Last,
    /// Every row.
    All,
}

/// One sequence's part in a step.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    /// The new tokens, one or more.
    pub tokens: &'a [u32],
    /// Position of the first of them: how many tokens of this sequence are in the cache already.
    pub first_position: usize,
    /// The sequence's blocks of the cache, in order; they must reach to the last new position.
    pub blocks: &'a [u32],
    /// Of which rows logits are wanted.
    pub logits: LogitRows,
}

/// The key/value cache of all layers: `blocks` blocks of [`KV_BLOCK_TOKENS`] tokens that sequences share out.
pub struct KvPool {
    layers: Vec<KvCache>,
    blocks: u32,
}

impl KvPool {
    /// A cache for this model. Memory is taken from the system when blocks are first written.
    ///
    /// # Errors
    /// [`Error::KvCache`] if that much cannot be addressed.
    pub fn new(config: &Config, format: KvFormat, blocks: u32) -> Result<Self> {
        let layer = |_| KvCache::new(config.kv_heads, config.head_dim, format, blocks).map_err(Error::KvCache);
        Ok(Self { layers: (0..config.layers).map(layer).collect::<Result<_>>()?, blocks })
    }

    /// How many blocks there are.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Bytes of one block, all layers together.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.layers.iter().map(KvCache::block_bytes).sum()
    }
}

/// Buffers of a step, kept between steps so that none is allocated twice.
#[derive(Default)]
pub struct Workspace {
    x: Vec<f32>,        // [n, H], the residual stream
    normed: Vec<f32>,   // [n, H]
    q: Vec<f32>,        // [n, nq * hd]
    k: Vec<f32>,        // [n, nk * hd]
    v: Vec<f32>,        // [n, nk * hd]
    attended: Vec<f32>, // [n, nq * hd]
    cos: Vec<f32>,      // [n, hd / 2]
    sin: Vec<f32>,      // [n, hd / 2]
    chosen: Vec<f32>,   // [wanted rows, H]
    logits: Vec<f32>,   // [wanted rows, vocabulary]
    feed_forward: feed_forward::Buffers,
    scratch: Scratch,
}

impl Qwen3 {
    /// The shape.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let of_layer = |layer: &Layer| {
            let attention = [&layer.q, &layer.k, &layer.v, &layer.o].map(Matrix::size_bytes);
            attention.iter().sum::<usize>() + layer.feed_forward.size_bytes()
        };
        self.head.size_bytes() + self.layers.iter().map(of_layer).sum::<usize>()
    }

    /// Computes one step and returns the wanted logits, `[wanted rows, vocabulary]`, in the order of the sequences.
    ///
    /// Keys and values of the new tokens are written to `kv`. Tokens must be below the vocabulary size.
    /// Cost: every weight is read once, whatever the number of rows; experts that no row chose are not read.
    ///
    /// # Panics
    /// If a sequence is empty, its blocks do not reach its last position, or a token is outside the vocabulary: the
    /// caller has to check requests before it makes steps of them.
    pub fn forward<'w>(
        &self,
        cpu: &Cpu,
        kv: &mut KvPool,
        batch: &[Sequence<'_>],
        workspace: &'w mut Workspace,
    ) -> &'w [f32] {
        let w = workspace;
        let spans = self.begin(batch, w);
        for (layer, cache) in self.layers.iter().zip(&mut kv.layers) {
            self.attention(cpu, layer, cache, &spans, w);
            kernels::rms_norm(cpu, &w.x, &layer.feed_forward_norm, self.config.norm_eps, &mut w.normed);
            layer.feed_forward.add(cpu, &w.normed, &mut w.x, &mut w.feed_forward, &mut w.scratch);
        }
        self.wanted_logits(cpu, batch, w);
        &w.logits
    }

    /// Looks the tokens up, computes the rotations and sizes the buffers.
    fn begin<'a>(&self, batch: &[Sequence<'a>], w: &mut Workspace) -> Vec<Span<'a>> {
        let config = &self.config;
        let mut spans = Vec::with_capacity(batch.len());
        let mut rows = 0;
        w.cos.clear();
        w.sin.clear();
        for sequence in batch {
            let end = sequence.first_position + sequence.tokens.len();
            assert!(!sequence.tokens.is_empty(), "a sequence without tokens");
            assert!(
                end <= sequence.blocks.len() * KV_BLOCK_TOKENS,
                "{end} positions, {} blocks",
                sequence.blocks.len()
            );
            self.frequencies.extend(sequence.first_position..end, &mut w.cos, &mut w.sin);
            spans.push(Span {
                first_row: rows,
                rows: sequence.tokens.len(),
                first_position: sequence.first_position,
                blocks: sequence.blocks,
            });
            rows += sequence.tokens.len();
        }
        w.x.resize(rows * config.hidden, 0.0);
        let tokens = batch.iter().flat_map(|sequence| sequence.tokens);
        for (&token, row) in tokens.zip(w.x.chunks_exact_mut(config.hidden)) {
            self.embed(token, row);
        }
        w.normed.resize(rows * config.hidden, 0.0);
        w.q.resize(rows * config.heads * config.head_dim, 0.0);
        w.attended.resize(rows * config.heads * config.head_dim, 0.0);
        w.k.resize(rows * config.kv_heads * config.head_dim, 0.0);
        w.v.resize(rows * config.kv_heads * config.head_dim, 0.0);
        spans
    }

    fn embed(&self, token: u32, row: &mut [f32]) {
        let bytes = self.embedding.bytes();
        let row_bytes = bytes.len() / self.config.vocabulary;
        let start = token as usize * row_bytes;
        assert!((token as usize) < self.config.vocabulary, "token {token} is outside the vocabulary");
        kernels::dequantize(self.embedding.format(), &bytes[start..start + row_bytes], row)
            .expect("the shape of the embedding was checked when it was loaded");
    }

    fn attention(&self, cpu: &Cpu, layer: &Layer, cache: &mut KvCache, spans: &[Span<'_>], w: &mut Workspace) {
        let config = &self.config;
        let (hd, eps) = (config.head_dim, config.norm_eps);
        kernels::rms_norm(cpu, &w.x, &layer.attention_norm, eps, &mut w.normed);
        let mut jobs = [(&layer.q, w.q.as_mut_slice()), (&layer.k, &mut w.k), (&layer.v, &mut w.v)];
        kernels::matmul_group(cpu, &w.normed, &mut jobs, &mut w.scratch);
        let rope = Rope { cos: &w.cos, sin: &w.sin, half: hd / 2 };
        let norm = |weight| Some(HeadNorm { weight, eps });
        kernels::head_norm_rope(cpu, &mut w.q, config.heads, hd, norm(&layer.q_norm), rope);
        kernels::head_norm_rope(cpu, &mut w.k, config.kv_heads, hd, norm(&layer.k_norm), rope);
        kernels::kv_write(cpu, cache, &w.k, &w.v, spans);
        let shape = AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: hd,
            scale: 1.0 / (hd as f32).sqrt(),
            window: layer.window,
        };
        kernels::attention(cpu, cache, &shape, &w.q, spans, &mut w.attended, &mut w.scratch);
        kernels::matmul_add(cpu, &w.attended, &layer.o, &mut w.x, &mut w.scratch);
    }

    fn wanted_logits(&self, cpu: &Cpu, batch: &[Sequence<'_>], w: &mut Workspace) {
        let hidden = self.config.hidden;
        w.chosen.clear();
        let mut first_row = 0;
        for sequence in batch {
            let end = first_row + sequence.tokens.len();
            let wanted = match sequence.logits {
                LogitRows::None => end..end,
                LogitRows::Last => end - 1..end,
                LogitRows::All => first_row..end,
            };
            w.chosen.extend_from_slice(&w.x[wanted.start * hidden..wanted.end * hidden]);
            first_row = end;
        }
        w.normed.resize(w.chosen.len(), 0.0);
        kernels::rms_norm(cpu, &w.chosen, &self.final_norm, self.config.norm_eps, &mut w.normed);
        w.logits.resize(w.chosen.len() / hidden * self.config.vocabulary, 0.0);
        kernels::matmul(cpu, &w.normed, &self.head, &mut w.logits, &mut w.scratch);
    }
}
