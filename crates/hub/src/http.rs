//! A hub's HTTP: JSON answers and ranges of files.

use std::ops::Range;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::error::{Error, Result};
use crate::source::Sink;

/// The longest list of files: 20,000 with room.
const JSON_BYTES_MAX: usize = 32 << 20;
/// The longest explanation of a refusal that is read, and how much of it is shown.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
const MESSAGE_CHARS_SHOWN: usize = 200;
/// How often a hub may send us elsewhere.
const REDIRECTS_MAX: usize = 8;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(15);

/// How a hub is spoken to.
#[derive(Clone)]
pub struct HttpOptions {
    /// Its address: `https://huggingface.co`.
    pub endpoint: String,
    /// What proves who we are. It is sent to this address and to nobody that it refers to.
    pub token: Option<String>,
    /// A connection that is silent for so long counts as cut.
    pub silence: Duration,
}

/// Whether this is the address of a hub, as opposed to the name of a folder.
///
/// # Errors
/// [`Error::Address`], with the reason.
pub fn ensure_address(text: &str) -> Result<()> {
    parse(text).map(|_| ())
}

fn parse(text: &str) -> Result<Url> {
    let refuse = |why: String| Error::Address { address: text.to_owned(), why };
    let url = Url::parse(text).map_err(|why| refuse(why.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refuse("it begins with http:// or https:// and a host".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("secrets do not belong into it".to_owned()));
    }
    Ok(url)
}

/// A hub's address and a client for it.
pub(crate) struct Http {
    endpoint: Url,
    client: Client,
    /// Headers that go to the hub itself.
    secrets: Vec<(&'static str, String)>,
    /// Drives the sockets; the threads that read wait on it.
    runtime: Runtime,
}

impl Http {
    pub(crate) fn new(options: &HttpOptions, secrets: Vec<(&'static str, String)>) -> Result<Self> {
        let endpoint = parse(&options.endpoint)?;
        let wrong = |why: Box<dyn std::error::Error + Send + Sync>| Error::Client(why);
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(wrong("no cryptography is installed in this process".into()));
        }
        let mut client = Client::builder();
        if endpoint.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]")) {
            client = client.no_proxy();
            if endpoint.scheme() == "http" {
                // Reading the machine's certificates takes a while; nobody is shown any here.
                client = client.tls_certs_only([]);
            }
        }
        let client = client
            // Followed by hand: the secrets stay with the hub.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT.min(options.silence.max(Duration::from_secs(1))))
            .read_timeout(options.silence)
            .user_agent(concat!("sampan/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|why| wrong(why.into()))?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("hub").enable_all().build();
        Ok(Self { endpoint, client, secrets, runtime: runtime.map_err(|why| wrong(why.into()))? })
    }

    /// An address below the endpoint; parts are percent-encoded, also the slashes in them.
    pub(crate) fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    pub(crate) fn json(&self, url: &Url) -> Result<Value> {
        self.runtime.block_on(async {
            let mut response = self.get(url, None).await?;
            let text = body(&mut response, url, JSON_BYTES_MAX).await?;
            let wrong =
                |why: serde_json::Error| Error::Answer { url: shown(url), why: format!("it is no JSON: {why}") };
            serde_json::from_slice(&text).map_err(wrong)
        })
    }

    /// Hands a part of a file of `size_bytes` to the sink.
    pub(crate) fn read(&self, url: &Url, size_bytes: u64, range: Range<u64>, sink: &mut Sink<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.runtime.block_on(async {
            let mut response = self.get(url, Some(&range)).await?;
            let mut skipped = skipped(&response, url, size_bytes, &range)?;
            let expected = range.end - range.start;
            let mut found = 0_u64;
            while let Some(chunk) = response.chunk().await.map_err(|why| reach(url, why))? {
                let skip = skipped.min(chunk.len() as u64);
                skipped -= skip;
                let rest = &chunk[skip as usize..];
                let taken = (rest.len() as u64).min(expected - found);
                sink(&rest[..taken as usize])?;
                found += taken;
                if found == expected {
                    return Ok(());
                }
            }
            Err(Error::Cut { file: shown(url), found, expected })
        })
    }

    /// Sends JSON to the hub itself, and hands on every JSON object that it answers, one a line.
    pub(crate) fn lines(&self, url: &Url, body: &Value, take: &mut dyn FnMut(Value) -> Result<()>) -> Result<()> {
        self.runtime.block_on(async {
            let request = self.client.post(url.clone()).header(CONTENT_TYPE, "application/json");
            let request = request.body(body.to_string());
            let request = self.secrets.iter().fold(request, |request, (name, value)| request.header(*name, value));
            let mut response = request.send().await.map_err(|why| reach(url, why))?;
            if !response.status().is_success() {
                return Err(refusal(&mut response, url).await);
            }
            let mut rest = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|why| reach(url, why))? {
                rest.extend_from_slice(&chunk);
                // Ends with the line ends.
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let wrong = |why: serde_json::Error| answer(url, &format!("a line that is no JSON: {why}"));
                    take(serde_json::from_slice(&line).map_err(wrong)?)?;
                }
                if rest.len() > MESSAGE_BYTES_MAX {
                    return Err(answer(url, &format!("a line of more than {MESSAGE_BYTES_MAX} bytes")));
                }
            }
            Ok(())
        })
    }

    async fn get(&self, url: &Url, range: Option<&Range<u64>>) -> Result<Response> {
        let mut target = url.clone();
        for _ in 0..REDIRECTS_MAX {
            let mut request = self.client.get(target.clone());
            if target.origin() == self.endpoint.origin() {
                request = self.secrets.iter().fold(request, |request, (name, value)| request.header(*name, value));
            }
            if let Some(range) = range {
                request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
            }
            let mut response = request.send().await.map_err(|why| reach(url, why))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let elsewhere = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned);
            let Some(elsewhere) = elsewhere.filter(|_| status.is_redirection()) else {
                return Err(refusal(&mut response, url).await);
            };
            let joined = target.join(&elsewhere).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            target = joined.ok_or_else(|| answer(url, "it sends us to what is no address"))?;
            if self.endpoint.scheme() == "https" && target.scheme() == "http" {
                return Err(answer(url, "it sends us from https to http"));
            }
        }
        Err(answer(url, "it sends us round in circles"))
    }
}

