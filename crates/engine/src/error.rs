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
    #[error("start the engine's thread")]
    Thread(#[source] std::io::Error),
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Model(source) => source.kind(),
            Self::Text(source) => source.kind(),
            Self::Headless { .. } => Kind::Invalid,
            Self::Vocabulary { .. } => Kind::Corrupt,
            Self::CacheTooSmall { .. } => Kind::Exhausted,
            Self::SameName { .. } => Kind::Conflict,
            Self::Thread(_) => Kind::Unavailable,
        }
    }
}
