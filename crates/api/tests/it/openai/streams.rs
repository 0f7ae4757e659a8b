//! Exact bytes of streams, and answers in one piece.

use chat::testing::Script;
use chat::{Event, FinishReason, Logprob, Thinking, TokenLogprobs};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{MODEL, Server, cut_by, cut_short, everything, fault, finished, reasoning, started, text};

fn chat(fields: &Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

async fn chat_stream(events: Vec<Event>, fields: &Value) -> String {
    let mut body = chat(fields);
    body["stream"] = true.into();
    let reply = Server::playing(events).post("/v1/chat/completions", &body).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "text/event-stream; charset=utf-8");
    reply.text
}

fn scored(text: &str, logprob: f32) -> Event {
    let chosen = Logprob { token: 7, bytes: text.as_bytes().to_vec(), logprob: Some(logprob) };
    let other = Logprob { token: 8, bytes: vec![0xf0, 0x9f], logprob: Some(-3.5) };
    Event::Logprobs(vec![TokenLogprobs { top: vec![chosen.clone(), other], chosen }])
}

#[tokio::test]
async fn text_is_streamed() {
    let events = vec![started(), text("Hel"), text("lo é"), finished(FinishReason::Stop)];
    assert_snapshot!(chat_stream(events, &json!({})).await);
}

#[tokio::test]
async fn reasoning_and_calls_are_streamed() {
    let usage = json!({"stream_options": {"include_usage": true}});
    assert_snapshot!(chat_stream(everything(), &usage).await);
}

#[tokio::test]
async fn log_probabilities_come_with_the_next_piece() {
    let events = vec![
        started(),
        scored("He", -0.25),
        scored("l", -1.5),
        text("Hel"),
        scored("", 0.0),
        finished(FinishReason::Length),
    ];
    assert_snapshot!(chat_stream(events, &json!({"logprobs": true, "top_logprobs": 2})).await);
}

#[tokio::test]
async fn warnings_are_not_shown() {
    let warning = Event::Warning("a tool call is malformed".to_owned());
    let shown = chat_stream(vec![started(), warning, finished(FinishReason::Stop)], &json!({})).await;
    assert!(!shown.contains("malformed"), "{shown}");
}

#[tokio::test]
async fn answers_in_one_piece() {
    let reply = Server::playing(everything()).post("/v1/chat/completions", &chat(&json!({}))).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(id, format!("chatcmpl-{}", reply.header("x-request-id")));
    assert_snapshot!(reply.text);
}

#[tokio::test]
async fn choices_are_interleaved_and_end_together() {
    let script = || Script::text(&["a", "b"]);
    let server = Server::new(vec![script(), script()]);
    let body = chat(&json!({"n": 2, "stream": true, "stream_options": {"include_usage": true}}));
    let reply = server.post("/v1/chat/completions", &body).await;
    let chunks: Vec<Value> = chunks(&reply.text);
    for index in 0..2 {
        let of_choice = chunks.iter().filter(|chunk| chunk["choices"][0]["index"] == index);
        let texts: String = of_choice.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(texts, "ab");
    }
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens"], 4, "the sum of both");
    assert_eq!(usage["prompt_tokens"], 1, "one prompt");
    assert!(reply.text.ends_with("data: [DONE]\n\n"));
}

