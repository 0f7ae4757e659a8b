//! An upstream server as a [`Generate`]: requests in its form, events from its answers.
//!
//! The rules that hold for every form: `generate` answers when the first event of the answer was read, so whoever waits
//! for it may still ask another pool; after that, a stream that does not end as its form says it must ends in an error;
//! there is exactly one `Finished`, and so one usage, for a whole answer and none for any other.

mod answer;
mod anthropic;
mod dashscope;
mod media;
mod openai;
mod sse;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use chat::{Event, EventStream, Generate, GenerateRequest, ImageSource, Message, ModelCard, Prompt};
use futures::future::BoxFuture;
use futures::{FutureExt as _, stream};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use tokio::time::Instant;

use crate::{Error, Fault, Result, Secret, TimeLimits};
use answer::{Draft, tokens_of_bytes};
use transport::Lines;

/// How long the count of a prompt's tokens may take.
const COUNT_LIMIT: Duration = Duration::from_secs(20);
/// Idle connections that are kept for an upstream.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// How long they are kept. Servers close theirs after 5 s (uvicorn, behind vLLM and LiteLLM) to 75 s (nginx).
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// The form in which an upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `/chat/completions` and `/completions`.
    OpenAi,
    /// `/v1/messages`.
    Anthropic,
    /// `/services/aigc/text-generation/generation`.
    DashScope,
}

/// What program answers, which decides the fields beyond the form's own that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// <https://docs.vllm.ai>
    Vllm,
    /// vLLM behind Ray Serve.
    RayServe,
    /// <https://docs.sglang.ai>
    Sglang,
    /// llama.cpp's server.
    LlamaServer,
    /// LiteLLM's proxy, which passes on what its own upstream knows.
    Litellm,
    /// Another Sampan.
    Sampan,
    /// OpenAI itself.
    #[serde(rename = "openai")]
    OpenAi,
    /// Any other: the fields that OpenAI documents.
    #[default]
    Other,
}

impl Server {
    fn is_vllm(self) -> bool {
        matches!(self, Self::Vllm | Self::RayServe)
    }

    /// Whether it has this field, which OpenAI does not document.
    fn knows(self, field: &str) -> bool {
        let is_sampling = matches!(field, "top_k" | "min_p" | "repetition_penalty");
        match self {
            Self::Vllm | Self::RayServe | Self::Sampan => true,
            Self::Sglang => field != "structured_outputs",
            Self::LlamaServer => {
                is_sampling || matches!(field, "ignore_eos" | "chat_template_kwargs" | "reasoning_content")
            }
            Self::Litellm | Self::OpenAi | Self::Other => false,
        }
    }

    /// How it spells the field.
    fn spells(self, field: &'static str) -> &'static str {
        match (self, field) {
            (Self::LlamaServer, "repetition_penalty") => "repeat_penalty",
            (_, field) => field,
        }
    }
}

/// A model of an upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamModel {
    /// Its name here.
    pub name: String,
    /// Its name there.
    pub upstream: String,
    /// Longest prompt and answer together, in tokens; 0: not known.
    pub context_tokens: u32,
    /// Longest answer, where the form requires a limit and the request sets none.
    pub output_tokens_max: u32,
}

/// Everything that is known of an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamOptions {
    /// Its name in decisions, errors and logs.
    pub name: String,
    /// The form it is spoken to in.
    pub form: Form,
    /// What program answers.
    pub server: Server,
    /// The address that its clients call the base URL.
    pub url: String,
    /// What it serves.
    pub models: Vec<UpstreamModel>,
    /// How long it is waited for.
    pub limits: TimeLimits,
    /// The path of its health check below `url`'s host, if it has one.
    pub health_path: Option<String>,
}

/// An upstream server.
pub struct Upstream {
    options: UpstreamOptions,
    client: reqwest::Client,
    secret: Option<Secret>,
}

