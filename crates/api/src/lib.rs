//! The HTTP side of Sampan: each vendor's dialect is a folder that turns its wire forms into `chat::GenerateRequest`
//! and `chat::Event`s back into its wire forms.
//!
//! No dialect imports another. What two share lives in `chat` (meaning) or here (transport): `fields` (what a body may
//! hold), `answer` (streams that tell the truth), `sse`, `error`, `auth`, `guard`. Nothing here sees an engine or a
//! model; everything goes through [`chat::Generate`] and [`chat::Embed`].

#![warn(missing_docs)]

mod accounting;
mod admin;
mod answer;
mod anthropic;
mod app;
mod attached;
mod auth;
mod batch;
pub mod buckets;
mod cohere;
mod console;
mod dashscope;
mod embed;
mod error;
mod fields;
mod files;
mod guard;
mod health;
mod kept;
mod lending;
mod limited;
mod observe;
mod ollama;
mod openai;
mod ossvectors;
mod planner;
mod policy;
mod pulls;
mod refusal;
mod residents;
mod routing;
mod s3vectors;
mod shelf;
pub mod signature;
mod sse;
mod time;

pub use accounting::{Books, pdf_of_invoice};
pub use admin::Custody;
pub use app::{App, router};
pub use kept::MayKeep;
pub use limited::{Limited, Limits};
pub use observe::{Listener, Over};
pub use pulls::{PullRequest, Pulls};
pub use routing::{ExplainRoute, RouteQuestion, Routing};
pub use shelf::{Looked, Shelf, Show};
