//! What is measured of requests: figures for Prometheus at `/metrics`, and the last requests with their times at
//! `/admin/v1/requests`. Never what anybody wrote or was answered.
//!
//! | route | |
//! |---|---|
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /admin/v1/requests` | the last requests, newest first |
//! | `GET /admin/v1/requests/tail` | each request when it is over, as server-sent events |
//!
//! [`Observed`] stands around the models and sees every generation, whichever dialect or batch it belongs to; `watch`
//! stands around the routes and counts statuses. Names of models and routes are labels only where they exist, so that
//! nobody can make labels up.

mod figures;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use base::Clock;
use chat::{Error, Event, EventStream, Finish, Generate, GenerateRequest, ModelCard, Result};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::{App, sse};
use figures::Figures;

/// Requests that are remembered.
const REMEMBERED: usize = 256;
/// Requests that a reader of the tail may be behind before it misses some.
const BEHIND_MAX: usize = 256;

tokio::task_local! {
    /// The route that this task answers.
    static ROUTE: Arc<str>;
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/admin/v1/requests", get(requests))
        .route("/admin/v1/requests/tail", get(tail))
}

/// How far a request is.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Waiting,
    Computing,
    Generating,
    Finished,
    Refused,
    Failed,
    /// Its reader went away.
    Left,
}

/// A request as it is shown. Times count from its arrival.
#[derive(Serialize, Clone, Debug)]
struct Seen {
    id: String,
    route: String,
    model: String,
    project: Option<String>,
    key: Option<String>,
    state: Stage,
    arrived_at_ms: u64,
    prompt_tokens: u32,
    cached_tokens: u32,
    output_tokens: u32,
    /// The prompt was taken.
    accepted_us: Option<u64>,
    first_token_us: Option<u64>,
    over_us: Option<u64>,
    /// Why it was refused or failed: the kind of the error.
    reason: Option<String>,
}

/// Everything that is known of the requests of this process.
pub(crate) struct Observer {
    clock: Arc<dyn Clock>,
    figures: Figures,
    last: Mutex<VecDeque<Arc<Mutex<Seen>>>>,
    over: broadcast::Sender<String>,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is counted is whole between any two statements that hold a lock.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let (figures, over) = (Figures::new(), broadcast::Sender::new(BEHIND_MAX));
        Arc::new(Self { clock, figures, last: Mutex::default(), over })
    }

    fn arrived(self: &Arc<Self>, request: &GenerateRequest) -> Watch {
        let caller = request.caller.as_ref();
        let seen = Arc::new(Mutex::new(Seen {
            id: request.id.to_string(),
            route: ROUTE.try_with(ToString::to_string).unwrap_or_else(|_| "batch".to_owned()),
            model: request.model.clone(),
            project: caller.map(|caller| caller.project.to_string()),
            key: caller.map(|caller| caller.key.to_string()),
            state: Stage::Waiting,
            arrived_at_ms: self.clock.now_ms(),
            prompt_tokens: 0,
            cached_tokens: 0,
            output_tokens: 0,
            accepted_us: None,
            first_token_us: None,
            over_us: None,
            reason: None,
        }));
        let mut last = locked(&self.last);
        last.push_back(Arc::clone(&seen));
        if last.len() > REMEMBERED {
            last.pop_front();
        }
        drop(last);
        Watch { observer: Arc::clone(self), seen, began_us: self.clock.monotonic_us(), is_counted: false }
    }
}

/// One request on its way. Dropped before its end, it was left.
struct Watch {
    observer: Arc<Observer>,
    seen: Arc<Mutex<Seen>>,
    began_us: u64,
    /// It is among the running ones.
    is_counted: bool,
}

impl Watch {
    fn now_us(&self) -> u64 {
        self.observer.clock.monotonic_us() - self.began_us
    }

    fn accepted(&mut self) {
        let now_us = self.now_us();
        let mut seen = locked(&self.seen);
        (seen.state, seen.accepted_us) = (Stage::Computing, Some(now_us));
        self.observer.figures.running(&seen.model, 1);
        drop(seen);
        self.is_counted = true;
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens } => locked(&self.seen).prompt_tokens = *prompt_tokens,
            Event::Finished(finish) => self.finished(finish),
            Event::Warning(_) => {}
            _ => {
                let now_us = self.now_us();
                let mut seen = locked(&self.seen);
                if seen.first_token_us.is_none() {
                    (seen.state, seen.first_token_us) = (Stage::Generating, Some(now_us));
                    self.observer.figures.first_token(&seen.model, now_us);
                }
            }
        }
    }

    fn finished(&mut self, finish: &Finish) {
        let usage = finish.usage;
        let mut seen = locked(&self.seen);
        seen.prompt_tokens = usage.prompt_tokens;
        (seen.cached_tokens, seen.output_tokens) = (usage.cached_tokens, usage.output_tokens);
        self.observer.figures.tokens(&seen.model, usage);
        let first_us = seen.first_token_us;
        let model = seen.model.clone();
        drop(seen);
        let now_us = self.now_us();
        if let Some(first_us) = first_us.filter(|_| usage.output_tokens > 1) {
            self.observer.figures.per_token(&model, (now_us - first_us) / u64::from(usage.output_tokens - 1));
        }
        self.over(Stage::Finished, None);
    }

    fn failed(&mut self, state: Stage, error: &Error) {
        self.over(state, Some(error));
    }

    fn over(&mut self, state: Stage, error: Option<&Error>) {
        let now_us = self.now_us();
        let mut seen = locked(&self.seen);
        if seen.over_us.is_some() {
            return;
        }
        (seen.state, seen.over_us) = (state, Some(now_us));
        seen.reason = error.map(|error| format!("{:?}", error.kind()));
        let figures = &self.observer.figures;
        if self.is_counted {
            figures.running(&seen.model, -1);
        }
        // A name that no model has must not become a label.
        let model = if matches!(error, Some(Error::UnknownModel { .. })) { "" } else { &seen.model };
        let outcome = serde_json::to_value(state).ok();
        let outcome = outcome.as_ref().and_then(Value::as_str).unwrap_or_default();
        figures.over(&seen.route, model, seen.reason.as_deref().unwrap_or(outcome), now_us);
        let text = serde_json::to_string(&*seen).expect("numbers and text become JSON");
        // Nobody needs to listen.
        let _ = self.observer.over.send(text);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over(Stage::Left, None);
    }
}

/// Models, with every generation watched.
pub(crate) struct Observed {
    pub(crate) inner: Arc<dyn Generate>,
    pub(crate) observer: Arc<Observer>,
}

impl Generate for Observed {
    fn models(&self) -> Vec<ModelCard> {
        self.inner.models()
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, Result<EventStream>> {
        let mut watch = self.observer.arrived(&request);
        async move {
            match self.inner.generate(request).await {
                Ok(events) => {
                    watch.accepted();
                    Ok(Box::pin(Watched { events, watch }) as EventStream)
                }
                Err(error) => {
                    watch.failed(Stage::Refused, &error);
                    Err(error)
                }
            }
        }
        .boxed()
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, Result<u32>> {
        self.inner.count_tokens(request)
    }
}

struct Watched {
    events: EventStream,
    watch: Watch,
}

impl Stream for Watched {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.events.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(Ok(event))) => self.watch.event(event),
            Poll::Ready(Some(Err(error))) => self.watch.failed(Stage::Failed, error),
            Poll::Ready(None) | Poll::Pending => {}
        }
        next
    }
}

/// Counts what every route answers, and says to whoever works for it which it is.
pub(crate) async fn watch(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let route: Arc<str> = Arc::from(path);
    let response = ROUTE.scope(Arc::clone(&route), next.run(request)).await;
    app.observer.figures.answered(&route, response.status().as_u16());
    response
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    if let Some(manage) = &app.manage {
        app.observer.figures.engines(&manage.statuses());
    }
    let headers = [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (headers, app.observer.figures.text()).into_response()
}

async fn requests(State(app): State<Arc<App>>) -> Json<Value> {
    let last: Vec<Arc<Mutex<Seen>>> = locked(&app.observer.last).iter().rev().cloned().collect();
    let shown: Vec<Seen> = last.iter().map(|seen| locked(seen).clone()).collect();
    Json(json!({"requests": shown, "remembered": REMEMBERED}))
}

async fn tail(State(app): State<Arc<App>>) -> Response {
    let news = app.observer.over.subscribe();
    let events = stream::unfold(news, |mut news| async move {
        match news.recv().await {
            Ok(text) => Some((sse::data(&text), news)),
            // The reader was too slow: it is told how many it missed.
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                Some((sse::data(&json!({"missed": missed}).to_string()), news))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    });
    sse::response(events, sse::COMMENT)
}
