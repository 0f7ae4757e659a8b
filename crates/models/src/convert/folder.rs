//! A Hugging Face folder: configuration, tokenizer and safetensors, as transformers and its kin read it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use kernels::Format;
use serde_json::{Map, Value, json};

use super::layout::{Slot, slots};
use super::numbers::{Sink, write_piece};
use super::recipe::{format, stored_format};
use super::{Order, Written, at, sync};
use crate::config::{Architecture, Config};
use crate::text::{TextAssets, TokenizerSource};
use crate::weights::size_bytes;
use crate::{Checkpoint, Error, Result};

/// One tensor of the folder: a piece of a slot.
struct Piece<'a> {
    slot: &'a Slot,
    index: usize,
    name: String,
    format: Format,
    size_bytes: u64,
}

pub(super) fn write(
    checkpoint: &Checkpoint,
    order: &Order<'_>,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Written> {
    if !order.recipe.fits(order.container) {
        return Err(Error::unsupported("the format", format!("{:?}", order.recipe), "safetensors hold plain numbers"));
    }
    let slots = slots(&checkpoint.config, checkpoint.has_head());
    let mut written = Written::default();
    let mut pieces = Vec::new();
    for slot in &slots {
        let format = format(checkpoint, order, slot, stored_format(checkpoint, slot)?);
        for index in slot.pieces() {
            let shape: Vec<u64> = slot.shape.iter().map(|&size| size as u64).collect();
            let size_bytes = size_bytes(format, &shape).expect("plain numbers fill any row") as u64;
            written.count(format, size_bytes, shape.iter().product());
            pieces.push(Piece { slot, index, name: raw_name(slot, index), format, size_bytes });
        }
    }
    std::fs::create_dir(path).map_err(at(path))?;
    texts(checkpoint, &written, path)?;
    let shards = shards(&pieces, order.shard_bytes_max);
    let (mut done, all) = (0, written.numbers);
    let mut map = Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        map.extend(shard.iter().map(|piece| (piece.name.clone(), Value::from(file.as_str()))));
        let mut told = |numbers| {
            done += numbers;
            progress(done, all);
        };
        write_shard(checkpoint, order, shard, &path.join(file), &mut told)?;
    }
    if shards.len() > 1 {
        let index = json!({"metadata": {"total_size": written.size_bytes}, "weight_map": map});
        put_json(&path.join("model.safetensors.index.json"), &index)?;
    }
    sync(path)?;
    Ok(written)
}

/// As the published files call it.
fn raw_name(slot: &Slot, index: usize) -> String {
    match (slot.experts, slot.stem.rsplit_once('.')) {
        (Some(_), Some((mixture, part))) => format!("model.{mixture}.{index}.{part}.weight"),
        _ if slot.stem == "lm_head" => "lm_head.weight".to_owned(),
        _ => format!("model.{}.weight", slot.stem),
    }
}

/// The pieces of each file.
fn shards<'a, 'b>(pieces: &'b [Piece<'a>], bytes_max: u64) -> Vec<&'b [Piece<'a>]> {
    let mut shards = Vec::new();
    let (mut first, mut size_bytes) = (0, 0);
    for (at, piece) in pieces.iter().enumerate() {
        if at > first && size_bytes + piece.size_bytes > bytes_max {
            shards.push(&pieces[first..at]);
            (first, size_bytes) = (at, 0);
        }
        size_bytes += piece.size_bytes;
    }
    shards.push(&pieces[first..]);
    shards
}

fn write_shard(
    checkpoint: &Checkpoint,
    order: &Order<'_>,
    shard: &[Piece<'_>],
    path: &Path,
    told: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut start = 0;
    for piece in shard {
        let end = start + piece.size_bytes;
        let dtype = match piece.format {
            Format::F16 => "F16",
            Format::Bf16 => "BF16",
            _ => "F32",
        };
        let entry = json!({"dtype": dtype, "shape": piece.slot.shape, "data_offsets": [start, end]});
        header.insert(piece.name.clone(), entry);
        start = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let file = File::create_new(path).map_err(at(path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| out.write_all(&header)).map_err(at(path))?;
    for piece in shard {
        let mut sink = Sink { out: &mut out, path, threads: order.threads, told };
        write_piece(checkpoint, piece.slot, piece.index, piece.format, None, &mut sink)?;
    }
    let file = out.into_inner().map_err(|error| at(path)(error.into_error()))?;
    file.sync_all().map_err(at(path))
}

/// Everything but the numbers.
fn texts(checkpoint: &Checkpoint, written: &Written, folder: &Path) -> Result<()> {
    let text = &checkpoint.text;
    let most = written.bytes_by_format.iter().max_by_key(|(_, bytes)| **bytes).map(|(name, _)| name.as_str());
    let dtype = match most {
        Some("F32") => "float32",
        Some("F16") => "float16",
        _ => "bfloat16",
    };
    put_json(&folder.join("config.json"), &config_json(&checkpoint.config, text, dtype))?;
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
fn config_json(config: &Config, text: &TextAssets, dtype: &str) -> Value {
    let has_experts = config.architecture == Architecture::Qwen3Moe;
    let window = config.windows.iter().flatten().next();
    let mut fields = json!({
        "architectures": [if has_experts { "Qwen3MoeForCausalLM" } else { "Qwen3ForCausalLM" }],
        "model_type": config.architecture.model_type(),
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
    if let Some(experts) = &config.experts {
        let dense = experts.sparse.iter().enumerate().filter(|(_, sparse)| !**sparse).map(|(layer, _)| layer);
        fields["decoder_sparse_step"] = json!(1);
        fields["mlp_only_layers"] = dense.collect();
        fields["moe_intermediate_size"] = json!(experts.intermediate);
        fields["norm_topk_prob"] = json!(experts.normalise);
        fields["num_experts"] = json!(experts.count);
        fields["num_experts_per_tok"] = json!(experts.per_token);
        fields["output_router_logits"] = json!(false);
    }
    fields
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

fn put_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("values are JSON");
    put(path, format!("{text}\n").as_bytes())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(at(path))
}