impl Upstream {
    /// One that is spoken to with this secret.
    ///
    /// # Errors
    /// [`Error::Client`] if the program has no cryptography installed or the address is none.
    pub fn new(options: UpstreamOptions, secret: Option<Secret>) -> Result<Self> {
        let wrong = |reason: String| Error::Client { pool: options.name.clone(), reason };
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(wrong("no cryptography is installed in this process".to_owned()));
        }
        let url = reqwest::Url::parse(&options.url).map_err(|why| wrong(format!("the address is none: {why}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(wrong(format!("the address has the scheme {:?}, allowed: http, https", url.scheme())));
        }
        let mut client = reqwest::Client::builder();
        if url.scheme() == "http" {
            // Reading the machine's certificates takes a while and memory; nobody is shown any here.
            client = client.tls_certs_only([]);
        }
        let client = client
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(options.limits.connect_ms))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tcp_nodelay(true)
            .user_agent(concat!("sampan/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|why| wrong(why.to_string()))?;
        Ok(Self { options, client, secret })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Asks whether it is well. An upstream without a path for that is asked for its models.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn check(&self, limit: Duration) -> std::result::Result<(), Fault> {
        let request = match &self.options.health_path {
            Some(path) => {
                let joined = reqwest::Url::parse(&self.options.url).and_then(|url| url.join(path));
                let url = joined.map_err(|why| Fault::Connect { reason: format!("the health path is none: {why}") })?;
                self.client.get(url)
            }
            None => self.client.get(self.url(match self.options.form {
                Form::OpenAi | Form::DashScope => "/models",
                Form::Anthropic => "/v1/models",
            })),
        };
        transport::probe(self.signed(request), limit).await
    }

    /// As [`Generate::generate`], with the exact fault.
    pub(crate) async fn generation(&self, request: &GenerateRequest) -> std::result::Result<EventStream, Fault> {
        self.start(request).await
    }

    async fn start(&self, request: &GenerateRequest) -> std::result::Result<EventStream, Fault> {
        let began = Instant::now();
        let model = self.model(request)?;
        let (path, body, decoder) = self.encode(request, model)?;
        let sent = self.client.post(self.url(path)).header(ACCEPT, "text/event-stream");
        let sent = sent.header("x-request-id", request.id.to_string());
        let sent = match self.options.form {
            Form::DashScope => sent.header("x-dashscope-sse", "enable"),
            Form::OpenAi | Form::Anthropic => sent,
        };
        let sent = self.signed(sent).header(CONTENT_TYPE, "application/json").body(body.to_string());
        let lines = transport::open(sent, self.options.limits, began).await?;
        let draft = Draft::new(estimate(request));
        let mut running = Running { pool: self.options.name.as_str().into(), lines, decoder, draft };
        let first = running.event().await?;
        let Some(first) = first else { return Err(Fault::Cut { reason: "it ended before it began".to_owned() }) };
        let rest = stream::unfold(Some(running), Running::step);
        Ok(Box::pin(futures::StreamExt::chain(stream::iter([Ok(first)]), rest)))
    }

    fn encode(
        &self,
        request: &GenerateRequest,
        model: &UpstreamModel,
    ) -> std::result::Result<(&'static str, Value, Decoder), Fault> {
        let name = &model.upstream;
        match (self.options.form, &request.prompt) {
            (Form::OpenAi, Prompt::Messages(messages)) => {
                let body = openai::chat(request, messages, name, self.options.server)?;
                Ok(("/chat/completions", body, Decoder::OpenAi(openai::Decoder::default())))
            }
            (Form::OpenAi, Prompt::Text(_) | Prompt::Tokens(_)) => {
                let body = openai::completion(request, name, self.options.server)?;
                Ok(("/completions", body, Decoder::OpenAi(openai::Decoder::default())))
            }
            (Form::Anthropic, Prompt::Messages(messages)) => {
                let body = anthropic::messages(request, messages, name, model.output_tokens_max)?;
                Ok(("/v1/messages", body, Decoder::Anthropic(anthropic::Decoder::default())))
            }
            (Form::DashScope, Prompt::Messages(messages)) => {
                let (path, body) = dashscope::generation(request, messages, name)?;
                Ok((path, body, Decoder::DashScope(dashscope::Decoder::default())))
            }
            (Form::Anthropic | Form::DashScope, Prompt::Text(_) | Prompt::Tokens(_)) => {
                Err(unsupported("a prompt of plain text or tokens", "this form holds conversations only"))
            }
        }
    }

    async fn count(&self, request: &GenerateRequest) -> std::result::Result<u32, Fault> {
        let model = self.model(request)?;
        let (url, body, field) = match (self.options.form, &request.prompt) {
            (Form::Anthropic, Prompt::Messages(messages)) => {
                let body = anthropic::count(request, messages, &model.upstream)?;
                (self.url("/v1/messages/count_tokens"), body, "input_tokens")
            }
            // Below the host, not below `/v1`: <https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html>.
            (Form::OpenAi, _) if self.options.server.is_vllm() => {
                let base = self.options.url.trim_end_matches('/');
                let url = format!("{}/tokenize", base.strip_suffix("/v1").unwrap_or(base));
                (url, openai::tokenize(request, &model.upstream, self.options.server)?, "count")
            }
            _ => return Err(unsupported("counting tokens", "this upstream's API cannot")),
        };
        let asked = self.signed(self.client.post(url)).header(CONTENT_TYPE, "application/json").body(body.to_string());
        let counted = transport::ask(asked, COUNT_LIMIT).await?;
        let count = counted.get(field).and_then(Value::as_u64);
        count.map(answer::tokens).ok_or_else(|| Fault::Garbage { what: format!("a count without {field}") })
    }

    fn model(&self, request: &GenerateRequest) -> std::result::Result<&UpstreamModel, Fault> {
        // The caller has looked: this is for a list that changed in between.
        let missing = || Fault::Failed { status: 404, message: format!("it has no model {:?}", request.model) };
        self.options.models.iter().find(|model| model.name == request.model).ok_or_else(missing)
    }

    fn known(&self, request: &GenerateRequest) -> chat::Result<()> {
        request.validate()?;
        match self.options.models.iter().any(|model| model.name == request.model) {
            true => Ok(()),
            false => Err(chat::Error::UnknownModel { model: request.model.clone() }),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.options.url.trim_end_matches('/'))
    }

    /// With the secret, marked so that no log of the client's shows it.
    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let request = match self.options.form {
            Form::Anthropic => request.header("anthropic-version", ANTHROPIC_VERSION),
            Form::OpenAi | Form::DashScope => request,
        };
        let Some(secret) = &self.secret else { return request };
        let (name, value) = match self.options.form {
            Form::Anthropic => ("x-api-key", secret.expose().to_owned()),
            Form::OpenAi | Form::DashScope => (AUTHORIZATION.as_str(), format!("Bearer {}", secret.expose())),
        };
        match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.header(name, value)
            }
            // `Secret` holds printable ASCII only.
            Err(_) => request,
        }
    }
}

