//! Broken and hostile files: each is a clear error that names the thing, nothing panics.

use std::path::Path;

use base::Rng;
use models::weights::Weights;
use models::{Checkpoint, Error, FileBytes, gguf, safetensors_files};
use serde_json::json;

use crate::truth::fixtures;

const FUZZ_INPUTS: u64 = 2_000;

pub(crate) fn words(error: &Error, expected: &[&str]) {
    let text = format!("{error} {error:?}");
    for word in expected {
        assert!(text.contains(word), "{text:?} lacks {word:?}");
    }
}

/// A copy of the dense fixture in a folder of its own, changed.
fn changed(change: impl FnOnce(&Path)) -> models::Result<Checkpoint> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixtures().join("tiny/qwen3_dense").join(name), folder.path().join(name)).unwrap();
    }
    change(folder.path());
    let checkpoint = Checkpoint::open(folder.path())?;
    let options = kernels::CpuOptions { isa: None, threads: std::num::NonZeroUsize::MIN, is_pinned: false };
    let cpu = kernels::Cpu::new(options).unwrap();
    models::Qwen3::load(&cpu, &checkpoint, kernels::Precision::Exact, |_, _| {})?;
    Ok(checkpoint)
}

/// The configuration with some fields replaced is refused with these words.
fn refused(fields: &serde_json::Value, expected: &[&str]) {
    let error = changed(|folder| {
        let path = folder.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (field, value) in fields.as_object().unwrap() {
            config[field] = value.clone();
        }
        std::fs::write(path, config.to_string()).unwrap();
    })
    .expect_err("it is refused");
    words(&error, expected);
}

#[test]
fn configurations_are_refused_by_field_and_value() {
    refused(&json!({"model_type": "llama"}), &["model_type", "llama"]);
    refused(&json!({"hidden_act": "gelu"}), &["hidden_act", "gelu"]);
    refused(&json!({"attention_bias": true}), &["attention_bias", "true"]);
    refused(&json!({"head_dim": 33}), &["head_dim", "33"]);
    refused(&json!({"num_key_value_heads": 3}), &["num_key_value_heads", "3"]);
    refused(&json!({"num_hidden_layers": 4_000_000_000_u64}), &["num_hidden_layers", "4000000000"]);
    refused(&json!({"vocab_size": u64::MAX}), &["vocab_size"]);
    refused(&json!({"hidden_size": -1}), &["hidden_size", "-1"]);
    refused(&json!({"hidden_size": null}), &["hidden_size"]);
    refused(&json!({"rope_scaling": {"rope_type": "llama3"}}), &["rope_type", "llama3"]);
    refused(&json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}), &["original_max_position_embeddings"]);
    refused(&json!({"quantization_config": {"quant_method": "exl2"}}), &["quant_method", "exl2"]);
    refused(&json!({"rms_norm_eps": 0.0}), &["rms_norm_eps", "0"]);
    refused(&json!({"intermediate_size": 128}), &["mlp.gate_proj", "160", "128"]);
    let moe =
        json!({"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 9, "moe_intermediate_size": 8});
    refused(&moe, &["num_experts_per_tok", "9"]);
}

#[test]
fn damaged_weights_are_named() {
    let path = |folder: &Path| folder.join("model.safetensors");
    let cut = |size: usize| {
        move |folder: &Path| {
            let bytes = std::fs::read(path(folder)).unwrap();
            std::fs::write(path(folder), &bytes[..size.min(bytes.len() - 1)]).unwrap();
        }
    };
    for size in [0, 4, 8, 100, 5_000, usize::MAX] {
        words(&changed(cut(size)).unwrap_err(), &["model.safetensors", "corrupt"]);
    }
    let huge = changed(|folder| {
        let mut bytes = std::fs::read(path(folder)).unwrap();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(path(folder), bytes).unwrap();
    });
    words(&huge.unwrap_err(), &["corrupt"]);
    let wild = changed(|folder| {
        let mut bytes = std::fs::read(path(folder)).unwrap();
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&[0xC0, 0x7F]);
        std::fs::write(path(folder), bytes).unwrap();
    });
    words(&wild.unwrap_err(), &["norm.weight", "not finite"]);
    let none = changed(|folder| std::fs::remove_file(path(folder)).unwrap());
    words(&none.unwrap_err(), &["model.safetensors.index.json"]);
}

