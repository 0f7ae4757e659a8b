//! Alibaba Cloud's DashScope form: <https://help.aliyun.com/zh/model-studio/qwen-api-via-dashscope>.

use chat::{Content, FinishReason, Format, GenerateRequest, Message, Part, Role, Thinking, Usage, Video};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Draft, tokens};
use super::media::{image_url, video};
use super::openai::{tool, tool_choice};
use super::transport::{error_words, printable};
use super::{sse, unsupported};
use crate::Fault;

/// Stands in `finish_reason` as long as nothing is finished: the word, not JSON's null.
const UNFINISHED: &str = "null";
const WHY: &str = "DashScope's API has no such field";

/// Path and body of a request. Conversations with pictures have a path of their own.
pub(super) fn generation(
    request: &GenerateRequest,
    messages: &[Message],
    model: &str,
) -> Result<(&'static str, Value), Fault> {
    let media = messages.iter().any(Message::has_media);
    let path = match media {
        true => "/services/aigc/multimodal-generation/generation",
        false => "/services/aigc/text-generation/generation",
    };
    let messages: Result<Vec<Value>, Fault> = messages.iter().map(|one| message(one, media)).collect();
    let parameters = parameters(request)?;
    Ok((path, json!({"model": model, "input": {"messages": messages?}, "parameters": parameters})))
}

fn parameters(request: &GenerateRequest) -> Result<Map<String, Value>, Fault> {
    let sampling = &request.sampling;
    let refused = [
        ("log probabilities", request.logprobs.is_some()),
        ("echo", request.echo),
        ("logit_bias", !sampling.logit_bias.is_empty()),
        ("ignore_eos", request.stop.ignore_eos),
        ("stop strings beside stop_token_ids", !request.stop.strings.is_empty() && !request.stop.tokens.is_empty()),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, is_set)| *is_set) {
        return Err(unsupported(name, WHY));
    }
    if let Some(name) = request.template_variables.keys().next() {
        return Err(unsupported(&format!("chat_template_kwargs.{name}"), WHY));
    }
    let decimal = |value: f32| Value::from(value.to_string().parse::<f64>().unwrap_or_default());
    let mut parameters = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            parameters.insert(name.to_owned(), value);
        }
    };
    put("result_format", Some("message".into()));
    put("incremental_output", Some(true.into()));
    put("temperature", sampling.temperature.map(decimal));
    put("top_p", sampling.top_p.map(decimal));
    put("top_k", sampling.top_k.map(Into::into));
    put("min_p", sampling.min_p.map(decimal));
    put("repetition_penalty", sampling.repetition_penalty.map(decimal));
    put("presence_penalty", sampling.presence_penalty.map(decimal));
    put("frequency_penalty", sampling.frequency_penalty.map(decimal));
    put("seed", sampling.seed.map(Into::into));
    put("max_tokens", request.max_tokens.map(Into::into));
    put("stop", (!request.stop.strings.is_empty()).then(|| request.stop.strings.as_slice().into()));
    put("stop", (!request.stop.tokens.is_empty()).then(|| request.stop.tokens.as_slice().into()));
    if !request.tools.is_empty() {
        put("tools", Some(request.tools.iter().map(tool).collect::<Vec<_>>().into()));
        put("tool_choice", Some(tool_choice(&request.tool_choice)));
        put("parallel_tool_calls", request.parallel_tool_calls.then(|| true.into()));
    }
    match request.thinking {
        Thinking::Default => {}
        Thinking::On => put("enable_thinking", Some(true.into())),
        Thinking::Off => put("enable_thinking", Some(false.into())),
    }
    put("thinking_budget", request.thinking_tokens_max.map(Into::into));
    match &request.format {
        Format::Text => {}
        Format::JsonObject => put("response_format", Some(json!({"type": "json_object"}))),
        Format::JsonSchema(schema) => {
            let named = json!({"name": "answer", "schema": schema, "strict": true});
            put("response_format", Some(json!({"type": "json_schema", "json_schema": named})));
        }
        Format::Regex(_) | Format::Lark(_) => return Err(unsupported("this form of the answer", WHY)),
    }
    Ok(parameters)
}

fn message(message: &Message, media: bool) -> Result<Value, Fault> {
    let mut wire = Map::new();
    wire.insert("role".to_owned(), message.role.as_str().into());
    wire.insert("content".to_owned(), content(&message.content, media)?);
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().zip(0_u32..).map(|(call, index)| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"index": index, "id": call.id, "type": "function", "function": function})
        });
        wire.insert("tool_calls".to_owned(), calls.collect::<Vec<_>>().into());
    }
    if message.role == Role::Tool {
        wire.insert("tool_call_id".to_owned(), message.tool_call_id.as_deref().unwrap_or_default().into());
    }
    if let Some(name) = &message.name {
        wire.insert("name".to_owned(), name.as_str().into());
    }
    Ok(Value::Object(wire))
}

