//! Models that are pulled, listed, checked, used and removed.

use std::path::Path;

use serde_json::Value;

use crate::program::{Server, fixture, json, refusal, run, sampan, stdout};

/// A folder with the tiny model, as a mirror has it.
fn mirror() -> tempfile::TempDir {
    let mirror = tempfile::tempdir().unwrap();
    let model = mirror.path().join("Qwen/Tiny");
    std::fs::create_dir_all(&model).unwrap();
    for file in std::fs::read_dir(fixture("tiny/qwen3_dense")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    mirror
}

#[test]
fn a_model_is_pulled_by_name_used_by_name_and_removed_by_name() {
    let (data, mirror) = (tempfile::tempdir().unwrap(), mirror());
    let from = mirror.path().to_str().unwrap();
    assert_eq!(stdout(data.path(), &["pull", "Qwen/Tiny", "--from", from]), "Tiny\n");
    let listed = json(data.path(), &["ls", "--json"]);
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == "Tiny").unwrap();
    assert_eq!(row["kind"], "qwen3");
    for name in ["Tiny", "Qwen/Tiny"] {
        assert_eq!(json(data.path(), &["model", "show", name, "--json"])["name"], "Tiny");
    }
    let logits = json(data.path(), &["model", "logits", "--model", "Tiny", "--tokens", "1,2", "--json"]);
    assert_eq!(logits["logits"].as_array().unwrap().len(), 2);

    let verified = stdout(data.path(), &["verify"]);
    assert!(verified.starts_with("Tiny: ") && verified.ends_with("as pulled\n"), "{verified}");
    std::fs::remove_file(data.path().join("models/Tiny/config.json")).unwrap();
    let output = run(data.path(), &["verify", "Tiny", "--json"]);
    assert!(!output.status.success());
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows[0]["faults"][0]["file"], "config.json");
    stdout(data.path(), &["pull", "Qwen/Tiny", "--from", from]);
    stdout(data.path(), &["verify"]);

    let removed = json(data.path(), &["rm", "Tiny", "--json"]);
    assert!(removed[0]["bytes"].as_u64().unwrap() > 100_000, "{removed}");
    assert!(refusal(data.path(), &["rm", "Tiny"]).contains("no model \"Tiny\" was pulled"));
    assert!(refusal(data.path(), &["model", "show", "Tiny"]).contains("neither a path nor a model"));
}

#[test]
fn a_script_reads_what_happens_line_by_line() {
    let (data, mirror) = (tempfile::tempdir().unwrap(), mirror());
    let from = mirror.path().to_str().unwrap();
    let text = stdout(data.path(), &["pull", "Qwen/Tiny", "--from", from, "--as", "other", "--json"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["name"]), (&"listed".into(), &"other".into()));
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["bytes"]), (&"done".into(), &lines[0]["bytes"]));
    assert!(Path::new(last["path"].as_str().unwrap()).join("model.safetensors").is_file());
}

#[test]
fn a_model_in_hugging_faces_cache_is_found_by_its_name_there() {
    let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let repository = cache.path().join("models--Qwen--Tiny");
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), "abc").unwrap();
    std::fs::create_dir_all(repository.join("snapshots")).unwrap();
    let tiny = fixture("tiny/qwen3_dense").canonicalize().unwrap();
    std::os::unix::fs::symlink(tiny, repository.join("snapshots/abc")).unwrap();
    let with_cache = |arguments: &[&str]| {
        let output = sampan(data.path()).env("HF_HUB_CACHE", cache.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(with_cache(&["ls"]).contains("Qwen/Tiny"));
    assert!(with_cache(&["model", "show", "Qwen/Tiny"]).contains("qwen3"));
    assert!(!stdout(data.path(), &["ls"]).contains("Qwen/Tiny"));
}

#[test]
fn what_cannot_be_pulled_is_said_with_what_to_do() {
    let (data, mirror) = (tempfile::tempdir().unwrap(), mirror());
    let from = mirror.path().to_str().unwrap();
    for (arguments, expected) in [
        (["pull", "a/b/c", "--from", from], "no name of a model"),
        (
            ["pull", "Qwen/Tiny", "--from", "/nowhere"],
            "is no place for models: neither hf, modelscope, an address nor a folder",
        ),
        (["pull", "Qwen/Tiny", "--from", "ftp://x"], "begins with http"),
        (["pull", "Qwen/Other", "--from", from], "Qwen/Other"),
        (["pull", "Qwen/Tiny:Q9", "--from", from], "no GGUF file ends in \"Q9\""),
    ] {
        let said = refusal(data.path(), &arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    std::fs::create_dir_all(data.path().join("models/Tiny")).unwrap();
    assert!(refusal(data.path(), &["pull", "Qwen/Tiny", "--from", from]).contains("hint: --as NAME"));
}

#[test]
fn a_machine_pulls_from_another_one_while_it_serves() {
    let (there, here, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), mirror());
    stdout(there.path(), &["pull", "Qwen/Tiny", "--from", mirror.path().to_str().unwrap()]);
    let (other, server) = (Server::start(there.path(), &[]), Server::start(here.path(), &[]));
    let from = format!("http://{}", other.address);
    let order = serde_json::json!({"model": "Qwen/Tiny", "from": from, "name": "copy"}).to_string();
    let (status, answer) = server.ask("POST", "/admin/v1/pulls", &order);
    assert_eq!(status, 202, "{answer}");
    let pulled = loop {
        let (_, answer) = server.ask("GET", "/admin/v1/pulls", "");
        let list: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        if list["data"][0]["over_ms"].is_u64() {
            break list["data"][0].clone();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!((&pulled["state"], &pulled["name"]), (&"done".into(), &"copy".into()), "{pulled}");
    let ask = serde_json::json!({"model": "copy", "prompt": [1, 2, 3], "max_tokens": 4, "ignore_eos": true});
    let (status, answer) = server.ask("POST", "/v1/completions", &ask.to_string());
    assert_eq!(status, 200, "{answer}");
    stdout(here.path(), &["verify", "copy"]);
    // The command line does so too, and what is not there is named.
    assert_eq!(stdout(here.path(), &["pull", "Qwen/Tiny", "--from", &from, "--as", "again"]), "again\n");
    assert!(refusal(here.path(), &["pull", "Qwen/Other", "--from", &from]).contains("no model \"Qwen/Other\""));
    for (body, why) in [
        (r#"{"model": "a/b/c"}"#, "no name of a model"),
        (r#"{"model": "a/b", "from": "/etc"}"#, "is no place for models"),
        (r#"{"model": "a/b", "from": "ftp://x"}"#, "begins with http"),
    ] {
        let (status, answer) = server.ask("POST", "/admin/v1/pulls", body);
        assert!(status == 400 && answer.contains(why), "{answer}");
    }
}
