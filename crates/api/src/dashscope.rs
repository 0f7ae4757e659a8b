//! Alibaba Cloud Model Studio's own dialect, DashScope: <https://help.aliyun.com/zh/model-studio/qwen-api-reference>.
//!
//! | route | covered |
//! |---|---|
//! | `POST /api/v1/services/aigc/text-generation/generation` | text and messages, SSE, tools, thinking, sampling |
//! | `POST /api/v1/services/aigc/multimodal-generation/generation` | the same with pictures and frames |
//! | `POST /api/v1/services/embeddings/text-embedding/text-embedding` | texts, `dimension`, `text_type`, `instruct` |
//! | `POST /api/v1/services/rerank/text-rerank/text-rerank` | `top_n`, `return_documents`, `instruct` |
//!
//! A request streams if it has the header `X-DashScope-SSE: enable` or accepts `text/event-stream`. Refused by name:
//! `enable_search`, `logprobs`, `partial` messages, `plugins`, and every `output_type` but `dense`.
//! Unknown parameters are passed over, as the vendor does. The compatible modes of the same service are the OpenAI and
//! Anthropic dialects under its paths.

mod embed;
mod error;
mod from_wire;
mod handlers;
mod to_wire;
mod types;

use std::sync::Arc;

use axum::Router;
use axum::routing::post;

use crate::App;

pub(crate) use error::Failure;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/services/aigc/text-generation/generation", post(handlers::generation))
        .route("/api/v1/services/aigc/multimodal-generation/generation", post(handlers::multimodal))
        .route("/api/v1/services/embeddings/text-embedding/text-embedding", post(embed::embedding))
        .route("/api/v1/services/rerank/text-rerank/text-rerank", post(embed::rerank))
}
