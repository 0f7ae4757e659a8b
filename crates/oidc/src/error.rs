//! What can go wrong with a sign-in.

use base::Kind;

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why nobody has signed in.
#[expect(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{field} is {value:?}, allowed: {allowed}")]
    Wrong { field: &'static str, value: String, allowed: &'static str },
    #[error("the provider cannot be reached at {url}")]
    Reach { url: String, source: reqwest::Error },
    #[error("the provider's answer from {url} cannot be used: {why}")]
    Answer { url: String, why: String },
    #[error("the provider refuses: {why}")]
    Refused { why: String },
    #[error("the sign-in was not begun in this browser, or under another host name: begin again")]
    Foreign,
    #[error("the identity token is refused: {why}")]
    Token { why: String },
    #[error("the address {email:?} is not verified by the provider")]
    Unverified { email: String },
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Wrong { .. } => Kind::Invalid,
            Self::Reach { .. } | Self::Answer { .. } => Kind::Unavailable,
            Self::Refused { .. } | Self::Foreign | Self::Token { .. } | Self::Unverified { .. } => {
                Kind::Unauthenticated
            }
        }
    }

    pub(crate) fn token(why: impl Into<String>) -> Self {
        Self::Token { why: why.into() }
    }
}
