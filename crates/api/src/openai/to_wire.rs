//! Events to wire forms: one state struct for each kind of stream, no side effects.

use axum::body::Bytes;
use base::RequestId;
use chat::{Answer, Content, Event, Finish, FinishReason, Logprob, TokenLogprobs, ToolCall, Usage};

use super::Failure;
use super::types::{
    AnswerMessage, ChatChoice, ChatChunk, ChatCompletion, ChatLogprob, ChatLogprobs, ChunkChoice, Completion,
    CompletionChoice, CompletionDetails, CompletionLogprobs, Delta, PromptDetails, WireFunction, WireLogprob,
    WireToolCall, WireUsage,
};
use crate::answer::Wire;
use crate::sse;

/// What every object of one response repeats.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created_s: u64,
    pub(super) model: String,
    /// Choices that share a prompt; it is counted once.
    pub(super) choices_per_prompt: usize,
}

impl Head {
    /// What the choices cost together.
    fn total(&self, parts: impl Iterator<Item = (usize, Usage)>) -> Usage {
        parts.fold(Usage::default(), |sum, (choice, part)| {
            let is_first = u32::from(choice.is_multiple_of(self.choices_per_prompt));
            Usage {
                prompt_tokens: sum.prompt_tokens + is_first * part.prompt_tokens,
                cached_tokens: sum.cached_tokens + is_first * part.cached_tokens,
                output_tokens: sum.output_tokens + part.output_tokens,
                reasoning_tokens: sum.reasoning_tokens + part.reasoning_tokens,
            }
        })
    }
}

/// A chat answer in one piece.
pub(super) fn chat_completion(head: &Head, answers: Vec<Answer>, logprobs: bool) -> String {
    let usage = head.total(answers.iter().map(|answer| answer.finish.usage).enumerate());
    let choice = |(index, answer): (usize, Answer)| ChatChoice {
        index: index as u32,
        finish_reason: reason(answer.finish.reason),
        logprobs: logprobs.then(|| chat_logprobs(&answer.logprobs)),
        message: AnswerMessage {
            role: "assistant",
            content: text(answer.message.content),
            refusal: None,
            reasoning_content: answer.message.reasoning,
            tool_calls: answer.message.tool_calls.into_iter().map(whole_call).collect(),
        },
    };
    json(&ChatCompletion {
        id: &head.id,
        object: "chat.completion",
        created: head.created_s,
        model: &head.model,
        choices: answers.into_iter().enumerate().map(choice).collect(),
        usage: wire_usage(usage),
    })
}

/// A completion in one piece.
pub(super) fn completion(head: &Head, answers: Vec<Answer>, logprobs: bool) -> String {
    let usage = head.total(answers.iter().map(|answer| answer.finish.usage).enumerate());
    let choice = |(index, answer): (usize, Answer)| CompletionChoice {
        index: index as u32,
        logprobs: logprobs.then(|| completion_logprobs(&answer.logprobs, &mut 0)),
        finish_reason: Some(reason(answer.finish.reason)),
        text: text(answer.message.content).unwrap_or_default(),
    };
    json(&Completion {
        id: &head.id,
        object: "text_completion",
        created: head.created_s,
        model: &head.model,
        choices: answers.into_iter().enumerate().map(choice).collect(),
        usage: Some(wire_usage(usage)),
    })
}

/// The chunks of a streamed chat answer.
pub(super) struct ChatStream {
    head: Head,
    id: RequestId,
    include_usage: bool,
    /// Log probabilities that wait for the next chunk, by choice.
    pending: Vec<Vec<TokenLogprobs>>,
    /// By choice.
    used: Vec<(usize, Usage)>,
}

impl ChatStream {
    pub(super) fn new(head: Head, id: RequestId, choices: usize, include_usage: bool) -> Self {
        let pending = (0..choices).map(|_| Vec::new()).collect();
        Self { head, id, include_usage, pending, used: Vec::new() }
    }

