//! Wire forms to requests: pure and total.

use base::RequestId;
use chat::{
    Caller, Content, GenerateRequest, ImageSource, Message, Part, Prompt, Role, Sampling, StopRules, Thinking, Tool,
    ToolCall, ToolChoice, Video, limits,
};
use serde_json::{Map, Value};

use super::types::{
    CHAT_FIELDS, COMPLETION_FIELDS, ChatRequest, CompletionRequest, OneOrMany, SharedFields, WireContent, WireMessage,
    WirePart, WirePrompt, WireToolCall,
};
use super::{Failure, format};
use crate::fields::{self, Others, Refused};

/// Choices of one request, over all its prompts.
const CHOICES_MAX: usize = 128;

const CHAT_REFUSED: &[Refused] = &[
    Refused { field: "audio", harmless: fields::never, why: "this server answers in text" },
    Refused { field: "modalities", harmless: fields::if_text_only, why: "this server answers in text" },
    Refused { field: "prediction", harmless: fields::never, why: "predicted outputs are not implemented" },
    Refused { field: "web_search_options", harmless: fields::never, why: "this server does not search the web" },
    Refused { field: "functions", harmless: fields::if_empty, why: "it is deprecated, use tools" },
    Refused { field: "function_call", harmless: fields::never, why: "it is deprecated, use tool_choice" },
    Refused { field: "store", harmless: fields::if_empty, why: "completions are not stored" },
    Refused { field: "service_tier", harmless: fields::if_automatic, why: "there is one tier" },
    Refused { field: "verbosity", harmless: |value| value == "medium", why: "only medium is" },
    Refused { field: "metadata", harmless: fields::always, why: "" },
    Refused { field: "user", harmless: fields::always, why: "" },
    Refused { field: "safety_identifier", harmless: fields::always, why: "" },
    Refused { field: "prompt_cache_key", harmless: fields::always, why: "" },
    Refused { field: "prompt_cache_retention", harmless: fields::always, why: "" },
];

const COMPLETION_REFUSED: &[Refused] = &[
    Refused { field: "best_of", harmless: fields::if_one, why: "only 1 is, use n" },
    Refused { field: "user", harmless: fields::always, why: "" },
];

/// Variables of a chat template that come from elsewhere in the request, or that would break its form.
const TEMPLATE_RESERVED: &[&str] = &["messages", "tools", "add_generation_prompt", "continue_final_message"];

/// A parsed request: one generation for each choice.
#[derive(Debug)]
pub(super) struct Call {
    /// The generations, by index of the choice.
    pub(super) requests: Vec<GenerateRequest>,
    /// So many generations in a row share a prompt.
    pub(super) choices_per_prompt: usize,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Whether log probabilities were asked for.
    pub(super) logprobs: bool,
}

impl Call {
    pub(super) fn on_behalf_of(mut self, caller: Option<&Caller>) -> Self {
        self.requests.iter_mut().for_each(|request| request.caller = caller.cloned());
        self
    }
}

/// Parses a chat request.
pub(super) fn chat(body: &[u8], id: RequestId) -> Result<Call, Failure> {
    let body = fields::object(body, Others::Refused(CHAT_FIELDS), CHAT_REFUSED)?;
    let (wire, shared): (ChatRequest, SharedFields) = (fields::read(&body)?, fields::read(&body)?);
    let form = format::of(&wire)?;
    let messages = wire.messages.into_iter().enumerate().map(|(index, message)| message_of(index, message));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Err(Failure::invalid("messages is empty, one or more are needed".to_owned(), Some("messages".into())));
    }
    let logprobs = wire.logprobs.unwrap_or(false);
    if wire.top_logprobs.is_some_and(|top| top > 0) && !logprobs {
        let message = "top_logprobs needs logprobs: true".to_owned();
        return Err(Failure::invalid(message, Some("top_logprobs".to_owned())));
    }
    let mut request = GenerateRequest::new(id, wire.model, Prompt::Messages(messages));
    request.tools = tools(wire.tools.unwrap_or_default())?;
    request.tool_choice = tool_choice(wire.tool_choice.as_ref())?;
    request.parallel_tool_calls = wire.parallel_tool_calls.unwrap_or(true);
    request.format = form;
    let (switch, variables) = template_arguments(wire.chat_template_kwargs.unwrap_or_default())?;
    request.thinking = thinking(wire.enable_thinking.or(switch), wire.reasoning_effort.as_deref())?;
    request.thinking_tokens_max = wire.thinking_budget;
    request.template_variables = variables;
    if let Some(effort) = wire.reasoning_effort {
        request.template_variables.insert("reasoning_effort".to_owned(), effort.into());
    }
    request.logprobs = logprobs.then(|| wire.top_logprobs.unwrap_or(0));
    let most = wire.max_completion_tokens.map(|most| ("max_completion_tokens", most));
    finish(request, Vec::new(), &shared, most)
}

