//! `/admin/v1/models`: which models are in memory, what they are doing, and bringing them in and out.
//!
//! | route | |
//! |---|---|
//! | `GET /admin/v1/models` | every model with its state and figures |
//! | `POST /admin/v1/models/load` | `{"model": …}`; answers when it is loaded |
//! | `POST /admin/v1/models/unload` | `{"model": …}`; answers when its running requests are done |
//!
//! `generates` says whether a model answers; others embed or rank. Where nobody manages models all are loaded, and
//! the figures are absent. `parts` says what else this server has, so that the console shows no page of what is not
//! there.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chat::{Manage, ModelCard, ModelState, ModelStatus};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::App;
use crate::error::{chain, status};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    model: String,
}

type Asked = Result<Json<Named>, JsonRejection>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/models", get(list))
        .route("/admin/v1/models/load", post(load))
        .route("/admin/v1/models/unload", post(unload))
}

async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let mut models: Vec<Value> = match &app.manage {
        Some(manage) => manage.statuses().iter().map(managed).collect(),
        None => app.models().iter().map(|card| with_card(card, json!({"state": "loaded"}))).collect(),
    };
    let talking: HashSet<String> = app.generate.models().into_iter().map(|card| card.id).collect();
    for model in &mut models {
        model["generates"] = model["id"].as_str().is_some_and(|id| talking.contains(id)).into();
    }
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"), "managed": app.manage.is_some(), "ready": app.is_ready(),
        "models": models,
        "parts": {
            "accounts": app.directory.is_some(), "books": app.books.is_some(), "routes": app.routing.is_some(),
            "vectors": app.buckets.is_some(), "pulls": app.pulls.is_some(),
        },
    }))
}

async fn load(State(app): State<Arc<App>>, asked: Asked) -> Response {
    match wanted(&app, asked) {
        Ok((manage, model)) => done(manage.load(&model, None).await),
        Err(refusal) => refusal,
    }
}

async fn unload(State(app): State<Arc<App>>, asked: Asked) -> Response {
    match wanted(&app, asked) {
        Ok((manage, model)) => done(manage.unload(&model).await),
        Err(refusal) => refusal,
    }
}

#[expect(clippy::result_large_err, reason = "the refusal is the answer, and is made once a request")]
fn wanted(app: &App, asked: Asked) -> Result<(Arc<dyn Manage>, String), Response> {
    let Json(named) = asked.map_err(|rejection| refusal(rejection.status(), &rejection.body_text()))?;
    match &app.manage {
        Some(manage) => Ok((Arc::clone(manage), named.model)),
        None => Err(refusal(StatusCode::CONFLICT, "the models of this server are loaded as long as it runs")),
    }
}

fn done(outcome: chat::Result<()>) -> Response {
    match outcome {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            let why = chain(&error);
            tracing::warn!(error = why, "a model was not loaded or unloaded");
            refusal(status(error.kind()), &why)
        }
    }
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message}}))).into_response()
}

fn managed(model: &ModelStatus) -> Value {
    let mut state = json!({
        "aliases": model.aliases, "expires_ms": model.expires_ms, "weights_bytes": model.weights_bytes,
        "kv_used_bytes": model.kv_used_bytes, "kv_max_bytes": model.kv_max_bytes, "running": model.running,
        "waiting": model.waiting, "tokens_per_second": model.tokens_per_second, "prompt_tokens": model.prompt_tokens,
        "cached_tokens": model.cached_tokens, "output_tokens": model.output_tokens,
    });
    match &model.state {
        ModelState::OnDisk => state["state"] = "on_disk".into(),
        ModelState::Loading { layers_done, layers_all } => {
            state["state"] = "loading".into();
            state["layers_done"] = (*layers_done).into();
            state["layers_all"] = (*layers_all).into();
        }
        ModelState::Loaded => state["state"] = "loaded".into(),
        ModelState::Failed { reason } => {
            state["state"] = "failed".into();
            state["reason"] = reason.as_str().into();
        }
    }
    with_card(&model.card, state)
}

fn with_card(card: &ModelCard, mut state: Value) -> Value {
    let facts = &card.facts;
    let card = json!({
        "id": card.id, "owner": card.owner, "context_tokens": card.context_tokens, "architecture": facts.architecture,
        "container": facts.container, "weight_format": facts.weight_format, "parameters": facts.parameters,
        "size_bytes": facts.size_bytes, "tools": facts.tools, "thinking": facts.thinking, "vision": facts.vision,
    });
    if let (Value::Object(state), Value::Object(card)) = (&mut state, card) {
        state.extend(card);
    }
    state
}
