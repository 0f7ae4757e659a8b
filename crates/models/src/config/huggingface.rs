//! `config.json`, in the layout of the published files and in that of transformers 5.

use serde_json::{Map, Value};

use super::{Architecture, Config, Experts, Rope, Yarn};
use crate::{Error, Result};

/// Layer count beyond which no list is made.
const LAYERS_MAX: usize = super::LAYERS_MAX;

/// Reads the configuration of a text model.
///
/// Both spellings are read: `rope_theta` with `rope_scaling`, and `rope_parameters`; `num_experts` and
/// `num_local_experts`.
///
/// # Errors
/// [`Error::MissingField`] or [`Error::UnsupportedConfig`], with the name of the field.
pub fn from_json(json: &Value) -> Result<Config> {
    let Some(object) = json.as_object() else {
        return Err(Error::MissingField { field: "config.json: an object".to_owned() });
    };
    let fields = Fields(object);
    let architecture = architecture(&fields)?;
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
    let experts = match architecture {
        Architecture::Qwen3 => None,
        Architecture::Qwen3Moe => Some(experts(&fields, layers)?),
    };
    Config {
        architecture,
        hidden,
        layers,
        heads,
        kv_heads: fields.optional_count("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate: fields.count("intermediate_size")?,
        norm_eps: fields.optional_float("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        vocabulary: fields.count("vocab_size")?,
        tied: fields.optional_bool("tie_word_embeddings")?.unwrap_or(false),
        context_tokens: fields.optional_count("max_position_embeddings")?.unwrap_or(32_768),
        rope: rope(&fields)?,
        windows: windows(&fields, layers)?,
        experts,
    }
    .check()
}

fn architecture(fields: &Fields<'_>) -> Result<Architecture> {
    match fields.0.get("model_type").and_then(Value::as_str) {
        Some("qwen3") => Ok(Architecture::Qwen3),
        Some("qwen3_moe") => Ok(Architecture::Qwen3Moe),
        Some(other) => Err(Error::unsupported("model_type", other, "supported are qwen3 and qwen3_moe")),
        None => Err(Error::MissingField { field: "model_type".to_owned() }),
    }
}

fn refuse_what_would_change_the_numbers(fields: &Fields<'_>) -> Result<()> {
    if fields.optional_bool("attention_bias")? == Some(true) {
        return Err(Error::unsupported("attention_bias", true, "no Qwen3 model has one"));
    }
    if let Some(act) = fields.present("hidden_act").filter(|act| act.as_str() != Some("silu")) {
        return Err(Error::unsupported("hidden_act", act, "only silu is"));
    }
    if let Some(quantization) = fields.present("quantization_config") {
        let method = quantization.get("quant_method").cloned().unwrap_or(Value::Null);
        return Err(Error::unsupported(
            "quantization_config.quant_method",
            method,
            "use BF16, F16, F32 or a GGUF file",
        ));
    }
    Ok(())
}

fn rope(fields: &Fields<'_>) -> Result<Rope> {
    let parameters = fields.present("rope_parameters").and_then(Value::as_object);
    let scaling = parameters.or_else(|| fields.present("rope_scaling").and_then(Value::as_object));
    let theta = match parameters.and_then(|object| object.get("rope_theta")).and_then(Value::as_f64) {
        Some(theta) => theta,
        None => fields.optional_float("rope_theta")?.unwrap_or(10_000.0),
    };
    let Some(scaling) = scaling else { return Ok(Rope { theta, yarn: None }) };
    let partial = scaling.get("partial_rotary_factor").and_then(Value::as_f64).unwrap_or(1.0);
    if (partial - 1.0).abs() > f64::EPSILON {
        return Err(Error::unsupported("rope_parameters.partial_rotary_factor", partial, "qwen3 rotates whole heads"));
    }
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str);
    match kind.unwrap_or("default") {
        "default" => Ok(Rope { theta, yarn: None }),
        "yarn" => Ok(Rope { theta, yarn: Some(yarn(&Fields(scaling))?) }),
        other => Err(Error::unsupported("rope_scaling.rope_type", other, "supported are default and yarn")),
    }
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
            Some("full_attention") => Ok(None),
            Some("sliding_attention") => Ok(window),
            _ => Err(Error::unsupported("layer_types", kind, "supported are full_attention and sliding_attention")),
        })
        .collect()
}

fn experts(fields: &Fields<'_>, layers: usize) -> Result<Experts> {
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
        normalise: fields.optional_bool("norm_topk_prob")?.unwrap_or(false),
        sparse: (0..layers).map(is_sparse).collect(),
    })
}

/// Typed access to the fields of an object; a field of the wrong type is refused, `null` counts as absent.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn present(&self, field: &str) -> Option<&'a Value> {
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

    fn optional_count(&self, field: &str) -> Result<Option<usize>> {
        self.optional(field, "a whole number", |value| value.as_u64().and_then(|count| usize::try_from(count).ok()))
    }

    fn optional_float(&self, field: &str) -> Result<Option<f64>> {
        self.optional(field, "a number", Value::as_f64)
    }

    fn optional_bool(&self, field: &str) -> Result<Option<bool>> {
        self.optional(field, "true or false", Value::as_bool)
    }

    fn count(&self, field: &str) -> Result<usize> {
        self.optional_count(field)?.ok_or_else(|| Error::MissingField { field: field.to_owned() })
    }
}