impl Generate for Upstream {
    fn models(&self) -> Vec<ModelCard> {
        let card = |model: &UpstreamModel| ModelCard {
            id: model.name.clone(),
            owner: self.options.name.clone(),
            created_s: 0,
            context_tokens: model.context_tokens,
            facts: chat::ModelFacts::default(),
        };
        self.options.models.iter().map(card).collect()
    }

    fn context_tokens(&self, model: &str) -> Option<u32> {
        self.options.models.iter().find(|known| known.name == model).map(|known| known.context_tokens)
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<EventStream>> {
        async move {
            self.known(&request)?;
            self.start(&request).await.map_err(|fault| fault.of_pool(&self.options.name))
        }
        .boxed()
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, chat::Result<u32>> {
        async move {
            self.known(&request)?;
            self.count(&request).await.map_err(|fault| fault.of_pool(&self.options.name))
        }
        .boxed()
    }
}

enum Decoder {
    OpenAi(openai::Decoder),
    Anthropic(anthropic::Decoder),
    DashScope(dashscope::Decoder),
}

/// An answer that is being read.
struct Running {
    pool: Arc<str>,
    lines: Lines,
    decoder: Decoder,
    draft: Draft,
}

impl Running {
    /// The next event; `None` after the last one.
    async fn event(&mut self) -> std::result::Result<Option<Event>, Fault> {
        loop {
            if let Some(event) = self.draft.pop() {
                return Ok(Some(event));
            }
            if self.draft.is_finished() {
                self.lines.drain().await;
                return Ok(None);
            }
            match self.lines.next().await? {
                Some(event) => match &mut self.decoder {
                    Decoder::OpenAi(decoder) => decoder.push(&event, &mut self.draft)?,
                    Decoder::Anthropic(decoder) => decoder.push(&event, &mut self.draft)?,
                    Decoder::DashScope(decoder) => decoder.push(&event, &mut self.draft)?,
                },
                None => {
                    if let Decoder::DashScope(decoder) = &mut self.decoder {
                        decoder.end(&mut self.draft);
                    }
                    if !self.draft.is_finished() {
                        return Err(Fault::Cut { reason: "it ended without its last event".to_owned() });
                    }
                }
            }
        }
    }

    /// One step of a stream that ends behind its first error.
    async fn step(running: Option<Self>) -> Option<(chat::Result<Event>, Option<Self>)> {
        let mut running = running?;
        match running.event().await {
            Ok(event) => event.map(|event| (Ok(event), Some(running))),
            Err(fault) => Some((Err(fault.of_pool(&running.pool)), None)),
        }
    }
}

/// About how many tokens a prompt has, for upstreams that say it only at the end.
pub(crate) fn estimate(request: &GenerateRequest) -> u32 {
    if let Prompt::Tokens(tokens) = &request.prompt {
        return answer::tokens(tokens.len() as u64);
    }
    tokens_of_bytes(text_bytes(&request.prompt)).max(1)
}

/// About how many bytes a request sends: its text, and its pictures as base64.
pub(crate) fn bytes(request: &GenerateRequest) -> u64 {
    let Prompt::Messages(messages) = &request.prompt else { return text_bytes(&request.prompt) as u64 };
    let sources = messages.iter().flat_map(Message::sources);
    let pictures = sources.map(|source| match source {
        ImageSource::Bytes(bytes) => bytes.len().div_ceil(3) * 4,
        ImageSource::Url(url) => url.len(),
        ImageSource::File(id) => id.len(),
    });
    text_bytes(&request.prompt) as u64 + pictures.map(|bytes| bytes as u64).sum::<u64>()
}

fn text_bytes(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Tokens(tokens) => size_of_val(tokens.as_slice()),
        Prompt::Text(text) => text.len(),
        Prompt::Messages(messages) => messages.iter().map(message_bytes).sum(),
    }
}

fn message_bytes(message: &Message) -> usize {
    let calls: usize = message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len()).sum();
    message.plain_text().len() + message.reasoning.as_ref().map_or(0, String::len) + calls
}

fn unsupported(what: &str, why: &'static str) -> Fault {
    Fault::Unsupported { what: what.to_owned(), why }
}
