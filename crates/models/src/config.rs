//! The shape of a model, checked once.
//!
//! [`Config`] is made from a Hugging Face `config.json` ([`huggingface`]) or from GGUF metadata ([`gguf_metadata`]).
//! What cannot be computed exactly is refused by name of field and value; nothing is guessed.

mod gguf_metadata;
mod gguf_tower;
mod huggingface;
mod quantisation;

pub use gguf_metadata::from_gguf;
pub(crate) use gguf_tower::tower_from_gguf;
pub use huggingface::from_json;

use kernels::DeltaShape;

use crate::{Error, Result};

/// No published model comes near these; beyond them an allocation would follow a foreign number.
const DIMENSION_MAX: usize = 1 << 20;
pub(crate) const LAYERS_MAX: usize = 4096;
const EXPERTS_MAX: usize = 1 << 16;
const VOCABULARY_MAX: usize = 1 << 24;
const TAPS_MAX: usize = 64;

/// Which forward pass the model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Every layer has one feed-forward network.
    Qwen3,
    /// Some or all layers choose among experts.
    Qwen3Moe,
    /// Gated DeltaNet in most layers, experts in all.
    Qwen3Next,
    /// As `Qwen3Next` with dense networks, other projections, and vision.
    Qwen35,
    /// The same with experts.
    Qwen35Moe,
    /// `Qwen3` with vision.
    Qwen3Vl,
    /// `Qwen3Moe` with vision.
    Qwen3VlMoe,
}

impl Architecture {
    /// `model_type` of `config.json`.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3_moe",
            Self::Qwen3Next => "qwen3_next",
            Self::Qwen35 => "qwen3_5",
            Self::Qwen35Moe => "qwen3_5_moe",
            Self::Qwen3Vl => "qwen3_vl",
            Self::Qwen3VlMoe => "qwen3_vl_moe",
        }
    }

    /// Whether most layers are gated DeltaNet.
    #[must_use]
    pub fn is_hybrid(self) -> bool {
        matches!(self, Self::Qwen3Next | Self::Qwen35 | Self::Qwen35Moe)
    }

    /// Whether models of this kind are published with a vision tower.
    #[must_use]
    pub fn has_vision(self) -> bool {
        matches!(self, Self::Qwen35 | Self::Qwen35Moe | Self::Qwen3Vl | Self::Qwen3VlMoe)
    }

    /// Whether some layers choose among experts.
    #[must_use]
    pub fn has_experts(self) -> bool {
        matches!(self, Self::Qwen3Moe | Self::Qwen3Next | Self::Qwen35Moe | Self::Qwen3VlMoe)
    }
}

/// Stretching of rotary positions beyond the trained length (YaRN, arXiv 2309.00071).
#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    /// How many times longer.
    pub factor: f64,
    /// Trained length in tokens.
    pub original_context: f64,
    /// Rotations at and above which a dimension is left alone.
    pub beta_fast: f64,
    /// Rotations at and below which a dimension is stretched whole.
    pub beta_slow: f64,
    /// What cos and sin are multiplied by; `None`: `0.1 ln(factor) + 1`.
    pub attention_factor: Option<f64>,
}

/// Rotary positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f64,
    /// Stretching, if any.
    pub yarn: Option<Yarn>,
    /// Dimensions of a head that are turned, from the first.
    pub dims: usize,
    /// How many frequencies follow time, row and column of a picture's position; `None`: positions are plain numbers.
    pub sections: Option<[usize; 3]>,
}

/// Layers of gated DeltaNet.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearAttention {
    /// The sizes of such a layer.
    pub shape: DeltaShape,
    /// Which layers are of this kind; the others have attention over keys and values.
    pub layers: Vec<bool>,
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// How many there are in a layer.
    pub count: usize,
    /// How many a token uses.
    pub per_token: usize,
    /// Width of one.
    pub intermediate: usize,
    /// The chosen weights are divided by their sum.
    pub normalise: bool,
    /// Which layers have experts; the others are dense.
    pub sparse: Vec<bool>,
    /// Width of the expert that every token uses, if there is one.
    pub shared: Option<usize>,
}

