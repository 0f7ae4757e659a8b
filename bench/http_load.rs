//! Load on a server that speaks OpenAI's chat completions: sampan, or another one on the same file.
//!
//! `cargo run --release -p sampan --example http_load -- ADDRESS MODEL [REQUESTS [CLIENTS,... [PID [WORDS,... [ANSWER
//! [FIRST [GUESSES]]]]]]]` drives 1, 4, 16, 64 and 256 streaming clients, each for its share of the requests, with
//! prompts of four lengths in turn, and prints throughput, time to the first token (TTFT), time per token after it
//! (TPOT), and the memory of process PID. Prompts are numbered from FIRST on; a server that has seen a number may have
//! its prompt in a cache. GUESSES `false` asks a server of ours not to guess tokens ahead.
//!
//! `… --example http_load -- null [REQUESTS]` measures what the API itself costs: 256 clients with a pause between
//! their requests, so that nobody waits for another, against models that answer at once.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement prints and reads the clock")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use base::{Clock, Rng};
use chat::{Event, EventStream, Finish, FinishReason, Generate, GenerateRequest, ModelCard, Usage};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};

/// Words of a prompt, and tokens of an answer, where nothing else is asked for.
const PROMPT_WORDS: &str = "8,64,256,512";
const ANSWER_TOKENS: &str = "64";
/// Clients of the measurement without a model, and their pause between two requests on average.
const NULL_CLIENTS: usize = 256;
const NULL_PAUSE_MS: u64 = 1000;
/// How long a client waits for a server.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_owned());
    if arguments.first().is_some_and(|first| first == "null") {
        return null(argument(1, "4096").parse().context("REQUESTS")?);
    }
    let (address, model) = (argument(0, "127.0.0.1:8420"), argument(1, "sampan-nano"));
    let requests: usize = argument(2, "64").parse().context("REQUESTS")?;
    let pid = arguments.get(4);
    let words = argument(5, PROMPT_WORDS);
    let words: Vec<usize> =
        words.split(',').map(|words| words.parse().context("WORDS")).collect::<anyhow::Result<_>>()?;
    let answer_tokens = argument(6, ANSWER_TOKENS).parse().context("ANSWER")?;
    let guesses = argument(8, "true").parse().context("GUESSES")?;
    let asked = Asked { address, model, words, answer_tokens, guesses };
    let mut first: usize = argument(7, "0").parse().context("FIRST")?;
    println!("| clients | tokens/s | TTFT p50 | TTFT p99 | TPOT p50 | TPOT p99 | memory before | after |");
    println!("|---|---|---|---|---|---|---|---|");
    for clients in argument(3, "1,4,16,64,256").split(',') {
        let clients: usize = clients.parse().context("CLIENTS")?;
        let before = resident(pid);
        let row = drive(&asked, first..first + requests.max(clients), clients)?;
        first += requests.max(clients);
        println!("| {clients} | {row} | {before} | {} |", resident(pid));
    }
    Ok(())
}

/// What every client asks, and whom.
struct Asked {
    address: String,
    model: String,
    /// Words of a prompt; requests take them in turn.
    words: Vec<usize>,
    answer_tokens: u32,
    /// Whether the server may guess tokens ahead.
    guesses: bool,
}

/// What one request took.
struct Timed {
    tokens: u64,
    first: Duration,
    whole: Duration,
}

fn drive(asked: &Asked, requests: Range<usize>, clients: usize) -> anyhow::Result<String> {
    let began = Instant::now();
    let timed = std::thread::scope(|scope| {
        let client = |client: usize| {
            let share = requests.clone().skip(client).step_by(clients);
            scope.spawn(move || share.map(|index| ask(asked, index)).collect::<anyhow::Result<Vec<Timed>>>())
        };
        let running: Vec<_> = (0..clients).map(client).collect();
        let joined = running.into_iter().map(|client| client.join().expect("a client does not panic"));
        joined.collect::<anyhow::Result<Vec<_>>>()
    })?;
    let wall = began.elapsed().as_secs_f64();
    let timed: Vec<Timed> = timed.into_iter().flatten().collect();
    let tokens: u64 = timed.iter().map(|one| one.tokens).sum();
    let firsts = timed.iter().map(|one| one.first.as_secs_f64() * 1e3).collect();
    let per_token = |one: &Timed| (one.whole - one.first).as_secs_f64() * 1e3 / (one.tokens - 1) as f64;
    let steps = timed.iter().filter(|one| one.tokens > 1).map(per_token).collect();
    Ok(format!("{:.1} | {} | {}", tokens as f64 / wall, halves(firsts), halves(steps)))
}

/// The median and the 99th percentile of some milliseconds.
fn halves(mut ms: Vec<f64>) -> String {
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms.get(((ms.len() as f64 * share) as usize).min(ms.len().saturating_sub(1)));
    let [p50, p99] = [at(0.5), at(0.99)].map(|ms| ms.copied().unwrap_or(f64::NAN));
    format!("{p50:.2} ms | {p99:.2} ms")
}

