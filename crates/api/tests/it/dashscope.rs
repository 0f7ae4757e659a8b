//! DashScope's own dialect: generation.

use chat::testing::Script;
use chat::{Content, Error, FinishReason, Format, Message, Part, Prompt, Role, Thinking, Video};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{MODEL, Reply, Server, cut_by, cut_short, everything, fault, finished, started, text};

const PATH: &str = "/api/v1/services/aigc/text-generation/generation";

fn ask(parameters: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    json!({"model": MODEL, "input": {"messages": messages}, "parameters": parameters})
}

async fn stream(server: &Server, body: &Value) -> Reply {
    server.send("POST", PATH, &[("x-dashscope-sse", "enable")], body.to_string().into_bytes()).await
}

#[tokio::test]
async fn increments_are_streamed() {
    let server = Server::playing(everything());
    let reply = stream(&server, &ask(&json!({"result_format": "message", "incremental_output": true}))).await;
    assert_eq!(reply.header("content-type"), "text/event-stream; charset=utf-8");
    assert_snapshot!(reply.text);
}

#[tokio::test]
async fn everything_so_far_is_streamed() {
    assert_snapshot!(stream(&Server::playing(everything()), &ask(&json!({"result_format": "message"}))).await.text);
}

#[tokio::test]
async fn text_is_streamed() {
    let events = vec![started(), text("Hel"), text("lo"), finished(FinishReason::Stop)];
    assert_snapshot!(stream(&Server::playing(events), &ask(&json!({}))).await.text);
}

#[tokio::test]
async fn answers_in_one_piece() {
    let reply = Server::playing(everything()).post(PATH, &ask(&json!({"result_format": "message"}))).await;
    assert_snapshot!(reply.text);
    let events = vec![started(), text("Hello"), finished(FinishReason::Length)];
    assert_snapshot!(Server::playing(events).post(PATH, &ask(&json!({"result_format": "text"}))).await.text);
}

#[tokio::test]
async fn two_choices_share_a_prompt() {
    let server = Server::new(vec![Script::text(&["a"]), Script::text(&["b"])]);
    let reply = server.post(PATH, &ask(&json!({"result_format": "message", "n": 2, "seed": 5}))).await.json();
    assert_eq!(reply["output"]["choices"][1]["message"]["content"], "b");
    assert_eq!(reply["usage"]["input_tokens"], 1);
    let seeds: Vec<Option<u64>> = server.requests().iter().map(|request| request.sampling.seed).collect();
    assert_eq!(seeds, [Some(5), Some(6)]);
}

