//! Limits, in the words and headers of every dialect.

use chat::testing::Script;
use chat::{Error, Event};
use serde_json::{Value, json};

use crate::support::{MODEL, Reply, Server};

fn hello() -> Script {
    Script::text(&["Hello"])
}

fn chat() -> Value {
    json!({"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]})
}

fn has(reply: &Reply, name: &str) -> bool {
    reply.headers.contains_key(name)
}

#[tokio::test]
async fn openai_says_how_a_caller_stands_and_when_to_come_again() {
    let (server, clock) =
        Server::limited(vec![hello(), hello(), hello()], &["model:m=requests:2", "model:m=tokens:500"]);
    let first = server.post("/v1/chat/completions", &chat()).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-requests"), "2");
    assert_eq!(first.header("x-ratelimit-remaining-requests"), "1");
    assert_eq!(first.header("x-ratelimit-reset-requests"), "30s");
    assert_eq!(first.header("x-ratelimit-limit-tokens"), "500");
    assert!(has(&first, "x-ratelimit-remaining-tokens") && has(&first, "x-ratelimit-reset-tokens"));
    assert!(!has(&first, "retry-after") && !has(&first, "anthropic-ratelimit-requests-limit"));
    assert_eq!(server.post("/v1/chat/completions", &chat()).await.status, 200);
    let refused = server.post("/v1/chat/completions", &chat()).await;
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "30"));
    assert_eq!((&error["type"], &error["code"]), (&json!("requests"), &json!("rate_limit_exceeded")));
    let words =
        "Rate limit reached for model:m on requests per minute: limit 2, used 2, requested 1. Please try again in 30s.";
    assert_eq!(error["message"], words);
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
    assert_eq!(server.requests().len(), 2, "who is refused reaches no model");
    clock.advance_ms(30_000);
    assert_eq!(server.post("/v1/chat/completions", &chat()).await.status, 200);
    assert!(!has(&server.get("/v1/models").await, "x-ratelimit-limit-requests"));
}

#[tokio::test]
async fn tokens_are_corrected_to_what_was_used_and_too_many_are_never_let_in() {
    let (server, _clock) = Server::limited(vec![hello(), hello()], &["model:m=tokens:500"]);
    for _ in 0..2 {
        // Each is expected to use some eighty, and uses two: one read, one written.
        assert_eq!(server.post("/v1/chat/completions", &chat()).await.status, 200);
    }
    let mut much = chat();
    much["max_tokens"] = json!(1000);
    let refused = server.post("/v1/chat/completions", &much).await;
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status.as_u16(), &error["type"]), (429, &json!("tokens")));
    assert!(error["message"].as_str().unwrap().contains("limit 500, used 4, requested 10"), "{error}");
    assert_eq!(refused.header("x-should-retry"), "false");
    assert!(!has(&refused, "retry-after"));
}

#[tokio::test]
async fn anthropic_says_it_in_its_own_headers_and_error() {
    let (server, _clock) = Server::limited(vec![hello()], &["model:m=requests:1"]);
    let first = server.post("/v1/messages", &chat()).await;
    assert_eq!(first.header("anthropic-ratelimit-requests-limit"), "1");
    assert_eq!(first.header("anthropic-ratelimit-requests-remaining"), "0");
    assert_eq!(first.header("anthropic-ratelimit-requests-reset"), "2023-11-14T22:16:23.000Z");
    assert!(!has(&first, "x-ratelimit-limit-requests") && !has(&first, "anthropic-ratelimit-tokens-limit"));
    let refused = server.post("/v1/messages", &chat()).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert_eq!(refused.header("retry-after"), "60");
}

#[tokio::test]
async fn the_other_dialects_refuse_in_their_words() {
    let limits = ["model:*=requests:1:1", "model:m=concurrent:5"];
    let (server, _clock) = Server::limited(vec![hello()], &limits);
    assert_eq!(server.post("/v1/chat/completions", &chat()).await.status, 200);
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let generation = "/api/v1/services/aigc/text-generation/generation";
    let dashscope = json!({"model": MODEL, "input": {"messages": messages}});
    for (path, body, field, words) in [
        ("/api/chat", json!({"model": MODEL, "messages": messages}), "error", "Rate limit reached"),
        (generation, dashscope, "code", "Throttling.RateQuota"),
    ] {
        let refused = server.post(path, &body).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "60"), "{path}");
        assert!(refused.json()[field].as_str().unwrap().contains(words), "{}", refused.text);
    }
    let (embed, rank) = (json!({"model": "e", "input": "a"}), json!({"model": "r", "query": "a", "documents": ["b"]}));
    for (path, body) in [("/v1/embeddings", embed), ("/v2/rerank", rank)] {
        assert_eq!(server.post(path, &body).await.status, 200, "{path}");
        assert_eq!(server.post(path, &body).await.status, 429, "{path}");
    }
}

#[tokio::test]
async fn a_place_comes_back_whoever_ends_the_answer() {
    let one = "model:m=concurrent:1";
    let begun = || vec![Event::Started { prompt_tokens: 1 }, Event::Text("a".to_owned())];
    let cut = begun().into_iter().map(Ok).chain([Err(Error::ShuttingDown)]).collect();
    let scripts = vec![
        Script::Hang(begun()),
        Script::Refuse(Error::Overloaded { waiting: 1, limit: 1 }),
        Script::Play(cut),
        Script::Hang(begun()),
        hello(),
    ];
    let (server, _clock) = Server::limited(scripts, &[one]);
    let mut stream = chat();
    stream["stream"] = json!(true);
    // A reader that goes away.
    server.send_and_leave("/v1/chat/completions", &stream).await;
    // A refusal by the model, and an answer that is cut.
    assert_eq!(server.post("/v1/chat/completions", &chat()).await.json()["error"]["type"], "rate_limit_error");
    assert_eq!(server.post("/v1/chat/completions", &chat()).await.status, 503);
    // While one is under way there is no place for another, and then there is.
    let asked = chat();
    let (reply, refused) = {
        let hanging = server.post("/v1/chat/completions", &asked);
        let asking = async {
            while server.running() == 0 {
                tokio::task::yield_now().await;
            }
            server.post("/v1/chat/completions", &asked).await
        };
        tokio::pin!(hanging);
        tokio::select! {
            biased;
            reply = &mut hanging => (Some(reply), None),
            refused = asking => (None, Some(refused)),
        }
    };
    assert!(reply.is_none());
    let refused = refused.unwrap();
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert_eq!(server.post("/v1/chat/completions", &chat()).await.status, 200);
}