    /// The chunk of an event, if it has one.
    fn push(&mut self, index: u32, event: Event) -> Option<Bytes> {
        let call = |index, id, kind: Option<&str>, name, arguments| Delta {
            tool_calls: vec![WireToolCall {
                index: Some(index),
                id,
                kind: kind.map(str::to_owned),
                function: WireFunction { name, arguments },
            }],
            ..Delta::default()
        };
        let delta = match event {
            Event::Started { .. } => {
                Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() }
            }
            Event::Text(text) => Delta { content: Some(text), ..Delta::default() },
            Event::Reasoning(text) => Delta { reasoning_content: Some(text), ..Delta::default() },
            Event::ToolCallStarted { index, id, name } => {
                call(index, Some(id), Some("function"), Some(name), String::new())
            }
            Event::ToolCallArguments { index, fragment } => call(index, None, None, None, fragment),
            Event::Logprobs(more) => {
                self.pending[index as usize].extend(more);
                return None;
            }
            Event::Warning(_) => return None,
            Event::Finished(finish) => return Some(self.finish(index, &finish)),
        };
        Some(self.chunk(index, delta, None))
    }

    fn finish(&mut self, index: u32, finish: &Finish) -> Bytes {
        self.used.push((index as usize, finish.usage));
        self.chunk(index, Delta::default(), Some(reason(finish.reason)))
    }

    fn chunk(&mut self, index: u32, delta: Delta, finish_reason: Option<&'static str>) -> Bytes {
        let pending = std::mem::take(&mut self.pending[index as usize]);
        let logprobs = (!pending.is_empty()).then(|| chat_logprobs(&pending));
        let choices = vec![ChunkChoice { index, delta, logprobs, finish_reason }];
        self.object(choices, self.include_usage.then_some(None))
    }

    /// What follows the last choice.
    fn last(&self) -> Vec<Bytes> {
        let usage = wire_usage(self.head.total(self.used.iter().copied()));
        let usage = self.include_usage.then(|| self.object(Vec::new(), Some(Some(usage))));
        usage.into_iter().chain([done()]).collect()
    }

    #[expect(clippy::option_option, reason = "JSON tells absent and null apart")]
    fn object(&self, choices: Vec<ChunkChoice>, usage: Option<Option<WireUsage>>) -> Bytes {
        let Head { id, created_s, model, .. } = &self.head;
        sse::data(&json(&ChatChunk { id, object: "chat.completion.chunk", created: *created_s, model, choices, usage }))
    }
}

impl Wire for ChatStream {
    fn event(&mut self, choice: u32, event: Event) -> Vec<Bytes> {
        self.push(choice, event).into_iter().collect()
    }

    fn end(&mut self) -> Vec<Bytes> {
        self.last()
    }

    fn failed(&mut self, error: &chat::Error) -> Vec<Bytes> {
        vec![sse::data(&Failure::of(error, self.id).body())]
    }
}

/// The chunks of a streamed completion.
pub(super) struct CompletionStream {
    head: Head,
    id: RequestId,
    include_usage: bool,
    pending: Vec<Vec<TokenLogprobs>>,
    /// Characters of each choice so far.
    offsets: Vec<u64>,
    /// By choice.
    used: Vec<(usize, Usage)>,
}

impl CompletionStream {
    pub(super) fn new(head: Head, id: RequestId, choices: usize, include_usage: bool) -> Self {
        let pending = (0..choices).map(|_| Vec::new()).collect();
        Self { head, id, include_usage, pending, offsets: vec![0; choices], used: Vec::new() }
    }

