//! What can be wrong with a checkpoint.

use std::path::PathBuf;

use base::Kind;

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a checkpoint could not be opened.
#[expect(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no model: {why}")]
    NotAModel { path: PathBuf, why: String },
    #[error("{file} is corrupt: {why}")]
    CorruptFile { file: String, why: String },
    #[error("{field} is {value}, which is not supported: {why}")]
    UnsupportedConfig { field: String, value: String, why: String },
    #[error("the configuration lacks {field}")]
    MissingField { field: String },
    #[error("tensor {name} is missing")]
    MissingTensor { name: String },
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    WrongShape { name: String, found: Vec<u64>, expected: Vec<u64> },
    #[error("tensor {name} has type {found}, which is not supported here")]
    UnsupportedType { name: String, found: String },
    #[error("tensor {name} holds a number that is not finite, in row {row}")]
    NotFinite { name: String, row: usize },
    #[error("tensor {name} holds a number, in row {row}, that is beyond the range of {format:?}")]
    Beyond { name: String, row: usize, format: kernels::Format },
    #[error("{path} is there already")]
    Exists { path: PathBuf },
    #[error("write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("pack tensor {name}")]
    Pack { name: String, source: kernels::Error },
    #[error("the picture cannot be used: {why}")]
    Picture { why: String },
    #[error(
        "{given_bytes} bytes for experts are too few: those of a token and of what is read ahead take {needed_bytes}"
    )]
    ExpertMemory { given_bytes: u64, needed_bytes: u64 },
    #[error("start a thread that reads experts")]
    Reader(#[source] std::io::Error),
    #[error("allocate the key/value cache")]
    KvCache(#[source] kernels::Error),
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
            Self::Read { .. } | Self::Write { .. } => Kind::Unavailable,
            Self::Exists { .. } => Kind::Conflict,
            Self::NotAModel { .. } => Kind::NotFound,
            Self::UnsupportedConfig { .. } | Self::UnsupportedType { .. } | Self::Picture { .. } => Kind::Invalid,
            Self::Beyond { .. } | Self::ExpertMemory { .. } => Kind::Invalid,
            Self::CorruptFile { .. }
            | Self::MissingField { .. }
            | Self::MissingTensor { .. }
            | Self::WrongShape { .. }
            | Self::NotFinite { .. }
            | Self::Pack { .. } => Kind::Corrupt,
            Self::KvCache(_) | Self::Reader(_) => Kind::Exhausted,
        }
    }

    pub(crate) fn corrupt(file: &str, why: impl Into<String>) -> Self {
        Self::CorruptFile { file: file.to_owned(), why: why.into() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "call sites read better with a plain value")]
    pub(crate) fn unsupported(field: &str, value: impl ToString, why: &str) -> Self {
        Self::UnsupportedConfig { field: field.to_owned(), value: value.to_string(), why: why.to_owned() }
    }
}
