//! What can go wrong before a request is routed.

use base::Kind;

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why pools or a policy could not be set up.
#[expect(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("pool {pool}: {reason}")]
    Client { pool: String, reason: String },
    #[error("pool {pool}: there is no secret {name:?}: {reason}")]
    NoSecret { pool: String, name: String, reason: String },
    #[error("it is not TOML as expected: {reason}")]
    Text { reason: String },
    #[error("{} things are wrong:\n  {}", wrong.len(), wrong.join("\n  "))]
    Policy { wrong: Vec<String> },
    #[error("a secret is 1 to {limit} printable ASCII characters")]
    Secret { limit: usize },
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Client { .. }
            | Self::Secret { .. }
            | Self::NoSecret { .. }
            | Self::Text { .. }
            | Self::Policy { .. } => Kind::Invalid,
        }
    }
}
