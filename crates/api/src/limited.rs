//! Requests and tokens per minute, and answers at one time: [`Limited`] stands around whatever answers, and every
//! answer says in its headers how its caller stands (`headers`).
//!
//! Lines of batches pass: they wait behind everybody else anyway.

mod headers;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use base::Clock;
use chat::{
    Caller, Embed, EmbedInput, EmbedRequest, Embeddings, Error, Event, EventStream, Generate, GenerateRequest,
    ModelCard, Priority, Relevance, RerankRequest, Result,
};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream};
use ledger::limit::{Asked, Gate, Holder, Limit, Measure, Refused, Ticket, expected_tokens};

pub(crate) use headers::tell;
use headers::{Told, Wait, note};

/// Bytes of a token, about.
const TOKEN_BYTES: u64 = 4;

/// The limits of a process, and what is used of them.
pub struct Limits {
    clock: Arc<dyn Clock>,
    /// Those of the configuration. What stands with the accounts comes before them.
    configured: Vec<Limit>,
    gate: Mutex<Gate>,
}

impl Limits {
    /// With the limits of the configuration.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, configured: Vec<Limit>) -> Arc<Self> {
        let gate = Mutex::new(Gate::new(&configured));
        Arc::new(Self { clock, configured, gate })
    }

    /// Puts those that stand with the accounts in force. What was used stays used.
    pub fn set(&self, accounts: Vec<Limit>) {
        let all: Vec<Limit> = self.configured.iter().cloned().chain(accounts).collect();
        self.gate().set(&all);
    }

    /// Those of the configuration that nothing among these comes before.
    pub(crate) fn configured_beside(&self, accounts: &[Limit]) -> Vec<Limit> {
        let is_set =
            |limit: &Limit| accounts.iter().any(|set| (&set.holder, set.measure) == (&limit.holder, limit.measure));
        self.configured.iter().filter(|limit| !is_set(limit)).cloned().collect()
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // What is counted is whole between any two statements that hold the lock.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, or says why not; either way its answer will say how its caller stands.
    fn enter(self: &Arc<Self>, caller: Option<&Caller>, model: &str, tokens: u64) -> Result<Option<Pass>> {
        if caller.is_some_and(|caller| caller.priority == Priority::Background) {
            return Ok(None);
        }
        let mut holders = vec![Holder::model(model)];
        if let Some(caller) = caller {
            holders.extend([Holder::key(&caller.key), Holder::project(&caller.project)]);
        }
        let (asked, now_us) = (Asked { holders, tokens }, self.clock.monotonic_us());
        let mut gate = self.gate();
        let admitted = gate.admit(&asked, now_us);
        let standing = |measure| gate.standing(&asked.holders, measure, now_us);
        let (requests, tokens) = (standing(Measure::Requests), standing(Measure::Tokens));
        drop(gate);
        let refused = admitted.as_ref().err().map(|refused| refused.wait_us.map_or(Wait::Never, Wait::Us));
        note(Told { requests, tokens, refused });
        match admitted {
            Ok(ticket) => Ok(Some(Pass { limits: Arc::clone(self), ticket: Some(ticket), used: 0 })),
            Err(refused) => Err(Error::LimitReached { measure: refused.measure.name(), reason: reason(&refused) }),
        }
    }
}

/// Why somebody is not let in, for a person.
fn reason(refused: &Refused) -> String {
    let Refused { holder, measure, limit, used, asked, wait_us } = refused;
    let what = match measure {
        Measure::Requests => "requests per minute",
        Measure::Tokens => "tokens per minute",
        Measure::Concurrent => "answers at one time",
    };
    let begin = format!("Rate limit reached for {holder} on {what}: limit {limit}, used {used}, requested {asked}.");
    match (measure, wait_us) {
        (Measure::Concurrent, _) => format!("{begin} Please try again when one of them is over."),
        (_, Some(wait_us)) => format!("{begin} Please try again in {}.", headers::span(*wait_us)),
        (_, None) => format!("{begin} It is more than ever comes at once: please ask for less."),
    }
}

/// A place that somebody has. Dropped, it is given back, and what was used is counted.
struct Pass {
    limits: Arc<Limits>,
    ticket: Option<Ticket>,
    used: u64,
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let now_us = self.limits.clock.monotonic_us();
            self.limits.gate().leave(ticket, self.used, now_us);
        }
    }
}

