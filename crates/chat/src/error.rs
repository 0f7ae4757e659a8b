//! What can go wrong between a request and its answer.

use base::Kind;

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was refused, or why its answer stopped.
#[expect(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("model {model:?} is not known here")]
    UnknownModel { model: String },
    #[error("this key is not good for the model {model:?}")]
    ModelNotAllowed { model: String },
    #[error("the prompt has {prompt_tokens} tokens, the context of this model {context_tokens}")]
    PromptTooLong { prompt_tokens: usize, context_tokens: usize },
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("{name} is {value}, allowed: {allowed}")]
    OutOfRange { name: &'static str, value: String, allowed: String },
    #[error("{count} {what}, {limit} allowed")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("{what} is not supported: {why}")]
    Unsupported { what: String, why: String },
    #[error("the chat template refused the conversation: {reason}")]
    TemplateRefused { reason: String },
    #[error("the chat template is broken: {reason}")]
    TemplateBroken { reason: String },
    #[error("the tokenizer is broken: {reason}")]
    TokenizerBroken { reason: String },
    #[error("token id {token} is not below the vocabulary size {vocabulary}")]
    UnknownToken { token: u32, vocabulary: usize },
    #[error("{waiting} requests are waiting already, {limit} may")]
    Overloaded { waiting: usize, limit: usize },
    #[error("{open} requests of this project are open already, {limit} may")]
    ProjectBusy { open: usize, limit: usize },
    #[error("{reason}")]
    LimitReached { measure: &'static str, reason: String },
    #[error("{tries} answers were generated, and none has the form that was asked for: {reason}")]
    FormMissed { tries: u32, output_tokens: u32, reason: String },
    #[error("pool {pool}: {reason}")]
    Upstream { pool: String, kind: Kind, reason: String },
    #[error("nobody may or can answer for model {model:?}: {reason}")]
    NoRoute { model: String, kind: Kind, reason: String },
    #[error("{what} may not be kept here: {reason}")]
    NotKept { what: String, reason: String },
    #[error("{reason}")]
    OutOfCredit { reason: String },
    #[error("the request cannot be booked at the moment")]
    BooksClosed,
    #[error("model {model:?} could not be loaded: {reason}")]
    NotLoaded { model: String, reason: String },
    #[error("the engine is shutting down")]
    ShuttingDown,
    #[error("the engine stopped in the middle of this answer: {reason}")]
    Interrupted { reason: String },
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::UnknownModel { .. } => Kind::NotFound,
            Self::ModelNotAllowed { .. } => Kind::Forbidden,
            Self::PromptTooLong { .. }
            | Self::EmptyPrompt
            | Self::OutOfRange { .. }
            | Self::TooMany { .. }
            | Self::Unsupported { .. }
            | Self::TemplateRefused { .. }
            | Self::UnknownToken { .. } => Kind::Invalid,
            Self::TemplateBroken { .. } | Self::TokenizerBroken { .. } => Kind::Corrupt,
            Self::Upstream { kind, .. } | Self::NoRoute { kind, .. } => *kind,
            Self::NotKept { .. } => Kind::Forbidden,
            Self::Overloaded { .. }
            | Self::ProjectBusy { .. }
            | Self::LimitReached { .. }
            | Self::OutOfCredit { .. } => Kind::Exhausted,
            Self::ShuttingDown | Self::BooksClosed | Self::FormMissed { .. } | Self::NotLoaded { .. } => {
                Kind::Unavailable
            }
            Self::Interrupted { .. } => Kind::Internal,
        }
    }
}
