//! `POST /api/embed`, and `POST /api/embeddings` as clients before it had it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base::RequestId;
use chat::{EmbedInput, EmbedRequest, Embeddings};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Failure;
use super::from_wire::without_tag;
use super::handlers::json_text;
use crate::fields::{self, Body, Others, whole};
use crate::{App, embed};

#[derive(Deserialize)]
struct WireRequest {
    model: String,
    #[serde(default)]
    input: WireInput,
    truncate: Option<bool>,
    dimensions: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
enum WireInput {
    One(String),
    Many(Vec<String>),
}

impl Default for WireInput {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

#[derive(Deserialize)]
struct OldRequest {
    model: String,
    #[serde(default)]
    prompt: String,
}

/// Durations are nanoseconds.
#[derive(Serialize)]
struct WireAnswer<'a> {
    model: &'a str,
    embeddings: Vec<Vec<f32>>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u32,
}

pub(super) async fn embed(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    answer(&app, id, body).await.unwrap_or_else(Failure::into_response)
}

pub(super) async fn embeddings(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    answer_old(&app, id, body).await.unwrap_or_else(Failure::into_response)
}

async fn answer(app: &App, id: RequestId, body: Body) -> Result<Response, Failure> {
    let began_us = app.clock.monotonic_us();
    let wire: WireRequest = fields::read(&fields::object(&whole(body)?, Others::Ignored, &[])?)?;
    let inputs: Vec<String> = match wire.input {
        WireInput::One(text) if text.is_empty() => Vec::new(),
        WireInput::One(text) => vec![text],
        WireInput::Many(texts) => texts,
    };
    let request = EmbedRequest {
        dimensions: wire.dimensions.filter(|&dimensions| dimensions > 0),
        truncate: wire.truncate.unwrap_or(true),
        ..request(id, wire.model, inputs)
    };
    let model = request.model.clone();
    let embeddings = made(app, request).await?;
    let answer = WireAnswer {
        model: &model,
        embeddings: embeddings.vectors,
        total_duration: app.clock.monotonic_us().saturating_sub(began_us) * 1000,
        load_duration: 0,
        prompt_eval_count: embeddings.prompt_tokens,
    };
    Ok(json_text(serde_json::to_string(&answer).expect("wire structs have string keys")))
}

async fn answer_old(app: &App, id: RequestId, body: Body) -> Result<Response, Failure> {
    let wire: OldRequest = fields::read(&fields::object(&whole(body)?, Others::Ignored, &[])?)?;
    let texts = if wire.prompt.is_empty() { Vec::new() } else { vec![wire.prompt] };
    let embeddings = made(app, request(id, wire.model, texts)).await?;
    let vector = embeddings.vectors.into_iter().next().unwrap_or_default();
    Ok(json_text(json!({"embedding": vector}).to_string()))
}

fn request(id: RequestId, model: String, texts: Vec<String>) -> EmbedRequest {
    EmbedRequest {
        id,
        caller: None,
        model: without_tag(model),
        inputs: texts.into_iter().map(EmbedInput::Text).collect(),
        instruction: None,
        dimensions: None,
        truncate: true,
    }
}

/// A request without a text only wants the model to be loaded.
async fn made(app: &App, request: EmbedRequest) -> Result<Embeddings, Failure> {
    if request.inputs.is_empty() {
        let cards = app.embed.as_ref().map(|embed| embed.embedding_models()).unwrap_or_default();
        return match cards.iter().any(|card| card.id == request.model) {
            true => Ok(Embeddings { vectors: Vec::new(), prompt_tokens: 0 }),
            false => Err(Failure::unknown_model(&request.model)),
        };
    }
    let id = request.id;
    embed::embed(app, request).await.map_err(|error| Failure::of(&error, id))
}
