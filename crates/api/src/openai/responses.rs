//! The Responses API: <https://platform.openai.com/docs/api-reference/responses>.
//!
//! | route | covered |
//! |---|---|
//! | `POST /v1/responses` | text, function calls, reasoning, streaming, `previous_response_id`, `store`, background |
//! | `GET`, `DELETE /v1/responses/{id}` | whole; a response in the background is polled here |
//! | `POST /v1/responses/{id}/cancel` | responses in the background |
//! | `GET /v1/responses/{id}/input_items` | `limit`, `order`, `after` |
//! | `POST /v1/responses/input_tokens` | whole |
//!
//! Reasoning comes as text (`reasoning_text`), never encrypted, and may be sent back as it came. What is stored is kept
//! for [`shelf::KEPT_MS`] in the data folder. A response in the background dies with the server: whoever polls after a
//! restart is told that it failed. Refused by name: tools other than functions, `conversation`, `prompt`, `truncation`
//! `auto`, log probabilities, item references, files, and streams of responses in the background.
//!
//! * `types`: items and the response. `from_wire`: what is asked, as a request. `builder`: events become items and
//!   stream events. `run`: a generation from its start to the stored end. `shelf`: what is kept.

mod builder;
mod from_wire;
mod handlers;
mod run;
mod shelf;
mod types;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::App;

pub(super) use handlers::respond;
pub(crate) use run::Background;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/responses", post(handlers::create))
        .route("/v1/responses/input_tokens", post(handlers::count))
        .route("/v1/responses/{id}", get(handlers::show).delete(handlers::delete))
        .route("/v1/responses/{id}/cancel", post(handlers::cancel))
        .route("/v1/responses/{id}/input_items", get(handlers::input_items))
}
