//! Wire forms to requests: pure and total.

use base::RequestId;
use chat::{
    Content, Format, GenerateRequest, ImageSource, KeepAlive, Message, Part, Prompt, Role, Sampling, StopRules,
    Thinking, Tool, ToolCall,
};
use serde_json::{Map, Value};

use super::Failure;
use super::types::{ChatRequest, PromptRequest, WireMessage, WireOptions};
use crate::fields::{self, Others, Refused};

const REFUSED: &[Refused] = &[
    Refused { field: "template", harmless: |value| value == "", why: "a model's own template is used" },
    Refused { field: "context", harmless: fields::if_empty, why: "it is deprecated, use /api/chat" },
    Refused { field: "logprobs", harmless: fields::if_empty, why: "use the OpenAI API for them" },
];

const OPTIONS_REFUSED: &[Refused] = &[
    Refused { field: "mirostat", harmless: |value| value.as_u64() == Some(0), why: "only 0 is" },
    Refused { field: "tfs_z", harmless: fields::if_one, why: "only 1 is" },
    Refused { field: "typical_p", harmless: fields::if_one, why: "only 1 is" },
    Refused { field: "repeat_last_n", harmless: |value| value.as_i64() == Some(-1), why: "all tokens count" },
    Refused { field: "penalize_newline", harmless: fields::if_true, why: "every token counts" },
];

/// A parsed request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: GenerateRequest,
    pub(super) stream: bool,
    /// Nothing is asked: the client only wants the model to be loaded.
    pub(super) loads: bool,
    /// How long the model stays afterwards.
    pub(super) keep: Option<KeepAlive>,
}

/// Parses a request for a chat.
pub(super) fn chat(body: &[u8], id: RequestId) -> Result<Call, Failure> {
    let wire: ChatRequest = fields::read(&fields::object(body, Others::Ignored, REFUSED)?)?;
    let loads = wire.messages.is_empty();
    let messages = wire.messages.into_iter().enumerate().map(|(index, message)| message_of(index, message));
    let messages = Prompt::Messages(messages.collect::<Result<_, _>>()?);
    let mut request = GenerateRequest::new(id, without_tag(wire.model), messages);
    let tools = wire.tools.unwrap_or_default().into_iter().enumerate();
    request.tools = tools.map(|(index, definition)| tool(index, definition)).collect::<Result<_, _>>()?;
    request.format = format(wire.format)?;
    finish(&mut request, wire.think.as_ref(), wire.options)?;
    Ok(Call { request, stream: wire.stream.unwrap_or(true), loads, keep: keep_alive(wire.keep_alive.as_ref())? })
}

/// Seconds as a number, or a duration as Go writes it: `"5m"`, `"1h30m"`. A negative one means for ever, which is here
/// as long as nobody else needs the memory: a client cannot take it from the others for good.
fn keep_alive(wire: Option<&Value>) -> Result<Option<KeepAlive>, Failure> {
    let wrong = |value: &Value| Failure::invalid(format!("keep_alive is {value}, allowed: seconds, or \"5m\" or such"));
    let ms = match wire {
        None | Some(Value::Null) => return Ok(None),
        Some(value @ Value::Number(number)) => {
            number.as_f64().map(|seconds| seconds * 1e3).ok_or_else(|| wrong(value))?
        }
        Some(value @ Value::String(text)) => duration_ms(text).ok_or_else(|| wrong(value))?,
        Some(other) => return Err(wrong(other)),
    };
    Ok(Some(if ms < 0.0 { KeepAlive::UntilNeeded } else { KeepAlive::Milliseconds(ms as u64) }))
}

fn duration_ms(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if let Ok(seconds) = rest.parse::<u32>() {
        return Some(sign * f64::from(seconds) * 1e3);
    }
    let mut sum = 0.0;
    // Ends: every round takes a number and a unit.
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        let unit_ms = match &rest[..letters] {
            "ns" => 1e-6,
            "us" | "µs" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3_600e3,
            _ => return None,
        };
        rest = &rest[letters..];
        sum += number * unit_ms;
    }
    if text.is_empty() { None } else { Some(sign * sum) }
}

/// `"json"`, or a schema.
fn format(wire: Option<Value>) -> Result<Format, Failure> {
    match wire {
        None | Some(Value::Null) => Ok(Format::Text),
        Some(Value::String(name)) if name.is_empty() => Ok(Format::Text),
        Some(Value::String(name)) if name == "json" => Ok(Format::JsonObject),
        Some(schema @ Value::Object(_)) => Ok(Format::JsonSchema(schema)),
        Some(other) => Err(Failure::invalid(format!("format is {other}, allowed: \"json\" or a JSON schema"))),
    }
}

