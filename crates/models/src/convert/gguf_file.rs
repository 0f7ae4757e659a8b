//! A GGUF file: what it says about the model, and the numbers. Keys: gguf-py's `constants.py`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use kernels::Format;

use super::layout::{Extras, Slot, slots, tower_slots};
use super::numbers::{Sink, write_piece};
use super::pieces::Pieces;
use super::recipe::{format, stored_format};
use super::{Container, Order, Written, at, hybrid_keys};
use crate::checkpoint::GGUF_POOLING_LAST;
use crate::config::Config;
use crate::gguf::names;
use crate::gguf::write::{Entry, Planned, head, pad};
use crate::text::{GenerationDefaults, TextAssets, TokenizerSource};
use crate::{Checkpoint, Error, Predictor, Result};

/// The layout of the blocks, `GGML_QNT_VERSION`.
const QUANTISATION_VERSION: u32 = 2;
/// An id that has no token.
const UNUSED: i32 = 5;

pub(super) fn write(
    checkpoint: &Checkpoint,
    order: &Order<'_>,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Written> {
    let decoder = Plan::of(checkpoint, order, decoder_slots(checkpoint))?;
    let entries = entries(checkpoint, order, &decoder.written)?;
    let mut told = Told { done: 0, all: decoder.written.numbers, progress };
    decoder.write(&entries, path, &mut told)?;
    Ok(decoder.written)
}

/// Writes the decoder to the first path and the vision tower to the second.
pub(super) fn write_both(
    checkpoint: &Checkpoint,
    order: &Order<'_>,
    [path, tower_path]: [&Path; 2],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Written> {
    let decoder = Plan::of(checkpoint, order, decoder_slots(checkpoint))?;
    let tower = Plan::of(checkpoint, order, tower_slots(&checkpoint.config, Container::Gguf))?;
    let of_tower = hybrid_keys::of_tower(checkpoint, order.name)?;
    let of_decoder = entries(checkpoint, order, &decoder.written)?;
    let mut told = Told { done: 0, all: decoder.written.numbers + tower.written.numbers, progress };
    tower.write(&of_tower, tower_path, &mut told)?;
    decoder.write(&of_decoder, path, &mut told)?;
    let mut written = decoder.written;
    written.size_bytes += tower.written.size_bytes;
    written.numbers += tower.written.numbers;
    for (format, bytes) in tower.written.bytes_by_format {
        *written.bytes_by_format.entry(format).or_default() += bytes;
    }
    Ok(written)
}

fn decoder_slots(checkpoint: &Checkpoint) -> Vec<Slot> {
    let extras = Extras { head: checkpoint.has_head(), predictor: Predictor::is_in(checkpoint) };
    slots(&checkpoint.config, extras, Container::Gguf)
}

/// Who is told how far it is.
struct Told<'a> {
    done: u64,
    all: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

/// What a file is to hold.
struct Plan<'a> {
    pieces: Pieces<'a>,
    order: &'a Order<'a>,
    slots: Vec<Slot>,
    planned: Vec<Planned>,
    written: Written,
}

impl<'a> Plan<'a> {
    fn of(checkpoint: &'a Checkpoint, order: &'a Order<'a>, slots: Vec<Slot>) -> Result<Self> {
        let pieces = Pieces { checkpoint, container: Container::Gguf };
        let mut planned = Vec::with_capacity(slots.len());
        let mut written = Written::default();
        for slot in &slots {
            let missing = || Error::MissingTensor { name: slot.name.clone() };
            let tensor = Planned {
                name: names::of_canonical(&slot.name, &checkpoint.config).ok_or_else(missing)?,
                format: format(pieces, order, slot, stored_format(pieces, slot)?),
                shape: slot.whole_shape(),
            };
            written.count(tensor.format, tensor.size_bytes()?, tensor.shape.iter().product());
            planned.push(tensor);
        }
        Ok(Self { pieces, order, slots, planned, written })
    }

