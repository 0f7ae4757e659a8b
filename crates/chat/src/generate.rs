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
    /// What it is made of.
    pub facts: ModelFacts,
}

/// What a model is made of. Whoever does not know leaves fields empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelFacts {
    /// The family by its configuration's name, for example `qwen3`.
    pub architecture: String,
    /// The kind of its files: `safetensors` or `GGUF`.
    pub container: String,
    /// The format that most of its numbers have, for example `BF16` or `Q4_K`.
    pub weight_format: String,
    /// How many numbers it has.
    pub parameters: u64,
    /// Bytes of its tensors.
    pub size_bytes: u64,
    /// It sees pictures.
    pub vision: bool,
    /// Its chat template calls tools.
    pub tools: bool,
    /// Its chat template switches reasoning on and off.
    pub thinking: bool,
    /// The chat template's source.
    pub chat_template: String,
}

/// Whatever answers requests: the native engine, an upstream pool, an edge node, a wrapper around one of them.
pub trait Generate: Send + Sync {
    /// The models that requests may name.
    fn models(&self) -> Vec<ModelCard>;

    /// The longest prompt and answer together of a model, in tokens; 0 if that is not known, `None` if the model is
    /// not. Every request asks: whoever has many models, or makes their cards, should not list them for it.
    fn context_tokens(&self, model: &str) -> Option<u32> {
        self.models().into_iter().find(|card| card.id == model).map(|card| card.context_tokens)
    }

    /// Starts a generation.
    ///
    /// The future ends when the prompt was accepted, or with the reason why not; so a caller can still answer with an
    /// error status. Errors after that arrive in the stream.
    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, Result<EventStream>>;

    /// How many tokens the prompt of this request has; nothing is generated. A prompt that is too long is counted too.
    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, Result<u32>>;
}