/// Parses a request for the answer to a prompt.
pub(super) fn prompt(body: &[u8], id: RequestId) -> Result<Call, Failure> {
    let wire: PromptRequest = fields::read(&fields::object(body, Others::Ignored, REFUSED)?)?;
    let loads = wire.prompt.is_empty();
    let suffix = wire.suffix.filter(|suffix| !suffix.is_empty());
    let prompt = if wire.raw == Some(true) || suffix.is_some() {
        Prompt::Text(wire.prompt)
    } else {
        let system = wire.system.filter(|system| !system.is_empty()).map(|text| Message::text(Role::System, text));
        let content = content(wire.prompt, wire.images);
        let user = Message { content, ..Message::text(Role::User, "") };
        Prompt::Messages(system.into_iter().chain([user]).collect())
    };
    let mut request = GenerateRequest::new(id, without_tag(wire.model), prompt);
    request.suffix = suffix;
    request.format = format(wire.format)?;
    finish(&mut request, wire.think.as_ref(), wire.options)?;
    Ok(Call { request, stream: wire.stream.unwrap_or(true), loads, keep: keep_alive(wire.keep_alive.as_ref())? })
}

/// `name:latest` is `name`.
pub(super) fn without_tag(model: String) -> String {
    match model.strip_suffix(":latest") {
        Some(name) => name.to_owned(),
        None => model,
    }
}

fn finish(
    request: &mut GenerateRequest,
    think: Option<&Value>,
    options: Option<Map<String, Value>>,
) -> Result<(), Failure> {
    request.thinking = match think {
        None | Some(Value::Null) => Thinking::Default,
        Some(Value::Bool(true)) => Thinking::On,
        Some(Value::Bool(false)) => Thinking::Off,
        Some(Value::String(effort)) if matches!(effort.as_str(), "low" | "medium" | "high" | "max") => {
            request.template_variables.insert("reasoning_effort".to_owned(), effort.as_str().into());
            Thinking::On
        }
        Some(other) => {
            return Err(Failure::invalid(format!("think is {other}, allowed: true, false, low, medium, high, max")));
        }
    };
    let mut options = options.unwrap_or_default();
    fields::check(&mut options, Others::Ignored, OPTIONS_REFUSED)?;
    let options: WireOptions = fields::read(&Value::Object(options))?;
    request.max_tokens = match options.num_predict {
        // Without end, or until the context is full: the same here.
        None | Some(-1 | -2) => None,
        Some(most) => {
            let wrong = || Failure::invalid(format!("num_predict is {most}, allowed: -2, -1, 1 and more"));
            Some(u32::try_from(most).ok().filter(|&most| most > 0).ok_or_else(wrong)?)
        }
    };
    let strings = options.stop.unwrap_or_default();
    request.stop = StopRules { strings, ..StopRules::default() };
    request.stop.strings.retain(|string| !string.is_empty());
    request.sampling = Sampling {
        temperature: options.temperature,
        top_k: options.top_k,
        top_p: options.top_p,
        min_p: options.min_p,
        repetition_penalty: options.repeat_penalty,
        presence_penalty: options.presence_penalty,
        frequency_penalty: options.frequency_penalty,
        logit_bias: Vec::new(),
        seed: options.seed.map(i64::cast_unsigned),
    };
    Ok(())
}

fn message_of(index: usize, wire: WireMessage) -> Result<Message, Failure> {
    let role = match wire.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let message = format!("messages[{index}].role is {other:?}, allowed: system, user, assistant, tool");
            return Err(Failure::invalid(message));
        }
    };
    let calls = wire.tool_calls.unwrap_or_default().into_iter().map(|call| ToolCall {
        id: String::new(),
        name: call.function.name,
        arguments: Value::Object(call.function.arguments).to_string(),
    });
    Ok(Message {
        role,
        content: content(wire.content, wire.images),
        reasoning: wire.thinking.filter(|thinking| !thinking.is_empty()),
        tool_calls: calls.collect(),
        tool_call_id: wire.tool_call_id,
        name: wire.tool_name,
    })
}

/// Text, and pictures as base64.
fn content(text: String, images: Option<Vec<String>>) -> Content {
    let images = images.unwrap_or_default();
    if images.is_empty() {
        return Content::Text(text);
    }
    let pictures = images.into_iter().map(|data| Part::Image(ImageSource::Url(format!("data:;base64,{data}"))));
    Content::Parts(pictures.chain([Part::Text(text)]).collect())
}

fn tool(index: usize, definition: Value) -> Result<Tool, Failure> {
    match definition.pointer("/function/name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => Ok(Tool { name: name.to_owned(), definition }),
        Some(_) | None => Err(Failure::invalid(format!("tools[{index}].function.name is missing or empty"))),
    }
}
