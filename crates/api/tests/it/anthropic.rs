//! Anthropic's dialect.

use chat::testing::Script;
use chat::{
    Content, Error, Event, Finish, FinishReason, Message, Part, Prompt, Role, StopMatch, Thinking, ToolChoice, Usage,
};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{MODEL, Reply, Server, cut_by, cut_short, everything, fault, finished, started, text};

fn body(fields: &Value) -> Value {
    let mut body = json!({"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]});
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

async fn ask(server: &Server, fields: &Value) -> Reply {
    server.post("/v1/messages", &body(fields)).await
}

#[tokio::test]
async fn thoughts_text_and_calls_are_streamed() {
    let reply = ask(&Server::playing(everything()), &json!({"stream": true})).await;
    assert_eq!(reply.header("content-type"), "text/event-stream; charset=utf-8");
    assert_snapshot!(reply.text);
}

#[tokio::test]
async fn a_message_in_one_piece() {
    let reply = ask(&Server::playing(everything()), &json!({})).await;
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(id.replace("msg_", "req_"), reply.header("request-id"));
    assert_snapshot!(reply.text);
}

#[tokio::test]
async fn reasons_to_stop_are_told_apart() {
    let ended = |reason, stop, output_tokens| {
        let usage = Usage { prompt_tokens: 12, output_tokens, ..Usage::default() };
        vec![started(), text("a"), Event::Finished(Finish { reason, stop, usage })]
    };
    let end = Some(StopMatch::String("END".to_owned()));
    for (reason, stop, tokens, expected) in [
        (FinishReason::Stop, Some(StopMatch::EndOfTurn), 3, json!(["end_turn", null])),
        (FinishReason::Stop, end, 3, json!(["stop_sequence", "END"])),
        (FinishReason::Length, None, 100, json!(["max_tokens", null])),
        (FinishReason::Length, None, 99, json!(["model_context_window_exceeded", null])),
    ] {
        let answer = ask(&Server::playing(ended(reason, stop.clone(), tokens)), &json!({})).await.json();
        assert_eq!(json!([answer["stop_reason"], answer["stop_sequence"]]), expected);
        let streamed = ask(&Server::playing(ended(reason, stop, tokens)), &json!({"stream": true})).await.text;
        assert!(streamed.contains(&format!("\"stop_reason\":{}", expected[0])), "{streamed}");
    }
}

#[tokio::test]
async fn a_cut_stream_never_looks_whole() {
    let unavailable = Error::ShuttingDown;
    for (script, kind) in
        [(cut_by(fault()), "api_error"), (cut_short(), "api_error"), (cut_by(unavailable), "overloaded_error")]
    {
        let server = Server::new(vec![script]);
        let streamed = ask(&server, &json!({"stream": true})).await.text;
        assert!(streamed.contains("Hel"), "{streamed}");
        assert!(!streamed.contains("message_delta") && !streamed.contains("message_stop"), "{streamed}");
        assert!(!streamed.contains("secret cause"), "{streamed}");
        let (_, last) = streamed.trim_end().rsplit_once("\n\n").unwrap();
        let data = last.strip_prefix("event: error\ndata: ").unwrap_or_else(|| panic!("no error: {last}"));
        assert_eq!(serde_json::from_str::<Value>(data).unwrap()["error"]["type"], kind);
        assert_eq!(server.running(), 0);
    }
    let reply = ask(&Server::new(vec![cut_short()]), &json!({})).await;
    assert_eq!(reply.status, 500);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels() {
    let server = Server::new(vec![Script::Hang(vec![started(), text("a")])]);
    let first = server.send_and_leave("/v1/messages", &body(&json!({"stream": true}))).await;
    assert!(first.starts_with("event: message_start\n"), "{first}");
    assert_eq!(server.running(), 0);
}

#[tokio::test]
async fn arguments_that_are_no_object_are_our_fault() {
    let call = Event::ToolCallStarted { index: 0, id: "c".to_owned(), name: "f".to_owned() };
    let arguments = Event::ToolCallArguments { index: 0, fragment: "[1".to_owned() };
    let server = Server::playing(vec![started(), call, arguments, finished(FinishReason::ToolCalls)]);
    assert_eq!(ask(&server, &json!({})).await.status, 500);
}

#[tokio::test]
async fn a_conversation_arrives_whole() {
    let server = Server::playing(vec![started(), finished(FinishReason::Stop)]);
    let fields = json!({
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "I'll look."},
                {"type": "tool_use", "id": "t1", "name": "w", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "t2", "name": "w", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
                {"type": "tool_result", "tool_use_id": "t2", "content": "no city", "is_error": true},
                {"type": "text", "text": "And now?"},
            ]},
        ],
        "tools": [{"name": "w", "description": "Weather.", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low"},
        "max_tokens": 2000, "temperature": 0.5, "top_k": 5, "top_p": 0.9, "stop_sequences": ["END"],
    });
    assert_eq!(ask(&server, &fields).await.status, 200);
    let request = server.request();
    let Prompt::Messages(messages) = &request.prompt else { panic!("{:?}", request.prompt) };
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Tool, Role::User]);
    let said: Vec<String> = messages.iter().map(Message::plain_text).collect();
    assert_eq!(said, ["Be brief.", "Weather?", "I'll look.", "rain", "Error: no city", "And now?"]);
    assert_eq!(messages[2].reasoning.as_deref(), Some("hm"));
    assert_eq!(messages[2].tool_calls[0].arguments, r#"{"city":"Oslo"}"#);
    assert_eq!(messages[4].tool_call_id.as_deref(), Some("t2"));
    assert_eq!(messages[5].content, Content::Parts(vec![Part::Text("And now?".to_owned())]));
    let function = json!({"name": "w", "description": "Weather.", "parameters": {"type": "object"}});
    assert_eq!(request.tools[0].definition, json!({"type": "function", "function": function}));
    assert_eq!((request.tool_choice, request.thinking), (ToolChoice::Required, Thinking::On));
    assert_eq!(request.template_variables["reasoning_effort"], "low");
    assert_eq!((request.max_tokens, request.sampling.top_k), (Some(2000), Some(5)));
    assert_eq!(request.stop.strings, ["END"]);
}

#[tokio::test]
async fn thinking_is_off_unless_it_is_asked_for() {
    for (thinking, expected) in [
        (json!(null), Thinking::Off),
        (json!({"type": "disabled"}), Thinking::Off),
        (json!({"type": "adaptive"}), Thinking::On),
    ] {
        let server = Server::playing(vec![started(), finished(FinishReason::Stop)]);
        ask(&server, &json!({"thinking": thinking})).await;
        assert_eq!(server.request().thinking, expected);
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let server = Server::new(vec![]);
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let tool = |tool: Value| json!({"tools": [tool]});
    let named = |field: &str, value: Value| json!({"name": "f", "input_schema": {}, field: value});
    for (fields, words) in [
        (json!({"frobnicate": 1}), "frobnicate: Extra inputs are not permitted"),
        (json!({"max_tokens": null}), "max_tokens: "),
        (json!({"max_tokens": -1}), "max_tokens: Input should be greater than or equal to 1, it is -1"),
        (json!({"messages": []}), "messages: at least one message is required"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages.0.role: "),
        (json!({"messages": [{"role": "assistant", "content": "x"}]}), "prefill"),
        (json!({"messages": [{"role": "user"}]}), "messages.0.content: Field required"),
        (json!({"messages": [{"role": "user", "content": "x", "a": 1}]}), "messages.0.a: Extra inputs"),
        (user(json!(5)), "messages.0.content: Input should be"),
        (user(json!([])), "messages.0.content: content must be non-empty"),
        (user(json!([{"text": "x"}])), "messages.0.content.0.type: Field required"),
        (user(json!([{"type": "document"}])), "messages.0.content.0: not supported here: blocks of type document"),
        (user(json!([{"type": "poem"}])), "messages.0.content.0: Input tag 'poem'"),
        (user(json!([{"type": "text"}])), "messages.0.content.0.text: Field required"),
        (user(json!([{"type": "text", "text": "x", "a": 1}])), "messages.0.content.0.a: Extra inputs"),
        (tool(json!({"type": "web_search_20250305", "name": "web_search"})), "tools.0.type: not supported here"),
        (tool(named("strict", json!("yes"))), "tools.0.strict: "),
        (tool(named("a", json!(1))), "tools.0.a: Extra inputs"),
        (tool(json!({"name": "f"})), "tools.0.input_schema: Field required"),
        (json!({"tool_choice": {"type": "tool", "name": "g"}}), "tool_choice.name: there is no tool \"g\""),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 5}}), "thinking.budget_tokens: "),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), "max_tokens: 100 is not greater"),
        (json!({"thinking": {"type": "adaptive", "display": "omitted"}}), "thinking.display: not supported"),
        (json!({"output_config": {"format": {"type": "json_schema"}}}), "output_config.format.schema: Field required"),
        (json!({"mcp_servers": [{}]}), "mcp_servers: not supported"),
        (json!({"container": "c"}), "container: not supported"),
        (json!({"temperature": 1.5}), "temperature: range: 0..1, it is 1.5"),
        (json!({"top_k": -1}), "top_k: "),
        (json!({"stop_sequences": [" "]}), "stop_sequences: "),
        (json!({"system": 5}), "system: Input should be"),
    ] {
        let reply = ask(&server, &fields).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        let reply = reply.json();
        assert_eq!((&reply["type"], &reply["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message:?} lacks {words:?}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn errors_have_their_status_and_type() {
    for (error, status, kind) in [
        (Error::Overloaded { waiting: 9, limit: 8 }, 529, "overloaded_error"),
        (Error::ProjectBusy { open: 8, limit: 8 }, 429, "rate_limit_error"),
        (Error::ShuttingDown, 529, "overloaded_error"),
        (Error::PromptTooLong { prompt_tokens: 5000, context_tokens: 4096 }, 400, "invalid_request_error"),
        (fault(), 500, "api_error"),
    ] {
        let reply = ask(&Server::new(vec![Script::Refuse(error)]), &json!({})).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["type"]), (status, &json!(kind)));
        assert_eq!(reply.headers.contains_key("retry-after"), [429, 529].contains(&status));
        assert!(!reply.text.contains("secret cause"), "{}", reply.text);
    }
    let unknown = ask(&Server::new(vec![]), &json!({"model": "gone"})).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]["message"]), (404, &json!("model: gone")));
    let server = Server::new(vec![]);
    let large = server.send("POST", "/v1/messages", &[], vec![b' '; (64 << 20) + 1]).await;
    assert_eq!((large.status.as_u16(), &large.json()["error"]["type"]), (413, &json!("request_too_large")));
    for bytes in [&b""[..], b"[]", b"{\"a\": \"\xff\"}"] {
        let reply = server.send("POST", "/v1/messages", &[], bytes.to_vec()).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["type"]), (400, &json!("error")));
    }
    assert_eq!(server.get("/v1/messages").await.json()["error"]["type"], "invalid_request_error");
    assert_eq!(server.get("/v1/messages/none").await.json()["error"]["type"], "not_found_error");
}

