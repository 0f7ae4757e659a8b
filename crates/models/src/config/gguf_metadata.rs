//! The configuration inside a GGUF file.

use kernels::{DeltaShape, HeadOrder};

use super::{Architecture, Config, Experts, LinearAttention, Rope, Yarn};
use crate::gguf::{Metadata, Value};
use crate::weights::Weights;
use crate::{Error, Result};

/// Reads the configuration from the metadata; the vocabulary size and whether the head is tied follow from the tensors.
///
/// `norm_topk_prob` is not stored in GGUF; `qwen3moe` means that it is true.
///
/// # Errors
/// [`Error::MissingField`] or [`Error::UnsupportedConfig`], with the key.
pub fn from_gguf(metadata: &Metadata, weights: &Weights) -> Result<Config> {
    let name = required(metadata.string("general.architecture"), "general.architecture")?;
    let architecture = match name {
        "qwen3" => Architecture::Qwen3,
        "qwen3moe" => Architecture::Qwen3Moe,
        "qwen3vl" => Architecture::Qwen3Vl,
        "qwen3vlmoe" => Architecture::Qwen3VlMoe,
        "qwen3next" => Architecture::Qwen3Next,
        "qwen35" => Architecture::Qwen35,
        "qwen35moe" => Architecture::Qwen35Moe,
        other => {
            let why = "supported are qwen3, qwen3moe, qwen3vl, qwen3vlmoe, qwen3next, qwen35 and qwen35moe";
            return Err(Error::unsupported("general.architecture", other, why));
        }
    };
    let keys = Keys { metadata, prefix: name };
    // Layers that predict are counted with the others, and are none of them.
    let predicting = keys.optional_count("nextn_predict_layers")?.unwrap_or(0);
    let layers = keys.count("block_count")?.saturating_sub(predicting);
    if layers == 0 || layers > super::LAYERS_MAX {
        let why = format!("allowed are 1 to {}", super::LAYERS_MAX);
        return Err(Error::unsupported("block_count", layers, &why));
    }
    let heads = keys.count("attention.head_count")?;
    let hidden = keys.count("embedding_length")?;
    let head_dim = match keys.optional_count("attention.key_length")? {
        Some(head_dim) => head_dim,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    if let Some(value_length) = keys.optional_count("attention.value_length")?.filter(|&length| length != head_dim) {
        let why = format!("attention.key_length is {head_dim}");
        return Err(Error::unsupported("attention.value_length", value_length, &why));
    }
    let embedding = weights.get("embed_tokens.weight")?;
    let vocabulary = required(embedding.shape().first(), "the rows of token_embd.weight")?;
    Config {
        architecture,
        hidden,
        layers,
        heads,
        kv_heads: keys.optional_count("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        intermediate: keys.optional_count("feed_forward_length")?.unwrap_or(1),
        norm_eps: keys.optional_float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6) as f32,
        vocabulary: usize::try_from(*vocabulary).unwrap_or(usize::MAX),
        tied: !weights.contains("lm_head.weight"),
        context_tokens: keys.count("context_length")?,
        rope: rope(&keys, keys.optional_count("rope.dimension_count")?.unwrap_or(head_dim))?,
        windows: vec![None; layers],
        experts: experts(&keys, architecture, layers, weights)?,
        linear: architecture.is_hybrid().then(|| linear(&keys, architecture, layers)).transpose()?,
        gated_attention: architecture.is_hybrid(),
        // The files hold what is multiplied with, whatever the family stores elsewhere.
        norm_offset: 0.0,
        vision: None,
        quantisation: None,
    }
    .check()
}

fn rope(keys: &Keys<'_>, dims: usize) -> Result<Rope> {
    let theta = keys.optional_float("rope.freq_base")?.unwrap_or(10_000.0);
    let kind = keys.metadata.string(&keys.full("rope.scaling.type")).unwrap_or("none");
    match kind {
        "none" => Ok(Rope { theta, yarn: None, dims, sections: sections(keys)? }),
        "yarn" => {
            let yarn = Yarn {
                factor: required(keys.optional_float("rope.scaling.factor")?, "rope.scaling.factor")?,
                original_context: required(
                    keys.optional_float("rope.scaling.original_context_length")?,
                    "rope.scaling.original_context_length",
                )?,
                beta_fast: keys.optional_float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: keys.optional_float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                attention_factor: keys.optional_float("rope.scaling.attn_factor")?,
            };
            Ok(Rope { theta, yarn: Some(yarn), dims, sections: sections(keys)? })
        }
        other => Err(Error::unsupported("rope.scaling.type", other, "supported are none and yarn")),
    }
}

/// Time, row and column; a fourth number is always 0.
fn sections(keys: &Keys<'_>) -> Result<Option<[usize; 3]>> {
    let key = keys.full("rope.dimension_sections");
    let Some(list) = keys.metadata.array(&key) else { return Ok(None) };
    let count = |value| match value {
        Value::Unsigned(count) => usize::try_from(count).ok(),
        Value::Signed(count) => usize::try_from(count).ok(),
        _ => None,
    };
    let counts: Option<Vec<usize>> = list.iter().map(count).collect();
    match counts.as_deref() {
        Some([0, 0, 0] | [0, 0, 0, 0]) => Ok(None),
        Some(&[time, row, column] | &[time, row, column, 0])
            if [time, row, column].iter().all(|&size| size <= super::DIMENSION_MAX) =>
        {
            Ok(Some([time, row, column]))
        }
        _ => Err(Error::unsupported(&key, format!("{list:?}"), "it must be three sizes")),
    }
}

/// Most layers of a hybrid are linear: all but every `full_attention_interval`-th, or those that the file lists.
fn linear(keys: &Keys<'_>, architecture: Architecture, layers: usize) -> Result<LinearAttention> {
    let listed = keys.metadata.array(&keys.full("attention.recurrent_layers"));
    let is_linear: Vec<bool> = match listed {
        Some(flags) if flags.len() >= layers => {
            flags.iter().take(layers).map(|flag| matches!(flag, Value::Bool(true) | Value::Unsigned(1))).collect()
        }
        Some(flags) => {
            let key = keys.full("attention.recurrent_layers");
            return Err(Error::unsupported(&key, format!("a list of {}", flags.len()), &format!("of {layers} layers")));
        }
        None => {
            let interval = keys.optional_count("full_attention_interval")?.unwrap_or(4);
            if interval == 0 {
                return Err(Error::unsupported(&keys.full("full_attention_interval"), 0, "it must be 1 or more"));
            }
            (0..layers).map(|layer| !(layer + 1).is_multiple_of(interval)).collect()
        }
    };
    let value_heads = keys.count("ssm.time_step_rank")?;
    let values = keys.count("ssm.inner_size")?;
    if value_heads == 0 || !values.is_multiple_of(value_heads) {
        let why = format!("ssm.inner_size is {values}");
        return Err(Error::unsupported(&keys.full("ssm.time_step_rank"), value_heads, &why));
    }
    let shape = DeltaShape {
        key_heads: keys.count("ssm.group_count")?,
        value_heads,
        key_dim: keys.count("ssm.state_size")?,
        value_dim: values / value_heads,
        taps: keys.count("ssm.conv_kernel")?,
        // Whoever writes these files puts the heads of qwen35 into the other order, and leaves those of qwen3next.
        order: if architecture == Architecture::Qwen3Next { HeadOrder::Grouped } else { HeadOrder::Tiled },
    };
    Ok(LinearAttention { shape, layers: is_linear })
}

fn experts(keys: &Keys<'_>, architecture: Architecture, layers: usize, weights: &Weights) -> Result<Option<Experts>> {
    if !architecture.has_experts() {
        return Ok(None);
    }
    let shared = match keys.optional_count("expert_shared_feed_forward_length")? {
        _ if !architecture.is_hybrid() => None,
        Some(width) => Some(width),
        // Older files do not say it.
        None => {
            let gate = weights.get("layers.0.mlp.shared_expert.gate_proj.weight")?;
            gate.shape().first().and_then(|&rows| usize::try_from(rows).ok())
        }
    };
    Ok(Some(Experts {
        count: keys.count("expert_count")?,
        per_token: keys.count("expert_used_count")?,
        intermediate: keys.count("expert_feed_forward_length")?,
        normalise: true,
        sparse: vec![true; layers],
        shared,
    }))
}

pub(super) fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| Error::MissingField { field: field.to_owned() })
}

/// Typed access to the keys of one architecture.
pub(super) struct Keys<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) prefix: &'a str,
}

impl Keys<'_> {
    pub(super) fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn optional<T>(&self, key: &str, kind: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let full = self.full(key);
        let Some(value) = self.metadata.get(&full) else { return Ok(None) };
        match read(&full) {
            Some(read) => Ok(Some(read)),
            None => Err(Error::unsupported(&full, shown(value), &format!("it must be {kind}"))),
        }
    }

    pub(super) fn optional_count(&self, key: &str) -> Result<Option<usize>> {
        let read = |full: &str| self.metadata.unsigned(full).and_then(|count| usize::try_from(count).ok());
        self.optional(key, "a whole number", read)
    }

    pub(super) fn optional_float(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, "a number", |full| self.metadata.float(full))
    }

    pub(super) fn count(&self, key: &str) -> Result<usize> {
        required(self.optional_count(key)?, &self.full(key))
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        other => format!("{other:?}"),
    }
}
