//! For tests and benchmarks: an upstream that answers in every form, and misbehaves on demand.
//!
//! It is written on bare sockets, because what it does wrong is what HTTP libraries do not let one do.

mod answers;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::Form;

/// Longest head and body that it reads.
const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 64 << 20;
/// Between two bytes of an upstream that is slow on purpose.
const DRIP: Duration = Duration::from_millis(20);

/// What the upstream does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers as its form says.
    Answer,
    /// Answers after so many milliseconds.
    Delay(u64),
    /// Refuses with a status and, if there is one, a Retry-After of so many seconds.
    Status(u16, Option<u64>),
    /// Closes the connection before it says anything.
    Slam,
    /// Reads the request and never answers.
    Hang,
    /// Begins to answer and never goes on.
    HangMidway,
    /// Closes the connection in the middle of the answer, against what the transport promised.
    Cut,
    /// Ends the transport properly in the middle of the answer.
    CleanCut,
    /// Sends an event that is no JSON.
    Garbage,
    /// Sends bytes that are no text.
    Binary,
    /// Sends a page where events were asked for.
    Page,
    /// Sends a byte now and then.
    SlowLoris,
    /// Sends the head a byte now and then.
    SlowHead,
    /// Promises more bytes than it sends.
    LengthTooLong,
    /// Promises fewer bytes than the answer has.
    LengthTooShort,
    /// Reports an error in the middle of the answer.
    ErrorMidway,
    /// Sends comments for ever, and no event.
    Pings,
    /// Sends a line without an end.
    EndlessLine,
    /// Says nothing of usage.
    NoUsage,
    /// Ends without a reason for the end.
    NoReason,
    /// Goes on behind the last event.
    Babble,
}

impl Behaviour {
    /// All of them, with values that a test can wait for.
    pub const ALL: [Self; 21] = [
        Self::Answer,
        Self::Delay(30),
        Self::Status(500, None),
        Self::Slam,
        Self::Hang,
        Self::HangMidway,
        Self::Cut,
        Self::CleanCut,
        Self::Garbage,
        Self::Binary,
        Self::Page,
        Self::SlowLoris,
        Self::SlowHead,
        Self::LengthTooLong,
        Self::LengthTooShort,
        Self::ErrorMidway,
        Self::Pings,
        Self::EndlessLine,
        Self::NoUsage,
        Self::NoReason,
        Self::Babble,
    ];
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    /// Headers in lower case, one a line.
    pub headers: String,
    /// The body; null if there was none.
    pub body: Value,
}

/// A server on a free port of this machine. It stops when it is dropped.
pub struct Stub {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    /// Whether requests are remembered; a benchmark has no room for that.
    remembers: bool,
}

#[derive(Default)]
struct Script {
    next: VecDeque<Behaviour>,
    always: Option<Behaviour>,
}

impl Stub {
    /// One that plays these behaviours, one a generation, and then answers properly.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(script: &[Behaviour]) -> Self {
        let script = Script { next: script.iter().copied().collect(), always: None };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        Self::on(listener, script, true)
    }

    /// One that answers properly, for ever, and remembers nothing.
    #[must_use]
    pub fn steady(listener: TcpListener) -> Self {
        Self::on(listener, Script::default(), false)
    }

    fn on(listener: TcpListener, script: Script, remembers: bool) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared { script: Mutex::new(script), seen: Mutex::default(), remembers });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            // Ends when the stub is dropped.
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                running.spawn(async move { drop(connection(stream, &shared).await) });
                while running.try_join_next().is_some() {}
            }
        });
        Self { address, shared, task }
    }

    /// From now on it does this.
    pub fn always(&self, behaviour: Behaviour) {
        let mut script = self.shared.script.lock().unwrap_or_else(PoisonError::into_inner);
        *script = Script { next: VecDeque::new(), always: Some(behaviour) };
    }

    /// The base URL for clients of a form.
    #[must_use]
    pub fn url(&self, form: Form) -> String {
        let path = match form {
            Form::OpenAi => "/v1",
            Form::Anthropic => "",
            Form::DashScope => "/api/v1",
        };
        format!("http://{}{path}", self.address)
    }

    /// The generations that were asked for so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    // Ends when the client closes, or after a behaviour that closes.
    while let Some(seen) = request(&mut stream).await? {
        if !respond(&mut stream, &seen, shared).await? {
            break;
        }
    }
    Ok(())
}

