//! Models that are converted and quantised, as a person and a script do it.

use std::path::Path;

use serde_json::Value;

use crate::program::{fixture, json, refusal, run, stdout};

/// The built-in model's logits where it lies now.
fn logits(data: &Path, model: &str) -> Vec<f64> {
    let told = json(data, &["model", "logits", "--model", model, "--tokens", "5,60,700", "--json"]);
    let rows = told["logits"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    rows.map(|number| number.as_f64().unwrap()).collect()
}

/// Eighty thousand characters of English: the conversations that the template's authors wrote, and their answers.
fn prose(folder: &Path) -> String {
    let text = std::fs::read_to_string(fixture("chat/golden_prompts.json")).unwrap();
    let path = folder.join("text.txt");
    std::fs::write(&path, text.chars().take(80_000).collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_model_goes_to_gguf_and_back_with_its_tokenizer_and_template() {
    let data = tempfile::tempdir().unwrap();
    let at = |name: &str| data.path().join(name).to_str().unwrap().to_owned();
    let (file, folder) = (at("nano.gguf"), at("nano"));
    assert_eq!(stdout(data.path(), &["model", "convert", "sampan-nano", &file]), format!("{file}\n"));
    let told = json(data.path(), &["model", "convert", &file, &folder, "--json"]);
    assert!(told["numbers"].as_u64().unwrap() > 1_000_000, "{told}");
    let truth = logits(data.path(), "sampan-nano");
    assert_eq!(logits(data.path(), &file), truth);
    assert_eq!(logits(data.path(), &folder), truth);
    for name in [&file, &folder] {
        let shown = json(data.path(), &["model", "show", name, "--json"]);
        assert_eq!((&shown["has_tokenizer"], &shown["has_chat_template"]), (&true.into(), &true.into()), "{shown}");
        assert_eq!(shown["end_tokens"], json(data.path(), &["model", "show", "sampan-nano", "--json"])["end_tokens"]);
    }
    let refused = refusal(data.path(), &["model", "convert", "sampan-nano", &file]);
    assert!(refused.contains("is there already"), "{refused}");
    let refused =
        refusal(data.path(), &["model", "convert", fixture("tiny/qwen3_sliding").to_str().unwrap(), &at("x.gguf")]);
    assert!(refused.contains("sliding_window"), "{refused}");
}

#[test]
fn quantising_reports_what_it_did_and_calibration_helps() {
    let data = tempfile::tempdir().unwrap();
    let text = prose(data.path());
    let quantise = |to: &str, calibrate: &str, out: &str| {
        let out = data.path().join(out).to_str().unwrap().to_owned();
        let arguments = [
            "model",
            "quantize",
            "sampan-nano",
            &out,
            "--to",
            to,
            calibrate,
            &text,
            "--window",
            "128",
            "--windows",
            "6",
            "--json",
        ];
        json(data.path(), &arguments)
    };
    let eight = quantise("q8_0", "--measure", "8.gguf");
    let measured = &eight["measured"];
    assert!(eight["bits_per_number"].as_f64().unwrap() < 9.0, "{eight}");
    assert_eq!(measured["tokens"], 6 * 63);
    assert!(measured["divergence_mean"].as_f64().unwrap() < 0.01, "{eight}");
    assert!(measured["same_choice"].as_f64().unwrap() > 0.9, "{eight}");
    let ratio = measured["perplexity_after"].as_f64().unwrap() / measured["perplexity_before"].as_f64().unwrap();
    assert!((0.98..1.02).contains(&ratio), "{eight}");
    let four = quantise("Q4_0", "--calibrate", "4.gguf");
    assert!(four["calibration_tokens"].as_u64().unwrap() > 0, "{four}");
    assert!(four["measured"]["divergence_mean"].as_f64().unwrap() > measured["divergence_mean"].as_f64().unwrap());
    assert!(four["size_bytes"].as_u64().unwrap() < eight["size_bytes"].as_u64().unwrap());
}

#[test]
fn what_cannot_be_quantised_so_is_said() {
    let data = tempfile::tempdir().unwrap();
    let at = |name: &str| data.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("short.txt"), "Too short.").unwrap();
    for (arguments, expected) in [
        (vec!["sampan-nano".to_owned(), at("folder")], "NAME.gguf"),
        (vec!["sampan-nano".to_owned(), at("a.gguf"), "--measure".to_owned(), at("short.txt")], "less than one window"),
        (vec!["sampan-nano".to_owned(), at("a.gguf"), "--measure".to_owned(), at("none.txt")], "none.txt"),
        (vec!["sampan-nano".to_owned(), at("a.gguf"), "--window".to_owned(), "4".to_owned()], "--window 4"),
        (vec!["sampan-nano".to_owned(), at("a.gguf"), "--window".to_owned(), "99999".to_owned()], "2048"),
        (vec!["nobody".to_owned(), at("a.gguf")], "neither a path nor a model"),
    ] {
        let said = refusal(data.path(), &[vec!["model".to_owned(), "quantize".to_owned()], arguments].concat());
        assert!(said.contains(expected), "{said}");
    }
    assert!(!Path::new(&at("a.gguf")).exists() && !Path::new(&at("a.gguf.partial")).exists());
    let told = run(data.path(), &["model", "quantize", "sampan-nano", &at("b.gguf"), "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["measured"], &told["calibration_tokens"]), (&Value::Null, &0.into()));
}