/// Parses a completion request.
pub(super) fn completion(body: &[u8], id: RequestId) -> Result<Call, Failure> {
    let body = fields::object(body, Others::Refused(COMPLETION_FIELDS), COMPLETION_REFUSED)?;
    let (wire, shared): (CompletionRequest, SharedFields) = (fields::read(&body)?, fields::read(&body)?);
    let mut prompts: Vec<Prompt> = match wire.prompt {
        WirePrompt::Text(text) => vec![Prompt::Text(text)],
        WirePrompt::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
        WirePrompt::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
        WirePrompt::ManyTokens(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
    };
    if prompts.is_empty() {
        return Err(Failure::invalid("prompt is an empty list".to_owned(), Some("prompt".to_owned())));
    }
    let first = prompts.remove(0);
    let mut request = GenerateRequest::new(id, wire.model, first);
    // The vendor's default; without it a completion runs to the end of the context.
    request.max_tokens = Some(16);
    request.suffix = wire.suffix.filter(|suffix| !suffix.is_empty());
    request.logprobs = wire.logprobs;
    request.echo = wire.echo.unwrap_or(false);
    if request.suffix.is_some() && request.echo {
        let message = "suffix and echo do not go together".to_owned();
        return Err(Failure::invalid(message, Some("suffix".to_owned())));
    }
    finish(request, prompts, &shared, None)
}

/// Fills in what both routes share and makes a generation for each prompt and choice.
fn finish(
    mut request: GenerateRequest,
    more_prompts: Vec<Prompt>,
    shared: &SharedFields,
    most: Option<(&'static str, i64)>,
) -> Result<Call, Failure> {
    if let Some((name, most)) = most.or(shared.max_tokens.map(|most| ("max_tokens", most))) {
        // A prompt that is echoed can be scored without adding anything.
        let least = u32::from(!request.echo);
        let in_range = u32::try_from(most).ok().filter(|&most| most >= least);
        let wrong = || Failure::invalid(format!("{name} is {most}, it must be {least} or more"), Some(name.to_owned()));
        request.max_tokens = Some(in_range.ok_or_else(wrong)?);
    }
    request.sampling = sampling(shared)?;
    request.speculates = shared.speculate.unwrap_or(true);
    request.stop = StopRules {
        strings: match &shared.stop {
            None => Vec::new(),
            Some(OneOrMany::One(string)) => vec![string.clone()],
            Some(OneOrMany::Many(strings)) => strings.clone(),
        },
        tokens: shared.stop_token_ids.clone().unwrap_or_default(),
        ignore_eos: shared.ignore_eos.unwrap_or(false),
    };
    request.stop.strings.retain(|string| !string.is_empty());
    let n = shared.n.unwrap_or(1);
    let choices = usize::try_from(n).ok().filter(|&n| n > 0).and_then(|n| n.checked_mul(more_prompts.len() + 1));
    let choices = choices.filter(|&choices| choices <= CHOICES_MAX).ok_or_else(|| {
        let message =
            format!("n is {n} for {} prompts, 1 to {CHOICES_MAX} choices are allowed", more_prompts.len() + 1);
        Failure::invalid(message, Some("n".to_owned()))
    })?;
    let per_prompt = choices / (more_prompts.len() + 1);
    let mut requests = Vec::with_capacity(choices);
    for prompt in std::iter::once(request.prompt.clone()).chain(more_prompts) {
        for choice in 0..per_prompt as u64 {
            let mut one = GenerateRequest { prompt: prompt.clone(), ..request.clone() };
            // Choices of one prompt must differ although they share a seed; the first is as if it were alone.
            one.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(choice));
            requests.push(one);
        }
    }
    let include_usage = shared.stream_options.as_ref().is_some_and(|options| options.include_usage);
    let logprobs = request.logprobs.is_some();
    Ok(Call {
        requests,
        choices_per_prompt: per_prompt,
        stream: shared.stream.unwrap_or(false),
        include_usage,
        logprobs,
    })
}

fn sampling(shared: &SharedFields) -> Result<Sampling, Failure> {
    let top_k = match shared.top_k {
        // Both -1 and 0 mean all tokens to the servers that have this field.
        None => None,
        Some(-1) => Some(0),
        Some(top_k) => Some(u32::try_from(top_k).map_err(|_| {
            Failure::invalid(format!("top_k is {top_k}, it must be -1 or more"), Some("top_k".to_owned()))
        })?),
    };
    let bias = shared.logit_bias.iter().flatten().map(|(token, &bias)| {
        let wrong = || Failure::invalid(format!("logit_bias: {token:?} is no token id"), Some("logit_bias".to_owned()));
        Ok((token.parse::<u32>().map_err(|_| wrong())?, bias))
    });
    Ok(Sampling {
        temperature: shared.temperature,
        top_k,
        top_p: shared.top_p,
        min_p: shared.min_p,
        repetition_penalty: shared.repetition_penalty,
        presence_penalty: shared.presence_penalty,
        frequency_penalty: shared.frequency_penalty,
        logit_bias: bias.collect::<Result<_, Failure>>()?,
        seed: shared.seed.map(i64::cast_unsigned),
    })
}

/// Whether to reason, by a switch or an effort.
pub(super) fn thinking(switch: Option<bool>, effort: Option<&str>) -> Result<Thinking, Failure> {
    match (switch, effort) {
        (Some(true), _) => Ok(Thinking::On),
        (Some(false), _) => Ok(Thinking::Off),
        (None, None) => Ok(Thinking::Default),
        (None, Some("none" | "minimal")) => Ok(Thinking::Off),
        (None, Some("low" | "medium" | "high" | "xhigh")) => Ok(Thinking::On),
        (None, Some(other)) => {
            let message = format!("reasoning_effort is {other:?}, allowed: none, minimal, low, medium, high, xhigh");
            Err(Failure::invalid(message, Some("reasoning_effort".to_owned())))
        }
    }
}

/// `enable_thinking` and the other variables that a client hands to the chat template.
fn template_arguments(mut arguments: Map<String, Value>) -> Result<(Option<bool>, Map<String, Value>), Failure> {
    let wrong = |name: &str, why: &str| {
        let path = format!("chat_template_kwargs.{name}");
        Failure::invalid(format!("{path} {why}"), Some(path))
    };
    if let Some(name) = TEMPLATE_RESERVED.iter().find(|&&name| arguments.contains_key(name)) {
        return Err(wrong(name, "is not for a request to set"));
    }
    let switch = match arguments.shift_remove("enable_thinking") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(switch)) => Some(switch),
        Some(other) => return Err(wrong("enable_thinking", &format!("is {other}, it must be true or false"))),
    };
    Ok((switch, arguments))
}

