//! What is asked, as a request: pure.

use base::RequestId;
use chat::{Content, Format, GenerateRequest, ImageSource, Message, Part, Prompt, Role, Tool, ToolCall, ToolChoice};
use serde_json::{Map, Value, json};

use super::types::{
    CreateRequest, FIELDS, Item, ItemContent, ItemPart, ReasoningText, Status, WireInput, WireResponse,
};
use crate::fields::{self, Others, Refused};
use crate::openai::{Failure, from_wire};

/// Pairs of metadata, as the vendor has it.
const METADATA_MAX: usize = 16;

const REFUSED: &[Refused] = &[
    Refused { field: "conversation", harmless: fields::never, why: "use previous_response_id" },
    Refused { field: "prompt", harmless: fields::never, why: "prompts are not stored here" },
    Refused { field: "truncation", harmless: |value| value == "disabled", why: "a prompt is never cut" },
    Refused { field: "include", harmless: only_reasoning, why: "only reasoning.encrypted_content is, as plain text" },
    Refused { field: "top_logprobs", harmless: |value| value == 0, why: "use /v1/chat/completions for them" },
    Refused { field: "max_tool_calls", harmless: fields::never, why: "no tool is called by this server" },
    Refused { field: "context_management", harmless: fields::if_empty, why: "a conversation is never shortened" },
    Refused { field: "parallel_tool_calls", harmless: fields::if_true, why: "only true is" },
    Refused { field: "service_tier", harmless: fields::if_automatic, why: "there is one tier" },
    Refused { field: "stream_options", harmless: fields::always, why: "" },
    Refused { field: "user", harmless: fields::always, why: "" },
    Refused { field: "safety_identifier", harmless: fields::always, why: "" },
    Refused { field: "prompt_cache_key", harmless: fields::always, why: "" },
    Refused { field: "prompt_cache_retention", harmless: fields::always, why: "" },
];

/// Reasoning always comes along, readable; whoever wants it encrypted, to send it back, can send back the text.
fn only_reasoning(include: &Value) -> bool {
    include.as_array().is_some_and(|names| names.iter().all(|name| name == "reasoning.encrypted_content"))
}

/// A parsed request, without the conversation before it.
pub(super) struct Call {
    pub(super) request: GenerateRequest,
    pub(super) instructions: Option<String>,
    pub(super) input: Vec<Item>,
    /// The response as it begins.
    pub(super) response: WireResponse,
    pub(super) stream: bool,
    /// It was said, not assumed, that the response is stored.
    pub(super) asks_to_store: bool,
}

/// Parses a request. `id` names it, and everything that is made for it.
pub(super) fn create(body: &[u8], id: RequestId, response_id: String, now_s: u64) -> Result<Call, Failure> {
    let body = fields::object(body, Others::Refused(FIELDS), REFUSED)?;
    let wire: CreateRequest = fields::read(&body)?;
    let input = items(wire.input, id)?;
    if input.is_empty() && wire.previous_response_id.is_none() && wire.instructions.is_none() {
        return Err(wrong("input", "is missing or empty"));
    }
    let background = wire.background.unwrap_or(false);
    let (store, asks_to_store) = (wire.store.unwrap_or(true), background || wire.store == Some(true));
    let stream = wire.stream.unwrap_or(false);
    if background && !store {
        return Err(wrong("background", "needs store: true"));
    }
    if background && stream {
        return Err(wrong("stream", "is not supported with background: poll the response"));
    }
    let metadata = wire.metadata.unwrap_or_default();
    check_metadata(&metadata)?;
    let tools = wire.tools.unwrap_or_default();
    let text = wire.text.unwrap_or_default();
    let reasoning = wire.reasoning.unwrap_or_default();
    let mut request = GenerateRequest::new(id, wire.model.clone(), Prompt::Messages(Vec::new()));
    request.tools = tools.iter().enumerate().map(|(index, wire)| tool(index, wire)).collect::<Result<_, _>>()?;
    request.tool_choice = tool_choice(wire.tool_choice.as_ref())?;
    request.thinking = from_wire::thinking(None, reasoning.effort.as_deref())?;
    if let Some(effort) = &reasoning.effort {
        request.template_variables.insert("reasoning_effort".to_owned(), effort.as_str().into());
    }
    request.format = format(&text.format)?;
    request.sampling.temperature = wire.temperature;
    request.sampling.top_p = wire.top_p;
    if let Some(most) = wire.max_output_tokens {
        let most = u32::try_from(most).ok().filter(|&most| most > 0);
        request.max_tokens = Some(most.ok_or_else(|| wrong("max_output_tokens", "must be 1 or more"))?);
    }
    let response = WireResponse {
        id: response_id,
        object: "response".to_owned(),
        created_at: now_s,
        status: if background { Status::Queued } else { Status::InProgress },
        background,
        completed_at: None,
        error: None,
        incomplete_details: None,
        instructions: wire.instructions.clone(),
        max_output_tokens: request.max_tokens,
        model: wire.model,
        output: Vec::new(),
        parallel_tool_calls: true,
        previous_response_id: wire.previous_response_id,
        reasoning,
        store,
        temperature: wire.temperature,
        text,
        tool_choice: wire.tool_choice.filter(|choice| !choice.is_null()).unwrap_or_else(|| "auto".into()),
        tools,
        top_p: wire.top_p,
        truncation: "disabled".to_owned(),
        usage: None,
        metadata,
    };
    Ok(Call { request, instructions: wire.instructions, input, response, stream, asks_to_store })
}

