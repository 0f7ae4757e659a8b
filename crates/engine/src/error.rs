//! What can go wrong before an engine serves.

use base::Kind;

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an engine did not start.
#[expect(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("load the model")]
    Model(#[from] models::Error),
    #[error("read the model's tokenizer or chat template")]
    Text(#[from] chat::Error),
    #[error("{name} has no vocabulary head: it makes vectors of texts and cannot generate any")]
    Headless { name: String },
    #[error("the tokenizer has {tokens} tokens, the model {logits} logits")]
    Vocabulary { tokens: usize, logits: usize },
    #[error("{asked_bytes} bytes for keys and values hold not one block of {block_bytes}")]
    CacheTooSmall { asked_bytes: u64, block_bytes: usize },
    #[error("two models are called {name:?}")]
    SameName { name: String },
    #[error("the alias {alias:?} stands for no model")]
    UnknownAlias { alias: String },
    #[error("the adapter {adapter:?} belongs to {base:?}, which generates no text here")]
    NoBase { adapter: String, base: String },
    #[error("{model:?}, for which a draft model is named, generates no text here")]
    NoDrafted { model: String },
    #[error("the files of model {name:?} are those of another kind of model than when the program started")]
    Changed { name: String },
    #[error("model {name:?}")]
    OfModel { name: String, source: Box<Error> },
    #[error("{what} is not supported: {why}")]
    Unsupported { what: String, why: String },
    #[error("start the engine's thread")]
    Thread(#[source] std::io::Error),
}

impl Error {
    /// The same, said of a model.
    pub(crate) fn of(self, name: &str) -> Self {
        Self::OfModel { name: name.to_owned(), source: Box::new(self) }
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Model(source) => source.kind(),
            Self::Text(source) => source.kind(),
            Self::Headless { .. } => Kind::Invalid,
            Self::Vocabulary { .. } => Kind::Corrupt,
            Self::CacheTooSmall { .. } => Kind::Exhausted,
            Self::SameName { .. } | Self::Changed { .. } => Kind::Conflict,
            Self::UnknownAlias { .. } | Self::NoBase { .. } | Self::NoDrafted { .. } => Kind::NotFound,
            Self::OfModel { source, .. } => source.kind(),
            Self::Unsupported { .. } => Kind::Invalid,
            Self::Thread(_) => Kind::Unavailable,
        }
    }
}
