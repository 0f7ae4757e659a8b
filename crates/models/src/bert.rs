//! BERT-class encoders that turn texts into vectors: MiniLM and its kin.
//!
//! Notation: `n` rows (all texts), `H` width. After transformers' `bert` and the library sentence-transformers:
//!
//! ```text
//! x = norm(word[token] + position[i] + type[0])
//! for each layer:  x = norm(x + attention(x) Wo);   x = norm(x + gelu(x Wi) Wd)       // all with biases
//! vector = unit(mean of the text's rows)              // or its first row, as the checkpoint says
//! ```

use std::path::Path;

use kernels::{Cpu, FullAttention, Gelu, Matrix, Precision, Scratch};
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::embedding;
use crate::encoder::{Linear, Norm};
use crate::safetensors_files::{self, read_json, read_limited};
use crate::text::CONFIG_BYTES_MAX;
use crate::weights::{Tensor, Weights};
use crate::{Error, FileBytes, Result, loader};

/// Bytes of a `tokenizer.json`.
const TOKENIZER_BYTES_MAX: u64 = 64 << 20;
/// No published encoder comes near these.
const SIZE_MAX: usize = 1 << 20;

/// The shape of an encoder.
#[derive(Debug, Clone, PartialEq)]
struct Config {
    hidden: usize,
    layers: usize,
    heads: usize,
    intermediate: usize,
    vocabulary: usize,
    positions: usize,
    types: usize,
    eps: f32,
    gelu: Gelu,
    pooling: Pooling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    Mean,
    First,
}

/// An encoder that is ready to compute, with its tokenizer.
pub struct Bert {
    config: Config,
    tokenizer: Tokenizer,
    precision: Precision,
    words: Tensor,       // [vocabulary, H]
    positions: Vec<f32>, // [positions, H], with the type added
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// An opened encoder: its shape, its tensors and its tokenizer's file. The numbers are still in the files.
pub struct BertFiles {
    config: Config,
    weights: Weights,
    tokenizer: Vec<u8>,
}

/// An encoder's folder inside the program.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedBert {
    /// `config.json`.
    pub config: &'static [u8],
    /// `1_Pooling/config.json`.
    pub pooling: &'static [u8],
    /// `tokenizer.json`.
    pub tokenizer: &'static [u8],
    /// `model.safetensors`.
    pub weights: &'static [u8],
}

impl BertFiles {
    /// Whether a folder holds such an encoder.
    #[must_use]
    pub fn are_here(folder: &Path) -> bool {
        read_json(&folder.join("config.json"), CONFIG_BYTES_MAX).is_ok_and(|config| config["model_type"] == "bert")
    }

    /// Opens a folder as the sentence-transformers library writes it.
    ///
    /// Cost: headers and JSON are read, tensors only mapped.
    ///
    /// # Errors
    /// If a file is missing or corrupt, or the configuration is not supported.
    pub fn open(folder: &Path) -> Result<Self> {
        let pooling = folder.join("1_Pooling/config.json");
        let pooling = pooling.is_file().then(|| read_json(&pooling, CONFIG_BYTES_MAX)).transpose()?;
        Ok(Self {
            config: Config::read(&read_json(&folder.join("config.json"), CONFIG_BYTES_MAX)?, pooling.as_ref())?,
            weights: safetensors_files::open_folder(folder)?,
            tokenizer: read_limited(&folder.join("tokenizer.json"), TOKENIZER_BYTES_MAX)?,
        })
    }

    /// Opens an encoder that is part of the program.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn embedded(files: EmbeddedBert) -> Result<Self> {
        let json = |name: &str, bytes: &[u8]| -> Result<Value> {
            serde_json::from_slice(bytes).map_err(|why| Error::corrupt(name, why.to_string()))
        };
        let pooling = json("1_Pooling/config.json", files.pooling)?;
        let mut weights = Weights::default();
        safetensors_files::read("model.safetensors", &FileBytes::Static(files.weights), &mut weights)?;
        Ok(Self {
            config: Config::read(&json("config.json", files.config)?, Some(&pooling))?,
            weights,
            tokenizer: files.tokenizer.to_vec(),
        })
    }

    /// The tensors.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Tokens of the longest text, the two around it included.
    #[must_use]
    pub fn tokens_max(&self) -> usize {
        self.config.positions
    }
}