    fn write(&self, entries: &[(String, Entry)], path: &Path, told: &mut Told<'_>) -> Result<()> {
        let head = head(entries, &self.planned)?;
        let file = File::create_new(path).map_err(at(path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&head).map_err(at(path))?;
        for (slot, tensor) in self.slots.iter().zip(&self.planned) {
            let mut tell = |numbers| {
                told.done += numbers;
                (told.progress)(told.done, told.all);
            };
            let mut sink = Sink { out: &mut out, path, threads: self.order.threads, told: &mut tell };
            for index in slot.pieces() {
                write_piece(self.pieces, slot, index, tensor.format, self.order.importance, &mut sink)?;
            }
            pad(&mut out, tensor.size_bytes()?).map_err(at(path))?;
        }
        let file = out.into_inner().map_err(|error| at(path)(error.into_error()))?;
        file.sync_all().map_err(at(path))
    }
}

impl Written {
    pub(super) fn count(&mut self, format: Format, size_bytes: u64, numbers: u64) {
        self.size_bytes += size_bytes;
        self.numbers += numbers;
        *self.bytes_by_format.entry(format!("{format:?}")).or_default() += size_bytes;
    }

    /// The format that most bytes have.
    fn most(&self) -> Format {
        let most = self.bytes_by_format.iter().max_by_key(|(_, bytes)| **bytes);
        let named = |name: &String| Format::ALL.into_iter().find(|format| format!("{format:?}") == *name);
        most.and_then(|(name, _)| named(name)).unwrap_or(Format::F32)
    }
}

/// All metadata.
fn entries(checkpoint: &Checkpoint, order: &Order<'_>, written: &Written) -> Result<Vec<(String, Entry)>> {
    let mut entries = Vec::new();
    let mut put = |key: &str, entry| entries.push((key.to_owned(), entry));
    let config = &checkpoint.config;
    let family = hybrid_keys::family(config.architecture);
    put("general.architecture", Entry::String(family.to_owned()));
    put("general.type", Entry::String("model".to_owned()));
    put("general.name", Entry::String(order.name.to_owned()));
    put("general.file_type", Entry::U32(order.recipe.file_type(written.most())));
    put("general.quantization_version", Entry::U32(QUANTISATION_VERSION));
    for (key, entry) in shape(config)? {
        put(&format!("{family}.{key}"), entry);
    }
    for (key, entry) in hybrid_keys::of_decoder(config, Predictor::is_in(checkpoint))? {
        put(&format!("{family}.{key}"), entry);
    }
    if checkpoint.embeds {
        put(&format!("{family}.pooling_type"), Entry::U32(GGUF_POOLING_LAST as u32));
    }
    entries.extend(sampling(&checkpoint.text.generation));
    entries.extend(tokenizer(&checkpoint.text, config.vocabulary, checkpoint.embeds)?);
    Ok(entries)
}

/// A number in the type that readers expect.
pub(super) fn count(field: &str, count: usize) -> Result<Entry> {
    let refused = |_| Error::unsupported(field, count, "GGUF keeps it in 32 bits");
    u32::try_from(count).map(Entry::U32).map_err(refused)
}

/// The keys of every family.
fn shape(config: &Config) -> Result<Vec<(&'static str, Entry)>> {
    if let Some(window) = config.windows.iter().flatten().next() {
        return Err(Error::unsupported("sliding_window", window, "GGUF of qwen3 has no windows"));
    }
    let mut keys = vec![
        ("context_length", count("max_position_embeddings", config.context_tokens)?),
        ("embedding_length", count("hidden_size", config.hidden)?),
        ("feed_forward_length", count("intermediate_size", config.intermediate)?),
        ("attention.head_count", count("num_attention_heads", config.heads)?),
        ("attention.head_count_kv", count("num_key_value_heads", config.kv_heads)?),
        ("attention.key_length", count("head_dim", config.head_dim)?),
        ("attention.value_length", count("head_dim", config.head_dim)?),
        ("attention.layer_norm_rms_epsilon", Entry::F32(config.norm_eps)),
        ("rope.freq_base", Entry::F32(config.rope.theta as f32)),
        ("vocab_size", count("vocab_size", config.vocabulary)?),
    ];
    if let Some(yarn) = &config.rope.yarn {
        if let Some(factor) = yarn.attention_factor {
            return Err(Error::unsupported("attention_factor", factor, "readers of GGUF do not agree what it means"));
        }
        keys.extend([
            ("rope.scaling.type", Entry::String("yarn".to_owned())),
            ("rope.scaling.factor", Entry::F32(yarn.factor as f32)),
            ("rope.scaling.original_context_length", count("original context", yarn.original_context as usize)?),
            ("rope.scaling.yarn_beta_fast", Entry::F32(yarn.beta_fast as f32)),
            ("rope.scaling.yarn_beta_slow", Entry::F32(yarn.beta_slow as f32)),
        ]);
    }
    if let Some(experts) = &config.experts {
        if !experts.normalise {
            return Err(Error::unsupported("norm_topk_prob", false, "GGUF of qwen3moe means that it is true"));
        }
        if let Some(layer) = experts.sparse.iter().position(|sparse| !sparse) {
            let why = "GGUF of qwen3moe has experts in every layer";
            return Err(Error::unsupported("mlp_only_layers or decoder_sparse_step", format!("dense at {layer}"), why));
        }
        keys.extend([
            ("expert_count", count("num_experts", experts.count)?),
            ("expert_used_count", count("num_experts_per_tok", experts.per_token)?),
            ("expert_feed_forward_length", count("moe_intermediate_size", experts.intermediate)?),
        ]);
    }
    Ok(keys)
}

/// How the makers say that it should be sampled from.
fn sampling(defaults: &GenerationDefaults) -> Vec<(String, Entry)> {
    let numbers = [
        ("temp", defaults.temperature),
        ("top_p", defaults.top_p),
        ("min_p", defaults.min_p),
        ("penalty_repeat", defaults.repetition_penalty),
    ];
    let numbers = numbers.into_iter().filter_map(|(key, number)| Some((key, Entry::F32(number?))));
    let top_k = defaults.top_k.and_then(|top_k| i32::try_from(top_k).ok());
    let top_k = top_k.map(|top_k| ("top_k", Entry::I32(top_k)));
    numbers.chain(top_k).map(|(key, entry)| (format!("general.sampling.{key}"), entry)).collect()
}

fn tokenizer(text: &TextAssets, vocabulary: usize, embeds: bool) -> Result<Vec<(String, Entry)>> {
    let mut entries = Vec::new();
    let mut put = |key: &str, entry| entries.push((format!("tokenizer.{key}"), entry));
    if let Some(template) = &text.chat_template {
        put("chat_template", Entry::String(template.clone()));
    }
    let (pre, mut tokens, kinds, merges) = match &text.tokenizer {
        None => return Ok(entries),
        Some(TokenizerSource::Gguf { pre, tokens, kinds, merges }) => (pre, tokens.clone(), kinds, merges),
        Some(TokenizerSource::Json(_)) => {
            return Err(Error::unsupported("the tokenizer", "tokenizer.json", "a GGUF file needs its lists"));
        }
    };
    if tokens.len() > vocabulary {
        let why = format!("the model has {vocabulary} rows for them");
        return Err(Error::unsupported("the tokenizer's tokens", tokens.len(), &why));
    }
    let mut kinds: Vec<i32> = kinds.iter().map(|&kind| i32::try_from(kind).unwrap_or(UNUSED)).collect();
    kinds.resize(vocabulary, UNUSED);
    tokens.extend((tokens.len()..vocabulary).map(|id| format!("[PAD{id}]")));
    let id = |name: &str| tokens.iter().position(|token| token == name).and_then(|id| u32::try_from(id).ok());
    let end_of_text = id("<|endoftext|>");
    put("ggml.model", Entry::String("gpt2".to_owned()));
    put("ggml.pre", Entry::String(pre.clone()));
    // What ends a text that is embedded is not what ends an answer.
    if let Some(end) = end_of_text.filter(|_| embeds).or_else(|| text.generation.eos.first().copied()) {
        put("ggml.eos_token_id", Entry::U32(end));
    }
    if let Some(padding) = end_of_text {
        put("ggml.padding_token_id", Entry::U32(padding));
    }
    put("ggml.add_bos_token", Entry::Bool(false));
    if embeds {
        put("ggml.add_eos_token", Entry::Bool(true));
    }
    put("ggml.tokens", Entry::Strings(tokens));
    put("ggml.token_type", Entry::I32s(kinds));
    put("ggml.merges", Entry::Strings(merges.clone()));
    Ok(entries)
}
