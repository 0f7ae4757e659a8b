//! What a conversation is, and the seam behind which every model lives.
//!
//! The API dialects turn wire forms into a [`GenerateRequest`] and turn [`Event`]s back into wire forms. Whoever
//! answers (the native engine, an upstream pool, an edge node, a test) implements [`Generate`]. Neither side sees the
//! other.
//!
//! * `message`: roles, parts, tool calls, tools.
//! * `request`: a request with its sampling settings, checked when it is made.
//! * `event`: what comes back; a stream ends in exactly one `Finished`, or in one error.
//! * `generate`: the trait.

#![warn(missing_docs)]

mod error;
mod event;
mod generate;
mod message;
mod request;

pub use error::{Error, Result};
pub use event::{Event, Finish, FinishReason, Logprob, StopMatch, TokenLogprobs, Usage};
pub use generate::{EventStream, Generate, ModelCard};
pub use message::{Content, ImageSource, Message, Part, Role, Tool, ToolCall, ToolChoice};
pub use request::{GenerateRequest, Prompt, Sampling, StopRules, Thinking, limits};
