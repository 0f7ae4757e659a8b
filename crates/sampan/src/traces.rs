//! Spans for a collector of OpenTelemetry: OTLP over HTTP in JSON, with the names of the `gen_ai` conventions.
//!
//! A span is made of every generation when it is over, however it ended, from what is measured of it anyway; never of
//! what was said. A thread of its own sends them in groups. A collector that is slow or gone costs spans, which are
//! counted in the log, and no request waits for it.
//!
//! <https://opentelemetry.io/docs/specs/otlp/> and <https://opentelemetry.io/docs/specs/semconv/gen-ai/>.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use api::{Listener, Over};
use base::Rng;
use serde_json::{Value, json};

use crate::machine;

/// Spans that wait to be sent.
const WAITING_MAX: usize = 4096;
/// Spans of one request to the collector.
const GROUP_MAX: usize = 256;
/// The first span of a group waits so long for others.
const GROUP_WAIT: Duration = Duration::from_millis(250);
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Letters of a name that a caller made up.
const NAME_MAX: usize = 256;
/// A span of a request that was served: OTLP's `SPAN_KIND_SERVER`.
const KIND_SERVER: u32 = 2;
/// OTLP's `STATUS_CODE_ERROR`.
const STATUS_ERROR: u32 = 2;

enum Word {
    Over(Box<Over>),
    /// No more will come.
    End,
}

/// Sends spans until it is closed.
pub(crate) struct Traces {
    words: SyncSender<Word>,
    sender: JoinHandle<()>,
    losses: Arc<Losses>,
}

#[derive(Default)]
struct Losses {
    /// Spans that found no room.
    dropped: AtomicU64,
    /// The program ends: a collector that takes nothing is not waited for again.
    is_closing: AtomicBool,
}

impl Traces {
    /// Begins to send to a collector: its address without `/v1/traces`.
    pub(crate) fn start(collector: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            collector.starts_with("http://") || collector.starts_with("https://"),
            "--otlp {collector:?}: it is written http://HOST:PORT"
        );
        let url = format!("{}/v1/traces", collector.trim_end_matches('/'));
        let rng = Rng::seeded(machine::random_seed()?);
        let (words, waiting) = sync_channel(WAITING_MAX);
        let losses = Arc::new(Losses::default());
        let of_sender = Arc::clone(&losses);
        let sender = std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || send_all(&waiting, &url, rng, &of_sender))
            .context("start the thread that sends traces")?;
        Ok(Self { words, sender, losses })
    }

    /// What is to be told of every request that is over.
    pub(crate) fn listener(&self) -> Listener {
        let (words, losses) = (self.words.clone(), Arc::clone(&self.losses));
        Arc::new(move |over: Over| {
            if words.try_send(Word::Over(Box::new(over))).is_err() {
                losses.dropped.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// Sends what waits, and ends; at the latest when the collector refuses it.
    pub(crate) fn close(self) {
        self.losses.is_closing.store(true, Ordering::Relaxed);
        // It has ended by itself if this fails.
        let _ = self.words.send(Word::End);
        if self.sender.join().is_err() {
            tracing::error!("the thread that sends traces panicked");
        }
    }
}

fn send_all(waiting: &Receiver<Word>, url: &str, mut rng: Rng, losses: &Losses) {
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build();
    let agent = ureq::Agent::new_with_config(config);
    let (mut goes_on, mut reported) = (true, 0);
    // Ends: with the last word, or when nobody can send any more.
    while goes_on {
        let Ok(Word::Over(first)) = waiting.recv() else { return };
        let mut spans = vec![span(&first, &mut rng)];
        while spans.len() < GROUP_MAX {
            match waiting.recv_timeout(GROUP_WAIT) {
                Ok(Word::Over(over)) => spans.push(span(&over, &mut rng)),
                Ok(Word::End) | Err(RecvTimeoutError::Disconnected) => {
                    goes_on = false;
                    break;
                }
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        let count = spans.len() as u64;
        let body = group(&spans).to_string();
        if let Err(error) = agent.post(url).header("content-type", "application/json").send(&body) {
            tracing::warn!(%error, spans = count, "traces were not taken");
            goes_on &= !losses.is_closing.load(Ordering::Relaxed);
        }
        let lost = losses.dropped.load(Ordering::Relaxed);
        if lost > reported {
            tracing::warn!(spans = lost - reported, "traces were dropped: the collector is slow");
            reported = lost;
        }
    }
}

/// The body of a request to the collector.
fn group(spans: &[Value]) -> Value {
    let of = [text("service.name", "sampan"), text("service.version", env!("CARGO_PKG_VERSION"))];
    let scope = json!({"name": "sampan", "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{
        "resource": {"attributes": of}, "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
}

fn span(over: &Over, rng: &mut Rng) -> Value {
    let operation = match over.route.ends_with("/completions") && !over.route.ends_with("chat/completions")
        || over.route.ends_with("/generate")
    {
        true => "text_completion",
        false => "chat",
    };
    let model: String = over.model.chars().take(NAME_MAX).collect();
    let mut attributes = vec![
        text("gen_ai.operation.name", operation),
        text("gen_ai.provider.name", "sampan"),
        text("gen_ai.request.model", &model),
        text("gen_ai.response.model", &model),
        number("gen_ai.usage.input_tokens", over.prompt_tokens),
        number("gen_ai.usage.output_tokens", over.output_tokens),
        number("gen_ai.usage.cache_read.input_tokens", over.cached_tokens),
        text("http.route", &over.route),
        text("sampan.request.id", &over.id),
        text("sampan.outcome", &over.outcome),
    ];
    attributes.extend(over.project.as_ref().map(|project| text("sampan.project", project)));
    attributes.extend(over.reason.as_ref().map(|reason| text("error.type", reason)));
    let began_ns = u128::from(over.arrived_at_ms) * 1_000_000;
    let after = |us: u64| (began_ns + u128::from(us) * 1000).to_string();
    let events: Vec<Value> = over
        .first_token_us
        .map(|us| json!({"timeUnixNano": after(us), "name": "gen_ai.first_token"}))
        .into_iter()
        .collect();
    let (trace, parent) = match over.parent {
        Some((trace, parent)) => (format!("{trace:032x}"), format!("{parent:016x}")),
        // Ids of zeros mean none.
        None => (format!("{:016x}{:016x}", rng.next_u64() | 1, rng.next_u64()), String::new()),
    };
    let (id, name) = (format!("{:016x}", rng.next_u64() | 1), format!("{operation} {model}"));
    let mut span = json!({
        "traceId": trace, "spanId": id, "name": name,
        "kind": KIND_SERVER, "startTimeUnixNano": began_ns.to_string(), "endTimeUnixNano": after(over.over_us),
        "attributes": attributes, "events": events,
    });
    if !parent.is_empty() {
        span["parentSpanId"] = parent.into();
    }
    if let Some(reason) = &over.reason {
        span["status"] = json!({"code": STATUS_ERROR, "message": reason});
    }
    span
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Whole numbers are strings in OTLP's JSON.
fn number(key: &str, value: u32) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}
