//! What is refused, with which status and which words.

use chat::Error;
use chat::testing::Script;
use serde_json::{Value, json};

use crate::support::{MODEL, Server};

/// The error of a chat request with these fields.
async fn refused(server: &Server, status: u16, fields: &Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    let reply = server.post("/v1/chat/completions", &body).await;
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/json");
    let error = &reply.json()["error"];
    let fields: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["message", "type", "param", "code"]);
    error.clone()
}

#[tokio::test]
async fn errors_have_their_status_and_words() {
    let check = async |error: Error, status: u16, kind: &str, code: Value, words: &[&str]| {
        let body = refused(&Server::new(vec![Script::Refuse(error)]), status, &json!({})).await;
        assert_eq!((&body["type"], &body["code"]), (&json!(kind), &code), "{body}");
        for word in words {
            assert!(body["message"].as_str().unwrap().contains(word), "{body}");
        }
    };
    let too_long = Error::PromptTooLong { prompt_tokens: 5000, context_tokens: 4096 };
    check(too_long, 400, "invalid_request_error", json!("context_length_exceeded"), &["5000", "4096"]).await;
    let overloaded = Error::Overloaded { waiting: 9, limit: 8 };
    check(overloaded, 429, "rate_limit_error", json!("rate_limit_exceeded"), &["9", "8"]).await;
    check(Error::ShuttingDown, 503, "service_unavailable_error", Value::Null, &["shutting down"]).await;
    let broken = || Error::TemplateBroken { reason: "secret cause".to_owned() };
    check(broken(), 500, "server_error", Value::Null, &["internal error, request"]).await;
    let unsupported = Error::Unsupported { what: "tools".to_owned(), why: "no template".to_owned() };
    check(unsupported, 400, "invalid_request_error", Value::Null, &["tools", "no template"]).await;
    let unknown = refused(&Server::new(vec![]), 404, &json!({"model": "gone"})).await;
    assert_eq!((&unknown["code"], &unknown["param"]), (&json!("model_not_found"), &json!("model")));
    let hidden = refused(&Server::new(vec![Script::Refuse(broken())]), 500, &json!({})).await;
    assert!(!hidden.to_string().contains("secret cause"), "{hidden}");
}

#[tokio::test]
async fn whoever_may_try_again_is_told_when() {
    for (error, status) in [(Error::Overloaded { waiting: 9, limit: 8 }, 429), (Error::ShuttingDown, 503)] {
        let server = Server::new(vec![Script::Refuse(error)]);
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
        let reply = server.post("/v1/chat/completions", &body).await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (status, "1"));
    }
}

#[tokio::test]
async fn bad_requests_never_reach_the_model() {
    let server = Server::new(vec![]);
    let many: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    for (fields, words) in [
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "robot"),
        (json!({"messages": []}), "messages is empty"),
        (json!({"max_tokens": -5}), "max_tokens is -5"),
        (json!({"max_completion_tokens": 0}), "max_completion_tokens is 0"),
        (json!({"stop": many}), "10000 stop strings, 64 allowed"),
        (json!({"stop": "x".repeat(2000)}), "2000 bytes in a stop string, 1024 allowed"),
        (json!({"temperature": -1}), "temperature is -1"),
        (json!({"top_logprobs": 21, "logprobs": true}), "21 top_logprobs, 20 allowed"),
        (json!({"chat_template_kwargs": {"messages": []}}), "chat_template_kwargs.messages"),
        (json!({"chat_template_kwargs": {"enable_thinking": "no"}}), "chat_template_kwargs.enable_thinking is \"no\""),
        (json!({"functions": [{"name": "f"}]}), "use tools"),
    ] {
        let body = refused(&server, 400, &fields).await;
        let message = body["message"].as_str().unwrap();
        assert!(message.contains(words), "{message:?} lacks {words:?}");
        assert_eq!(body["type"], "invalid_request_error");
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn bodies_that_are_no_request() {
    let server = Server::new(vec![]);
    let deep = "[".repeat(100_000).into_bytes();
    let invalid_utf8 = b"{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}".to_vec();
    for path in ["/v1/chat/completions", "/v1/completions"] {
        for body in [b"".to_vec(), b"{".to_vec(), b"[]".to_vec(), b"null".to_vec(), deep.clone(), invalid_utf8.clone()]
        {
            let reply = server.send("POST", path, &[], body).await;
            assert_eq!(reply.status, 400, "{}", reply.text);
            assert!(reply.json()["error"]["message"].as_str().unwrap().contains("the body is not"), "{}", reply.text);
        }
        let reply = server.send("POST", path, &[], vec![b' '; (64 << 20) + 1]).await;
        assert_eq!(reply.status, 413);
        assert!(reply.json()["error"]["message"].is_string(), "{}", reply.text);
    }
}

#[tokio::test]
async fn unknown_routes_and_methods() {
    let server = Server::new(vec![]);
    let reply = server.get("/v1/nothing").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (404, &json!("unknown_url")));
    let reply = server.get("/v1/chat/completions").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (405, &json!("method_not_supported")));
}

#[tokio::test]
async fn foreign_names_are_refused() {
    let server = Server::new(vec![]);
    for header in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let reply = server.send("GET", "/v1/models", &[header], vec![]).await;
        assert_eq!(reply.status, 403, "{}", reply.text);
    }
    let reply = server.send("GET", "/v1/models", &[("host", "localhost:8420")], vec![]).await;
    assert_eq!(reply.status, 200);
}
