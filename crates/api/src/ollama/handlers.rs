//! Routes: parse, ask whoever answers, write the wire form.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base::RequestId;
use chat::{Collector, KeepAlive, Manage, ModelCard, ModelState, ModelStatus};
use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::Failure;
use super::from_wire::{self, Call};
use super::to_wire::{AnswerStream, Form};
use super::types::ShowRequest;
use crate::fields::{self, Body, Others, whole};
use crate::{App, answer, sse, time};

pub(super) async fn chat(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    let call = whole(body).map_err(Failure::from).and_then(|body| from_wire::chat(&body, id));
    answered(&app, id, Form::Chat, call).await
}

pub(super) async fn generate(State(app): State<Arc<App>>, body: Body) -> Response {
    let id = app.request_id();
    let call = whole(body).map_err(Failure::from).and_then(|body| from_wire::prompt(&body, id));
    answered(&app, id, Form::Generate, call).await
}

async fn answered(app: &App, id: RequestId, form: Form, call: Result<Call, Failure>) -> Response {
    match call {
        Ok(call) => answer(app, id, form, call).await.unwrap_or_else(Failure::into_response),
        Err(failure) => failure.into_response(),
    }
}

async fn answer(app: &App, id: RequestId, form: Form, call: Call) -> Result<Response, Failure> {
    let clock = Arc::clone(&app.clock);
    let (model, began_us) = (call.request.model.clone(), clock.monotonic_us());
    let mut wire = AnswerStream { id, form, model, clock, began_us, first_us: None, call: None, is_cut: false };
    let failed = |error: chat::Error| Failure::of(&error, id);
    if call.loads {
        let reason = settle(app, &call.request.model, call.keep).await.map_err(failed)?;
        return Ok(json_text(wire.without_answer(reason)));
    }
    let mut streams = answer::start(&*app.generate, vec![call.request]).await.map_err(failed)?;
    if call.keep.is_some()
        && let Some(manage) = manager(app, &wire.model)
    {
        // The stream holds the model, so this waits for nothing.
        manage.load(&wire.model, call.keep).await.map_err(failed)?;
    }
    if call.stream {
        return Ok(sse::streaming("application/x-ndjson", answer::streamed(streams, wire)));
    }
    let mut events = streams.remove(0);
    let mut collector = Collector::default();
    while let Some(event) = events.next().await {
        let event = event.map_err(failed)?;
        wire.observe(&event);
        collector.push(event).map_err(failed)?;
    }
    Ok(json_text(wire.whole(collector.finish().map_err(failed)?).map_err(failed)?))
}

/// Loads a model, or lets go of it, for a client that asks nothing else; says which it was.
async fn settle(app: &App, model: &str, keep: Option<KeepAlive>) -> chat::Result<&'static str> {
    match (manager(app, model), keep) {
        (Some(manage), Some(KeepAlive::Milliseconds(0))) => manage.unload(model).await.map(|()| "unload"),
        (Some(manage), keep) => manage.load(model, keep).await.map(|()| "load"),
        (None, _) if app.models().iter().any(|card| card.id == model) => Ok("load"),
        (None, _) => Err(chat::Error::UnknownModel { model: model.to_owned() }),
    }
}

/// Who loads this model, unless it lives elsewhere and is none of our business.
fn manager<'a>(app: &'a App, model: &str) -> Option<&'a Arc<dyn Manage>> {
    let is_it = |status: &ModelStatus| status.card.id == model || status.aliases.iter().any(|alias| alias == model);
    app.manage.as_ref().filter(|manage| manage.statuses().iter().any(is_it))
}

pub(super) async fn tags(State(app): State<Arc<App>>) -> Response {
    let models: Vec<Value> = app.models().iter().map(listed).collect();
    axum::Json(json!({"models": models})).into_response()
}

/// The models that are loaded. Where nobody manages them all are, as long as the server runs.
pub(super) async fn running(State(app): State<Arc<App>>) -> Response {
    let with_context = |card: &ModelCard| {
        let mut model = listed(card);
        model["context_length"] = card.context_tokens.into();
        model["size_vram"] = 0.into();
        model
    };
    let models: Vec<Value> = match &app.manage {
        None => app.models().iter().map(with_context).collect(),
        Some(manage) => {
            let statuses = manage.statuses().into_iter();
            let loaded = statuses.filter(|status| status.state == ModelState::Loaded).map(|status| {
                let mut model = with_context(&status.card);
                model["size"] = (status.weights_bytes + status.kv_used_bytes).into();
                if let Some(expires_ms) = status.expires_ms {
                    model["expires_at"] = time::rfc3339(expires_ms).into();
                }
                model
            });
            loaded.collect()
        }
    };
    axum::Json(json!({"models": models})).into_response()
}

pub(super) async fn show(State(app): State<Arc<App>>, body: Body) -> Response {
    shown(&app, body).map_or_else(Failure::into_response, |shown| axum::Json(shown).into_response())
}

pub(super) async fn version() -> Response {
    axum::Json(json!({"version": env!("CARGO_PKG_VERSION")})).into_response()
}

fn shown(app: &App, body: Body) -> Result<Value, Failure> {
    let request: ShowRequest = fields::read(&fields::object(&whole(body)?, Others::Ignored, &[])?)?;
    let card = find(app, &from_wire::without_tag(request.model))?;
    let facts = &card.facts;
    let embeds = app.embed.iter().any(|embed| embed.embedding_models().contains(&card));
    let generates = app.generate.models().contains(&card);
    let able = [
        ("completion", generates),
        ("vision", generates && facts.vision),
        ("tools", generates && facts.tools),
        ("thinking", generates && facts.thinking),
        ("embedding", embeds),
    ];
    let capabilities: Vec<&str> = able.into_iter().filter(|(_, able)| *able).map(|(name, _)| name).collect();
    let mut info = Map::new();
    info.insert("general.architecture".to_owned(), facts.architecture.as_str().into());
    info.insert("general.parameter_count".to_owned(), facts.parameters.into());
    info.insert(format!("{}.context_length", facts.architecture), card.context_tokens.into());
    Ok(json!({
        "template": facts.chat_template, "details": details(&card), "model_info": info,
        "capabilities": capabilities, "modified_at": time::rfc3339(card.created_s * 1000),
    }))
}

fn find(app: &App, model: &str) -> Result<ModelCard, Failure> {
    app.models().into_iter().find(|card| card.id == model).ok_or_else(|| Failure::unknown_model(model))
}

fn listed(card: &ModelCard) -> Value {
    json!({
        "name": card.id, "model": card.id, "modified_at": time::rfc3339(card.created_s * 1000),
        "size": card.facts.size_bytes, "digest": "", "details": details(card),
    })
}

fn details(card: &ModelCard) -> Value {
    let facts = &card.facts;
    let parameters = format!("{:.1}M", facts.parameters as f64 / 1e6);
    json!({
        "parent_model": "", "format": facts.container.to_lowercase(), "family": facts.architecture,
        "families": [facts.architecture], "parameter_size": parameters, "quantization_level": facts.weight_format,
    })
}

pub(super) fn json_text(text: String) -> Response {
    ([("content-type", "application/json")], text).into_response()
}
