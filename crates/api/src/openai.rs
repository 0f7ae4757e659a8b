//! OpenAI's dialect: <https://platform.openai.com/docs/api-reference>.
//!
//! | route | covered |
//! |---|---|
//! | `GET /v1/models`, `GET /v1/models/{id}` | whole |
//! | `POST /v1/chat/completions` | text, pictures (files too), videos, streaming, `n`, tools, log probabilities, seed |
//! | `POST /v1/embeddings` | text or token inputs, `float` and `base64`, `dimensions` |
//! | `/v1/responses` | see `responses` |
//! | `/v1/files`, `/v1/batches` | see `files` and `batches` |
//! | `POST /v1/completions` | text or token prompts, several, streaming, `n`, `echo`, log probabilities, `suffix` |
//! | `POST /infill` | llama.cpp's, for editors: gaps with other files as context, streaming; see `infill` |
//!
//! Refused by name: audio, `prediction`, `web_search_options`, `functions`, stored completions, `response_format` other
//! than text, a `tool_choice` that forces a call, `best_of`. A field that the vendor does not document is
//! refused as the vendor refuses it, except the widespread extensions `top_k`, `min_p`, `repetition_penalty`,
//! `stop_token_ids`, `ignore_eos`, `enable_thinking`, `thinking_budget`, `chat_template_kwargs` and the message field
//! `reasoning_content`, with the meaning that vLLM and Qwen's documentation give them, and `speculate`, which is ours:
//! `false` switches guessing ahead off for this request.

mod batches;
mod embeddings;
mod error;
pub(crate) mod files;
mod format;
mod from_wire;
mod handlers;
mod infill;
mod responses;
mod to_wire;
mod types;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::App;

pub(crate) use batches::OpenAiLines;
pub(crate) use error::Failure;
pub(crate) use handlers::{list_models, show_model};
pub(crate) use responses::Background;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(handlers::chat_completions))
        .route("/v1/completions", post(handlers::completions))
        .route("/v1/embeddings", post(embeddings::handle))
        .merge(responses::routes())
        .merge(batches::routes())
}

/// What editors that know llama.cpp's server ask, at its own address.
pub(crate) fn infill_routes() -> Router<Arc<App>> {
    Router::new().route("/infill", post(infill::handle))
}

/// The list of models and the files in this dialect, for a place where no other dialect has them.
pub(crate) fn own_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(show_model))
        .merge(files::routes())
}
