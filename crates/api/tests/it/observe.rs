//! What is measured, and what is not shown.

use chat::Error;
use chat::testing::Script;
use serde_json::{Value, json};

use crate::support::{MODEL, Server, cut_by, fault, finished, started, text};

fn chat(model: &str, words: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": words}]})
}

#[tokio::test]
async fn requests_are_counted_by_route_model_and_outcome() {
    let whole = [started(), text("secret answer"), finished(chat::FinishReason::Stop)];
    let server = Server::new(vec![
        Script::Play(whole.into_iter().map(Ok).collect()),
        Script::Refuse(Error::Overloaded { waiting: 9, limit: 9 }),
        cut_by(fault()),
    ]);
    for _ in 0..3 {
        server.post("/v1/chat/completions", &chat(MODEL, "secret question")).await;
    }
    server.post("/v1/chat/completions", &chat("made-up-label", "Hi")).await;
    let reply = server.get("/metrics").await;
    assert!(reply.header("content-type").starts_with("application/openmetrics-text"));
    let route = "route=\"/v1/chat/completions\"";
    for line in [
        format!("sampan_http_requests_total{{{route},status=\"200\"}} 1"),
        format!("sampan_http_requests_total{{{route},status=\"429\"}} 1"),
        format!("sampan_generations_total{{{route},model=\"m\",outcome=\"finished\"}} 1"),
        format!("sampan_generations_total{{{route},model=\"m\",outcome=\"exhausted\"}} 1"),
        format!("sampan_generations_total{{{route},model=\"m\",outcome=\"internal\"}} 1"),
        format!("sampan_generations_total{{{route},model=\"\",outcome=\"notfound\"}} 1"),
        "sampan_prompt_tokens_total{model=\"m\"} 12".to_owned(),
        "sampan_cached_prompt_tokens_total{model=\"m\"} 4".to_owned(),
        "sampan_output_tokens_total{model=\"m\"} 7".to_owned(),
        "sampan_time_to_first_token_seconds_count{model=\"m\"} 2".to_owned(),
        "sampan_time_per_output_token_seconds_count{model=\"m\"} 1".to_owned(),
        "sampan_running{model=\"m\"} 0".to_owned(),
    ] {
        assert!(reply.text.lines().any(|found| found == line), "{line} is not in\n{}", reply.text);
    }
    assert!(!reply.text.contains("made-up-label"), "{}", reply.text);
    assert!(reply.text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_last_requests_are_shown_without_their_words() {
    let hang = Script::Hang(vec![started(), text("secret answer")]);
    let server = Server::new(vec![hang, Script::Hang(vec![started()])]);
    let mut body = chat(MODEL, "secret question");
    body["stream"] = json!(true);
    server.send_and_leave("/v1/chat/completions", &body).await;
    let page = server.get("/admin/v1/requests").await;
    let seen = &page.json()["requests"][0];
    assert_eq!((&seen["state"], &seen["model"], &seen["prompt_tokens"]), (&json!("left"), &json!("m"), &json!(12)));
    assert_eq!(seen["route"], "/v1/chat/completions");
    assert!(seen["over_us"].is_number() && !page.text.contains("secret"), "{}", page.text);
}

#[tokio::test]
async fn one_request_is_shown_with_the_times_of_its_pieces() {
    let server = Server::new(vec![Script::text(&["a", "b", "c"])]);
    server.post("/v1/chat/completions", &chat(MODEL, "Hi")).await;
    let page = server.get("/admin/v1/requests").await.json();
    assert!(page["requests"][0].get("steps").is_none(), "a list stays short");
    let id = page["requests"][0]["id"].as_str().unwrap();
    let seen = server.get(&format!("/admin/v1/requests/{id}")).await.json();
    assert_eq!((&seen["state"], &seen["steps"]["pieces"]), (&json!("finished"), &json!(3)));
    assert_eq!(seen["steps"]["at_us"][0], seen["first_token_us"]);
    assert_eq!((seen["steps"]["at_us"].as_array().unwrap().len(), &seen["steps"]["every"]), (3, &json!(1)));
    let none = server.get("/admin/v1/requests/nobody").await;
    assert_eq!(none.status, 404);
    assert!(none.text.contains("nobody"), "{}", none.text);
}

#[tokio::test]
async fn no_more_than_some_are_remembered() {
    let server = Server::new((0..300).map(|_| Script::text(&["a"])).collect());
    for _ in 0..300 {
        server.post("/v1/chat/completions", &chat(MODEL, "Hi")).await;
    }
    let page = server.get("/admin/v1/requests").await.json();
    assert_eq!(page["requests"].as_array().unwrap().len(), 256);
    assert_eq!(page["requests"][0]["state"], "finished");
}
