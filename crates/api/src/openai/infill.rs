//! `POST /infill`: editors that speak to llama.cpp's server (llama.vim, llama.vscode, Qwen's plugins) fill gaps here,
//! with other files of the repository as context.
//!
//! Wire form: <https://github.com/ggml-org/llama.cpp/tree/master/tools/server#post-infill-for-code-infilling>. `model`
//! may be left out where there is one that generates. `prompt` stands behind the prefix. Settings of llama.cpp's own
//! sampler and cache are passed over, as its server does with fields that it does not know; errors are OpenAI's.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use base::RequestId;
use chat::{ContextFile, Event, Finish, FinishReason, GenerateRequest, Prompt, Sampling, StopMatch, StopRules};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;
use super::handlers::{self, named};
use crate::answer::{self, Wire};
use crate::fields::{self, Body, Others, whole};
use crate::{App, sse};

/// Tokens of an answer where nobody says: a gap in code is short.
const TOKENS_DEFAULT: u32 = 128;

#[derive(Deserialize)]
struct InfillRequest {
    model: Option<String>,
    #[serde(default)]
    input_prefix: String,
    #[serde(default)]
    input_suffix: String,
    #[serde(default)]
    input_extra: Vec<ExtraFile>,
    #[serde(default)]
    prompt: String,
    /// Below zero: to the end of the context.
    n_predict: Option<i64>,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    /// Below zero: by chance.
    seed: Option<i64>,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct ExtraFile {
    #[serde(default)]
    filename: String,
    text: String,
}

pub(super) async fn handle(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    let answered = async { infill(&app, id, &whole(body)?).await };
    named(id, answered.await)
}

async fn infill(app: &App, id: RequestId, body: &[u8]) -> Result<Response, Failure> {
    let (request, streams) = from_wire(app, id, body)?;
    let model = request.model.clone();
    let failed = |error: &chat::Error| Failure::of(error, id);
    let events = answer::start(&*app.generate, vec![request]).await.map_err(|error| failed(&error))?;
    if streams {
        return Ok(sse::response(answer::streamed(events, Infill { id, model }), sse::COMMENT));
    }
    let answers = answer::collect(events).await.map_err(|error| failed(&error))?;
    let answer = answers.into_iter().next().ok_or_else(|| Failure::internal("no answer came".to_owned()))?;
    Ok(handlers::json(last(&model, &answer.message.plain_text(), &answer.finish).to_string()))
}

/// The request, and whether its answer is streamed.
fn from_wire(app: &App, id: RequestId, body: &[u8]) -> Result<(GenerateRequest, bool), Failure> {
    let wire: InfillRequest = fields::read(&fields::object(body, Others::Ignored, &[])?)?;
    let model = match wire.model.filter(|model| !model.is_empty()) {
        Some(model) => model,
        None => only_model(app)?,
    };
    let before = wire.input_prefix + &wire.prompt;
    let mut request = GenerateRequest::new(id, model, Prompt::Text(before));
    request.suffix = Some(wire.input_suffix);
    request.files =
        wire.input_extra.into_iter().map(|file| ContextFile { name: file.filename, text: file.text }).collect();
    request.max_tokens = match wire.n_predict {
        None => Some(TOKENS_DEFAULT),
        Some(most) if most < 0 => None,
        // Editors send 0 to have a prompt computed before it is needed; one token is the least that is generated.
        Some(most) => Some(u32::try_from(most.max(1)).unwrap_or(u32::MAX)),
    };
    request.sampling = Sampling {
        temperature: wire.temperature,
        top_k: wire.top_k.map(|top_k| u32::try_from(top_k).unwrap_or(0)),
        top_p: wire.top_p,
        min_p: wire.min_p,
        seed: wire.seed.and_then(|seed| u64::try_from(seed).ok()),
        ..Sampling::default()
    };
    request.stop = StopRules { strings: wire.stop, ..StopRules::default() };
    request.stop.strings.retain(|string| !string.is_empty());
    Ok((request, wire.stream))
}

fn only_model(app: &App) -> Result<String, Failure> {
    let mut cards = app.models().into_iter();
    match (cards.next(), cards.next()) {
        (Some(card), None) => Ok(card.id),
        _ => Err(Failure::invalid("model is needed: there is not just one here".to_owned(), Some("model".to_owned()))),
    }
}

/// The last object of an answer, or the whole of it.
fn last(model: &str, content: &str, finish: &Finish) -> Value {
    let (stop_type, word) = match (&finish.stop, finish.reason) {
        (Some(StopMatch::String(word)), _) => ("word", word.as_str()),
        (_, FinishReason::Length) => ("limit", ""),
        _ => ("eos", ""),
    };
    json!({
        "index": 0,
        "content": content,
        "stop": true,
        "model": model,
        "tokens_predicted": finish.usage.output_tokens,
        "tokens_evaluated": finish.usage.prompt_tokens,
        "tokens_cached": finish.usage.cached_tokens,
        "truncated": false,
        "stop_type": stop_type,
        "stopping_word": word,
    })
}

/// A streamed answer.
struct Infill {
    id: RequestId,
    model: String,
}

impl Wire for Infill {
    fn event(&mut self, _choice: u32, event: Event) -> Vec<Bytes> {
        match event {
            Event::Text(text) => vec![sse::data(&json!({"index": 0, "content": text, "stop": false}).to_string())],
            Event::Finished(finish) => vec![sse::data(&last(&self.model, "", &finish).to_string())],
            // A gap is filled with text as it is.
            Event::Started { .. }
            | Event::Reasoning(_)
            | Event::ToolCallStarted { .. }
            | Event::ToolCallArguments { .. }
            | Event::Logprobs(_)
            | Event::Warning(_) => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    fn failed(&mut self, error: &chat::Error) -> Vec<Bytes> {
        vec![sse::data(&Failure::of(error, self.id).body())]
    }
}