/// A prompt that begins like no other, so that no cache helps.
fn prompt(index: usize, words: &[usize]) -> String {
    let mut rng = Rng::seeded(index as u64);
    let word = |_| ["river ", "boat ", "harbour ", "tide ", "sail ", "coast "][rng.below(6) as usize];
    format!("{index}: ") + &(0..words[index % words.len()]).map(word).collect::<String>()
}

fn ask(asked: &Asked, index: usize) -> anyhow::Result<Timed> {
    let Asked { address, model, words, answer_tokens, guesses } = asked;
    let mut body = json!({
        "model": model, "messages": [{"role": "user", "content": prompt(index, words)}], "stream": true,
        "temperature": 0, "max_tokens": answer_tokens, "ignore_eos": true, "stream_options": {"include_usage": true},
    });
    if !guesses {
        // Only ours knows the field.
        body["speculate"] = json!(false);
    }
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    send(&mut stream, address, "close", &body.to_string())?;
    let (mut first, mut tokens) = (None, 0);
    let mut status = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if status.is_empty() {
            status.clone_from(&line);
        }
        let Some(event) = line.strip_prefix("data: ").and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            continue;
        };
        let delta = &event["choices"][0]["delta"];
        let says = |field: &str| delta[field].as_str().is_some_and(|text| !text.is_empty());
        if first.is_none() && (says("content") || says("reasoning_content")) {
            first = Some(began.elapsed());
        }
        tokens = event["usage"]["completion_tokens"].as_u64().unwrap_or(tokens);
    }
    ensure!(status.contains(" 200 "), "{address} answered {status:?}");
    let whole = began.elapsed();
    Ok(Timed { tokens, first: first.unwrap_or(whole), whole })
}

fn send(stream: &mut TcpStream, address: &str, connection: &str, body: &str) -> anyhow::Result<()> {
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nconnection: {connection}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).context("send a request")
}

/// Resident memory of a process, in MiB.
fn resident(pid: Option<&String>) -> String {
    let status = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok()).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib: Option<u64> = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok());
    kib.map_or_else(|| "-".to_owned(), |kib| format!("{} MiB", kib >> 10))
}

/// Models that answer at once.
struct Null;

impl Generate for Null {
    fn models(&self) -> Vec<ModelCard> {
        Vec::new()
    }

    fn generate(&self, _: GenerateRequest) -> BoxFuture<'_, chat::Result<EventStream>> {
        let usage = Usage { prompt_tokens: 8, cached_tokens: 0, output_tokens: 1, reasoning_tokens: 0 };
        let finish = Finish { reason: FinishReason::Stop, stop: None, usage };
        let events =
            [Event::Started { prompt_tokens: 8 }, Event::Text("Yes.".to_owned()), Event::Finished(finish)].map(Ok);
        async move { Ok(stream::iter(events).boxed()) }.boxed()
    }

    fn count_tokens(&self, _: GenerateRequest) -> BoxFuture<'_, chat::Result<u32>> {
        async { Ok(8) }.boxed()
    }
}

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn monotonic_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

fn null(requests: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).context("listen")?;
    let address = listener.local_addr()?.to_string();
    let app = api::App::new(Arc::new(Null), Arc::new(SystemClock(Instant::now())), 1);
    let server = runtime.spawn(async move { axum::serve(listener, api::router(Arc::new(app))).await });
    let took = std::thread::scope(|scope| {
        let client = |client: usize| {
            let address = &address;
            let share = requests / NULL_CLIENTS;
            scope.spawn(move || quick(address, client as u64, share))
        };
        let running: Vec<_> = (0..NULL_CLIENTS).map(client).collect();
        let joined = running.into_iter().map(|client| client.join().expect("a client does not panic"));
        joined.collect::<anyhow::Result<Vec<_>>>()
    })?;
    server.abort();
    let took: Vec<f64> = took.into_iter().flatten().collect();
    let count = took.len();
    println!("{count} requests of {NULL_CLIENTS} clients: p50 | p99 = {}", halves(took));
    Ok(())
}

/// Asks again and again on one connection; says how many milliseconds each took, on the client's side.
fn quick(address: &str, seed: u64, requests: usize) -> anyhow::Result<Vec<f64>> {
    let mut rng = Rng::seeded(seed);
    let mut stream = TcpStream::connect(address).context("connect")?;
    stream.set_nodelay(true)?;
    let body = json!({"model": "null", "messages": [{"role": "user", "content": "Is anybody there?"}]}).to_string();
    let mut took = Vec::new();
    for _ in 0..requests {
        std::thread::sleep(Duration::from_millis(rng.below(2 * NULL_PAUSE_MS)));
        let began = Instant::now();
        send(&mut stream, address, "keep-alive", &body)?;
        let mut reader = BufReader::new(&mut stream);
        let mut length = 0;
        // Ends: with the blank line behind the head, or with an error.
        loop {
            let mut line = String::new();
            ensure!(reader.read_line(&mut line)? > 0, "the server closed the connection");
            match line.to_ascii_lowercase().trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().context("content-length")?,
                Some(_) => {}
                None if line == "\r\n" => break,
                None => ensure!(line.contains(" 200 "), "the server answered {line:?}"),
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}
