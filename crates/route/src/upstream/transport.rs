//! One request to an upstream and the lines of its answer, each wait with a limit that has a name.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::sse;
use crate::fault::Waiting;
use crate::{Fault, TimeLimits};

/// Bytes of a whole streamed answer.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Bytes of an answer that is one piece of JSON, an error for example.
pub(crate) const PIECE_BYTES_MAX: usize = 1 << 20;
/// Characters of an upstream's own words that are handed on.
const MESSAGE_CHARS_MAX: usize = 300;
/// An upstream that asks for a longer pause is asked again after this one.
const RETRY_AFTER_MS_MAX: u64 = 3_600_000;
/// How long an answer that is complete may take to close its connection, so that the next request can use it.
const DRAIN: Duration = Duration::from_millis(50);

/// The events of a streamed answer.
pub(crate) struct Lines {
    bytes: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    reader: sse::Reader,
    ready: std::collections::VecDeque<sse::Event>,
    limits: TimeLimits,
    read_bytes: usize,
    /// Until when the whole answer has to be there.
    whole: Instant,
    /// Until when the next line has to be there.
    line: Instant,
    /// What ran out if `line` passes.
    waiting: Waiting,
}

/// Sends a request whose answer is a stream of events. `began` is when the request was begun.
pub(crate) async fn open(request: reqwest::RequestBuilder, limits: TimeLimits, began: Instant) -> Result<Lines, Fault> {
    let first = began + limits.first_byte();
    let response = within(first, Waiting::FirstByte, limits.first_byte_ms, send(request)).await??;
    let response = accepted(response, first, limits.first_byte_ms).await?;
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("text/event-stream") {
        return Err(Fault::Garbage { what: format!("{kind:?} where events were asked for") });
    }
    Ok(Lines {
        bytes: response.bytes_stream().boxed(),
        reader: sse::Reader::default(),
        ready: std::collections::VecDeque::new(),
        limits,
        read_bytes: 0,
        whole: began + limits.whole(),
        line: first,
        waiting: Waiting::FirstByte,
    })
}

/// Sends a request whose answer is one piece of JSON.
pub(crate) async fn ask(request: reqwest::RequestBuilder, limit: Duration) -> Result<Value, Fault> {
    let (until, limit_ms) = (Instant::now() + limit, limit.as_millis() as u64);
    let response = within(until, Waiting::Whole, limit_ms, send(request)).await??;
    let response = accepted(response, until, limit_ms).await?;
    let body = within(until, Waiting::Whole, limit_ms, piece(response)).await??;
    serde_json::from_slice(&body).map_err(|why| Fault::Garbage { what: format!("an answer that is no JSON ({why})") })
}

/// Sends a request of which only the status matters.
pub(crate) async fn probe(request: reqwest::RequestBuilder, limit: Duration) -> Result<(), Fault> {
    let (until, limit_ms) = (Instant::now() + limit, limit.as_millis() as u64);
    let response = within(until, Waiting::Whole, limit_ms, send(request)).await??;
    accepted(response, until, limit_ms).await.map(|_| ())
}

impl Lines {
    /// The next event; `None` where the answer ended as its transport says it should.
    pub(crate) async fn next(&mut self) -> Result<Option<sse::Event>, Fault> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let (until, waiting, limit_ms) = match self.line < self.whole {
                true if self.waiting == Waiting::FirstByte => (self.line, self.waiting, self.limits.first_byte_ms),
                true => (self.line, self.waiting, self.limits.between_ms),
                false => (self.whole, Waiting::Whole, self.limits.whole_ms),
            };
            let Some(bytes) = within(until, waiting, limit_ms, self.bytes.next()).await? else { return Ok(None) };
            let bytes = bytes.map_err(|why| Fault::Cut { reason: chain(&why) })?;
            self.read_bytes += bytes.len();
            if self.read_bytes > ANSWER_BYTES_MAX {
                return Err(Fault::TooLarge { what: "one answer", limit_bytes: ANSWER_BYTES_MAX });
            }
            let (lines, mut events) = (self.reader.lines(), Vec::new());
            self.reader.push(&bytes, &mut events)?;
            // Bytes alone are no progress: whoever sends one a second may never end a line.
            if self.reader.lines() > lines && (self.waiting == Waiting::NextLine || !events.is_empty()) {
                self.line = Instant::now() + self.limits.between();
                self.waiting = Waiting::NextLine;
            }
            self.ready.extend(events);
        }
    }

    /// Waits a moment for the end of an answer that is complete, so that its connection can be used again.
    pub(crate) async fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        // Whatever comes now no longer matters.
        while let Ok(Some(Ok(_))) = timeout_at(until, self.bytes.next()).await {}
    }
}