#[tokio::test]
async fn a_request_arrives_whole() {
    let server = Server::playing(vec![started(), finished(FinishReason::Stop)]);
    let call = json!({"id": "c", "type": "function", "function": {"name": "w", "arguments": "{}"}});
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"text": "What is "}, {"text": "it?"}]},
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_call_id": "c"},
    ]);
    let tool = json!({"type": "function", "function": {"name": "w", "parameters": {}}});
    let parameters = json!({
        "result_format": "message", "tools": [tool], "tool_choice": {"function": {"name": "w"}},
        "enable_thinking": true, "thinking_budget": 7,
        "max_tokens": 9, "temperature": 0.5, "top_k": 3, "stop": ["END"], "response_format": {"type": "json_object"},
        "frobnicate": 1,
    });
    let body = json!({"model": MODEL, "input": {"messages": messages}, "parameters": parameters});
    assert_eq!(server.post(PATH, &body).await.status, 200);
    let request = server.request();
    let Prompt::Messages(messages) = &request.prompt else { panic!("{:?}", request.prompt) };
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    assert_eq!((messages[1].plain_text().as_str(), messages[2].tool_calls[0].id.as_str()), ("What is it?", "c"));
    assert_eq!(request.thinking_tokens_max, Some(7));
    assert_eq!((request.thinking, request.max_tokens, &request.format), (Thinking::On, Some(9), &Format::JsonObject));
    assert_eq!((request.stop.strings.as_slice(), request.sampling.top_k), (&["END".to_owned()][..], Some(3)));
    let server = Server::playing(vec![started(), finished(FinishReason::Stop)]);
    let old = json!({"model": MODEL, "input": {"prompt": "c", "history": [{"user": "a", "bot": "b"}]}});
    assert_eq!(server.post(PATH, &old).await.status, 200);
    let Prompt::Messages(messages) = server.request().prompt else { panic!("no conversation") };
    assert_eq!(messages.iter().map(Message::plain_text).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[tokio::test]
async fn pictures_and_videos_arrive_in_order_and_answers_are_parts() {
    const PATH: &str = "/api/v1/services/aigc/multimodal-generation/generation";
    let server = Server::playing(vec![started(), text("A cat"), finished(FinishReason::Stop)]);
    let content = json!([
        {"image": "data:image/png;base64,aGk="}, {"text": "and"}, {"video": "data:image/gif;base64,aGk="},
        {"video": ["data:;base64,YQ==", "data:;base64,Yg=="], "fps": 1.5},
    ]);
    let ask = |content: &Value| json!({"model": MODEL, "input": {"messages": [{"role": "user", "content": content}]}});
    let reply = server.post(PATH, &ask(&content)).await.json();
    assert_eq!(reply["output"]["choices"][0]["message"]["content"], json!([{"text": "A cat"}]));
    let Prompt::Messages(messages) = server.request().prompt else { panic!("no conversation") };
    let Content::Parts(parts) = &messages[0].content else { panic!("{messages:?}") };
    let Part::Image(picture) = &parts[0] else { panic!("{parts:?}") };
    assert_eq!(&*picture.bytes().unwrap(), b"hi");
    assert!(matches!(&parts[2], Part::Video(Video::File(_))));
    assert!(matches!(&parts[3], Part::Video(Video::Frames { frames, per_second: Some(1.5) }) if frames.len() == 2));
    for (part, word) in [
        (json!({}), "must have one of"),
        (json!({"image": "a", "text": "b"}), "must have one of"),
        (json!({"audio": "a"}), "audio is not supported"),
        (json!({"image": "a", "max_pixels": 5}), "max_pixels"),
    ] {
        let reply = server.post(PATH, &ask(&json!([part]))).await;
        assert_eq!(reply.status.as_u16(), 400, "{}", reply.text);
        assert!(reply.text.contains(word), "{} lacks {word}", reply.text);
    }
}

#[tokio::test]
async fn a_cut_stream_never_looks_whole() {
    for script in [cut_by(fault()), cut_by(Error::ShuttingDown), cut_short()] {
        let server = Server::new(vec![script]);
        let streamed = stream(&server, &ask(&json!({"result_format": "message"}))).await.text;
        let (_, last) = streamed.trim_end().rsplit_once("\n\n").unwrap();
        assert!(last.starts_with("event:error\n:HTTP_STATUS/50"), "{streamed}");
        assert!(!streamed.contains("secret cause") && !streamed.contains("\"stop\""), "{streamed}");
        assert_eq!(server.running(), 0);
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let server = Server::new(vec![]);
    for (body, words) in [
        (ask(&json!({"enable_search": true})), "enable_search is not supported"),
        (ask(&json!({"thinking_budget": -5})), "thinking_budget"),
        (ask(&json!({"result_format": "xml"})), "result_format is \\\"xml\\\""),
        (ask(&json!({"tools": [{}]})), "needs result_format"),
        (ask(&json!({"tools": [{}], "result_format": "message"})), "parameters.tools[0].function.name"),
        (ask(&json!({"tool_choice": 5})), "tool_choice is 5"),
        (ask(&json!({"max_tokens": 0})), "max_tokens is 0"),
        (ask(&json!({"temperature": -1})), "temperature is -1"),
        (ask(&json!({"n": 9, "result_format": "message"})), "n is 9"),
        (ask(&json!({"response_format": {"type": "xml"}})), "response_format.type"),
        (ask(&json!(7)), "parameters is 7"),
        (json!({"model": MODEL, "input": {}}), "neither messages nor a prompt"),
        (json!({"model": MODEL, "input": {"messages": []}}), "input.messages is empty"),
        (json!({"model": MODEL, "input": {"messages": [{"role": "robot", "content": ""}]}}), "robot"),
        (json!({"model": MODEL, "input": 5}), "input: "),
        (json!({"input": {}}), "model"),
    ] {
        let reply = server.post(PATH, &body).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (400, &json!("InvalidParameter")), "{}", reply.text);
        assert!(reply.text.contains(words), "{} lacks {words:?}", reply.text);
        assert_eq!(reply.json()["request_id"].as_str().unwrap().len(), 24);
    }
    assert_eq!(server.requests().len(), 0);
    let mut unknown = ask(&json!({}));
    unknown["model"] = json!("gone");
    assert_eq!(server.post(PATH, &unknown).await.json()["code"], "ModelNotFound");
    let busy = Server::new(vec![Script::Refuse(Error::Overloaded { waiting: 9, limit: 8 })]);
    let busy = busy.post(PATH, &ask(&json!({}))).await;
    assert_eq!((busy.status.as_u16(), busy.header("retry-after")), (429, "1"));
    assert_eq!(server.get(PATH).await.json()["code"], "MethodNotAllowed");
    assert_eq!(server.get("/api/v1/services/x").await.json()["code"], "NotFound");
    assert_eq!(server.send("POST", PATH, &[], b"{]".to_vec()).await.status, 400);
}
