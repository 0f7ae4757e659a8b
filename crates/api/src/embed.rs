//! Embeddings and rankings, whichever dialect asks for them.

use base::RequestId;
use chat::{EmbedRequest, Embeddings, Error, Relevance, RerankRequest, Result};

use crate::App;

/// What Qwen3-Embedding was trained to be told about a query; also the instruction of a query that brings none.
/// Source: the model card, "Usage", and Alibaba Cloud's `text_type` = `query`.
pub(crate) const QUERY_INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";

/// Embeds, if there is somebody who can.
pub(crate) async fn embed(app: &App, request: EmbedRequest) -> Result<Embeddings> {
    request.validate()?;
    match &app.embed {
        Some(embed) => embed.embed(request).await,
        None => Err(nobody("embeddings", "embeds")),
    }
}

/// Ranks, if there is somebody who can.
pub(crate) async fn rerank(app: &App, request: RerankRequest) -> Result<Relevance> {
    request.validate()?;
    match &app.embed {
        Some(embed) => embed.rerank(request).await,
        None => Err(nobody("reranking", "ranks")),
    }
}

fn nobody(what: &str, does: &str) -> Error {
    Error::Unsupported { what: what.to_owned(), why: format!("no model here {does} texts") }
}

/// A request that ranks, without an instruction.
pub(crate) fn ranking(id: RequestId, model: String, query: String, documents: Vec<String>) -> RerankRequest {
    RerankRequest { id, caller: None, model, query, documents, instruction: None }
}

/// Indexes and scores, best first; equal ones in the order of the documents; at most `most`.
pub(crate) fn best(scores: &[f32], most: Option<usize>) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    ranked.sort_by(|one, other| other.1.total_cmp(&one.1));
    ranked.truncate(most.unwrap_or(usize::MAX));
    ranked
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn the_best_come_first_and_equals_keep_their_order() {
        assert_eq!(best(&[0.5, 0.9, 0.5], None), [(1, 0.9), (0, 0.5), (2, 0.5)]);
        assert_eq!(best(&[0.5, 0.9, 0.5], Some(1)), [(1, 0.9)]);
        assert_eq!(best(&[], Some(1)), []);
    }
}
