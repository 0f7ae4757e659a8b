//! The small head beside a hybrid that guesses the token after the next (multi-token prediction).
//!
//! ```text
//! x = [rms(embedding of the next token); rms(hidden state)] Wfc
//! x = layer(x)                              // one decoder layer with attention
//! logits = rms(x) · head of the model       // and rms(x) is the hidden state of a further guess
//! ```
//! After vLLM's `qwen3_next_mtp`. A hidden state is the model's, behind its final norm. A row of the model and the row
//! that follows from it stand at the same position, in blocks of the same numbers: whoever shares a prompt's keys and
//! values shares these too.

use std::cell::RefCell;
use std::ops::Range;

use kernels::{Cpu, KV_BLOCK_TOKENS, KvCache, KvFormat, Matrix, Precision, Role, Rows, Span};

use super::feed_forward::Work;
use super::load::Layers;
use super::low_rank::Adapted;
use super::{Layer, Mixer, Qwen3, Workspace};
use crate::loader::Loader;
use crate::weight_cache::{Keeping, Part};
use crate::{Checkpoint, Config, Error, Result};

/// Rows of one sequence from which on they are computed as a prompt is.
const PROMPT_ROWS_MIN: usize = 8;

/// Weights and cache of a predictor.
pub struct Predictor {
    embedding_norm: Vec<f32>,
    hidden_norm: Vec<f32>,
    join: Matrix, // [H, 2 H]
    layer: Layer,
    norm: Vec<f32>,
    cache: KvCache,
    workspace: Workspace,
    hidden: Vec<f32>, // [n, H]
    joined: Vec<f32>, // [n, 2 H]
    _keeping: Keeping,
}

/// Rows of the model's last step that the predictor follows.
#[derive(Debug, Clone)]
pub struct Followed<'a> {
    /// Which rows of the step, one or more.
    pub rows: Range<usize>,
    /// The token behind each of them.
    pub next: Vec<u32>,
    /// Position of the first row.
    pub first_position: usize,
    /// The sequence's blocks, as in the step.
    pub blocks: &'a [u32],
    /// Time, row and column of each row, as in the step.
    pub places: Option<&'a [[u32; 3]]>,
    /// How many tokens to guess behind the last one.
    pub most: usize,
}

/// Rows of one pass of the predictor.
struct Turn<'a> {
    /// Which of those that are followed.
    index: usize,
    tokens: Vec<u32>,
    first_position: usize,
    blocks: &'a [u32],
    places: Option<Vec<[u32; 3]>>,
    most: usize,
}

impl Predictor {
    /// Whether a checkpoint has one.
    #[must_use]
    pub fn is_in(checkpoint: &Checkpoint) -> bool {
        let weights = &checkpoint.weights;
        checkpoint.has_head() && ["weight", "qweight"].iter().any(|part| weights.contains(&format!("mtp.fc.{part}")))
    }

    /// Bytes of one block of its keys and values.
    ///
    /// # Errors
    /// [`Error::KvCache`] if the model's heads fit no cache.
    pub fn block_bytes(config: &Config, format: KvFormat) -> Result<usize> {
        let cache = KvCache::new(config.kv_heads, config.head_dim, format, 1).map_err(Error::KvCache)?;
        Ok(cache.block_bytes())
    }

