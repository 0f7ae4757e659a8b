use base::Kind;

use crate::Name;

/// What can go wrong with an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no object of this name.
    #[error("object {name} does not exist")]
    NotFound {
        /// The name asked for.
        name: Name,
    },
    /// `put_create` found the name taken.
    #[error("object {name} exists already")]
    Exists {
        /// The name that is taken.
        name: Name,
    },
    /// A range reaches beyond the end of the object.
    #[error("object {name} has {size_bytes} bytes, a range up to {end} was asked for")]
    Short {
        /// The object.
        name: Name,
        /// How long it is.
        size_bytes: u64,
        /// Where the range would have ended.
        end: u64,
    },
    /// The object is larger than the caller or the store allows.
    #[error("object {name} has {size_bytes} bytes, {limit_bytes} are allowed")]
    TooLarge {
        /// The object.
        name: Name,
        /// How long it is.
        size_bytes: u64,
        /// The limit that applied.
        limit_bytes: u64,
    },
    /// Text that is not a name.
    #[error("{text:?} is no object name: {why}")]
    BadName {
        /// The text.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Text that says no place of a store.
    #[error("{text:?} is no place of a store: {why}")]
    BadLocation {
        /// The text.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The store could not be reached or gave up. A write may have happened nevertheless.
    #[error("{action} {name}: the store is not available")]
    Unavailable {
        /// What was tried, a verb.
        action: &'static str,
        /// The object.
        name: Name,
    },
    /// The operating system or the service refused. A write may have happened nevertheless.
    #[error("{action} {what}")]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// The object or folder.
        what: String,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Exists { .. } => Kind::Conflict,
            Self::Short { .. } => Kind::Corrupt,
            Self::TooLarge { .. } | Self::BadName { .. } | Self::BadLocation { .. } => Kind::Invalid,
            Self::Unavailable { .. } | Self::Io { .. } => Kind::Unavailable,
        }
    }

    /// Whether the object asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether `put_create` lost against an object that exists.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }
}
