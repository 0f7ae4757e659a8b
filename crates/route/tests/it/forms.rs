//! What is sent in every form, and the suite of every `Generate`.

use chat::testing::{conformance, request};
use chat::{
    Content, Error, Format, Generate as _, ImageSource, Message, Part, Prompt, Role, Thinking, Tool, ToolCall,
    ToolChoice,
};
use route::testing::Stub;
use route::{Form, Server};
use serde_json::{Value, json};

use crate::support::{MODEL, upstream};

#[tokio::test]
async fn pools_that_count_prompts_pass_the_suite() {
    for (form, server) in [(Form::OpenAi, Server::Vllm), (Form::Anthropic, Server::Other)] {
        let stub = Stub::start(&[]).await;
        conformance(&upstream(&stub, form, server)).await;
    }
}

async fn sent(form: Form, server: Server, change: impl FnOnce(&mut chat::GenerateRequest)) -> Result<Value, Error> {
    let stub = Stub::start(&[]).await;
    let mut request = request(MODEL, "Hi");
    change(&mut request);
    chat::collect(upstream(&stub, form, server).generate(request).await?).await?;
    Ok(stub.seen().remove(0).body)
}

/// A conversation with everything in it.
fn full(request: &mut chat::GenerateRequest) {
    let call = ToolCall { id: "c1".into(), name: "f".into(), arguments: r#"{"a": 1}"#.into() };
    let assistant = Message {
        content: Content::None,
        reasoning: Some("thought".into()),
        tool_calls: vec![call],
        ..Message::text(Role::Assistant, "")
    };
    let result = Message { tool_call_id: Some("c1".into()), ..Message::text(Role::Tool, "42") };
    let picture = Part::Image(ImageSource::Bytes([0xff, 0xd8, 0xff, 0xe0].into()));
    let user =
        Message { content: Content::Parts(vec![Part::Text("Look".into()), picture]), ..Message::text(Role::User, "") };
    request.prompt = Prompt::Messages(vec![Message::text(Role::System, "Be brief"), user, assistant, result]);
    let function = json!({"name": "f", "description": "d", "parameters": {"type": "object"}});
    request.tools = vec![Tool { name: "f".into(), definition: json!({"type": "function", "function": function}) }];
    request.tool_choice = ToolChoice::Named("f".into());
    request.sampling.temperature = Some(0.7);
    request.stop.strings = vec!["END".into()];
}

#[tokio::test]
async fn the_openai_form_holds_everything() {
    let body = sent(Form::OpenAi, Server::Vllm, |request| {
        full(request);
        request.sampling.top_k = Some(20);
        request.thinking = Thinking::Off;
        request.format = Format::Regex("a+".into());
    });
    let body = body.await.unwrap();
    assert_eq!((&body["model"], &body["max_tokens"]), (&json!("there/m"), &json!(8)));
    assert_eq!((&body["temperature"], &body["top_k"], &body["stop"]), (&json!(0.7), &json!(20), &json!(["END"])));
    assert_eq!(body["chat_template_kwargs"], json!({"enable_thinking": false}));
    assert_eq!(body["structured_outputs"], json!({"regex": "a+"}));
    assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "f"}}));
    assert_eq!(body["messages"][1]["content"][1]["image_url"]["url"], json!("data:image/jpeg;base64,/9j/4A=="));
    assert_eq!(body["messages"][2]["reasoning_content"], json!("thought"));
    assert_eq!(body["messages"][2]["tool_calls"][0]["function"]["arguments"], json!("{\"a\": 1}"));
    assert_eq!(body["messages"][3], json!({"role": "tool", "content": "42", "tool_call_id": "c1"}));
}