    /// Loads the predictor of a checkpoint, with room for as many blocks as the model's cache has.
    ///
    /// # Errors
    /// As [`Qwen3::load`].
    pub fn load(
        cpu: &Cpu,
        checkpoint: &Checkpoint,
        precision: Precision,
        format: KvFormat,
        blocks: u32,
    ) -> Result<Self> {
        let (loader, config) = (Loader::new(cpu, checkpoint, precision, Part::Predictor), &checkpoint.config);
        let h = config.hidden;
        let finder = RefCell::new(None);
        let layers = Layers { loader: &loader, config, finder: &finder };
        let mut predictor = Self {
            embedding_norm: layers.norm("mtp.pre_fc_norm_embedding", h)?,
            hidden_norm: layers.norm("mtp.pre_fc_norm_hidden", h)?,
            join: loader.matrix("mtp.fc", h, 2 * h)?,
            layer: layers.predicting("mtp.layers.0")?,
            norm: layers.norm("mtp.norm", h)?,
            cache: KvCache::new(config.kv_heads, config.head_dim, format, blocks).map_err(Error::KvCache)?,
            workspace: Workspace::default(),
            hidden: Vec::new(),
            joined: Vec::new(),
            _keeping: Keeping::default(),
        };
        predictor._keeping = loader.finish();
        Ok(predictor)
    }

    /// What the last guesses were chosen from, `[sequences that asked, vocabulary]`.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.workspace.logits
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.join.size_bytes() + self.layer.size_bytes()
    }
}

