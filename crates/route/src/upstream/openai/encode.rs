//! Requests in the OpenAI form.
//!
//! Fields that only some servers know are sent to those; to others a request that needs them is refused by name.

use chat::{Content, Format, GenerateRequest, Message, Part, Prompt, Role, Thinking, Tool, ToolChoice, Video};
use serde_json::{Map, Value, json};

use crate::Fault;
use crate::upstream::media::{image_url, video};
use crate::upstream::{Server, unsupported};

/// The variable of templates that plain servers know as a field of their own.
const EFFORT: &str = "reasoning_effort";

/// The body of a chat request.
pub(in crate::upstream) fn chat(
    request: &GenerateRequest,
    messages: &[Message],
    model: &str,
    server: Server,
) -> Result<Value, Fault> {
    let mut body = shared(request, model, server)?;
    let messages: Result<Vec<Value>, Fault> = messages.iter().map(|one| message(one, server)).collect();
    body.insert("messages".to_owned(), messages?.into());
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(tool).collect::<Vec<_>>().into());
        body.insert("tool_choice".to_owned(), tool_choice(&request.tool_choice));
        if !request.parallel_tool_calls {
            body.insert("parallel_tool_calls".to_owned(), false.into());
        }
    }
    format(&request.format, server, &mut body)?;
    thinking(request, server, &mut body)?;
    Ok(Value::Object(body))
}

/// The body of a request that continues text or tokens.
pub(in crate::upstream) fn completion(request: &GenerateRequest, model: &str, server: Server) -> Result<Value, Fault> {
    let mut body = shared(request, model, server)?;
    let prompt = match &request.prompt {
        Prompt::Text(text) => text.as_str().into(),
        Prompt::Tokens(tokens) => tokens.as_slice().into(),
        Prompt::Messages(_) => return Err(unsupported("a conversation", "this form continues text")),
    };
    if request.format != Format::Text {
        return Err(unsupported("a form of the answer", "a completion has none"));
    }
    if !request.files.is_empty() {
        return Err(unsupported("files beside the one that is written", "this form has no place for them"));
    }
    body.insert("prompt".to_owned(), prompt);
    if let Some(suffix) = &request.suffix {
        body.insert("suffix".to_owned(), suffix.as_str().into());
    }
    Ok(Value::Object(body))
}

/// The body of vLLM's `/tokenize`.
pub(in crate::upstream) fn tokenize(request: &GenerateRequest, model: &str, server: Server) -> Result<Value, Fault> {
    match &request.prompt {
        Prompt::Text(text) => Ok(json!({"model": model, "prompt": text})),
        Prompt::Tokens(_) => Err(unsupported("counting tokens", "they are counted already")),
        Prompt::Messages(messages) => {
            let messages: Result<Vec<Value>, Fault> = messages.iter().map(|one| message(one, server)).collect();
            let mut body = json!({"model": model, "messages": messages?});
            if !request.tools.is_empty() {
                body["tools"] = request.tools.iter().map(tool).collect();
            }
            Ok(body)
        }
    }
}

fn shared(request: &GenerateRequest, model: &str, server: Server) -> Result<Map<String, Value>, Fault> {
    if request.logprobs.is_some() {
        return Err(unsupported("log probabilities", "upstreams do not say which tokens they are about"));
    }
    if request.echo {
        return Err(unsupported("echo", "only models of this machine repeat the prompt"));
    }
    let mut options = json!({"include_usage": true});
    if server.is_vllm() {
        options["continuous_usage_stats"] = true.into();
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.insert("stream".to_owned(), true.into());
    body.insert("stream_options".to_owned(), options);
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let sampling = &request.sampling;
    put("temperature", sampling.temperature.map(decimal));
    put("top_p", sampling.top_p.map(decimal));
    put("presence_penalty", sampling.presence_penalty.map(decimal));
    put("frequency_penalty", sampling.frequency_penalty.map(decimal));
    put("seed", sampling.seed.map(Into::into));
    let most = if server == Server::OpenAi { "max_completion_tokens" } else { "max_tokens" };
    put(most, request.max_tokens.map(Into::into));
    let bias = sampling.logit_bias.iter().map(|&(token, bias)| (token.to_string(), decimal(bias)));
    put("logit_bias", (!sampling.logit_bias.is_empty()).then(|| Value::Object(bias.collect())));
    put("stop", (!request.stop.strings.is_empty()).then(|| request.stop.strings.as_slice().into()));
    // Fields beyond OpenAI's documentation, with the meaning that vLLM gave them.
    let tokens = (!request.stop.tokens.is_empty()).then(|| request.stop.tokens.as_slice().into());
    let extensions = [
        ("top_k", sampling.top_k.map(Into::into)),
        ("min_p", sampling.min_p.map(decimal)),
        ("repetition_penalty", sampling.repetition_penalty.map(decimal)),
        ("stop_token_ids", tokens),
        ("ignore_eos", request.stop.ignore_eos.then(|| true.into())),
    ];
    for (name, value) in extensions {
        if value.is_some() && !server.knows(name) {
            return Err(unsupported(name, "this upstream's API has no such field"));
        }
        put(server.spells(name), value);
    }
    if !request.speculates && server == Server::Sampan {
        put("speculate", Some(false.into()));
    }
    Ok(body)
}

/// As its shortest decimal form says it: `0.7`, not `0.699999988079071`.
fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

fn message(message: &Message, server: Server) -> Result<Value, Fault> {
    let mut wire = Map::new();
    wire.insert("role".to_owned(), message.role.as_str().into());
    wire.insert("content".to_owned(), content(&message.content)?);
    if let Some(reasoning) = message.reasoning.as_ref().filter(|_| server.knows("reasoning_content")) {
        wire.insert("reasoning_content".to_owned(), reasoning.as_str().into());
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"id": call.id, "type": "function", "function": function})
        });
        wire.insert("tool_calls".to_owned(), calls.collect::<Vec<_>>().into());
    }
    if message.role == Role::Tool {
        wire.insert("tool_call_id".to_owned(), message.tool_call_id.as_deref().unwrap_or_default().into());
    } else if let Some(name) = &message.name {
        wire.insert("name".to_owned(), name.as_str().into());
    }
    Ok(Value::Object(wire))
}

