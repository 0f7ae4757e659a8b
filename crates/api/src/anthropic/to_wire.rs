//! Events to wire forms: no side effects.

use axum::body::Bytes;
use base::RequestId;
use chat::{Answer, Content, Error, Event, Finish, FinishReason, Result, StopMatch, ToolCall, Usage};
use serde_json::Map;

use super::Failure;
use super::types::{AnswerBlock, BlockDelta, MessageEnd, StreamEvent, WireAnswer, WireUsage};
use crate::answer::Wire;
use crate::sse;

/// We sign no thoughts; the field is required.
const NO_SIGNATURE: &str = "";

/// What is said of the message besides its content.
pub(super) struct Head {
    pub(super) request: RequestId,
    /// `msg_…`.
    pub(super) id: String,
    pub(super) model: String,
    /// As the request had it.
    pub(super) max_tokens: u32,
}

/// A message in one piece.
///
/// # Errors
/// If the arguments of a call are no JSON object, which the vendor's form cannot hold.
pub(super) fn message(head: &Head, answer: Answer) -> Result<String> {
    let mut content = Vec::new();
    if let Some(thinking) = answer.message.reasoning {
        content.push(AnswerBlock::Thinking { thinking, signature: NO_SIGNATURE });
    }
    if let Content::Text(text) = answer.message.content
        && !text.is_empty()
    {
        content.push(AnswerBlock::Text { text });
    }
    for call in answer.message.tool_calls {
        content.push(tool_use(call)?);
    }
    let (stop_reason, stop_sequence) = stop(&answer.finish, head.max_tokens);
    Ok(json(&WireAnswer {
        id: &head.id,
        kind: "message",
        role: "assistant",
        model: &head.model,
        content,
        stop_reason: Some(stop_reason),
        stop_sequence,
        usage: usage(answer.finish.usage),
    }))
}

fn tool_use(call: ToolCall) -> Result<AnswerBlock> {
    let input = serde_json::from_str(&call.arguments).map_err(|why| Error::Interrupted {
        reason: format!("the arguments of the call {} are no JSON object: {why}", call.id),
    })?;
    Ok(AnswerBlock::ToolUse { id: call.id, name: call.name, input })
}

/// The events of a streamed message.
pub(super) struct MessageStream {
    head: Head,
    open: Open,
    /// Blocks so far.
    blocks: u32,
    /// The block of each call.
    calls: Vec<u32>,
}

/// Which block is being written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    Thinking,
    Call,
}

impl MessageStream {
    pub(super) fn new(head: Head) -> Self {
        Self { head, open: Open::Nothing, blocks: 0, calls: Vec::new() }
    }

    fn start(&self, prompt_tokens: u32) -> Bytes {
        let usage = Usage { prompt_tokens, ..Usage::default() };
        line(&StreamEvent::MessageStart {
            message: WireAnswer {
                id: &self.head.id,
                kind: "message",
                role: "assistant",
                model: &self.head.model,
                content: Vec::new(),
                stop_reason: None,
                stop_sequence: None,
                usage: self::usage(usage),
            },
        })
    }

    /// Begins a block, and ends the one before it.
    fn begin(&mut self, kind: Open, content_block: AnswerBlock, events: &mut Vec<Bytes>) {
        self.close(events);
        events.push(line(&StreamEvent::ContentBlockStart { index: self.blocks, content_block }));
        self.open = kind;
        self.blocks += 1;
    }

    fn close(&mut self, events: &mut Vec<Bytes>) {
        if self.open != Open::Nothing {
            events.push(line(&StreamEvent::ContentBlockStop { index: self.blocks - 1 }));
            self.open = Open::Nothing;
        }
    }

    fn text(&mut self, text: String, events: &mut Vec<Bytes>) {
        if self.open != Open::Text {
            self.begin(Open::Text, AnswerBlock::Text { text: String::new() }, events);
        }
        events.push(delta(self.blocks - 1, BlockDelta::Text { text }));
    }

    fn thinking(&mut self, thinking: String, events: &mut Vec<Bytes>) {
        if self.open != Open::Thinking {
            let block = AnswerBlock::Thinking { thinking: String::new(), signature: NO_SIGNATURE };
            self.begin(Open::Thinking, block, events);
        }
        events.push(delta(self.blocks - 1, BlockDelta::Thinking { thinking }));
    }

    fn finish(&mut self, finish: &Finish, events: &mut Vec<Bytes>) {
        self.close(events);
        let (stop_reason, stop_sequence) = stop(finish, self.head.max_tokens);
        let delta = MessageEnd { stop_reason, stop_sequence };
        events.push(line(&StreamEvent::MessageDelta { delta, usage: usage(finish.usage) }));
    }
}

impl Wire for MessageStream {
    fn event(&mut self, _choice: u32, event: Event) -> Vec<Bytes> {
        let mut events = Vec::new();
        match event {
            Event::Started { prompt_tokens } => events.push(self.start(prompt_tokens)),
            Event::Text(text) => self.text(text, &mut events),
            Event::Reasoning(thinking) => self.thinking(thinking, &mut events),
            Event::ToolCallStarted { id, name, .. } => {
                let block = AnswerBlock::ToolUse { id, name, input: Map::new() };
                self.calls.push(self.blocks);
                self.begin(Open::Call, block, &mut events);
            }
            Event::ToolCallArguments { index, fragment } => {
                let block = self.calls.get(index as usize).copied().unwrap_or(self.blocks);
                events.push(delta(block, BlockDelta::InputJson { partial_json: fragment }));
            }
            Event::Logprobs(_) | Event::Warning(_) => {}
            Event::Finished(finish) => self.finish(&finish, &mut events),
        }
        events
    }

    fn end(&mut self) -> Vec<Bytes> {
        vec![line(&StreamEvent::MessageStop)]
    }

    fn failed(&mut self, error: &Error) -> Vec<Bytes> {
        let id = self.head.request;
        vec![sse::named("error", &Failure::of(error, id).body(Some(id)))]
    }
}

fn delta(index: u32, delta: BlockDelta) -> Bytes {
    line(&StreamEvent::ContentBlockDelta { index, delta })
}

fn line(event: &StreamEvent<'_>) -> Bytes {
    sse::named(event.name(), &json(event))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("wire structs have string keys")
}

/// Why it ended, and the stop sequence if one did it.
fn stop(finish: &Finish, max_tokens: u32) -> (&'static str, Option<String>) {
    match (finish.reason, &finish.stop) {
        (FinishReason::ToolCalls, _) => ("tool_use", None),
        (FinishReason::Stop, Some(StopMatch::String(string))) => ("stop_sequence", Some(string.clone())),
        (FinishReason::Stop, _) => ("end_turn", None),
        (FinishReason::Length, _) if finish.usage.output_tokens < max_tokens => ("model_context_window_exceeded", None),
        (FinishReason::Length, _) => ("max_tokens", None),
    }
}

/// The vendor counts tokens that were read from a cache apart from the others.
fn usage(usage: Usage) -> WireUsage {
    WireUsage {
        input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: usage.cached_tokens,
        output_tokens: usage.output_tokens,
    }
}
