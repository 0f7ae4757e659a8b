//! Anthropic's dialect: <https://docs.anthropic.com/en/api/messages>.
//!
//! | route | covered |
//! |---|---|
//! | `POST /v1/messages` | text, pictures, streaming, system blocks, tools and results, thinking, stop sequences |
//! | `POST /v1/messages/count_tokens` | whole |
//! | `/v1/messages/batches` | see `batches` |
//! | `GET /v1/models`, `GET /v1/models/{id}` | whole; where the header `anthropic-version` is present |
//! | `/v1/files` | see `files`; where that header is present |
//!
//! Refused by name: documents and search results, server tools and their blocks, `container`, `mcp_servers`,
//! `context_management`, `diagnostics`, `output_config.format`, `speed` other than standard, strict tools,
//! `disable_parallel_tool_use`, hidden thinking, and a conversation that ends with the assistant (prefill). A field
//! that the vendor does not document is refused as the vendor refuses it.
//!
//! Without `thinking` the model does not think; `budget_tokens` is checked as documented and not enforced: it is a
//! target to the vendor as well. Thinking carries no signature, and none is checked. A tool result with `is_error`
//! begins with `Error: `, since chat templates have no other way to say so. `cache_control` asks for nothing here.

mod batches;
mod blocks;
mod error;
pub(crate) mod files;
mod from_wire;
mod handlers;
mod page;
mod to_wire;
mod types;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::App;

pub(crate) use batches::AnthropicLines;
pub(crate) use error::Failure;
pub(crate) use handlers::{list_models, show_model};
pub(crate) use types::PageQuery;

/// Clients of this dialect send it with every request.
pub(crate) const VERSION_HEADER: &str = "anthropic-version";

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/messages", post(handlers::messages))
        .route("/v1/messages/count_tokens", post(handlers::count_tokens))
        .merge(batches::routes())
}

/// The list of models and the files in this dialect, for a place where no other dialect has them.
pub(crate) fn own_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(show_model))
        .merge(files::routes())
}