fn wrong(param: &str, why: &str) -> Failure {
    Failure::invalid(format!("{param} {why}"), Some(param.to_owned()))
}

fn check_metadata(metadata: &Map<String, Value>) -> Result<(), Failure> {
    if metadata.len() > METADATA_MAX {
        return Err(wrong("metadata", &format!("has {} pairs, {METADATA_MAX} allowed", metadata.len())));
    }
    match metadata.iter().find(|(_, value)| !value.is_string()) {
        Some((name, value)) => Err(wrong("metadata", &format!("{name:?} is {value}, it must be a string"))),
        None => Ok(()),
    }
}

/// Reads the items and names those that have no id.
fn items(input: WireInput, id: RequestId) -> Result<Vec<Item>, Failure> {
    let values = match input {
        WireInput::Text(text) => {
            let content = ItemContent::Parts(vec![ItemPart::InputText { text }]);
            let (id, status) = (format!("msg_{id}i0"), super::types::completed());
            return Ok(vec![Item::Message { id, status, role: "user".to_owned(), content }]);
        }
        WireInput::Items(values) => values,
    };
    values.into_iter().enumerate().map(|(index, value)| item(index, value, id)).collect()
}

fn item(index: usize, mut value: Value, request: RequestId) -> Result<Item, Failure> {
    if let Some(object) = value.as_object_mut() {
        // A message need not say that it is one, and what it has not may be null.
        object.retain(|_, value| !value.is_null());
        if !object.contains_key("type") && object.contains_key("role") {
            object.insert("type".to_owned(), "message".into());
        }
    }
    let mut item: Item = serde_json::from_value(value).map_err(|why| {
        let param = format!("input[{index}]");
        Failure::invalid(format!("{param}: {why}"), Some(param))
    })?;
    check_pictures(index, &item)?;
    let (id, letters) = item.id_mut();
    if id.is_empty() {
        *id = format!("{letters}_{request}i{index:x}");
    }
    Ok(item)
}

/// Whether every picture is named, and in one way.
fn check_pictures(index: usize, item: &Item) -> Result<(), Failure> {
    let (Item::Message { content, .. } | Item::FunctionCallOutput { output: content, .. }) = item else {
        return Ok(());
    };
    let ItemContent::Parts(parts) = content else { return Ok(()) };
    for (part, wire) in parts.iter().enumerate() {
        let why = match wire {
            ItemPart::InputImage { image_url: None, file_id: None, .. } => "has neither image_url nor file_id",
            ItemPart::InputImage { image_url: Some(_), file_id: Some(_), .. } => "has both image_url and file_id",
            ItemPart::InputImage { .. } | ItemPart::InputText { .. } | ItemPart::OutputText { .. } => continue,
        };
        let param = format!("input[{index}].content[{part}]");
        return Err(Failure::invalid(format!("{param} {why}"), Some(param)));
    }
    Ok(())
}

