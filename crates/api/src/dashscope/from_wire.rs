//! Wire forms to requests: pure and total.

use base::RequestId;
use chat::{
    Content, Format, GenerateRequest, ImageSource, Message, Part, Prompt, Role, Sampling, StopRules, Thinking, Tool,
    ToolCall, ToolChoice, Video,
};
use serde_json::{Map, Value};

use super::Failure;
use super::types::{ChatInput, ChatParameters, Envelope, WireContent, WireMessage, WirePart, WireStop, WireVideo};
use crate::fields::{self, Others, Refused};

/// Choices of one request, as the vendor has it.
const CHOICES_MAX: u32 = 4;

const REFUSED: &[Refused] = &[
    Refused { field: "enable_search", harmless: fields::if_empty, why: "this server does not search the web" },
    Refused { field: "search_options", harmless: fields::if_empty, why: "this server does not search the web" },
    Refused { field: "logprobs", harmless: fields::if_empty, why: "use the OpenAI API for them" },
    Refused { field: "top_logprobs", harmless: |value| value == 0, why: "use the OpenAI API for them" },
    Refused { field: "parallel_tool_calls", harmless: fields::always, why: "" },
];

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Message,
    /// A message whose content is a list of parts.
    Parts,
}

/// A parsed request: one generation for each choice.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) requests: Vec<GenerateRequest>,
    pub(super) form: Form,
    /// Pieces of a stream say what is new, not everything so far.
    pub(super) incremental: bool,
}

/// The body of any request. Parameters may be absent; those that are refused are checked.
pub(super) fn envelope(body: &[u8], refused: &[Refused]) -> Result<Value, Failure> {
    let mut value = fields::object(body, Others::Ignored, &[])?;
    let parameters = match value["parameters"].take() {
        Value::Null => Map::new(),
        Value::Object(parameters) => parameters,
        other => return Err(Failure::invalid(format!("parameters is {other}, it must be an object"))),
    };
    let mut parameters = parameters;
    fields::check(&mut parameters, Others::Ignored, refused)?;
    value["parameters"] = Value::Object(parameters);
    Ok(value)
}

/// Parses a request for a generation with text.
pub(super) fn generation(body: &[u8], id: RequestId) -> Result<Call, Failure> {
    call(body, id, false)
}

/// Parses a request for a generation with pictures and videos, whose answer is always a message of parts.
pub(super) fn multimodal(body: &[u8], id: RequestId) -> Result<Call, Failure> {
    call(body, id, true)
}

fn call(body: &[u8], id: RequestId, is_multimodal: bool) -> Result<Call, Failure> {
    let wire: Envelope<ChatInput, ChatParameters> = fields::read(&envelope(body, REFUSED)?)?;
    let parameters = wire.parameters;
    let tools = parameters.tools.unwrap_or_default();
    let form = match parameters.result_format.as_deref() {
        Some("message") | None if is_multimodal => Form::Parts,
        Some("message") => Form::Message,
        Some("text") | None if tools.is_empty() => Form::Text,
        Some("text") | None => {
            return Err(Failure::invalid("parameters.tools needs result_format \"message\"".to_owned()));
        }
        Some(other) => {
            return Err(Failure::invalid(format!("parameters.result_format is {other:?}, allowed: text, message")));
        }
    };
    let mut request = GenerateRequest::new(id, wire.model, Prompt::Messages(messages(wire.input)?));
    request.tools = tools.into_iter().enumerate().map(tool).collect::<Result<_, _>>()?;
    request.tool_choice = tool_choice(parameters.tool_choice.as_ref())?;
    request.thinking = match parameters.enable_thinking {
        None => Thinking::Default,
        Some(true) => Thinking::On,
        Some(false) => Thinking::Off,
    };
    request.thinking_tokens_max = parameters.thinking_budget;
    request.format = format(parameters.response_format)?;
    if let Some(most) = parameters.max_tokens {
        let in_range = u32::try_from(most).ok().filter(|&most| most > 0);
        let wrong = || Failure::invalid(format!("parameters.max_tokens is {most}, it must be 1 or more"));
        request.max_tokens = Some(in_range.ok_or_else(wrong)?);
    }
    request.stop = stop(parameters.stop);
    request.sampling = Sampling {
        temperature: parameters.temperature,
        top_k: parameters.top_k,
        top_p: parameters.top_p,
        min_p: parameters.min_p,
        repetition_penalty: parameters.repetition_penalty,
        presence_penalty: parameters.presence_penalty,
        frequency_penalty: parameters.frequency_penalty,
        logit_bias: Vec::new(),
        seed: parameters.seed.map(i64::cast_unsigned),
    };
    let n = parameters.n.unwrap_or(1);
    if !(1..=CHOICES_MAX).contains(&n) || (n > 1 && form == Form::Text) {
        let allowed = if form == Form::Text { "1 with result_format text" } else { "1 to 4" };
        return Err(Failure::invalid(format!("parameters.n is {n}, allowed: {allowed}")));
    }
    Ok(Call { requests: choices(&request, n), form, incremental: parameters.incremental_output.unwrap_or(false) })
}

/// Choices must differ although they share a seed; the first is as if it were alone.
fn choices(request: &GenerateRequest, n: u32) -> Vec<GenerateRequest> {
    let one = |choice: u32| {
        let mut one = request.clone();
        one.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(u64::from(choice)));
        one
    };
    (0..n).map(one).collect()
}

