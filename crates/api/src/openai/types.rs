//! Wire structs, as the vendor documents them.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Fields of a chat request that [`ChatRequest`] reads.
pub(super) const CHAT_FIELDS: &[&str] = &[
    "model",
    "messages",
    "tools",
    "tool_choice",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "speculate",
    "n",
    "stream",
    "stream_options",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "enable_thinking",
    "thinking_budget",
    "chat_template_kwargs",
    "parallel_tool_calls",
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_grammar",
];

#[derive(Deserialize)]
pub(super) struct ChatRequest {
    pub(super) model: String,
    pub(super) messages: Vec<WireMessage>,
    #[serde(default)]
    pub(super) tools: Option<Vec<Value>>,
    pub(super) tool_choice: Option<Value>,
    pub(super) max_completion_tokens: Option<i64>,
    pub(super) logprobs: Option<bool>,
    pub(super) top_logprobs: Option<u32>,
    pub(super) reasoning_effort: Option<String>,
    pub(super) enable_thinking: Option<bool>,
    /// An extension of Model Studio: tokens of the reasoning.
    pub(super) thinking_budget: Option<u32>,
    pub(super) chat_template_kwargs: Option<Map<String, Value>>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) response_format: Option<Value>,
    pub(super) structured_outputs: Option<Map<String, Value>>,
    pub(super) guided_json: Option<Value>,
    pub(super) guided_regex: Option<String>,
    pub(super) guided_grammar: Option<String>,
}

/// Fields that both generation routes have.
#[derive(Deserialize)]
pub(super) struct SharedFields {
    pub(super) max_tokens: Option<i64>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<i64>,
    pub(super) min_p: Option<f32>,
    pub(super) repetition_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) logit_bias: Option<IndexMap<String, f32>>,
    pub(super) seed: Option<i64>,
    pub(super) stop: Option<OneOrMany>,
    pub(super) stop_token_ids: Option<Vec<u32>>,
    pub(super) ignore_eos: Option<bool>,
    /// An extension of ours: whether next tokens may be guessed ahead.
    pub(super) speculate: Option<bool>,
    pub(super) n: Option<i64>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub(super) include_usage: bool,
    /// Padding against side channels; we send none.
    #[serde(default, rename = "include_obfuscation")]
    _include_obfuscation: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct WireMessage {
    pub(super) role: String,
    pub(super) content: Option<WireContent>,
    pub(super) name: Option<String>,
    pub(super) tool_calls: Option<Vec<WireToolCall>>,
    pub(super) tool_call_id: Option<String>,
    #[serde(alias = "reasoning")]
    pub(super) reasoning_content: Option<String>,
    pub(super) function_call: Option<Value>,
    pub(super) audio: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of content parts")]
pub(super) enum WireContent {
    Text(String),
    Parts(Vec<WirePart>),
}

#[derive(Deserialize)]
pub(super) struct WirePart {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) image_url: Option<ImageUrl>,
    pub(super) video_url: Option<ImageUrl>,
    pub(super) file: Option<WireFileInput>,
    /// The addresses of frames, as Model Studio has it.
    pub(super) video: Option<Vec<String>>,
    pub(super) fps: Option<f32>,
}