fn content(content: &Content, media: bool) -> Result<Value, Fault> {
    let parts = match content {
        Content::Parts(parts) if media => parts,
        Content::None => return Ok("".into()),
        Content::Text(text) if media => return Ok(json!([{"text": text}])),
        Content::Text(text) => return Ok(text.as_str().into()),
        // Text in parts, without a picture anywhere: the plain form.
        Content::Parts(parts) => {
            let texts = parts.iter().filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Image(_) | Part::Video(_) => None,
            });
            return Ok(texts.collect::<String>().into());
        }
    };
    let parts: Result<Vec<Value>, Fault> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Ok(json!({"text": text})),
            Part::Image(source) => Ok(json!({"image": image_url(source)?})),
            Part::Video(clip @ Video::Frames { per_second: Some(fps), .. }) => {
                Ok(json!({"video": video(clip)?, "fps": fps}))
            }
            Part::Video(clip) => Ok(json!({"video": video(clip)?})),
        })
        .collect();
    Ok(parts?.into())
}

#[derive(Deserialize)]
struct Chunk {
    output: Option<Output>,
    usage: Option<WireUsage>,
    code: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<Value>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Deserialize)]
struct CallPiece {
    #[serde(default)]
    index: u64,
    id: Option<String>,
    function: Option<FunctionPiece>,
}

#[derive(Deserialize)]
struct FunctionPiece {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

impl WireUsage {
    fn usage(&self) -> Usage {
        let cached = self.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens);
        let reasoning = self.output_tokens_details.as_ref().and_then(|details| details.reasoning_tokens);
        Usage {
            prompt_tokens: tokens(self.input_tokens),
            cached_tokens: tokens(cached.unwrap_or(0)),
            output_tokens: tokens(self.output_tokens),
            reasoning_tokens: tokens(reasoning.unwrap_or(0)),
        }
    }
}

/// Results to events. The form has no last event, so the answer is whole where a reason for its end came and then the
/// transport ended as it says it should.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    reason: Option<FinishReason>,
    usage: Option<Usage>,
}

impl Decoder {
    pub(super) fn push(&mut self, event: &sse::Event, draft: &mut Draft) -> Result<(), Fault> {
        let chunk: Chunk = serde_json::from_str(&event.data)
            .map_err(|why| Fault::Garbage { what: format!("a result that is none ({why})") })?;
        if event.name == "error" || chunk.code.as_ref().is_some_and(|code| !code.is_empty()) {
            let words = serde_json::from_str(&event.data).ok();
            let words = words.as_ref().and_then(error_words).unwrap_or("no reason is given");
            return Err(Fault::Reported { message: printable(words) });
        }
        let Some(output) = chunk.output else {
            return Err(Fault::Garbage { what: "a result without output".to_owned() });
        };
        if let Some(usage) = &chunk.usage {
            self.usage = Some(usage.usage());
        }
        draft.start(chunk.usage.as_ref().map(|usage| tokens(usage.input_tokens)));
        for choice in output.choices {
            self.choice(choice, draft)?;
        }
        Ok(())
    }

    /// The transport ended.
    pub(super) fn end(&mut self, draft: &mut Draft) {
        if let Some(reason) = self.reason.take() {
            draft.finish(reason, None, self.usage);
        }
    }

    fn choice(&mut self, choice: Choice, draft: &mut Draft) -> Result<(), Fault> {
        let said = choice.message;
        draft.reasoning(said.reasoning_content.unwrap_or_default());
        draft.text(text(said.content)?);
        for piece in said.tool_calls.unwrap_or_default() {
            let function = piece.function.unwrap_or(FunctionPiece { name: None, arguments: None });
            let index = match draft.call(piece.index) {
                Some(index) => index,
                None => {
                    draft.begin_call(piece.index, piece.id.unwrap_or_default(), function.name.unwrap_or_default())?
                }
            };
            draft.arguments(index, function.arguments.unwrap_or_default());
        }
        match choice.finish_reason.as_deref() {
            None | Some("" | UNFINISHED) => {}
            Some("stop") => self.reason = Some(FinishReason::Stop),
            Some("length") => self.reason = Some(FinishReason::Length),
            Some("tool_calls") => self.reason = Some(FinishReason::ToolCalls),
            Some(other) => {
                let what = format!("the unknown reason for the end {:?}", printable(other));
                return Err(Fault::Garbage { what });
            }
        }
        Ok(())
    }
}

/// The text of a message: a string, or with pictures a list of `{"text": …}`.
fn text(content: Option<Value>) -> Result<String, Fault> {
    match content {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            Ok(parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect())
        }
        Some(other) => Err(Fault::Garbage { what: format!("content that is {}", printable(&other.to_string())) }),
    }
}
