//! Anthropic's form: <https://docs.anthropic.com/en/api/messages-streaming>.

mod encode;

use chat::{FinishReason, StopMatch, Usage};
use serde::Deserialize;
use serde_json::Value;

use super::answer::{Draft, tokens};
use super::sse;
use super::transport::{error_words, printable};
use crate::Fault;

pub(super) use encode::{count, messages};

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum StreamEvent {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        index: u64,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u64,
        delta: Delta,
    },
    MessageDelta {
        delta: End,
        usage: Option<WireUsage>,
    },
    MessageStop,
    Error {
        error: Value,
    },
    /// `ping`, `content_block_stop`, and what the vendor will add.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Start {
    usage: WireUsage,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    Thinking {
        #[serde(default)]
        thinking: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct End {
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

/// Figures so far; those of the last event count. Tokens from and to the cache are counted apart from the others.
#[derive(Deserialize)]
struct WireUsage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// Events to events. The answer is whole where a reason for its end *and* `message_stop` came.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    input: u64,
    written: u64,
    read: u64,
    output: u64,
    end: Option<(FinishReason, Option<StopMatch>)>,
    /// A call whose arguments stand in its first event, in case no pieces follow.
    whole_arguments: Option<(u32, String)>,
}

impl Decoder {
    pub(super) fn push(&mut self, event: &sse::Event, draft: &mut Draft) -> Result<(), Fault> {
        let event: StreamEvent = serde_json::from_str(&event.data)
            .map_err(|why| Fault::Garbage { what: format!("an event that is none ({why})") })?;
        match event {
            StreamEvent::MessageStart { message } => {
                self.count(&message.usage);
                draft.start(Some(self.usage().prompt_tokens));
            }
            StreamEvent::ContentBlockStart { index, content_block } => {
                started(draft)?;
                self.begin(index, content_block, draft)?;
            }
            StreamEvent::ContentBlockDelta { index, delta } => {
                started(draft)?;
                self.delta(index, delta, draft)?;
            }
            StreamEvent::MessageDelta { delta, usage } => {
                if let Some(usage) = &usage {
                    self.count(usage);
                }
                if let Some(reason) = delta.stop_reason {
                    self.end = Some((finish_reason(&reason)?, delta.stop_sequence.map(StopMatch::String)));
                }
            }
            StreamEvent::MessageStop => {
                started(draft)?;
                self.flush(draft);
                let Some((reason, stop)) = self.end.take() else {
                    return Err(Fault::Cut { reason: "message_stop came without a reason for the end".to_owned() });
                };
                draft.finish(reason, stop, Some(self.usage()));
            }
            StreamEvent::Error { error } => {
                let words = error_words(&error).unwrap_or("no reason is given");
                return Err(Fault::Reported { message: printable(words) });
            }
            StreamEvent::Other => {}
        }
        Ok(())
    }

    fn begin(&mut self, number: u64, block: Block, draft: &mut Draft) -> Result<(), Fault> {
        self.flush(draft);
        match block {
            Block::Text { text } => draft.text(text),
            Block::Thinking { thinking } => draft.reasoning(thinking),
            Block::ToolUse { id, name, input } => {
                let index = draft.begin_call(number, id, name)?;
                let arguments = if input.is_null() { "{}".to_owned() } else { input.to_string() };
                self.whole_arguments = Some((index, arguments));
            }
            Block::Other => {}
        }
        Ok(())
    }

    fn delta(&mut self, number: u64, delta: Delta, draft: &mut Draft) -> Result<(), Fault> {
        match delta {
            Delta::Text { text } => draft.text(text),
            Delta::Thinking { thinking } => draft.reasoning(thinking),
            Delta::InputJson { partial_json } if partial_json.is_empty() => {}
            Delta::InputJson { partial_json } => {
                let index = draft
                    .call(number)
                    .ok_or_else(|| Fault::Garbage { what: format!("arguments of block {number}, which is no call") })?;
                self.whole_arguments = None;
                draft.arguments(index, partial_json);
            }
            Delta::Other => {}
        }
        Ok(())
    }

    /// Arguments that came in one piece with their call.
    fn flush(&mut self, draft: &mut Draft) {
        if let Some((index, arguments)) = self.whole_arguments.take() {
            draft.arguments(index, arguments);
        }
    }

    fn count(&mut self, usage: &WireUsage) {
        self.input = usage.input_tokens.unwrap_or(self.input);
        self.written = usage.cache_creation_input_tokens.unwrap_or(self.written);
        self.read = usage.cache_read_input_tokens.unwrap_or(self.read);
        self.output = usage.output_tokens.unwrap_or(self.output);
    }

    fn usage(&self) -> Usage {
        let prompt = self.input.saturating_add(self.written).saturating_add(self.read);
        Usage {
            prompt_tokens: tokens(prompt),
            cached_tokens: tokens(self.read),
            output_tokens: tokens(self.output),
            reasoning_tokens: 0,
        }
    }
}

fn started(draft: &Draft) -> Result<(), Fault> {
    match draft.is_started() {
        true => Ok(()),
        false => Err(Fault::Garbage { what: "content before message_start".to_owned() }),
    }
}

fn finish_reason(reason: &str) -> Result<FinishReason, Fault> {
    match reason {
        "end_turn" | "stop_sequence" => Ok(FinishReason::Stop),
        "max_tokens" | "model_context_window_exceeded" => Ok(FinishReason::Length),
        "tool_use" => Ok(FinishReason::ToolCalls),
        "refusal" => Err(Fault::Filtered),
        other => Err(Fault::Garbage { what: format!("the unknown reason for the end {:?}", printable(other)) }),
    }
}
