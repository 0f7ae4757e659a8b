//! What a conversation is, and the seam behind which every model lives.
//!
//! The API dialects turn wire forms into a [`GenerateRequest`] and turn [`Event`]s back into wire forms. Whoever
//! answers (the native engine, an upstream pool, an edge node, a test) implements [`Generate`]. Neither side sees the
//! other.
//!
//! * `message`: roles, parts, tool calls, tools; `media`: pictures and videos in them.
//! * `request`: a request with its sampling settings, checked when it is made.
//! * `event`: what comes back; a stream ends in exactly one `Finished`, or in one error.
//! * `generate`: the trait. `testing` has a fake and the suite for all implementations.
//! * `embed`: the trait [`Embed`], for models that make vectors or rank documents.
//! * `manage`: the trait [`Manage`], for those who load and unload models.
//! * `collect`: a whole answer from its events.
//!
//! Whoever answers with a model of its own also finds here what stands between messages and tokens:
//!
//! * `tokenizer`, `detokenizer`: text to token ids and back, piece by piece.
//! * `template`, `rendered`: a conversation becomes a prompt in which only the template speaks in control tokens.
//! * [`grounding`]: boxes and points of a picture in an answer.
//! * `output`: the model's text becomes reasoning, answer and tool calls, and stops at stop strings.

#![warn(missing_docs)]

mod collect;
mod detokenizer;
mod embed;
mod error;
mod event;
mod generate;
pub mod grounding;
mod manage;
mod media;
mod message;
mod output;
mod rendered;
mod request;
mod template;
pub mod testing;
mod tokenizer;

pub use collect::{Answer, Collector, collect};
pub use detokenizer::Detokenizer;
pub use embed::{
    EMBED_INPUTS_MAX, Embed, EmbedInput, EmbedRequest, Embeddings, RERANK_DOCUMENTS_MAX, Relevance, RerankRequest,
};
pub use error::{Error, Result};
pub use event::{Event, Finish, FinishReason, Logprob, StopMatch, TokenLogprobs, Usage};
pub use generate::{EventStream, Generate, ModelCard, ModelFacts};
pub use manage::{KeepAlive, Manage, ModelState, ModelStatus};
pub use media::{ImageSource, Video};
pub use message::{Content, Message, Part, Role, Tool, ToolCall, ToolChoice};
pub use output::{Opening, OutputOptions, OutputParser, TOOL_CALL_BYTES_MAX};
pub use rendered::Rendered;
pub use request::{
    Caller, ContextFile, Format, GenerateRequest, Priority, Prompt, Sampling, StopRules, Thinking, limits,
};
pub use template::{RenderOptions, Template, ToolFormat};
pub use tokenizer::{GgufLists, GgufVocabulary, Segment, Specials, TEXT_BYTES_MAX, Tokenizer};
