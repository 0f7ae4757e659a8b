//! The tensors of a model, in the order of the forward pass, as each form keeps them.

use std::ops::Range;

use kernels::HeadOrder;

use super::Container;
use crate::config::{Architecture, Config, Experts, LinearAttention};
use crate::observe::Site;

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
    /// Both, gate rows first.
    GateUp,
    Down,
    /// The row that opens a shared expert.
    Opening,
    /// Projections of gated DeltaNet: queries, keys and values; the gate; all four by key head; what comes out.
    Mixed,
    MixedGate,
    MixedGrouped,
    MixedOutput,
    /// Its gates: strength or decay by value head, or both by key head.
    HeadGate,
    HeadGates,
    /// Its convolution.
    Taps,
    /// How fast its heads forget, and the logarithm of that.
    Rates,
    Logarithms,
    /// A number a value head.
    HeadBias,
    /// A norm that no family stores less one.
    PlainNorm,
    /// A predictor's first matrix.
    Join,
    /// A matrix of a vision tower.
    Tower,
    /// Its numbers that are always F32 in GGUF.
    TowerPlain,
    /// Its patches, both frames; and one of them.
    Patch,
    PatchFrame,
}

/// One tensor of a GGUF file; of a folder as well, but for experts that are one tensor each there.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// The canonical name.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) layer: usize,
    /// `[rows, columns]` of one expert, or of the tensor.
    pub(super) shape: Vec<usize>,
    /// How many experts it holds, if it is one of a mixture.
    pub(super) experts: Option<usize>,
    /// Columns first: the experts of Qwen3-VL in a folder.
    pub(super) is_transposed: bool,
}

impl Slot {
    /// The name without `.weight`.
    pub(super) fn stem(&self) -> &str {
        self.name.strip_suffix(".weight").unwrap_or(&self.name)
    }

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

    /// Whether a folder has all experts in one tensor.
    pub(super) fn is_fused(&self) -> bool {
        self.experts.is_some() && !self.name.ends_with(".weight")
    }

    /// Where what it is multiplied with was observed.
    pub(super) fn site(&self) -> Option<Site> {
        match self.kind {
            Kind::Query | Kind::Key | Kind::Value => Some(Site::Mixer),
            Kind::Mixed | Kind::MixedGate | Kind::MixedGrouped => Some(Site::Mixer),
            Kind::Output | Kind::MixedOutput => Some(Site::Attended),
            Kind::Gate | Kind::Up | Kind::GateUp => Some(Site::FeedForward),
            Kind::Down => Some(Site::Inner),
            Kind::Head => Some(Site::Head),
            // A tied embedding is looked up too, where all columns are alike.
            _ => None,
        }
    }
}

/// The order in which a form keeps the value heads of a model.
pub(super) fn head_order(config: &Config, container: Container) -> HeadOrder {
    match (container, config.architecture) {
        (Container::Gguf, Architecture::Qwen35 | Architecture::Qwen35Moe) => HeadOrder::Tiled,
        _ => HeadOrder::Grouped,
    }
}

/// What is added to a norm's stored weights in a form.
pub(super) fn norm_offset(config: &Config, container: Container) -> f32 {
    if container == Container::Folder && config.architecture.is_hybrid() { 1.0 } else { 0.0 }
}

/// What a model has beside its layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extras {
    pub(super) head: bool,
    pub(super) predictor: bool,
}

/// All tensors of a decoder.
pub(super) fn slots(config: &Config, extras: Extras, container: Container) -> Vec<Slot> {
    let h = config.hidden;
    let builder = Builder { config, container };
    let mut slots = vec![whole("embed_tokens.weight", Kind::Embedding, &[config.vocabulary, h])];
    for layer in 0..config.layers {
        let linear = config.linear.as_ref().filter(|linear| linear.layers[layer]);
        let sparse = config.experts.as_ref().filter(|experts| experts.sparse[layer]);
        builder.layer(&format!("layers.{layer}"), layer, linear, sparse, &mut slots);
    }
    slots.push(whole("norm.weight", Kind::Norm, &[h]));
    if extras.head && !config.tied {
        slots.push(whole("lm_head.weight", Kind::Head, &[config.vocabulary, h]));
    }
    if extras.predictor {
        slots.extend([
            whole("mtp.fc.weight", Kind::Join, &[h, 2 * h]),
            whole("mtp.pre_fc_norm_embedding.weight", Kind::Norm, &[h]),
            whole("mtp.pre_fc_norm_hidden.weight", Kind::Norm, &[h]),
        ]);
        builder.layer("mtp.layers.0", config.layers, None, config.experts.as_ref(), &mut slots);
        slots.push(whole("mtp.norm.weight", Kind::Norm, &[h]));
    }
    slots
}

