//! What can go wrong between a hub and the disk.

use std::io;
use std::path::{Path, PathBuf};

use base::Kind;

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model could not be pulled, listed, checked or removed.
#[expect(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{name:?} is no name of a model: {why}")]
    Name { name: String, why: &'static str },
    #[error("{address:?} is no address of a hub: {why}")]
    Address { address: String, why: String },
    #[error("start the client")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("reach {url}")]
    Reach { url: String, source: reqwest::Error },
    #[error("{url} answered {status}{}", detail(message))]
    Status { url: String, status: u16, message: String, retry_after_s: Option<u64> },
    #[error("{url} answered what was not asked for: {why}")]
    Answer { url: String, why: String },
    #[error("{file} ended after {found} bytes of {expected}")]
    Cut { file: String, found: u64, expected: u64 },
    #[error("{file} is not what the hub says: its {kind} is {found}, expected {expected}")]
    Digest { file: String, kind: &'static str, found: String, expected: String },
    #[error("the file name {name:?} is refused: {why}")]
    FileName { name: String, why: &'static str },
    #[error("{repository} holds no model that could be chosen: {why}")]
    Choice { repository: String, why: String },
    #[error("{what}: {found}, {most} allowed")]
    TooMuch { what: &'static str, found: u64, most: u64 },
    #[error("{needed} bytes are needed in {folder}, {free} are free")]
    Space { folder: PathBuf, needed: u64, free: u64 },
    #[error("another pull or removal is at work in {folder}")]
    Busy { folder: PathBuf },
    #[error("{path} is there already and was not pulled from {repository}")]
    Taken { path: PathBuf, repository: String },
    #[error("no model {name:?} was pulled")]
    NotPulled { name: String },
    #[error("{path} is no record of a pulled model: {why}")]
    Record { path: PathBuf, why: String },
    #[error("{step} {path}")]
    File { step: &'static str, path: PathBuf, source: io::Error },
    #[error("{place} does not send by the mover; only a Sampan does")]
    NoMover { place: String },
    #[error("receive by the mover")]
    Mover(#[from] fabric::Error),
    #[error("{place} stopped sending: {message}")]
    NotSent { place: String, message: String },
    #[error("the pull was stopped")]
    Stopped,
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Name { .. }
            | Self::Address { .. }
            | Self::Choice { .. }
            | Self::TooMuch { .. }
            | Self::NoMover { .. } => Kind::Invalid,
            Self::Client(_) | Self::Stopped => Kind::Internal,
            Self::Reach { .. } | Self::Cut { .. } | Self::NotSent { .. } => Kind::Unavailable,
            Self::Mover(error) => error.kind(),
            Self::Status { status, .. } => match status {
                401 => Kind::Unauthenticated,
                403 => Kind::Forbidden,
                404 | 410 => Kind::NotFound,
                429 => Kind::Exhausted,
                _ => Kind::Unavailable,
            },
            Self::Answer { .. } | Self::Digest { .. } | Self::FileName { .. } | Self::Record { .. } => Kind::Corrupt,
            Self::Space { .. } => Kind::Exhausted,
            Self::Busy { .. } | Self::Taken { .. } => Kind::Conflict,
            Self::NotPulled { .. } => Kind::NotFound,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => Kind::Exhausted,
            Self::File { .. } => Kind::Unavailable,
        }
    }

    /// Whether the same request may succeed in a while.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Reach { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    pub(crate) fn file(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { step, path: path.to_owned(), source }
    }
}

/// Refuses more than what is allowed.
pub(crate) fn at_most(what: &'static str, found: u64, most: u64) -> Result<()> {
    if found > most { Err(Error::TooMuch { what, found, most }) } else { Ok(()) }
}
