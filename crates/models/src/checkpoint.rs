//! Finding the files of a model and reading everything but the numbers.

use std::path::Path;

use serde_json::Value;

use crate::picture::{CLIP_PIXELS, PixelLimits};
use crate::text::{JsonParts, TextAssets};
use crate::weights::Weights;
use crate::{Config, Error, FileBytes, Result, config, gguf, safetensors_files, text};

/// `LLAMA_POOLING_TYPE_LAST` of llama.cpp.
pub(crate) const GGUF_POOLING_LAST: u64 = 3;

/// An opened model: shape, tensors and text assets. The numbers are still in the files.
#[derive(Debug)]
pub struct Checkpoint {
    /// What kind of files these are, for people: `safetensors` or `GGUF`.
    pub container: &'static str,
    /// The shape.
    pub config: Config,
    /// The tensors.
    pub weights: Weights,
    /// Tokenizer, template, sampling.
    pub text: TextAssets,
    /// The makers meant it for embeddings: it comes with the module list of the sentence-transformers library, or, as
    /// GGUF, says that the last token is its text's vector.
    pub embeds: bool,
    /// How many pixels pictures are resized to.
    pub pixels: PixelLimits,
    /// How many pixels all frames of a clip are resized to.
    pub clip_pixels: PixelLimits,
}

/// A Hugging Face folder inside the program.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// `config.json`.
    pub config: &'static [u8],
    /// `generation_config.json`.
    pub generation_config: &'static [u8],
    /// `tokenizer.json`.
    pub tokenizer: &'static [u8],
    /// `tokenizer_config.json`.
    pub tokenizer_config: &'static [u8],
    /// `model.safetensors`.
    pub weights: &'static [u8],
}

impl Checkpoint {
    /// Opens a Hugging Face folder or a GGUF file.
    ///
    /// Cost: headers and JSON are read, tensors only mapped.
    ///
    /// # Errors
    /// If nothing is there, a file is corrupt, or the configuration is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        if metadata.is_dir() { Self::open_folder(path) } else { Self::open_gguf(path) }
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let parts = JsonParts::read(folder)?;
        let config = config::from_json(&parts.config)?;
        let weights = safetensors_files::open_folder(folder)?;
        Ok(Self {
            container: "safetensors",
            config,
            weights,
            embeds: folder.join("modules.json").is_file(),
            pixels: parts.pixel_limits(),
            clip_pixels: parts.clip_pixel_limits(),
            text: parts.assets(),
        })
    }

    fn open_gguf(path: &Path) -> Result<Self> {
        let file = FileBytes::map(path)?;
        if !file.starts_with(b"GGUF") {
            let why = "it is neither a folder with config.json nor a GGUF file".to_owned();
            return Err(Error::NotAModel { path: path.to_owned(), why });
        }
        let (metadata, weights) = gguf::read(&path.display().to_string(), &file)?;
        if let Some(parts) = metadata.unsigned("split.count").filter(|&parts| parts > 1) {
            return Err(Error::unsupported("split.count", parts, "join the parts with llama-gguf-split --merge"));
        }
        let config = config::from_gguf(&metadata, &weights)?;
        Ok(Self {
            container: "GGUF",
            config,
            weights,
            text: text::from_gguf(&metadata)?,
            embeds: ["qwen3", "qwen3moe"]
                .iter()
                .any(|family| metadata.unsigned(&format!("{family}.pooling_type")) == Some(GGUF_POOLING_LAST)),
            pixels: PixelLimits::default(),
            clip_pixels: CLIP_PIXELS,
        })
    }

    /// Whether a vocabulary head is stored: embedding models are published without.
    #[must_use]
    pub fn has_head(&self) -> bool {
        self.config.tied || ["weight", "qweight"].iter().any(|part| self.weights.contains(&format!("lm_head.{part}")))
    }

    /// Opens a model that is part of the program.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn embedded(files: Embedded) -> Result<Self> {
        let json = |name: &str, bytes: &[u8]| -> Result<Value> {
            serde_json::from_slice(bytes).map_err(|why| Error::corrupt(name, why.to_string()))
        };
        let parts = JsonParts {
            config: json("config.json", files.config)?,
            generation_config: Some(json("generation_config.json", files.generation_config)?),
            tokenizer: Some(files.tokenizer.to_vec()),
            tokenizer_config: Some(json("tokenizer_config.json", files.tokenizer_config)?),
            chat_template: None,
            preprocessor: None,
            video_preprocessor: None,
        };
        let config = config::from_json(&parts.config)?;
        let mut weights = Weights::default();
        safetensors_files::read("model.safetensors", &FileBytes::Static(files.weights), &mut weights)?;
        Ok(Self {
            container: "safetensors, built in",
            config,
            weights,
            text: parts.assets(),
            embeds: false,
            pixels: PixelLimits::default(),
            clip_pixels: CLIP_PIXELS,
        })
    }
}
