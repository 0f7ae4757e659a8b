//! `sampan net`.

use serde_json::Value;

use crate::program::{fixture, json, refusal, run, stdout};

#[test]
fn every_reference_is_within_its_tolerance() {
    let data = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(fixture("hpn")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let printed = stdout(data.path(), &["net", "check", path.to_str().unwrap()]);
            assert!(printed.contains(" passed, 0 failed"), "{}: {printed}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 7, "a reference is missing");
}

#[test]
fn a_reference_that_is_missed_is_named_and_fails_the_command() {
    let data = tempfile::tempdir().unwrap();
    let mut file: Value = serde_json::from_slice(&std::fs::read(fixture("hpn/topology_counts.json")).unwrap()).unwrap();
    assert!(spoil(&mut file), "there is a number to spoil");
    let path = data.path().join("spoilt.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let output = run(data.path(), &["net", "check", path.to_str().unwrap()]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && !printed.contains(" 0 failed"), "{printed}");
}

/// Adds one to the count of GPUs, wherever it stands first.
fn spoil(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter_mut().any(|(name, value)| match value.as_u64() {
            Some(count) if name.contains("gpus") => {
                *value = (count + 1).into();
                true
            }
            _ => spoil(value),
        }),
        Value::Array(items) => items.iter_mut().any(spoil),
        _ => false,
    }
}

#[test]
fn a_newcomer_gets_a_plan_and_a_picture() {
    let data = tempfile::tempdir().unwrap();
    let command = ["net", "plan", "qwen3-235b-a22b", "--on", "8x8xH100-400G"];
    let mut started = crate::program::sampan(data.path());
    let output = started.current_dir(data.path()).args(command).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["fits      yes", "tokens/s", "192512 bytes a token", "single failure"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let page = std::fs::read_to_string(data.path().join("plan.html")).unwrap();
    assert!(
        page.contains("<svg") && !page.contains("http://") && !page.contains("src="),
        "the page needs nothing else"
    );
    let plan = json(data.path(), &[command.as_slice(), &["--json"]].concat());
    assert!(plan.is_object(), "{plan}");
}

#[test]
fn hashed_uplinks_cost_what_the_picture_says() {
    let data = tempfile::tempdir().unwrap();
    let mut started = crate::program::sampan(data.path());
    let output = started.current_dir(data.path()).args(["net", "uplinks", "--draws", "1"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = printed.split_whitespace().collect();
    let times = words.windows(3).find(|words| words[0] == "takes" && words[2] == "times").unwrap()[1];
    let times: f64 = times.parse().unwrap();
    assert!((4.0..5.0).contains(&times), "{printed}");
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let data = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (["net", "plan", "qwen9", "--on", "8x8xH100-400G"], "qwen9"),
        (["net", "plan", "qwen3-0.6b", "--on", "8x8xZ9-400G"], "Z9"),
        (["net", "plan", "qwen3-0.6b", "--on", "0x8xH100-400G"], "0"),
    ] {
        let said = refusal(data.path(), &arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}
