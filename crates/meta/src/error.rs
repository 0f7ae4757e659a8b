//! What can go wrong with what must not be forgotten.

use base::Kind;

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something was not written, not read or not allowed.
#[expect(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{what} {name:?} does not exist")]
    Missing { what: &'static str, name: String },
    #[error("{what} {name:?} exists already")]
    Exists { what: &'static str, name: String },
    #[error("{field} is {value:?}, allowed: {allowed}")]
    Wrong { field: &'static str, value: String, allowed: String },
    #[error("{who} may not {what}")]
    NotAllowed { who: String, what: String },
    #[error("this key is not known here")]
    UnknownKey,
    #[error("the session has ended: sign in again")]
    UnknownSession,
    #[error("the key {key} was revoked")]
    Revoked { key: String },
    #[error("the key {key} expired")]
    Expired { key: String },
    #[error("the {what} of the key {key} was closed")]
    Closed { what: &'static str, key: String },
    #[error("the database has version {found} of {component}, this program knows {known}: use a newer program")]
    NewerSchema { component: String, found: i64, known: i64 },
    #[error("the database {place} cannot be used: {why}")]
    Place { place: String, why: String },
    #[error("a secret was encrypted with another key file, or is damaged")]
    Sealed,
    #[error("the row of {what} is not what it must be: {why}")]
    Row { what: &'static str, why: String },
    #[error("the database stopped in the middle of a write; it may have been made: {why}")]
    Interrupted { why: String },
    #[error("the database answered no more")]
    Gone,
    #[error("what was asked together was undone: {why}")]
    Apart { why: String },
    #[error("the database could not be read: {why}")]
    Unread { why: String },
    #[error("a statement wrote another number of rows than it must")]
    Written,
    #[error("a text holds a zero byte, which this database does not take")]
    ZeroByte,
    #[error("ask the database")]
    Database(#[source] sqlx::Error),
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::NotFound,
            Self::Exists { .. } => Kind::Conflict,
            Self::Wrong { .. } | Self::ZeroByte => Kind::Invalid,
            Self::NotAllowed { .. } => Kind::Forbidden,
            Self::UnknownKey
            | Self::UnknownSession
            | Self::Revoked { .. }
            | Self::Expired { .. }
            | Self::Closed { .. } => Kind::Unauthenticated,
            Self::NewerSchema { .. } | Self::Place { .. } => Kind::Unavailable,
            Self::Row { .. } | Self::Written | Self::Sealed => Kind::Corrupt,
            Self::Interrupted { .. } | Self::Gone | Self::Apart { .. } | Self::Unread { .. } => Kind::Unavailable,
            Self::Database(source) => match source {
                sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Kind::Unavailable,
                _ => Kind::Internal,
            },
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(source: sqlx::Error) -> Self {
        let is_no_text =
            source.as_database_error().and_then(|told| told.code()).is_some_and(|code| NO_TEXT.contains(&&*code));
        if is_no_text { Self::ZeroByte } else { Self::Database(source) }
    }
}

/// What PostgreSQL says of a text that it does not take (`character_not_in_repertoire`, `untranslatable_character`).
/// Ours are all UTF-8, so it is a zero byte. SQLite takes it.
const NO_TEXT: [&str; 2] = ["22021", "22P05"];

/// Whether a statement failed because a row with this key is there already.
pub(crate) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
