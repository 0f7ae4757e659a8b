//! The decoder of the Qwen3 family: weights and forward pass.
//!
//! Notation: `n` rows (tokens of all sequences of a step), `H` width, `nq`/`nk` query and key/value heads, `hd` head
//! width. The pass, for each layer (after Hugging Face transformers' `qwen3`, `qwen3_moe`, `qwen3_next`, `qwen3_5`):
//!
//! ```text
//! x += mixer(rms(x))            // attention; in most layers of the hybrids, gated DeltaNet
//! x += feed-forward(rms(x))     // dense SwiGLU, or a mixture of experts
//! ```
//! and at the end `logits = rms(x) · head`.

mod attention;
mod delta_net;
mod feed_forward;
mod load;
mod low_rank;
mod predictor;

use base::Rng;
use kernels::{
    Cpu, DeltaCopy, DeltaSpan, DeltaStates, Floats, KV_BLOCK_TOKENS, KvCache, KvFormat, Matrix, Role, Rows, Scratch,
    Span,
};

use crate::adapter::Adapter;
use crate::config::Config;
use crate::observe::{Importance, Site};
use crate::rope::Frequencies;
use crate::streaming::{ReadWay, StreamFigures, Streamer};
use crate::vision::Features;
use crate::weight_cache::Keeping;
use crate::weights::Tensor;
use crate::{Error, Result};
pub(crate) use feed_forward::Network;
use feed_forward::{Ahead, FeedForward, Stream, Work};
use low_rank::Adapted;
pub use predictor::{Followed, Predictor};

/// A model that is ready to compute.
pub struct Qwen3 {
    config: Config,
    frequencies: Frequencies,
    /// In the file; `None` if the head has the same numbers.
    embedding: Option<Tensor>,
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    head: Option<Matrix>,
    /// Whoever reads experts that are not in memory, if any are not.
    streamer: Option<Streamer>,
    /// The packed weights on their way to the disk.
    _keeping: Keeping,
}

/// The vocabulary head of a model of which the rest is let go.
pub struct Head {
    matrix: Matrix,
}

impl Head {
    /// Logits `[rows, vocabulary]` of hidden states behind the final norm, `[rows, H]`: the same as [`Qwen3::forward`]
    /// would have returned with them.
    ///
    /// # Panics
    /// If `states` is not whole rows.
    #[must_use]
    pub fn logits<'w>(&self, cpu: &Cpu, states: &[f32], workspace: &'w mut Workspace) -> &'w [f32] {
        workspace.logits_of(cpu, &self.matrix, states)
    }
}

struct Layer {
    mixer_norm: Vec<f32>,
    mixer: Mixer,
    feed_forward_norm: Vec<f32>,
    feed_forward: FeedForward,
}

impl Layer {
    fn size_bytes(&self) -> usize {
        let mixer = match &self.mixer {
            Mixer::Attention(attention) => attention.size_bytes(),
            Mixer::DeltaNet(delta_net) => delta_net.size_bytes(),
        };
        mixer + self.feed_forward.size_bytes()
    }

    /// What is needed to foresee which experts its rows will choose.
    fn ahead(&self, eps: f32) -> Option<Ahead<'_>> {
        match &self.feed_forward {
            FeedForward::Mixture(mixture) => Some(Ahead { norm: &self.feed_forward_norm, eps, mixture }),
            FeedForward::Dense(_) => None,
        }
    }
}

/// How tokens learn of each other.
enum Mixer {
    Attention(Box<attention::Attention>),
    DeltaNet(Box<delta_net::DeltaNet>),
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

/// Features in the places of tokens.
#[derive(Debug, Clone, Copy)]
pub struct Inserted<'a> {
    /// The first of the new tokens that is replaced.
    pub row: usize,
    /// What stands there.
    pub features: &'a Features,
    /// The first of the features that is used.
    pub first: usize,
    /// How many.
    pub count: usize,
}

/// One sequence's part in a step.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    /// The new tokens, one or more.
    pub tokens: &'a [u32],
    /// How many of them, from the first, belong to the prompt; the others were generated. It decides the last bits
    /// ([`Role`]): a token that is computed again must come as what it was.
    pub prompt_tokens: usize,
    /// Position of the first of them: how many tokens of this sequence are in the cache already.
    pub first_position: usize,
    /// The sequence's blocks of the cache, in order; they must reach to the last new position.
    pub blocks: &'a [u32],
    /// Its recurrent state; models without one do not look at it.
    pub state: Recurrence<'a>,
    /// Time, row and column of each new token, if the sequence has pictures; else a token stands where it is counted.
    pub places: Option<&'a [[u32; 3]]>,
    /// Pictures among the new tokens.
    pub inserted: &'a [Inserted<'a>],
    /// What its rows go through besides the weights; it was loaded for this model.
    pub adapter: Option<&'a Adapter>,
    /// Of which rows logits are wanted.
    pub logits: LogitRows,
}

