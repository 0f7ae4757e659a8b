//! `/admin/v1/shelf`: the models that lie on this machine, loaded or not, and what each consists of.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::App;

/// What was seen, or why nothing could be.
pub type Looked = Result<Value, String>;

/// Looks at the files of one model by its name; `None` if there is none of the name.
pub type Show = dyn Fn(&str) -> Option<Looked> + Send + Sync;

/// Looks at the files of models. Both functions read files and may take a while.
#[derive(Clone)]
pub struct Shelf {
    /// A list of all models, as `sampan model ls --json` prints it.
    pub list: Arc<dyn Fn() -> Looked + Send + Sync>,
    /// One model with its tensors, as `sampan model show --tensors --json` prints it.
    pub show: Arc<Show>,
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/admin/v1/shelf", get(list)).route("/admin/v1/shelf/{*name}", get(show))
}

async fn list(State(app): State<Arc<App>>) -> Response {
    let Some(shelf) = app.shelf.clone() else { return missing("this server keeps no models of its own") };
    answer(tokio::task::spawn_blocking(move || Some((shelf.list)())).await, "")
}

async fn show(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    let Some(shelf) = app.shelf.clone() else { return missing("this server keeps no models of its own") };
    let wanted = name.clone();
    answer(tokio::task::spawn_blocking(move || (shelf.show)(&wanted)).await, &name)
}

fn answer(looked: Result<Option<Looked>, tokio::task::JoinError>, name: &str) -> Response {
    match looked {
        Ok(Some(Ok(found))) => Json(found).into_response(),
        Ok(Some(Err(why))) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Ok(None) => missing(&format!("there is no model {name:?} on this machine")),
        Err(error) => {
            tracing::error!(%error, "looking at models failed");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "the models could not be looked at")
        }
    }
}

fn missing(message: &str) -> Response {
    refusal(StatusCode::NOT_FOUND, message)
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message}}))).into_response()
}
