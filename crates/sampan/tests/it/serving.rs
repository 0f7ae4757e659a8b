//! `sampan up`.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::program::{Server, fixture, refusal, sampan};

fn ask(max_tokens: u32, stream: bool) -> String {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    json!({"model": "sampan-nano", "messages": messages, "max_tokens": max_tokens, "stream": stream}).to_string()
}

fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[test]
fn the_built_in_model_answers_on_a_fresh_machine() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(server.ask("GET", probe, "").0, 200, "{probe}");
    }
    let (status, models) = server.ask("GET", "/v1/models", "");
    assert_eq!((status, &body(&models)["data"][0]["id"]), (200, &"sampan-nano".into()));
    let (status, answer) = server.ask("POST", "/v1/chat/completions", &ask(24, false));
    assert_eq!(status, 200, "{answer}");
    let message = &body(&answer)["choices"][0]["message"];
    assert!(!message["content"].as_str().unwrap().is_empty(), "{answer}");
    let (status, stream) = server.ask("POST", "/v1/chat/completions", &ask(24, true));
    assert!(status == 200 && stream.contains("data: [DONE]"), "{stream}");
}

#[test]
fn models_are_served_by_path_and_under_a_name() {
    let data = tempfile::tempdir().unwrap();
    let named = format!("mine={}", fixture("tiny/qwen3_moe").display());
    let server = Server::start(
        data.path(),
        &["--model".as_ref(), fixture("tiny/qwen3_dense").as_os_str(), "--model".as_ref(), named.as_ref()],
    );
    let models = body(&server.ask("GET", "/v1/models", "").1);
    let names: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(names, ["sampan-nano", "qwen3_dense", "mine", "sampan-nano-embed"]);
    let ask = json!({"model": "mine", "prompt": [1, 2, 3], "max_tokens": 4, "ignore_eos": true});
    let (status, answer) = server.ask("POST", "/v1/completions", &ask.to_string());
    assert_eq!((status, &body(&answer)["usage"]["completion_tokens"]), (200, &4.into()), "{answer}");
}

#[test]
fn an_adapter_answers_beside_its_model_which_a_smaller_one_guesses_for() {
    let data = tempfile::tempdir().unwrap();
    let base = format!("big={}", fixture("tiny/qwen3_dense").display());
    let adapter = format!("mine=big@{}", fixture("adapters/all").display());
    let draft = format!("big={}", fixture("tiny/qwen3_yarn").display());
    let options = ["--model", &base, "--adapter", &adapter, "--draft", &draft].map(OsStr::new);
    let server = Server::start(data.path(), &options);
    let models = body(&server.ask("GET", "/v1/models", "").1);
    let names: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(names, ["sampan-nano", "big", "mine", "sampan-nano-embed"]);
    let said = |model: &str| {
        let ask = json!({
            "model": model, "prompt": [1, 2, 3, 4, 5], "max_tokens": 12, "ignore_eos": true, "temperature": 0,
            "logprobs": 0,
        });
        let (status, answer) = server.ask("POST", "/v1/completions", &ask.to_string());
        assert_eq!(status, 200, "{answer}");
        let answer = body(&answer);
        assert_eq!(answer["model"], model);
        answer["choices"][0]["logprobs"]["token_logprobs"].clone()
    };
    assert_ne!(said("big"), said("mine"));
    assert_eq!(said("mine"), said("mine"));
}

#[test]
fn a_polite_kill_lets_running_answers_end() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    let ask = json!({
        "model": "sampan-nano", "prompt": "Once", "max_tokens": 300, "ignore_eos": true, "stream": true, "logprobs": 0,
    });
    let mut stream = server.send("POST", "/v1/completions", &ask.to_string());
    let mut begun = [0; 64];
    stream.read_exact(&mut begun).unwrap();
    server.terminate();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: [DONE]"), "{rest}");
    assert!(server.wait().success());
}

#[test]
fn a_second_kill_cuts_answers_off_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    // More than the buffers of a connection hold: it cannot come to its end before somebody reads it.
    let ask = json!({
        "model": "sampan-nano", "messages": [{"role": "user", "content": "Hello"}], "n": 16, "max_tokens": 900,
        "ignore_eos": true, "stream": true, "logprobs": true, "top_logprobs": 20,
    });
    let mut stream = server.send("POST", "/v1/chat/completions", &ask.to_string());
    let mut begun = [0; 64];
    stream.read_exact(&mut begun).unwrap();
    server.terminate();
    // The door is closed once the first signal has arrived; two at once would be one.
    while TcpStream::connect(&server.address).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    server.terminate();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("shutting down") && !rest.contains("[DONE]"), "{}", &rest[rest.len() - 1000..]);
    assert!(!server.wait().success());
}

#[test]
fn a_taken_port_is_told_before_anything_is_loaded() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let said = refusal(data.path(), &["up", "--open", "--listen", &server.address]);
    assert!(said.contains(&server.address) && said.contains("hint: "), "{said}");
}

#[test]
fn foreign_hosts_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let mut answer = String::new();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let ask = "GET /v1/models HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[test]
fn logs_do_not_hold_what_was_said() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("log");
    let mut command = sampan(data.path());
    command.args(["--log", "trace", "up", "--open", "--listen", "127.0.0.1:0", "--kv-mib", "64"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
    let server = Server::of(command);
    let ask =
        json!({"model": "sampan-nano", "messages": [{"role": "user", "content": "xyzzysecret"}], "max_tokens": 4});
    assert_eq!(server.ask("POST", "/v1/chat/completions", &ask.to_string()).0, 200);
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("generation finished"), "{logged}");
    assert!(!logged.contains("xyzzysecret"), "{logged}");
}

#[test]
fn a_script_is_told_where_the_server_is() {
    let data = tempfile::tempdir().unwrap();
    let mut command = sampan(data.path());
    command.args(["up", "--json", "--listen", "127.0.0.1:0"]).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let place: Value = serde_json::from_str(&line).unwrap();
    let address = place["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    assert!(TcpStream::connect(address).is_ok());
    assert!(std::fs::read_to_string(place["key_file"].as_str().unwrap()).unwrap().starts_with("sk-sampan-"));
    child.kill().unwrap();
    child.wait().unwrap();
}
