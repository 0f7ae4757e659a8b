//! Text embedding and text reranking.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use chat::{EmbedInput, EmbedRequest, RerankRequest};
use serde_json::{Value, json};

use super::Failure;
use super::from_wire::envelope;
use super::types::{EmbedParameters, EmbedTexts, Envelope, RerankParameters, RerankTexts};
use crate::fields::{self, Body, Refused, whole};
use crate::{App, embed};

const EMBED_REFUSED: &[Refused] =
    &[Refused { field: "output_type", harmless: |value| value == "dense", why: "only dense vectors are made" }];

pub(super) async fn embedding(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    embedded(&app, id, body).await.unwrap_or_else(|failure| failure.response(id))
}

pub(super) async fn rerank(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    reranked(&app, id, body).await.unwrap_or_else(|failure| failure.response(id))
}

async fn embedded(app: &App, id: RequestId, body: Body) -> Result<Response, Failure> {
    let wire: Envelope<EmbedTexts, EmbedParameters> = fields::read(&envelope(&whole(body)?, EMBED_REFUSED)?)?;
    let instruction = match wire.parameters.text_type.as_deref() {
        // An instruction is for queries; documents are embedded as they are.
        Some("query") => Some(wire.parameters.instruct.unwrap_or_else(|| embed::QUERY_INSTRUCTION.to_owned())),
        None | Some("document") => None,
        Some(other) => {
            return Err(Failure::invalid(format!("parameters.text_type is {other:?}, allowed: query, document")));
        }
    };
    let request = EmbedRequest {
        id,
        caller: None,
        model: wire.model,
        inputs: wire.input.texts.into_iter().map(EmbedInput::Text).collect(),
        instruction,
        dimensions: wire.parameters.dimension,
        truncate: false,
    };
    let made = embed::embed(app, request).await.map_err(|error| Failure::of(&error, id))?;
    let vectors = made.vectors.into_iter().enumerate();
    let vectors = vectors.map(|(index, embedding)| json!({"text_index": index, "embedding": embedding}));
    Ok(answer(&json!({"embeddings": vectors.collect::<Vec<_>>()}), made.prompt_tokens, id))
}

async fn reranked(app: &App, id: RequestId, body: Body) -> Result<Response, Failure> {
    let wire: Envelope<RerankTexts, RerankParameters> = fields::read(&envelope(&whole(body)?, &[])?)?;
    let most = wire.parameters.top_n.map(|most| match usize::try_from(most) {
        Ok(most) if most > 0 => Ok(most),
        Ok(_) | Err(_) => Err(Failure::invalid(format!("parameters.top_n is {most}, it must be 1 or more"))),
    });
    let most = most.transpose()?;
    let documents = wire.input.documents;
    let request = embed::ranking(id, wire.model, wire.input.query, documents.clone());
    let request = RerankRequest { instruction: wire.parameters.instruct, ..request };
    let relevance = embed::rerank(app, request).await.map_err(|error| Failure::of(&error, id))?;
    let with_documents = wire.parameters.return_documents.unwrap_or(false);
    let results = embed::best(&relevance.scores, most).into_iter().map(|(index, score)| match with_documents {
        true => json!({"index": index, "relevance_score": score, "document": {"text": documents[index]}}),
        false => json!({"index": index, "relevance_score": score}),
    });
    Ok(answer(&json!({"results": results.collect::<Vec<_>>()}), relevance.prompt_tokens, id))
}

fn answer(output: &Value, tokens: u32, id: RequestId) -> Response {
    let usage = json!({"total_tokens": tokens, "input_tokens": tokens});
    axum::Json(json!({"output": output, "usage": usage, "request_id": id.to_string()})).into_response()
}
