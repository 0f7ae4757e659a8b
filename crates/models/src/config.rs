//! The shape of a model, checked once.
//!
//! [`Config`] is made from a Hugging Face `config.json` ([`huggingface`]) or from GGUF metadata ([`gguf_metadata`]).
//! What cannot be computed exactly is refused by name of field and value; nothing is guessed.

mod gguf_metadata;
mod huggingface;

pub use gguf_metadata::from_gguf;
pub use huggingface::from_json;

use crate::{Error, Result};

/// No published model comes near these; beyond them an allocation would follow a foreign number.
const DIMENSION_MAX: usize = 1 << 20;
const LAYERS_MAX: usize = 4096;
const EXPERTS_MAX: usize = 1 << 16;
const VOCABULARY_MAX: usize = 1 << 24;

/// Which forward pass the model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Every layer has one feed-forward network.
    Qwen3,
    /// Some or all layers choose among experts.
    Qwen3Moe,
}

impl Architecture {
    /// `model_type` of `config.json`.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3_moe",
        }
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
        Ok(self)
    }

    /// Numbers that one token needs in the key/value cache, all layers together.
    #[must_use]
    pub fn kv_numbers_per_token(&self) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim
    }

    /// Whether the experts of this layer are used, or its dense network.
    #[must_use]
    pub fn is_sparse(&self, layer: usize) -> bool {
        self.experts.as_ref().is_some_and(|experts| experts.sparse[layer])
    }

    /// Parameters, counted from the shape: all, and those that one token uses.
    #[must_use]
    pub fn parameters(&self) -> (u64, u64) {
        let [h, hd] = [self.hidden as u64, self.head_dim as u64];
        let attention = h * hd * (2 * self.heads as u64 + 2 * self.kv_heads as u64) + 2 * hd;
        let embeddings = self.vocabulary as u64 * h * if self.tied { 1 } else { 2 };
        let (mut total, mut active) = (embeddings + h, embeddings + h);
        for layer in 0..self.layers {
            let (all, used) = match &self.experts {
                Some(experts) if experts.sparse[layer] => {
                    let one = 3 * h * experts.intermediate as u64;
                    let router = h * experts.count as u64;
                    (router + one * experts.count as u64, router + one * experts.per_token as u64)
                }
                Some(_) | None => (3 * h * self.intermediate as u64, 3 * h * self.intermediate as u64),
            };
            total += attention + 2 * h + all;
            active += attention + 2 * h + used;
        }
        (total, active)
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
    Ok(())
}

#[cfg(test)]
mod tests;
