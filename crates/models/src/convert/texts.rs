//! Everything of a Hugging Face folder but the numbers: configurations and tokenizer, as transformers reads them.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Written, at, sync};
use crate::config::{Config, Experts, LinearAttention, Vision};
use crate::picture::{FRAMES, MERGE, PATCH, PixelLimits};
use crate::text::{TextAssets, TokenizerSource};
use crate::{Checkpoint, Error, Predictor, Result};

pub(super) fn write(checkpoint: &Checkpoint, written: &Written, folder: &Path) -> Result<()> {
    let text = &checkpoint.text;
    let most = written.bytes_by_format.iter().max_by_key(|(_, bytes)| **bytes).map(|(name, _)| name.as_str());
    let dtype = match most {
        Some("F32") => "float32",
        Some("F16") => "float16",
        _ => "bfloat16",
    };
    put_json(&folder.join("config.json"), &config_json(checkpoint, dtype))?;
    if checkpoint.config.vision.is_some() {
        put_json(&folder.join("preprocessor_config.json"), &preprocessor("image", "Fast", checkpoint.pixels))?;
        put_json(&folder.join("video_preprocessor_config.json"), &preprocessor("video", "", checkpoint.clip_pixels))?;
    }
    put_json(&folder.join("generation_config.json"), &generation_json(text))?;
    match &text.tokenizer {
        None => {}
        Some(TokenizerSource::Json(bytes)) => {
            put(&folder.join("tokenizer.json"), bytes)?;
            put_json(&folder.join("tokenizer_config.json"), &tokenizer_config(checkpoint, bytes)?)?;
        }
        Some(TokenizerSource::Gguf { .. }) => {
            return Err(Error::unsupported("the tokenizer", "lists of GGUF", "a folder needs tokenizer.json"));
        }
    }
    if checkpoint.embeds {
        // What sentence-transformers reads: the last token's hidden state, made one long.
        let module = |index: usize, path: &str, kind: &str| {
            let kind = format!("sentence_transformers.models.{kind}");
            json!({"idx": index, "name": index.to_string(), "path": path, "type": kind})
        };
        let modules =
            [module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")];
        put_json(&folder.join("modules.json"), &json!(modules))?;
        let pooling = folder.join("1_Pooling");
        std::fs::create_dir(&pooling).map_err(at(&pooling))?;
        let width = checkpoint.config.hidden;
        let how = json!({"word_embedding_dimension": width, "pooling_mode_lasttoken": true, "include_prompt": true,
            "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": false, "pooling_mode_max_tokens": false});
        put_json(&pooling.join("config.json"), &how)?;
        sync(&pooling)?;
    }
    Ok(())
}

/// `config.json` in the layout of the published files.
pub(super) fn config_json(checkpoint: &Checkpoint, dtype: &str) -> Value {
    let config = &checkpoint.config;
    let mut text = text_json(config, &checkpoint.text, dtype);
    if let Some(experts) = &config.experts {
        put_experts(&mut text, experts);
    }
    if let Some(linear) = &config.linear {
        put_linear(&mut text, linear, Predictor::is_in(checkpoint));
    }
    let model_type = config.architecture.model_type();
    if !config.architecture.has_vision() {
        text["architectures"] = json!([class_of(config, "ForCausalLM")]);
        text["model_type"] = json!(model_type);
        return text;
    }
    text["model_type"] = json!(format!("{model_type}_text"));
    let mut fields = json!({
        "architectures": [class_of(config, "ForConditionalGeneration")],
        "model_type": model_type,
        "text_config": text,
        "tie_word_embeddings": config.tied,
    });
    if let Some(vision) = &config.vision {
        fields["vision_config"] = vision_json(vision, config, model_type);
        fields["image_token_id"] = json!(vision.image_token);
        fields["video_token_id"] = json!(vision.video_token);
        // Start and end stand before them in every vocabulary of the family.
        let beside = vision.image_token.min(vision.video_token);
        fields["vision_start_token_id"] = json!(beside.saturating_sub(3));
        fields["vision_end_token_id"] = json!(beside.saturating_sub(2));
    }
    fields
}

/// Transformers' class: `Qwen3NextForCausalLM` of `qwen3_next`.
fn class_of(config: &Config, kind: &str) -> String {
    let mut name = String::new();
    for word in config.architecture.model_type().split('_') {
        match word {
            "vl" => name.push_str("VL"),
            "5" => name.push_str("_5"),
            word => {
                let (first, rest) = word.split_at(1);
                name.push_str(&first.to_uppercase());
                name.push_str(rest);
            }
        }
    }
    name + kind
}

/// What every decoder of the family has.
fn text_json(config: &Config, text: &TextAssets, dtype: &str) -> Value {
    let window = config.windows.iter().flatten().next();
    let mut fields = json!({
        "attention_bias": false,
        "attention_dropout": 0.0,
        "eos_token_id": text.generation.eos.first(),
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate,
        "max_position_embeddings": config.context_tokens,
        "max_window_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": plain(config.norm_eps),
        "rope_theta": config.rope.theta,
        "rope_scaling": null,
        "sliding_window": window,
        "use_sliding_window": window.is_some(),
        "tie_word_embeddings": config.tied,
        "torch_dtype": dtype,
        "use_cache": true,
        "vocab_size": config.vocabulary,
    });
    if window.is_some() {
        let kind = |window: &Option<usize>| if window.is_some() { "sliding_attention" } else { "full_attention" };
        fields["layer_types"] = config.windows.iter().map(kind).collect();
    }
    if config.linear.is_some() {
        fields["partial_rotary_factor"] = json!(config.rope.dims as f64 / config.head_dim as f64);
    }
    if let Some(yarn) = &config.rope.yarn {
        fields["rope_scaling"] = json!({
            "rope_type": "yarn",
            "factor": yarn.factor,
            "original_max_position_embeddings": yarn.original_context as u64,
            "beta_fast": yarn.beta_fast,
            "beta_slow": yarn.beta_slow,
        });
        if let Some(factor) = yarn.attention_factor {
            fields["rope_scaling"]["attention_factor"] = json!(factor);
        }
    }
    if let Some(sections) = config.rope.sections {
        if config.rope.yarn.is_none() {
            fields["rope_scaling"] = json!({"rope_type": "default"});
        }
        fields["rope_scaling"]["mrope_section"] = json!(sections);
        fields["rope_scaling"]["mrope_interleaved"] = json!(true);
    }
    if config.linear.is_some() && config.architecture.has_vision() {
        // Qwen3.5 is published in the layout of transformers 5.
        let mut parameters = fields["rope_scaling"].take();
        if parameters.is_null() {
            parameters = json!({"rope_type": "default"});
        }
        parameters["rope_theta"] = fields["rope_theta"].take();
        parameters["partial_rotary_factor"] = fields["partial_rotary_factor"].take();
        fields["rope_parameters"] = parameters;
        if let Some(object) = fields.as_object_mut() {
            object
                .retain(|field, _| !["rope_scaling", "rope_theta", "partial_rotary_factor"].contains(&field.as_str()));
        }
    }
    fields
}

fn put_experts(fields: &mut Value, experts: &Experts) {
    let dense = experts.sparse.iter().enumerate().filter(|(_, sparse)| !**sparse).map(|(layer, _)| layer);
    fields["decoder_sparse_step"] = json!(1);
    fields["mlp_only_layers"] = dense.collect();
    fields["moe_intermediate_size"] = json!(experts.intermediate);
    fields["norm_topk_prob"] = json!(experts.normalise);
    fields["num_experts"] = json!(experts.count);
    fields["num_experts_per_tok"] = json!(experts.per_token);
    fields["output_router_logits"] = json!(false);
    if let Some(shared) = experts.shared {
        fields["shared_expert_intermediate_size"] = json!(shared);
    }
}

fn put_linear(fields: &mut Value, linear: &LinearAttention, predicts: bool) {
    let kind = |is_linear: &bool| if *is_linear { "linear_attention" } else { "full_attention" };
    fields["attn_output_gate"] = json!(true);
    fields["layer_types"] = linear.layers.iter().map(kind).collect();
    fields["linear_conv_kernel_dim"] = json!(linear.shape.taps);
    fields["linear_key_head_dim"] = json!(linear.shape.key_dim);
    fields["linear_num_key_heads"] = json!(linear.shape.key_heads);
    fields["linear_num_value_heads"] = json!(linear.shape.value_heads);
    fields["linear_value_head_dim"] = json!(linear.shape.value_dim);
    fields["mamba_ssm_dtype"] = json!("float32");
    if predicts {
        fields["mtp_num_hidden_layers"] = json!(1);
    }
}

fn vision_json(vision: &Vision, config: &Config, model_type: &str) -> Value {
    json!({
        "deepstack_visual_indexes": vision.deepstack,
        "depth": vision.depth,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": vision.hidden,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": vision.intermediate,
        "model_type": model_type,
        "num_heads": vision.heads,
        "num_position_embeddings": vision.table_side * vision.table_side,
        "out_hidden_size": config.hidden,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": FRAMES,
    })
}

/// How pictures or clips are prepared.
fn preprocessor(kind: &str, ending: &str, pixels: PixelLimits) -> Value {
    let class = match kind {
        "image" => format!("Qwen2VLImageProcessor{ending}"),
        _ => "Qwen3VLVideoProcessor".to_owned(),
    };
    json!({
        (format!("{kind}_processor_type")): class,
        "processor_class": "Qwen3VLProcessor",
        "size": {"longest_edge": pixels.most, "shortest_edge": pixels.fewest},
        "patch_size": PATCH,
        "temporal_patch_size": FRAMES,
        "merge_size": MERGE,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    })
}

/// The shortest decimal that is this `f32`.
fn plain(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

fn generation_json(text: &TextAssets) -> Value {
    let defaults = &text.generation;
    let mut fields = json!({"eos_token_id": defaults.eos});
    let samples = [
        ("temperature", defaults.temperature.filter(|temperature| *temperature > 0.0)),
        ("top_p", defaults.top_p),
        ("min_p", defaults.min_p),
        ("repetition_penalty", defaults.repetition_penalty),
    ];
    for (field, number) in samples {
        if let Some(number) = number {
            fields[field] = json!(plain(number));
        }
    }
    if let Some(top_k) = defaults.top_k {
        fields["top_k"] = json!(top_k);
    }
    if let Some(temperature) = defaults.temperature {
        fields["do_sample"] = json!(temperature > 0.0);
    }
    fields
}

/// What transformers needs beside `tokenizer.json`.
fn tokenizer_config(checkpoint: &Checkpoint, tokenizer: &[u8]) -> Result<Value> {
    let parsed: Value =
        serde_json::from_slice(tokenizer).map_err(|why| Error::corrupt("tokenizer.json", why.to_string()))?;
    let added = parsed["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    let by_id: Map<String, Value> = added
        .iter()
        .map(|token| {
            let mut fields = token.as_object().cloned().unwrap_or_default();
            let id = fields.remove("id").unwrap_or_default();
            (id.to_string(), Value::Object(fields))
        })
        .collect();
    let named = |id: u32| by_id.get(&id.to_string()).map(|token| token["content"].clone());
    let padding = added.iter().map(|token| &token["content"]).find(|content| *content == "<|endoftext|>");
    let end = checkpoint.text.generation.eos.first().and_then(|&id| named(id));
    Ok(json!({
        "add_bos_token": false,
        "add_prefix_space": false,
        "bos_token": null,
        "chat_template": checkpoint.text.chat_template,
        "clean_up_tokenization_spaces": false,
        "eos_token": end,
        "errors": "replace",
        "model_max_length": checkpoint.config.context_tokens,
        "pad_token": padding,
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null,
        "added_tokens_decoder": by_id,
    }))
}

pub(super) fn put_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("values are JSON");
    put(path, format!("{text}\n").as_bytes())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(at(path))
}
