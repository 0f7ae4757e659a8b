use std::path::PathBuf;

use serde_json::Value;

mod mutations;

use super::{RenderOptions, Template};
use crate::{Content, Error, Message, Role, Tool, ToolCall};

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Qwen3's added tokens, as far as templates use them.
fn control_tokens() -> Vec<String> {
    let names = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
        "</tool_response>",
        "<think>",
        "</think>",
    ];
    names.map(str::to_owned).to_vec()
}

fn template(name: &str) -> Template {
    Template::new(&fixture(&format!("templates/{name}.jinja")), &control_tokens(), &[]).unwrap()
}

fn options_of(case: &Value) -> RenderOptions {
    RenderOptions {
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
        variables: case["kwargs"].as_object().unwrap().clone(),
        ..RenderOptions::default()
    }
}

fn golden_cases() -> Vec<Value> {
    let golden: Value = serde_json::from_str(&fixture("golden_prompts.json")).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn name_of(case: &Value) -> String {
    format!("{} {}", case["template"].as_str().unwrap(), case["conversation"].as_str().unwrap())
}

#[test]
fn goldens() {
    let (mut rendered, mut refused) = (0, 0);
    for case in golden_cases() {
        let template = template(case["template"].as_str().unwrap());
        let tools = (!case["tools"].is_null()).then(|| case["tools"].clone());
        let result = template.render_values(without_nulls(&case["messages"]), tools, &options_of(&case));
        match (result, case["rendered"].as_str()) {
            (Ok(prompt), Some(expected)) => {
                assert_eq!(prompt.text, expected, "{}", name_of(&case));
                rendered += 1;
            }
            (Err(Error::TemplateRefused { .. }), None) => refused += 1,
            (result, expected) => panic!("{}: {result:?}, expected {expected:?}", name_of(&case)),
        }
    }
    assert_eq!((rendered, refused), (471, 29));
}

/// transformers takes keys without a value out of messages.
fn without_nulls(messages: &Value) -> Value {
    let mut messages = messages.clone();
    for message in messages.as_array_mut().unwrap() {
        message.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
    messages
}

/// A message of a golden conversation in our types, if they can hold it.
fn typed(message: &Value) -> Option<Message> {
    let role = match message["role"].as_str()? {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return None,
    };
    let mut typed = Message::text(role, "");
    typed.content = match &message["content"] {
        Value::Null => Content::None,
        Value::String(text) => Content::Text(text.clone()),
        _ => return None,
    };
    typed.reasoning = message["reasoning_content"].as_str().map(str::to_owned);
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let function = call.get("function").unwrap_or(call);
        let arguments = match &function["arguments"] {
            Value::String(text) => text.clone(),
            arguments => arguments.to_string(),
        };
        typed.tool_calls.push(ToolCall {
            id: "call_1".to_owned(),
            name: function["name"].as_str()?.to_owned(),
            arguments,
        });
    }
    Some(typed)
}

fn tools_of(case: &Value) -> Vec<Tool> {
    let definitions = case["tools"].as_array().into_iter().flatten();
    definitions.map(|definition| Tool { name: String::new(), definition: definition.clone() }).collect()
}

#[test]
fn goldens_in_our_own_types() {
    let mut compared = 0;
    for case in golden_cases() {
        let messages = case["messages"].as_array().unwrap().iter().map(typed).collect::<Option<Vec<Message>>>();
        let (Some(messages), Some(expected)) = (messages, case["rendered"].as_str()) else { continue };
        let template = template(case["template"].as_str().unwrap());
        let prompt = template.render(&messages, &tools_of(&case), &options_of(&case)).unwrap();
        assert_eq!(prompt.text, expected, "{}", name_of(&case));
        compared += 1;
    }
    assert_eq!(compared, 429);
}
