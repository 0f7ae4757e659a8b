//! A model from a Hugging Face `config.json`.

use serde_json::{Map, Value};

use super::{Attention, Experts, Linear, Model};
use crate::error::{Error, Result, at_most};

/// The longest file that is read.
const TEXT_BYTES_MAX: u64 = 4 << 20;
/// The largest number that a field may hold: no published model comes near, and products stay below 2^64.
fn field_max(name: &str) -> u64 {
    match name {
        "num_hidden_layers" => 1 << 10,
        "hidden_size" => 1 << 17,
        _ if name.ends_with("heads") => 1 << 12,
        _ if name.contains("head_dim") || name.ends_with("rank") => 1 << 16,
        _ if name.contains("experts") => 1 << 14,
        _ => 1 << 20,
    }
}

/// Reads the shape. Both spellings of the fields are known (`num_experts` and `num_local_experts`, and those of
/// DeepSeek); a multi-modal file is read for its text part.
///
/// # Errors
/// If the text is no JSON, or a field is missing, is no whole number, is too large or contradicts another.
pub fn from_config(name: &str, text: &str) -> Result<Model> {
    at_most("bytes of config.json", text.len() as u64, TEXT_BYTES_MAX)?;
    let whole: Value = serde_json::from_str(text).map_err(|source| Error::Json { what: "config.json", source })?;
    let inner = whole.get("text_config").filter(|inner| inner.is_object()).unwrap_or(&whole);
    let fields = inner.as_object().ok_or_else(|| Error::invalid("config.json", "no object"))?;
    let config = Config { fields, whole: &whole };
    let layers = config.number("num_hidden_layers")?;
    let model_type = config.text("model_type").unwrap_or("unknown");
    let mut notes = Vec::new();
    let known = ["qwen", "llama", "mistral", "mixtral", "deepseek", "kimi", "gpt_oss", "glm"];
    if !known.iter().any(|known| model_type.starts_with(known)) {
        notes.push(format!("model type {model_type:?} is read as a usual decoder: counts may be off"));
    }
    if inner.get("text_config").is_none() && whole.get("vision_config").is_some() {
        notes.push("the encoder for pictures is not counted".to_owned());
    }
    let model = Model {
        name: name.to_owned(),
        notes,
        layers,
        hidden: config.number("hidden_size")?,
        vocabulary: config.number("vocab_size")?,
        tied: config.flag("tie_word_embeddings"),
        attention: config.attention(model_type)?,
        linear: config.linear(layers)?,
        intermediate: config.optional("intermediate_size")?.unwrap_or(0),
        experts: config.experts(layers)?,
    };
    let dense = model.layers - model.experts.map_or(0, |experts| experts.layers);
    if dense > 0 && model.intermediate == 0 {
        return Err(Error::invalid("config.json", "intermediate_size is missing, and there are dense layers"));
    }
    if u128::from(model.layers) * u128::from(model.hidden) == 0 {
        return Err(Error::invalid("config.json", "no layers or no width"));
    }
    Ok(model)
}

struct Config<'a> {
    fields: &'a Map<String, Value>,
    whole: &'a Value,
}

