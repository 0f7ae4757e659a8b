//! What is measured of requests: figures for Prometheus at `/metrics`, and the last requests with their times at
//! `/admin/v1/requests`. Never what anybody wrote or was answered.
//!
//! | route | |
//! |---|---|
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /admin/v1/requests` | the last requests, newest first |
//! | `GET /admin/v1/requests/{id}` | one of them, with the times of its pieces |
//! | `GET /admin/v1/requests/tail` | each request when it is over, as server-sent events |
//!
//! [`Observed`] stands around the models and sees every generation, whichever dialect or batch it belongs to; `watch`
//! stands around the routes and counts statuses. Names of models and routes are labels only where they exist, so that
//! nobody can make labels up.

mod figures;
mod steps;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::StatusCode;
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

use crate::refusal::{Answer, Refusal};
use crate::{App, sse};
use figures::Figures;
use steps::Steps;

/// Requests that are remembered.
const REMEMBERED: usize = 256;
/// Requests that a reader of the tail may be behind before it misses some.
const BEHIND_MAX: usize = 256;

tokio::task_local! {
    /// The route that this task answers.
    static ROUTE: Arc<str>;
    /// The trace and the span that it belongs to, as the caller said.
    static PARENT: Option<(u128, u64)>;
}

/// A generation that is over. Times count from its arrival.
#[derive(Debug, Clone)]
pub struct Over {
    /// The id of its request.
    pub id: String,
    /// The route that it came by, or `batch`.
    pub route: String,
    /// The model that was asked for.
    pub model: String,
    /// On whose behalf, where keys are asked for.
    pub project: Option<String>,
    /// When it arrived, milliseconds since the Unix epoch.
    pub arrived_at_ms: u64,
    /// When the first piece of the answer was there.
    pub first_token_us: Option<u64>,
    /// When it was over.
    pub over_us: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Those of them that were in the cache.
    pub cached_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// `finished`, `refused`, `failed` or `left`.
    pub outcome: String,
    /// Why it was refused or failed: the kind of the error.
    pub reason: Option<String>,
    /// The trace and the span that it belongs to, if the caller named them.
    pub parent: Option<(u128, u64)>,
}

/// Somebody who is told of every generation that is over. It must not wait for anything.
pub type Listener = Arc<dyn Fn(Over) + Send + Sync>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/admin/v1/requests", get(requests))
        .route("/admin/v1/requests/{id}", get(request))
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
    /// Only one request by itself shows them.
    #[serde(skip)]
    steps: Steps,
}

/// Everything that is known of the requests of this process.
pub(crate) struct Observer {
    clock: Arc<dyn Clock>,
    figures: Figures,
    last: Mutex<VecDeque<Arc<Mutex<Seen>>>>,
    over: broadcast::Sender<String>,
    listener: OnceLock<Listener>,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is counted is whole between any two statements that hold a lock.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let (figures, over) = (Figures::new(), broadcast::Sender::new(BEHIND_MAX));
        Arc::new(Self { clock, figures, last: Mutex::default(), over, listener: OnceLock::new() })
    }

    /// From now on somebody is told of every generation that is over; the first one who wants it.
    pub(crate) fn tell(&self, listener: Listener) {
        if self.listener.set(listener).is_err() {
            tracing::warn!("somebody is told of every generation already");
        }
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
            steps: Steps::default(),
        }));
        let mut last = locked(&self.last);
        last.push_back(Arc::clone(&seen));
        if last.len() > REMEMBERED {
            last.pop_front();
        }
        drop(last);
        let parent = PARENT.try_with(|parent| *parent).ok().flatten();
        Watch { observer: Arc::clone(self), seen, began_us: self.clock.monotonic_us(), is_counted: false, parent }
    }
}

/// One request on its way. Dropped before its end, it was left.
struct Watch {
    observer: Arc<Observer>,
    seen: Arc<Mutex<Seen>>,
    began_us: u64,
    /// It is among the running ones.
    is_counted: bool,
    parent: Option<(u128, u64)>,
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
                seen.steps.piece(now_us);
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
        if let Some(listener) = self.observer.listener.get() {
            listener(self.told(&seen, now_us, outcome));
        }
        let text = serde_json::to_string(&*seen).expect("numbers and text become JSON");
        // Nobody needs to listen.
        let _ = self.observer.over.send(text);
    }
}

impl Watch {
    fn told(&self, seen: &Seen, over_us: u64, outcome: &str) -> Over {
        Over {
            id: seen.id.clone(),
            route: seen.route.clone(),
            model: seen.model.clone(),
            project: seen.project.clone(),
            arrived_at_ms: seen.arrived_at_ms,
            first_token_us: seen.first_token_us,
            over_us,
            prompt_tokens: seen.prompt_tokens,
            cached_tokens: seen.cached_tokens,
            output_tokens: seen.output_tokens,
            outcome: outcome.to_owned(),
            reason: seen.reason.clone(),
            parent: self.parent,
        }
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
    let parent = request.headers().get("traceparent").and_then(|value| parent_of(value.to_str().ok()?));
    let response = ROUTE.scope(Arc::clone(&route), PARENT.scope(parent, next.run(request))).await;
    app.observer.figures.answered(&route, response.status().as_u16());
    response
}

/// `00-TRACE-SPAN-FLAGS`: <https://www.w3.org/TR/trace-context/>. What is malformed counts as absent, as is said there.
fn parent_of(header: &str) -> Option<(u128, u64)> {
    let mut fields = header.split('-');
    let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let lengths = [version, trace, span, flags].map(str::len);
    if lengths != [2, 32, 16, 2] || ![version, trace, span, flags].into_iter().all(is_hex) || version == "ff" {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    (trace != 0 && span != 0).then_some((trace, span))
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

/// One of the last requests, with `steps`, see [`Steps`].
async fn request(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let found = locked(&app.observer.last).iter().find(|seen| locked(seen).id == id).cloned();
    let none = || Refusal(StatusCode::NOT_FOUND, format!("{id:?} is none of the last {REMEMBERED} requests"));
    let found = found.ok_or_else(none)?;
    let seen = locked(&found).clone();
    let mut shown = json!(seen);
    shown["steps"] = json!(seen.steps);
    Ok(Json(shown))
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

#[cfg(test)]
mod tests {
    use super::parent_of;

    #[test]
    fn a_parent_is_read_as_it_is_specified() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parent_of(good), Some((0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parent_of(bad), None, "{bad}");
        }
    }
}
