//! `sampan route`, and one Sampan in front of another.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Server, fixture, json, refusal, stdout};

fn example() -> String {
    fixture("../docs/routing.toml").to_str().unwrap().to_owned()
}

#[test]
fn a_policy_is_checked_and_explained_without_a_server() {
    let data = tempfile::tempdir().unwrap();
    let told = stdout(data.path(), &["route", "check", &example()]);
    assert!(told.contains("qwen3-32b") && told.contains("canary") && told.contains("5.0 %"), "{told}");
    let decision = json(data.path(), &["route", "explain", "qwen3-32b", "--pools", &example(), "--json"]);
    assert_eq!((&decision["policy_version"], &decision["refusal"]), (&3.into(), &Value::Null));
    assert_eq!(decision["targets"].as_array().unwrap().len(), 3, "{decision}");
    let inside = ["route", "explain", "qwen3-32b", "--pools", &example(), "--project", "acme", "--json"];
    let decision = json(data.path(), &inside);
    assert_eq!(decision["choice"]["pool"], "vllm-a", "{decision}");
    assert!(decision.to_string().contains("project acme: compute_scope is EU; singapore (SG) is outside"));
    let told = stdout(data.path(), &inside[..7]);
    assert!(told.starts_with("qwen3-32b goes to pool vllm-a"), "{told}");
}

#[test]
fn a_bad_policy_is_refused_with_everything_that_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("bad.toml");
    std::fs::write(&file, "home = \"mars\"\n[[pool]]\nname = \"a\"\n").unwrap();
    for command in [&["route", "check"][..], &["up", "--pools"]] {
        let said = refusal(data.path(), &[command, &[file.to_str().unwrap()]].concat());
        assert!(said.contains("mars") && said.contains("url is missing"), "{said}");
    }
    let said = refusal(data.path(), &["route", "explain", "nothing", "--pools", &example()]);
    assert!(said.contains("no pool serves a model \"nothing\""), "{said}");
}

/// A front whose three pools are the same server in three forms.
fn front(data: &Path, back: &str) -> Server {
    let pool = |form: &str, path: &str| {
        format!(
            "[[pool]]\nname = \"{form}\"\nform = \"{form}\"\nserver = \"sampan\"\nurl = \"http://{back}{path}\"\n\
             health = {{ path = \"/healthz\" }}\n[[pool.model]]\nname = \"by-{form}\"\nupstream = \"sampan-nano\"\n"
        )
    };
    let pools = [pool("openai", "/v1"), pool("anthropic", ""), pool("dashscope", "/api/v1")].concat();
    let file = data.join("pools.toml");
    std::fs::write(&file, pools).unwrap();
    Server::start(data, &["--pools".as_ref(), file.as_os_str()])
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn one_sampan_answers_through_another_in_every_form() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let back = Server::start(far.path(), &[]);
    let front = front(near.path(), &back.address);
    let ask = |model: &str, stream: bool| {
        let messages = json!([{"role": "user", "content": "Who are you?"}]);
        json!({"model": model, "messages": messages, "max_tokens": 12, "temperature": 0, "stream": stream}).to_string()
    };
    let (_, direct) = back.ask("POST", "/v1/chat/completions", &ask("sampan-nano", false));
    let direct = body(&direct);
    for form in ["by-openai", "by-anthropic", "by-dashscope", "sampan-nano"] {
        let (status, answer) = front.ask("POST", "/v1/chat/completions", &ask(form, false));
        assert_eq!(status, 200, "{form}: {answer}");
        let answer = body(&answer);
        let said = |answer: &Value| answer["choices"][0]["message"]["content"].clone();
        assert!(said(&answer).as_str().is_some_and(|text| !text.is_empty()), "{form}: {answer}");
        // In Anthropic's form silence about thinking means none, which the prompt says in some more tokens.
        if form != "by-anthropic" {
            assert_eq!(said(&answer), said(&direct), "{form}");
            assert_eq!(answer["usage"]["total_tokens"], direct["usage"]["total_tokens"], "{form}");
        }
        let (status, stream) = front.ask("POST", "/v1/chat/completions", &ask(form, true));
        assert!(status == 200 && stream.contains("data: [DONE]"), "{form}: {stream}");
    }
    let (status, routes) = front.ask("GET", "/admin/v1/routes", "");
    assert_eq!(status, 200);
    assert!(body(&routes)["recent"].as_array().unwrap().len() >= 8, "{routes}");
    let server = format!("http://{}", front.address);
    let told = stdout(near.path(), &["route", "explain", "by-anthropic", "--server", &server]);
    assert!(told.starts_with("by-anthropic goes to pool anthropic as by-anthropic"), "{told}");
}

#[test]
fn an_upstream_that_is_killed_never_looks_finished() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let back = Server::start(far.path(), &[]);
    let front = front(near.path(), &back.address);
    let messages = json!([{"role": "user", "content": "Tell a long story."}]);
    let ask = json!({
        "model": "by-openai", "messages": messages, "max_tokens": 400, "ignore_eos": true, "stream": true,
    });
    let mut stream = front.send("POST", "/v1/chat/completions", &ask.to_string());
    let mut begun = [0; 400];
    stream.read_exact(&mut begun).unwrap();
    drop(back);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("[DONE]") && rest.contains("pool openai"), "{rest}");
}
