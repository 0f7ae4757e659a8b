//! Clients that go away at any point of a request, over real connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base::Rng;
use chat::testing::Script;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::support::{MODEL, Server, finished, started, text};

const LEAVING: usize = 1000;
const AT_ONCE: usize = 50;
/// Bytes of an answer that a client reads at most before it goes away.
const READS_MAX: u64 = 3000;
/// Tests wait for what must happen at once; this long only on a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_thousand_clients_that_leave_at_random_points_leave_nothing_behind() {
    let mut rng = Rng::seeded(5);
    let script = |index: u64| {
        let said = (0..index % 30).map(|_| text("some words "));
        match index % 3 {
            // A model that never comes to its end, as far as these clients can see.
            0 | 1 => Script::Hang([started()].into_iter().chain(said).collect()),
            _ => {
                let ended = finished(chat::FinishReason::Stop);
                Script::Play([started(), text("a")].into_iter().chain(said).chain([ended]).map(Ok).collect())
            }
        }
    };
    let server = Server::new((0..LEAVING as u64).map(script).collect());
    let (address, serving) = server.listen().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..LEAVING / AT_ONCE {
        let clients = (0..AT_ONCE).map(|_| leave(address, rng.next_u64()));
        join_all(clients.collect::<Vec<_>>()).await;
    }
    #[expect(clippy::disallowed_methods, reason = "connections are closed by the system, which tells nobody")]
    let began = Instant::now();
    while server.running() > 0 || tasks() > before {
        assert!(began.elapsed() < PATIENCE, "{} streams and {} tasks are left", server.running(), tasks() - before);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(server.requests().len() > LEAVING / 4, "most of them were understood before they left");
    serving.abort();
}

/// Asks in one of the dialects, sends all of it or a part, reads some bytes of the answer or none, and goes away.
async fn leave(address: SocketAddr, seed: u64) {
    let mut rng = Rng::seeded(seed);
    let (path, body) = asked(rng.below(7), rng.below(2) == 0);
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nx-dashscope-sse: enable\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let request = head + &body;
    let sent = if rng.below(4) == 0 { rng.below(request.len() as u64) as usize } else { request.len() };
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(&request.as_bytes()[..sent]).await.unwrap();
    if sent < request.len() {
        return;
    }
    let mut left = rng.below(READS_MAX) as usize;
    let mut piece = [0; 256];
    // Ends: some bytes come, or the client has waited long enough for a model that says nothing more.
    while left > 0 {
        let most = left.min(piece.len());
        match tokio::time::timeout(Duration::from_millis(5), connection.read(&mut piece[..most])).await {
            Ok(Ok(count)) if count > 0 => left -= count,
            Ok(_) | Err(_) => return,
        }
    }
}

fn asked(dialect: u64, stream: bool) -> (&'static str, Value) {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    match dialect {
        0 => ("/v1/chat/completions", json!({"model": MODEL, "messages": messages, "stream": stream})),
        1 => ("/v1/completions", json!({"model": MODEL, "prompt": "Once", "stream": stream})),
        2 => ("/v1/responses", json!({"model": MODEL, "input": "Hello", "stream": stream})),
        3 => ("/v1/messages", json!({"model": MODEL, "messages": messages, "stream": stream, "max_tokens": 9})),
        4 => ("/api/chat", json!({"model": MODEL, "messages": messages, "stream": stream})),
        5 => ("/api/generate", json!({"model": MODEL, "prompt": "Once", "stream": stream})),
        _ => (
            "/api/v1/services/aigc/text-generation/generation",
            json!({"model": MODEL, "input": {"messages": messages}, "parameters": {"incremental_output": stream}}),
        ),
    }
}
