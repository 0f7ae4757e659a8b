//! Load on the vector buckets of a running `sampan up`, over plain HTTP: durable batches of 500 vectors a second, in
//! JSON and in binary, and queries a second.
//!
//! `cargo run --release -p sampan --example vector_load -- [ADDRESS [VECTORS [CLIENTS]]]`; default: 127.0.0.1:8420,
//! 50000 vectors of 384 dimensions, 4 clients, each with one connection. The bucket it makes is deleted at the end.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement prints and reads the clock")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base::Rng;
use serde_json::{Value, json};

const DIMENSION: usize = 384;
const BATCH: usize = 500;
const BUCKET: &str = "vector-load";
/// How long queries are asked.
const QUERY_FOR: Duration = Duration::from_secs(10);
/// How long compaction is given to come to rest.
const SETTLE: Duration = Duration::from_secs(15);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8420".to_owned());
    let vectors: usize = arguments.next().map_or(Ok(50_000), |text| text.parse()).context("VECTORS")?;
    let clients: usize = arguments.next().map_or(Ok(4), |text| text.parse()).context("CLIENTS")?;
    let mut client = Client::connect(&address)?;
    client.ask("/CreateVectorBucket", &json!({"vectorBucketName": BUCKET}))?;
    for index in ["json", "binary"] {
        client.ask(
            "/CreateIndex",
            &json!({
                "vectorBucketName": BUCKET, "indexName": index, "dataType": "float32", "dimension": DIMENSION,
                "distanceMetric": "cosine",
            }),
        )?;
        put(&address, index, vectors / BATCH, clients)?;
    }
    query(&address, clients, "query, while it compacts", false)?;
    std::thread::sleep(SETTLE);
    query(&address, clients, "query", false)?;
    query(&address, clients, "query, a tenth fits", true)?;
    for index in ["json", "binary"] {
        client.ask("/DeleteIndex", &json!({"vectorBucketName": BUCKET, "indexName": index}))?;
    }
    client.ask("/DeleteVectorBucket", &json!({"vectorBucketName": BUCKET})).map(drop)
}

/// Vectors that lie around a few hundred centres, as embeddings of texts do.
fn vector(rng: &mut Rng) -> Vec<f32> {
    let mut centre = Rng::seeded(rng.below(300));
    (0..DIMENSION).map(|_| (centre.unit_f64() - 0.5 + 0.6 * (rng.unit_f64() - 0.5)) as f32).collect()
}

/// The bodies are made before the clock starts: it is the server that is measured.
fn put(address: &str, index: &str, batches: usize, clients: usize) -> anyhow::Result<()> {
    let bodies: Vec<Vec<u8>> = (0..batches).map(|batch| body(index, batch)).collect();
    let kind = if index == "binary" { "application/vnd.sampan.vectors" } else { "application/json" };
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let work = |client: &mut Client, spans: &mut Vec<Duration>| -> anyhow::Result<()> {
        while let Some(body) = bodies.get(next.fetch_add(1, Ordering::SeqCst)) {
            let began = Instant::now();
            // While compaction lags the server says so, and is asked again.
            while client.send("/PutVectors", kind, body)?.0 == 429 {
                std::thread::sleep(Duration::from_millis(20));
            }
            spans.push(began.elapsed());
        }
        Ok(())
    };
    let spans = run(address, clients, work)?;
    let rate = (batches * BATCH) as f64 / began.elapsed().as_secs_f64();
    println!("put, {index}: {rate:.0} vectors/s in batches of {BATCH}, {}", percentiles(spans));
    Ok(())
}

fn body(index: &str, batch: usize) -> Vec<u8> {
    let mut rng = Rng::seeded(1_000_000 + batch as u64);
    let mut rows = Vec::new();
    let mut numbers = Vec::new();
    for place in 0..BATCH {
        let number = batch * BATCH + place;
        let mut row = json!({"key": format!("key-{number}"), "metadata": {"part": number % 100}});
        let vector = vector(&mut rng);
        match index {
            "binary" => numbers.extend(vector.iter().flat_map(|number| number.to_le_bytes())),
            _ => row["data"] = json!({"float32": vector}),
        }
        rows.push(row);
    }
    let head = json!({"vectorBucketName": BUCKET, "indexName": index, "vectors": rows}).to_string().into_bytes();
    if index != "binary" {
        return head;
    }
    let mut body = (head.len() as u32).to_le_bytes().to_vec();
    body.extend(head);
    body.extend(numbers);
    body
}

fn query(address: &str, clients: usize, what: &str, filtered: bool) -> anyhow::Result<()> {
    let mut rng = Rng::seeded(7);
    let bodies: Vec<Vec<u8>> = (0..1_000)
        .map(|_| {
            let mut ask = json!({
                "vectorBucketName": BUCKET, "indexName": "binary", "topK": 10, "returnDistance": true,
                "queryVector": {"float32": vector(&mut rng)},
            });
            if filtered {
                ask["filter"] = json!({"part": {"$lt": 10}});
            }
            ask.to_string().into_bytes()
        })
        .collect();
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let work = |client: &mut Client, spans: &mut Vec<Duration>| -> anyhow::Result<()> {
        while began.elapsed() < QUERY_FOR {
            let body = &bodies[next.fetch_add(1, Ordering::SeqCst) % bodies.len()];
            let began = Instant::now();
            let (status, answer) = client.send("/QueryVectors", "application/json", body)?;
            ensure!(status == 200, "a query was answered {status}: {}", String::from_utf8_lossy(&answer));
            spans.push(began.elapsed());
        }
        Ok(())
    };
    let spans = run(address, clients, work)?;
    let rate = spans.len() as f64 / began.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} queries/s, {}", percentiles(spans));
    Ok(())
}

/// Lets every client work on a thread of its own, and returns how long each request took.
fn run(
    address: &str,
    clients: usize,
    work: impl Fn(&mut Client, &mut Vec<Duration>) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Vec<Duration>> {
    std::thread::scope(|scope| {
        let one = || -> anyhow::Result<Vec<Duration>> {
            let mut spans = Vec::new();
            work(&mut Client::connect(address)?, &mut spans)?;
            Ok(spans)
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        Ok(all)
    })
}

fn percentiles(mut spans: Vec<Duration>) -> String {
    spans.sort_unstable();
    let at = |percent: usize| spans.get(spans.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    format!("p50 {:.2} ms, p99 {:.2} ms", at(50).as_secs_f64() * 1e3, at(99).as_secs_f64() * 1e3)
}

/// One connection, kept open.
struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: address.to_owned() })
    }

    fn ask(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let (status, answer) = self.send(path, "application/json", body.to_string().as_bytes())?;
        ensure!(status == 200, "{path} was answered {status}: {}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer)?)
    }

    fn send(&mut self, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        let (host, length) = (&self.host, body.len());
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.stream.get_mut().write_all(body)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("no status")?.parse()?;
        let mut length = 0;
        // Ends: an empty line ends the headers, and so does the end of the stream.
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status, answer))
    }
}
