//! Requests in Anthropic's form.

use chat::{Content, Format, GenerateRequest, ImageSource, Message, Part, Role, Thinking, Tool, ToolChoice};
use serde_json::{Map, Value, json};

use crate::Fault;
use crate::upstream::media::{encoded, image_type, unopened};
use crate::upstream::unsupported;

const WHY: &str = "Anthropic's API has no such field";
/// The least that the vendor lets a model think.
const BUDGET_TOKENS_MIN: u32 = 1_024;

/// The body of a request for a message. `most_tokens` stands where the request sets no limit; the vendor requires one.
pub(in crate::upstream) fn messages(
    request: &GenerateRequest,
    messages: &[Message],
    model: &str,
    most_tokens: u32,
) -> Result<Value, Fault> {
    refuse_unknown(request)?;
    let mut body = conversation(request, messages, model)?;
    let most = request.max_tokens.unwrap_or(most_tokens);
    body.insert("max_tokens".to_owned(), most.into());
    body.insert("stream".to_owned(), true.into());
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let sampling = &request.sampling;
    put("temperature", sampling.temperature.map(|value| value.to_string().parse::<f64>().unwrap_or(1.0).into()));
    put("top_p", sampling.top_p.map(|value| value.to_string().parse::<f64>().unwrap_or(1.0).into()));
    put("top_k", sampling.top_k.filter(|&count| count > 0).map(Into::into));
    put("stop_sequences", (!request.stop.strings.is_empty()).then(|| request.stop.strings.as_slice().into()));
    if request.thinking == Thinking::On {
        // If nobody says: half for thoughts, half for the answer; the vendor has no such default.
        let budget = request.thinking_tokens_max.unwrap_or(most / 2).max(BUDGET_TOKENS_MIN);
        if budget >= most {
            let why = "Anthropic's API needs more max_tokens than its budget for thoughts, which is 1024 or more";
            return Err(unsupported("thinking", why));
        }
        put("thinking", Some(json!({"type": "enabled", "budget_tokens": budget})));
    }
    let mut config = Map::new();
    match &request.format {
        Format::Text => {}
        Format::JsonSchema(schema) => {
            config.insert("format".to_owned(), json!({"type": "json_schema", "schema": schema}));
        }
        Format::JsonObject | Format::Regex(_) | Format::Lark(_) => {
            return Err(unsupported("this form of the answer", "Anthropic's API knows JSON schemas only"));
        }
    }
    if let Some(effort) = request.template_variables.get("reasoning_effort") {
        config.insert("effort".to_owned(), effort.clone());
    }
    put("output_config", (!config.is_empty()).then_some(Value::Object(config)));
    Ok(Value::Object(body))
}

/// The body of a request that counts a prompt.
pub(in crate::upstream) fn count(request: &GenerateRequest, messages: &[Message], model: &str) -> Result<Value, Fault> {
    Ok(Value::Object(conversation(request, messages, model)?))
}

fn refuse_unknown(request: &GenerateRequest) -> Result<(), Fault> {
    let sampling = &request.sampling;
    let set = [
        ("log probabilities", request.logprobs.is_some()),
        ("echo", request.echo),
        ("min_p", sampling.min_p.is_some()),
        ("repetition_penalty", sampling.repetition_penalty.is_some_and(|value| !is_neutral(value, 1.0))),
        ("presence_penalty", sampling.presence_penalty.is_some_and(|value| !is_neutral(value, 0.0))),
        ("frequency_penalty", sampling.frequency_penalty.is_some_and(|value| !is_neutral(value, 0.0))),
        ("logit_bias", !sampling.logit_bias.is_empty()),
        ("seed", sampling.seed.is_some()),
        ("stop_token_ids", !request.stop.tokens.is_empty()),
        ("ignore_eos", request.stop.ignore_eos),
    ];
    if let Some((name, _)) = set.iter().find(|(_, is_set)| *is_set) {
        return Err(unsupported(name, WHY));
    }
    match request.template_variables.keys().find(|name| *name != "reasoning_effort") {
        Some(name) => Err(unsupported(&format!("chat_template_kwargs.{name}"), WHY)),
        None => Ok(()),
    }
}

