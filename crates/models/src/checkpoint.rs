//! Finding the files of a model and reading everything but the numbers.

use std::path::{Path, PathBuf};

use kernels::{Matrix, Precision};
use serde_json::Value;

use crate::gguf::{Metadata, names};
use crate::picture::{CLIP_PIXELS, PIXELS_MAX, PixelLimits};
use crate::text::{JsonParts, TextAssets};
use crate::weight_cache::WeightCache;
use crate::weights::{Tensor, Weights};
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
    /// Where packed weights are kept for the next load; nowhere at first.
    pub weight_cache: Option<WeightCache>,
}

/// How the file of a vision tower begins, beside the file of its model.
pub(crate) const TOWER_PREFIX: &str = "mmproj";

/// Whether a file is the vision tower of a model beside it, and no model.
#[must_use]
pub fn is_tower(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
    name.starts_with(TOWER_PREFIX) && name.ends_with(".gguf")
}

/// The name of the tower that belongs to a GGUF file.
#[must_use]
pub fn tower_path(model: &Path) -> PathBuf {
    let name = model.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    model.with_file_name(format!("{TOWER_PREFIX}-{name}"))
}

/// How many pixels the file of a tower wants.
fn pixels_of(metadata: &Metadata, usual: PixelLimits) -> PixelLimits {
    let count = |key: &str| {
        let pixels = usize::try_from(metadata.unsigned(&format!("clip.vision.image_{key}_pixels"))?).ok();
        pixels.filter(|pixels| (1..=PIXELS_MAX as usize).contains(pixels))
    };
    let most = count("max").unwrap_or(usual.most);
    PixelLimits { fewest: count("min").unwrap_or(usual.fewest).min(most), most }
}

/// The vision tower of a GGUF file: `mmproj-` and its name, or the only `mmproj*.gguf` in its folder.
fn tower_beside(model: &Path) -> Result<Option<PathBuf>> {
    let own = tower_path(model);
    if own.is_file() {
        return Ok(Some(own));
    }
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let read = |source| Error::Read { path: folder.to_owned(), source };
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if is_tower(&path) {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, second, ..] => {
            let why = format!("{} is there too; call one of them {}", second.display(), own.display());
            Err(Error::NotAModel { path: first.clone(), why })
        }
    }
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
            weight_cache: None,
            text: parts.assets(),
        })
    }

    fn open_gguf(path: &Path) -> Result<Self> {
        let file = FileBytes::map(path)?;
        if !file.starts_with(b"GGUF") {
            let why = "it is neither a folder with config.json nor a GGUF file".to_owned();
            return Err(Error::NotAModel { path: path.to_owned(), why });
        }
        let (metadata, mut weights) = gguf::read(&path.display().to_string(), &file)?;
        if let Some(parts) = metadata.unsigned("split.count").filter(|&parts| parts > 1) {
            return Err(Error::unsupported("split.count", parts, "join the parts with llama-gguf-split --merge"));
        }
        let mut config = config::from_gguf(&metadata, &weights)?;
        weights.rename(|name| names::predicting(name, config.layers))?;
        let text = text::from_gguf(&metadata)?;
        let mut pixels = PixelLimits::default();
        if let Some(tower) = config.architecture.has_vision().then(|| tower_beside(path)).transpose()?.flatten() {
            let (metadata, mut tensors) = gguf::read(&tower.display().to_string(), &FileBytes::map(&tower)?)?;
            config = config::tower_from_gguf(&metadata, &text, config)?;
            pixels = pixels_of(&metadata, pixels);
            let deepstack = config.vision.as_ref().map_or(&[][..], |vision| &vision.deepstack);
            tensors.rename(|name| names::merger(name, deepstack))?;
            weights.add(tensors)?;
        }
        Ok(Self {
            container: "GGUF",
            config,
            weights,
            text,
            embeds: ["qwen3", "qwen3moe"]
                .iter()
                .any(|family| metadata.unsigned(&format!("{family}.pooling_type")) == Some(GGUF_POOLING_LAST)),
            pixels,
            clip_pixels: CLIP_PIXELS,
            weight_cache: None,
        })
    }

    /// Bytes that the weights will have in memory, packed for this precision. Formats without a kernel of their own
    /// take more than in the file.
    #[must_use]
    pub fn packed_bytes(&self, precision: Precision) -> u64 {
        let of_matrices: u64 = self.weights.iter().map(|tensor| self.packed_tensor_bytes(tensor, precision)).sum();
        of_matrices + self.weights.packed_later_bytes(|_| true)
    }

    /// The part of [`Self::packed_bytes`] that can be streamed: experts.
    #[must_use]
    pub fn expert_bytes(&self, precision: Precision) -> u64 {
        let is_expert = |name: &str| name.contains(".mlp.experts.");
        let experts = self.weights.iter().filter(|tensor| is_expert(tensor.name()));
        let of_experts: u64 = experts.map(|tensor| self.packed_tensor_bytes(tensor, precision)).sum();
        of_experts + self.weights.packed_later_bytes(is_expert)
    }

    fn packed_tensor_bytes(&self, tensor: &Tensor, precision: Precision) -> u64 {
        let stored = tensor.bytes().len() as u64;
        let is_looked_up = tensor.name() == "embed_tokens.weight" && !self.config.tied;
        let (&[.., rows, columns], false) = (tensor.shape(), is_looked_up) else { return stored };
        let outer: u64 = tensor.shape()[..tensor.shape().len() - 2].iter().product();
        let sizes = usize::try_from(rows).ok().zip(usize::try_from(columns).ok());
        let packed = sizes.and_then(|(rows, columns)| {
            Matrix::packed_bytes(tensor.format(), rows, columns, precision).map(|bytes| bytes as u64)
        });
        packed.and_then(|packed| packed.checked_mul(outer)).unwrap_or(stored)
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
            weight_cache: None,
        })
    }
}
