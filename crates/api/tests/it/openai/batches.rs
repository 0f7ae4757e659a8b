//! Files and batches through the router.

use std::sync::Arc;

use axum::http::StatusCode;
use chat::testing::Script;
use chat::{Error, Priority};
use serde_json::{Value, json};

use crate::support::{Reply, Server};

const BOUNDARY: &str = "----x";

fn form(fields: &[(&str, &str)], file: Option<(&str, &str)>) -> Vec<u8> {
    let mut body = String::new();
    for (name, value) in fields {
        body += &format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    if let Some((name, text)) = file {
        let disposition = format!("form-data; name=\"file\"; filename=\"{name}\"");
        body += &format!("--{BOUNDARY}\r\ncontent-disposition: {disposition}\r\n\r\n{text}\r\n");
    }
    (body + &format!("--{BOUNDARY}--\r\n")).into_bytes()
}

async fn upload(server: &Server, fields: &[(&str, &str)], file: Option<(&str, &str)>) -> Reply {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    server.send("POST", "/v1/files", &[("content-type", &kind)], form(fields, file)).await
}

async fn uploaded(server: &Server, text: &str) -> String {
    let reply = upload(server, &[("purpose", "batch")], Some(("in.jsonl", text))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()["id"].as_str().unwrap().to_owned()
}

fn line(id: &str, url: &str, body: &Value) -> String {
    json!({"custom_id": id, "method": "POST", "url": url, "body": body}).to_string() + "\n"
}

fn chat(id: &str) -> String {
    line(id, "/v1/chat/completions", &json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}))
}

async fn batch(server: &Server, endpoint: &str, text: &str) -> Value {
    let file = uploaded(server, text).await;
    let asked = json!({"input_file_id": file, "endpoint": endpoint, "completion_window": "24h"});
    let reply = server.post("/v1/batches", &asked).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let made = reply.json();
    assert_eq!(made["status"], "validating");
    over(server, &format!("/v1/batches/{}", made["id"].as_str().unwrap())).await
}

/// Asks until a batch is over.
async fn over(server: &Server, path: &str) -> Value {
    loop {
        let now = server.get(path).await.json();
        let status = now["status"].as_str().or(now["processing_status"].as_str()).unwrap().to_owned();
        if ["completed", "failed", "expired", "cancelled", "ended"].contains(&status.as_str()) {
            return now;
        }
        tokio::task::yield_now().await;
    }
}

