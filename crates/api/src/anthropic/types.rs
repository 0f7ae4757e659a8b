//! Wire structs, as the vendor documents them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Fields that a request for tokens to be counted has too.
pub(super) const COUNT_FIELDS: &[&str] = &["model", "messages", "system", "tools", "tool_choice", "thinking"];

/// Fields of a request for a message.
pub(super) const MESSAGE_FIELDS: &[&str] = &[
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "max_tokens",
    "stop_sequences",
    "stream",
    "temperature",
    "top_k",
    "top_p",
];

#[derive(Deserialize)]
pub(super) struct Conversation {
    pub(super) model: String,
    pub(super) messages: Vec<WireMessage>,
    pub(super) system: Option<Value>,
    pub(super) tools: Option<Vec<Map<String, Value>>>,
    pub(super) tool_choice: Option<WireToolChoice>,
    pub(super) thinking: Option<WireThinking>,
}

#[derive(Deserialize)]
pub(super) struct Settings {
    pub(super) max_tokens: i64,
    pub(super) stop_sequences: Option<Vec<String>>,
    pub(super) stream: Option<bool>,
    pub(super) temperature: Option<f32>,
    pub(super) top_k: Option<i64>,
    pub(super) top_p: Option<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireMessage {
    pub(super) role: String,
    pub(super) content: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TextBlock {
    #[serde(rename = "type")]
    _kind: String,
    pub(super) text: String,
    pub(super) citations: Option<Vec<Value>>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageBlock {
    #[serde(rename = "type")]
    _kind: String,
    pub(super) source: ImageSourceBlock,
    #[serde(rename = "cache_control")]
    _cache_control: Option<Value>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ImageSourceBlock {
    Base64 { media_type: String, data: String },
    Url { url: String },
    File { file_id: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThinkingBlock {
    #[serde(rename = "type")]
    _kind: String,
    pub(super) thinking: String,
    #[serde(rename = "signature")]
    _signature: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolUseBlock {
    #[serde(rename = "type")]
    _kind: String,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) input: Map<String, Value>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<Value>,
    /// Who called; always the model itself here.
    #[serde(rename = "caller")]
    _caller: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolResultBlock {
    #[serde(rename = "type")]
    _kind: String,
    pub(super) tool_use_id: String,
    pub(super) content: Option<Value>,
    pub(super) is_error: Option<bool>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct WireTool {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) input_schema: Map<String, Value>,
    pub(super) strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum WireToolChoice {
    Auto { disable_parallel_tool_use: Option<bool> },
    Any { disable_parallel_tool_use: Option<bool> },
    Tool { name: String, disable_parallel_tool_use: Option<bool> },
    None {},
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum WireThinking {
    Enabled { budget_tokens: i64, display: Option<String> },
    Adaptive { display: Option<String> },
    Disabled {},
}

#[derive(Serialize)]
pub(super) struct WireAnswer<'a> {
    pub(super) id: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) role: &'static str,
    pub(super) model: &'a str,
    pub(super) content: Vec<AnswerBlock>,
    pub(super) stop_reason: Option<&'static str>,
    pub(super) stop_sequence: Option<String>,
    pub(super) usage: WireUsage,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum AnswerBlock {
    Text { text: String },
    Thinking { thinking: String, signature: &'static str },
    ToolUse { id: String, name: String, input: Map<String, Value> },
}

#[derive(Serialize)]
pub(super) struct WireUsage {
    pub(super) input_tokens: u32,
    pub(super) cache_creation_input_tokens: u32,
    pub(super) cache_read_input_tokens: u32,
    pub(super) output_tokens: u32,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamEvent<'a> {
    MessageStart { message: WireAnswer<'a> },
    ContentBlockStart { index: u32, content_block: AnswerBlock },
    ContentBlockDelta { index: u32, delta: BlockDelta },
    ContentBlockStop { index: u32 },
    MessageDelta { delta: MessageEnd, usage: WireUsage },
    MessageStop,
}

impl StreamEvent<'_> {
    /// The name of the event, which is also its type.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum BlockDelta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
}

#[derive(Serialize)]
pub(super) struct MessageEnd {
    pub(super) stop_reason: &'static str,
    pub(super) stop_sequence: Option<String>,
}

#[derive(Serialize)]
pub(super) struct TokenCount {
    pub(super) input_tokens: u32,
}

#[derive(Serialize)]
pub(super) struct ModelPage {
    pub(super) data: Vec<WireModel>,
    pub(super) has_more: bool,
    pub(super) first_id: Option<String>,
    pub(super) last_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct WireModel {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) display_name: String,
    pub(super) created_at: String,
    pub(super) lifecycle: &'static str,
    pub(super) max_input_tokens: u32,
    pub(super) max_tokens: u32,
}

/// Which part of the list of models is asked for.
#[derive(Deserialize)]
pub(crate) struct PageQuery {
    pub(super) limit: Option<i64>,
    pub(super) before_id: Option<String>,
    pub(super) after_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ErrorBody<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) error: ErrorDetail<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ErrorDetail<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) message: &'a str,
}
