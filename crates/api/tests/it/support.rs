//! A router over a script, and what came back.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use api::{App, Limited, Limits, router};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use base::ManualClock;
use chat::testing::{Script, Scripted, Words};
use chat::{
    Embed, Error, Event, EventStream, Finish, FinishReason, Generate, GenerateRequest, ModelCard, Result, Usage,
};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream};
use http_body_util::BodyExt as _;
use ledger::limit::Limit;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

/// The model's name in all tests.
pub(crate) const MODEL: &str = "m";
/// Seconds of the tests' clock.
const NOW_S: u64 = 1_700_000_123;

/// All routes over a script.
pub(crate) struct Server {
    router: Router,
    app: Arc<App>,
    scripted: Arc<Watched>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Server {
    pub(crate) fn new(scripts: Vec<Script>) -> Self {
        Self::built(scripts, |app| app)
    }

    /// One whose app has more than a script.
    pub(crate) fn built(scripts: Vec<Script>, build: impl FnOnce(App) -> App) -> Self {
        Self::seeded(1, scripts, build)
    }

    /// One that draws other numbers than the first.
    pub(crate) fn seeded(seed: u64, scripts: Vec<Script>, build: impl FnOnce(App) -> App) -> Self {
        let scripted = Arc::new(Watched { inner: Scripted::new(MODEL, scripts), running: Arc::default() });
        let generate = Arc::clone(&scripted);
        let clock = Arc::new(ManualClock::starting_at(NOW_S * 1000));
        let app = Arc::new(build(App::new(generate, clock, seed)));
        Self { router: router(Arc::clone(&app)), app, scripted }
    }

    /// One whose models are limited, and its clock.
    pub(crate) fn limited(scripts: Vec<Script>, limits: &[&str]) -> (Self, Arc<ManualClock>) {
        let scripted = Arc::new(Watched { inner: Scripted::new(MODEL, scripts), running: Arc::default() });
        let clock = Arc::new(ManualClock::starting_at(NOW_S * 1000));
        let limits = limits.iter().map(|text| Limit::parse(text).unwrap()).collect();
        let limits = Limits::new(Arc::clone(&clock) as _, limits);
        let generate = Limited::new(Arc::clone(&limits), Arc::clone(&scripted));
        let embed = Limited::new(limits, Arc::new(Words::new("e", "r")));
        let app = App::new(Arc::new(generate), Arc::clone(&clock) as _, 1).with_embed(Arc::new(embed));
        let app = Arc::new(app);
        (Self { router: router(Arc::clone(&app)), app, scripted }, clock)
    }

    /// One with models that embed and rank; the fake tells what it was asked.
    pub(crate) fn embedding(refusals: Vec<Error>) -> (Self, Arc<Words>) {
        let words = Arc::new(Words::new("e", "r").refusing(refusals));
        (Self::built(vec![], |app| app.with_embed(Arc::clone(&words) as Arc<dyn Embed>)), words)
    }

    /// One that plays these events.
    pub(crate) fn playing(events: Vec<Event>) -> Self {
        Self::new(vec![Script::Play(events.into_iter().map(Ok).collect())])
    }

    pub(crate) fn app(&self) -> Arc<App> {
        Arc::clone(&self.app)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], body.to_string().into_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], Vec::new()).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        let response = self.router.clone().oneshot(request(method, path, headers, body)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// Sends a request and reads only the first piece of the body; then the client goes away.
    pub(crate) async fn send_and_leave(&self, path: &str, body: &Value) -> String {
        let sent = request("POST", path, &[], body.to_string().into_bytes());
        let mut body = self.router.clone().oneshot(sent).await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(self.running(), 1, "the generation runs while somebody reads");
        String::from_utf8(first.to_vec()).unwrap()
    }

    /// The same behind a port, served by a task.
    pub(crate) async fn listen(&self) -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, router) = (listener.local_addr().unwrap(), self.router.clone());
        (address, tokio::spawn(async move { axum::serve(listener, router).await }))
    }

    /// What the program calls when it is told to end.
    pub(crate) fn begin_shutdown(&self) {
        self.app.begin_shutdown();
    }

    /// What the program calls when it starts.
    pub(crate) async fn resume_batches(&self) -> usize {
        self.app.resume_batches().await.unwrap()
    }

    /// Generations that have begun and are neither over nor cancelled.
    pub(crate) fn running(&self) -> usize {
        self.scripted.running.load(Ordering::SeqCst)
    }

    /// The only request so far.
    pub(crate) fn request(&self) -> GenerateRequest {
        let mut requests = self.scripted.inner.requests();
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }

    pub(crate) fn requests(&self) -> Vec<GenerateRequest> {
        self.scripted.inner.requests()
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|why| panic!("{why}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body)).unwrap()
}

/// Counts the streams that exist.
struct Watched {
    inner: Scripted,
    running: Arc<AtomicUsize>,
}

impl Generate for Watched {
    fn models(&self) -> Vec<ModelCard> {
        self.inner.models()
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, Result<EventStream>> {
        async move {
            let inner = self.inner.generate(request).await?;
            self.running.fetch_add(1, Ordering::SeqCst);
            Ok(Box::pin(Running { inner, running: Arc::clone(&self.running) }) as EventStream)
        }
        .boxed()
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, Result<u32>> {
        self.inner.count_tokens(request)
    }
}

struct Running {
    inner: EventStream,
    running: Arc<AtomicUsize>,
}

impl Stream for Running {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(context)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn started() -> Event {
    Event::Started { prompt_tokens: 12 }
}

pub(crate) fn text(piece: &str) -> Event {
    Event::Text(piece.to_owned())
}

pub(crate) fn reasoning(piece: &str) -> Event {
    Event::Reasoning(piece.to_owned())
}

pub(crate) fn call(index: u32, name: &str) -> Event {
    Event::ToolCallStarted { index, id: format!("call_{index}"), name: name.to_owned() }
}

pub(crate) fn arguments(index: u32, fragment: &str) -> Event {
    Event::ToolCallArguments { index, fragment: fragment.to_owned() }
}

pub(crate) fn finished(reason: FinishReason) -> Event {
    let usage = Usage { prompt_tokens: 12, cached_tokens: 4, output_tokens: 7, reasoning_tokens: 2 };
    Event::Finished(Finish { reason, stop: None, usage })
}

/// An answer that an error cuts after some tokens.
pub(crate) fn cut_by(error: Error) -> Script {
    Script::Play(vec![Ok(started()), Ok(text("Hel")), Err(error)])
}

/// An answer that just ends.
pub(crate) fn cut_short() -> Script {
    Script::Play(vec![Ok(started()), Ok(text("Hel"))])
}

/// The engine's fault in the middle of an answer.
pub(crate) fn fault() -> Error {
    Error::Interrupted { reason: "secret cause".to_owned() }
}

/// Reasoning, text and two calls.
pub(crate) fn everything() -> Vec<Event> {
    vec![
        started(),
        reasoning("Let me "),
        reasoning("see."),
        text("I'll "),
        text("look."),
        call(0, "weather"),
        arguments(0, "{\"city\": "),
        arguments(0, "\"Oslo\"}"),
        call(1, "time"),
        arguments(1, "{}"),
        finished(FinishReason::ToolCalls),
    ]
}
