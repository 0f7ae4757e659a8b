//! `POST /api/models/ID/send/REVISION`: files of a model by the mover, to a machine that listens for them.
//!
//! The body is `{"files": [PATH, …], "addresses": ["IP:PORT", …], "token": "…"}`, an address for each network. The
//! answer is one JSON object a line: twice a second `{"bytes", "received_bytes"}`, and at the end `{"done": true,
//! "bytes", "sent_bytes", "resent_bytes", "elapsed_us"}` or `{"error": "…"}`. Who goes away is not sent to for long:
//! then nobody listens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use fabric::{Progress, SendOptions, Sent, Token};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use super::{Lent, Refused, lent};
use crate::{App, sse};

/// The most models that are sent at once.
const SENDINGS_MAX: usize = 4;
/// The most networks that one transfer travels on.
const ADDRESSES_MAX: usize = 8;
/// How often it is said how far a transfer is.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How long a machine that does not answer is tried.
const PATIENCE_MS: u64 = 10_000;

/// What the mover needs here.
pub(crate) struct Mover {
    machine: fabric::Machine,
    places: Arc<Semaphore>,
}

impl Mover {
    pub(crate) fn new(machine: fabric::Machine) -> Self {
        Self { machine, places: Arc::new(Semaphore::new(SENDINGS_MAX)) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    files: Vec<String>,
    addresses: Vec<SocketAddr>,
    token: String,
}

type Asked = Result<Json<Order>, JsonRejection>;
type Answer = Result<Response, Refused>;

pub(super) async fn send(
    State(app): State<Arc<App>>,
    Path((id, revision)): Path<(String, String)>,
    order: Asked,
) -> Answer {
    sent(app, id, revision, order).await
}

pub(super) async fn owned_send(
    State(app): State<Arc<App>>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    order: Asked,
) -> Answer {
    sent(app, format!("{owner}/{name}"), revision, order).await
}

fn other(status: StatusCode, message: impl Into<String>) -> Refused {
    Refused::Other(status, message.into())
}

async fn sent(app: Arc<App>, id: String, revision: String, order: Asked) -> Answer {
    let Json(Order { files, addresses, token }) =
        order.map_err(|rejection| other(rejection.status(), rejection.body_text()))?;
    let Lent { folder, record, .. } = lent(Arc::clone(&app), id, revision).await?;
    let missing = files.iter().find(|path| !record.files.iter().any(|file| file.path == **path));
    if let Some(path) = missing {
        return Err(Refused::File(format!("{} has no file {path:?}", record.repository)));
    }
    if files.is_empty() || addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
        let why = format!(
            "{} files to {} addresses: at least one file and 1 to {ADDRESSES_MAX} addresses are needed",
            files.len(),
            addresses.len()
        );
        return Err(other(StatusCode::BAD_REQUEST, why));
    }
    let token = Token::new(&token).map_err(|error| other(StatusCode::BAD_REQUEST, error.to_string()))?;
    let Some(mover) = &app.mover else {
        return Err(other(StatusCode::NOT_FOUND, "this server sends nothing by the mover"));
    };
    let Ok(place) = Arc::clone(&mover.places).try_acquire_owned() else {
        let why = format!("{SENDINGS_MAX} models are being sent, the most at once");
        return Err(other(StatusCode::TOO_MANY_REQUESTS, why));
    };
    let machine = mover.machine.clone();
    let progress = Arc::new(Progress::default());
    let shown = Arc::clone(&progress);
    let sending = tokio::task::spawn_blocking(move || {
        let _place = place;
        let options = SendOptions { planes: addresses, patience_ms: PATIENCE_MS, ..SendOptions::default() };
        fabric::send_files(&folder, &files, &options, &token, &machine, &progress)
    });
    let lines = stream::unfold(Some(sending), move |sending| {
        let progress = Arc::clone(&shown);
        async move {
            let mut sending = sending?;
            match tokio::time::timeout(TELL_EVERY, &mut sending).await {
                Ok(ended) => Some((line(&last(ended)), None)),
                Err(_) => {
                    let told = json!({"bytes": progress.bytes(), "received_bytes": progress.received()});
                    Some((line(&told), Some(sending)))
                }
            }
        }
    });
    Ok(sse::streaming("application/x-ndjson", lines))
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

fn last(ended: Result<fabric::Result<Sent>, JoinError>) -> Value {
    let internal = || json!({"error": "internal error, see the log"});
    match ended {
        Ok(Ok(Sent { bytes, sent_bytes, resent_bytes, elapsed_us, .. })) => json!({
            "done": true, "bytes": bytes, "sent_bytes": sent_bytes, "resent_bytes": resent_bytes,
            "elapsed_us": elapsed_us,
        }),
        Ok(Err(error)) if error.kind().is_public() => json!({"error": base::chain(&error)}),
        Ok(Err(error)) => {
            tracing::error!(error = base::chain(&error), "a model was not sent");
            internal()
        }
        Err(error) => {
            tracing::error!(%error, "the sending of a model ended");
            internal()
        }
    }
}
