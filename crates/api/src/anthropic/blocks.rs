//! Content blocks of requests: what each role may say.

use chat::{Content, ImageSource, Message, Part, Role, ToolCall};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Failure;
use super::types::{ImageBlock, ImageSourceBlock, TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock};
use crate::fields::{self, Fault};

/// Blocks that the vendor documents and we do not support.
const UNSUPPORTED: &[&str] = &[
    "document",
    "search_result",
    "redacted_thinking",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "tool_reference",
    "container_upload",
    "mcp_tool_use",
    "mcp_tool_result",
    "browser_state",
];

/// What a coding agent puts at the head of its system prompt for the vendor's books. It is another one in every
/// request, so that no two prompts would begin alike, and is not meant for the model: docs/decisions/0017.
const BILLING_HEADER: &str = "x-anthropic-billing-header:";

/// The text of a system prompt: a string or blocks of text.
pub(super) fn system(value: &Value) -> Result<Message, Failure> {
    let content = match texts("system", value)? {
        Content::None => Content::None,
        Content::Text(text) => Content::Text(without_billing(text)),
        Content::Parts(mut parts) => {
            if let Some(Part::Text(first)) = parts.first_mut() {
                *first = without_billing(std::mem::take(first));
            }
            parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
            Content::Parts(parts)
        }
    };
    Ok(Message { content, ..Message::text(Role::System, "") })
}

/// The text without the vendor's line, if it begins with one.
fn without_billing(text: String) -> String {
    match (text.starts_with(BILLING_HEADER), text.split_once('\n')) {
        (false, _) => text,
        (true, Some((_, rest))) => rest.to_owned(),
        (true, None) => String::new(),
    }
}

/// A message of the user: what it says, and the results of tools, in their order.
pub(super) fn user(path: &str, content: &Value) -> Result<Vec<Message>, Failure> {
    let blocks = match content {
        Value::String(text) => return Ok(vec![Message::text(Role::User, text)]),
        content => list(path, content)?,
    };
    let mut messages = Vec::new();
    let mut said = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let path = format!("{path}.{index}");
        match tag(&path, block)? {
            "text" => said.push(Part::Text(text(&path, block)?)),
            "image" => said.push(image(&path, block)?),
            "tool_result" => {
                flush(&mut said, &mut messages);
                messages.push(tool_result(&path, block)?);
            }
            other => return Err(misplaced(&path, other, "text, image, tool_result")),
        }
    }
    flush(&mut said, &mut messages);
    match messages.is_empty() {
        true => Err(Failure::invalid(format!("{path}: content must be non-empty"))),
        false => Ok(messages),
    }
}

fn flush(said: &mut Vec<Part>, messages: &mut Vec<Message>) {
    if !said.is_empty() {
        let content = Content::Parts(std::mem::take(said));
        messages.push(Message { content, ..Message::text(Role::User, "") });
    }
}

/// A message of the model: thoughts, text and calls.
pub(super) fn assistant(path: &str, content: &Value) -> Result<Message, Failure> {
    let blocks = match content {
        Value::String(text) => return Ok(Message::text(Role::Assistant, text)),
        content => list(path, content)?,
    };
    let mut message = Message { content: Content::None, ..Message::text(Role::Assistant, "") };
    let mut said = Vec::new();
    let mut thoughts = String::new();
    for (index, block) in blocks.iter().enumerate() {
        let path = format!("{path}.{index}");
        match tag(&path, block)? {
            "text" => said.push(Part::Text(text(&path, block)?)),
            "thinking" => thoughts.push_str(&read::<ThinkingBlock>(&path, block)?.thinking),
            "tool_use" => {
                let call: ToolUseBlock = read(&path, block)?;
                let arguments = Value::Object(call.input).to_string();
                message.tool_calls.push(ToolCall { id: call.id, name: call.name, arguments });
            }
            other => return Err(misplaced(&path, other, "text, thinking, tool_use")),
        }
    }
    if !said.is_empty() {
        message.content = Content::Parts(said);
    }
    message.reasoning = (!thoughts.is_empty()).then_some(thoughts);
    Ok(message)
}

