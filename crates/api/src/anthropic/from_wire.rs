//! Wire forms to requests: pure and total.

use base::RequestId;
use chat::{Format, GenerateRequest, Prompt, Sampling, Thinking, Tool, ToolChoice};
use serde_json::{Map, Value, json};

use super::types::{
    COUNT_FIELDS, Conversation, MESSAGE_FIELDS, Settings, WireMessage, WireThinking, WireTool, WireToolChoice,
};
use super::{Failure, blocks};
use crate::fields::{self, Fault, Others, Refused};

/// The least that the vendor lets a client reserve for thinking.
const BUDGET_TOKENS_MIN: i64 = 1024;

const REFUSED: &[Refused] = &[
    Refused { field: "container", harmless: fields::never, why: "there are no containers" },
    Refused { field: "mcp_servers", harmless: fields::if_empty, why: "tools are called by the client" },
    Refused { field: "context_management", harmless: fields::never, why: "a conversation is never edited" },
    Refused { field: "diagnostics", harmless: fields::never, why: "there are no cache diagnostics" },
    Refused { field: "inference_geo", harmless: fields::never, why: "there is one place of inference" },
    Refused { field: "speed", harmless: |value| value == "standard", why: "only standard is" },
    Refused { field: "service_tier", harmless: |value| value == "auto" || value == "standard_only", why: "one tier" },
    Refused { field: "cache_control", harmless: fields::always, why: "" },
    Refused { field: "metadata", harmless: fields::always, why: "" },
    Refused { field: "user_profile_id", harmless: fields::always, why: "" },
];

/// Fields of a tool beside its name, description and schema.
const TOOL_REFUSED: &[Refused] = &[
    Refused { field: "type", harmless: |value| value == "custom", why: "only tools that the client calls itself are" },
    Refused { field: "defer_loading", harmless: fields::if_empty, why: "all tools are shown to the model" },
    Refused { field: "input_examples", harmless: fields::if_empty, why: "examples are not shown to the model" },
    Refused { field: "allowed_callers", harmless: |value| value == &json!(["direct"]), why: "only direct is" },
    Refused { field: "cache_control", harmless: fields::always, why: "" },
    Refused { field: "eager_input_streaming", harmless: fields::always, why: "" },
];

/// A parsed request for a message.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: GenerateRequest,
    pub(super) stream: bool,
}

/// Parses a request for a message.
pub(super) fn message(body: &[u8], id: RequestId) -> Result<Call, Failure> {
    let (config, body) = object(body, MESSAGE_FIELDS)?;
    let settings: Settings = fields::read(&body)?;
    let (mut request, budget) = conversation(&body, id, config)?;
    let most = u32::try_from(settings.max_tokens).ok().filter(|&most| most > 0).ok_or_else(|| {
        let given = settings.max_tokens;
        Failure::invalid(format!("max_tokens: Input should be greater than or equal to 1, it is {given}"))
    })?;
    if let Some(budget) = budget.filter(|&budget| budget >= settings.max_tokens) {
        let message = format!("max_tokens: {most} is not greater than thinking.budget_tokens, which is {budget}");
        return Err(Failure::invalid(message));
    }
    request.max_tokens = Some(most);
    request.stop.strings = settings.stop_sequences.unwrap_or_default();
    if request.stop.strings.iter().any(|string| string.trim().is_empty()) {
        let message = "stop_sequences: each stop sequence must contain non-whitespace".to_owned();
        return Err(Failure::invalid(message));
    }
    let top_k = settings.top_k.map(|top_k| {
        let wrong = || Failure::invalid(format!("top_k: Input should be greater than or equal to 0, it is {top_k}"));
        u32::try_from(top_k).map_err(|_| wrong())
    });
    if let Some(temperature) = settings.temperature.filter(|temperature| !(0.0..=1.0).contains(temperature)) {
        return Err(Failure::invalid(format!("temperature: range: 0..1, it is {temperature}")));
    }
    let top_k = top_k.transpose()?;
    let (temperature, top_p) = (settings.temperature, settings.top_p);
    request.sampling = Sampling { temperature, top_k, top_p, ..Sampling::default() };
    Ok(Call { request, stream: settings.stream.unwrap_or(false) })
}

