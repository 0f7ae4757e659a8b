//! `POST /v1/embeddings`: <https://platform.openai.com/docs/api-reference/embeddings>.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base::RequestId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chat::{Caller, EMBED_INPUTS_MAX, EmbedInput, EmbedRequest, Embeddings};
use serde::{Deserialize, Serialize};

use super::Failure;
use super::handlers::{json, named};
use crate::fields::{self, Body, Others, Refused, whole};
use crate::{App, embed};

const FIELDS: &[&str] = &["model", "input", "encoding_format", "dimensions", "truncate_prompt_tokens"];

const REFUSED: &[Refused] = &[
    Refused { field: "user", harmless: fields::always, why: "" },
    Refused { field: "truncate_prompt_tokens", harmless: fields::never, why: "inputs are refused, never cut" },
];

#[derive(Deserialize)]
struct WireRequest {
    model: String,
    input: WireInput,
    #[serde(default)]
    encoding_format: Encoding,
    dimensions: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string, a list of strings, a list of token ids, or a list of such lists")]
enum WireInput {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

#[derive(Deserialize, Default, Clone, Copy, Debug, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

#[derive(Serialize)]
struct WireList<'a> {
    object: &'static str,
    data: Vec<WireEmbedding>,
    model: &'a str,
    usage: WireUsage,
}

#[derive(Serialize)]
struct WireEmbedding {
    object: &'static str,
    index: u32,
    embedding: WireVector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireVector {
    Float(Vec<f32>),
    /// Little-endian `f32`.
    Base64(String),
}

#[derive(Serialize)]
struct WireUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}

pub(super) async fn handle(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    let answered = async { embedded(&app, id, None, &whole(body)?).await };
    named(id, answered.await)
}

/// Embeds, on somebody's behalf where this is not said by the way it came.
pub(super) async fn embedded(
    app: &App,
    id: RequestId,
    caller: Option<Caller>,
    body: &[u8],
) -> Result<Response, Failure> {
    let (mut request, encoding) = from_wire(body, id)?;
    request.caller = caller;
    let model = request.model.clone();
    let embeddings = embed::embed(app, request).await.map_err(|error| Failure::of(&error, id))?;
    Ok(json(to_wire(&model, encoding, embeddings)))
}

fn from_wire(body: &[u8], id: RequestId) -> Result<(EmbedRequest, Encoding), Failure> {
    let wire: WireRequest = fields::read(&fields::object(body, Others::Refused(FIELDS), REFUSED)?)?;
    let inputs: Vec<EmbedInput> = match wire.input {
        WireInput::Text(text) => vec![EmbedInput::Text(text)],
        WireInput::Texts(texts) => texts.into_iter().map(EmbedInput::Text).collect(),
        WireInput::Tokens(tokens) => vec![EmbedInput::Tokens(tokens)],
        WireInput::ManyTokens(lists) => lists.into_iter().map(EmbedInput::Tokens).collect(),
    };
    let wrong = |message: String| Failure::invalid(message, Some("input".to_owned()));
    if !(1..=EMBED_INPUTS_MAX).contains(&inputs.len()) {
        return Err(wrong(format!("input has {} texts, allowed: 1 to {EMBED_INPUTS_MAX}", inputs.len())));
    }
    let is_empty = |input: &EmbedInput| match input {
        EmbedInput::Text(text) => text.is_empty(),
        EmbedInput::Tokens(tokens) => tokens.is_empty(),
    };
    if let Some(index) = inputs.iter().position(is_empty) {
        return Err(wrong(format!("input[{index}] is empty")));
    }
    let request = EmbedRequest {
        id,
        caller: None,
        model: wire.model,
        inputs,
        instruction: None,
        dimensions: wire.dimensions,
        truncate: false,
    };
    Ok((request, wire.encoding_format))
}

fn to_wire(model: &str, encoding: Encoding, embeddings: Embeddings) -> String {
    let vector = |vector: Vec<f32>| match encoding {
        Encoding::Float => WireVector::Float(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            WireVector::Base64(STANDARD.encode(bytes))
        }
    };
    let data = embeddings.vectors.into_iter().zip(0..);
    let data = data.map(|(numbers, index)| WireEmbedding { object: "embedding", index, embedding: vector(numbers) });
    let tokens = embeddings.prompt_tokens;
    let usage = WireUsage { prompt_tokens: tokens, total_tokens: tokens };
    let list = WireList { object: "list", data: data.collect(), model, usage };
    serde_json::to_string(&list).expect("wire structs have string keys")
}