#[tokio::test]
async fn tokens_are_counted() {
    let server = Server::new(vec![]);
    let question = json!({"model": MODEL, "system": "a b", "messages": [{"role": "user", "content": "c d e"}]});
    let reply = server.post("/v1/messages/count_tokens", &question).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, r#"{"input_tokens":5}"#));
    let reply = server.post("/v1/messages/count_tokens", &body(&json!({}))).await;
    assert!(reply.text.contains("max_tokens: Extra inputs are not permitted"), "{}", reply.text);
}

#[tokio::test]
async fn models_are_listed_in_the_dialect_that_asks() {
    let server = Server::new(vec![]);
    let version = [("anthropic-version", "2023-06-01")];
    let list = server.send("GET", "/v1/models?limit=5", &version, vec![]).await;
    assert_snapshot!(list.text);
    assert_eq!(server.get("/apps/anthropic/v1/models").await.json(), list.json());
    assert_eq!(server.send("GET", "/v1/models/m", &version, vec![]).await.json(), list.json()["data"][0]);
    assert_eq!(server.send("GET", "/v1/models/x", &version, vec![]).await.json()["error"]["type"], "not_found_error");
    let after = server.send("GET", "/v1/models?after_id=m", &version, vec![]).await.json();
    assert_eq!((&after["data"], &after["has_more"]), (&json!([]), &json!(false)));
    assert_eq!(server.send("GET", "/v1/models?limit=0", &version, vec![]).await.status, 400);
    assert_eq!(server.get("/compatible-mode/v1/models").await.json()["object"], "list");
}