fn whole(name: &str, kind: Kind, shape: &[usize]) -> Slot {
    Slot { name: name.to_owned(), kind, layer: 0, shape: shape.to_vec(), experts: None, is_transposed: false }
}

struct Builder<'a> {
    config: &'a Config,
    container: Container,
}

impl Builder<'_> {
    fn layer(
        &self,
        stem: &str,
        layer: usize,
        linear: Option<&LinearAttention>,
        sparse: Option<&Experts>,
        slots: &mut Vec<Slot>,
    ) {
        let h = self.config.hidden;
        let mut put = |part: &str, kind, shape: &[usize]| {
            slots.push(Slot { layer, ..whole(&format!("{stem}.{part}"), kind, shape) })
        };
        put("input_layernorm.weight", Kind::Norm, &[h]);
        match linear {
            Some(linear) => self.delta_net(linear, &mut put),
            None => self.attention(&mut put),
        }
        put("post_attention_layernorm.weight", Kind::Norm, &[h]);
        let Some(experts) = sparse else { return self.network("mlp", self.config.intermediate, &mut put) };
        put("mlp.gate.weight", Kind::Router, &[experts.count, h]);
        if let Some(shared) = experts.shared {
            let shape: &[usize] = if self.container == Container::Gguf { &[h] } else { &[1, h] };
            put("mlp.shared_expert_gate.weight", Kind::Opening, shape);
            self.network("mlp.shared_expert", shared, &mut put);
        }
        self.experts(stem, layer, experts, slots);
    }

    fn attention(&self, put: &mut dyn FnMut(&str, Kind, &[usize])) {
        let Config { hidden: h, head_dim: hd, heads, kv_heads, gated_attention, .. } = *self.config;
        let queries = if gated_attention { 2 * heads * hd } else { heads * hd };
        put("self_attn.q_proj.weight", Kind::Query, &[queries, h]);
        put("self_attn.k_proj.weight", Kind::Key, &[kv_heads * hd, h]);
        put("self_attn.v_proj.weight", Kind::Value, &[kv_heads * hd, h]);
        put("self_attn.o_proj.weight", Kind::Output, &[h, heads * hd]);
        put("self_attn.q_norm.weight", Kind::Norm, &[hd]);
        put("self_attn.k_norm.weight", Kind::Norm, &[hd]);
    }

    fn delta_net(&self, linear: &LinearAttention, put: &mut dyn FnMut(&str, Kind, &[usize])) {
        let (h, shape) = (self.config.hidden, &linear.shape);
        let (channels, heads) = (shape.channels(), shape.value_heads);
        let values = heads * shape.value_dim;
        let is_gguf = self.container == Container::Gguf;
        let is_next = self.config.architecture == Architecture::Qwen3Next;
        if is_next && !is_gguf {
            put("linear_attn.in_proj_qkvz.weight", Kind::MixedGrouped, &[channels + values, h]);
        } else {
            put("linear_attn.in_proj_qkv.weight", Kind::Mixed, &[channels, h]);
            put("linear_attn.in_proj_z.weight", Kind::MixedGate, &[values, h]);
        }
        if is_next {
            put("linear_attn.in_proj_ba.weight", Kind::HeadGates, &[2 * heads, h]);
        } else {
            put("linear_attn.in_proj_b.weight", Kind::HeadGate, &[heads, h]);
            put("linear_attn.in_proj_a.weight", Kind::HeadGate, &[heads, h]);
        }
        let taps: &[usize] = if is_gguf { &[channels, shape.taps] } else { &[channels, 1, shape.taps] };
        put("linear_attn.conv1d.weight", Kind::Taps, taps);
        put("linear_attn.dt_bias", Kind::HeadBias, &[heads]);
        match is_gguf {
            true => put("linear_attn.rates", Kind::Rates, &[heads]),
            false => put("linear_attn.A_log", Kind::Logarithms, &[heads]),
        }
        put("linear_attn.norm.weight", Kind::PlainNorm, &[shape.value_dim]);
        put("linear_attn.out_proj.weight", Kind::MixedOutput, &[h, values]);
    }

    fn network(&self, stem: &str, intermediate: usize, put: &mut dyn FnMut(&str, Kind, &[usize])) {
        let h = self.config.hidden;
        put(&format!("{stem}.gate_proj.weight"), Kind::Gate, &[intermediate, h]);
        put(&format!("{stem}.up_proj.weight"), Kind::Up, &[intermediate, h]);
        put(&format!("{stem}.down_proj.weight"), Kind::Down, &[h, intermediate]);
    }

    fn experts(&self, stem: &str, layer: usize, experts: &Experts, slots: &mut Vec<Slot>) {
        let (h, i) = (self.config.hidden, experts.intermediate);
        let is_vl = self.config.architecture == Architecture::Qwen3VlMoe;
        let is_fused = self.container == Container::Folder && self.config.architecture.has_vision();
        let parts: &[(&str, Kind, [usize; 2])] = if is_fused {
            &[("gate_up_proj", Kind::GateUp, [2 * i, h]), ("down_proj", Kind::Down, [h, i])]
        } else {
            &[
                ("gate_proj.weight", Kind::Gate, [i, h]),
                ("up_proj.weight", Kind::Up, [i, h]),
                ("down_proj.weight", Kind::Down, [h, i]),
            ]
        };
        for &(part, kind, [rows, columns]) in parts {
            let is_transposed = is_fused && is_vl;
            let shape = if is_transposed { [columns, rows] } else { [rows, columns] };
            let slot = whole(&format!("{stem}.mlp.experts.{part}"), kind, &shape);
            slots.push(Slot { layer, experts: Some(experts.count), is_transposed, ..slot });
        }
    }
}