impl Bert {
    /// Packs the weights of an encoder.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape, or the tokenizer is broken.
    pub fn load(cpu: &Cpu, files: &BertFiles, precision: Precision) -> Result<Self> {
        let corrupt = |why: String| Error::corrupt("tokenizer.json", why);
        let mut tokenizer = Tokenizer::from_bytes(&files.tokenizer).map_err(|why| corrupt(why.to_string()))?;
        // Whoever uses this says what is too long; and what a text spells is text, `[SEP]` too.
        tokenizer.with_truncation(None).map_err(|why| corrupt(why.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        Reader { cpu, weights: &files.weights, config: &files.config, precision }.read(tokenizer)
    }

    /// How many tokens there are.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    /// Numbers in a vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.config.hidden
    }

    /// Tokens of the longest text, the two around it included.
    #[must_use]
    pub fn tokens_max(&self) -> usize {
        self.config.positions
    }

    /// The tokens of a text, with `[CLS]` before and `[SEP]` behind it. They may be more than [`Self::tokens_max`].
    ///
    /// # Errors
    /// [`Error::CorruptFile`] if the vocabulary cannot spell the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let wrap = |why: tokenizers::Error| Error::corrupt("tokenizer.json", why.to_string());
        Ok(self.tokenizer.encode_fast(text, true).map_err(wrap)?.get_ids().to_vec())
    }

    /// A unit vector for each text, `[texts][H]`.
    ///
    /// # Errors
    /// [`Error::Pack`] if there is no memory for the attention of a text.
    ///
    /// # Panics
    /// If a text is empty, longer than [`Self::tokens_max`], or holds a token outside the vocabulary.
    pub fn embed(&self, cpu: &Cpu, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let hidden = self.config.hidden;
        let (mut x, mut segments) = (Vec::new(), Vec::new());
        for text in texts {
            assert!(!text.is_empty() && text.len() <= self.config.positions, "a text of {} tokens", text.len());
            segments.push(x.len() / hidden..x.len() / hidden + text.len());
            for (&token, position) in text.iter().zip(self.positions.chunks_exact(hidden)) {
                let word = self.words.rows(token as usize..token as usize + 1)?.to_f32()?;
                x.extend(word.iter().zip(position).map(|(word, position)| word + position));
            }
        }
        x = self.norm.apply(cpu, &x);
        let mut scratch = Scratch::new();
        for layer in &self.layers {
            self.layer(cpu, layer, &segments, &mut x, &mut scratch)?;
        }
        let rows = segments.into_iter().map(|rows| &x[rows.start * hidden..rows.end * hidden]);
        let pooled = rows.map(|rows| match self.config.pooling {
            Pooling::Mean => embedding::mean(rows, hidden),
            Pooling::First => rows[..hidden].to_vec(),
        });
        Ok(pooled.map(|vector| embedding::unit(&vector, hidden)).collect())
    }

    fn layer(
        &self,
        cpu: &Cpu,
        layer: &Layer,
        segments: &[std::ops::Range<usize>],
        x: &mut Vec<f32>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let [q, k, v] = [&layer.q, &layer.k, &layer.v].map(|linear| linear.apply(cpu, x, scratch));
        let mut attended = vec![0.0; x.len()];
        let shape = FullAttention {
            heads: self.config.heads,
            head_dim: self.config.hidden / self.config.heads,
            precision: self.precision,
        };
        kernels::full_attention(cpu, &shape, [&q, &k, &v], segments, &mut attended, scratch)
            .map_err(|source| Error::Pack { name: "the keys of a text".to_owned(), source })?;
        kernels::add(x, &layer.o.apply(cpu, &attended, scratch));
        *x = layer.attention_norm.apply(cpu, x);
        let mut inner = layer.up.apply(cpu, x, scratch);
        kernels::gelu(cpu, &mut inner, self.config.gelu);
        kernels::add(x, &layer.down.apply(cpu, &inner, scratch));
        *x = layer.norm.apply(cpu, x);
        Ok(())
    }
}

impl Config {
    fn read(config: &Value, pooling: Option<&Value>) -> Result<Self> {
        let expect = |field: &str, allowed: &[&str]| match config[field].as_str() {
            Some(found) if !allowed.contains(&found) => {
                Err(Error::unsupported(field, found, &format!("supported are {}", allowed.join(", "))))
            }
            Some(_) | None => Ok(()),
        };
        expect("model_type", &["bert"])?;
        expect("hidden_act", &["gelu", "gelu_new", "gelu_pytorch_tanh"])?;
        expect("position_embedding_type", &["absolute"])?;
        let count = |field: &str| {
            let missing = || Error::MissingField { field: field.to_owned() };
            let count = config[field].as_u64().ok_or_else(missing)?;
            match usize::try_from(count) {
                Ok(count @ 1..=SIZE_MAX) => Ok(count),
                _ => Err(Error::unsupported(field, count, &format!("allowed are 1 to {SIZE_MAX}"))),
            }
        };
        let read = Self {
            hidden: count("hidden_size")?,
            layers: count("num_hidden_layers")?.min(crate::config::LAYERS_MAX),
            heads: count("num_attention_heads")?,
            intermediate: count("intermediate_size")?,
            vocabulary: count("vocab_size")?,
            positions: count("max_position_embeddings")?,
            types: count("type_vocab_size")?,
            eps: config["layer_norm_eps"].as_f64().unwrap_or(1e-12) as f32,
            gelu: if matches!(config["hidden_act"].as_str(), None | Some("gelu")) { Gelu::Exact } else { Gelu::Tanh },
            pooling: pooling_of(pooling)?,
        };
        if !read.hidden.is_multiple_of(read.heads) {
            let why = format!("hidden_size {} is not a multiple of it", read.hidden);
            return Err(Error::unsupported("num_attention_heads", read.heads, &why));
        }
        Ok(read)
    }
}

