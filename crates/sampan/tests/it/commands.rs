//! Commands that print and end.

use safetensors::SafeTensors;
use serde_json::Value;

use crate::program::{fixture, json, refusal, run, sampan, stdout};

#[test]
fn the_shelf_is_listed() {
    let data = tempfile::tempdir().unwrap();
    let models = data.path().join("models");
    std::fs::create_dir_all(models.join("broken")).unwrap();
    std::fs::write(models.join("broken/config.json"), "{").unwrap();
    std::os::unix::fs::symlink(fixture("tiny/qwen3_dense").canonicalize().unwrap(), models.join("tiny")).unwrap();
    let listed = json(data.path(), &["model", "ls", "--json"]);
    let names: Vec<&Value> = listed.as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["sampan-nano", "sampan-nano-embed", "broken", "tiny"]);
    assert_eq!(listed[0]["where"], "built in");
    assert!(listed[2]["kind"].as_str().unwrap().starts_with("unreadable: "), "{listed}");
    assert_eq!(listed[3]["kind"], "qwen3");
    let table = stdout(data.path(), &["model", "ls"]);
    assert!(table.contains("sampan-nano") && table.contains("tiny"), "{table}");
}

#[test]
fn a_model_is_shown() {
    let data = tempfile::tempdir().unwrap();
    let shown = json(data.path(), &["model", "show", "sampan-nano", "--json", "--tensors"]);
    assert_eq!((&shown["architecture"], &shown["container"]), (&"qwen3".into(), &"safetensors, built in".into()));
    let count = |tensor: &Value| {
        let shape = tensor["shape"].as_array().unwrap();
        shape.iter().map(|n| n.as_u64().unwrap()).product::<u64>()
    };
    let numbers: u64 = shown["tensors"].as_array().unwrap().iter().map(count).sum::<u64>();
    assert_eq!(shown["parameters"], numbers);
}