/// The objects of a stream, without the end mark.
fn chunks(text: &str) -> Vec<Value> {
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// A cut stream shows what it said, then an error, and nothing that looks like an end.
async fn never_looks_whole(path: &str, body: &Value, script: Script) -> String {
    let reply = Server::new(vec![script]).post(path, body).await;
    assert_eq!(reply.status, 200, "the stream had begun");
    assert!(reply.text.contains("Hel"), "{}", reply.text);
    assert!(!reply.text.contains("[DONE]"), "{}", reply.text);
    assert!(!reply.text.contains("\"stop\"") && !reply.text.contains("\"length\""), "{}", reply.text);
    assert!(!reply.text.contains("secret cause"), "{}", reply.text);
    let last = chunks(&reply.text).pop().unwrap();
    last["error"]["type"].as_str().unwrap_or_else(|| panic!("no error: {last}")).to_owned()
}

#[tokio::test]
async fn a_cut_stream_never_looks_whole() {
    let chat = chat(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let completion = json!({"model": MODEL, "prompt": "x", "stream": true, "stream_options": {"include_usage": true}});
    for (path, body) in [("/v1/chat/completions", chat), ("/v1/completions", completion)] {
        assert_eq!(never_looks_whole(path, &body, cut_by(fault())).await, "server_error");
        assert_eq!(
            never_looks_whole(path, &body, cut_by(chat::Error::ShuttingDown)).await,
            "service_unavailable_error"
        );
        assert_eq!(never_looks_whole(path, &body, cut_short()).await, "server_error");
    }
}

#[tokio::test]
async fn one_cut_choice_cuts_all() {
    let server = Server::new(vec![Script::text(&["Hel"]), cut_by(fault())]);
    let reply = server.post("/v1/chat/completions", &chat(&json!({"n": 2, "stream": true}))).await;
    assert!(!reply.text.contains("[DONE]"), "{}", reply.text);
    assert!(chunks(&reply.text).pop().unwrap()["error"].is_object());
    assert_eq!(server.running(), 0);
}

#[tokio::test]
async fn a_cut_answer_in_one_piece_is_an_error() {
    for script in [cut_by(fault()), cut_short()] {
        let reply = Server::new(vec![script]).post("/v1/chat/completions", &chat(&json!({}))).await;
        assert_eq!(reply.status, 500);
        assert!(!reply.text.contains("Hel") && !reply.text.contains("secret cause"), "{}", reply.text);
        assert!(reply.text.contains(reply.header("x-request-id")), "{}", reply.text);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels() {
    for (path, body) in [
        ("/v1/chat/completions", chat(&json!({"stream": true}))),
        ("/v1/completions", json!({"model": MODEL, "prompt": "x", "stream": true})),
    ] {
        let server = Server::new(vec![Script::Hang(vec![started(), text("a")])]);
        assert!(server.send_and_leave(path, &body).await.starts_with("data: {"));
        assert_eq!(server.running(), 0);
    }
}

#[tokio::test]
async fn completions_are_streamed() {
    let events = vec![
        started(),
        scored("ab", -0.25),
        text("ab"),
        scored("é", -1.0),
        scored("c", -1.0),
        text("éc"),
        finished(FinishReason::Length),
    ];
    let usage = json!({"include_usage": true});
    let body = json!({"model": MODEL, "prompt": "x", "logprobs": 2, "stream": true, "stream_options": usage});
    let reply = Server::playing(events).post("/v1/completions", &body).await;
    assert_snapshot!(reply.text);
}

#[tokio::test]
async fn completions_in_one_piece() {
    let script = || Script::text(&["a", "b"]);
    let server = Server::new(vec![script(), script()]);
    let body = json!({"model": MODEL, "prompt": [[1, 2], [3]], "echo": true});
    let reply = server.post("/v1/completions", &body).await;
    assert_snapshot!(reply.text);
    assert!(server.requests().iter().all(|request| request.echo));
}

#[tokio::test]
async fn template_arguments_reach_the_model() {
    let server = Server::playing(vec![started(), reasoning("r"), finished(FinishReason::Stop)]);
    let fields = json!({
        "chat_template_kwargs": {"enable_thinking": false, "preserve_thinking": true},
        "reasoning_effort": "high",
    });
    server.post("/v1/chat/completions", &chat(&fields)).await;
    let request = server.request();
    assert_eq!(request.thinking, Thinking::Off);
    let variables = Value::Object(request.template_variables);
    assert_eq!(variables, json!({"preserve_thinking": true, "reasoning_effort": "high"}));
}

#[tokio::test]
async fn models_are_listed() {
    let server = Server::new(vec![]);
    let list = server.get("/v1/models").await;
    assert_snapshot!(list.text);
    assert_eq!(server.get("/v1/models/m").await.json(), list.json()["data"][0]);
    assert_eq!(server.get("/v1/models/x/y").await.json()["error"]["code"], "model_not_found");
}