/// Whatever answers, within limits.
pub struct Limited<G: ?Sized> {
    limits: Arc<Limits>,
    inner: Arc<G>,
}

impl<G: ?Sized> Limited<G> {
    /// Stands around `inner`.
    #[must_use]
    pub fn new(limits: Arc<Limits>, inner: Arc<G>) -> Self {
        Self { limits, inner }
    }
}

impl<G: Generate + ?Sized> Generate for Limited<G> {
    fn models(&self) -> Vec<ModelCard> {
        self.inner.models()
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, Result<EventStream>> {
        async move {
            request.validate()?;
            let tokens = expected_tokens(&request);
            let Some(pass) = self.limits.enter(request.caller.as_ref(), &request.model, tokens)? else {
                return self.inner.generate(request).await;
            };
            let events = self.inner.generate(request).await?;
            Ok(Box::pin(Counted { events, pass: Some(pass), prompt: 0, output: 0 }) as EventStream)
        }
        .boxed()
    }

    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, Result<u32>> {
        self.inner.count_tokens(request)
    }
}

impl<E: Embed + ?Sized> Embed for Limited<E> {
    fn embedding_models(&self) -> Vec<ModelCard> {
        self.inner.embedding_models()
    }

    fn reranking_models(&self) -> Vec<ModelCard> {
        self.inner.reranking_models()
    }

    fn embeds(&self, model: &str) -> Result<()> {
        self.inner.embeds(model)
    }

    fn ranks(&self, model: &str) -> Result<()> {
        self.inner.ranks(model)
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, Result<Embeddings>> {
        async move {
            request.validate()?;
            self.inner.embeds(&request.model)?;
            let input = |input: &EmbedInput| match input {
                EmbedInput::Text(text) => text.len() as u64 / TOKEN_BYTES,
                EmbedInput::Tokens(tokens) => tokens.len() as u64,
            };
            let tokens = request.inputs.iter().map(input).sum();
            let pass = self.limits.enter(request.caller.as_ref(), &request.model, tokens)?;
            let answer = self.inner.embed(request).await?;
            count(pass, answer.prompt_tokens);
            Ok(answer)
        }
        .boxed()
    }

    fn rerank(&self, request: RerankRequest) -> BoxFuture<'_, Result<Relevance>> {
        async move {
            request.validate()?;
            self.inner.ranks(&request.model)?;
            let pair = |document: &String| (document.len() + request.query.len()) as u64 / TOKEN_BYTES;
            let tokens = request.documents.iter().map(pair).sum();
            let pass = self.limits.enter(request.caller.as_ref(), &request.model, tokens)?;
            let answer = self.inner.rerank(request).await?;
            count(pass, answer.prompt_tokens);
            Ok(answer)
        }
        .boxed()
    }
}

/// Gives a place back after so many tokens.
fn count(pass: Option<Pass>, tokens: u32) {
    if let Some(mut pass) = pass {
        pass.used = u64::from(tokens);
    }
}

/// An answer that holds a place until it is over, or nobody reads it any more.
struct Counted {
    events: EventStream,
    pass: Option<Pass>,
    prompt: u64,
    output: u64,
}

impl Counted {
    fn see(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens } => self.prompt = u64::from(*prompt_tokens),
            // A piece is a token at least.
            Event::Text(text) | Event::Reasoning(text) | Event::ToolCallArguments { fragment: text, .. } => {
                self.output += (text.len() as u64 / TOKEN_BYTES).max(1);
            }
            Event::ToolCallStarted { .. } => self.output += 1,
            Event::Logprobs(_) | Event::Warning(_) => {}
            Event::Finished(finish) => {
                (self.prompt, self.output) =
                    (u64::from(finish.usage.prompt_tokens), u64::from(finish.usage.output_tokens));
            }
        }
        if let Some(pass) = &mut self.pass {
            pass.used = self.prompt + self.output;
        }
        if matches!(event, Event::Finished(_)) {
            // Whoever reads the last event may ask again at once.
            self.pass = None;
        }
    }
}

impl Stream for Counted {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.events.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(Ok(event))) => self.see(event),
            Poll::Ready(Some(Err(_)) | None) => self.pass = None,
            Poll::Pending => {}
        }
        next
    }
}