/// All tensors of a vision tower; none if the model has none.
pub(super) fn tower_slots(config: &Config, container: Container) -> Vec<Slot> {
    let Some(shape) = &config.vision else { return Vec::new() };
    let (d, i, side) = (shape.hidden, shape.intermediate, shape.table_side);
    let mut slots = match container {
        Container::Folder => vec![whole("visual.patch_embed.proj.weight", Kind::Patch, &[d, 3, 2, 16, 16])],
        Container::Gguf => ["weight", "weight.1"]
            .map(|part| whole(&format!("visual.patch_embed.proj.{part}"), Kind::PatchFrame, &[d, 3, 16, 16]))
            .to_vec(),
    };
    slots.push(whole("visual.patch_embed.proj.bias", Kind::TowerPlain, &[d]));
    slots.push(whole("visual.pos_embed.weight", Kind::TowerPlain, &[side * side, d]));
    let linear = |slots: &mut Vec<Slot>, stem: &str, rows: usize, columns: usize| {
        slots.push(whole(&format!("{stem}.weight"), Kind::Tower, &[rows, columns]));
        slots.push(whole(&format!("{stem}.bias"), Kind::TowerPlain, &[rows]));
    };
    let norm = |slots: &mut Vec<Slot>, stem: &str, size: usize| {
        slots.extend(["weight", "bias"].map(|part| whole(&format!("{stem}.{part}"), Kind::TowerPlain, &[size])));
    };
    for block in 0..shape.depth {
        let stem = format!("visual.blocks.{block}");
        norm(&mut slots, &format!("{stem}.norm1"), d);
        linear(&mut slots, &format!("{stem}.attn.qkv"), 3 * d, d);
        linear(&mut slots, &format!("{stem}.attn.proj"), d, d);
        norm(&mut slots, &format!("{stem}.norm2"), d);
        linear(&mut slots, &format!("{stem}.mlp.linear_fc1"), i, d);
        linear(&mut slots, &format!("{stem}.mlp.linear_fc2"), d, i);
    }
    let deep = (0..shape.deepstack.len()).map(|place| (format!("visual.deepstack_merger_list.{place}"), 4 * d));
    for (stem, width) in deep.chain([("visual.merger".to_owned(), d)]) {
        norm(&mut slots, &format!("{stem}.norm"), width);
        linear(&mut slots, &format!("{stem}.linear_fc1"), 4 * d, 4 * d);
        linear(&mut slots, &format!("{stem}.linear_fc2"), config.hidden, 4 * d);
    }
    slots
}
