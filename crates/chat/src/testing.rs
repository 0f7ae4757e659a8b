//! For tests, here and in other crates: an implementation of [`Generate`] that plays a script, one of [`Embed`] that
//! counts words, and the suites that every implementation has to pass.
//!
//! [`Embed`]: crate::Embed

mod embed;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use base::{RequestId, Rng};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};

use crate::{
    Collector, Error, Event, EventStream, Finish, FinishReason, Generate, GenerateRequest, Message, ModelCard,
    ModelFacts, Prompt, Result, Role, Usage,
};

pub use embed::{Words, embed_conformance};

/// What [`Scripted`] does with one request.
#[derive(Debug)]
pub enum Script {
    /// Accepts it and plays these events, or errors, one by one.
    Play(Vec<Result<Event>>),
    /// Refuses it.
    Refuse(Error),
    /// Accepts it, plays these events and never ends.
    Hang(Vec<Event>),
}

impl Script {
    /// A whole answer of these pieces of text.
    #[must_use]
    pub fn text(pieces: &[&str]) -> Self {
        let output_tokens = pieces.iter().map(|_| 1).sum();
        let usage = Usage { prompt_tokens: 1, cached_tokens: 0, output_tokens, reasoning_tokens: 0 };
        let texts = pieces.iter().map(|&piece| Event::Text(piece.to_owned()));
        let finished = Event::Finished(Finish { reason: FinishReason::Stop, stop: None, usage });
        let events = [Event::Started { prompt_tokens: 1 }].into_iter().chain(texts).chain([finished]);
        Self::Play(events.map(Ok).collect())
    }
}

/// Plays one script a request, in order, and remembers the requests.
#[derive(Debug)]
pub struct Scripted {
    models: Vec<ModelCard>,
    scripts: Mutex<VecDeque<Script>>,
    requests: Mutex<Vec<GenerateRequest>>,
}

impl Scripted {
    /// One that serves a model of this name.
    #[must_use]
    pub fn new(model: &str, scripts: Vec<Script>) -> Self {
        Self { models: vec![card(model)], scripts: Mutex::new(scripts.into()), requests: Mutex::default() }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<GenerateRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check(&self, request: &GenerateRequest) -> Result<()> {
        request.validate()?;
        match self.models.iter().any(|card| card.id == request.model) {
            true => Ok(()),
            false => Err(Error::UnknownModel { model: request.model.clone() }),
        }
    }

    fn answer(&self, request: GenerateRequest) -> Result<EventStream> {
        self.check(&request)?;
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let script = self.scripts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match script {
            Some(Script::Play(events)) => Ok(stream::iter(events).boxed()),
            Some(Script::Refuse(error)) => Err(error),
            Some(Script::Hang(events)) => Ok(stream::iter(events.into_iter().map(Ok)).chain(stream::pending()).boxed()),
            None => Err(Error::Interrupted { reason: "no script is left".to_owned() }),
        }
    }
}

impl Generate for Scripted {
    fn models(&self) -> Vec<ModelCard> {
        self.models.clone()
    }

    fn generate(&self, request: GenerateRequest) -> BoxFuture<'_, Result<EventStream>> {
        async move { self.answer(request) }.boxed()
    }

    /// One token for each word of a text or message, or each token of a prompt of tokens.
    fn count_tokens(&self, request: GenerateRequest) -> BoxFuture<'_, Result<u32>> {
        let words = |text: &str| text.split_whitespace().count();
        let counted = self.check(&request).map(|()| match &request.prompt {
            Prompt::Messages(messages) => messages.iter().map(|message| words(&message.plain_text())).sum(),
            Prompt::Text(text) => words(text),
            Prompt::Tokens(tokens) => tokens.len(),
        });
        if counted.is_ok() {
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        }
        async move { Ok(counted? as u32) }.boxed()
    }
}

fn card(model: &str) -> ModelCard {
    ModelCard {
        id: model.to_owned(),
        owner: "test".to_owned(),
        created_s: 1_700_000_000,
        context_tokens: 4096,
        facts: ModelFacts {
            architecture: "qwen3".to_owned(),
            container: "safetensors".to_owned(),
            weight_format: "BF16".to_owned(),
            parameters: 596_049_920,
            size_bytes: 1_192_099_840,
            vision: true,
            tools: true,
            thinking: true,
            chat_template: "{{ messages }}".to_owned(),
        },
    }
}

/// A short conversation with a model.
#[must_use]
pub fn request(model: &str, text: &str) -> GenerateRequest {
    let id = RequestId::random(&mut Rng::seeded(1));
    let mut request = GenerateRequest::new(id, model, Prompt::Messages(vec![Message::text(Role::User, text)]));
    request.max_tokens = Some(8);
    request
}