    /// The chunk of an event, if it has one.
    fn push(&mut self, index: u32, event: Event) -> Option<Bytes> {
        let (text, finish_reason) = match event {
            Event::Text(text) => (text, None),
            Event::Finished(finish) => {
                self.used.push((index as usize, finish.usage));
                (String::new(), Some(reason(finish.reason)))
            }
            Event::Logprobs(more) => {
                self.pending[index as usize].extend(more);
                return None;
            }
            // A completion is text as it is: nothing in it is reasoning or a call.
            Event::Started { .. }
            | Event::Reasoning(_)
            | Event::ToolCallStarted { .. }
            | Event::ToolCallArguments { .. }
            | Event::Warning(_) => return None,
        };
        let pending = std::mem::take(&mut self.pending[index as usize]);
        let offset = &mut self.offsets[index as usize];
        let logprobs = (!pending.is_empty()).then(|| completion_logprobs(&pending, offset));
        Some(self.object(vec![CompletionChoice { index, text, logprobs, finish_reason }], None))
    }

    /// What follows the last choice.
    fn last(&self) -> Vec<Bytes> {
        let usage = wire_usage(self.head.total(self.used.iter().copied()));
        let usage = self.include_usage.then(|| self.object(Vec::new(), Some(usage)));
        usage.into_iter().chain([done()]).collect()
    }

    fn object(&self, choices: Vec<CompletionChoice>, usage: Option<WireUsage>) -> Bytes {
        let Head { id, created_s, model, .. } = &self.head;
        sse::data(&json(&Completion { id, object: "text_completion", created: *created_s, model, choices, usage }))
    }
}

impl Wire for CompletionStream {
    fn event(&mut self, choice: u32, event: Event) -> Vec<Bytes> {
        self.push(choice, event).into_iter().collect()
    }

    fn end(&mut self) -> Vec<Bytes> {
        self.last()
    }

    fn failed(&mut self, error: &chat::Error) -> Vec<Bytes> {
        vec![sse::data(&Failure::of(error, self.id).body())]
    }
}

fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("wire structs have string keys")
}

/// An answer that is only tool calls has no content rather than an empty one.
fn text(content: Content) -> Option<String> {
    match content {
        Content::Text(text) => Some(text),
        Content::None | Content::Parts(_) => None,
    }
}

fn whole_call(call: ToolCall) -> WireToolCall {
    let function = WireFunction { name: Some(call.name), arguments: call.arguments };
    WireToolCall { index: None, id: Some(call.id), kind: Some("function".to_owned()), function }
}

fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

fn wire_usage(usage: Usage) -> WireUsage {
    WireUsage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.output_tokens,
        total_tokens: usage.prompt_tokens + usage.output_tokens,
        prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens },
        completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning_tokens },
    }
}

fn chat_logprobs(tokens: &[TokenLogprobs]) -> ChatLogprobs {
    let content = tokens.iter().map(|token| ChatLogprob {
        chosen: wire_logprob(&token.chosen),
        top_logprobs: token.top.iter().map(wire_logprob).collect(),
    });
    ChatLogprobs { content: content.collect(), refusal: None }
}

fn wire_logprob(logprob: &Logprob) -> WireLogprob {
    WireLogprob { token: text_of(logprob), logprob: logprob.logprob, bytes: logprob.bytes.clone() }
}

/// A token's bytes as text; a part of a character shows as U+FFFD, the exact bytes stand beside it.
fn text_of(logprob: &Logprob) -> String {
    String::from_utf8_lossy(&logprob.bytes).into_owned()
}

fn completion_logprobs(tokens: &[TokenLogprobs], offset: &mut u64) -> CompletionLogprobs {
    let mut wire = CompletionLogprobs::default();
    for token in tokens {
        let text = text_of(&token.chosen);
        wire.text_offset.push(*offset);
        *offset += text.chars().count() as u64;
        wire.tokens.push(text);
        wire.token_logprobs.push(token.chosen.logprob);
        let top = token.top.iter().filter_map(|logprob| Some((text_of(logprob), logprob.logprob?)));
        // The first token of a prompt has neither.
        wire.top_logprobs.push(token.chosen.logprob.map(|_| top.collect()));
    }
    wire
}