#[tokio::test]
async fn the_anthropic_form_holds_everything() {
    let body = sent(Form::Anthropic, Server::Other, full).await.unwrap();
    assert_eq!(body["system"], json!([{"type": "text", "text": "Be brief"}]));
    assert_eq!(body["messages"][0]["content"][1]["source"]["media_type"], json!("image/jpeg"));
    assert_eq!(body["messages"][1]["content"][0]["input"], json!({"a": 1}));
    let result = json!({"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "42"}]});
    assert_eq!(body["messages"][2], json!({"role": "user", "content": [result]}));
    assert_eq!(body["tools"][0], json!({"name": "f", "input_schema": {"type": "object"}, "description": "d"}));
    assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "f"}));
    assert_eq!((&body["max_tokens"], &body["stop_sequences"]), (&json!(8), &json!(["END"])));
}

#[tokio::test]
async fn the_dashscope_form_holds_everything() {
    let body = sent(Form::DashScope, Server::Other, full).await.unwrap();
    assert_eq!(body["input"]["messages"][0]["content"], json!([{"text": "Be brief"}]));
    assert_eq!(body["input"]["messages"][1]["content"][1]["image"], json!("data:image/jpeg;base64,/9j/4A=="));
    assert_eq!(body["input"]["messages"][3]["tool_call_id"], json!("c1"));
    assert_eq!(body["parameters"]["incremental_output"], json!(true));
    assert_eq!(body["parameters"]["temperature"], json!(0.7));
}

#[tokio::test]
async fn a_budget_for_thoughts_is_told_where_the_form_has_one() {
    let ask = |request: &mut chat::GenerateRequest| {
        (request.thinking, request.thinking_tokens_max, request.max_tokens) = (Thinking::On, Some(1500), Some(4000));
    };
    let body = sent(Form::Anthropic, Server::Other, ask).await.unwrap();
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 1500}));
    let body = sent(Form::DashScope, Server::Other, ask).await.unwrap();
    assert_eq!(body["parameters"]["thinking_budget"], json!(1500));
    let body = sent(Form::OpenAi, Server::Sampan, ask).await.unwrap();
    assert_eq!(body["thinking_budget"], json!(1500));
    let body = sent(Form::OpenAi, Server::Vllm, ask).await.unwrap();
    assert!(body.get("thinking_budget").is_none());
}

#[tokio::test]
async fn a_suffix_goes_with_the_text_before_it() {
    let ask = |request: &mut chat::GenerateRequest| {
        (request.prompt, request.suffix) = (Prompt::Text("a".into()), Some("b".into()));
    };
    let body = sent(Form::OpenAi, Server::Vllm, ask).await.unwrap();
    assert_eq!((&body["prompt"], &body["suffix"]), (&json!("a"), &json!("b")));
}

#[tokio::test]
async fn what_a_form_cannot_say_is_refused_by_name() {
    async fn check(form: Form, server: Server, name: &str, change: impl FnOnce(&mut chat::GenerateRequest)) {
        let error = sent(form, server, change).await.unwrap_err();
        assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains(name)), "{form:?}: {error}");
    }
    check(Form::OpenAi, Server::Other, "top_k", |request| request.sampling.top_k = Some(3)).await;
    check(Form::OpenAi, Server::Other, "thinking", |request| request.thinking = Thinking::On).await;
    check(Form::OpenAi, Server::Vllm, "log probabilities", |request| request.logprobs = Some(1)).await;
    check(Form::OpenAi, Server::Litellm, "grammar", |request| request.format = Format::Lark("x".into())).await;
    check(Form::Anthropic, Server::Other, "seed", |request| request.sampling.seed = Some(1)).await;
    check(Form::Anthropic, Server::Other, "plain text", |request| request.prompt = Prompt::Text("x".into())).await;
    check(Form::DashScope, Server::Other, "ignore_eos", |request| request.stop.ignore_eos = true).await;
}

#[tokio::test]
async fn text_and_tokens_are_continued() {
    let body = sent(Form::OpenAi, Server::Vllm, |request| request.prompt = Prompt::Tokens(vec![1, 2])).await.unwrap();
    assert_eq!((&body["prompt"], &body["model"]), (&json!([1, 2]), &json!("there/m")));
}
