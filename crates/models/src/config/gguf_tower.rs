//! The configuration of a vision tower inside a GGUF file of its own (`mmproj`).

use super::gguf_metadata::{Keys, required};
use super::{Config, Vision};
use crate::gguf::{Metadata, Value};
use crate::picture::{MERGE, PATCH};
use crate::text::{TextAssets, TokenizerSource};
use crate::{Error, Result};

/// The kind of tower that this family has.
const PROJECTOR: &str = "qwen3vl_merger";
/// Epsilon of the tower's norms; a file keeps it in 32 bits.
const EPSILON: std::ops::Range<f64> = 0.99e-6..1.01e-6;

/// The model with this tower. Which tokens stand for pictures is known from the model's own file.
///
/// # Errors
/// [`Error::MissingField`] or [`Error::UnsupportedConfig`], with the key.
pub(crate) fn tower_from_gguf(metadata: &Metadata, text: &TextAssets, config: Config) -> Result<Config> {
    let keys = Keys { metadata, prefix: "clip.vision" };
    let kind = metadata.string("clip.projector_type").or_else(|| metadata.string("clip.vision.projector_type"));
    let kind = required(kind, "clip.projector_type")?;
    if kind != PROJECTOR {
        return Err(Error::unsupported("clip.projector_type", kind, &format!("only {PROJECTOR} is")));
    }
    for (key, expected) in [("patch_size", PATCH), ("spatial_merge_size", MERGE), ("projection_dim", config.hidden)] {
        if let Some(found) = keys.optional_count(key)?.filter(|&found| found != expected) {
            return Err(Error::unsupported(&keys.full(key), found, &format!("it must be {expected}")));
        }
    }
    let epsilon = keys.optional_float("attention.layer_norm_epsilon")?.unwrap_or(1e-6);
    if !EPSILON.contains(&epsilon) {
        return Err(Error::unsupported("clip.vision.attention.layer_norm_epsilon", epsilon, "only 1e-6 is"));
    }
    for key in ["image_mean", "image_std"] {
        let list = metadata.items(&keys.full(key));
        if list.iter().any(|value| *value != Value::Float(0.5)) {
            return Err(Error::unsupported(&keys.full(key), format!("{list:?}"), "only 0.5 is"));
        }
    }
    let flags = metadata.items("clip.vision.is_deepstack_layers");
    let deepstack = flags.iter().enumerate().filter(|(_, flag)| **flag == Value::Bool(true)).map(|(block, _)| block);
    let token = |name: &str| {
        let id = match &text.tokenizer {
            Some(TokenizerSource::Gguf { tokens, .. }) => tokens.iter().position(|token| token == name),
            Some(TokenizerSource::Json(_)) | None => None,
        };
        let id = id.and_then(|id| u32::try_from(id).ok());
        required(id, &format!("the token {name}"))
    };
    let vision = Vision {
        depth: keys.count("block_count")?,
        hidden: keys.count("embedding_length")?,
        intermediate: keys.count("feed_forward_length")?,
        heads: keys.count("attention.head_count")?,
        table_side: keys.count("image_size")? / PATCH,
        deepstack: deepstack.collect(),
        image_token: token("<|image_pad|>")?,
        video_token: token("<|video_pad|>")?,
    };
    Config { vision: Some(vision), ..config }.check()
}
