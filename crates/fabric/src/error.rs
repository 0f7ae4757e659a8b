//! What can go wrong, and what the caller can do about it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base::Kind;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant and its fields are explained by its message")]
pub enum Error {
    #[error("{what} {path}")]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{what} {address}")]
    Socket { what: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("{what}")]
    Transport { what: &'static str, source: std::io::Error },
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer was silent for {silent_ms} ms")]
    Silent { silent_ms: u64 },
    #[error("stopped")]
    Stopped,
    #[error("the peer does not speak this protocol: it began with {found:02x?}")]
    Stranger { found: [u8; 8] },
    #[error("the receiver does not know our token")]
    TokenRefused,
    #[error("the peer does not know our token")]
    TokenUnknown,
    #[error("a token of {length} characters; at least {min}, at most {max}")]
    TokenLength { length: usize, min: usize, max: usize },
    #[error("{what}: {detail}")]
    Malformed { what: &'static str, detail: String },
    #[error("a frame was changed on its way")]
    Forged,
    #[error("{count} {what}, at most {limit} are accepted")]
    TooMany { what: &'static str, count: u64, limit: u64 },
    #[error("the name {name:?} is refused: {why}")]
    Name { name: String, why: &'static str },
    #[error("{path} changed while it was sent")]
    Changed { path: PathBuf },
    #[error("{path} is neither a file nor a folder")]
    NoFile { path: PathBuf },
    #[error("{path} is in use by another receiver")]
    InUse { path: PathBuf },
    #[error("the receiver refused: {message}")]
    Refused { kind: Kind, message: String },
    #[error("chunk {number} arrived damaged {times} times")]
    Damaged { number: u32, times: u32 },
    #[error("no plane made progress for {waited_ms} ms; tried {planes}")]
    Unreachable { waited_ms: u64, planes: String, source: Option<Box<Error>> },
    #[error("{what} {value}: {detail}")]
    Option { what: &'static str, value: String, detail: &'static str },
}

impl Error {
    /// What the receiver can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::File { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => Kind::NotFound,
                std::io::ErrorKind::PermissionDenied => Kind::Forbidden,
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::Exhausted,
                _ => Kind::Unavailable,
            },
            Self::Socket { .. }
            | Self::Transport { .. }
            | Self::Closed
            | Self::Silent { .. }
            | Self::Stopped
            | Self::Unreachable { .. } => Kind::Unavailable,
            Self::TokenRefused | Self::TokenUnknown => Kind::Unauthenticated,
            Self::Stranger { .. }
            | Self::TokenLength { .. }
            | Self::Malformed { .. }
            | Self::TooMany { .. }
            | Self::Name { .. }
            | Self::NoFile { .. }
            | Self::Option { .. } => Kind::Invalid,
            Self::Changed { .. } | Self::InUse { .. } => Kind::Conflict,
            Self::Forged | Self::Damaged { .. } => Kind::Corrupt,
            Self::Refused { kind, .. } => *kind,
        }
    }

    /// Whether trying again, or over another plane, may help.
    #[must_use]
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Forged => true,
            Self::File { .. } => false,
            other => other.kind() == Kind::Unavailable,
        }
    }

    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { what, path: path.to_path_buf(), source }
    }

    pub(crate) fn malformed(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Malformed { what, detail: detail.into() }
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Refuses `count` above `limit`, by name.
pub(crate) fn at_most(what: &'static str, count: u64, limit: u64) -> Result<()> {
    if count > limit { Err(Error::TooMany { what, count, limit }) } else { Ok(()) }
}
