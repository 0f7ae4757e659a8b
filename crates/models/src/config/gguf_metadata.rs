//! The configuration inside a GGUF file.

use super::{Architecture, Config, Experts, Rope, Yarn};
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
        other => return Err(Error::unsupported("general.architecture", other, "supported are qwen3 and qwen3moe")),
    };
    let keys = Keys { metadata, prefix: name };
    let layers = keys.count("block_count")?;
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
        rope: rope(&keys, head_dim)?,
        windows: vec![None; layers],
        experts: experts(&keys, architecture, layers)?,
        linear: None,
        gated_attention: false,
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
        "none" => Ok(Rope { theta, yarn: None, dims, sections: None }),
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
            Ok(Rope { theta, yarn: Some(yarn), dims, sections: None })
        }
        other => Err(Error::unsupported("rope.scaling.type", other, "supported are none and yarn")),
    }
}

fn experts(keys: &Keys<'_>, architecture: Architecture, layers: usize) -> Result<Option<Experts>> {
    if !architecture.has_experts() {
        return Ok(None);
    }
    Ok(Some(Experts {
        count: keys.count("expert_count")?,
        per_token: keys.count("expert_used_count")?,
        intermediate: keys.count("expert_feed_forward_length")?,
        normalise: true,
        sparse: vec![true; layers],
        shared: None,
    }))
}

fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| Error::MissingField { field: field.to_owned() })
}

/// Typed access to the keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
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

    fn optional_count(&self, key: &str) -> Result<Option<usize>> {
        let read = |full: &str| self.metadata.unsigned(full).and_then(|count| usize::try_from(count).ok());
        self.optional(key, "a whole number", read)
    }

    fn optional_float(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, "a number", |full| self.metadata.float(full))
    }

    fn count(&self, key: &str) -> Result<usize> {
        required(self.optional_count(key)?, &self.full(key))
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        other => format!("{other:?}"),
    }
}