#[tokio::test]
async fn the_cloud_services_addresses_work() {
    let server = Server::new(vec![Script::text(&["a"]), Script::text(&["b"])]);
    assert_eq!(server.post("/apps/anthropic/v1/messages", &body(&json!({}))).await.json()["content"][0]["text"], "a");
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    let answer = server.post("/compatible-mode/v1/chat/completions", &chat).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "b");
}

#[tokio::test]
async fn what_is_for_the_vendors_books_does_not_reach_the_model() {
    let books = "x-anthropic-billing-header: cc_version=2.1.107.3d9; cc_entrypoint=cli; cch=74943;";
    let text = |text: &str| json!({"type": "text", "text": text});
    for (system, heard) in [
        (json!([text(books), text("Be brief.")]), "Be brief."),
        (json!([text(&format!("{books}\nBe brief."))]), "Be brief."),
        (json!(format!("{books}\nBe brief.")), "Be brief."),
        // Anywhere else it is what somebody wrote.
        (json!(format!("Be brief.\n{books}")), &format!("Be brief.\n{books}")),
    ] {
        let server = Server::playing(everything());
        ask(&server, &json!({"system": system})).await;
        let Prompt::Messages(messages) = server.request().prompt else { panic!("a conversation was sent") };
        assert_eq!((messages[0].role, messages[0].plain_text().as_str()), (Role::System, heard), "{system}");
    }
}