/// How the matrices of a Hugging Face checkpoint were quantised. Those that were not are stored as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// FP8 (E4M3) with a scale for a block of so many rows and columns.
    Fp8 {
        /// Rows and columns of a block.
        block: [usize; 2],
    },
    /// Four bits with scale and zero point for a group of columns.
    Gptq {
        /// Columns of a group.
        group: usize,
        /// Zero points are stored less one, modulo 16.
        zeros_less_one: bool,
    },
    /// Four bits with scale and zero point for a group of neighbouring columns.
    Awq {
        /// Columns of a group.
        group: usize,
    },
}

/// A vision tower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vision {
    /// Blocks.
    pub depth: usize,
    /// Width.
    pub hidden: usize,
    /// Width of the feed-forward networks.
    pub intermediate: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Rows, and columns, of the table of learned positions.
    pub table_side: usize,
    /// Blocks whose outputs reach the decoder's first layers, in order.
    pub deepstack: Vec<usize>,
    /// The token in whose places the features of a picture are put.
    pub image_token: u32,
    /// The same of a video.
    pub video_token: u32,
}

/// The shape of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which forward pass.
    pub architecture: Architecture,
    /// Width of the residual stream, H.
    pub hidden: usize,
    /// Layers, L.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head; not always H divided by the heads.
    pub head_dim: usize,
    /// Width of a dense feed-forward network.
    pub intermediate: usize,
    /// Epsilon of every norm.
    pub norm_eps: f32,
    /// Rows of the vocabulary head; may exceed the tokens that exist.
    pub vocabulary: usize,
    /// The vocabulary head is the embedding.
    pub tied: bool,
    /// Longest context in tokens.
    pub context_tokens: usize,
    /// Rotary positions.
    pub rope: Rope,
    /// Sliding window of each layer, in keys with the own one.
    pub windows: Vec<Option<usize>>,
    /// Experts, if the architecture has them.
    pub experts: Option<Experts>,
    /// The layers with a recurrent state, if the architecture has them.
    pub linear: Option<LinearAttention>,
    /// The output of attention goes through a gate.
    pub gated_attention: bool,
    /// What is added to the stored weights of every norm but the gated one: 1 where they are stored less one.
    pub norm_offset: f32,
    /// The vision tower, if there is one.
    pub vision: Option<Vision>,
    /// How matrices are stored, if not as plain numbers or in the blocks of GGUF.
    pub quantisation: Option<Quantisation>,
}

impl Config {
    /// Refuses shapes that cannot be.
    pub(crate) fn check(self) -> Result<Self> {
        let sizes = [
            ("hidden_size", self.hidden, DIMENSION_MAX),
            ("num_hidden_layers", self.layers, LAYERS_MAX),
            ("num_attention_heads", self.heads, DIMENSION_MAX),
            ("num_key_value_heads", self.kv_heads, DIMENSION_MAX),
            ("head_dim", self.head_dim, DIMENSION_MAX),
            ("intermediate_size", self.intermediate, DIMENSION_MAX),
            ("vocab_size", self.vocabulary, VOCABULARY_MAX),
            ("max_position_embeddings", self.context_tokens, u32::MAX as usize),
        ];
        for (field, value, most) in sizes {
            if value == 0 || value > most {
                return Err(Error::unsupported(field, value, &format!("allowed are 1 to {most}")));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let why = format!("num_attention_heads {} is not a multiple of it", self.heads);
            return Err(Error::unsupported("num_key_value_heads", self.kv_heads, &why));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::unsupported("head_dim", self.head_dim, "rotary positions need an even one"));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(Error::unsupported("rms_norm_eps", self.norm_eps, "it must lie between 0 and 1"));
        }
        if !(self.rope.theta > 1.0 && self.rope.theta.is_finite()) {
            return Err(Error::unsupported("rope_theta", self.rope.theta, "it must be more than 1"));
        }
        if let Some(yarn) = &self.rope.yarn {
            check_yarn(yarn)?;
        }
        if let Some(experts) = &self.experts {
            check_experts(experts)?;
        }
        if let Some(linear) = &self.linear {
            check_linear(linear)?;
        }
        self.check_rope()?;
        if let Some(vision) = &self.vision {
            vision.check(&self)?;
        }
        Ok(self)
    }