/// What a sequence does with its recurrent state in a step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recurrence<'a> {
    /// Its slot. No two sequences of a step share one, and what a slot held is forgotten by a sequence that begins at
    /// position 0.
    pub slot: u32,
    /// So many of the new tokens, from the last, are guesses: the state does not know them before they are confirmed.
    pub guessed: usize,
    /// So many of the guesses of the slot's last step were right. They stand before the first new token and are in the
    /// cache of keys and values already.
    pub confirmed: usize,
    /// What is kept of the state besides, for whoever goes on from there.
    pub copies: &'a [DeltaCopy],
}

impl Recurrence<'_> {
    /// A state in this slot with nothing uncertain about it.
    #[must_use]
    pub fn in_slot(slot: u32) -> Self {
        Self { slot, ..Self::default() }
    }
}

/// What all layers remember: `blocks` blocks of [`KV_BLOCK_TOKENS`] tokens of keys and values that sequences share out,
/// and slots of recurrent state, one for each sequence that is being computed.
pub struct KvPool {
    layers: Vec<LayerMemory>,
    blocks: u32,
    slots: u32,
}

enum LayerMemory {
    Keys(KvCache),
    States(DeltaStates),
}

impl KvPool {
    /// A cache for this model, with one slot of recurrent state. Memory is taken from the system when it is first
    /// written.
    ///
    /// # Errors
    /// [`Error::KvCache`] if that much cannot be addressed.
    pub fn new(config: &Config, format: KvFormat, blocks: u32) -> Result<Self> {
        Self::with_slots(config, format, blocks, 1)
    }

    /// As [`Self::new`], with so many slots.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_slots(config: &Config, format: KvFormat, blocks: u32, slots: u32) -> Result<Self> {
        let layer = |layer| match &config.linear {
            Some(linear) if linear.layers[layer] => DeltaStates::new(linear.shape, slots).map(LayerMemory::States),
            Some(_) | None => KvCache::new(config.kv_heads, config.head_dim, format, blocks).map(LayerMemory::Keys),
        };
        let layers = (0..config.layers).map(layer).collect::<std::result::Result<_, _>>().map_err(Error::KvCache)?;
        Ok(Self { layers, blocks, slots })
    }

    /// How many blocks there are.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// How many slots of recurrent state there are.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of one block, all layers together.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        let of_layer = |layer: &LayerMemory| match layer {
            LayerMemory::Keys(cache) => cache.block_bytes(),
            LayerMemory::States(_) => 0,
        };
        self.layers.iter().map(of_layer).sum()
    }

    /// Copies the recurrent state of a slot: the way back to one that was kept.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn copy_slot(&mut self, from: u32, to: u32) {
        for layer in &mut self.layers {
            if let LayerMemory::States(states) = layer {
                states.copy_slot(from, to);
            }
        }
    }
}

/// Buffers of a step, kept between steps so that none is allocated twice.
#[derive(Default)]
pub struct Workspace {
    x: Floats,        // [n, H], the residual stream
    normed: Floats,   // [n, H]
    roles: Vec<Role>, // [n]
    cos: Vec<f32>,    // [n, turned dimensions / 2]
    sin: Vec<f32>,    // [n, turned dimensions / 2]
    chosen: Vec<f32>, // [wanted rows, H]
    logits: Vec<f32>, // [wanted rows, vocabulary]
    attention: attention::Buffers,
    delta_net: delta_net::Buffers,
    feed_forward: feed_forward::Buffers,
    scratch: Scratch,
    /// Sees what matrices are multiplied with, if somebody asked.
    observed: Option<Importance>,
}

impl Workspace {
    /// From now on every step adds to what was observed.
    pub fn observe(&mut self) {
        self.observed.get_or_insert_default();
    }

    /// Why the last step is not to be used: experts that it chose could not be read. Told once.
    pub fn failure(&mut self) -> Option<Error> {
        self.feed_forward.failure.take()
    }

    /// A row's logits are the same whether it is the only one wanted or one of many.
    fn logits_of(&mut self, cpu: &Cpu, head: &Matrix, states: &[f32]) -> &[f32] {
        self.logits.resize(states.len() / head.columns() * head.rows(), 0.0);
        kernels::matmul(cpu, Rows::generated(states), head, &mut self.logits, &mut self.scratch);
        &self.logits
    }

    /// The logits of the last step.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// What was observed; no step adds to it any more.
    pub fn observed(&mut self) -> Option<Importance> {
        self.observed.take()
    }
}

