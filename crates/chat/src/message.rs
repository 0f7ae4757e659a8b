//! Messages as the model's template sees them.

use serde_json::Value;

use crate::{ImageSource, Video};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions of the application. The OpenAI role `developer` means the same.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The name in templates.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One piece of a message's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image(ImageSource),
    /// A video.
    Video(Video),
}

impl Part {
    fn sources(&self) -> &[ImageSource] {
        match self {
            Self::Text(_) => &[],
            Self::Image(source) | Self::Video(Video::File(source)) => std::slice::from_ref(source),
            Self::Video(Video::Frames { frames, .. }) => frames,
        }
    }

    fn sources_mut(&mut self) -> &mut [ImageSource] {
        match self {
            Self::Text(_) => &mut [],
            Self::Image(source) | Self::Video(Video::File(source)) => std::slice::from_mut(source),
            Self::Video(Video::Frames { frames, .. }) => frames,
        }
    }
}

/// The content of a message.
///
/// `Text` and a list with one text part mean the same to a reader, but templates may tell them apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Nothing at all: an assistant message that is only tool calls.
    None,
    /// Plain text.
    Text(String),
    /// Text mixed with pictures.
    Parts(Vec<Part>),
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Name of the call, by which its result refers to it.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// The arguments as JSON text, as the model or the client wrote them.
    pub arguments: String,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content,
    /// What the model thought before it spoke; assistant messages only.
    pub reasoning: Option<String>,
    /// Calls that the model made; assistant messages only.
    pub tool_calls: Vec<ToolCall>,
    /// Which call this is the result of; tool messages only.
    pub tool_call_id: Option<String>,
    /// A name that the client gave to the speaker or tool.
    pub name: Option<String>,
}

impl Message {
    /// A message of plain text.
    #[must_use]
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Content::Text(text.into()),
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }

    /// The text of the content, without pictures.
    #[must_use]
    pub fn plain_text(&self) -> String {
        match &self.content {
            Content::None => String::new(),
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => {
                let texts = parts.iter().map(|part| match part {
                    Part::Text(text) => text.as_str(),
                    Part::Image(_) | Part::Video(_) => "",
                });
                texts.collect()
            }
        }
    }

    /// Every picture, and every frame of a video, as places where bytes are.
    pub fn sources(&self) -> impl Iterator<Item = &ImageSource> {
        let parts = match &self.content {
            Content::Parts(parts) => parts.as_slice(),
            Content::None | Content::Text(_) => &[],
        };
        parts.iter().flat_map(Part::sources)
    }

    /// The same, as places from which bytes come.
    pub fn sources_mut(&mut self) -> impl Iterator<Item = &mut ImageSource> {
        let parts = match &mut self.content {
            Content::Parts(parts) => parts.as_mut_slice(),
            Content::None | Content::Text(_) => &mut [],
        };
        parts.iter_mut().flat_map(Part::sources_mut)
    }

    /// Whether the content holds a picture or a video.
    #[must_use]
    pub fn has_media(&self) -> bool {
        match &self.content {
            Content::Parts(parts) => parts.iter().any(|part| !matches!(part, Part::Text(_))),
            Content::None | Content::Text(_) => false,
        }
    }
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The whole definition as the client wrote it, for example
    /// `{"type": "function", "function": {"name": …, "parameters": …}}`. Templates print it with its keys in order.
    pub definition: Value,
}

impl Tool {
    /// The JSON schema of the arguments, if the definition holds one.
    #[must_use]
    pub fn parameters(&self) -> Option<&Value> {
        self.definition.pointer("/function/parameters").or_else(|| self.definition.get("parameters"))
    }

    /// Whether the definition asks that arguments fit their schema in any case (`strict: true`).
    #[must_use]
    pub fn is_strict(&self) -> bool {
        let strict = self.definition.pointer("/function/strict").or_else(|| self.definition.get("strict"));
        strict == Some(&Value::Bool(true))
    }
}

/// Whether and which tool the model calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No tool; the tools are not shown to the model.
    None,
    /// Some tool must be called.
    Required,
    /// This tool must be called.
    Named(String),
}
