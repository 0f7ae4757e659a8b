//! Wire structs, as the vendor documents them. What is stored has the same form.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Fields of a request that [`CreateRequest`] reads.
pub(super) const FIELDS: &[&str] = &[
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "store",
    "stream",
    "background",
    "tools",
    "tool_choice",
    "max_output_tokens",
    "temperature",
    "top_p",
    "reasoning",
    "text",
    "metadata",
];

#[derive(Deserialize)]
pub(super) struct CreateRequest {
    pub(super) model: String,
    #[serde(default)]
    pub(super) input: WireInput,
    pub(super) instructions: Option<String>,
    pub(super) previous_response_id: Option<String>,
    pub(super) store: Option<bool>,
    pub(super) stream: Option<bool>,
    pub(super) background: Option<bool>,
    pub(super) tools: Option<Vec<Value>>,
    pub(super) tool_choice: Option<Value>,
    pub(super) max_output_tokens: Option<i64>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) reasoning: Option<WireReasoning>,
    pub(super) text: Option<WireText>,
    pub(super) metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of items")]
pub(super) enum WireInput {
    Text(String),
    /// Read one by one, so that an error names its item.
    Items(Vec<Value>),
}

impl Default for WireInput {
    fn default() -> Self {
        Self::Items(Vec::new())
    }
}

#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub(super) struct WireReasoning {
    pub(super) effort: Option<String>,
    #[serde(default)]
    pub(super) summary: Option<String>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(super) struct WireText {
    #[serde(default = "plain_format")]
    pub(super) format: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) verbosity: Option<String>,
}

fn plain_format() -> Value {
    serde_json::json!({"type": "text"})
}

impl Default for WireText {
    fn default() -> Self {
        Self { format: plain_format(), verbosity: None }
    }
}

/// A piece of a conversation.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item {
    Message {
        #[serde(default)]
        id: String,
        #[serde(default = "completed")]
        status: String,
        role: String,
        content: ItemContent,
    },
    Reasoning {
        #[serde(default)]
        id: String,
        #[serde(default)]
        summary: Vec<Value>,
        #[serde(default)]
        content: Vec<ReasoningText>,
        #[serde(default = "completed")]
        status: String,
    },
    FunctionCall {
        #[serde(default)]
        id: String,
        call_id: String,
        name: String,
        arguments: String,
        #[serde(default = "completed")]
        status: String,
    },
    FunctionCallOutput {
        #[serde(default)]
        id: String,
        call_id: String,
        output: ItemContent,
        #[serde(default = "completed")]
        status: String,
    },
}

pub(super) fn completed() -> String {
    "completed".to_owned()
}

impl Item {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Message { id, .. }
            | Self::Reasoning { id, .. }
            | Self::FunctionCall { id, .. }
            | Self::FunctionCallOutput { id, .. } => id,
        }
    }

    /// Its own id, and the letters that ids of its kind begin with.
    pub(super) fn id_mut(&mut self) -> (&mut String, &'static str) {
        match self {
            Self::Message { id, .. } => (id, "msg"),
            Self::Reasoning { id, .. } => (id, "rs"),
            Self::FunctionCall { id, .. } => (id, "fc"),
            Self::FunctionCallOutput { id, .. } => (id, "fco"),
        }
    }

    pub(super) fn set_status(&mut self, to: &str) {
        match self {
            Self::Message { status, .. }
            | Self::Reasoning { status, .. }
            | Self::FunctionCall { status, .. }
            | Self::FunctionCallOutput { status, .. } => to.clone_into(status),
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(untagged, expecting = "a string or a list of content parts")]
pub(super) enum ItemContent {
    Text(String),
    Parts(Vec<ItemPart>),
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ItemPart {
    InputText {
        text: String,
    },
    OutputText {
        text: String,
        #[serde(default)]
        annotations: Vec<Value>,
        #[serde(default)]
        logprobs: Vec<Value>,
    },
    /// By its address or by the id of a file: one of the two.
    InputImage {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image_url: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file_id: Option<String>,
        #[serde(default)]
        detail: Option<String>,
    },
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "type", rename = "reasoning_text")]
pub(super) struct ReasoningText {
    pub(super) text: String,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Queued,
    InProgress,
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(super) struct WireResponse {
    pub(super) id: String,
    pub(super) object: String,
    pub(super) created_at: u64,
    pub(super) status: Status,
    pub(super) background: bool,
    pub(super) completed_at: Option<u64>,
    pub(super) error: Option<WireError>,
    pub(super) incomplete_details: Option<Incomplete>,
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<u32>,
    pub(super) model: String,
    pub(super) output: Vec<Item>,
    pub(super) parallel_tool_calls: bool,
    pub(super) previous_response_id: Option<String>,
    pub(super) reasoning: WireReasoning,
    pub(super) store: bool,
    pub(super) temperature: Option<f32>,
    pub(super) text: WireText,
    pub(super) tool_choice: Value,
    pub(super) tools: Vec<Value>,
    pub(super) top_p: Option<f32>,
    pub(super) truncation: String,
    pub(super) usage: Option<WireUsage>,
    pub(super) metadata: Map<String, Value>,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(super) struct WireError {
    pub(super) code: String,
    pub(super) message: String,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(super) struct Incomplete {
    pub(super) reason: String,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(super) struct WireUsage {
    pub(super) input_tokens: u32,
    pub(super) input_tokens_details: InputDetails,
    pub(super) output_tokens: u32,
    pub(super) output_tokens_details: OutputDetails,
    pub(super) total_tokens: u32,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(super) struct InputDetails {
    pub(super) cached_tokens: u32,
    pub(super) cache_write_tokens: u32,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(super) struct OutputDetails {
    pub(super) reasoning_tokens: u32,
}

/// Which of the items are wanted.
#[derive(Deserialize)]
pub(super) struct ItemsQuery {
    pub(super) limit: Option<usize>,
    pub(super) order: Option<String>,
    pub(super) after: Option<String>,
}