/// Parses a request for tokens to be counted.
pub(super) fn count(body: &[u8], id: RequestId) -> Result<GenerateRequest, Failure> {
    let (config, body) = object(body, COUNT_FIELDS)?;
    Ok(conversation(&body, id, config)?.0)
}

/// What `output_config` asks for.
struct OutputConfig {
    effort: Option<Value>,
    format: Format,
}

/// The fields of a body, and its `output_config`.
fn object(body: &[u8], known: &[&str]) -> Result<(OutputConfig, Value), Failure> {
    let mut names = known.to_vec();
    names.push("output_config");
    let mut body = fields::object(body, Others::Refused(&names), REFUSED)?;
    let mut config = match body.as_object_mut().and_then(|body| body.shift_remove("output_config")) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(config)) => config,
        Some(_) => return Err(Failure::invalid("output_config: Input should be a valid dictionary".to_owned())),
    };
    at("output_config", fields::check(&mut config, Others::Refused(&["effort", "format"]), &[]))?;
    let format = format(config.shift_remove("format"))?;
    let effort = config.shift_remove("effort").filter(|effort| !effort.is_null());
    match effort.as_ref().map(Value::as_str) {
        None | Some(Some("low" | "medium" | "high" | "xhigh" | "max")) => Ok((OutputConfig { effort, format }, body)),
        Some(_) => {
            let message = "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'".to_owned();
            Err(Failure::invalid(message))
        }
    }
}

/// `{"type": "json_schema", "schema": …}`.
fn format(wire: Option<Value>) -> Result<Format, Failure> {
    let Some(wire) = wire.filter(|wire| !wire.is_null()) else { return Ok(Format::Text) };
    if wire["type"] != "json_schema" {
        return Err(Failure::invalid("output_config.format.type: Input should be 'json_schema'".to_owned()));
    }
    match wire.get("schema") {
        Some(schema @ Value::Object(_)) => Ok(Format::JsonSchema(schema.clone())),
        Some(_) => Err(Failure::invalid("output_config.format.schema: Input should be a valid dictionary".to_owned())),
        None => Err(Failure::invalid("output_config.format.schema: Field required".to_owned())),
    }
}

/// What both routes share, and the budget for thinking.
fn conversation(body: &Value, id: RequestId, config: OutputConfig) -> Result<(GenerateRequest, Option<i64>), Failure> {
    let wire: Conversation = fields::read(body)?;
    let mut messages = Vec::new();
    if let Some(system) = wire.system.filter(|system| !system.is_null()) {
        messages.extend(Some(blocks::system(&system)?).filter(|system| !system.plain_text().is_empty()));
    }
    match wire.messages.last() {
        None => return Err(Failure::invalid("messages: at least one message is required".to_owned())),
        // The vendor's words for models that cannot continue a message.
        Some(last) if last.role == "assistant" => {
            let message = "This model does not support assistant message prefill. \
                           The conversation must end with a user message.";
            return Err(Failure::invalid(message.to_owned()));
        }
        Some(_) => {}
    }
    for (index, WireMessage { role, content }) in wire.messages.iter().enumerate() {
        let path = format!("messages.{index}.content");
        match role.as_str() {
            "user" => messages.extend(blocks::user(&path, content)?),
            "assistant" => messages.push(blocks::assistant(&path, content)?),
            "system" => messages.push(blocks::system(content)?),
            other => {
                let message = format!("messages.{index}.role: Input should be 'user' or 'assistant', it is {other:?}");
                return Err(Failure::invalid(message));
            }
        }
    }
    let mut request = GenerateRequest::new(id, wire.model, Prompt::Messages(messages));
    let tools = wire.tools.unwrap_or_default().into_iter().enumerate();
    request.tools = tools.map(|(index, tool)| self::tool(index, tool)).collect::<Result<_, _>>()?;
    (request.tool_choice, request.parallel_tool_calls) = tool_choice(wire.tool_choice, &request.tools)?;
    let (thinking, budget) = thinking(wire.thinking)?;
    request.thinking = thinking;
    request.thinking_tokens_max = budget.and_then(|budget| u32::try_from(budget).ok());
    request.format = config.format;
    if let Some(effort) = config.effort {
        request.template_variables.insert("reasoning_effort".to_owned(), effort);
    }
    Ok((request, budget))
}