async fn lines(server: &Server, file: &Value) -> Vec<Value> {
    let reply = server.get(&format!("/v1/files/{}/content", file.as_str().unwrap())).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn files_are_kept_listed_read_and_deleted() {
    let server = Server::new(vec![]);
    let first = uploaded(&server, "one\ntwo\n").await;
    let expires =
        [("purpose", "user_data"), ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600")];
    let second = upload(&server, &expires, Some(("b.txt", ""))).await.json();
    assert_eq!(second["expires_at"].as_u64().unwrap(), second["created_at"].as_u64().unwrap() + 3600);
    let shown = server.get(&format!("/v1/files/{first}")).await.json();
    assert_eq!(
        (&shown["bytes"], &shown["filename"], &shown["purpose"]),
        (&json!(8), &json!("in.jsonl"), &json!("batch"))
    );
    assert_eq!(server.get(&format!("/v1/files/{first}/content")).await.text, "one\ntwo\n");
    let ids = |page: Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut both = vec![first.clone(), second["id"].as_str().unwrap().to_owned()];
    both.sort();
    assert_eq!(ids(server.get("/v1/files?order=asc").await.json()), both);
    assert_eq!(ids(server.get("/v1/files?purpose=batch").await.json()), std::slice::from_ref(&first));
    let page = server.get("/v1/files?order=asc&limit=1").await.json();
    assert_eq!(page["has_more"], true);
    assert_eq!(ids(server.get(&format!("/v1/files?order=asc&after={}", both[0])).await.json()), both[1..]);
    let deleted = server.send("DELETE", &format!("/v1/files/{first}"), &[], vec![]).await;
    assert_eq!(deleted.json()["deleted"], true);
    assert_eq!(server.get(&format!("/v1/files/{first}")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn uploads_are_refused_by_name() {
    let server = Server::new(vec![]);
    let check = async |fields: &[(&str, &str)], file, param: Option<&str>| {
        let reply = upload(&server, fields, file).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
        assert_eq!(reply.json()["error"]["param"].as_str(), param, "{}", reply.text);
    };
    check(&[], Some(("a", "x")), Some("purpose")).await;
    check(&[("purpose", "batch")], None, Some("file")).await;
    check(&[("purpose", "fun")], Some(("a", "x")), Some("purpose")).await;
    check(&[("purpose", "batch"), ("colour", "red")], Some(("a", "x")), Some("colour")).await;
    let soon = [("purpose", "batch"), ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "5")];
    check(&soon, Some(("a", "x")), Some("expires_after.seconds")).await;
    let broken = [("content-type", "multipart/form-data; boundary=y")];
    assert_eq!(server.send("POST", "/v1/files", &broken, b"--y\r\n".to_vec()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(server.post("/v1/files", &json!({})).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(server.get("/v1/files").await.json()["data"], json!([]), "nothing of them was kept");
}

#[tokio::test]
async fn lines_are_answered_in_the_background_of_everybody() {
    let scripts = vec![
        Script::text(&["A"]),
        Script::Refuse(Error::Overloaded { waiting: 9, limit: 9 }),
        Script::text(&["B"]),
        Script::Refuse(Error::PromptTooLong { prompt_tokens: 9, context_tokens: 8 }),
    ];
    let server = Server::new(scripts);
    let text = [chat("a"), chat("b"), "\n".to_owned(), chat("c")].concat();
    let batch = batch(&server, "/v1/chat/completions", &text).await;
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 2, "failed": 1}));
    let good = lines(&server, &batch["output_file_id"]).await;
    assert!(good.iter().all(|line| line["response"]["status_code"] == 200 && line["error"].is_null()), "{good:?}");
    assert_eq!(good[0]["response"]["body"]["object"], "chat.completion");
    let bad = lines(&server, &batch["error_file_id"]).await;
    assert_eq!(bad[0]["response"]["body"]["error"]["code"], "context_length_exceeded");
    let callers = server.requests().into_iter().map(|request| request.caller.unwrap().priority);
    assert!(callers.clone().count() == 4 && callers.into_iter().all(|priority| priority == Priority::Background));
    let listed = server.get("/v1/batches").await.json();
    assert_eq!((&listed["data"][0], &listed["has_more"]), (&batch, &json!(false)));
}

#[tokio::test]
async fn every_endpoint_takes_batches() {
    let (server, _) = Server::embedding(vec![]);
    let text = line("e", "/v1/embeddings", &json!({"model": "e", "input": "a b"}));
    let embedded = batch(&server, "/v1/embeddings", &text).await;
    assert_eq!(lines(&server, &embedded["output_file_id"]).await[0]["response"]["body"]["object"], "list");
    for (endpoint, body, object) in [
        ("/v1/completions", json!({"model": "m", "prompt": "Hi"}), "text_completion"),
        ("/v1/responses", json!({"model": "m", "input": "Hi"}), "response"),
    ] {
        let server = Server::new(vec![Script::text(&["A"])]);
        let stream = json!({"model": "m", "stream": true});
        let text = line("x", endpoint, &body) + &line("y", endpoint, &stream);
        let batch = batch(&server, endpoint, &text).await;
        assert_eq!(lines(&server, &batch["output_file_id"]).await[0]["response"]["body"]["object"], object);
        assert_eq!(lines(&server, &batch["error_file_id"]).await[0]["response"]["body"]["error"]["param"], "stream");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_before_anything_is_asked() {
    let server = Server::new(vec![]);
    let text = [chat("a"), chat("a"), line("b", "/v1/completions", &json!({})), "x\n".to_owned()].concat();
    let failed = batch(&server, "/v1/chat/completions", &text).await;
    let codes: Vec<&Value> = failed["errors"]["data"].as_array().unwrap().iter().map(|fault| &fault["code"]).collect();
    assert_eq!(codes, ["duplicate_custom_id", "mismatched_url", "invalid_json_line"]);
    let file = uploaded(&server, "").await;
    let base = json!({"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"});
    for (field, value, status) in [
        ("endpoint", json!("/v1/images"), 400),
        ("completion_window", json!("1h"), 400),
        ("metadata", json!({"a": 1}), 400),
        ("input_file_id", json!("file-none"), 404),
        ("output_expires_after", json!({}), 400),
    ] {
        let mut asked = base.clone();
        asked[field] = value;
        let reply = server.post("/v1/batches", &asked).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["param"]), (status, &json!(field)), "{}", reply.text);
    }
    assert_eq!(server.get("/v1/batches/batch_x").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_batch_is_cancelled_and_keeps_its_input_until_then() {
    let server = Server::new(vec![Script::Hang(vec![])]);
    let file = uploaded(&server, &chat("a")).await;
    let asked = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "2d"});
    let made = server.post("/compatible-mode/v1/batches", &asked).await.json();
    let path = format!("/v1/batches/{}", made["id"].as_str().unwrap());
    while server.running() == 0 {
        tokio::task::yield_now().await;
    }
    let refused = server.send("DELETE", &format!("/v1/files/{file}"), &[], vec![]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    let cancelling = server.post(&format!("{path}/cancel"), &json!({})).await.json();
    assert!(["cancelling", "cancelled"].contains(&cancelling["status"].as_str().unwrap()), "{cancelling}");
    let cancelled = over(&server, &path).await;
    assert_eq!((&cancelled["status"], server.running()), (&json!("cancelled"), 0));
    assert_eq!(lines(&server, &cancelled["error_file_id"]).await[0]["error"]["code"], "batch_cancelled");
    assert_eq!(server.post(&format!("{path}/cancel"), &json!({})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn messages_come_in_batches_too() {
    let refused = Script::Refuse(Error::PromptTooLong { prompt_tokens: 9, context_tokens: 8 });
    let server = Server::new(vec![Script::text(&["A"]), refused]);
    let params = json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    let requests = json!([{"custom_id": "a", "params": params}, {"custom_id": "b", "params": params}]);
    let reply = server.post("/v1/messages/batches", &json!({"requests": requests})).await;
    let made = reply.json();
    assert_eq!((&made["processing_status"], &made["request_counts"]["processing"]), (&json!("in_progress"), &json!(2)));
    let path = format!("/v1/messages/batches/{}", made["id"].as_str().unwrap());
    let ended = over(&server, &path).await;
    let counts = json!({"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 0});
    assert_eq!((&ended["request_counts"], &ended["ended_at"].is_null()), (&counts, &false));
    assert!(ended["results_url"].as_str().unwrap().ends_with(&format!("{path}/results")), "{ended}");
    let results = server.get(&format!("{path}/results")).await;
    let results: Vec<Value> = results.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results[0]["result"]["message"]["content"][0]["text"], "A");
    assert_eq!(results[1]["result"]["error"]["error"]["type"], "invalid_request_error");
    assert_eq!(server.get("/v1/files").await.json()["data"], json!([]), "its files are its own");
    let page = server.get("/v1/messages/batches?limit=1").await.json();
    assert_eq!(page["data"][0]["id"], made["id"]);
    let deleted = server.send("DELETE", &path, &[], vec![]).await.json();
    assert_eq!(deleted["type"], "message_batch_deleted");
    assert_eq!(server.get(&path).await.status, StatusCode::NOT_FOUND);
    for (id, params) in [("", params.clone()), ("a b", params.clone()), ("a", json!([]))] {
        let asked = json!({"requests": [{"custom_id": id, "params": params}]});
        assert_eq!(server.post("/v1/messages/batches", &asked).await.status, StatusCode::BAD_REQUEST, "{id:?}");
    }
    let none = server.post("/v1/messages/batches", &json!({"requests": []})).await;
    assert_eq!(none.json()["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn a_new_server_goes_on_where_the_last_one_died() {
    let objects: Arc<dyn store::Store> = Arc::new(store::Memory::new());
    let kept = Arc::clone(&objects);
    let server = Server::built(vec![Script::text(&["A"]), Script::Hang(vec![])], |app| app.with_objects(kept));
    let file = uploaded(&server, &[chat("a"), chat("b")].concat()).await;
    let asked = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let path = format!("/v1/batches/{}", server.post("/v1/batches", &asked).await.json()["id"].as_str().unwrap());
    while server.get(&path).await.json()["request_counts"]["completed"] != 1 {
        tokio::task::yield_now().await;
    }
    server.begin_shutdown();
    let server = Server::seeded(2, vec![Script::text(&["B"])], |app| app.with_objects(objects));
    assert_eq!(server.resume_batches().await, 1);
    let batch = over(&server, &path).await;
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 2, "failed": 0}));
    assert_eq!(server.requests().len(), 1, "only the line without an answer is asked again");
    assert_eq!(lines(&server, &batch["output_file_id"]).await.len(), 2);
}
