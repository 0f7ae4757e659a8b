//! Spans for a collector.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::program::{Server, sampan};

/// Takes one request, as a collector does, and gives back its body.
fn collected(collector: &TcpListener) -> (String, Value) {
    let (connection, _) = collector.accept().unwrap();
    let mut reader = BufReader::new(&connection);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (&connection).write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    let value = &found.unwrap_or_else(|| panic!("no {key} in {span}"))["value"];
    value.as_object().unwrap().values().next().unwrap()
}

#[test]
fn every_request_is_a_span_with_the_conventions_names() {
    let data = tempfile::tempdir().unwrap();
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", collector.local_addr().unwrap());
    let server = Server::start(data.path(), &["--otlp".as_ref(), url.as_ref()]);
    let ask = json!({"model": "sampan-nano", "prompt": "xyzzysecret", "max_tokens": 4, "ignore_eos": true});
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let headers = format!("content-type: application/json\r\n{parent}");
    let (status, answer) = server.ask_with(&headers, "POST", "/v1/completions", &ask.to_string());
    assert_eq!(status, 200, "{answer}");
    let (head, body) = collected(&collector);
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    let resource = &body["resourceSpans"][0];
    assert_eq!(attribute(&resource["resource"], "service.name"), "sampan");
    let span = &resource["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["name"], &span["kind"]), (&json!("text_completion sampan-nano"), &json!(2)));
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
    assert_eq!(attribute(span, "gen_ai.request.model"), "sampan-nano");
    assert_eq!(attribute(span, "gen_ai.usage.output_tokens"), "4");
    assert_eq!(attribute(span, "http.route"), "/v1/completions");
    assert_eq!(attribute(span, "sampan.outcome"), "finished");
    let time = |field: &str| span[field].as_str().unwrap().parse::<u128>().unwrap();
    assert!(time("startTimeUnixNano") < time("endTimeUnixNano"));
    assert_eq!(span["events"][0]["name"], "gen_ai.first_token");
    assert!(!body.to_string().contains("xyzzysecret"), "{body}");

    // What goes wrong is a span too.
    let refused = json!({"model": "sampan-nano", "prompt": "a ".repeat(9000), "max_tokens": 4});
    assert_eq!(server.ask("POST", "/v1/completions", &refused.to_string()).0, 400);
    let (_, body) = collected(&collector);
    let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["status"]["code"], attribute(span, "error.type")), (&json!(2), &json!("Invalid")));
    assert!(span.get("parentSpanId").is_none());
}

#[test]
fn a_span_names_the_project_and_never_the_key() {
    let data = tempfile::tempdir().unwrap();
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", collector.local_addr().unwrap());
    let mut command = sampan(data.path());
    command.args(["up", "--listen", "127.0.0.1:0", "--kv-mib", "64", "--otlp", &url]);
    command.stderr(std::process::Stdio::null());
    let server = Server::of(command);
    let key = std::fs::read_to_string(data.path().join("admin.key")).unwrap().trim().to_owned();
    let headers = format!("content-type: application/json\r\nauthorization: Bearer {key}\r\n");
    let messages = json!([{"role": "user", "content": "xyzzysecret"}]);
    let ask = json!({"model": "sampan-nano", "messages": messages, "max_tokens": 4});
    let (status, answer) = server.ask_with(&headers, "POST", "/v1/chat/completions", &ask.to_string());
    assert_eq!(status, 200, "{answer}");
    let (head, body) = collected(&collector);
    let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(attribute(span, "gen_ai.operation.name"), "chat");
    assert!(attribute(span, "sampan.project").as_str().unwrap().starts_with("proj_"), "{span}");
    for never in ["xyzzysecret", &key] {
        assert!(!head.contains(never) && !body.to_string().contains(never), "{never}: {head}{body}");
    }
}
