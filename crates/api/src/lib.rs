//! The HTTP side of Sampan: each vendor's dialect is a folder that turns its wire forms into `chat::GenerateRequest`
//! and `chat::Event`s back into its wire forms.
//!
//! No dialect imports another. What two share lives in `chat` (meaning) or here (transport): [`error`], [`sse`],
//! [`guard`]. Nothing here sees an engine or a model; everything goes through [`chat::Generate`].

#![warn(missing_docs)]

mod app;
mod error;
mod guard;
mod health;
mod openai;
mod sse;

pub use app::{App, router};
