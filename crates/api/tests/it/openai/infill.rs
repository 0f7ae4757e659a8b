//! Filling gaps, as llama.cpp's editors ask for it.

use chat::Prompt;
use chat::testing::Script;
use serde_json::{Value, json};

use crate::support::{MODEL, Server};

#[tokio::test]
async fn a_gap_is_filled_with_other_files_in_sight() {
    let server = Server::new(vec![Script::text(&["return ", "a"])]);
    let body = json!({
        "input_prefix": "def f(a):\n", "prompt": "    ", "input_suffix": "\n", "n_predict": 9, "top_k": 40,
        "temperature": 0.0, "stop": ["\n\n", ""], "seed": -1, "cache_prompt": true, "samplers": ["top_k"],
        "input_extra": [{"filename": "b.py", "text": "B = 1\n"}, {"text": "no name"}],
    });
    let reply = server.post("/infill", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let told: Value = serde_json::from_str(&reply.text).unwrap();
    assert_eq!(
        (&told["content"], &told["stop"], &told["stop_type"]),
        (&"return a".into(), &true.into(), &"eos".into())
    );
    let request = &server.requests()[0];
    assert_eq!(request.model, MODEL, "the only one");
    assert!(matches!(&request.prompt, Prompt::Text(text) if text == "def f(a):\n    "), "{:?}", request.prompt);
    assert_eq!((request.suffix.as_deref(), request.max_tokens), (Some("\n"), Some(9)));
    let files: Vec<(&str, &str)> = request.files.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
    assert_eq!(files, [("b.py", "B = 1\n"), ("", "no name")]);
    assert_eq!((request.stop.strings.as_slice(), request.sampling.seed), (["\n\n".to_owned()].as_slice(), None));
}

#[tokio::test]
async fn a_gap_is_filled_piece_by_piece() {
    let server = Server::new(vec![Script::text(&["a", "b"])]);
    let reply = server.post("/infill", &json!({"input_prefix": "x", "stream": true, "n_predict": 0})).await;
    let pieces: Vec<Value> = reply
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let contents: Vec<&Value> = pieces.iter().map(|piece| &piece["content"]).collect();
    assert_eq!(contents, ["a", "b", ""]);
    assert_eq!((&pieces[1]["stop"], &pieces[2]["stop"]), (&false.into(), &true.into()));
    assert_eq!(server.requests()[0].max_tokens, Some(1));
}

#[tokio::test]
async fn what_is_no_gap_is_refused_by_name() {
    let server = Server::new(vec![]);
    for (body, words) in [
        (json!({"input_prefix": 1}), "input_prefix"),
        (json!({"input_extra": [{"filename": "a"}]}), "text"),
        (json!({"model": "nobody"}), "nobody"),
    ] {
        let reply = server.post("/infill", &body).await;
        assert!(reply.status.is_client_error() && reply.text.contains(words), "{} {}", reply.status, reply.text);
    }
}