/// How many bytes of the answer lie before the range: none, or all of them where ranges are not known.
fn skipped(response: &Response, url: &Url, size_bytes: u64, range: &Range<u64>) -> Result<u64> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if response.status() == StatusCode::PARTIAL_CONTENT {
        let expected = format!("bytes {}-{}/{size_bytes}", range.start, range.end - 1);
        let found = header(CONTENT_RANGE).unwrap_or_default();
        if found != expected {
            return Err(answer(url, &format!("the range {found:?} instead of {expected:?}")));
        }
        return Ok(0);
    }
    let length = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    match length {
        Some(length) if length != size_bytes => {
            Err(answer(url, &format!("a file of {length} bytes, {size_bytes} were listed")))
        }
        Some(_) | None => Ok(range.start),
    }
}

async fn refusal(response: &mut Response, url: &Url) -> Error {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let text = body(response, url, MESSAGE_BYTES_MAX).await.unwrap_or_default();
    let json = serde_json::from_slice::<Value>(&text).unwrap_or_default();
    let said = [&json["error"]["message"], &json["error"], &json["Message"], &json["message"]];
    let message = said.iter().find_map(|value| value.as_str()).unwrap_or_default();
    let message = message.chars().filter(|letter| !letter.is_control()).take(MESSAGE_CHARS_SHOWN).collect();
    Error::Status { url: shown(url), status, message, retry_after_s: retry_after }
}

async fn body(response: &mut Response, url: &Url, bytes_max: usize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|why| reach(url, why))? {
        text.extend_from_slice(&chunk);
        if text.len() > bytes_max {
            return Err(answer(url, &format!("more than {bytes_max} bytes")));
        }
    }
    Ok(text)
}

fn reach(url: &Url, why: reqwest::Error) -> Error {
    // The address in the error may be a signed one that we were sent to.
    Error::Reach { url: shown(url), source: why.without_url() }
}

fn answer(url: &Url, why: &str) -> Error {
    Error::Answer { url: shown(url), why: why.to_owned() }
}

fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}