#[test]
fn a_missing_shard_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures().join("tiny/qwen3_dense_untied_sharded_f32");
    for name in ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"] {
        std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
    }
    words(&Checkpoint::open(folder.path()).unwrap_err(), &["model-00002-of-00002.safetensors"]);
    std::fs::copy(
        source.join("model-00001-of-00002.safetensors"),
        folder.path().join("model-00002-of-00002.safetensors"),
    )
    .unwrap();
    words(&Checkpoint::open(folder.path()).unwrap_err(), &["two tensors have this name"]);
    let index = json!({"weight_map": {"lm_head.weight": "../../etc/passwd"}});
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    words(&Checkpoint::open(folder.path()).unwrap_err(), &["etc/passwd", "plain file name"]);
}

#[test]
fn what_is_no_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    words(&Checkpoint::open(folder.path()).unwrap_err(), &["config.json"]);
    words(&Checkpoint::open(&folder.path().join("nothing")).unwrap_err(), &["nothing"]);
    let text = folder.path().join("readme.txt");
    std::fs::write(&text, "hello").unwrap();
    words(&Checkpoint::open(&text).unwrap_err(), &["GGUF"]);
}

/// Feeds seeded damage of a good file to a reader; nothing may panic.
fn fuzz(good: &[u8], header_bytes: usize, read: impl Fn(&'static [u8])) {
    let mut rng = Rng::seeded(0xF022);
    for _ in 0..FUZZ_INPUTS {
        let mut bytes = good.to_vec();
        for _ in 0..=rng.below(6) {
            let at = rng.below(header_bytes.min(bytes.len()) as u64) as usize;
            match rng.below(4) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes[at] = [0x00, 0xFF, 0x7F, 0x80][rng.below(4) as usize],
                2 => {
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].fill(0xFF);
                }
                _ => bytes.truncate(at.max(1)),
            }
        }
        read(bytes.leak());
    }
}

#[test]
fn gguf_headers_survive_any_damage() {
    let good = std::fs::read(fixtures().join("gguf/qwen3_dense.Q4_0.gguf")).unwrap();
    // The data itself is not looked at here; a small tail keeps the leaked copies small.
    fuzz(&good[..40_000], 24_000, |bytes| {
        let _ = gguf::read("fuzz", &FileBytes::Static(bytes)).map(|(metadata, weights)| {
            let _ = models::config::from_gguf(&metadata, &weights);
        });
    });
}

#[test]
fn safetensors_headers_survive_any_damage() {
    let good = std::fs::read(fixtures().join("tiny/qwen3_dense/model.safetensors")).unwrap();
    fuzz(&good[..12_000], 4_000, |bytes| {
        let _ = safetensors_files::read("fuzz", &FileBytes::Static(bytes), &mut Weights::default());
    });
}

#[test]
fn hostile_gguf_counts_allocate_nothing() {
    let header = |tensors: u64, entries: u64| {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(entries.to_le_bytes());
        bytes
    };
    for (tensors, entries) in [(u64::MAX, 0), (0, u64::MAX), (1 << 40, 1 << 40)] {
        let bytes = FileBytes::Owned(header(tensors, entries).into());
        words(&gguf::read("hostile", &bytes).unwrap_err(), &["hostile", "at most"]);
    }
    let mut array = header(0, 1);
    array.extend(1_u64.to_le_bytes());
    array.extend(b"k");
    array.extend(9_u32.to_le_bytes());
    array.extend(4_u32.to_le_bytes());
    array.extend((u64::MAX / 2).to_le_bytes());
    words(&gguf::read("hostile", &FileBytes::Owned(array.into())).unwrap_err(), &["at most"]);
}