/// The conversation as the model sees it.
pub(super) fn messages(instructions: Option<&str>, items: &[Item]) -> Result<Vec<Message>, Failure> {
    let mut messages: Vec<Message> = instructions.map(|text| Message::text(Role::System, text)).into_iter().collect();
    // What the model said in one turn comes as several items.
    let mut turn: Option<Message> = None;
    for (index, item) in items.iter().enumerate() {
        match item {
            Item::Message { role, content, .. } if role == "assistant" => {
                let full = |turn: &Message| turn.content != Content::None || !turn.tool_calls.is_empty();
                if turn.as_ref().is_some_and(full) {
                    messages.extend(turn.take());
                }
                turn.get_or_insert_with(silent).content = Content::Text(plain(content));
            }
            Item::Message { role, content, .. } => {
                messages.extend(turn.take());
                messages.push(Message { content: content_of(content), ..Message::text(role_of(index, role)?, "") });
            }
            Item::Reasoning { content, summary, .. } => {
                messages.extend(turn.take());
                turn = Some(Message { reasoning: thoughts(content, summary), ..silent() });
            }
            Item::FunctionCall { call_id, name, arguments, .. } => {
                let call = ToolCall { id: call_id.clone(), name: name.clone(), arguments: arguments.clone() };
                turn.get_or_insert_with(silent).tool_calls.push(call);
            }
            Item::FunctionCallOutput { call_id, output, .. } => {
                messages.extend(turn.take());
                let message = Message { content: content_of(output), ..Message::text(Role::Tool, "") };
                messages.push(Message { tool_call_id: Some(call_id.clone()), ..message });
            }
        }
    }
    messages.extend(turn);
    Ok(messages)
}

fn silent() -> Message {
    Message { content: Content::None, ..Message::text(Role::Assistant, "") }
}

fn role_of(index: usize, role: &str) -> Result<Role, Failure> {
    match role {
        "user" => Ok(Role::User),
        "system" | "developer" => Ok(Role::System),
        other => {
            let param = format!("input[{index}].role");
            let message = format!("{param} is {other:?}, allowed: user, assistant, system, developer");
            Err(Failure::invalid(message, Some(param)))
        }
    }
}

fn content_of(content: &ItemContent) -> Content {
    match content {
        ItemContent::Text(text) => Content::Text(text.clone()),
        ItemContent::Parts(parts) => Content::Parts(parts.iter().map(part_of).collect()),
    }
}

fn part_of(part: &ItemPart) -> Part {
    match part {
        ItemPart::InputText { text } | ItemPart::OutputText { text, .. } => Part::Text(text.clone()),
        ItemPart::InputImage { file_id: Some(id), .. } => Part::Image(ImageSource::File(id.clone())),
        ItemPart::InputImage { image_url, .. } => Part::Image(ImageSource::Url(image_url.clone().unwrap_or_default())),
    }
}

fn plain(content: &ItemContent) -> String {
    Message { content: content_of(content), ..silent() }.plain_text()
}

fn thoughts(content: &[ReasoningText], summary: &[Value]) -> Option<String> {
    let text: String = content.iter().map(|part| part.text.as_str()).collect();
    let summary = || summary.iter().filter_map(|part| part["text"].as_str()).collect::<String>();
    let text = if text.is_empty() { summary() } else { text };
    (!text.is_empty()).then_some(text)
}

/// A function, which stands in this API without the object around it.
fn tool(index: usize, wire: &Value) -> Result<Tool, Failure> {
    let at = |field: &str| Some(format!("tools[{index}].{field}"));
    if wire["type"] != "function" {
        let message = format!("tools[{index}].type is {}, only \"function\" is supported", wire["type"]);
        return Err(Failure::invalid(message, at("type")));
    }
    let name = wire["name"].as_str().filter(|name| !name.is_empty());
    let missing = || Failure::invalid(format!("tools[{index}].name is missing or empty"), at("name"));
    let name = name.ok_or_else(missing)?.to_owned();
    let mut function = wire.as_object().cloned().unwrap_or_default();
    function.shift_remove("type");
    Ok(Tool { name, definition: json!({"type": "function", "function": function}) })
}

fn tool_choice(wire: Option<&Value>) -> Result<ToolChoice, Failure> {
    let Some(value) = wire.filter(|value| !value.is_null()) else { return Ok(ToolChoice::Auto) };
    match (value.as_str(), value["name"].as_str()) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("required"), _) => Ok(ToolChoice::Required),
        (None, Some(name)) if value["type"] == "function" => Ok(ToolChoice::Named(name.to_owned())),
        _ => Err(wrong("tool_choice", &format!("is {value}, allowed: none, auto, required, or a named function"))),
    }
}

fn format(wire: &Value) -> Result<Format, Failure> {
    let invalid = |message: String| Failure::invalid(message, Some("text.format".to_owned()));
    match wire["type"].as_str() {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::JsonObject),
        Some("json_schema") => match wire.get("schema") {
            Some(schema) => Ok(Format::JsonSchema(schema.clone())),
            None => Err(invalid("text.format.schema is missing".to_owned())),
        },
        _ => Err(invalid(format!("text.format.type is {}, allowed: text, json_object, json_schema", wire["type"]))),
    }
}
