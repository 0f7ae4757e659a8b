//! `config.json`, in the layout of the published files and in that of transformers 5.

use kernels::{DeltaShape, HeadOrder};
use serde_json::{Map, Value};

use super::{Architecture, Config, Experts, LinearAttention, Rope, Vision, Yarn};
use crate::picture::{FRAMES, MERGE, PATCH};
use crate::{Error, Result};

/// Layer count beyond which no list is made.
const LAYERS_MAX: usize = super::LAYERS_MAX;

/// Reads the configuration of a model.
///
/// Both spellings are read: `rope_theta` with `rope_scaling`, and `rope_parameters`; `num_experts` and
/// `num_local_experts`. The text part may lie in `text_config`.
///
/// # Errors
/// [`Error::MissingField`] or [`Error::UnsupportedConfig`], with the name of the field.
pub fn from_json(json: &Value) -> Result<Config> {
    let Some(root) = json.as_object() else {
        return Err(Error::MissingField { field: "config.json: an object".to_owned() });
    };
    let root = Fields(root);
    let architecture = architecture(&root)?;
    let fields = Fields(root.present("text_config").and_then(Value::as_object).unwrap_or(root.0));
    refuse_what_would_change_the_numbers(&fields)?;
    let layers = fields.count("num_hidden_layers")?;
    if layers == 0 || layers > LAYERS_MAX {
        return Err(Error::unsupported("num_hidden_layers", layers, &format!("allowed are 1 to {LAYERS_MAX}")));
    }
    let heads = fields.count("num_attention_heads")?;
    let hidden = fields.count("hidden_size")?;
    let head_dim = match fields.optional_count("head_dim")? {
        Some(head_dim) => head_dim,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(Error::MissingField { field: "head_dim".to_owned() }),
    };
    let experts = architecture.has_experts().then(|| experts(&fields, architecture, layers)).transpose()?;
    // A model whose layers all have experts needs no width of a dense one.
    let all_sparse = experts.as_ref().filter(|experts| experts.sparse.iter().all(|&sparse| sparse));
    let intermediate = match (fields.optional_count("intermediate_size")?, all_sparse) {
        (Some(intermediate), _) => intermediate,
        (None, Some(experts)) => experts.intermediate,
        (None, None) => return Err(Error::MissingField { field: "intermediate_size".to_owned() }),
    };
    let is_tied = |fields: &Fields<'_>| Ok(fields.optional_bool("tie_word_embeddings")?.unwrap_or(false));
    Config {
        architecture,
        hidden,
        layers,
        heads,
        kv_heads: fields.optional_count("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate,
        norm_eps: fields.optional_float("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        vocabulary: fields.count("vocab_size")?,
        tied: is_tied(&fields)? || is_tied(&root)?,
        context_tokens: fields.optional_count("max_position_embeddings")?.unwrap_or(32_768),
        rope: rope(&fields, architecture, head_dim)?,
        windows: windows(&fields, layers)?,
        experts,
        linear: architecture.is_hybrid().then(|| linear(&fields, layers)).transpose()?,
        gated_attention: architecture.is_hybrid(),
        norm_offset: if architecture.is_hybrid() { 1.0 } else { 0.0 },
        vision: vision(&root)?,
        quantisation: super::quantisation::read(&root)?,
    }
    .check()
}

fn architecture(fields: &Fields<'_>) -> Result<Architecture> {
    match fields.0.get("model_type").and_then(Value::as_str) {
        Some("qwen3") => Ok(Architecture::Qwen3),
        Some("qwen3_moe") => Ok(Architecture::Qwen3Moe),
        Some("qwen3_next") => Ok(Architecture::Qwen3Next),
        Some("qwen3_5" | "qwen3_5_text") => Ok(Architecture::Qwen35),
        Some("qwen3_5_moe" | "qwen3_5_moe_text") => Ok(Architecture::Qwen35Moe),
        Some("qwen3_vl" | "qwen3_vl_text") => Ok(Architecture::Qwen3Vl),
        Some("qwen3_vl_moe" | "qwen3_vl_moe_text") => Ok(Architecture::Qwen3VlMoe),
        Some(other) => {
            let why = "supported are qwen3, qwen3_moe, qwen3_next, qwen3_5, qwen3_5_moe, qwen3_vl and qwen3_vl_moe";
            Err(Error::unsupported("model_type", other, why))
        }
        None => Err(Error::MissingField { field: "model_type".to_owned() }),
    }
}

/// The vision tower, if the configuration has one. What is fixed for the whole family is refused if it is otherwise.
fn vision(root: &Fields<'_>) -> Result<Option<Vision>> {
    let Some(object) = root.present("vision_config").and_then(Value::as_object) else { return Ok(None) };
    let fields = Fields(object);
    for (field, expected) in
        [("in_channels", 3), ("patch_size", PATCH), ("spatial_merge_size", MERGE), ("temporal_patch_size", FRAMES)]
    {
        if let Some(value) = fields.optional_count(field)?.filter(|&value| value != expected) {
            return Err(Error::unsupported(&format!("vision_config.{field}"), value, &format!("only {expected} is")));
        }
    }
    if let Some(act) = fields.present("hidden_act").filter(|act| act.as_str() != Some("gelu_pytorch_tanh")) {
        return Err(Error::unsupported("vision_config.hidden_act", act, "only gelu_pytorch_tanh is"));
    }
    let places = fields.count("num_position_embeddings")?;
    let table_side = places.isqrt();
    if table_side * table_side != places {
        return Err(Error::unsupported("vision_config.num_position_embeddings", places, "it must be a square"));
    }
    let deepstack = fields.present("deepstack_visual_indexes").and_then(Value::as_array);
    let index = |value: &Value| value.as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(usize::MAX);
    let token = |field: &str| Ok(u32::try_from(root.count(field)?).unwrap_or(u32::MAX));
    Ok(Some(Vision {
        depth: fields.count("depth")?,
        hidden: fields.count("hidden_size")?,
        intermediate: fields.count("intermediate_size")?,
        heads: fields.count("num_heads")?,
        table_side,
        deepstack: deepstack.map(|list| list.iter().map(index).collect()).unwrap_or_default(),
        image_token: token("image_token_id")?,
        video_token: token("video_token_id")?,
    }))
}

/// Most layers of a hybrid are linear: all but every `full_attention_interval`-th, or as `layer_types` says.
fn linear(fields: &Fields<'_>, layers: usize) -> Result<LinearAttention> {
    let is_linear = match fields.present("layer_types").and_then(Value::as_array) {
        Some(types) => types.iter().map(|kind| kind == "linear_attention").collect(),
        None => {
            let interval = fields.optional_count("full_attention_interval")?.unwrap_or(4);
            if interval == 0 {
                return Err(Error::unsupported("full_attention_interval", interval, "it must be 1 or more"));
            }
            (0..layers).map(|layer| !(layer + 1).is_multiple_of(interval)).collect()
        }
    };
    if fields.optional_bool("attn_output_gate")? == Some(false) {
        return Err(Error::unsupported("attn_output_gate", false, "every published hybrid has the gate"));
    }
    let shape = DeltaShape {
        key_heads: fields.count("linear_num_key_heads")?,
        value_heads: fields.count("linear_num_value_heads")?,
        key_dim: fields.count("linear_key_head_dim")?,
        value_dim: fields.count("linear_value_head_dim")?,
        taps: fields.optional_count("linear_conv_kernel_dim")?.unwrap_or(4),
        order: HeadOrder::Grouped,
    };
    Ok(LinearAttention { shape, layers: is_linear })
}

fn refuse_what_would_change_the_numbers(fields: &Fields<'_>) -> Result<()> {
    if fields.optional_bool("attention_bias")? == Some(true) {
        return Err(Error::unsupported("attention_bias", true, "no Qwen3 model has one"));
    }
    if let Some(act) = fields.present("hidden_act").filter(|act| act.as_str() != Some("silu")) {
        return Err(Error::unsupported("hidden_act", act, "only silu is"));
    }
    Ok(())
}

fn rope(fields: &Fields<'_>, architecture: Architecture, head_dim: usize) -> Result<Rope> {
    let parameters = fields.present("rope_parameters").and_then(Value::as_object);
    let scaling = parameters.or_else(|| fields.present("rope_scaling").and_then(Value::as_object));
    let in_scaling = |field: &str| scaling.and_then(|object| object.get(field));
    let theta = match in_scaling("rope_theta").and_then(Value::as_f64) {
        Some(theta) => theta,
        None => fields.optional_float("rope_theta")?.unwrap_or(10_000.0),
    };
    let usual = if architecture.is_hybrid() { 0.25 } else { 1.0 };
    let partial = match in_scaling("partial_rotary_factor").and_then(Value::as_f64) {
        Some(partial) => partial,
        None => fields.optional_float("partial_rotary_factor")?.unwrap_or(usual),
    };
    if !(partial > 0.0 && partial <= 1.0) {
        return Err(Error::unsupported("partial_rotary_factor", partial, "it must be more than 0 and at most 1"));
    }
    let dims = (head_dim as f64 * partial) as usize;
    let sections = in_scaling("mrope_section").map(sections).transpose()?;
    let Some(scaling) = scaling else { return Ok(Rope { theta, yarn: None, dims, sections }) };
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str);
    match kind.unwrap_or("default") {
        "default" => Ok(Rope { theta, yarn: None, dims, sections }),
        "yarn" => Ok(Rope { theta, yarn: Some(yarn(&Fields(scaling))?), dims, sections }),
        other => Err(Error::unsupported("rope_scaling.rope_type", other, "supported are default and yarn")),
    }
}

fn sections(value: &Value) -> Result<[usize; 3]> {
    let sizes: Option<Vec<usize>> = value
        .as_array()
        .and_then(|list| list.iter().map(|size| size.as_u64().and_then(|size| usize::try_from(size).ok())).collect());
    let is_small = |sizes: &[usize; 3]| sizes.iter().all(|&size| size <= super::DIMENSION_MAX);
    let sizes = sizes.and_then(|sizes| <[usize; 3]>::try_from(sizes).ok()).filter(is_small);
    sizes.ok_or_else(|| Error::unsupported("mrope_section", value, "it must be three sizes"))
}

fn yarn(scaling: &Fields<'_>) -> Result<Yarn> {
    let required = |field: &str| -> Result<f64> {
        let missing = || Error::MissingField { field: format!("rope_scaling.{field}") };
        scaling.optional_float(field)?.ok_or_else(missing)
    };
    Ok(Yarn {
        factor: required("factor")?,
        original_context: required("original_max_position_embeddings")?,
        beta_fast: scaling.optional_float("beta_fast")?.unwrap_or(32.0),
        beta_slow: scaling.optional_float("beta_slow")?.unwrap_or(1.0),
        attention_factor: scaling.optional_float("attention_factor")?,
    })
}

/// A window applies only where `use_sliding_window` is true, to layers from `max_window_layers` on, or to those that
/// `layer_types` names.
fn windows(fields: &Fields<'_>, layers: usize) -> Result<Vec<Option<usize>>> {
    let wanted = fields.optional_bool("use_sliding_window")?.unwrap_or(false);
    let window = fields.optional_count("sliding_window")?.filter(|_| wanted);
    let first = fields.optional_count("max_window_layers")?.unwrap_or(layers);
    let Some(types) = fields.present("layer_types").and_then(Value::as_array) else {
        return Ok((0..layers).map(|layer| window.filter(|_| layer >= first)).collect());
    };
    if types.len() != layers {
        let why = format!("num_hidden_layers is {layers}");
        return Err(Error::unsupported("layer_types", format!("a list of {}", types.len()), &why));
    }
    types
        .iter()
        .map(|kind| match kind.as_str() {
            Some("full_attention" | "linear_attention") => Ok(None),
            Some("sliding_attention") => Ok(window),
            _ => Err(Error::unsupported("layer_types", kind, "supported are full_attention and sliding_attention")),
        })
        .collect()
}

fn experts(fields: &Fields<'_>, architecture: Architecture, layers: usize) -> Result<Experts> {
    let count = match fields.optional_count("num_experts")? {
        Some(count) => count,
        None => fields.count("num_local_experts")?,
    };
    let step = fields.optional_count("decoder_sparse_step")?.unwrap_or(1);
    if step == 0 {
        return Err(Error::unsupported("decoder_sparse_step", step, "it must be 1 or more"));
    }
    let dense: Vec<u64> = match fields.present("mlp_only_layers").and_then(Value::as_array) {
        Some(list) => list.iter().filter_map(Value::as_u64).collect(),
        None => Vec::new(),
    };
    let is_sparse = |layer: usize| !dense.contains(&(layer as u64)) && (layer + 1).is_multiple_of(step);
    Ok(Experts {
        count,
        per_token: fields.count("num_experts_per_tok")?,
        intermediate: fields.count("moe_intermediate_size")?,
        normalise: fields.optional_bool("norm_topk_prob")?.unwrap_or(architecture == Architecture::Qwen35Moe),
        sparse: (0..layers).map(is_sparse).collect(),
        shared: architecture.is_hybrid().then(|| fields.count("shared_expert_intermediate_size")).transpose()?,
    })
}

/// Typed access to the fields of an object; a field of the wrong type is refused, `null` counts as absent.
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn present(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn optional<T>(&self, field: &str, kind: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.present(field) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(Error::unsupported(field, value, &format!("it must be {kind}"))),
            },
        }
    }

    pub(super) fn optional_count(&self, field: &str) -> Result<Option<usize>> {
        self.optional(field, "a whole number", |value| value.as_u64().and_then(|count| usize::try_from(count).ok()))
    }

    pub(super) fn optional_float(&self, field: &str) -> Result<Option<f64>> {
        self.optional(field, "a number", Value::as_f64)
    }

    pub(super) fn optional_bool(&self, field: &str) -> Result<Option<bool>> {
        self.optional(field, "true or false", Value::as_bool)
    }

    pub(super) fn count(&self, field: &str) -> Result<usize> {
        self.optional_count(field)?.ok_or_else(|| Error::MissingField { field: field.to_owned() })
    }
}