    fn check_rope(&self) -> Result<()> {
        let Rope { dims, sections, .. } = &self.rope;
        if *dims == 0 || !dims.is_multiple_of(2) || *dims > self.head_dim {
            let why = format!("{dims} of the {} dimensions of a head would be turned", self.head_dim);
            return Err(Error::unsupported("partial_rotary_factor", *dims as f64 / self.head_dim as f64, &why));
        }
        match sections {
            Some(sections) if sections.iter().sum::<usize>() != dims / 2 => {
                let why = format!("its numbers must sum to {}", dims / 2);
                Err(Error::unsupported("mrope_section", format!("{sections:?}"), &why))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether this layer has a recurrent state in place of keys and values.
    #[must_use]
    pub fn is_linear(&self, layer: usize) -> bool {
        self.linear.as_ref().is_some_and(|linear| linear.layers[layer])
    }

    /// Numbers that one token needs in the key/value cache, all layers together.
    #[must_use]
    pub fn kv_numbers_per_token(&self) -> usize {
        let layers = (0..self.layers).filter(|&layer| !self.is_linear(layer)).count();
        2 * layers * self.kv_heads * self.head_dim
    }

    /// Bytes of the recurrent state of one sequence, all layers together.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.linear.as_ref().map_or(0, |linear| {
            linear.shape.state_bytes() * linear.layers.iter().filter(|&&is_linear| is_linear).count()
        })
    }

    /// Whether the experts of this layer are used, or its dense network.
    #[must_use]
    pub fn is_sparse(&self, layer: usize) -> bool {
        self.experts.as_ref().is_some_and(|experts| experts.sparse[layer])
    }

    /// Parameters, counted from the shape: all, and those that one token uses.
    #[must_use]
    pub fn parameters(&self) -> (u64, u64) {
        let h = self.hidden as u64;
        let embeddings = self.vocabulary as u64 * h * if self.tied { 1 } else { 2 };
        let (mut total, mut active) = (embeddings + h, embeddings + h);
        for layer in 0..self.layers {
            let mixer =
                2 * h + if self.is_linear(layer) { self.linear_parameters() } else { self.attention_parameters() };
            let (all, used) = match &self.experts {
                Some(experts) if experts.sparse[layer] => {
                    let one = 3 * h * experts.intermediate as u64;
                    let always = h * experts.count as u64 + experts.shared.map_or(0, |width| 3 * h * width as u64 + h);
                    (always + one * experts.count as u64, always + one * experts.per_token as u64)
                }
                Some(_) | None => (3 * h * self.intermediate as u64, 3 * h * self.intermediate as u64),
            };
            total += mixer + all;
            active += mixer + used;
        }
        (total, active)
    }

    fn attention_parameters(&self) -> u64 {
        let [h, hd] = [self.hidden as u64, self.head_dim as u64];
        let queries = if self.gated_attention { 3 } else { 2 } * self.heads as u64;
        h * hd * (queries + 2 * self.kv_heads as u64) + 2 * hd
    }

    fn linear_parameters(&self) -> u64 {
        let Some(LinearAttention { shape, .. }) = &self.linear else { return 0 };
        let (h, heads) = (self.hidden as u64, shape.value_heads as u64);
        let (channels, values) = (shape.channels() as u64, heads * shape.value_dim as u64);
        h * (channels + 2 * values + 2 * heads) + channels * shape.taps as u64 + 2 * heads + shape.value_dim as u64
    }
}

impl Vision {
    fn check(&self, config: &Config) -> Result<()> {
        let sizes = [
            ("vision_config.depth", self.depth, LAYERS_MAX),
            ("vision_config.hidden_size", self.hidden, DIMENSION_MAX / 4),
            ("vision_config.intermediate_size", self.intermediate, DIMENSION_MAX),
            ("vision_config.num_heads", self.heads, DIMENSION_MAX),
            ("vision_config.num_position_embeddings", self.table_side, DIMENSION_MAX / 256),
        ];
        for (field, value, most) in sizes {
            if value == 0 || value > most {
                return Err(Error::unsupported(field, value, &format!("allowed are 1 to {most}")));
            }
        }
        if !self.hidden.is_multiple_of(4 * self.heads) {
            let why = format!("hidden_size {} is no multiple of four times it", self.hidden);
            return Err(Error::unsupported("vision_config.num_heads", self.heads, &why));
        }
        if self.deepstack.len() > config.layers || self.deepstack.iter().any(|&block| block >= self.depth) {
            let why = format!("the tower has {} blocks, the decoder {} layers", self.depth, config.layers);
            let value = format!("{:?}", self.deepstack);
            return Err(Error::unsupported("vision_config.deepstack_visual_indexes", value, &why));
        }
        for (field, token) in [("image_token_id", self.image_token), ("video_token_id", self.video_token)] {
            if token as usize >= config.vocabulary {
                let why = format!("vocab_size is {}", config.vocabulary);
                return Err(Error::unsupported(field, token, &why));
            }
        }
        Ok(())
    }
}