async fn send(request: reqwest::RequestBuilder) -> Result<Response, Fault> {
    request.send().await.map_err(|why| Fault::Connect { reason: chain(&why) })
}

async fn within<T>(until: Instant, what: Waiting, limit_ms: u64, work: impl Future<Output = T>) -> Result<T, Fault> {
    timeout_at(until, work).await.map_err(|_| Fault::TimedOut { what, limit_ms })
}

/// The response, if its status is a good one.
async fn accepted(response: Response, until: Instant, limit_ms: u64) -> Result<Response, Fault> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let retry_after_ms = retry_after_ms(response.headers());
    // Words that are cut off or come too late are left out; the status says enough.
    let body = match within(until, Waiting::Whole, limit_ms, piece(response)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    let message = message(&body);
    let status = status.as_u16();
    Err(match status {
        401 | 403 => Fault::Credentials { status },
        400 | 413 | 422 => Fault::Refused { status, message },
        // 529 is Anthropic's word for overload.
        429 | 503 | 529 => Fault::Busy { status, message, retry_after_ms },
        _ => Fault::Failed { status, message },
    })
}

async fn piece(response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    let mut bytes = response.bytes_stream();
    while let Some(piece) = bytes.next().await {
        body.extend_from_slice(&piece.map_err(|why| Fault::Cut { reason: chain(&why) })?);
        if body.len() > PIECE_BYTES_MAX {
            return Err(Fault::TooLarge { what: "one piece of JSON", limit_bytes: PIECE_BYTES_MAX });
        }
    }
    Ok(body)
}

fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let seconds = number(RETRY_AFTER.as_str()).map(|seconds| seconds.saturating_mul(1_000));
    number("retry-after-ms").or(seconds).map(|wait_ms| wait_ms.min(RETRY_AFTER_MS_MAX))
}

/// What the body of an error says, short and printable.
fn message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json: Option<Value> = serde_json::from_str(&text).ok();
    match json.as_ref().and_then(error_words) {
        Some(words) => printable(words),
        None if text.trim().is_empty() => "no reason is given".to_owned(),
        None => printable(&text),
    }
}

/// Where servers put their words: `error.message`, `message`, `error`, `detail`.
pub(crate) fn error_words(body: &Value) -> Option<&str> {
    let paths = ["/error/message", "/message", "/error", "/detail"];
    paths.iter().find_map(|path| body.pointer(path)?.as_str())
}

/// The first characters, without those that change a terminal or a log.
pub(crate) fn printable(text: &str) -> String {
    let clean = text.chars().map(|sign| if sign.is_control() { ' ' } else { sign });
    clean.take(MESSAGE_CHARS_MAX).collect::<String>().trim().to_owned()
}

/// An error with its causes; addresses are left out, they may hold a secret.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match (error.is_connect(), error.is_timeout()) {
        (true, true) => "connecting took too long".to_owned(),
        (true, false) => "connecting failed".to_owned(),
        _ => "the connection broke".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn the_words_of_an_error_are_found_and_cut() {
        let check = |body: &str, expected: &str| assert_eq!(message(body.as_bytes()), expected);
        check(r#"{"error": {"message": "too long"}}"#, "too long");
        check(r#"{"code": "X", "message": "no quota"}"#, "no quota");
        check(r#"{"detail": "Not Found"}"#, "Not Found");
        check("plain\u{1b}[31m words\n", "plain [31m words");
        check("", "no reason is given");
        assert_eq!(message("x".repeat(1_000).as_bytes()).len(), 300);
        assert_eq!(message(b"\xff"), "\u{fffd}");
    }
}