/// Reads a stream to its end and checks its form: `Started` first, then one `Finished` or one error, nothing after it,
/// and counts that agree. Returns the events before an error, and the error.
///
/// # Panics
/// If the stream breaks a rule.
pub async fn check_stream(mut events: EventStream) -> (Vec<Event>, Option<Error>) {
    let mut collector = Collector::default();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                assert!(events.next().await.is_none(), "something follows the error {error}");
                return (seen, Some(error));
            }
        };
        if let Event::Text(piece) | Event::Reasoning(piece) = &event {
            assert!(!piece.is_empty(), "an empty piece says nothing");
        }
        seen.push(event.clone());
        collector.push(event).unwrap_or_else(|error| panic!("{error}, after {seen:?}"));
    }
    let answer = collector.finish().unwrap_or_else(|error| panic!("{error}: {seen:?}"));
    let usage = answer.finish.usage;
    assert!(usage.cached_tokens <= usage.prompt_tokens, "{usage:?}");
    assert!(usage.reasoning_tokens <= usage.output_tokens, "{usage:?}");
    (seen, None)
}

/// What every [`Generate`] does: lists its models, counts prompts, streams a whole answer, keeps `max_tokens`,
/// refuses unknown models
/// and settings out of range before it accepts, and survives a stream that is dropped.
///
/// # Panics
/// If it does otherwise.
pub async fn conformance(generate: &dyn Generate) {
    let models = generate.models();
    let model = &models.first().expect("it has a model").id;
    for _ in 0..2 {
        let events = generate.generate(request(model, "Hi")).await.expect("a plain request is accepted");
        let (seen, error) = check_stream(events).await;
        assert!(error.is_none(), "{error:?}");
        let (Some(Event::Started { prompt_tokens }), Some(Event::Finished(finish))) = (seen.first(), seen.last())
        else {
            panic!("{seen:?}");
        };
        assert!(finish.usage.output_tokens <= 8, "{finish:?}");
        assert_eq!(*prompt_tokens, finish.usage.prompt_tokens, "Started and Finished count the prompt alike");
    }
    let unknown = generate.generate(request("no such model", "Hi")).await;
    assert!(matches!(unknown.err(), Some(Error::UnknownModel { .. })));
    let counted = generate.count_tokens(request("no such model", "Hi")).await;
    assert!(matches!(counted.err(), Some(Error::UnknownModel { .. })));
    let short = generate.count_tokens(request(model, "Hi")).await.expect("a plain request is counted");
    let long = generate.count_tokens(request(model, &"Hi ".repeat(50))).await.expect("a plain request is counted");
    assert!(0 < short && short < long, "{short} and {long} tokens");
    let mut hot = request(model, "Hi");
    hot.sampling.temperature = Some(-1.0);
    let refused = generate.generate(hot).await;
    assert!(matches!(refused.err(), Some(Error::OutOfRange { name: "temperature", .. })));
    let mut dropped = generate.generate(request(model, "Hi")).await.expect("a plain request is accepted");
    assert!(matches!(dropped.next().await, Some(Ok(Event::Started { .. }))), "a stream begins with Started");
    drop(dropped);
    let events = generate.generate(request(model, "Hi")).await.expect("a request after a dropped one is accepted");
    assert!(check_stream(events).await.1.is_none());
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::{Script, Scripted, check_stream, conformance, request};
    use crate::{Content, Error, Event, Generate as _, collect};

    #[test]
    fn the_fake_passes_the_suite() {
        let scripts = (0..4).map(|_| Script::text(&["Hel", "lo"])).collect();
        let scripted = Scripted::new("m", scripts);
        conformance(&scripted).now_or_never().expect("the fake never waits");
        assert_eq!(scripted.requests().len(), 6, "four were answered, two counted");
    }

    fn play(events: Vec<crate::Result<Event>>) -> (Vec<Event>, Option<Error>) {
        let scripted = Scripted::new("m", vec![Script::Play(events)]);
        let events = scripted.generate(request("m", "Hi")).now_or_never().unwrap().unwrap();
        check_stream(events).now_or_never().unwrap()
    }

    #[test]
    fn an_error_ends_a_stream() {
        let shutting_down = || Err(Error::ShuttingDown);
        let (seen, error) = play(vec![Ok(Event::Started { prompt_tokens: 1 }), shutting_down()]);
        assert_eq!(seen.len(), 1);
        assert!(matches!(error, Some(Error::ShuttingDown)));
    }

    #[test]
    #[should_panic(expected = "without a final event")]
    fn a_cut_stream_is_noticed() {
        play(vec![Ok(Event::Started { prompt_tokens: 1 }), Ok(Event::Text("a".to_owned()))]);
    }

    #[test]
    #[should_panic(expected = "follows the error")]
    fn what_follows_an_error_is_noticed() {
        play(vec![Err(Error::ShuttingDown), Err(Error::ShuttingDown)]);
    }

    #[test]
    fn streams_are_collected() {
        let scripted = Scripted::new("m", vec![Script::text(&["Hel", "lo"]), Script::Refuse(Error::ShuttingDown)]);
        let stream = scripted.generate(request("m", "Hi")).now_or_never().unwrap().unwrap();
        let answer = collect(stream).now_or_never().unwrap().unwrap();
        assert_eq!(answer.message.content, Content::Text("Hello".to_owned()));
        assert!(scripted.generate(request("m", "Hi")).now_or_never().unwrap().is_err());
    }
}