fn check_yarn(yarn: &Yarn) -> Result<()> {
    let at_least_one = |value: f64| value >= 1.0 && value.is_finite();
    if !at_least_one(yarn.factor) {
        return Err(Error::unsupported("rope_scaling.factor", yarn.factor, "it must be 1 or more"));
    }
    if !at_least_one(yarn.original_context) {
        let field = "rope_scaling.original_max_position_embeddings";
        return Err(Error::unsupported(field, yarn.original_context, "it must be 1 or more"));
    }
    if !(yarn.beta_slow > 0.0 && yarn.beta_fast > yarn.beta_slow && yarn.beta_fast.is_finite()) {
        return Err(Error::unsupported("rope_scaling.beta_fast", yarn.beta_fast, "it must exceed beta_slow"));
    }
    Ok(())
}

fn check_linear(linear: &LinearAttention) -> Result<()> {
    let shape = &linear.shape;
    let sizes = [
        ("linear_num_key_heads", shape.key_heads, DIMENSION_MAX),
        ("linear_num_value_heads", shape.value_heads, DIMENSION_MAX),
        ("linear_key_head_dim", shape.key_dim, DIMENSION_MAX),
        ("linear_value_head_dim", shape.value_dim, DIMENSION_MAX),
        ("linear_conv_kernel_dim", shape.taps, TAPS_MAX),
    ];
    for (field, value, most) in sizes {
        if value == 0 || value > most {
            return Err(Error::unsupported(field, value, &format!("allowed are 1 to {most}")));
        }
    }
    let values = shape.value_heads.checked_mul(shape.value_dim);
    let keys = shape.key_heads.checked_mul(2 * shape.key_dim);
    if !values.zip(keys).is_some_and(|(values, keys)| values <= DIMENSION_MAX && keys <= DIMENSION_MAX) {
        let why = format!("its heads together may have {DIMENSION_MAX} numbers");
        return Err(Error::unsupported("linear_value_head_dim", shape.value_dim, &why));
    }
    if linear.layers.iter().all(|&is_linear| is_linear) {
        return Err(Error::unsupported("layer_types", "linear_attention", "some layer must have full attention"));
    }
    if !shape.value_heads.is_multiple_of(shape.key_heads) {
        let why = format!("it is no multiple of linear_num_key_heads, {}", shape.key_heads);
        return Err(Error::unsupported("linear_num_value_heads", shape.value_heads, &why));
    }
    Ok(())
}

fn check_experts(experts: &Experts) -> Result<()> {
    if experts.count == 0 || experts.count > EXPERTS_MAX {
        let why = format!("allowed are 1 to {EXPERTS_MAX}");
        return Err(Error::unsupported("num_experts", experts.count, &why));
    }
    if experts.per_token == 0 || experts.per_token > experts.count {
        let why = format!("allowed are 1 to num_experts, which is {}", experts.count);
        return Err(Error::unsupported("num_experts_per_tok", experts.per_token, &why));
    }
    if experts.intermediate == 0 || experts.intermediate > DIMENSION_MAX {
        let why = format!("allowed are 1 to {DIMENSION_MAX}");
        return Err(Error::unsupported("moe_intermediate_size", experts.intermediate, &why));
    }
    if let Some(shared) = experts.shared.filter(|&shared| shared == 0 || shared > DIMENSION_MAX) {
        let why = format!("allowed are 1 to {DIMENSION_MAX}");
        return Err(Error::unsupported("shared_expert_intermediate_size", shared, &why));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
