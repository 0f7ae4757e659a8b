//! Ollama's dialect.

use std::sync::{Arc, Mutex};

use chat::testing::{Script, Scripted};
use chat::{
    Error, Event, FinishReason, Generate as _, KeepAlive, Manage, Message, ModelState, ModelStatus, Prompt, Role,
    Thinking,
};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{MODEL, Server, cut_by, cut_short, everything, fault, finished, started, text};

fn chat(fields: &Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

#[tokio::test]
async fn thoughts_text_and_calls_are_streamed() {
    let reply = Server::playing(everything()).post("/api/chat", &chat(&json!({}))).await;
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    assert_snapshot!(reply.text);
}

#[tokio::test]
async fn a_chat_in_one_piece() {
    let reply = Server::playing(everything()).post("/api/chat", &chat(&json!({"stream": false}))).await;
    assert_eq!(reply.header("content-type"), "application/json");
    assert_snapshot!(reply.text);
}

#[tokio::test]
async fn prompts_are_answered() {
    let server = Server::playing(vec![started(), text("a"), finished(FinishReason::Length)]);
    let body = json!({"model": "m:latest", "system": "Be brief.", "prompt": "Hi", "frobnicate": 1});
    assert_snapshot!(server.post("/api/generate", &body).await.text);
    let Prompt::Messages(messages) = server.request().prompt else { panic!("no conversation") };
    assert_eq!(messages.iter().map(Message::plain_text).collect::<Vec<_>>(), ["Be brief.", "Hi"]);
    let server = Server::new(vec![Script::text(&["b"])]);
    let raw = json!({"model": MODEL, "prompt": "Hi", "raw": true, "stream": false});
    assert_eq!(server.post("/api/generate", &raw).await.json()["response"], "b");
    assert_eq!(server.request().prompt, Prompt::Text("Hi".to_owned()));
}

#[tokio::test]
async fn a_cut_stream_never_looks_whole() {
    let chat = chat(&json!({}));
    for (path, body) in [("/api/chat", chat), ("/api/generate", json!({"model": MODEL, "prompt": "x"}))] {
        for script in [cut_by(fault()), cut_by(Error::ShuttingDown), cut_short()] {
            let server = Server::new(vec![script]);
            let streamed = server.post(path, &body).await.text;
            assert!(streamed.contains("Hel") && !streamed.contains("\"done\":true"), "{streamed}");
            assert!(!streamed.contains("secret cause"), "{streamed}");
            let last: Value = serde_json::from_str(streamed.lines().last().unwrap()).unwrap();
            assert!(last["error"].is_string(), "{last}");
            assert_eq!(server.running(), 0);
        }
    }
}

#[tokio::test]
async fn a_call_that_is_no_object_cuts_the_answer() {
    let call = Event::ToolCallStarted { index: 0, id: "c".to_owned(), name: "f".to_owned() };
    let arguments = Event::ToolCallArguments { index: 0, fragment: "[1".to_owned() };
    let events = || vec![started(), call.clone(), arguments.clone(), finished(FinishReason::ToolCalls)];
    let streamed = Server::playing(events()).post("/api/chat", &chat(&json!({}))).await.text;
    assert!(streamed.contains("error") && !streamed.contains("\"done\":true"), "{streamed}");
    assert_eq!(Server::playing(events()).post("/api/chat", &chat(&json!({"stream": false}))).await.status, 500);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels() {
    let server = Server::new(vec![Script::Hang(vec![started(), text("a")])]);
    assert!(server.send_and_leave("/api/chat", &chat(&json!({}))).await.ends_with("}\n"));
    assert_eq!(server.running(), 0);
}

#[tokio::test]
async fn a_conversation_arrives_whole() {
    let server = Server::playing(vec![started(), finished(FinishReason::Stop)]);
    let call = json!({"function": {"name": "w", "arguments": {"city": "Oslo"}}});
    let fields = json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]},
            {"role": "tool", "content": "rain", "tool_name": "w"},
        ],
        "tools": [{"type": "function", "function": {"name": "w", "parameters": {}}}],
        "think": "low", "keep_alive": "5m",
        "options": {"temperature": 0.5, "num_predict": 9, "num_ctx": 2048, "seed": 7, "stop": ["END"], "top_k": 3},
    });
    server.post("/api/chat", &chat(&fields)).await;
    let request = server.request();
    let Prompt::Messages(messages) = &request.prompt else { panic!("{:?}", request.prompt) };
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    assert_eq!(messages[2].tool_calls[0].arguments, r#"{"city":"Oslo"}"#);
    assert_eq!((request.thinking, request.max_tokens), (Thinking::On, Some(9)));
    assert_eq!(request.template_variables["reasoning_effort"], "low");
    assert_eq!((request.sampling.seed, request.sampling.top_k), (Some(7), Some(3)));
    assert_eq!(request.stop.strings, ["END"]);
}

