//! Wire structs, as the vendor documents them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Deserialize)]
pub(super) struct ChatRequest {
    pub(super) model: String,
    #[serde(default)]
    pub(super) messages: Vec<WireMessage>,
    pub(super) tools: Option<Vec<Value>>,
    pub(super) think: Option<Value>,
    pub(super) format: Option<Value>,
    pub(super) stream: Option<bool>,
    pub(super) options: Option<Map<String, Value>>,
    pub(super) keep_alive: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct WireMessage {
    pub(super) role: String,
    #[serde(default)]
    pub(super) content: String,
    pub(super) thinking: Option<String>,
    pub(super) images: Option<Vec<String>>,
    pub(super) tool_calls: Option<Vec<WireCall>>,
    pub(super) tool_name: Option<String>,
    pub(super) tool_call_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireCall {
    pub(super) function: WireFunction,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireFunction {
    pub(super) name: String,
    #[serde(default)]
    pub(super) arguments: Map<String, Value>,
}

#[derive(Deserialize)]
pub(super) struct PromptRequest {
    pub(super) model: String,
    pub(super) suffix: Option<String>,
    #[serde(default)]
    pub(super) prompt: String,
    pub(super) system: Option<String>,
    pub(super) raw: Option<bool>,
    pub(super) images: Option<Vec<String>>,
    pub(super) think: Option<Value>,
    pub(super) format: Option<Value>,
    pub(super) stream: Option<bool>,
    pub(super) options: Option<Map<String, Value>>,
    pub(super) keep_alive: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct WireOptions {
    pub(super) temperature: Option<f32>,
    pub(super) top_k: Option<u32>,
    pub(super) top_p: Option<f32>,
    pub(super) min_p: Option<f32>,
    pub(super) repeat_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) seed: Option<i64>,
    pub(super) num_predict: Option<i64>,
    pub(super) stop: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct ShowRequest {
    #[serde(alias = "name")]
    pub(super) model: String,
}

#[derive(Serialize)]
pub(super) struct Piece<'a> {
    pub(super) model: &'a str,
    pub(super) created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<PieceMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<String>,
    pub(super) done: bool,
    #[serde(flatten)]
    pub(super) end: Option<PieceEnd>,
}

#[derive(Serialize, Default)]
pub(super) struct PieceMessage {
    pub(super) role: &'static str,
    pub(super) content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<WireCall>,
}

/// Durations are nanoseconds.
#[derive(Serialize)]
pub(super) struct PieceEnd {
    pub(super) done_reason: &'static str,
    pub(super) total_duration: u64,
    pub(super) load_duration: u64,
    pub(super) prompt_eval_count: u32,
    pub(super) prompt_eval_duration: u64,
    pub(super) eval_count: u32,
    pub(super) eval_duration: u64,
}
