//! The OpenAI form: what vLLM, SGLang, Ray Serve, llama-server, LiteLLM, Sampan and most clouds speak.
//! <https://platform.openai.com/docs/api-reference/chat>

mod encode;

use chat::{FinishReason, Usage};
use serde::Deserialize;
use serde_json::Value;

use super::answer::{Draft, tokens};
use super::sse;
use super::transport::{error_words, printable};
use crate::Fault;

pub(super) use encode::{chat, completion, tokenize, tool, tool_choice};

/// The last event of a stream.
const DONE: &str = "[DONE]";

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Option<Delta>,
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    /// vLLM since 0.12 and OpenRouter.
    reasoning: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Deserialize)]
struct CallPiece {
    #[serde(default)]
    index: u64,
    id: Option<String>,
    function: Option<FunctionPiece>,
}

#[derive(Deserialize)]
struct FunctionPiece {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl WireUsage {
    fn usage(&self) -> Usage {
        let cached = self.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens);
        let reasoning = self.completion_tokens_details.as_ref().and_then(|details| details.reasoning_tokens);
        Usage {
            prompt_tokens: tokens(self.prompt_tokens),
            cached_tokens: tokens(cached.unwrap_or(0)),
            output_tokens: tokens(self.completion_tokens),
            reasoning_tokens: tokens(reasoning.unwrap_or(0)),
        }
    }
}

/// Chunks to events. The answer is whole where a reason for its end *and* `[DONE]` came.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    reason: Option<FinishReason>,
    usage: Option<Usage>,
}

impl Decoder {
    pub(super) fn push(&mut self, event: &sse::Event, draft: &mut Draft) -> Result<(), Fault> {
        if event.data.trim() == DONE {
            let Some(reason) = self.reason else {
                let reason = "[DONE] came without a reason for the end".to_owned();
                return Err(Fault::Cut { reason });
            };
            draft.finish(reason, None, self.usage);
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(&event.data)
            .map_err(|why| Fault::Garbage { what: format!("a chunk that is none ({why})") })?;
        if event.name == "error" || chunk.error.is_some() {
            let words = serde_json::from_str(&event.data).ok();
            let words = words.as_ref().and_then(error_words).unwrap_or("no reason is given");
            return Err(Fault::Reported { message: printable(words) });
        }
        if let Some(usage) = &chunk.usage {
            self.usage = Some(usage.usage());
        }
        // With vLLM's continuous usage the first chunk counts the prompt.
        draft.start(chunk.usage.as_ref().map(|usage| tokens(usage.prompt_tokens)));
        chunk.choices.into_iter().try_for_each(|choice| self.choice(choice, draft))
    }

    fn choice(&mut self, choice: Choice, draft: &mut Draft) -> Result<(), Fault> {
        if choice.index != 0 {
            return Err(Fault::Garbage { what: format!("choice {} where one was asked for", choice.index) });
        }
        let delta = choice.delta.unwrap_or_default();
        draft.reasoning(delta.reasoning_content.or(delta.reasoning).unwrap_or_default());
        draft.text(delta.content.or(choice.text).unwrap_or_default());
        draft.text(delta.refusal.unwrap_or_default());
        for piece in delta.tool_calls.unwrap_or_default() {
            call(piece, draft)?;
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.reason = Some(finish_reason(&reason)?);
        }
        Ok(())
    }
}

fn call(piece: CallPiece, draft: &mut Draft) -> Result<(), Fault> {
    let function = piece.function.unwrap_or(FunctionPiece { name: None, arguments: None });
    let index = match draft.call(piece.index) {
        Some(index) => index,
        None => draft.begin_call(piece.index, piece.id.unwrap_or_default(), function.name.unwrap_or_default())?,
    };
    draft.arguments(index, function.arguments.unwrap_or_default());
    Ok(())
}

fn finish_reason(reason: &str) -> Result<FinishReason, Fault> {
    match reason {
        "stop" => Ok(FinishReason::Stop),
        "length" => Ok(FinishReason::Length),
        "tool_calls" | "function_call" => Ok(FinishReason::ToolCalls),
        "content_filter" => Err(Fault::Filtered),
        // vLLM's words for a request that it gave up.
        "abort" | "error" => Err(Fault::Cut { reason: format!("it ended with the reason {reason:?}") }),
        other => Err(Fault::Garbage { what: format!("the unknown reason for the end {:?}", printable(other)) }),
    }
}
