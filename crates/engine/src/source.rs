//! From the files of a model to what can be computed with.

use std::path::PathBuf;

use chat::{ModelCard, ModelFacts};
use kernels::Precision;
use models::bert::{BertFiles, EmbeddedBert};
use models::{Checkpoint, Embedded};

use crate::prompt::TextSide;
use crate::{Result, facts};

/// Where the files of a model are.
#[derive(Debug, Clone)]
pub enum Source {
    /// A decoder inside the program.
    Embedded(Embedded),
    /// An encoder inside the program.
    EmbeddedBert(EmbeddedBert),
    /// A Hugging Face folder or a GGUF file.
    Path(PathBuf),
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It continues prompts.
    Generates,
    /// It turns texts into vectors.
    Embeds,
    /// It says how well a document answers a query.
    Ranks,
}

impl Role {
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Generates => "generating text",
            Self::Embeds => "embedding texts",
            Self::Ranks => "ranking documents",
        }
    }
}

/// Opened files; the numbers are not read yet.
pub(crate) enum Opened {
    Decoder(Box<Checkpoint>),
    Encoder(Box<BertFiles>),
}

impl Source {
    pub(crate) fn open(&self) -> Result<Opened> {
        match self {
            Self::Embedded(files) => Ok(Opened::Decoder(Box::new(Checkpoint::embedded(*files)?))),
            Self::EmbeddedBert(files) => Ok(Opened::Encoder(Box::new(BertFiles::embedded(*files)?))),
            Self::Path(path) if BertFiles::are_here(path) => Ok(Opened::Encoder(Box::new(BertFiles::open(path)?))),
            Self::Path(path) => Ok(Opened::Decoder(Box::new(Checkpoint::open(path)?))),
        }
    }

    /// Published rerankers are told from other models by their names alone: their files are those of a decoder.
    fn is_called_a_reranker(&self, name: &str) -> bool {
        let file = match self {
            Self::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().to_lowercase(),
            Self::Embedded(_) | Self::EmbeddedBert(_) => String::new(),
        };
        name.to_lowercase().contains("rerank") || file.contains("rerank")
    }

    pub(crate) fn role(&self, name: &str, opened: &Opened) -> Role {
        match opened {
            Opened::Encoder(_) => Role::Embeds,
            Opened::Decoder(checkpoint) if checkpoint.embeds && !self.is_called_a_reranker(name) => Role::Embeds,
            Opened::Decoder(_) if self.is_called_a_reranker(name) => Role::Ranks,
            Opened::Decoder(_) => Role::Generates,
        }
    }
}

impl Opened {
    /// What is known of it. `created_s` is when it came here.
    ///
    /// Cost: the tokenizer is read, for it takes part in reading the chat template.
    pub(crate) fn card(&self, name: &str, created_s: u64) -> Result<ModelCard> {
        let (context_tokens, facts) = match self {
            Self::Decoder(checkpoint) => {
                let text = TextSide::new(checkpoint, None)?;
                (checkpoint.config.context_tokens, facts::of(checkpoint, &text))
            }
            Self::Encoder(files) => (files.tokens_max(), facts_of_encoder(files)),
        };
        let context_tokens = u32::try_from(context_tokens).unwrap_or(u32::MAX);
        Ok(ModelCard { id: name.to_owned(), owner: "sampan".to_owned(), created_s, context_tokens, facts })
    }

    /// Bytes of its tensors in memory, where some formats take more than in the file.
    pub(crate) fn packed_bytes(&self, precision: Precision) -> u64 {
        match self {
            Self::Decoder(checkpoint) => checkpoint.packed_bytes(precision),
            Self::Encoder(_) => self.size_bytes(),
        }
    }

    /// Bytes of its tensors.
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::Decoder(checkpoint) => checkpoint.weights.bytes_by_type().values().sum(),
            Self::Encoder(files) => files.weights().bytes_by_type().values().sum(),
        }
    }
}

fn facts_of_encoder(files: &BertFiles) -> ModelFacts {
    let bytes_by_format = files.weights().bytes_by_type();
    let parameters = files.weights().iter().map(|tensor| tensor.shape().iter().product::<u64>()).sum();
    ModelFacts {
        architecture: "bert".to_owned(),
        container: "safetensors".to_owned(),
        size_bytes: bytes_by_format.values().sum(),
        weight_format: facts::most_common(bytes_by_format),
        parameters,
        ..ModelFacts::default()
    }
}
