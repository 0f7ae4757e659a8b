//! Callers and models whose data may not be kept on this machine: nothing of theirs stays, and every refusal says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chat::testing::Script;
use serde_json::{Value, json};

use crate::support::{MODEL, Server};

const WHY: &str = "project acme: data_region is EU; tokyo (JP) is outside";

/// A server and what says from when on nothing may be kept on it.
fn server(scripts: Vec<Script>) -> (Server, Arc<AtomicBool>) {
    let closed = Arc::new(AtomicBool::new(false));
    let is_closed = Arc::clone(&closed);
    let may_keep: api::MayKeep = Arc::new(move |_, _| match is_closed.load(Ordering::SeqCst) {
        true => Err(WHY.to_owned()),
        false => Ok(()),
    });
    (Server::built(scripts, |app| app.with_may_keep(may_keep)), closed)
}

fn hello() -> Script {
    Script::text(&["Hello"])
}

fn respond(more: &Value) -> Value {
    let mut body = json!({"model": MODEL, "input": "Hi"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn upload(server: &Server, text: &str) -> crate::support::Reply {
    let field = |head: &str, value: &str| format!("--x\r\ncontent-disposition: form-data; {head}\r\n\r\n{value}\r\n");
    let file = field("name=\"file\"; filename=\"in.jsonl\"", text);
    let body = field("name=\"purpose\"", "batch") + &file + "--x--\r\n";
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    server.send("POST", "/v1/files", &kind, body.into_bytes()).await
}

fn line() -> String {
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    json!({"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": body}).to_string()
}

fn batch_of(file: &str) -> Value {
    json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"})
}

fn messages() -> Value {
    let params = json!({"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]});
    json!({"requests": [{"custom_id": "one", "params": params}]})
}

#[tokio::test]
async fn nothing_new_is_kept_and_every_refusal_says_why() {
    let (server, closed) = server(vec![hello(), hello()]);
    let file = upload(&server, &line()).await.json()["id"].as_str().unwrap().to_owned();
    closed.store(true, Ordering::SeqCst);
    let refused = [
        upload(&server, &line()).await,
        server.post("/v1/batches", &batch_of(&file)).await,
        server.post("/v1/messages/batches", &messages()).await,
        server.post("/v1/responses", &respond(&json!({"store": true}))).await,
        server.post("/v1/responses", &respond(&json!({"background": true}))).await,
    ];
    for reply in refused {
        assert_eq!(reply.status, 403, "{}", reply.text);
        let error = &reply.json()["error"];
        let message = error["message"].as_str().unwrap();
        assert!(message.ends_with(&format!("may not be kept here: {WHY}")), "{message}");
        assert_eq!(error["type"], "permission_error");
    }
    // Whoever does not ask for a response to be stored is told that it was not.
    let answered = server.post("/v1/responses", &respond(&json!({}))).await.json();
    assert_eq!((&answered["status"], &answered["store"]), (&json!("completed"), &json!(false)));
    let path = format!("/v1/responses/{}", answered["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(server.get("/v1/files").await.json()["data"].as_array().unwrap().len(), 1, "the one from before");
    for list in ["/v1/batches", "/v1/messages/batches"] {
        assert_eq!(server.get(list).await.json()["data"], json!([]), "{list}");
    }
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(server.post("/v1/chat/completions", &chat).await.status, 200, "what keeps nothing goes on");
}

#[tokio::test]
async fn what_lies_there_can_be_taken_elsewhere_and_deleted() {
    let (server, closed) = server(vec![hello(), hello()]);
    let file = format!("/v1/files/{}", upload(&server, "a line").await.json()["id"].as_str().unwrap());
    let response = server.post("/v1/responses", &respond(&json!({}))).await.json()["id"].as_str().unwrap().to_owned();
    closed.store(true, Ordering::SeqCst);
    assert_eq!(server.get(&format!("{file}/content")).await.text, "a line");
    assert_eq!(server.get(&format!("/v1/responses/{response}")).await.status, 200);
    let next = respond(&json!({"previous_response_id": response, "store": false}));
    assert_eq!(server.post("/v1/responses", &next).await.status, 200);
    for path in [file, format!("/v1/responses/{response}")] {
        assert_eq!(server.send("DELETE", &path, &[], Vec::new()).await.status, 200, "{path}");
        assert_eq!(server.get(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn what_a_model_answers_is_held_to_the_models_own_setting() {
    let why = "model m: data_region is EU; tokyo (JP) is outside";
    let may_keep: api::MayKeep = Arc::new(move |_, model| if model == MODEL { Err(why.to_owned()) } else { Ok(()) });
    let server = Server::built(vec![], |app| app.with_may_keep(may_keep));
    let file = upload(&server, &line()).await.json()["id"].as_str().unwrap().to_owned();
    let openai = server.post("/v1/batches", &batch_of(&file)).await.json();
    let anthropic = server.post("/v1/messages/batches", &messages()).await.json();
    let openai = over(&server, &format!("/v1/batches/{}", openai["id"].as_str().unwrap())).await;
    assert_eq!(openai["request_counts"], json!({"total": 1, "completed": 0, "failed": 1}));
    let errors = server.get(&format!("/v1/files/{}/content", openai["error_file_id"].as_str().unwrap())).await;
    let id = anthropic["id"].as_str().unwrap();
    over(&server, &format!("/v1/messages/batches/{id}")).await;
    let results = server.get(&format!("/v1/messages/batches/{id}/results")).await;
    for lines in [errors, results] {
        assert!(lines.text.contains(why) && lines.text.contains("permission_error"), "{}", lines.text);
    }
    assert!(server.requests().is_empty(), "the model was not asked for what may not be kept");
}

/// Asks until a batch is over.
async fn over(server: &Server, path: &str) -> Value {
    loop {
        let now = server.get(path).await.json();
        if now["status"] == "completed" || now["processing_status"] == "ended" {
            return now;
        }
        tokio::task::yield_now().await;
    }
}