fn tools(definitions: Vec<Value>) -> Result<Vec<Tool>, Failure> {
    if definitions.len() > limits::TOOLS_MAX {
        let message = format!("{} tools, {} allowed", definitions.len(), limits::TOOLS_MAX);
        return Err(Failure::invalid(message, Some("tools".to_owned())));
    }
    let tool = |(index, definition): (usize, Value)| {
        let param = |field: &str| Some(format!("tools[{index}].{field}"));
        if definition["type"] != "function" {
            let message = format!("tools[{index}].type is {}, only \"function\" is supported", definition["type"]);
            return Err(Failure::invalid(message, param("type")));
        }
        match definition.pointer("/function/name").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => Ok(Tool { name: name.to_owned(), definition }),
            Some(_) | None => {
                let message = format!("tools[{index}].function.name is missing or empty");
                Err(Failure::invalid(message, param("function.name")))
            }
        }
    };
    definitions.into_iter().enumerate().map(tool).collect()
}

fn tool_choice(wire: Option<&Value>) -> Result<ToolChoice, Failure> {
    let Some(value) = wire.filter(|value| !value.is_null()) else { return Ok(ToolChoice::Auto) };
    match value.as_str() {
        Some("auto") => Ok(ToolChoice::Auto),
        Some("none") => Ok(ToolChoice::None),
        Some("required") => Ok(ToolChoice::Required),
        Some(other) => {
            let message = format!("tool_choice is {other:?}, allowed: none, auto, required, or a named function");
            Err(Failure::invalid(message, Some("tool_choice".to_owned())))
        }
        None => match value.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => Ok(ToolChoice::Named(name.to_owned())),
            None => Err(Failure::invalid("tool_choice names no function".to_owned(), Some("tool_choice".to_owned()))),
        },
    }
}

