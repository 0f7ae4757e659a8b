//! Ollama's dialect: <https://docs.ollama.com/api>.
//!
//! | route | covered |
//! |---|---|
//! | `POST /api/chat`, `POST /api/generate` | text, streaming, tools, thinking, sampling options |
//! | `POST /api/embed`, `POST /api/embeddings` | texts, `dimensions`, `truncate` |
//! | `GET /api/tags`, `POST /api/show`, `GET /api/ps`, `GET /api/version` | what there is to say of a model |
//!
//! Refused by name: `template`, `context`, `logprobs`, and options for ways of sampling that we do
//! not have. Options that say how a model is loaded (`num_ctx`, `num_gpu`, …) are the server's business: they change
//! nothing. `keep_alive` of chat and generate says how long the model stays; without a prompt it loads the model, or
//! lets go of it (0); a negative one lets it stay until its memory is needed. `ps` lists what is loaded. Unknown fields
//! are passed over, as the vendor does. Models have no digest: only their
//! name is sure, so the field is empty. Pulling, pushing and copying models is not part of it.

mod embed;
mod error;
mod from_wire;
mod handlers;
mod to_wire;
mod types;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::App;

pub(crate) use error::Failure;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/chat", post(handlers::chat))
        .route("/api/generate", post(handlers::generate))
        .route("/api/embed", post(embed::embed))
        .route("/api/embeddings", post(embed::embeddings))
        .route("/api/tags", get(handlers::tags))
        .route("/api/ps", get(handlers::running))
        .route("/api/show", post(handlers::show))
        .route("/api/version", get(handlers::version))
}
