//! What can go wrong with an upstream, and what follows from it.

use base::Kind;

/// Why an upstream did not answer, or stopped in the middle.
#[expect(missing_docs, reason = "the messages say it")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    #[error("there is no connection: {reason}")]
    Connect { reason: String },
    #[error("{limit_ms} ms for {what} have passed")]
    TimedOut { what: Waiting, limit_ms: u64 },
    #[error("it refuses the request (status {status}): {message}")]
    Refused { status: u16, message: String },
    #[error("it does not accept the key that is configured for it (status {status})")]
    Credentials { status: u16 },
    #[error("it is busy (status {status}): {message}")]
    Busy { status: u16, message: String, retry_after_ms: Option<u64> },
    #[error("it failed (status {status}): {message}")]
    Failed { status: u16, message: String },
    #[error("it reported an error in the middle of its answer: {message}")]
    Reported { message: String },
    #[error("it sent {what}")]
    Garbage { what: String },
    #[error("its answer was cut off: {reason}")]
    Cut { reason: String },
    #[error("it sent more than {limit_bytes} bytes as {what}")]
    TooLarge { what: &'static str, limit_bytes: usize },
    #[error("its content filter ended the answer")]
    Filtered,
    #[error("{what} is not supported there: {why}")]
    Unsupported { what: String, why: &'static str },
    #[error("{running} requests are running there already, {limit} may")]
    Full { running: u32, limit: u32 },
}

/// What was waited for when a limit of time had passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// The first event of the answer.
    FirstByte,
    /// The next line of the answer.
    NextLine,
    /// The whole answer.
    Whole,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::FirstByte => "the first byte of the answer",
            Self::NextLine => "the next line of the answer",
            Self::Whole => "the whole answer",
        })
    }
}

impl Fault {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused { .. } | Self::Unsupported { .. } => Kind::Invalid,
            Self::Filtered => Kind::Forbidden,
            Self::Busy { .. } | Self::Full { .. } => Kind::Exhausted,
            Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::Credentials { .. }
            | Self::Failed { .. }
            | Self::Reported { .. }
            | Self::Garbage { .. }
            | Self::Cut { .. }
            | Self::TooLarge { .. } => Kind::Unavailable,
        }
    }

    /// Whether another pool may do better with the same request, as long as nothing was answered.
    #[must_use]
    pub fn may_be_retried(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Filtered)
    }

    /// Whether it says something about the health of the upstream, and not only about this request or its load.
    #[must_use]
    pub fn is_sickness(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Filtered
            | Self::Unsupported { .. }
            | Self::Busy { .. }
            | Self::Full { .. } => false,
            Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::Credentials { .. }
            | Self::Failed { .. }
            | Self::Reported { .. }
            | Self::Garbage { .. }
            | Self::Cut { .. }
            | Self::TooLarge { .. } => true,
        }
    }

    /// As callers see it. What a pool cannot do at all stays a matter of the request, without the pool's name.
    #[must_use]
    pub fn of_pool(self, pool: &str) -> chat::Error {
        match self {
            Self::Unsupported { what, why } => chat::Error::Unsupported { what, why: why.to_owned() },
            other => chat::Error::Upstream { pool: pool.to_owned(), kind: other.kind(), reason: other.to_string() },
        }
    }
}
