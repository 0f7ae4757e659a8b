//! Reranking in Cohere's form, which Jina, vLLM and Alibaba Cloud's compatible mode share:
//! <https://docs.cohere.com/reference/rerank>, <https://jina.ai/reranker>.
//!
//! | route | whose clients look there |
//! |---|---|
//! | `POST /v1/rerank`, `POST /v2/rerank` | Cohere |
//! | `POST /rerank` | Jina, vLLM |
//! | `POST /compatible-api/v1/reranks` | Alibaba Cloud |
//!
//! Documents come back only with `return_documents`. `rank_fields` and chunking (`max_chunks_per_doc`,
//! `max_tokens_per_doc`) are refused by name: a document is text, and is ranked whole. Unknown fields are passed over.

mod error;
mod rerank;

use std::sync::Arc;

use axum::Router;
use axum::routing::post;

use crate::App;

pub(crate) use error::Failure;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/rerank", post(rerank::handle))
        .route("/v2/rerank", post(rerank::handle))
        .route("/rerank", post(rerank::handle))
        .route("/compatible-api/v1/reranks", post(rerank::handle))
}