fn pooling_of(config: Option<&Value>) -> Result<Pooling> {
    let Some(config) = config else { return Ok(Pooling::Mean) };
    let modes = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"];
    let is_chosen = |mode: &&str| config[format!("pooling_mode_{mode}")] == true;
    let chosen: Vec<&str> = modes.into_iter().filter(is_chosen).collect();
    match chosen.as_slice() {
        ["mean_tokens"] | [] => Ok(Pooling::Mean),
        ["cls_token"] => Ok(Pooling::First),
        other => {
            Err(Error::unsupported("pooling_mode", format!("{other:?}"), "supported are mean_tokens and cls_token"))
        }
    }
}

struct Reader<'a> {
    cpu: &'a Cpu,
    weights: &'a Weights,
    config: &'a Config,
    precision: Precision,
}

impl Reader<'_> {
    fn read(&self, tokenizer: Tokenizer) -> Result<Bert> {
        let Config { hidden, vocabulary, positions, types, .. } = *self.config;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= vocabulary {
            return Err(Error::corrupt(
                "tokenizer.json",
                format!("it has token {largest}, vocab_size is {vocabulary}"),
            ));
        }
        let table = |name: &str, rows| self.tensor(&format!("embeddings.{name}_embeddings.weight"), &[rows, hidden]);
        let kind = table("token_type", types)?.rows(0..1)?.to_f32()?;
        let mut places = table("position", positions)?.to_f32()?;
        for place in places.chunks_exact_mut(hidden) {
            kernels::add(place, &kind);
        }
        Ok(Bert {
            words: table("word", vocabulary)?,
            positions: places,
            norm: self.norm("embeddings.LayerNorm")?,
            layers: (0..self.config.layers).map(|layer| self.layer(layer)).collect::<Result<_>>()?,
            config: self.config.clone(),
            precision: self.precision,
            tokenizer,
        })
    }

    fn layer(&self, layer: usize) -> Result<Layer> {
        let (h, i) = (self.config.hidden, self.config.intermediate);
        let linear = |part: &str, rows, cols| self.linear(&format!("encoder.layer.{layer}.{part}"), rows, cols);
        let norm = |part: &str| self.norm(&format!("encoder.layer.{layer}.{part}.LayerNorm"));
        Ok(Layer {
            q: linear("attention.self.query", h, h)?,
            k: linear("attention.self.key", h, h)?,
            v: linear("attention.self.value", h, h)?,
            o: linear("attention.output.dense", h, h)?,
            attention_norm: norm("attention.output")?,
            up: linear("intermediate.dense", i, h)?,
            down: linear("output.dense", h, i)?,
            norm: norm("output")?,
        })
    }

    fn linear(&self, stem: &str, rows: usize, cols: usize) -> Result<Linear> {
        let weight = self.tensor(&format!("{stem}.weight"), &[rows, cols])?;
        let packed = Matrix::pack(self.cpu, weight.format(), rows, cols, weight.bytes(), self.precision);
        Ok(Linear {
            weight: packed.map_err(|source| Error::Pack { name: stem.to_owned(), source })?,
            bias: self.tensor(&format!("{stem}.bias"), &[rows])?.to_f32()?,
        })
    }

    fn norm(&self, stem: &str) -> Result<Norm> {
        let vector = |part: &str| self.tensor(&format!("{stem}.{part}"), &[self.config.hidden])?.to_f32();
        Ok(Norm { weight: vector("weight")?, bias: vector("bias")?, eps: self.config.eps })
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let prefixed = format!("bert.{name}");
        let name = if self.weights.contains(&prefixed) { &prefixed } else { name };
        loader::finite(self.weights.get(name)?.expect_shape(shape)?)
    }
}