fn content(content: &Content) -> Result<Value, Fault> {
    let parts = match content {
        Content::None => return Ok(Value::Null),
        Content::Text(text) => return Ok(text.as_str().into()),
        Content::Parts(parts) => parts,
    };
    let parts: Result<Vec<Value>, Fault> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Ok(json!({"type": "text", "text": text})),
            Part::Image(source) => Ok(json!({"type": "image_url", "image_url": {"url": image_url(source)?}})),
            Part::Video(clip @ Video::File(_)) => Ok(json!({"type": "video_url", "video_url": {"url": video(clip)?}})),
            Part::Video(clip @ Video::Frames { .. }) => Ok(json!({"type": "video", "video": video(clip)?})),
        })
        .collect();
    Ok(parts?.into())
}

/// The definition with its `function` around it, which some clients leave out.
pub(in crate::upstream) fn tool(tool: &Tool) -> Value {
    if tool.definition.get("function").is_some() {
        return tool.definition.clone();
    }
    let mut function = tool.definition.as_object().cloned().unwrap_or_default();
    function.shift_remove("type");
    function.entry("name").or_insert_with(|| tool.name.as_str().into());
    json!({"type": "function", "function": function})
}

pub(in crate::upstream) fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    }
}

fn format(format: &Format, server: Server, body: &mut Map<String, Value>) -> Result<(), Fault> {
    let (name, value) = match format {
        Format::Text => return Ok(()),
        Format::JsonObject => ("response_format", json!({"type": "json_object"})),
        Format::JsonSchema(schema) => {
            let named = json!({"name": "answer", "schema": schema, "strict": true});
            ("response_format", json!({"type": "json_schema", "json_schema": named}))
        }
        Format::Regex(regex) if server.knows("structured_outputs") => ("structured_outputs", json!({"regex": regex})),
        Format::Regex(regex) if server == Server::Sglang => ("regex", regex.as_str().into()),
        Format::Regex(_) => return Err(unsupported("a regular expression", "this upstream's API has no such field")),
        Format::Lark(lark) if server.knows("structured_outputs") => ("structured_outputs", json!({"grammar": lark})),
        Format::Lark(_) => return Err(unsupported("a grammar", "this upstream's API has no such field")),
    };
    body.insert(name.to_owned(), value);
    Ok(())
}

/// Switches reasoning where the server has a switch. One without a switch is taken not to reason unless it is told an
/// effort, so `Off` needs nothing there. A budget is told to whoever knows it. With others `max_tokens` alone bounds
/// the reasoning: a dialect whose clients always name a budget would find no such server.
fn thinking(request: &GenerateRequest, server: Server, body: &mut Map<String, Value>) -> Result<(), Fault> {
    let mut variables = request.template_variables.clone();
    if let Some(budget) = request.thinking_tokens_max.filter(|_| server == Server::Sampan) {
        body.insert("thinking_budget".to_owned(), budget.into());
    }
    if server.knows("chat_template_kwargs") {
        match request.thinking {
            Thinking::Default => {}
            Thinking::On => _ = variables.insert("enable_thinking".to_owned(), true.into()),
            Thinking::Off => _ = variables.insert("enable_thinking".to_owned(), false.into()),
        }
        if !variables.is_empty() {
            body.insert("chat_template_kwargs".to_owned(), Value::Object(variables));
        }
        return Ok(());
    }
    let effort = variables.shift_remove(EFFORT);
    if let Some(name) = variables.keys().next() {
        return Err(unsupported(&format!("chat_template_kwargs.{name}"), "this upstream's API has no such field"));
    }
    if request.thinking == Thinking::On && effort.is_none() {
        return Err(unsupported("thinking", "this upstream is told an effort (reasoning_effort), not a switch"));
    }
    if let Some(effort) = effort {
        body.insert(EFFORT.to_owned(), effort);
    }
    Ok(())
}