/// A file of the caller's, or one that comes along.
#[derive(Deserialize)]
pub(super) struct WireFileInput {
    pub(super) file_id: Option<String>,
    pub(super) file_data: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ImageUrl {
    pub(super) url: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireToolCall {
    /// Only in streams, where pieces of several calls may alternate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub(super) kind: Option<String>,
    pub(super) function: WireFunction,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireFunction {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) arguments: String,
}

/// Fields of a completion request that [`CompletionRequest`] reads.
pub(super) const COMPLETION_FIELDS: &[&str] = &[
    "model",
    "prompt",
    "suffix",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "speculate",
    "n",
    "stream",
    "stream_options",
    "logprobs",
    "echo",
];

#[derive(Deserialize)]
pub(super) struct CompletionRequest {
    pub(super) model: String,
    pub(super) suffix: Option<String>,
    pub(super) prompt: WirePrompt,
    pub(super) logprobs: Option<u32>,
    pub(super) echo: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string, a list of strings, a list of token ids, or a list of such lists")]
pub(super) enum WirePrompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

#[derive(Serialize)]
pub(super) struct WireUsage {
    pub(super) prompt_tokens: u32,
    pub(super) completion_tokens: u32,
    pub(super) total_tokens: u32,
    pub(super) prompt_tokens_details: PromptDetails,
    pub(super) completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: u32,
}

#[derive(Serialize)]
pub(super) struct CompletionDetails {
    pub(super) reasoning_tokens: u32,
}

#[derive(Serialize)]
pub(super) struct ChatCompletion<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: Vec<ChatChoice>,
    pub(super) usage: WireUsage,
}

#[derive(Serialize)]
pub(super) struct ChatChoice {
    pub(super) index: u32,
    pub(super) message: AnswerMessage,
    pub(super) logprobs: Option<ChatLogprobs>,
    pub(super) finish_reason: &'static str,
}

#[derive(Serialize)]
pub(super) struct AnswerMessage {
    pub(super) role: &'static str,
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<WireToolCall>,
}

#[derive(Serialize)]
pub(super) struct ChatChunk<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: Vec<ChunkChoice>,
    /// Outer `None`: the field is absent. `Some(None)`: it is `null`, because usage comes at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[expect(clippy::option_option, reason = "JSON tells absent and null apart")]
    pub(super) usage: Option<Option<WireUsage>>,
}

#[derive(Serialize)]
pub(super) struct ChunkChoice {
    pub(super) index: u32,
    pub(super) delta: Delta,
    pub(super) logprobs: Option<ChatLogprobs>,
    pub(super) finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
pub(super) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<WireToolCall>,
}

#[derive(Serialize)]
pub(super) struct ChatLogprobs {
    pub(super) content: Vec<ChatLogprob>,
    pub(super) refusal: Option<Vec<ChatLogprob>>,
}

#[derive(Serialize)]
pub(super) struct ChatLogprob {
    #[serde(flatten)]
    pub(super) chosen: WireLogprob,
    pub(super) top_logprobs: Vec<WireLogprob>,
}

#[derive(Serialize)]
pub(super) struct WireLogprob {
    pub(super) token: String,
    pub(super) logprob: Option<f32>,
    pub(super) bytes: Vec<u8>,
}

#[derive(Serialize)]
pub(super) struct Completion<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<WireUsage>,
}

#[derive(Serialize)]
pub(super) struct CompletionChoice {
    pub(super) index: u32,
    pub(super) text: String,
    pub(super) logprobs: Option<CompletionLogprobs>,
    pub(super) finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
pub(super) struct CompletionLogprobs {
    pub(super) tokens: Vec<String>,
    pub(super) token_logprobs: Vec<Option<f32>>,
    pub(super) top_logprobs: Vec<Option<IndexMap<String, f32>>>,
    /// Where each token begins in the text, in characters.
    pub(super) text_offset: Vec<u64>,
}

#[derive(Serialize)]
pub(super) struct ModelList {
    pub(super) object: &'static str,
    pub(super) data: Vec<WireModel>,
}

#[derive(Serialize)]
pub(super) struct WireModel {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) owned_by: String,
    /// Not OpenAI's; vLLM's name for the longest context.
    pub(super) max_model_len: u32,
}

#[derive(Serialize)]
pub(super) struct ErrorBody<'a> {
    pub(super) error: ErrorDetail<'a>,
}

#[derive(Serialize)]
pub(super) struct ErrorDetail<'a> {
    pub(super) message: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) param: Option<&'a str>,
    pub(super) code: Option<&'a str>,
}