impl Qwen3 {
    /// Lets the predictor follow rows of the step that `workspace` was used for last, and guesses the tokens behind
    /// them: for each sequence at most as many as it asks for, fewer where its blocks end.
    ///
    /// Rows of a sequence are followed once each, in order; those behind a wrong guess are not.
    ///
    /// # Panics
    /// If the rows are not of that step, or a token is outside the vocabulary.
    pub fn predict(
        &self,
        cpu: &Cpu,
        predictor: &mut Predictor,
        workspace: &Workspace,
        followed: &[Followed<'_>],
    ) -> Vec<Vec<u32>> {
        let h = self.config.hidden;
        let mut guesses = vec![Vec::new(); followed.len()];
        let mut turns = Vec::with_capacity(followed.len());
        let mut rows = Vec::new(); // [n, H], the residual stream
        for (index, sequence) in followed.iter().enumerate() {
            assert_eq!(sequence.rows.len(), sequence.next.len(), "every row has a token behind it");
            rows.extend_from_slice(&workspace.x[sequence.rows.start * h..sequence.rows.end * h]);
            turns.push(Turn {
                index,
                tokens: sequence.next.clone(),
                first_position: sequence.first_position,
                blocks: sequence.blocks,
                places: sequence.places.map(|places| places[..sequence.rows.len()].to_vec()),
                most: sequence.most,
            });
        }
        predictor.hidden.resize(rows.len(), 0.0);
        kernels::rms_norm(cpu, &rows, &self.final_norm, self.config.norm_eps, &mut predictor.hidden);
        // Ends: every round asks for one token less of each sequence.
        while !turns.is_empty() {
            self.turn(cpu, predictor, &turns);
            turns = self.guess(cpu, predictor, turns, &mut guesses);
        }
        guesses
    }

    /// One pass over these rows, whose hidden states are `predictor.hidden`, before and after.
    fn turn(&self, cpu: &Cpu, predictor: &mut Predictor, turns: &[Turn<'_>]) {
        let (h, eps) = (self.config.hidden, self.config.norm_eps);
        let Predictor { embedding_norm, hidden_norm, join, layer, norm, cache, workspace: w, hidden, joined, .. } =
            predictor;
        let spans = self.begin_turn(turns, w);
        w.normed.resize(w.x.len());
        joined.resize(2 * w.x.len(), 0.0);
        for (half, (numbers, weight)) in [(&*w.x, &*embedding_norm), (&*hidden, &*hidden_norm)].into_iter().enumerate()
        {
            kernels::rms_norm(cpu, numbers, weight, eps, &mut w.normed);
            for (row, normed) in joined.chunks_exact_mut(2 * h).zip(w.normed.chunks_exact(h)) {
                row[half * h..(half + 1) * h].copy_from_slice(normed);
            }
        }
        kernels::matmul(cpu, Rows::mixed(joined, &w.roles), join, &mut w.x, &mut w.scratch);
        kernels::rms_norm(cpu, &w.x, &layer.mixer_norm, eps, &mut w.normed);
        let Mixer::Attention(attention) = &layer.mixer else { unreachable!("a predictor is loaded with attention") };
        attention.add(cpu, &self.config, cache, &spans, w, &mut Adapted::default());
        kernels::rms_norm(cpu, &w.x, &layer.feed_forward_norm, eps, &mut w.normed);
        let rows = Rows::mixed(&w.normed, &w.roles);
        let mut work = Work { cpu, buffers: &mut w.feed_forward, scratch: &mut w.scratch };
        layer.feed_forward.add(rows, &mut w.x, &mut work, &mut Adapted::default(), None);
        kernels::rms_norm(cpu, &w.x, norm, eps, hidden);
    }

    /// Looks the tokens up, computes the rotations and sizes the buffers.
    fn begin_turn<'a>(&self, turns: &[Turn<'a>], w: &mut Workspace) -> Vec<Span<'a>> {
        let mut spans = Vec::with_capacity(turns.len());
        let mut rows = 0;
        w.roles.clear();
        w.cos.clear();
        w.sin.clear();
        for turn in turns {
            let (first, count) = (turn.first_position, turn.tokens.len());
            match &turn.places {
                Some(places) => self.frequencies.extend_placed(places, &mut w.cos, &mut w.sin),
                None => self.frequencies.extend(first..first + count, &mut w.cos, &mut w.sin),
            }
            spans.push(Span { first_row: rows, rows: count, first_position: first, blocks: turn.blocks });
            rows += count;
            w.roles.resize(rows, if count < PROMPT_ROWS_MIN { Role::Generated } else { Role::Prompt });
        }
        w.x.resize(rows * self.config.hidden);
        let tokens = turns.iter().flat_map(|turn| &turn.tokens);
        for (&token, row) in tokens.zip(w.x.chunks_exact_mut(self.config.hidden)) {
            self.embed(token, row);
        }
        spans
    }

    /// The likeliest token behind each sequence that asks for one, and what has to be computed for the one after it.
    fn guess<'a>(
        &self,
        cpu: &Cpu,
        predictor: &mut Predictor,
        turns: Vec<Turn<'a>>,
        guesses: &mut [Vec<u32>],
    ) -> Vec<Turn<'a>> {
        let (h, vocabulary) = (self.config.hidden, self.config.vocabulary);
        let mut last = Vec::new(); // [sequences that ask, H]
        let mut asking = Vec::new();
        let mut rows = 0;
        for turn in turns {
            rows += turn.tokens.len();
            if turn.most > 0 {
                last.extend_from_slice(&predictor.hidden[(rows - 1) * h..rows * h]);
                asking.push(turn);
            }
        }
        let Predictor { workspace: w, hidden, .. } = predictor;
        w.logits.resize(asking.len() * vocabulary, 0.0);
        if !asking.is_empty() {
            let head = self.head.as_ref().expect("a predictor is loaded only for a model with a head");
            kernels::matmul(cpu, Rows::generated(&last), head, &mut w.logits, &mut w.scratch);
        }
        hidden.clear();
        let mut further = Vec::new();
        let answers = w.logits.chunks_exact(vocabulary).zip(last.chunks_exact(h));
        for (mut turn, (logits, state)) in asking.into_iter().zip(answers) {
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            let best = best.expect("a vocabulary has tokens") as u32;
            guesses[turn.index].push(best);
            let next = turn.first_position + turn.tokens.len();
            turn.most -= 1;
            if turn.most == 0 || next >= turn.blocks.len() * KV_BLOCK_TOKENS {
                continue;
            }
            hidden.extend_from_slice(state);
            let place = turn.places.as_ref().and_then(|places| places.last()).map(|place| vec![place.map(|at| at + 1)]);
            further.push(Turn { tokens: vec![best], first_position: next, places: place, ..turn });
        }
        further
    }
}