impl Config<'_> {
    fn optional(&self, name: &str) -> Result<Option<u64>> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let wrong = || Error::invalid("config.json", format!("{name} is {value}"));
                let number = value.as_u64().ok_or_else(wrong)?;
                let most = field_max(name);
                if number > most {
                    return Err(Error::invalid("config.json", format!("{name} is {number}, at most {most}")));
                }
                Ok(Some(number))
            }
        }
    }

    fn number(&self, name: &str) -> Result<u64> {
        let found = self.optional(name)?;
        let missing = || Error::invalid("config.json", format!("{name} is missing or 0"));
        found.filter(|number| *number > 0).ok_or_else(missing)
    }

    fn first(&self, names: &[&str]) -> Result<Option<u64>> {
        for name in names {
            if let Some(number) = self.optional(name)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).or_else(|| self.whole.get(name))?.as_str()
    }

    /// True if it is so here or at the top.
    fn flag(&self, name: &str) -> bool {
        [self.fields.get(name), self.whole.get(name)]
            .iter()
            .any(|value| value.is_some_and(|value| value.as_bool() == Some(true)))
    }

    fn attention(&self, model_type: &str) -> Result<Attention> {
        let heads = self.number("num_attention_heads")?;
        if let Some(kv_rank) = self.optional("kv_lora_rank")?.filter(|rank| *rank > 0) {
            return Ok(Attention::Latent {
                heads,
                query_rank: self.optional("q_lora_rank")?.unwrap_or(0),
                kv_rank,
                plain: self.number("qk_nope_head_dim")?,
                rotary: self.number("qk_rope_head_dim")?,
                value: self.number("v_head_dim")?,
            });
        }
        let kv_heads = self.optional("num_key_value_heads")?.filter(|heads| *heads > 0).unwrap_or(heads);
        let head = match self.optional("head_dim")?.filter(|head| *head > 0) {
            Some(head) => head,
            None => self.number("hidden_size")? / heads,
        };
        let hybrid = self.optional("linear_num_value_heads")?.is_some();
        let normed = model_type.starts_with("qwen3") || hybrid;
        Ok(Attention::Grouped {
            heads,
            kv_heads,
            head,
            norms: if normed { 2 * head } else { 0 },
            gate: hybrid,
            // Qwen2 has biases and does not say so.
            bias: self.flag("attention_bias") || model_type.starts_with("qwen2"),
        })
    }

    fn linear(&self, layers: u64) -> Result<Option<Linear>> {
        let Some(value_heads) = self.optional("linear_num_value_heads")? else { return Ok(None) };
        let listed = self.fields.get("layer_types").and_then(Value::as_array).map(|kinds| {
            kinds.iter().take(layers as usize).filter(|kind| kind.as_str() == Some("linear_attention")).count() as u64
        });
        let interval = self.optional("full_attention_interval")?.filter(|every| *every > 0).unwrap_or(4);
        Ok(Some(Linear {
            layers: listed.unwrap_or(layers - layers / interval),
            key: (self.number("linear_num_key_heads")?, self.number("linear_key_head_dim")?),
            value: (value_heads, self.number("linear_value_head_dim")?),
            taps: self.optional("linear_conv_kernel_dim")?.unwrap_or(4),
        }))
    }

    fn experts(&self, layers: u64) -> Result<Option<Experts>> {
        let Some(count) = self.first(&["num_experts", "num_local_experts", "n_routed_experts"])? else {
            return Ok(None);
        };
        if count == 0 {
            return Ok(None);
        }
        let per_token = self.number("num_experts_per_tok")?;
        if per_token > count {
            return Err(Error::invalid("config.json", format!("{per_token} experts a token of {count}")));
        }
        let width = self.first(&["moe_intermediate_size", "intermediate_size"])?.filter(|width| *width > 0);
        let missing = || Error::invalid("config.json", "moe_intermediate_size is missing");
        let intermediate = width.ok_or_else(missing)?;
        let own = self.optional("shared_expert_intermediate_size")?;
        let shared = own.unwrap_or(self.optional("n_shared_experts")?.unwrap_or(0) * intermediate);
        let dense = self.optional("first_k_dense_replace")?.unwrap_or(0);
        let only = self.fields.get("mlp_only_layers").and_then(Value::as_array);
        let only: Vec<u64> = only.map_or(Vec::new(), |list| list.iter().filter_map(Value::as_u64).collect());
        let step = self.optional("decoder_sparse_step")?.filter(|step| *step > 0).unwrap_or(1);
        let sparse = |layer: &u64| *layer >= dense && (layer + 1).is_multiple_of(step) && !only.contains(layer);
        Ok(Some(Experts {
            count,
            per_token,
            intermediate,
            shared,
            shared_gate: own.is_some_and(|width| width > 0),
            layers: (0..layers).filter(sparse).count() as u64,
        }))
    }
}
