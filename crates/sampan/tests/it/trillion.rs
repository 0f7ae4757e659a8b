//! A checkpoint of more than 2^40 numbers: opened by its headers alone.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Map, Value, json};

use crate::program::{fixture, sampan};

const LAYERS: u64 = 64;
const EXPERTS: u64 = 512;
const HIDDEN: u64 = 6144;
const INTERMEDIATE: u64 = 2048;
const VOCABULARY: u64 = 151_936;
/// What opening may take of memory that is the program's own. Pages of files are the system's.
const MEMORY_KIB_MAX: u64 = 200 << 10;

/// A file of one tensor in BF16; its numbers are a hole that takes no room.
fn shard(folder: &Path, file: &str, name: &str, shape: &[u64]) {
    let bytes = 2 * shape.iter().product::<u64>();
    let header = json!({name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, bytes]}}).to_string();
    let mut out = File::create(folder.join(file)).unwrap();
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(header.as_bytes()).unwrap();
    out.set_len(8 + header.len() as u64 + bytes).unwrap();
    // The last number is there, so a place that wraps at 32 bits is not.
    out.write_all_at(&[0x80, 0x3f], 8 + header.len() as u64 + bytes - 2).unwrap();
}

fn checkpoint(folder: &Path) {
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(fixture("tiny/qwen3_5_moe/config.json")).unwrap()).unwrap();
    let text = config["text_config"].as_object_mut().unwrap();
    for (field, value) in [
        ("num_hidden_layers", LAYERS),
        ("num_experts", EXPERTS),
        ("hidden_size", HIDDEN),
        ("moe_intermediate_size", INTERMEDIATE),
        ("vocab_size", VOCABULARY),
    ] {
        text.insert(field.to_owned(), json!(value));
    }
    text.remove("layer_types");
    config["vision_config"]["out_hidden_size"] = json!(HIDDEN);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut tensors = vec![
        ("model.language_model.embed_tokens.weight".to_owned(), vec![VOCABULARY, HIDDEN]),
        ("lm_head.weight".to_owned(), vec![VOCABULARY, HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let stem = format!("model.language_model.layers.{layer}.mlp");
        tensors.push((format!("{stem}.experts.gate_up_proj"), vec![EXPERTS, 2 * INTERMEDIATE, HIDDEN]));
        tensors.push((format!("{stem}.experts.down_proj"), vec![EXPERTS, HIDDEN, INTERMEDIATE]));
        tensors.push((format!("{stem}.gate.weight"), vec![EXPERTS, HIDDEN]));
    }
    let mut map = Map::new();
    for (number, (name, shape)) in tensors.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, tensors.len());
        shard(folder, &file, name, shape);
        map.insert(name.clone(), json!(file));
    }
    std::fs::write(folder.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
}

#[test]
fn two_terabytes_in_two_hundred_files_are_opened_in_little_memory() {
    let (data, model) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    checkpoint(model.path());
    let program = sampan(data.path());
    let script = format!("ulimit -d {MEMORY_KIB_MAX}; exec \"$0\" model show \"$1\" --tensors --json");
    let mut shell = std::process::Command::new("/bin/sh");
    shell.arg("-c").arg(script).arg(program.get_program()).arg(model.path()).stdin(Stdio::null());
    let output = shell.env_clear().env("SAMPAN_DATA", data.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(shown["parameters"].as_u64().unwrap() > 1 << 40, "{}", shown["parameters"]);
    assert!(shown["size_bytes"].as_u64().unwrap() > 2_000_000_000_000, "{}", shown["size_bytes"]);
    let tensors = shown["tensors"].as_array().unwrap();
    let fused = tensors.iter().find(|tensor| tensor["name"].as_str().unwrap().contains("gate_up")).unwrap();
    let numbers: u64 = fused["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).product();
    assert!(tensors.len() > 100 && numbers > 1 << 32, "{fused}");
}
