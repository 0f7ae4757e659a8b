//! Wire structs, as the vendor documents them.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

/// What every request looks like.
#[derive(Deserialize)]
pub(super) struct Envelope<Input, Parameters> {
    pub(super) model: String,
    pub(super) input: Input,
    pub(super) parameters: Parameters,
}

#[derive(Deserialize)]
pub(super) struct ChatInput {
    pub(super) messages: Option<Vec<WireMessage>>,
    pub(super) prompt: Option<String>,
    #[serde(default)]
    pub(super) history: Vec<Turn>,
}

/// A turn as it was written before there were messages.
#[derive(Deserialize)]
pub(super) struct Turn {
    pub(super) user: String,
    pub(super) bot: String,
}

#[derive(Deserialize)]
pub(super) struct WireMessage {
    pub(super) role: String,
    pub(super) content: Option<WireContent>,
    pub(super) reasoning_content: Option<String>,
    pub(super) tool_calls: Option<Vec<WireCall>>,
    pub(super) tool_call_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) partial: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of parts")]
pub(super) enum WireContent {
    Text(String),
    Parts(Vec<WirePart>),
}

/// Text, a picture or a video; one of them.
#[derive(Deserialize)]
pub(super) struct WirePart {
    pub(super) text: Option<String>,
    pub(super) image: Option<String>,
    pub(super) video: Option<WireVideo>,
    pub(super) audio: Option<Value>,
    /// Frames of a list that make a second.
    pub(super) fps: Option<f32>,
    pub(super) min_pixels: Option<Value>,
    pub(super) max_pixels: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "an address or a list of addresses")]
pub(super) enum WireVideo {
    File(String),
    Frames(Vec<String>),
}

#[derive(Serialize, Deserialize, Clone)]
pub(super) struct WireCall {
    #[serde(default)]
    pub(super) index: u32,
    #[serde(default)]
    pub(super) id: String,
    #[serde(rename = "type", default = "function")]
    pub(super) kind: String,
    pub(super) function: WireFunction,
}

pub(super) fn function() -> String {
    "function".to_owned()
}

#[derive(Serialize, Deserialize, Clone)]
pub(super) struct WireFunction {
    /// Empty in pieces that only add to the arguments.
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) arguments: String,
}

#[derive(Deserialize)]
pub(super) struct ChatParameters {
    pub(super) result_format: Option<String>,
    pub(super) incremental_output: Option<bool>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<u32>,
    pub(super) min_p: Option<f32>,
    pub(super) repetition_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) max_tokens: Option<i64>,
    pub(super) seed: Option<i64>,
    pub(super) stop: Option<WireStop>,
    pub(super) tools: Option<Vec<Value>>,
    pub(super) tool_choice: Option<Value>,
    pub(super) enable_thinking: Option<bool>,
    pub(super) thinking_budget: Option<u32>,
    pub(super) n: Option<u32>,
    pub(super) response_format: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string, a list of strings or a list of token ids")]
pub(super) enum WireStop {
    One(String),
    Many(Vec<String>),
    Tokens(Vec<u32>),
}

#[derive(Serialize)]
pub(super) struct Answer<'a> {
    pub(super) output: Output,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<WireUsage>,
    pub(super) request_id: &'a str,
}

/// `choices` with the format `message`; `text` and `finish_reason` without.
#[derive(Serialize, Default)]
pub(super) struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) choices: Option<Vec<Choice>>,
}

#[derive(Serialize)]
pub(super) struct Choice {
    pub(super) index: u32,
    pub(super) finish_reason: &'static str,
    pub(super) message: AnswerMessage,
}

#[derive(Serialize, Default, Clone)]
pub(super) struct AnswerMessage {
    pub(super) role: &'static str,
    pub(super) content: Said,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<WireCall>,
}

/// What an answer says: text, or the one part of a list where questions may have pictures.
#[derive(Default, Clone)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) in_parts: bool,
}

impl Serialize for Said {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.in_parts { [Words { text: &self.text }].serialize(serializer) } else { self.text.serialize(serializer) }
    }
}

#[derive(Serialize)]
struct Words<'a> {
    text: &'a str,
}

#[derive(Serialize)]
pub(super) struct WireUsage {
    pub(super) input_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) total_tokens: u32,
    pub(super) prompt_tokens_details: PromptDetails,
    pub(super) output_tokens_details: OutputDetails,
}

#[derive(Serialize)]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: u32,
}

#[derive(Serialize)]
pub(super) struct OutputDetails {
    pub(super) reasoning_tokens: u32,
}

#[derive(Deserialize)]
pub(super) struct EmbedTexts {
    pub(super) texts: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct EmbedParameters {
    pub(super) text_type: Option<String>,
    pub(super) dimension: Option<u32>,
    pub(super) instruct: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RerankTexts {
    pub(super) query: String,
    pub(super) documents: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct RerankParameters {
    pub(super) top_n: Option<i64>,
    pub(super) return_documents: Option<bool>,
    pub(super) instruct: Option<String>,
}
