//! What a checkpoint says about text: its tokenizer, its chat template and how to sample from it.
//!
//! Only the raw material; `chat` makes a tokenizer and a template of it.

use std::path::Path;

use serde_json::Value;

use crate::gguf::Metadata;
use crate::picture::{CLIP_PIXELS, PIXELS_MAX, PixelLimits};
use crate::safetensors_files::{read_json, read_limited};
use crate::{Error, Result, Texts};

/// Bytes of a `tokenizer.json`; Qwen's has 11 MB.
const TOKENIZER_BYTES_MAX: u64 = 256 << 20;
/// Bytes of the small JSON files and of a template.
pub(crate) const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// Where the vocabulary comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerSource {
    /// The bytes of a `tokenizer.json`.
    Json(Vec<u8>),
    /// The lists inside a GGUF file.
    Gguf {
        /// Name of the splitting rule (`tokenizer.ggml.pre`), for example `qwen2`.
        pre: String,
        /// Tokens by id, in the byte-to-unicode spelling.
        tokens: Texts,
        /// Kind of each token: 1 normal, 3 control, 4 user-defined, 5 unused, 6 byte.
        kinds: Vec<u32>,
        /// Merges in order, `left right`.
        merges: Texts,
    },
}

/// How the makers say that the model should be sampled from, and where it stops.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationDefaults {
    /// Every token that ends a turn.
    pub eos: Vec<u32>,
    /// Temperature.
    pub temperature: Option<f32>,
    /// Top-k.
    pub top_k: Option<u32>,
    /// Top-p.
    pub top_p: Option<f32>,
    /// Min-p.
    pub min_p: Option<f32>,
    /// Repetition penalty.
    pub repetition_penalty: Option<f32>,
}

/// The text side of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct TextAssets {
    /// The vocabulary; `None` if the checkpoint brings none, then only token ids can be served.
    pub tokenizer: Option<TokenizerSource>,
    /// The chat template (Jinja); `None` for base models.
    pub chat_template: Option<String>,
    /// Sampling.
    pub generation: GenerationDefaults,
}

/// The raw JSON files of a Hugging Face folder.
pub(crate) struct JsonParts {
    pub(crate) config: Value,
    pub(crate) generation_config: Option<Value>,
    pub(crate) tokenizer: Option<Vec<u8>>,
    pub(crate) tokenizer_config: Option<Value>,
    pub(crate) chat_template: Option<String>,
    pub(crate) preprocessor: Option<Value>,
    pub(crate) video_preprocessor: Option<Value>,
}

impl JsonParts {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let optional = |name: &str| {
            let path = folder.join(name);
            path.is_file().then(|| read_json(&path, CONFIG_BYTES_MAX)).transpose()
        };
        let raw = |name: &str, most: u64| {
            let path = folder.join(name);
            path.is_file().then(|| read_limited(&path, most)).transpose()
        };
        let config_path = folder.join("config.json");
        if !config_path.is_file() {
            return Err(Error::NotAModel { path: folder.to_owned(), why: "it has no config.json".to_owned() });
        }
        let template = raw("chat_template.jinja", CONFIG_BYTES_MAX)?;
        Ok(Self {
            config: read_json(&config_path, CONFIG_BYTES_MAX)?,
            generation_config: optional("generation_config.json")?,
            tokenizer: raw("tokenizer.json", TOKENIZER_BYTES_MAX)?,
            tokenizer_config: optional("tokenizer_config.json")?,
            chat_template: template.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            preprocessor: optional("preprocessor_config.json")?,
            video_preprocessor: optional("video_preprocessor_config.json")?,
        })
    }

    /// How many pixels a picture is to have.
    pub(crate) fn pixel_limits(&self) -> PixelLimits {
        limits_in(self.preprocessor.as_ref(), PixelLimits::default())
    }

    /// How many pixels all frames of a clip are to have.
    pub(crate) fn clip_pixel_limits(&self) -> PixelLimits {
        limits_in(self.video_preprocessor.as_ref(), CLIP_PIXELS)
    }

    pub(crate) fn assets(self) -> TextAssets {
        let in_config = self.tokenizer_config.as_ref().and_then(|config| config.get("chat_template"));
        TextAssets {
            chat_template: self.chat_template.or_else(|| in_config.and_then(default_template)),
            generation: generation(self.generation_config.as_ref().unwrap_or(&Value::Null), &self.config),
            tokenizer: self.tokenizer.map(TokenizerSource::Json),
        }
    }
}

