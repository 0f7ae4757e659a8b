//! What can go wrong, and what the caller can do about it.

use base::Kind;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant and its fields are explained by its message")]
pub enum Error {
    #[error("{count} {what}, at most {limit} are accepted")]
    TooMany { what: &'static str, count: u64, limit: u64 },
    #[error("{format}, line {line}: {detail}")]
    Syntax { format: &'static str, line: usize, detail: String },
    #[error("read {what} as JSON")]
    Json { what: &'static str, source: serde_json::Error },
    #[error("read the topology as TOML")]
    Toml(#[source] toml::de::Error),
    #[error("unknown {what} {name:?}; known: {known}")]
    Unknown { what: &'static str, name: String, known: String },
    #[error("{what}: {detail}")]
    Invalid { what: &'static str, detail: String },
    #[error("no path from endpoint {from} to endpoint {to}")]
    Disconnected { from: u32, to: u32 },
}

impl Error {
    /// What the receiver can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::NotFound,
            Self::TooMany { .. }
            | Self::Syntax { .. }
            | Self::Json { .. }
            | Self::Toml(_)
            | Self::Invalid { .. }
            | Self::Disconnected { .. } => Kind::Invalid,
        }
    }

    pub(crate) fn invalid(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { what, detail: detail.into() }
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Refuses `count` above `limit`, by name.
pub(crate) fn at_most(what: &'static str, count: u64, limit: u64) -> Result<()> {
    if count > limit { Err(Error::TooMany { what, count, limit }) } else { Ok(()) }
}