#[test]
fn the_logits_of_a_fixture_equal_its_golden() {
    let data = tempfile::tempdir().unwrap();
    for name in ["qwen3_dense", "qwen3_moe", "qwen3_yarn", "qwen3_sliding"] {
        let folder = fixture("tiny").join(name);
        let file = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&file).unwrap();
        let cases: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let case = cases["cases"].as_array().unwrap().iter().find(|case| case["name"] == "chat").unwrap();
        let tokens: Vec<String> = case["input_ids"].as_array().unwrap().iter().map(Value::to_string).collect();
        let (tokens, truth) = (tokens.join(","), numbers(golden.tensor("chat.logits").unwrap().data()));
        let path = folder.to_str().unwrap();
        let printed = json(data.path(), &["model", "logits", "--model", path, "--tokens", &tokens, "--json"]);
        let rows = printed["logits"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
        let found: Vec<f32> = rows.map(|number| number.as_f64().unwrap() as f32).collect();
        assert_eq!(found.len(), truth.len(), "{name}");
        let off = found.iter().zip(&truth).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 5e-3, "{name}: a logit is off by {off}");

        let out = data.path().join("logits.safetensors");
        stdout(data.path(), &["model", "logits", "--model", path, "--tokens", &tokens, "--out", out.to_str().unwrap()]);
        let written = std::fs::read(&out).unwrap();
        let written = SafeTensors::deserialize(&written).unwrap();
        assert_eq!(numbers(written.tensor("logits").unwrap().data()), found, "{name}");
    }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn a_measurement_is_json_for_scripts() {
    let data = tempfile::tempdir().unwrap();
    let report = json(
        data.path(),
        &["bench", "--model", "sampan-nano", "--prompt", "16,32", "--decode", "4", "--depth", "0,64", "--json"],
    );
    let tests = report["tests"].as_array().unwrap();
    assert_eq!(tests.len(), 4);
    assert!(tests.iter().all(|test| test["tokens_per_second"].as_f64().unwrap() > 0.0), "{report}");
    assert!(report["weights_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn completions_name_the_commands() {
    let data = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(data.path(), &["completions", shell]);
        assert!(script.contains("logits") && script.contains("bench"), "{shell}");
    }
}

#[test]
fn refusals_name_the_thing_and_the_value() {
    let data = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], part: &str| {
        let said = refusal(data.path(), arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    };
    refused(&["model", "show", "no-such"], "\"no-such\" is neither a path nor a model here");
    refused(&["model", "logits", "--model", "sampan-nano", "--tokens", "1,99999"], "token 99999");
    refused(&["bench", "--model", "sampan-nano", "--batch", "0"], "--batch 0");
    refused(&["up", "--open", "--listen", "0.0.0.0:0"], "0.0.0.0:0");
    refused(&["up", "--kv-mib", "0", "--listen", "127.0.0.1:0"], "0 bytes for keys and values");
    let up = |option: &str, value: &str, part: &str| {
        refused(&["up", "--open", "--listen", "127.0.0.1:0", option, value], part);
    };
    up("--otlp", "collector:4318", "--otlp \"collector:4318\"");
    up("--adapter", "unnamed", "--adapter \"unnamed\"");
    up("--adapter", "mine=sampan-nano@none", "adapter_config.json");
    up("--draft", "sampan-nano", "--draft \"sampan-nano\"");
    up("--draft", "nobody=none", "\"nobody\"");
    let folder = data.path().join("empty");
    std::fs::create_dir(&folder).unwrap();
    refused(&["model", "show", folder.to_str().unwrap()], "config.json");
    let truncated = data.path().join("cut.gguf");
    std::fs::write(&truncated, b"GGUF\x03\0\0\0").unwrap();
    refused(&["model", "show", truncated.to_str().unwrap()], "cut.gguf");
    assert_eq!(run(data.path(), &["model"]).status.code(), Some(2), "usage errors end with 2");
}

#[test]
fn every_command_has_a_manual_page() {
    let data = tempfile::tempdir().unwrap();
    let out = data.path().join("man");
    stdout(data.path(), &["man", "--out", out.to_str().unwrap()]);
    for page in ["sampan.1", "sampan-top.1", "sampan-vectors-put.1"] {
        let text = std::fs::read_to_string(out.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(stdout(data.path(), &["man"]).contains("SAMPAN_LOG"));
}

#[test]
fn a_wrong_file_of_settings_stops_all_but_the_doctor() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("sampan.toml");
    let with = |text: &str, arguments: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let run = sampan(data.path()).env("SAMPAN_CONFIG", &file).args(arguments).output().unwrap();
        (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap(), run.status.code())
    };
    for (text, words) in [
        ("no toml", "TOML"),
        ("[up]\nlissten = 1", "up.lissten is no option"),
        ("[up]\nlisten = \"nowhere\"", "invalid value 'nowhere' for '--listen"),
        ("[doctor]\nlisten = \"nowhere\"", "invalid value 'nowhere' for '--listen"),
    ] {
        let (told, _, _) = with(text, &["doctor", "--json"]);
        let checks: Value = serde_json::from_str(&told).unwrap_or_else(|why| panic!("{text}: {why}: {told}"));
        let check = checks.as_array().unwrap().iter().find(|check| check["name"] == "settings").unwrap();
        assert!(check["health"] == "bad" && check["found"].as_str().unwrap().contains(words), "{text}: {check}");
    }
    let (_, said, code) = with("[up]\nlissten = 1", &["model", "ls"]);
    assert!(said.contains("up.lissten is no option") && code == Some(1), "{said}");
    assert_eq!(with("[up]\nlissten = 1", &["model"]).2, Some(2));
}

#[test]
fn a_look_at_a_server_is_json_for_scripts() {
    let data = tempfile::tempdir().unwrap();
    let server = crate::program::Server::start(data.path(), &[]);
    let body = r#"{"model": "sampan-nano", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}"#;
    assert_eq!(server.ask("POST", "/v1/chat/completions", body).0, 200);
    let url = format!("http://{}", server.address);
    let sample = json(data.path(), &["top", "--json", "--server", &url]);
    assert_eq!((&sample["ready"], &sample["live"]), (&true.into(), &0.into()));
    let model = sample["models"].as_array().unwrap().iter().find(|model| model["id"] == "sampan-nano").unwrap();
    assert!(model["output_tokens"].as_u64().unwrap() > 0 && model["first_token_ms"].as_f64().is_some(), "{model}");
    assert_eq!(sample["requests"][0]["state"], "finished");
    assert!(sample["spend_today_micro"].is_i64(), "{sample}");
    let said = refusal(data.path(), &["top", "--json", "--server", "http://127.0.0.1:1"]);
    assert!(said.contains("ask http://127.0.0.1:1"), "{said}");
    assert!(refusal(data.path(), &["top", "--server", &url]).contains("stdout is no terminal"));
}

#[test]
fn a_picture_is_looked_at_and_drawn() {
    let data = tempfile::tempdir().unwrap();
    let model = fixture("tiny/qwen3_vl");
    let (image, svg) = (model.join("image0.png"), data.path().join("out.svg"));
    let [model, image, drawn] = [&model, &image, &svg].map(|path| path.to_str().unwrap().to_owned());
    let arguments =
        ["see", &image, "find the cup", "--model", &model, "--max-tokens", "8", "--boxes", &drawn, "--json"];
    let told = json(data.path(), &arguments);
    // The tiny model knows no cups: what matters is that it looked, and that nothing was made up.
    assert!(told["answer"].is_string() && told["places"].as_array().unwrap().is_empty(), "{told}");
    assert!(told["width"].as_u64().unwrap() > 0);
    assert!(std::fs::read_to_string(&svg).unwrap().contains("href=\"data:image/png;base64,"));
    let blind = refusal(data.path(), &["see", &image, "find the cup", "--model", "sampan-nano"]);
    assert!(blind.contains("reads text only"), "{blind}");
    let none = refusal(data.path(), &["see", "/nowhere.png", "find the cup", "--model", &model]);
    assert!(none.contains("/nowhere.png"), "{none}");
}

#[test]
fn memory_for_experts_of_a_model_without_any_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let model = fixture("tiny/qwen3_dense");
    let model = model.to_str().unwrap();
    for arguments in [
        &["model", "logits", "--model", model, "--tokens", "1", "--expert-memory", "64"][..],
        &["bench", "--model", model, "--expert-memory", "64"],
        &["up", "--model", model, "--expert-memory", "64"],
    ] {
        let refused = refusal(data.path(), arguments);
        assert!(refused.contains("--expert-memory 64") && refused.contains("qwen3_dense has no experts"), "{refused}");
    }
}

