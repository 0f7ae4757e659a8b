//! The Responses API.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use chat::testing::Script;
use chat::{Error, FinishReason, Format, Message, Prompt, Role, Thinking, ToolChoice};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use insta::assert_snapshot;
use serde_json::{Value, json};
use store::{Entry, Memory, Name, Store};
use tokio::sync::Notify;

use crate::support::{MODEL, Server, cut_by, cut_short, everything, fault, finished, started, text};

const PATH: &str = "/v1/responses";

fn ask(fields: &Value) -> Value {
    let mut body = json!({"model": MODEL, "input": "Hi"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn texts(prompt: &Prompt) -> Vec<(Role, String)> {
    let Prompt::Messages(messages) = prompt else { panic!("no conversation") };
    messages.iter().map(|message: &Message| (message.role, message.plain_text())).collect()
}

async fn polled(server: &Server, id: &str) -> Value {
    for _ in 0..1000 {
        let response = server.get(&format!("{PATH}/{id}")).await.json();
        if response["status"] != "in_progress" {
            return response;
        }
        tokio::task::yield_now().await;
    }
    panic!("{id} never ends")
}

#[tokio::test]
async fn every_event_is_streamed_in_order() {
    let reply = Server::playing(everything()).post(PATH, &ask(&json!({"stream": true, "store": false}))).await;
    assert_snapshot!(reply.text);
}

#[tokio::test]
async fn answers_in_one_piece() {
    assert_snapshot!(Server::playing(everything()).post(PATH, &ask(&json!({}))).await.text);
    let events = vec![started(), text("Hel"), finished(FinishReason::Length)];
    let reply = Server::playing(events).post(PATH, &ask(&json!({"max_output_tokens": 3}))).await.json();
    assert_eq!(
        (&reply["status"], &reply["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
}

#[tokio::test]
async fn a_conversation_goes_on_from_what_is_stored() {
    let server = Server::new(vec![Script::text(&["Hello"]), Script::text(&["Bye"])]);
    let first = server.post(PATH, &ask(&json!({"instructions": "Be brief."}))).await.json();
    let id = first["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("{PATH}/{id}")).await.json(), first);
    let next =
        ask(&json!({"previous_response_id": id, "input": [{"role": "user", "content": "And?"}], "stream": true}));
    let streamed = server.post(PATH, &next).await.text;
    let last: Value = serde_json::from_str(streamed.trim().rsplit_once("data: ").unwrap().1).unwrap();
    let second = last["response"]["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("{PATH}/{second}")).await.json(), last["response"]);
    let requests = server.requests();
    let both = [(Role::System, "Be brief.".to_owned()), (Role::User, "Hi".to_owned())];
    assert_eq!(texts(&requests[0].prompt), both);
    let words: Vec<String> = texts(&requests[1].prompt).into_iter().map(|(_, text)| text).collect();
    assert_eq!(words, ["Hi", "Hello", "And?"], "instructions are not carried over");
    let items = server.get(&format!("{PATH}/{second}/input_items?order=asc&limit=2")).await.json();
    assert_eq!((items["data"].as_array().unwrap().len(), &items["has_more"]), (2, &json!(true)));
    let after = items["last_id"].as_str().unwrap();
    let rest = server.get(&format!("{PATH}/{second}/input_items?order=asc&after={after}")).await.json();
    assert_eq!((&rest["data"][0]["content"], &rest["has_more"]), (&json!("And?"), &json!(false)));
    let gone = server.send("DELETE", &format!("{PATH}/{id}"), &[], Vec::new()).await.json();
    assert_eq!(gone, json!({"id": id, "object": "response", "deleted": true}));
    assert_eq!(server.get(&format!("{PATH}/{id}")).await.status, 404);
    assert_eq!(server.post(PATH, &ask(&json!({"previous_response_id": id}))).await.status, 404);
}

#[tokio::test]
async fn what_shall_not_be_stored_is_not() {
    let server = Server::new(vec![Script::text(&["Hello"])]);
    let response = server.post(PATH, &ask(&json!({"store": false}))).await.json();
    let id = response["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("{PATH}/{id}")).await.status, 404);
}

#[tokio::test]
async fn the_background_is_polled_and_cancelled() {
    let hang = Script::Hang(vec![started(), text("Hel")]);
    let server = Server::new(vec![Script::text(&["Hello"]), hang, cut_by(fault())]);
    let background = ask(&json!({"background": true}));
    let queued = server.post(PATH, &background).await.json();
    assert_eq!(queued["status"], "queued");
    let done = polled(&server, queued["id"].as_str().unwrap()).await;
    assert_eq!((&done["status"], &done["output"][0]["content"][0]["text"]), (&json!("completed"), &json!("Hello")));
    let queued = server.post(PATH, &background).await.json();
    let id = queued["id"].as_str().unwrap();
    while server.running() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get(&format!("{PATH}/{id}")).await.json()["status"], "in_progress");
    let cancelled = server.post(&format!("{PATH}/{id}/cancel"), &json!({})).await.json();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(server.running(), 0);
    assert_eq!(server.get(&format!("{PATH}/{id}")).await.json()["status"], "cancelled");
    let queued = server.post(PATH, &background).await.json();
    let failed = polled(&server, queued["id"].as_str().unwrap()).await;
    assert_eq!((&failed["status"], failed["error"]["message"].is_string()), (&json!("failed"), true));
    assert!(!failed.to_string().contains("secret cause"), "{failed}");
}

#[tokio::test]
async fn what_a_shutdown_cuts_in_the_background_is_cancelled() {
    let server = Server::new(vec![cut_by(Error::ShuttingDown)]);
    let queued = server.post(PATH, &ask(&json!({"background": true}))).await.json();
    let cancelled = polled(&server, queued["id"].as_str().unwrap()).await;
    assert_eq!((&cancelled["status"], &cancelled["error"]), (&json!("cancelled"), &Value::Null));
}

/// A store that answers a writer only when it is let go.
#[derive(Debug, Default)]
struct Slow {
    inner: Memory,
    is_slow: AtomicBool,
    writing: Notify,
    goes_on: Notify,
}

impl Store for Slow {
    fn get<'a>(&'a self, name: &'a Name, limit_bytes: u64) -> BoxFuture<'a, store::Result<Bytes>> {
        self.inner.get(name, limit_bytes)
    }

    fn get_ranges<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, store::Result<Vec<Bytes>>> {
        self.inner.get_ranges(name, ranges)
    }

    fn put_create<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, store::Result<()>> {
        self.inner.put_create(name, bytes)
    }

    fn put<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, store::Result<()>> {
        async move {
            if self.is_slow.load(Ordering::SeqCst) {
                self.writing.notify_one();
                self.goes_on.notified().await;
            }
            self.inner.put(name, bytes).await
        }
        .boxed()
    }

    fn list_after<'a>(
        &'a self,
        folder: &'a Name,
        after: Option<&'a Name>,
        limit: usize,
    ) -> BoxFuture<'a, store::Result<Vec<Entry>>> {
        self.inner.list_after(folder, after, limit)
    }

    fn delete<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, store::Result<()>> {
        self.inner.delete(name)
    }
}

#[tokio::test]
async fn whoever_cancels_while_the_end_is_written_is_too_late() {
    let slow = Arc::new(Slow::default());
    let objects = Arc::clone(&slow);
    let server = Server::built(vec![Script::text(&["Hello"])], move |app| app.with_objects(objects));
    let queued = server.post(PATH, &ask(&json!({"background": true}))).await.json();
    // The run has not begun: nothing else has been awaited on this thread.
    slow.is_slow.store(true, Ordering::SeqCst);
    let id = queued["id"].as_str().unwrap();
    slow.writing.notified().await;
    let (path, nothing) = (format!("{PATH}/{id}/cancel"), json!({}));
    let cancel = server.post(&path, &nothing);
    let let_go = async {
        tokio::task::yield_now().await;
        slow.is_slow.store(false, Ordering::SeqCst);
        slow.goes_on.notify_one();
    };
    let (cancelled, ()) = futures::join!(cancel, let_go);
    assert_eq!(cancelled.json()["status"], "completed");
    assert_eq!(server.get(&format!("{PATH}/{id}")).await.json()["status"], "completed");
}

#[tokio::test]
async fn a_cut_stream_never_looks_whole() {
    for script in [cut_by(fault()), cut_by(Error::ShuttingDown), cut_short()] {
        let server = Server::new(vec![script]);
        let streamed = server.post(PATH, &ask(&json!({"stream": true}))).await.text;
        let (_, last) = streamed.trim_end().rsplit_once("\n\n").unwrap();
        assert!(last.starts_with("event: response.failed\n"), "{streamed}");
        assert!(!streamed.contains("response.completed") && !streamed.contains("secret cause"), "{streamed}");
        assert_eq!(server.running(), 0);
    }
    let whole = Server::new(vec![cut_by(fault())]).post(PATH, &ask(&json!({}))).await;
    assert_eq!((whole.status.as_u16(), whole.text.contains("Hel")), (500, false));
    let stopped = Server::new(vec![cut_by(Error::ShuttingDown)]).post(PATH, &ask(&json!({}))).await;
    assert_eq!((stopped.status.as_u16(), stopped.text.contains("Hel")), (503, false));
    let leaving = Server::new(vec![Script::Hang(vec![started(), text("a")])]);
    leaving.send_and_leave(PATH, &ask(&json!({"stream": true}))).await;
    assert_eq!(leaving.running(), 0);
}

#[tokio::test]
async fn a_request_arrives_whole() {
    let server = Server::playing(vec![started(), finished(FinishReason::Stop)]);
    let input = json!([
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}],
         "encrypted_content": null},
        {"type": "function_call", "call_id": "c1", "name": "w", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "w", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
    ]);
    let fields = json!({
        "input": input, "tools": [{"type": "function", "name": "w", "parameters": {}, "strict": true}],
        "tool_choice": {"type": "function", "name": "w"}, "reasoning": {"effort": "low"}, "max_output_tokens": 9,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}, "temperature": 0.5,
        "include": ["reasoning.encrypted_content"], "metadata": {"a": "b"},
    });
    let reply = server.post(PATH, &ask(&fields)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["metadata"], json!({"a": "b"}));
    let request = server.request();
    let Prompt::Messages(messages) = &request.prompt else { panic!("no conversation") };
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    assert_eq!((messages[2].reasoning.as_deref(), messages[2].tool_calls.len()), (Some("hm"), 2));
    assert_eq!(messages[3].tool_call_id.as_deref(), Some("c1"));
    assert_eq!((request.thinking, request.max_tokens), (Thinking::On, Some(9)));
    assert_eq!(request.tool_choice, ToolChoice::Named("w".to_owned()));
    assert_eq!(request.tools[0].definition["function"]["name"], "w");
    assert_eq!(request.format, Format::JsonSchema(json!({"type": "object"})));
    let counted = server.post("/v1/responses/input_tokens", &ask(&json!({"input": "a b c"}))).await.json();
    assert_eq!(counted, json!({"object": "response.input_tokens", "input_tokens": 3}));
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let server = Server::new(vec![]);
    for (fields, param) in [
        (json!({"conversation": "c"}), "conversation"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"include": ["message.output_text.logprobs"]}), "include"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tool_choice": "maybe"}), "tool_choice"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"temperature": -1}), "temperature"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format"),
        (json!({"input": []}), "input"),
        (json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0]"),
        (json!({"input": [{"role": "robot", "content": "x"}]}), "input[0].role"),
        (json!({"background": true, "store": false}), "background"),
        (json!({"background": true, "stream": true}), "stream"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"reasoning": {"effort": "huge"}}), "reasoning_effort"),
        (json!({"frobnicate": 1}), "frobnicate"),
    ] {
        let reply = server.post(PATH, &ask(&fields)).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["param"]), (400, &json!(param)), "{}", reply.text);
    }
    assert_eq!(server.requests().len(), 0);
    for path in ["/v1/responses/resp_0", "/v1/responses/..", "/v1/responses/resp_%2e%2e%2fx"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    let unknown = server.post(PATH, &ask(&json!({"model": "gone", "background": true}))).await;
    assert_eq!(unknown.status, 404);
    let busy = Server::new(vec![Script::Refuse(Error::Overloaded { waiting: 9, limit: 8 })]);
    let busy = busy.post(PATH, &ask(&json!({}))).await;
    assert_eq!((busy.status.as_u16(), busy.header("retry-after")), (429, "1"));
}
