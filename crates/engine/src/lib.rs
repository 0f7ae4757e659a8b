//! Shares a model among many requests.
//!
//! A request takes this way: [`Engine`] (an implementation of [`chat::Generate`]) renders and encodes its prompt on a
//! blocking thread and hands it to the worker. The worker is one thread that owns the model's cache and repeats: take
//! note of arrivals and of readers that left, ask the [`scheduler`] what to compute, compute it in one forward pass,
//! draw a token for every sequence that is due ([`sampler`]), turn it into events ([`output`](mod@output)).
//!
//! Where a sequence repeats what stands before it, its next tokens are guessed and computed in one step
//! ([`speculation`]), or a second, smaller model guesses them ([`drafter`]); the answer is the same, token for token.
//!
//! Pictures go the same way: the tower makes features of them ([`eyes`]) while the prompt is prepared, and the worker
//! puts these in the places of their tokens ([`sight`]).
//!
//! A [`Fleet`] holds many models: it loads them when they are asked for, lets go of those that nobody used for long
//! when memory is short, and also answers for models that embed or rank ([`embedder`]).
//!
//! Adapters belong to a model and answer under names of their own; rows of several go through one step.
//!
//! New requests join between steps and leave when they are done (continuous batching); long prompts are computed in
//! chunks beside the others. The engine does not know who asks or who pays.

#![warn(missing_docs)]

mod blocks;
mod budget;
mod checked;
mod constraint;
mod drafter;
mod embedder;
mod engine;
mod error;
mod eyes;
mod facts;
mod figures;
mod fill;
mod fleet;
mod output;
mod placeholders;
mod places;
mod prompt;
pub mod sampler;
pub mod scheduler;
mod sight;
mod snapshots;
mod source;
mod speculation;
mod worker;

pub use engine::{Engine, Files, Occupancy, Options};
pub use error::{Error, Result};
pub use fleet::{AdapterEntry, Entry, Extras, Fleet, Machine};
pub use prompt::tokenizer_of;
pub use source::{Role, Source};
