use base::{RequestId, Rng};
use chat::{Content, Format, Prompt, Role, Thinking, ToolChoice};
use serde_json::{Value, json};

use super::{Call, chat, completion};

fn id() -> RequestId {
    RequestId::random(&mut Rng::seeded(1))
}

fn chat_with(fields: &Value) -> Result<Call, Value> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    chat(body.to_string().as_bytes(), id()).map_err(|failure| serde_json::from_str(&failure.body()).unwrap())
}

/// The request is refused with this parameter and a message that holds these words.
fn refused(fields: &Value, param: &str, words: &[&str]) {
    let body = chat_with(fields).expect_err("it is refused");
    assert_eq!(body["error"]["param"], param, "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    refused(&json!({"audio": {"voice": "x"}}), "audio", &["not supported"]);
    refused(&json!({"functions": [{"name": "f"}]}), "functions", &["use tools"]);
    refused(&json!({"store": true}), "store", &["not stored"]);
    refused(&json!({"service_tier": "priority"}), "service_tier", &["one tier"]);
    refused(&json!({"frobnicate": 1}), "frobnicate", &["Unrecognized request argument supplied: frobnicate"]);
}

#[test]
fn values_that_ask_for_nothing_special_pass() {
    let fields = json!({
        "response_format": {"type": "text"}, "audio": null, "functions": [], "store": false, "service_tier": "auto",
        "parallel_tool_calls": true, "metadata": {"a": "b"}, "user": "u", "modalities": ["text"],
    });
    assert_eq!(chat_with(&fields).unwrap().requests.len(), 1);
}

#[test]
fn wrong_values_are_named_with_their_place() {
    refused(&json!({"max_tokens": -5}), "max_tokens", &["-5", "1 or more"]);
    refused(&json!({"max_completion_tokens": 0}), "max_completion_tokens", &["0"]);
    refused(&json!({"max_tokens": "ten"}), "max_tokens", &["ten"]);
    refused(&json!({"n": 0}), "n", &["0"]);
    refused(&json!({"n": 1_000_000}), "n", &["1000000", "128"]);
    refused(&json!({"top_logprobs": 3}), "top_logprobs", &["logprobs"]);
    refused(&json!({"top_k": -2}), "top_k", &["-2"]);
    refused(&json!({"logit_bias": {"abc": 1}}), "logit_bias", &["abc"]);
    refused(&json!({"response_format": {"type": "xml"}}), "response_format.type", &["xml", "json_schema"]);
    let schema = "response_format.json_schema.schema";
    refused(&json!({"response_format": {"type": "json_schema", "json_schema": {}}}), schema, &["missing"]);
    refused(&json!({"guided_json": "{"}), "guided_json", &["no JSON"]);
    refused(&json!({"guided_json": 5}), "guided_json", &["5"]);
    refused(&json!({"structured_outputs": {"choice": ["a"]}}), "structured_outputs.choice", &["regex"]);
    refused(&json!({"structured_outputs": {}}), "structured_outputs", &["0 fields"]);
    let two = json!({"guided_regex": "a", "response_format": {"type": "json_object"}});
    refused(&two, "guided_regex", &["response_format"]);
    refused(&json!({"reasoning_effort": "huge"}), "reasoning_effort", &["huge"]);
    refused(&json!({"tool_choice": "maybe"}), "tool_choice", &["maybe"]);
    refused(&json!({"tools": [{"type": "x"}]}), "tools[0].type", &["function"]);
    refused(&json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name", &["missing"]);
    refused(&json!({"messages": []}), "messages", &["empty"]);
    refused(&json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role", &["robot", "developer"]);
    refused(&json!({"messages": [{"role": "user"}]}), "messages[0].content", &["missing"]);
    let audio = json!({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]});
    refused(&audio, "messages[0].content[0].type", &["input_audio"]);
    let numbers = json!({"messages": [{"role": "user", "content": 5}]});
    refused(&numbers, "messages[0].content", &["content parts"]);
}

#[test]
fn bytes_that_are_no_json_object_are_refused() {
    for body in [&b"\xff\xfe"[..], b"", b"[]", b"{\"model\": \"\xc3\x28\"}", b"{"] {
        let failure = chat(body, id()).unwrap_err();
        let body: Value = serde_json::from_str(&failure.body()).unwrap();
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
    let deep = "[".repeat(100_000);
    chat(deep.as_bytes(), id()).unwrap_err();
}

#[test]
fn a_conversation_with_tools_arrives_whole() {
    let call = chat_with(&json!({
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "w", "arguments": "{\"city\": \"Paris\"}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
        "tools": [{"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "w"}},
        "reasoning_effort": "none",
    }))
    .unwrap();
    let request = &call.requests[0];
    let Prompt::Messages(messages) = &request.prompt else { panic!("{:?}", request.prompt) };
    assert_eq!(
        messages.iter().map(|message| message.role).collect::<Vec<_>>(),
        [Role::System, Role::User, Role::Assistant, Role::Tool]
    );
    assert_eq!(messages[2].content, Content::None);
    assert_eq!(messages[2].reasoning.as_deref(), Some("hm"));
    assert_eq!(messages[2].tool_calls[0].arguments, "{\"city\": \"Paris\"}");
    assert_eq!(messages[3].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(request.tools[0].name, "w");
    assert_eq!(request.tool_choice, ToolChoice::Named("w".to_owned()));
    assert_eq!(request.thinking, Thinking::Off);
}

#[test]
fn choices_share_a_prompt_but_not_a_seed() {
    let call = chat_with(&json!({"n": 3, "seed": 7, "stop": ["a", ""], "stream": true})).unwrap();
    let seeds: Vec<_> = call.requests.iter().map(|request| request.sampling.seed).collect();
    assert_eq!(seeds, [Some(7), Some(8), Some(9)]);
    assert_eq!(call.requests[0].stop.strings, ["a"]);
    assert!(call.stream);
}

#[test]
fn completions_take_every_form_of_prompt() {
    let prompts = |prompt: Value| -> Vec<Prompt> {
        let body = json!({"model": "m", "prompt": prompt, "n": 2}).to_string();
        let call = completion(body.as_bytes(), id()).unwrap();
        assert_eq!(call.requests[0].max_tokens, Some(16), "the vendor's default");
        call.requests.into_iter().map(|request| request.prompt).collect()
    };
    let text = |text: &str| Prompt::Text(text.to_owned());
    assert_eq!(prompts(json!("a")), [text("a"), text("a")]);
    assert_eq!(prompts(json!(["a", "b"])), [text("a"), text("a"), text("b"), text("b")]);
    assert_eq!(prompts(json!([1, 2]))[0], Prompt::Tokens(vec![1, 2]));
    assert_eq!(prompts(json!([[1], [2]]))[2], Prompt::Tokens(vec![2]));
    let body = json!({"model": "m", "prompt": "a", "suffix": "b"}).to_string();
    let call = completion(body.as_bytes(), id()).unwrap();
    assert_eq!(call.requests[0].suffix.as_deref(), Some("b"));
    let body = json!({"model": "m", "prompt": "a", "suffix": "b", "echo": true}).to_string();
    assert!(completion(body.as_bytes(), id()).unwrap_err().body().contains("suffix"));
}

#[test]
fn the_form_of_an_answer_is_handed_on() {
    let schema = json!({"type": "object"});
    for (fields, expected) in [
        (json!({"response_format": {"type": "json_object"}}), Format::JsonObject),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
            Format::JsonSchema(schema.clone()),
        ),
        (json!({"guided_json": "{\"type\": \"object\"}"}), Format::JsonSchema(schema)),
        (json!({"guided_regex": "[ab]+"}), Format::Regex("[ab]+".to_owned())),
        (json!({"structured_outputs": {"grammar": "start: \"a\""}}), Format::Lark("start: \"a\"".to_owned())),
        (json!({"structured_outputs": {"json_object": true}}), Format::JsonObject),
    ] {
        assert_eq!(chat_with(&fields).unwrap().requests[0].format, expected, "{fields}");
    }
    let alone = chat_with(&json!({"parallel_tool_calls": false})).unwrap();
    assert!(!alone.requests[0].parallel_tool_calls);
}
