//! Events to wire forms: no side effects.

use axum::body::Bytes;
use base::RequestId;
use chat::{Error, Event, Finish, FinishReason, Usage};

use super::Failure;
use super::from_wire::Form;
use super::types::{
    Answer, AnswerMessage, Choice, Output, OutputDetails, PromptDetails, Said, WireCall, WireFunction, WireUsage,
    function,
};
use crate::answer::Wire;

/// What stands in `finish_reason` as long as nothing is finished: the word, not JSON's null.
const UNFINISHED: &str = "null";

/// An answer in one piece.
pub(super) fn whole(id: RequestId, form: Form, answers: Vec<chat::Answer>) -> String {
    let usage = total(answers.iter().map(|answer| answer.finish.usage));
    let choices = answers.into_iter().zip(0..).map(|(answer, index)| {
        let calls = answer.message.tool_calls.iter().zip(0..);
        let calls = calls.map(|(call, index)| piece(index, &call.id, &call.name, &call.arguments)).collect();
        let message = AnswerMessage {
            role: "assistant",
            content: Said { text: answer.message.plain_text(), in_parts: form == Form::Parts },
            reasoning_content: answer.message.reasoning.unwrap_or_default(),
            tool_calls: calls,
        };
        Choice { index, finish_reason: reason(&answer.finish), message }
    });
    json(&Answer { output: output(form, choices.collect()), usage: Some(usage), request_id: &id.to_string() })
}

/// The events of a streamed answer.
pub(super) struct GenerationStream {
    id: RequestId,
    form: Form,
    incremental: bool,
    /// By choice: everything so far, if everything is repeated; else nothing.
    said: Vec<AnswerMessage>,
    used: Vec<Usage>,
    /// Number of the last event.
    number: u64,
}

impl GenerationStream {
    pub(super) fn new(id: RequestId, form: Form, incremental: bool, choices: usize) -> Self {
        Self { id, form, incremental, said: vec![empty(form); choices], used: Vec::new(), number: 0 }
    }

    /// The message that the next event shows.
    fn say(&mut self, choice: u32, change: impl FnOnce(&mut AnswerMessage)) -> AnswerMessage {
        let said = &mut self.said[choice as usize];
        change(said);
        match self.incremental {
            true => std::mem::replace(said, empty(self.form)),
            false => said.clone(),
        }
    }

    fn event(&mut self, choice: u32, message: AnswerMessage, finish: Option<&Finish>) -> Bytes {
        let choice = Choice { index: choice, finish_reason: finish.map_or(UNFINISHED, reason), message };
        let usage = finish.map(|finish| {
            self.used.push(finish.usage);
            total(self.used.iter().copied())
        });
        let request_id = self.id.to_string();
        let data = json(&Answer { output: output(self.form, vec![choice]), usage, request_id: &request_id });
        self.number += 1;
        Bytes::from(format!("id:{}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n", self.number))
    }
}

impl Wire for GenerationStream {
    fn event(&mut self, choice: u32, event: Event) -> Vec<Bytes> {
        let incremental = self.incremental;
        let message = match event {
            Event::Text(text) => self.say(choice, |said| said.content.text.push_str(&text)),
            Event::Reasoning(text) => self.say(choice, |said| said.reasoning_content.push_str(&text)),
            Event::ToolCallStarted { index, id, name } => {
                self.say(choice, |said| said.tool_calls.push(piece(index, &id, &name, "")))
            }
            Event::ToolCallArguments { index, fragment } => self.say(choice, |said| {
                match said.tool_calls.iter_mut().find(|call| !incremental && call.index == index) {
                    Some(call) => call.function.arguments.push_str(&fragment),
                    None => said.tool_calls.push(piece(index, "", "", &fragment)),
                }
            }),
            Event::Finished(finish) => {
                let message = self.say(choice, |_| {});
                return vec![Self::event(self, choice, message, Some(&finish))];
            }
            Event::Started { .. } | Event::Logprobs(_) | Event::Warning(_) => return Vec::new(),
        };
        vec![Self::event(self, choice, message, None)]
    }

    fn end(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    fn failed(&mut self, error: &Error) -> Vec<Bytes> {
        vec![Failure::of(error, self.id).event(self.id)]
    }
}

/// A message that says nothing yet.
fn empty(form: Form) -> AnswerMessage {
    let content = Said { in_parts: form == Form::Parts, ..Said::default() };
    AnswerMessage { role: "assistant", content, ..AnswerMessage::default() }
}

fn output(form: Form, mut choices: Vec<Choice>) -> Output {
    match form {
        Form::Message | Form::Parts => Output { choices: Some(choices), ..Output::default() },
        // A request for text has one choice.
        Form::Text => match choices.pop() {
            Some(one) => {
                let (text, finish_reason) = (Some(one.message.content.text), Some(one.finish_reason));
                Output { text, finish_reason, choices: None }
            }
            None => Output::default(),
        },
    }
}

fn piece(index: u32, id: &str, name: &str, arguments: &str) -> WireCall {
    let named = WireFunction { name: name.to_owned(), arguments: arguments.to_owned() };
    WireCall { index, id: id.to_owned(), kind: function(), function: named }
}

fn reason(finish: &Finish) -> &'static str {
    match finish.reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

/// What the choices cost together; their one prompt is counted once.
fn total(parts: impl Iterator<Item = Usage>) -> WireUsage {
    let sum = parts.fold(Usage::default(), |sum, part| Usage {
        prompt_tokens: part.prompt_tokens,
        cached_tokens: if sum.prompt_tokens == 0 { part.cached_tokens } else { sum.cached_tokens },
        output_tokens: sum.output_tokens + part.output_tokens,
        reasoning_tokens: sum.reasoning_tokens + part.reasoning_tokens,
    });
    WireUsage {
        input_tokens: sum.prompt_tokens,
        output_tokens: sum.output_tokens,
        total_tokens: sum.prompt_tokens + sum.output_tokens,
        prompt_tokens_details: PromptDetails { cached_tokens: sum.cached_tokens },
        output_tokens_details: OutputDetails { reasoning_tokens: sum.reasoning_tokens },
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("wire structs have string keys")
}
