//! `/admin/v1/routes`: who answers which model, how the pools are doing, and why a request goes where it goes.
//!
//! | route | |
//! |---|---|
//! | `GET /admin/v1/routes` | the policy, every pool with its health and counts, the last decisions |
//! | `GET /admin/v1/routes/explain?model=…` | what would be decided now; also `project`, `key`, `bucket` |
//!
//! Where no pools are configured there is nothing to decide, and both say so.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::App;

/// Whose request for which model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteQuestion {
    /// The name that the request uses.
    pub model: String,
    /// The project that pays.
    pub project: Option<String>,
    /// The name of the key that is shown.
    pub key: Option<String>,
    /// The vector bucket whose content is worked on.
    pub bucket: Option<String>,
    /// Bytes of text and pictures.
    #[serde(default)]
    pub bytes: u64,
}

/// What would be decided; `None` if nothing of that name is served.
pub type ExplainRoute = dyn Fn(&RouteQuestion) -> Option<Value> + Send + Sync;

/// A look at whoever routes requests.
#[derive(Clone)]
pub struct Routing {
    /// The policy, the pools and the last decisions.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
    /// One decision.
    pub explain: Arc<ExplainRoute>,
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/admin/v1/routes", get(status)).route("/admin/v1/routes/explain", get(explain))
}

async fn status(State(app): State<Arc<App>>) -> Response {
    match &app.routing {
        Some(routing) => Json((routing.status)()).into_response(),
        None => nothing(),
    }
}

async fn explain(State(app): State<Arc<App>>, question: Result<Query<RouteQuestion>, QueryRejection>) -> Response {
    let Some(routing) = &app.routing else { return nothing() };
    let Query(question) = match question {
        Ok(question) => question,
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    match (routing.explain)(&question) {
        Some(decision) => Json(decision).into_response(),
        None => refusal(StatusCode::NOT_FOUND, &format!("no pool serves a model {:?}", question.model)),
    }
}

fn nothing() -> Response {
    refusal(StatusCode::NOT_FOUND, "no pools are configured; start with `sampan up --pools FILE`")
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message}}))).into_response()
}
