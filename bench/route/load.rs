//! An upstream that costs next to nothing, and a load for whatever stands in front of it.
//!
//! `route_load stub PORT` answers for ever; `route_load load URL MODEL KEY CONNECTIONS SECONDS [stream]` prints a line
//! of JSON. `bench/route/run` plays them together.
#![expect(clippy::print_stdout, reason = "the figures are printed")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use route::testing::Stub;
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Plain HTTP only, but the client wants to know what it would encrypt with.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["stub", port] => {
            let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.context("listen")?;
            let _stub = Stub::steady(listener);
            std::future::pending().await
        }
        ["load", url, model, key, connections, seconds, rest @ ..] => {
            let load = Load {
                url: format!("{url}/chat/completions"),
                authorization: format!("Bearer {key}"),
                body: body(model, rest.contains(&"stream")),
                stream: rest.contains(&"stream"),
            };
            measure(load, connections.parse()?, Duration::from_secs(seconds.parse()?)).await
        }
        _ => bail!("route_load stub PORT | route_load load URL MODEL KEY CONNECTIONS SECONDS [stream]"),
    }
}

#[derive(Clone)]
struct Load {
    url: String,
    authorization: String,
    body: String,
    stream: bool,
}

fn body(model: &str, stream: bool) -> String {
    let messages = json!([{"role": "user", "content": "Say hello please"}]);
    json!({"model": model, "messages": messages, "max_tokens": 8, "stream": stream}).to_string()
}

async fn measure(load: Load, connections: usize, duration: Duration) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?;
    // Warm: connections are open and pages are mapped.
    for _ in 0..20 {
        ask(&client, &load).await?;
    }
    let began = now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (client, load) = (client.clone(), load.clone());
            tokio::spawn(async move {
                let mut times_us = Vec::new();
                while began.elapsed() < duration {
                    let asked = now();
                    ask(&client, &load).await?;
                    times_us.push(asked.elapsed().as_micros() as u64);
                }
                anyhow::Ok(times_us)
            })
        })
        .collect();
    let mut times_us = Vec::new();
    for task in tasks {
        times_us.extend(task.await??);
    }
    let elapsed_s = began.elapsed().as_secs_f64();
    times_us.sort_unstable();
    let at = |part: f64| times_us[((times_us.len() - 1) as f64 * part) as usize] as f64 / 1e3;
    let figures = json!({
        "connections": connections, "stream": load.stream, "requests": times_us.len(),
        "requests_per_second": (times_us.len() as f64 / elapsed_s).round(), "p50_ms": at(0.5), "p99_ms": at(0.99),
    });
    println!("{figures}");
    Ok(())
}

async fn ask(client: &reqwest::Client, load: &Load) -> anyhow::Result<()> {
    let sent = client.post(&load.url).header("content-type", "application/json").body(load.body.clone());
    let answer = sent.header("authorization", &load.authorization).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success() && text.contains("lo"), "{status}: {text}");
    ensure!(!load.stream || text.contains("[DONE]"), "cut: {text}");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the real clock")]
fn now() -> Instant {
    Instant::now()
}
