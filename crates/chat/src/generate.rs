//! The seam behind which every model lives.

use std::pin::Pin;

use futures::Stream;
use futures::future::BoxFuture;

use crate::{Event, GenerateRequest, Result};

/// A running generation. Dropping it cancels the work behind it.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event>> + Send>>;

/// What is known of a model without loading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// The name that requests use.
    pub id: String,
    /// Who made it.
    pub owner: String,
    /// When it was added here, seconds since the Unix epoch.
    pub created_s: u64,
    /// Longest prompt and answer together, in tokens.
    pub context_tokens: u32,
}

/// Whatever answers requests: the native engine, an upstream pool, an edge node, a wrapper around one of them.
pub trait Generate: Send + Sync {
    /// The models that requests may name.
    fn models(&self) -> Vec<ModelCard>;

    /// Starts a generation.
    ///
    /// The future ends when the prompt was accepted, or with the reason why not; so a caller can still answer with an
    /// error status. Errors after that arrive in the stream.
    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, Result<EventStream>>;
}