impl Qwen3 {
    /// The shape.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of the packed weights; of experts that are streamed, what they may take.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let streamed = self.streamer.as_ref().map_or(0, Streamer::limit_bytes);
        let head = self.head.as_ref().map_or(0, Matrix::size_bytes);
        head + streamed + self.layers.iter().map(Layer::size_bytes).sum::<usize>()
    }

    /// What was read of experts that are streamed; `None` if none are.
    #[must_use]
    pub fn stream_figures(&self) -> Option<StreamFigures> {
        self.streamer.as_ref().map(Streamer::figures)
    }

    /// Whether there are logits: embedding models are published without a vocabulary head.
    #[must_use]
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Reads experts that are streamed, by chance, until so many bytes came, and keeps none of them: what the disk can
    /// do with the accesses that a step makes. Says how many bytes came; 0 if no experts are streamed.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn probe_experts(&self, cpu: &Cpu, rng: &mut Rng, bytes: u64, way: ReadWay) -> Result<u64> {
        self.streamer.as_ref().map_or(Ok(0), |streamer| streamer.probe(cpu, rng, bytes, way))
    }

    /// Computes one step and returns the wanted logits, `[wanted rows, vocabulary]`, in the order of the sequences.
    ///
    /// Keys and values of the new tokens are written to `kv`. Tokens must be below the vocabulary size.
    /// Cost: every weight is read once, whatever the number of rows; experts that no row chose are not read. Experts
    /// that are streamed may have to come from the disk: what the step says is good only if [`Workspace::failure`] is
    /// `None`.
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
        self.hidden(cpu, kv, batch, w);
        let head = self.head.as_ref().expect("logits are asked only of a model with a head");
        let states = std::mem::take(&mut w.normed);
        w.logits_of(cpu, head, &states);
        w.normed = states;
        &w.logits
    }

    /// The vocabulary head alone; the rest is let go. `None` for a model without one.
    #[must_use]
    pub fn into_head(self) -> Option<Head> {
        self.head.map(|matrix| Head { matrix })
    }

    /// As [`Self::forward`], but returns the hidden states behind the final norm, `[wanted rows, H]`.
    ///
    /// # Panics
    /// As [`Self::forward`]; a model without a head is good enough.
    pub fn hidden<'w>(
        &self,
        cpu: &Cpu,
        kv: &mut KvPool,
        batch: &[Sequence<'_>],
        workspace: &'w mut Workspace,
    ) -> &'w [f32] {
        let w = workspace;
        let (spans, delta_spans) = self.begin(batch, w);
        let mut adapted = Adapted::new(batch);
        w.feed_forward.set_observed(w.observed.is_some());
        for (index, (layer, memory)) in self.layers.iter().zip(&mut kv.layers).enumerate() {
            adapted.layer = index;
            kernels::rms_norm(cpu, &w.x, &layer.mixer_norm, self.config.norm_eps, &mut w.normed);
            match (&layer.mixer, memory) {
                (Mixer::Attention(attention), LayerMemory::Keys(cache)) => {
                    attention.add(cpu, &self.config, cache, &spans, w, &mut adapted);
                }
                (Mixer::DeltaNet(delta_net), LayerMemory::States(states)) => {
                    delta_net.add(cpu, &self.config, states, &delta_spans, w);
                }
                _ => panic!("the cache was made for another model"),
            }
            if let Some(observed) = &mut w.observed {
                let (columns, rows) = match &layer.mixer {
                    Mixer::Attention(attention) => (attention.o.columns(), w.attention.attended()),
                    Mixer::DeltaNet(delta_net) => (delta_net.out.columns(), w.delta_net.gated()),
                };
                observed.add(index, Site::Mixer, None, self.config.hidden, &w.normed);
                observed.add(index, Site::Attended, None, columns, rows);
            }
            kernels::rms_norm(cpu, &w.x, &layer.feed_forward_norm, self.config.norm_eps, &mut w.normed);
            let rows = Rows::mixed(&w.normed, &w.roles);
            let ahead = self.layers.get(index + 1).and_then(|next| next.ahead(self.config.norm_eps));
            let stream = self.streamer.as_ref().map(|streamer| Stream { streamer, ahead: ahead.as_ref() });
            let mut work = Work { cpu, buffers: &mut w.feed_forward, scratch: &mut w.scratch };
            layer.feed_forward.add(rows, &mut w.x, &mut work, &mut adapted, stream);
            if let Some(observed) = &mut w.observed {
                layer.feed_forward.observe(index, &w.normed, &w.feed_forward, observed);
            }
            self.insert(batch, w, |features| features.deep.get(index), kernels::add);
        }
        self.choose_rows(batch, w);
        kernels::rms_norm(cpu, &w.chosen, &self.final_norm, self.config.norm_eps, &mut w.normed);
        if let Some(observed) = &mut w.observed {
            observed.add(0, Site::Head, None, self.config.hidden, &w.normed);
        }
        &w.normed
    }

    /// Logits of some tokens only, `[rows, tokens.len()]`, from hidden states `[rows, H]`: a reranker's answers.
    ///
    /// # Panics
    /// If the model has no head, the lengths do not fit, or a token is outside the vocabulary.
    #[must_use]
    pub fn logits_of(&self, hidden: &[f32], tokens: &[u32]) -> Vec<f32> {
        let head = self.head.as_ref().expect("logits are asked only of a model with a head");
        let mut weights = vec![vec![0.0; self.config.hidden]; tokens.len()];
        for (&token, row) in tokens.iter().zip(&mut weights) {
            head.row_f32(token as usize, row);
        }
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum();
        let rows = hidden.chunks_exact(self.config.hidden);
        rows.flat_map(|row| weights.iter().map(move |weights| dot(row, weights))).collect()
    }

    /// Looks the tokens up, computes the rotations and sizes the buffers.
    fn begin<'a>(&self, batch: &[Sequence<'a>], w: &mut Workspace) -> (Vec<Span<'a>>, Vec<DeltaSpan<'a>>) {
        let config = &self.config;
        let (mut spans, mut delta_spans) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let mut rows = 0;
        w.roles.clear();
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
            match sequence.places {
                Some(places) => {
                    assert_eq!(places.len(), sequence.tokens.len(), "every new token has a place");
                    self.frequencies.extend_placed(places, &mut w.cos, &mut w.sin);
                }
                None => self.frequencies.extend(sequence.first_position..end, &mut w.cos, &mut w.sin),
            }
            spans.push(Span {
                first_row: rows,
                rows: sequence.tokens.len(),
                first_position: sequence.first_position,
                blocks: sequence.blocks,
            });
            delta_spans.push(DeltaSpan {
                first_row: rows,
                rows: sequence.tokens.len(),
                slot: sequence.state.slot,
                is_start: sequence.first_position == 0,
                guessed: sequence.state.guessed,
                confirmed: sequence.state.confirmed,
                copies: sequence.state.copies,
            });
            rows += sequence.tokens.len();
            assert!(sequence.prompt_tokens <= sequence.tokens.len(), "more of the prompt than there is");
            w.roles.resize(rows - sequence.tokens.len() + sequence.prompt_tokens, Role::Prompt);
            w.roles.resize(rows, Role::Generated);
        }
        w.x.resize(rows * config.hidden);
        let tokens = batch.iter().flat_map(|sequence| sequence.tokens);
        for (&token, row) in tokens.zip(w.x.chunks_exact_mut(config.hidden)) {
            self.embed(token, row);
        }
        self.insert(batch, w, |features| Some(&features.merged), |row, feature| row.copy_from_slice(feature));
        w.normed.resize(rows * config.hidden);
        (spans, delta_spans)
    }

    /// Puts features into the rows of the residual stream that they belong to.
    fn insert(
        &self,
        batch: &[Sequence<'_>],
        w: &mut Workspace,
        which: impl Fn(&Features) -> Option<&Vec<f32>>,
        put: impl Fn(&mut [f32], &[f32]),
    ) {
        let hidden = self.config.hidden;
        let mut first_row = 0;
        for sequence in batch {
            for inserted in sequence.inserted {
                assert!(inserted.row + inserted.count <= sequence.tokens.len(), "features beyond the new tokens");
                if let Some(features) = which(inserted.features) {
                    let start = (first_row + inserted.row) * hidden;
                    let features = &features[inserted.first * hidden..][..inserted.count * hidden];
                    put(&mut w.x[start..start + features.len()], features);
                }
            }
            first_row += sequence.tokens.len();
        }
    }

    fn embed(&self, token: u32, row: &mut [f32]) {
        assert!((token as usize) < self.config.vocabulary, "token {token} is outside the vocabulary");
        let Some(embedding) = &self.embedding else {
            let head = self.head.as_ref().expect("a model without an embedding of its own has a head");
            return head.row_f32(token as usize, row);
        };
        let bytes = embedding.bytes();
        let row_bytes = bytes.len() / self.config.vocabulary;
        let start = token as usize * row_bytes;
        kernels::dequantize(embedding.format(), &bytes[start..start + row_bytes], row)
            .expect("the shape of the embedding was checked when it was loaded");
    }

    /// Gathers the residual stream of the wanted rows.
    fn choose_rows(&self, batch: &[Sequence<'_>], w: &mut Workspace) {
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
        w.normed.resize(w.chosen.len());
    }
}
