//! Messages in the form that templates know, OpenAI's.

use serde_json::{Map, Value, json};

use crate::{Content, Message, Part, ToolCall};

pub(super) fn messages(messages: &[Message]) -> Value {
    messages.iter().map(message).collect()
}

fn message(message: &Message) -> Value {
    let mut fields = Map::new();
    fields.insert("role".to_owned(), message.role.as_str().into());
    if let Some(content) = content(&message.content) {
        fields.insert("content".to_owned(), content);
    }
    if let Some(reasoning) = &message.reasoning {
        fields.insert("reasoning_content".to_owned(), reasoning.as_str().into());
    }
    if !message.tool_calls.is_empty() {
        fields.insert("tool_calls".to_owned(), message.tool_calls.iter().map(tool_call).collect());
    }
    if let Some(id) = &message.tool_call_id {
        fields.insert("tool_call_id".to_owned(), id.as_str().into());
    }
    if let Some(name) = &message.name {
        fields.insert("name".to_owned(), name.as_str().into());
    }
    Value::Object(fields)
}

/// Parts that are all text become one text: templates of text-only models print nothing at all for a list, and the
/// others join the parts like this.
fn content(content: &Content) -> Option<Value> {
    let parts = match content {
        Content::None => return None,
        Content::Text(text) => return Some(text.as_str().into()),
        Content::Parts(parts) => parts,
    };
    let texts = parts.iter().map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        Part::Image(_) | Part::Video(_) => None,
    });
    match texts.collect::<Option<String>>() {
        Some(text) => Some(text.into()),
        None => Some(parts.iter().map(part).collect()),
    }
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image(_) => json!({"type": "image"}),
        Part::Video(_) => json!({"type": "video"}),
    }
}

/// Arguments become an object where they are one: templates of the XML kind fail on text, and the others print the
/// object in the way that the model was trained on.
fn tool_call(call: &ToolCall) -> Value {
    let arguments = match serde_json::from_str(&call.arguments) {
        Ok(Value::Object(arguments)) => Value::Object(arguments),
        Ok(_) | Err(_) => Value::String(call.arguments.clone()),
    };
    json!({"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}})
}
