//! A query, documents, and how well each answers it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use chat::{Relevance, RerankRequest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failure;
use crate::fields::{self, Body, Others, Refused, whole};
use crate::{App, embed};

const REFUSED: &[Refused] = &[
    Refused { field: "rank_fields", harmless: only_text, why: "a document is its text" },
    Refused { field: "max_chunks_per_doc", harmless: fields::if_one, why: "a document is ranked whole" },
    Refused { field: "max_tokens_per_doc", harmless: fields::never, why: "a document is ranked whole" },
    Refused { field: "priority", harmless: |value| value.as_u64() == Some(0), why: "only 0 is" },
];

fn only_text(fields: &Value) -> bool {
    fields.as_array().is_some_and(|fields| fields.iter().all(|field| field == "text"))
}

#[derive(Deserialize)]
struct WireRequest {
    model: String,
    query: String,
    documents: Vec<WireDocument>,
    top_n: Option<i64>,
    return_documents: Option<bool>,
    /// Alibaba Cloud's.
    instruct: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or an object with text")]
enum WireDocument {
    Plain(String),
    Object { text: String },
}

#[derive(Serialize)]
struct WireAnswer<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    results: Vec<WireResult>,
    usage: WireUsage,
    meta: WireMeta,
}

#[derive(Serialize)]
struct WireResult {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<WireText>,
}

#[derive(Serialize)]
struct WireText {
    text: String,
}

#[derive(Serialize)]
struct WireUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}

/// Cohere's own place for what it cost.
#[derive(Serialize)]
struct WireMeta {
    tokens: WireTokens,
}

#[derive(Serialize)]
struct WireTokens {
    input_tokens: u32,
}

/// A parsed request.
struct Call {
    request: RerankRequest,
    most: Option<usize>,
    with_documents: bool,
}

pub(super) async fn handle(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    answer(&app, id, body).await.unwrap_or_else(|failure| failure.response(id))
}

async fn answer(app: &App, id: RequestId, body: Body) -> Result<Response, Failure> {
    let call = from_wire(&whole(body)?, id)?;
    let relevance = embed::rerank(app, call.request.clone()).await.map_err(|error| Failure::of(&error, id))?;
    Ok(([("content-type", "application/json")], to_wire(call, &relevance)).into_response())
}

fn from_wire(body: &[u8], id: RequestId) -> Result<Call, Failure> {
    let wire: WireRequest = fields::read(&fields::object(body, Others::Ignored, REFUSED)?)?;
    let documents = wire.documents.into_iter().map(|document| match document {
        WireDocument::Plain(text) | WireDocument::Object { text } => text,
    });
    let most = wire.top_n.map(|most| match usize::try_from(most) {
        Ok(most) if most > 0 => Ok(most),
        Ok(_) | Err(_) => Err(Failure::invalid(format!("top_n is {most}, it must be 1 or more"))),
    });
    let request = embed::ranking(id, wire.model, wire.query, documents.collect());
    let request = RerankRequest { instruction: wire.instruct, ..request };
    Ok(Call { request, most: most.transpose()?, with_documents: wire.return_documents.unwrap_or(false) })
}

fn to_wire(mut call: Call, relevance: &Relevance) -> String {
    let results = embed::best(&relevance.scores, call.most).into_iter().map(|(index, relevance_score)| {
        let text = call.with_documents.then(|| std::mem::take(&mut call.request.documents[index]));
        WireResult { index, relevance_score, document: text.map(|text| WireText { text }) }
    });
    let results = results.collect();
    let tokens = relevance.prompt_tokens;
    let answer = WireAnswer {
        id: call.request.id.to_string(),
        object: "list",
        model: &call.request.model,
        results,
        usage: WireUsage { prompt_tokens: tokens, total_tokens: tokens },
        meta: WireMeta { tokens: WireTokens { input_tokens: tokens } },
    };
    serde_json::to_string(&answer).expect("wire structs have string keys")
}
