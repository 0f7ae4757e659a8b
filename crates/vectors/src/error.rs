use base::Kind;

/// What can go wrong with a bucket, an index or a vector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the request breaks a rule.
    #[error("{field}: {why}")]
    Invalid {
        /// Which field, in the words of this crate.
        field: &'static str,
        /// The rule, and the value that broke it.
        why: String,
    },
    /// There is no such bucket or index.
    #[error("{what} does not exist")]
    NotFound {
        /// Its name.
        what: String,
    },
    /// It was there once and was removed since.
    #[error("{what} is not kept any more")]
    Gone {
        /// What.
        what: String,
    },
    /// There is such a bucket or index already, or it is not empty.
    #[error("{what} {why}")]
    Conflict {
        /// Its name.
        what: String,
        /// What is in the way.
        why: &'static str,
    },
    /// There may be no more of a thing.
    #[error("{limit} {what} are allowed")]
    Quota {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// More writes wait for compaction than memory is set aside for.
    #[error("{rows} rows wait to be compacted, {limit} may")]
    Busy {
        /// Rows in memory.
        rows: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The request may have happened, or not; nobody knows yet.
    #[error("the outcome of the write is not known")]
    Unknown,
    /// Others change the index faster than this request can follow.
    #[error("{action} lost against other writers {tries} times")]
    Contended {
        /// What was tried.
        action: &'static str,
        /// How often.
        tries: u32,
    },
    /// Stored bytes are not what was written.
    #[error("object {object}: {what}")]
    Corrupt {
        /// The object.
        object: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The store could not do its part.
    #[error("{action}")]
    Store {
        /// What was tried, a verb and its object.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: store::Error,
    },
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::NotFound { .. } | Self::Gone { .. } => Kind::NotFound,
            Self::Conflict { .. } => Kind::Conflict,
            Self::Busy { .. } | Self::Quota { .. } => Kind::Exhausted,
            Self::Unknown | Self::Contended { .. } => Kind::Unavailable,
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::Store { source, .. } => source.kind(),
        }
    }
}

/// Wraps an error of the store with what was tried.
pub(crate) fn tried(action: &'static str) -> impl FnOnce(store::Error) -> Error {
    move |source| Error::Store { action, source }
}