#[test]
fn a_plan_says_what_fits_and_what_is_missing() {
    let data = tempfile::tempdir().unwrap();
    let plan = |arguments: &[&str]| json(data.path(), &[&["model", "plan"][..], arguments, &["--json"]].concat());
    let fits = plan(&["qwen3-8b", "--memory", "12", "--bandwidth", "40"]);
    assert_eq!((&fits["fits"]["weights"], &fits["fits"]["keys"]), (&"Q8_0".into(), &"bf16".into()));
    assert!(fits["rows"][0]["short_bytes"].as_u64().unwrap() > 1_000_000_000, "{fits}");
    let none = plan(&["1t-moe-guessed", "--memory", "64", "--concurrency", "8", "--context", "131072"]);
    assert!(none["fits"].is_null() && !none["notes"].as_array().unwrap().is_empty(), "{none}");
    let own = plan(&[fixture("tiny/qwen3_dense").to_str().unwrap(), "--memory", "2"]);
    assert_eq!(own["fits"]["weights"], "as it is");
    let file = plan(&[fixture("gguf/qwen3_moe.Q8_0.gguf").to_str().unwrap(), "--memory", "2"]);
    assert_eq!(file["fits"]["weights"], "as it is", "{file}");
    // 235 billion numbers in 64 GB: eight of 128 experts of 94 layers, of which a part is there.
    let larger = plan(&["qwen3-235b-a22b", "--memory", "64"]);
    let row = larger["rows"].as_array().unwrap().iter().find(|row| row["weights"] == "Q4_K").unwrap();
    assert!(larger["fits"].is_null() && row["streamed"]["kept"].as_f64().unwrap() > 0.3, "{row}");
    let memory = row["streamed"]["expert_memory_mib"].as_u64().unwrap() << 20;
    assert!(memory > 40_000_000_000 && memory < 62_000_000_000, "{row}");
    let shown = sampan(data.path()).args(["model", "plan", "qwen3-235b-a22b", "--memory", "64"]).output().unwrap();
    let told = String::from_utf8(shown.stderr).unwrap();
    assert!(shown.status.success() && told.contains("with --expert-memory "), "{told}");
    for (arguments, expected) in [
        (["model", "plan", "qwen9", "--memory", "2"], "qwen9"),
        (["model", "plan", "qwen3-8b", "--memory", "0"], "--memory"),
    ] {
        assert!(refusal(data.path(), &arguments).contains(expected), "{arguments:?}");
    }
}
