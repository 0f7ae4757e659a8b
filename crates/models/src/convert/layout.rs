//! The tensors of a dense or MoE model, in the order of the forward pass, and where a checkpoint keeps them.

use std::ops::Range;

use crate::config::{Config, Experts};
use crate::loader::{finite, stored};
use crate::observe::Site;
use crate::weights::Tensor;
use crate::{Checkpoint, Error, Result};

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Embedding,
    Head,
    Norm,
    Router,
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

/// One tensor of a GGUF file; of a folder as well, but for experts, which are one tensor each there.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// The canonical name without `.weight`.
    pub(super) stem: String,
    pub(super) kind: Kind,
    pub(super) layer: usize,
    /// `[rows, columns]` of one expert, or `[numbers]` of a norm.
    pub(super) shape: Vec<usize>,
    /// How many experts it holds, if it is one of a mixture.
    pub(super) experts: Option<usize>,
}

impl Slot {
    pub(super) fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// With the experts outermost.
    pub(super) fn whole_shape(&self) -> Vec<u64> {
        self.experts.iter().chain(&self.shape).map(|&size| size as u64).collect()
    }

    /// The pieces that it is read in: its experts, or itself.
    pub(super) fn pieces(&self) -> Range<usize> {
        0..self.experts.unwrap_or(1)
    }

    /// Where what it is multiplied with was observed.
    pub(super) fn site(&self, is_tied: bool) -> Option<Site> {
        match self.kind {
            Kind::Query | Kind::Key | Kind::Value => Some(Site::Mixer),
            Kind::Output => Some(Site::Attended),
            Kind::Gate | Kind::Up => Some(Site::FeedForward),
            Kind::Down => Some(Site::Inner),
            Kind::Head => Some(Site::Head),
            Kind::Embedding => is_tied.then_some(Site::Head),
            Kind::Norm | Kind::Router => None,
        }
    }
}

/// All tensors of a model.
pub(super) fn slots(config: &Config, has_head: bool) -> Vec<Slot> {
    let (h, hd) = (config.hidden, config.head_dim);
    let whole = |stem: &str, kind, shape: &[usize]| Slot {
        stem: stem.to_owned(),
        kind,
        layer: 0,
        shape: shape.to_vec(),
        experts: None,
    };
    let mut slots = vec![whole("embed_tokens", Kind::Embedding, &[config.vocabulary, h])];
    for layer in 0..config.layers {
        let of_layer =
            |part: &str, kind, shape: &[usize]| Slot { layer, ..whole(&format!("layers.{layer}.{part}"), kind, shape) };
        let (q_width, kv_width) = (config.heads * hd, config.kv_heads * hd);
        slots.extend([
            of_layer("input_layernorm", Kind::Norm, &[h]),
            of_layer("self_attn.q_proj", Kind::Query, &[q_width, h]),
            of_layer("self_attn.k_proj", Kind::Key, &[kv_width, h]),
            of_layer("self_attn.v_proj", Kind::Value, &[kv_width, h]),
            of_layer("self_attn.o_proj", Kind::Output, &[h, q_width]),
            of_layer("self_attn.q_norm", Kind::Norm, &[hd]),
            of_layer("self_attn.k_norm", Kind::Norm, &[hd]),
            of_layer("post_attention_layernorm", Kind::Norm, &[h]),
        ]);
        let sparse = config.experts.as_ref().filter(|experts| experts.sparse[layer]);
        let (stem, i) = match sparse {
            Some(experts) => ("mlp.experts", experts.intermediate),
            None => ("mlp", config.intermediate),
        };
        if let Some(experts) = sparse {
            slots.push(of_layer("mlp.gate", Kind::Router, &[experts.count, h]));
        }
        let parts = [("gate", Kind::Gate, [i, h]), ("up", Kind::Up, [i, h]), ("down", Kind::Down, [h, i])];
        slots.extend(parts.map(|(part, kind, shape)| Slot {
            experts: sparse.map(|experts: &Experts| experts.count),
            ..of_layer(&format!("{stem}.{part}_proj"), kind, &shape)
        }));
    }
    slots.push(whole("norm", Kind::Norm, &[h]));
    if has_head && !config.tied {
        slots.push(whole("lm_head", Kind::Head, &[config.vocabulary, h]));
    }
    slots
}

/// The tensor of the file that holds a piece as it is, alone or beside others.
pub(super) fn in_file(checkpoint: &Checkpoint, slot: &Slot, piece: usize) -> Option<Tensor> {
    let weights = &checkpoint.weights;
    let named = |stem: &str| weights.find(&format!("{stem}.weight")).or_else(|| weights.find(stem));
    let found = named(&slot.stem);
    if found.is_some() || slot.experts.is_none() {
        return found;
    }
    let (mixture, part) = slot.stem.rsplit_once('.')?;
    let fused = named(&format!("{mixture}.gate_up_proj")).filter(|_| slot.kind != Kind::Down);
    fused.or_else(|| named(&format!("{mixture}.{piece}.{part}")))
}

/// One piece of a slot, whichever way the checkpoint stores it.
///
/// # Errors
/// What reading a tensor can say.
pub(super) fn piece(checkpoint: &Checkpoint, slot: &Slot, piece: usize) -> Result<Tensor> {
    let weights = &checkpoint.weights;
    let Some(count) = slot.experts else {
        let name = format!("{}.weight", slot.stem);
        return match slot.shape.as_slice() {
            &[rows, columns] if slot.kind != Kind::Router => stored(checkpoint, &slot.stem, rows, columns),
            shape => finite(weights.get(&name)?.expect_shape(shape)?),
        };
    };
    let [rows, columns] = [0, 1].map(|axis| slot.shape[axis]);
    let fused = |stem: &str| weights.find(&format!("{stem}.weight")).or_else(|| weights.find(stem));
    if let Some(all) = fused(&slot.stem) {
        return finite(all.expect_shape(&[count, rows, columns])?.slice(piece, 0..rows)?);
    }
    let (mixture, part) = slot.stem.rsplit_once('.').ok_or(Error::MissingTensor { name: slot.stem.clone() })?;
    if let (Some(both), Kind::Gate | Kind::Up) = (fused(&format!("{mixture}.gate_up_proj")), slot.kind) {
        // Gate rows first.
        let first = if slot.kind == Kind::Gate { 0 } else { rows };
        return finite(both.expect_shape(&[count, 2 * rows, columns])?.slice(piece, first..first + rows)?);
    }
    stored(checkpoint, &format!("{mixture}.{piece}.{part}"), rows, columns)
}
