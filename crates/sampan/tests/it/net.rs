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

#[test]
fn a_fabric_is_counted_from_a_name_and_from_the_files_of_others() {
    let data = tempfile::tempdir().unwrap();
    let pod = json(data.path(), &["net", "fabric", "hpn7", "--json"]);
    let counts = ["endpoints", "tors", "aggregations"].map(|name| pod[name].as_u64().unwrap());
    assert_eq!(counts, [15_360, 240, 120]);
    let said = stdout(data.path(), &["net", "fabric", "hpn8", "--gpus", "2048"]);
    assert!(said.contains("inferred"), "{said}");
    let file = |name: &str, text: &str| {
        let path = data.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let toml = file("lab.toml", "preset = 'hpn7'\ngpus = 2048\n");
    assert_eq!(json(data.path(), &["net", "fabric", &toml, "--json"])["endpoints"], 2_048);
    assert_eq!(json(data.path(), &["net", "uplinks", "--on", &toml, "--draws", "1", "--json"])["gpus"], 2_048);
    let cables = [(0, 4), (1, 4), (2, 4), (0, 3), (1, 3), (2, 3)];
    let cables = cables.map(|(gpu, switch)| format!("{gpu} {switch} 200Gbps 0.0005ms 0\n"));
    let simai = file("topology", &format!("5 2 1 1 6 H100\n4 3\n{}", cables.concat()));
    assert_eq!(json(data.path(), &["net", "fabric", &simai, "--json"])["tors"], 1);
    let rows = ["\tGPU0\tGPU1\tNIC0", "GPU0\t X \tNV18\tPIX", "GPU1\tNV18\t X \tSYS", "NIC0\tPIX\tSYS\t X", ""];
    let matrix = file("topo", &rows.join("\n"));
    let host = json(data.path(), &["net", "fabric", &matrix, "--json"]);
    assert!(host["findings"].to_string().contains("behind Sys"), "{host}");
    let page = data.path().join("fabric.html");
    stdout(data.path(), &["net", "fabric", &matrix, "--picture", page.to_str().unwrap()]);
    assert!(std::fs::read_to_string(page).unwrap().contains("<svg"));
    let broken = file("broken.toml", "endpoints = 4000000000\n");
    assert!(refusal(data.path(), &["net", "fabric", &broken]).contains("nodes"));
    assert!(refusal(data.path(), &["net", "fabric", &toml, "--gpus", "8"]).contains("--gpus"));
}

#[test]
fn a_plan_is_made_from_what_was_measured_and_on_a_fabric_from_a_file() {
    let data = tempfile::tempdir().unwrap();
    let mut measured = String::from("# nccl-tests all_reduce_perf\n");
    for rank in 0..8 {
        measured += &format!("#  Rank  {rank} Group  0 Pid  1 on a device  {rank} [0x1b] NVIDIA H100 80GB HBM3\n");
    }
    for power in 20..34 {
        let bytes = 1_u64 << power;
        let us = 30.0 + bytes as f64 * 1.75 / 300e3;
        let bus = bytes as f64 * 1.75 / us / 1e3;
        measured += &format!("{bytes} {} float sum -1 {us:.2} 1.0 {bus:.2} 0 {us:.2} 1.0 {bus:.2} 0\n", bytes / 4);
    }
    let path = data.path().join("nccl.txt");
    std::fs::write(&path, measured).unwrap();
    let fabric = data.path().join("lab.toml");
    std::fs::write(&fabric, "preset = 'rail-only'\ngpus = 64\n").unwrap();
    let cluster = format!("8x8xH100-400G@{}", fabric.display());
    let command = ["net", "plan", "qwen3-235b-a22b", "--on", &cluster, "--json", "--measured", path.to_str().unwrap()];
    let output = run(data.path(), &command);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("on sizes that were not used"), "{said}");
    let small = format!("64x8xH100-400G@{}", fabric.display());
    assert!(refusal(data.path(), &["net", "plan", "qwen3-235b-a22b", "--on", &small]).contains("512 are needed"));
}

#[test]
fn simais_table_is_printed_for_people_and_for_scripts() {
    let data = tempfile::tempdir().unwrap();
    let reference: Value =
        serde_json::from_slice(&std::fs::read(fixture("hpn/simai_analytical.json")).unwrap()).unwrap();
    let path = data.path().join("workload.txt");
    std::fs::write(&path, reference["cases"][0]["workload"].as_str().unwrap()).unwrap();
    let path = path.to_str().unwrap();
    assert!(stdout(data.path(), &["net", "simai", path]).starts_with("layer_name"));
    let table = json(data.path(), &["net", "simai", path, "--json"]);
    assert!(table["layers"].as_array().is_some_and(|layers| layers.len() == 6), "{table}");
    assert!(table["summary_us"]["total"].as_f64().is_some_and(|total| total > 0.0), "{table}");
}
