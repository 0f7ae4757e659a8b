//! A batch that is killed in the middle.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::Server;

const LINES: usize = 400;

fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|why| panic!("{why}: {answer}"))
}

fn batch(server: &Server, id: &str) -> Value {
    body(&server.ask("GET", &format!("/v1/batches/{id}"), "").1)
}

/// Asks until the batch is so far, which takes seconds at most.
fn until(server: &Server, id: &str, is_so_far: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..60_000 {
        let now = batch(server, id);
        if is_so_far(&now) {
            return now;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("the batch stands still: {}", batch(server, id));
}

#[test]
fn every_line_is_answered_exactly_once_though_the_server_is_killed_three_times() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let asked = json!({"model": "sampan-nano", "prompt": "Once", "max_tokens": 4});
    let line = |index| {
        json!({"custom_id": format!("r{index}"), "method": "POST", "url": "/v1/completions", "body": asked}).to_string()
    };
    let text: String = (0..LINES).map(|index| line(index) + "\n").collect();
    let form = format!(
        "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--x\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{text}\r\n--x--\r\n"
    );
    let (status, uploaded) = server.ask_as("multipart/form-data; boundary=x", "POST", "/v1/files", &form);
    assert_eq!(status, 200, "{uploaded}");
    let wanted = json!({
        "input_file_id": body(&uploaded)["id"], "endpoint": "/v1/completions", "completion_window": "24h",
    });
    let made = body(&server.ask("POST", "/v1/batches", &wanted.to_string()).1);
    let id = made["id"].as_str().unwrap().to_owned();
    let completed = |batch: &Value| batch["request_counts"]["completed"].as_u64().unwrap();
    let mut server = server;
    let mut before = 0;
    for least in [1, 100, 200] {
        let seen = completed(&until(&server, &id, |batch| completed(batch) >= least));
        // Not a polite end: the process is killed where it stands.
        drop(server);
        server = Server::start(data.path(), &[]);
        let now = until(&server, &id, |batch| completed(batch) >= seen);
        assert!(seen >= before, "{now}");
        before = seen;
    }
    let over = until(&server, &id, |batch| batch["status"] == "completed");
    assert_eq!(over["request_counts"], json!({"total": LINES, "completed": LINES, "failed": 0}));
    let path = format!("/v1/files/{}/content", over["output_file_id"].as_str().unwrap());
    let (_, output) = server.ask("GET", &path, "");
    let (_, output) = output.split_once("\r\n\r\n").unwrap();
    let ids = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["custom_id"].to_string());
    let ids: Vec<String> = ids.collect();
    assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (LINES, LINES));
}