/// A string, or blocks of text only.
pub(super) fn texts(path: &str, content: &Value) -> Result<Content, Failure> {
    let blocks = match content {
        Value::String(text) => return Ok(Content::Text(text.clone())),
        content => list(path, content)?,
    };
    let parts = blocks.iter().enumerate().map(|(index, block)| {
        let path = format!("{path}.{index}");
        match tag(&path, block)? {
            "text" => Ok(Part::Text(text(&path, block)?)),
            other => Err(misplaced(&path, other, "text")),
        }
    });
    Ok(Content::Parts(parts.collect::<Result<_, Failure>>()?))
}

fn tool_result(path: &str, block: &Value) -> Result<Message, Failure> {
    let block: ToolResultBlock = read(path, block)?;
    let path = format!("{path}.content");
    let mut parts = match &block.content {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => vec![Part::Text(text.clone())],
        Some(content) => {
            let parts = list(&path, content)?.iter().enumerate().map(|(index, block)| {
                let path = format!("{path}.{index}");
                match tag(&path, block)? {
                    "text" => Ok(Part::Text(text(&path, block)?)),
                    "image" => image(&path, block),
                    other => Err(misplaced(&path, other, "text, image")),
                }
            });
            parts.collect::<Result<_, Failure>>()?
        }
    };
    if block.is_error == Some(true) {
        parts.insert(0, Part::Text("Error: ".to_owned()));
    }
    let content = Content::Parts(parts);
    Ok(Message { content, tool_call_id: Some(block.tool_use_id), ..Message::text(Role::Tool, "") })
}

fn text(path: &str, block: &Value) -> Result<String, Failure> {
    let block: TextBlock = read(path, block)?;
    match block.citations {
        Some(citations) if !citations.is_empty() => {
            Err(Failure::unsupported(&format!("{path}.citations"), "there are no citations"))
        }
        Some(_) | None => Ok(block.text),
    }
}

fn image(path: &str, block: &Value) -> Result<Part, Failure> {
    let block: ImageBlock = read(path, block)?;
    Ok(Part::Image(match block.source {
        ImageSourceBlock::Url { url } => ImageSource::Url(url),
        ImageSourceBlock::Base64 { media_type, data } => ImageSource::Url(format!("data:{media_type};base64,{data}")),
        ImageSourceBlock::File { file_id } => ImageSource::File(file_id),
    }))
}

fn list<'value>(path: &str, content: &'value Value) -> Result<&'value [Value], Failure> {
    match content {
        Value::Array(blocks) => Ok(blocks),
        _ => Err(Failure::invalid(format!("{path}: Input should be a valid string or list of blocks"))),
    }
}

fn tag<'value>(path: &str, block: &'value Value) -> Result<&'value str, Failure> {
    block["type"].as_str().ok_or_else(|| Failure::invalid(format!("{path}.type: Field required")))
}

fn misplaced(path: &str, found: &str, expected: &str) -> Failure {
    if UNSUPPORTED.contains(&found) {
        return Failure::unsupported(path, &format!("blocks of type {found}"));
    }
    let message =
        format!("{path}: Input tag '{found}' found using 'type' does not match any of the expected tags: {expected}");
    Failure::invalid(message)
}

/// Reads a block; an error names its place in the request.
fn read<T: DeserializeOwned>(path: &str, value: &Value) -> Result<T, Failure> {
    fields::read(value).map_err(|fault| match fault {
        Fault::Wrong { path: Some(inner), why } => Failure::wrong(&format!("{path}.{inner}"), &why),
        Fault::Wrong { path: None, why } => Failure::wrong(path, &why),
        other => other.into(),
    })
}