/// A tool in the form that templates know.
fn tool(index: usize, mut wire: Map<String, Value>) -> Result<Tool, Failure> {
    let path = format!("tools.{index}");
    let known = ["name", "description", "input_schema", "strict"];
    at(&path, fields::check(&mut wire, Others::Refused(&known), TOOL_REFUSED))?;
    let WireTool { name, description, input_schema, strict } = at(&path, fields::read(&Value::Object(wire)))?;
    if name.is_empty() {
        return Err(Failure::invalid(format!("{path}.name: String should have at least 1 character")));
    }
    let mut function = Map::new();
    function.insert("name".to_owned(), name.as_str().into());
    if let Some(description) = description {
        function.insert("description".to_owned(), description.into());
    }
    function.insert("parameters".to_owned(), Value::Object(input_schema));
    if strict == Some(true) {
        function.insert("strict".to_owned(), true.into());
    }
    Ok(Tool { name, definition: json!({"type": "function", "function": function}) })
}

/// The choice, and whether there may be several calls.
fn tool_choice(wire: Option<WireToolChoice>, tools: &[Tool]) -> Result<(ToolChoice, bool), Failure> {
    let (choice, alone) = match wire {
        None => (ToolChoice::Auto, None),
        Some(WireToolChoice::None {}) => (ToolChoice::None, None),
        Some(WireToolChoice::Auto { disable_parallel_tool_use }) => (ToolChoice::Auto, disable_parallel_tool_use),
        Some(WireToolChoice::Any { disable_parallel_tool_use }) => (ToolChoice::Required, disable_parallel_tool_use),
        Some(WireToolChoice::Tool { name, disable_parallel_tool_use }) => {
            if !tools.iter().any(|tool| tool.name == name) {
                return Err(Failure::invalid(format!("tool_choice.name: there is no tool {name:?} in tools")));
            }
            (ToolChoice::Named(name), disable_parallel_tool_use)
        }
    };
    Ok((choice, alone != Some(true)))
}

fn thinking(wire: Option<WireThinking>) -> Result<(Thinking, Option<i64>), Failure> {
    let (budget, display) = match wire {
        None | Some(WireThinking::Disabled {}) => return Ok((Thinking::Off, None)),
        Some(WireThinking::Adaptive { display }) => (None, display),
        Some(WireThinking::Enabled { budget_tokens, display }) => (Some(budget_tokens), display),
    };
    if let Some(budget) = budget.filter(|&budget| budget < BUDGET_TOKENS_MIN) {
        let least = BUDGET_TOKENS_MIN;
        let message =
            format!("thinking.budget_tokens: Input should be greater than or equal to {least}, it is {budget}");
        return Err(Failure::invalid(message));
    }
    match display.as_deref() {
        None | Some("summarized") => Ok((Thinking::On, budget)),
        Some(other) => {
            let why = format!("{other:?}, thinking is always shown");
            Err(Failure::unsupported("thinking.display", &why))
        }
    }
}

/// Puts the place of an object before the names of its fields.
fn at<T>(path: &str, result: Result<T, Fault>) -> Result<T, Failure> {
    result.map_err(|fault| match fault {
        Fault::Unsupported { field, why } => Failure::unsupported(&format!("{path}.{field}"), why),
        Fault::Unknown { field } => Failure::wrong(path, &format!("unknown field `{field}`")),
        Fault::Wrong { path: Some(inner), why } => Failure::wrong(&format!("{path}.{inner}"), &why),
        Fault::Wrong { path: None, why } => Failure::wrong(path, &why),
        other => other.into(),
    })
}
