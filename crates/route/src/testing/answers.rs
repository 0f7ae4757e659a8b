//! What the upstream says, in every form.

use serde_json::{Value, json};

use super::{Behaviour, Seen};

/// The pieces of every answer; one token each.
const PIECES: [&str; 3] = ["Hel", "lo", "!"];

/// Answers that are one piece of JSON: health, models, counts, and chats that are not streamed.
pub(super) fn plain(seen: &Seen) -> Option<String> {
    let path = seen.line.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let words = words(&seen.body);
    match path {
        "/health" | "/" => Some("{}".to_owned()),
        "/v1/models" | "/api/v1/models" => Some(json!({"object": "list", "data": [{"id": "m"}]}).to_string()),
        "/tokenize" => Some(json!({"count": words}).to_string()),
        "/v1/messages/count_tokens" => Some(json!({"input_tokens": words}).to_string()),
        "/v1/chat/completions" if seen.body["stream"] != true => Some(chat(seen, words)),
        _ => None,
    }
}

/// A chat in one piece, as proxies ask for it that do not stream.
fn chat(seen: &Seen, words: usize) -> String {
    let usage = json!({"prompt_tokens": words, "completion_tokens": 3, "total_tokens": words + 3});
    let message = json!({"role": "assistant", "content": PIECES.concat()});
    let choices = json!([{"index": 0, "finish_reason": "stop", "message": message}]);
    let model = &seen.body["model"];
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": choices, "usage": usage})
        .to_string()
}

/// The events of an answer, each with its empty line.
pub(super) fn events(seen: &Seen, behaviour: Behaviour) -> Vec<String> {
    let words = words(&seen.body);
    let path = seen.line.split(' ').nth(1).unwrap_or_default();
    match path {
        "/v1/messages" => anthropic(words, behaviour),
        _ if path.starts_with("/api/v1/services/") => dashscope(words, behaviour),
        "/v1/completions" => openai(seen, words, behaviour, |piece| json!({"index": 0, "text": piece})),
        _ => openai(seen, words, behaviour, |piece| json!({"index": 0, "delta": {"content": piece}})),
    }
}

/// One token for each word of all texts.
fn words(body: &Value) -> usize {
    let messages = body.get("messages").or_else(|| body.pointer("/input/messages"));
    let count = |text: &Value| text.as_str().map_or(0, |text| text.split_whitespace().count());
    let contents = messages.and_then(Value::as_array).into_iter().flatten().map(|message| &message["content"]);
    let texts = contents.map(|content| match content {
        Value::Array(parts) => parts.iter().map(|part| count(&part["text"])).sum(),
        text => count(text),
    });
    texts.sum::<usize>() + count(&body["prompt"])
}

fn openai(seen: &Seen, words: usize, behaviour: Behaviour, choice: impl Fn(&str) -> Value) -> Vec<String> {
    let continuous = seen.body["stream_options"]["continuous_usage_stats"] == true;
    let line = |mut chunk: Value, output: usize| {
        chunk["object"] = "chat.completion.chunk".into();
        chunk["id"] = "c".into();
        chunk["created"] = 1.into();
        chunk["model"] = seen.body["model"].clone();
        if continuous && behaviour != Behaviour::NoUsage {
            chunk["usage"] = json!({"prompt_tokens": words, "completion_tokens": output});
        }
        format!("data: {chunk}\n\n")
    };
    let mut events: Vec<String> =
        PIECES.iter().zip(1..).map(|(piece, output)| line(json!({"choices": [choice(piece)]}), output)).collect();
    if behaviour == Behaviour::ErrorMidway {
        events.push("data: {\"error\": {\"message\": \"broken on purpose\"}}\n\n".to_owned());
        return events;
    }
    let mut last = choice("");
    if behaviour != Behaviour::NoReason {
        last["finish_reason"] = "stop".into();
    }
    events.push(line(json!({"choices": [last]}), PIECES.len()));
    if behaviour != Behaviour::NoUsage {
        let usage = json!({"prompt_tokens": words, "completion_tokens": PIECES.len()});
        events.push(line(json!({"choices": [], "usage": usage}), PIECES.len()));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn anthropic(words: usize, behaviour: Behaviour) -> Vec<String> {
    let line = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    let usage = json!({"input_tokens": words, "output_tokens": 0});
    let message = json!({"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage});
    let mut events = vec![
        line(&json!({"type": "message_start", "message": message})),
        line(&json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
    ];
    for piece in PIECES {
        let delta = json!({"type": "text_delta", "text": piece});
        events.push(line(&json!({"type": "content_block_delta", "index": 0, "delta": delta})));
    }
    if behaviour == Behaviour::ErrorMidway {
        let error = json!({"type": "overloaded_error", "message": "broken on purpose"});
        events.push(line(&json!({"type": "error", "error": error})));
        return events;
    }
    events.push(line(&json!({"type": "content_block_stop", "index": 0})));
    let reason = if behaviour == Behaviour::NoReason { Value::Null } else { "end_turn".into() };
    let mut end = json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}});
    if behaviour != Behaviour::NoUsage {
        end["usage"] = json!({"output_tokens": PIECES.len()});
    }
    events.push(line(&end));
    events.push(line(&json!({"type": "message_stop"})));
    events
}

fn dashscope(words: usize, behaviour: Behaviour) -> Vec<String> {
    let line = |piece: &str, reason: &str, output: usize| {
        let choice = json!({"message": {"role": "assistant", "content": piece}, "finish_reason": reason});
        let mut data = json!({"output": {"choices": [choice]}, "request_id": "r"});
        if behaviour != Behaviour::NoUsage {
            data["usage"] = json!({"input_tokens": words, "output_tokens": output});
        }
        format!("id:{output}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n")
    };
    let mut events: Vec<String> = PIECES.iter().zip(1..).map(|(piece, output)| line(piece, "null", output)).collect();
    match behaviour {
        Behaviour::ErrorMidway => {
            let data = json!({"code": "InternalError", "message": "broken on purpose", "request_id": "r"});
            events.push(format!("event:error\n:HTTP_STATUS/500\ndata:{data}\n\n"));
        }
        Behaviour::NoReason => {}
        _ => events.push(line("", "stop", PIECES.len())),
    }
    events
}