fn message_of(index: usize, wire: WireMessage) -> Result<Message, Failure> {
    let at = |field: &str| Some(format!("messages[{index}].{field}"));
    let role = match wire.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let allowed = "system, developer, user, assistant, tool";
            let message = format!("messages[{index}].role is {other:?}, allowed: {allowed}");
            return Err(Failure::invalid(message, at("role")));
        }
    };
    if wire.function_call.is_some_and(|call| !call.is_null()) {
        let message = format!("messages[{index}].function_call is deprecated, use tool_calls");
        return Err(Failure::invalid(message, at("function_call")));
    }
    if wire.audio.is_some_and(|audio| !audio.is_null()) {
        return Err(Failure::invalid(format!("messages[{index}].audio is not supported"), at("audio")));
    }
    let calls = wire.tool_calls.unwrap_or_default().into_iter().enumerate();
    let tool_calls = calls.map(|(call, wire)| tool_call(index, call, wire)).collect::<Result<Vec<_>, _>>()?;
    let content = content_of(index, wire.content)?;
    if content == Content::None && role != Role::Assistant {
        return Err(Failure::invalid(format!("messages[{index}].content is missing"), at("content")));
    }
    Ok(Message {
        role,
        content,
        reasoning: wire.reasoning_content,
        tool_calls,
        tool_call_id: wire.tool_call_id,
        name: wire.name,
    })
}

fn tool_call(message: usize, call: usize, wire: WireToolCall) -> Result<ToolCall, Failure> {
    let path = format!("messages[{message}].tool_calls[{call}].function.name");
    let missing = || Failure::invalid(format!("{path} is missing"), Some(path.clone()));
    Ok(ToolCall {
        id: wire.id.unwrap_or_default(),
        name: wire.function.name.ok_or_else(missing)?,
        arguments: wire.function.arguments,
    })
}

fn content_of(message: usize, wire: Option<WireContent>) -> Result<Content, Failure> {
    match wire {
        None => Ok(Content::None),
        Some(WireContent::Text(text)) => Ok(Content::Text(text)),
        Some(WireContent::Parts(parts)) => {
            let parts = parts.into_iter().enumerate().map(|(index, part)| part_of(message, index, part));
            Ok(Content::Parts(parts.collect::<Result<_, _>>()?))
        }
    }
}

fn part_of(message: usize, index: usize, part: WirePart) -> Result<Part, Failure> {
    let path = format!("messages[{message}].content[{index}]");
    let missing = |field: &str| Failure::invalid(format!("{path}.{field} is missing"), Some(format!("{path}.{field}")));
    match part.kind.as_str() {
        "text" => Ok(Part::Text(part.text.ok_or_else(|| missing("text"))?)),
        "image_url" => Ok(Part::Image(ImageSource::Url(part.image_url.ok_or_else(|| missing("image_url"))?.url))),
        "video_url" => {
            let url = part.video_url.ok_or_else(|| missing("video_url"))?.url;
            Ok(Part::Video(Video::File(ImageSource::Url(url))))
        }
        "video" => {
            let frames = part.video.ok_or_else(|| missing("video"))?.into_iter().map(ImageSource::Url).collect();
            Ok(Part::Video(Video::Frames { frames, per_second: part.fps }))
        }
        "file" => {
            let file = part.file.ok_or_else(|| missing("file"))?;
            if file.file_data.is_some() {
                let message = format!("{path}.file.file_data is not supported: upload the picture, or use image_url");
                return Err(Failure::invalid(message, Some(format!("{path}.file.file_data"))));
            }
            Ok(Part::Image(ImageSource::File(file.file_id.ok_or_else(|| missing("file.file_id"))?)))
        }
        other => {
            let message = format!("{path}.type is {other:?}, supported: text, image_url, video_url, video, file");
            Err(Failure::invalid(message, Some(format!("{path}.type"))))
        }
    }
}

#[cfg(test)]
mod tests;