#[tokio::test]
async fn a_suffix_asks_for_what_stands_before_it() {
    let server = Server::new(vec![Script::text(&["return a + b"])]);
    let reply = server.post("/api/generate", &json!({"model": MODEL, "prompt": "a", "suffix": "b"})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let request = &server.requests()[0];
    assert!(matches!(&request.prompt, Prompt::Text(text) if text == "a"), "{:?}", request.prompt);
    assert_eq!(request.suffix.as_deref(), Some("b"));
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let server = Server::new(vec![]);
    for (fields, words) in [
        (json!({"format": "xml"}), "format is \"xml\", allowed"),
        (json!({"logprobs": true}), "logprobs is not supported"),
        (json!({"options": {"mirostat": 2}}), "mirostat is not supported"),
        (json!({"options": {"num_predict": -5}}), "num_predict is -5"),
        (json!({"options": {"temperature": -1}}), "temperature is -1"),
        (json!({"think": "maybe"}), "think is \"maybe\""),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role is \"robot\""),
        (json!({"messages": 5}), "messages: "),
        (json!({"tools": [{}]}), "tools[0].function.name"),
    ] {
        let reply = server.post("/api/chat", &chat(&fields)).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert!(reply.json()["error"].as_str().unwrap().contains(words), "{} lacks {words:?}", reply.text);
    }
    assert_eq!(server.requests().len(), 0);
    let unknown = server.post("/api/chat", &chat(&json!({"model": "gone"}))).await;
    assert_eq!((unknown.status.as_u16(), unknown.text.as_str()), (404, r#"{"error":"model 'gone' not found"}"#));
    let busy = Server::new(vec![Script::Refuse(Error::Overloaded { waiting: 9, limit: 8 })]);
    let busy = busy.post("/api/chat", &chat(&json!({}))).await;
    assert_eq!((busy.status.as_u16(), busy.header("retry-after")), (503, "1"));
    assert!(server.get("/api/embed").await.json()["error"].is_string());
    assert_eq!(server.send("POST", "/api/chat", &[], b"\xff".to_vec()).await.status, 400);
}

#[tokio::test]
async fn models_are_described() {
    let server = Server::new(vec![]);
    assert_snapshot!(server.get("/api/tags").await.text);
    assert_eq!(server.get("/api/ps").await.json()["models"][0]["context_length"], 4096);
    let shown = server.post("/api/show", &json!({"model": "m:latest"})).await.json();
    assert_eq!(shown["capabilities"], json!(["completion", "vision", "tools", "thinking"]));
    assert_eq!(shown["model_info"]["qwen3.context_length"], 4096);
    assert_eq!(server.post("/api/show", &json!({"model": "x"})).await.status, 404);
    assert!(server.get("/api/version").await.json()["version"].is_string());
    let loaded = server.post("/api/generate", &json!({"model": MODEL})).await.json();
    assert_eq!((&loaded["done_reason"], &loaded["done"]), (&json!("load"), &json!(true)));
}

#[tokio::test]
async fn a_model_is_kept_loaded_and_let_go_as_asked() {
    let residents = Arc::new(Residents::default());
    let manage = Arc::clone(&residents);
    let server = Server::built(vec![Script::text(&["Hello"])], move |app| app.with_manage(manage));
    let asked = |fields: Value| {
        let mut body = json!({"model": MODEL, "stream": false});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    server.post("/api/chat", &chat(&json!({"keep_alive": "1h30m", "stream": false}))).await;
    let load = server.post("/api/generate", &asked(json!({"keep_alive": 2.5}))).await.json();
    assert_eq!(load["done_reason"], "load");
    server.post("/api/generate", &asked(json!({"keep_alive": -1}))).await;
    let unload = server.post("/api/generate", &asked(json!({"keep_alive": "0"}))).await.json();
    assert_eq!(unload["done_reason"], "unload");
    let said = residents.0.lock().unwrap().clone();
    let keep = |keep| Told::Keep(Some(keep));
    let ms = |ms| keep(KeepAlive::Milliseconds(ms));
    assert_eq!(said, [ms(5_400_000), ms(2_500), keep(KeepAlive::UntilNeeded), Told::Leave]);
    for wrong in [json!("soon"), json!("5 m"), json!(""), json!([]), json!("5")] {
        let reply = server.post("/api/generate", &asked(json!({"keep_alive": wrong}))).await;
        assert_eq!(reply.status.as_u16(), if wrong == "5" { 200 } else { 400 }, "{wrong}: {}", reply.text);
    }
    let unknown = server.post("/api/generate", &json!({"model": "gone", "keep_alive": 0})).await;
    assert_eq!(unknown.status, 404);
    assert!(server.get("/api/ps").await.json()["models"].as_array().unwrap().is_empty(), "none is loaded");
}

/// What is to become of the model.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Keep(Option<KeepAlive>),
    Leave,
}

/// Remembers what it was told.
#[derive(Default)]
struct Residents(Mutex<Vec<Told>>);

impl Residents {
    fn note(&self, model: &str, told: Told) -> BoxFuture<'static, chat::Result<()>> {
        let outcome = if model == MODEL { Ok(()) } else { Err(Error::UnknownModel { model: model.to_owned() }) };
        if outcome.is_ok() {
            self.0.lock().unwrap().push(told);
        }
        ready(outcome).boxed()
    }
}

impl Manage for Residents {
    fn statuses(&self) -> Vec<ModelStatus> {
        vec![ModelStatus {
            card: Scripted::new(MODEL, Vec::new()).models().remove(0),
            aliases: Vec::new(),
            state: ModelState::OnDisk,
            keep_alive: KeepAlive::UntilNeeded,
            expires_ms: None,
            weights_bytes: 0,
            kv_used_bytes: 0,
            kv_max_bytes: 0,
            running: 0,
            waiting: 0,
            tokens_per_second: 0.0,
            prompt_tokens: 0,
            cached_tokens: 0,
            output_tokens: 0,
            begun: 0,
            waited_us: 0,
            steps: 0,
            step_sequences: 0,
            preemptions: 0,
            drafted_tokens: 0,
            accepted_tokens: 0,
            masks: 0,
            masks_us: 0,
            mask_waits_us: 0,
        }]
    }

    fn load<'a>(&'a self, model: &'a str, keep_alive: Option<KeepAlive>) -> BoxFuture<'a, chat::Result<()>> {
        self.note(model, Told::Keep(keep_alive))
    }

    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, chat::Result<()>> {
        self.note(model, Told::Leave)
    }
}
