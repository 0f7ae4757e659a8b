//! What GGUF files say of hybrids and of vision towers. Keys: gguf-py's `constants.py`, as llama.cpp's converter
//! writes them.

use super::gguf_file::count;
use crate::config::{Architecture, Config};
use crate::gguf::write::Entry;
use crate::picture::{MERGE, PATCH};
use crate::{Checkpoint, Error, Result};

/// What such a model is called in GGUF.
pub(super) fn family(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Qwen3 => "qwen3",
        Architecture::Qwen3Moe => "qwen3moe",
        Architecture::Qwen3Next => "qwen3next",
        Architecture::Qwen35 => "qwen35",
        Architecture::Qwen35Moe => "qwen35moe",
        Architecture::Qwen3Vl => "qwen3vl",
        Architecture::Qwen3VlMoe => "qwen3vlmoe",
    }
}

/// What a decoder has beyond a dense one or a mixture.
pub(super) fn of_decoder(config: &Config, predicts: bool) -> Result<Vec<(&'static str, Entry)>> {
    let mut keys = vec![("block_count", count("num_hidden_layers", config.layers + usize::from(predicts))?)];
    if predicts {
        keys.push(("nextn_predict_layers", Entry::U32(1)));
    }
    if let Some(sections) = config.rope.sections {
        let mut sizes = Vec::with_capacity(4);
        for size in sections.into_iter().chain([0]) {
            let refused = |_| Error::unsupported("mrope_section", size, "GGUF keeps it in 32 bits");
            sizes.push(i32::try_from(size).map_err(refused)?);
        }
        keys.push(("rope.dimension_sections", Entry::I32s(sizes)));
    }
    if let Some(vision) = &config.vision {
        keys.push(("n_deepstack_layers", count("deepstack_visual_indexes", vision.deepstack.len())?));
    }
    if let Some(shared) = config.experts.as_ref().and_then(|experts| experts.shared) {
        keys.push(("expert_shared_feed_forward_length", count("shared_expert_intermediate_size", shared)?));
    }
    let Some(linear) = &config.linear else { return Ok(keys) };
    let shape = &linear.shape;
    keys.extend([
        ("rope.dimension_count", count("partial_rotary_factor", config.rope.dims)?),
        ("ssm.conv_kernel", count("linear_conv_kernel_dim", shape.taps)?),
        ("ssm.state_size", count("linear_key_head_dim", shape.key_dim)?),
        ("ssm.group_count", count("linear_num_key_heads", shape.key_heads)?),
        ("ssm.time_step_rank", count("linear_num_value_heads", shape.value_heads)?),
        ("ssm.inner_size", count("linear_value_head_dim", shape.value_heads * shape.value_dim)?),
    ]);
    let interval = 1 + linear.layers.iter().take_while(|&&is_linear| is_linear).count();
    let is_regular = |(layer, &is_linear): (usize, &bool)| is_linear != (layer + 1).is_multiple_of(interval);
    if linear.layers.iter().enumerate().all(is_regular) {
        keys.push(("full_attention_interval", count("full_attention_interval", interval)?));
    } else {
        let flags = linear.layers.iter().copied().chain(std::iter::repeat_n(false, usize::from(predicts)));
        keys.push(("attention.recurrent_layers", Entry::Bools(flags.collect())));
    }
    Ok(keys)
}

/// All metadata of a tower's file.
///
/// # Errors
/// [`Error::MissingField`] if there is no tower.
pub(super) fn of_tower(checkpoint: &Checkpoint, name: &str) -> Result<Vec<(String, Entry)>> {
    let missing = || Error::MissingField { field: "vision_config".to_owned() };
    let vision = checkpoint.config.vision.as_ref().ok_or_else(missing)?;
    let mut entries = Vec::new();
    let mut put = |key: &str, entry| entries.push((key.to_owned(), entry));
    put("general.architecture", Entry::String("clip".to_owned()));
    put("general.type", Entry::String("mmproj".to_owned()));
    put("general.name", Entry::String(name.to_owned()));
    put("general.file_type", Entry::U32(0));
    put("clip.has_vision_encoder", Entry::Bool(true));
    put("clip.projector_type", Entry::String("qwen3vl_merger".to_owned()));
    put("clip.use_gelu", Entry::Bool(true));
    for (key, number) in [
        ("image_size", vision.table_side * PATCH),
        ("patch_size", PATCH),
        ("embedding_length", vision.hidden),
        ("feed_forward_length", vision.intermediate),
        ("projection_dim", checkpoint.config.hidden),
        ("block_count", vision.depth),
        ("attention.head_count", vision.heads),
        ("spatial_merge_size", MERGE),
        ("image_min_pixels", checkpoint.pixels.fewest),
        ("image_max_pixels", checkpoint.pixels.most),
    ] {
        put(&format!("clip.vision.{key}"), count(key, number)?);
    }
    put("clip.vision.attention.layer_norm_epsilon", Entry::F32(1e-6));
    put("clip.vision.image_mean", Entry::F32s(vec![0.5; 3]));
    put("clip.vision.image_std", Entry::F32s(vec![0.5; 3]));
    let is_deep = (0..vision.depth).map(|block| vision.deepstack.contains(&block)).collect();
    put("clip.vision.is_deepstack_layers", Entry::Bools(is_deep));
    Ok(entries)
}