/// The next request; `None` if the client is gone.
async fn request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
    }
    let (line, headers) = head.split_once("\r\n").unwrap_or_default();
    let headers = headers.to_ascii_lowercase();
    let length = headers.lines().find_map(|header| header.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0).min(BODY_BYTES_MAX);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let line = line.strip_suffix(" HTTP/1.1").unwrap_or(line).to_owned();
    Ok(Some(Seen { line, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }))
}

/// Answers one request. Whether the connection can take another.
async fn respond(stream: &mut BufReader<TcpStream>, seen: &Seen, shared: &Shared) -> std::io::Result<bool> {
    if let Some(json) = answers::plain(seen) {
        stream.write_all(whole(200, "application/json", "", &json).as_bytes()).await?;
        return Ok(true);
    }
    if shared.remembers {
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
    }
    let behaviour = {
        let mut script = shared.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.next.pop_front().or(script.always).unwrap_or(Behaviour::Answer)
    };
    behave(stream, seen, behaviour).await
}

async fn behave(stream: &mut BufReader<TcpStream>, seen: &Seen, behaviour: Behaviour) -> std::io::Result<bool> {
    let events = answers::events(seen, behaviour);
    let all: String = events.concat();
    let begun: String = events[..events.len().min(3)].concat();
    match behaviour {
        Behaviour::Answer | Behaviour::NoUsage | Behaviour::NoReason | Behaviour::ErrorMidway => {
            stream.write_all(chunked(&all, true).as_bytes()).await?;
            return Ok(true);
        }
        Behaviour::Delay(wait_ms) => {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            stream.write_all(chunked(&all, true).as_bytes()).await?;
            return Ok(true);
        }
        Behaviour::Babble => {
            stream.write_all(chunked(&format!("{all}{all}"), true).as_bytes()).await?;
        }
        Behaviour::CleanCut => stream.write_all(chunked(&begun, true).as_bytes()).await?,
        Behaviour::Cut => stream.write_all(chunked(&begun, false).as_bytes()).await?,
        Behaviour::Status(status, retry_after_s) => {
            let header = retry_after_s.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
            let json = format!(r#"{{"error": {{"message": "status {status} on purpose"}}}}"#);
            stream.write_all(whole(status, "application/json", &header, &json).as_bytes()).await?;
            return Ok(true);
        }
        Behaviour::Slam => {}
        Behaviour::Hang => std::future::pending().await,
        Behaviour::HangMidway => {
            stream.write_all(chunked(&begun, false).as_bytes()).await?;
            std::future::pending::<()>().await;
        }
        Behaviour::Garbage => stream.write_all(chunked("data: {\"choices\": [\n\n", true).as_bytes()).await?,
        Behaviour::Binary => {
            stream.write_all(EVENTS_HEAD.as_bytes()).await?;
            stream.write_all(b"8\r\ndata: \xff\n\r\n0\r\n\r\n").await?;
        }
        Behaviour::Page => {
            stream.write_all(whole(200, "text/html", "", "<html>welcome</html>").as_bytes()).await?;
        }
        Behaviour::SlowHead => drip(stream, EVENTS_HEAD.as_bytes()).await?,
        Behaviour::SlowLoris => {
            stream.write_all(plain_head(all.len()).as_bytes()).await?;
            drip(stream, all.as_bytes()).await?;
        }
        Behaviour::LengthTooLong => {
            stream.write_all(format!("{}{begun}", plain_head(all.len() + 100)).as_bytes()).await?;
        }
        Behaviour::LengthTooShort => {
            stream.write_all(format!("{}{all}", plain_head(begun.len())).as_bytes()).await?;
        }
        Behaviour::Pings => {
            stream.write_all(EVENTS_HEAD.as_bytes()).await?;
            // Ends when the client goes away: writing fails then.
            loop {
                stream.write_all(b"8\r\n: ping\n\n\r\n").await?;
                tokio::time::sleep(DRIP).await;
            }
        }
        Behaviour::EndlessLine => {
            stream.write_all(EVENTS_HEAD.as_bytes()).await?;
            let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            // Ends when the client goes away: writing fails then.
            loop {
                stream.write_all(piece.as_bytes()).await?;
            }
        }
    }
    stream.shutdown().await?;
    Ok(false)
}

const EVENTS_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn plain_head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n")
}

fn whole(status: u16, kind: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// In chunks, with or without the one that ends them.
fn chunked(text: &str, ends: bool) -> String {
    let end = if ends { "0\r\n\r\n" } else { "" };
    format!("{EVENTS_HEAD}{:x}\r\n{text}\r\n{end}", text.len())
}

async fn drip(stream: &mut BufReader<TcpStream>, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(DRIP).await;
    }
    Ok(())
}