fn limits_in(preprocessor: Option<&Value>, usual: PixelLimits) -> PixelLimits {
    let size = |edge: &str| {
        let pixels = preprocessor?["size"][edge].as_u64()?;
        usize::try_from(pixels).ok().filter(|pixels| (1..=PIXELS_MAX as usize).contains(pixels))
    };
    let most = size("longest_edge").unwrap_or(usual.most);
    PixelLimits { fewest: size("shortest_edge").unwrap_or(usual.fewest).min(most), most }
}

/// A template, or the one called `default` in a list of them.
fn default_template(value: &Value) -> Option<String> {
    let of_list = |list: &Vec<Value>| {
        let default = list.iter().find(|entry| entry["name"] == "default").or_else(|| list.first())?;
        default["template"].as_str().map(str::to_owned)
    };
    value.as_str().map(str::to_owned).or_else(|| value.as_array().and_then(of_list))
}

fn generation(generation: &Value, config: &Value) -> GenerationDefaults {
    let mut eos = Vec::new();
    for source in [generation, config] {
        let ids = match &source["eos_token_id"] {
            Value::Array(list) => list.iter().filter_map(Value::as_u64).collect(),
            single => single.as_u64().into_iter().collect::<Vec<_>>(),
        };
        for id in ids.into_iter().filter_map(|id| u32::try_from(id).ok()) {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
    }
    let number = |field: &str| generation[field].as_f64().map(|number| number as f32);
    // Without `do_sample` the library picks the most likely token, whatever temperature stands beside it.
    let greedy = generation["do_sample"] == Value::Bool(false);
    GenerationDefaults {
        eos,
        temperature: if greedy { Some(0.0) } else { number("temperature") },
        top_k: generation["top_k"].as_u64().and_then(|top_k| u32::try_from(top_k).ok()),
        top_p: number("top_p"),
        min_p: number("min_p"),
        repetition_penalty: number("repetition_penalty"),
    }
}

/// The text side of a GGUF file.
///
/// # Errors
/// [`Error::UnsupportedConfig`] for a tokenizer that is not byte-level BPE.
pub(crate) fn from_gguf(metadata: &Metadata) -> Result<TextAssets> {
    let chat_template = metadata.string("tokenizer.chat_template").map(str::to_owned);
    let Some(tokens) = metadata.strings("tokenizer.ggml.tokens") else {
        return Ok(TextAssets { tokenizer: None, chat_template, generation: GenerationDefaults::default() });
    };
    let model = metadata.string("tokenizer.ggml.model").unwrap_or_default();
    if model != "gpt2" {
        return Err(Error::unsupported("tokenizer.ggml.model", model, "only gpt2, byte-level BPE, is"));
    }
    // The file names one end; Qwen's chat models end on either of these two.
    let named = metadata.unsigned("tokenizer.ggml.eos_token_id").and_then(|id| u32::try_from(id).ok());
    let mut eos: Vec<u32> = named.into_iter().collect();
    for ending in ["<|im_end|>", "<|endoftext|>"] {
        let id = tokens.iter().position(|token| token == ending).and_then(|id| u32::try_from(id).ok());
        eos.extend(id.filter(|id| !eos.contains(id)));
    }
    let kind = |value| match value {
        crate::gguf::Value::Signed(kind) => u32::try_from(kind).unwrap_or(0),
        crate::gguf::Value::Unsigned(kind) => u32::try_from(kind).unwrap_or(0),
        _ => 0,
    };
    let tokenizer = TokenizerSource::Gguf {
        pre: metadata.string("tokenizer.ggml.pre").unwrap_or("qwen2").to_owned(),
        kinds: metadata.items("tokenizer.ggml.token_type").into_iter().map(kind).collect(),
        merges: metadata.strings("tokenizer.ggml.merges").unwrap_or_default(),
        tokens,
    };
    let sampling = |key: &str| metadata.float(&format!("general.sampling.{key}")).map(|number| number as f32);
    let top_k = metadata.unsigned("general.sampling.top_k").and_then(|top_k| u32::try_from(top_k).ok());
    let generation = GenerationDefaults {
        eos,
        temperature: sampling("temp"),
        top_k,
        top_p: sampling("top_p"),
        min_p: sampling("min_p"),
        repetition_penalty: sampling("penalty_repeat"),
    };
    Ok(TextAssets { tokenizer: Some(tokenizer), chat_template, generation })
}