/// A setting that changes nothing needs no field.
fn is_neutral(value: f32, neutral: f32) -> bool {
    (value - neutral).abs() <= f32::EPSILON
}

fn conversation(request: &GenerateRequest, messages: &[Message], model: &str) -> Result<Map<String, Value>, Fault> {
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    let mut system = Vec::new();
    let mut turns: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = match message.role {
            Role::System if turns.is_empty() => {
                system.extend(blocks(&message.content)?);
                continue;
            }
            // Instructions in the middle: the form has no place for them but the user's.
            Role::System | Role::User => ("user", blocks(&message.content)?),
            Role::Assistant => ("assistant", assistant(message)?),
            Role::Tool => ("user", vec![tool_result(message)?]),
        };
        match turns.last_mut() {
            Some((last, said)) if *last == role => said.extend(blocks),
            Some(_) | None => turns.push((role, blocks)),
        }
    }
    if !system.is_empty() {
        body.insert("system".to_owned(), system.into());
    }
    let turns = turns.into_iter().map(|(role, content)| json!({"role": role, "content": content}));
    body.insert("messages".to_owned(), turns.collect::<Vec<_>>().into());
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(tool).collect::<Vec<_>>().into());
        body.insert("tool_choice".to_owned(), tool_choice(request));
    }
    Ok(body)
}

fn assistant(message: &Message) -> Result<Vec<Value>, Fault> {
    let mut said = blocks(&message.content)?;
    for call in &message.tool_calls {
        let input: Value = match call.arguments.trim() {
            "" => json!({}),
            arguments => serde_json::from_str(arguments)
                .map_err(|_| unsupported("a call whose arguments are no JSON", "Anthropic's form holds an object"))?,
        };
        said.push(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}));
    }
    Ok(said)
}

fn tool_result(message: &Message) -> Result<Value, Fault> {
    let id = message.tool_call_id.as_deref().unwrap_or_default();
    Ok(json!({"type": "tool_result", "tool_use_id": id, "content": blocks(&message.content)?}))
}

fn blocks(content: &Content) -> Result<Vec<Value>, Fault> {
    let text = |text: &String| json!({"type": "text", "text": text});
    match content {
        Content::None => Ok(Vec::new()),
        // The vendor refuses empty blocks.
        Content::Text(words) => Ok(if words.is_empty() { Vec::new() } else { vec![text(words)] }),
        Content::Parts(parts) => parts
            .iter()
            .filter(|part| !matches!(part, Part::Text(words) if words.is_empty()))
            .map(|part| match part {
                Part::Text(words) => Ok(text(words)),
                Part::Image(ImageSource::Url(url)) => {
                    Ok(json!({"type": "image", "source": {"type": "url", "url": url}}))
                }
                Part::Image(ImageSource::Bytes(bytes)) => {
                    let source = json!({"type": "base64", "media_type": image_type(bytes)?, "data": encoded(bytes)});
                    Ok(json!({"type": "image", "source": source}))
                }
                Part::Image(ImageSource::File(id)) => Err(unopened(id)),
                Part::Video(_) => Err(unsupported("a video", "Anthropic's form has none")),
            })
            .collect(),
    }
}

fn tool(tool: &Tool) -> Value {
    let empty = json!({"type": "object", "properties": {}});
    let mut wire = json!({"name": tool.name, "input_schema": tool.parameters().unwrap_or(&empty)});
    let description = tool.definition.pointer("/function/description").or_else(|| tool.definition.get("description"));
    if let Some(description) = description {
        wire["description"] = description.clone();
    }
    if tool.is_strict() {
        wire["strict"] = true.into();
    }
    wire
}

fn tool_choice(request: &GenerateRequest) -> Value {
    let mut choice = match &request.tool_choice {
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::None => return json!({"type": "none"}),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
    };
    if !request.parallel_tool_calls {
        choice["disable_parallel_tool_use"] = true.into();
    }
    choice
}
