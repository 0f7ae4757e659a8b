//! Events to wire forms.

use std::sync::Arc;

use axum::body::Bytes;
use base::{Clock, RequestId};
use chat::{Answer, Error, Event, Finish, FinishReason, Result, ToolCall};

use super::Failure;
use super::types::{Piece, PieceEnd, PieceMessage, WireCall, WireFunction};
use crate::answer::Wire;
use crate::time;

/// Which of the two routes is answered; they say the same in different fields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Generate,
}

/// What a piece says.
#[derive(Default)]
struct Said {
    text: String,
    thinking: Option<String>,
    calls: Vec<WireCall>,
}

/// The lines of an answer.
pub(super) struct AnswerStream {
    pub(super) id: RequestId,
    pub(super) form: Form,
    pub(super) model: String,
    pub(super) clock: Arc<dyn Clock>,
    /// When the request came.
    pub(super) began_us: u64,
    /// When the first piece of the answer came.
    pub(super) first_us: Option<u64>,
    /// The call whose arguments are coming.
    pub(super) call: Option<ToolCall>,
    /// A call could not be written: the answer is cut there.
    pub(super) is_cut: bool,
}

impl AnswerStream {
    /// Takes note of when the answer begins.
    pub(super) fn observe(&mut self, event: &Event) {
        if !matches!(event, Event::Started { .. }) && self.first_us.is_none() {
            self.first_us = Some(self.clock.monotonic_us());
        }
    }

    /// The whole answer in one piece.
    ///
    /// # Errors
    /// If the arguments of a call are no JSON object.
    pub(super) fn whole(&self, answer: Answer) -> Result<String> {
        let text = answer.message.plain_text();
        let calls = answer.message.tool_calls.into_iter().map(wire_call).collect::<Result<_>>()?;
        let said = Said { text, thinking: answer.message.reasoning, calls };
        Ok(self.piece(said, Some(self.finish(&answer.finish))))
    }

    /// The answer to a request that asks nothing.
    pub(super) fn without_answer(&self, reason: &'static str) -> String {
        let end = PieceEnd { done_reason: reason, ..self.finish_of(reason, 0, 0) };
        self.piece(Said::default(), Some(end))
    }

    fn piece(&self, said: Said, end: Option<PieceEnd>) -> String {
        let Said { text, thinking, calls } = said;
        let created_at = time::rfc3339(self.clock.now_ms());
        let done = end.is_some();
        let (model, none) = (self.model.as_str(), None);
        let piece = match self.form {
            Form::Chat => {
                let message = PieceMessage { role: "assistant", content: text, thinking, tool_calls: calls };
                Piece { model, created_at, message: Some(message), response: None, thinking: none, done, end }
            }
            Form::Generate => Piece { model, created_at, message: None, response: Some(text), thinking, done, end },
        };
        serde_json::to_string(&piece).expect("wire structs have string keys")
    }

    fn finish(&self, finish: &Finish) -> PieceEnd {
        let reason = if finish.reason == FinishReason::Length { "length" } else { "stop" };
        self.finish_of(reason, finish.usage.prompt_tokens, finish.usage.output_tokens)
    }

    fn finish_of(&self, done_reason: &'static str, prompt_eval_count: u32, eval_count: u32) -> PieceEnd {
        let now_us = self.clock.monotonic_us();
        let first_us = self.first_us.unwrap_or(now_us);
        PieceEnd {
            done_reason,
            total_duration: now_us.saturating_sub(self.began_us) * 1000,
            load_duration: 0,
            prompt_eval_count,
            prompt_eval_duration: first_us.saturating_sub(self.began_us) * 1000,
            eval_count,
            eval_duration: now_us.saturating_sub(first_us) * 1000,
        }
    }

    fn say(&self, said: Said) -> Bytes {
        line(self.piece(said, None))
    }

    /// Writes the call whose arguments are complete.
    fn complete_call(&mut self, lines: &mut Vec<Bytes>) {
        match self.call.take().map(wire_call).transpose() {
            Ok(None) => {}
            Ok(Some(call)) => lines.push(self.say(Said { calls: vec![call], ..Said::default() })),
            Err(error) => {
                lines.extend(self.failed(&error));
                self.is_cut = true;
            }
        }
    }
}

impl Wire for AnswerStream {
    fn event(&mut self, _choice: u32, event: Event) -> Vec<Bytes> {
        let mut lines = Vec::new();
        if self.is_cut {
            return lines;
        }
        self.observe(&event);
        match event {
            Event::Text(text) => {
                self.complete_call(&mut lines);
                lines.push(self.say(Said { text, ..Said::default() }));
            }
            Event::Reasoning(thinking) => {
                lines.push(self.say(Said { thinking: Some(thinking), ..Said::default() }));
            }
            Event::ToolCallStarted { id, name, .. } => {
                self.complete_call(&mut lines);
                self.call = Some(ToolCall { id, name, arguments: String::new() });
            }
            Event::ToolCallArguments { fragment, .. } => {
                if let Some(call) = &mut self.call {
                    call.arguments.push_str(&fragment);
                }
            }
            Event::Finished(finish) => {
                self.complete_call(&mut lines);
                if !self.is_cut {
                    lines.push(line(self.piece(Said::default(), Some(self.finish(&finish)))));
                }
            }
            Event::Started { .. } | Event::Logprobs(_) | Event::Warning(_) => {}
        }
        lines
    }

    fn end(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    fn failed(&mut self, error: &Error) -> Vec<Bytes> {
        if self.is_cut { Vec::new() } else { vec![line(Failure::of(error, self.id).body())] }
    }
}

fn line(mut json: String) -> Bytes {
    json.push('\n');
    Bytes::from(json)
}

fn wire_call(call: ToolCall) -> Result<WireCall> {
    let arguments = serde_json::from_str(&call.arguments).map_err(|why| Error::Interrupted {
        reason: format!("the arguments of the call {} are no JSON object: {why}", call.id),
    })?;
    Ok(WireCall { function: WireFunction { name: call.name, arguments } })
}
