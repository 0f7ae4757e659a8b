//! `/admin/v1/pulls`: models that are fetched from a hub while the server serves.
//!
//! | route | |
//! |---|---|
//! | `GET /admin/v1/pulls` | those that wait, run and are over, newest first, with how far each is |
//! | `POST /admin/v1/pulls` | `{"model": "OWNER/NAME[:TAG][@REVISION]", "from"?, "name"?, "planes"?}`; 202, goes on |
//! | `DELETE /admin/v1/pulls/{id}` | stops one; what it has fetched stays for the next try |
//!
//! `from` is `hf` (where nothing is said), `modelscope` or the address of whoever speaks Hugging Face's protocol. A
//! model is served under its name as soon as it is there. `planes` are addresses of this machine, one for each network,
//! to which a Sampan at `from` sends by the mover.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use base::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::App;
use crate::error::status;
use crate::refusal::{Answer, Refusal};

/// A model that somebody wants to have here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// `OWNER/NAME[:TAG][@REVISION]`.
    pub model: String,
    /// `hf`, `modelscope` or an address.
    pub from: Option<String>,
    /// Its name here, if it is to be another one.
    pub name: Option<String>,
    /// Addresses of this machine to which another Sampan is to send by the mover.
    #[serde(default)]
    pub planes: Vec<String>,
}

/// Fetches models one after another.
pub trait Pulls: Send + Sync {
    /// Every pull that is remembered, newest first.
    fn list(&self) -> Vec<Value>;

    /// Puts one at the end of those that wait. May block for a moment; does not wait for the network.
    ///
    /// # Errors
    /// If the request makes no sense or too many wait: what the caller can do, and why.
    fn order(&self, request: PullRequest) -> Result<Value, (Kind, String)>;

    /// Stops one; `None` if there is none of the number.
    fn stop(&self, id: u64) -> Option<Value>;
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/admin/v1/pulls", get(list).post(order)).route("/admin/v1/pulls/{id}", delete(stop))
}

fn pulls(app: &App) -> Result<Arc<dyn Pulls>, Refusal> {
    let none = || Refusal(StatusCode::NOT_FOUND, "this server keeps no models of its own".to_owned());
    app.pulls.clone().ok_or_else(none)
}

async fn list(State(app): State<Arc<App>>) -> Answer {
    Ok(Json(json!({"data": pulls(&app)?.list()})))
}

async fn order(
    State(app): State<Arc<App>>,
    body: Result<Json<PullRequest>, JsonRejection>,
) -> Answer<(StatusCode, Json<Value>)> {
    let Json(request) = body?;
    let pulls = pulls(&app)?;
    let ordered = tokio::task::spawn_blocking(move || pulls.order(request)).await;
    let failed = |error: tokio::task::JoinError| {
        tracing::error!(%error, "a pull was not put into the queue");
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error, see the log".to_owned())
    };
    let progress = ordered.map_err(failed)?.map_err(|(kind, why)| Refusal(status(kind), why))?;
    Ok((StatusCode::ACCEPTED, Json(progress)))
}

async fn stop(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let pulls = pulls(&app)?;
    let stopped = id.parse().ok().and_then(|id| pulls.stop(id));
    let none = || Refusal(StatusCode::NOT_FOUND, format!("there is no pull {id:?}"));
    Ok(Json(stopped.ok_or_else(none)?))
}