fn messages(input: ChatInput) -> Result<Vec<Message>, Failure> {
    if let Some(messages) = input.messages {
        if messages.is_empty() {
            return Err(Failure::invalid("input.messages is empty, one or more are needed".to_owned()));
        }
        return messages.into_iter().enumerate().map(|(index, message)| message_of(index, message)).collect();
    }
    let turns = input
        .history
        .into_iter()
        .flat_map(|turn| [Message::text(Role::User, turn.user), Message::text(Role::Assistant, turn.bot)]);
    let Some(prompt) = input.prompt.filter(|prompt| !prompt.is_empty()) else {
        return Err(Failure::invalid("input has neither messages nor a prompt".to_owned()));
    };
    Ok(turns.chain([Message::text(Role::User, prompt)]).collect())
}

fn message_of(index: usize, wire: WireMessage) -> Result<Message, Failure> {
    let role = match wire.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let allowed = "system, user, assistant, tool";
            return Err(Failure::invalid(format!("input.messages[{index}].role is {other:?}, allowed: {allowed}")));
        }
    };
    if wire.partial == Some(true) {
        return Err(Failure::invalid(format!("input.messages[{index}].partial is not supported")));
    }
    let calls = wire.tool_calls.unwrap_or_default().into_iter();
    let content = match wire.content {
        Some(WireContent::Text(text)) => Content::Text(text),
        Some(WireContent::Parts(parts)) => {
            let parts = parts.into_iter().zip(0..).map(|(wire, at)| part(wire, index, at));
            Content::Parts(parts.collect::<Result<_, _>>()?)
        }
        None if role == Role::Assistant => Content::None,
        None => return Err(Failure::invalid(format!("input.messages[{index}].content is missing"))),
    };
    Ok(Message {
        role,
        content,
        reasoning: wire.reasoning_content.filter(|reasoning| !reasoning.is_empty()),
        tool_calls: calls
            .map(|call| ToolCall { id: call.id, name: call.function.name, arguments: call.function.arguments })
            .collect(),
        tool_call_id: wire.tool_call_id,
        name: wire.name,
    })
}

fn part(wire: WirePart, message: usize, at: usize) -> Result<Part, Failure> {
    let wrong = |what: &str| Failure::invalid(format!("input.messages[{message}].content[{at}]{what}"));
    if wire.min_pixels.or(wire.max_pixels).is_some() {
        return Err(wrong(": min_pixels and max_pixels are not supported: the model's own limits hold"));
    }
    if wire.audio.is_some() {
        return Err(wrong(".audio is not supported"));
    }
    match (wire.text, wire.image, wire.video) {
        (Some(text), None, None) => Ok(Part::Text(text)),
        (None, Some(url), None) => Ok(Part::Image(ImageSource::Url(url))),
        (None, None, Some(WireVideo::File(url))) => Ok(Part::Video(Video::File(ImageSource::Url(url)))),
        (None, None, Some(WireVideo::Frames(urls))) => {
            let frames = urls.into_iter().map(ImageSource::Url).collect();
            Ok(Part::Video(Video::Frames { frames, per_second: wire.fps }))
        }
        _ => Err(wrong(" must have one of: text, image, video")),
    }
}

fn tool((index, definition): (usize, Value)) -> Result<Tool, Failure> {
    match definition.pointer("/function/name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => Ok(Tool { name: name.to_owned(), definition }),
        Some(_) | None => Err(Failure::invalid(format!("parameters.tools[{index}].function.name is missing or empty"))),
    }
}

fn tool_choice(wire: Option<&Value>) -> Result<ToolChoice, Failure> {
    match wire {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(value) => match (value.as_str(), value.pointer("/function/name").and_then(Value::as_str)) {
            (Some("auto"), _) => Ok(ToolChoice::Auto),
            (Some("none"), _) => Ok(ToolChoice::None),
            (None, Some(name)) => Ok(ToolChoice::Named(name.to_owned())),
            _ => {
                let allowed = "auto, none, or a named function";
                Err(Failure::invalid(format!("parameters.tool_choice is {value}, allowed: {allowed}")))
            }
        },
    }
}

fn format(wire: Option<Map<String, Value>>) -> Result<Format, Failure> {
    let Some(wire) = wire else { return Ok(Format::Text) };
    match wire.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::JsonObject),
        Some("json_schema") => match wire.get("json_schema").and_then(|inner| inner.get("schema")) {
            Some(schema) => Ok(Format::JsonSchema(schema.clone())),
            None => Err(Failure::invalid("parameters.response_format.json_schema.schema is missing".to_owned())),
        },
        _ => {
            let allowed = "text, json_object, json_schema";
            Err(Failure::invalid(format!("parameters.response_format.type is not one of: {allowed}")))
        }
    }
}

fn stop(wire: Option<WireStop>) -> StopRules {
    let mut rules = StopRules::default();
    match wire {
        None => {}
        Some(WireStop::One(string)) => rules.strings.push(string),
        Some(WireStop::Many(strings)) => rules.strings = strings,
        Some(WireStop::Tokens(tokens)) => rules.tokens = tokens,
    }
    rules.strings.retain(|string| !string.is_empty());
    rules
}
