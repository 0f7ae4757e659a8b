//! FP8, GPTQ and AWQ checkpoints against the dequantised truth.

use base::Rng;
use kernels::Precision;
use models::weights::Weights;
use models::{Checkpoint, FileBytes, safetensors_files};
use safetensors::SafeTensors;
use serde_json::json;

use crate::bad_input::words;
use crate::goldens::{EXACT_RELATIVE_MAX, EXACT_WORST_MAX, QUANTISED_RELATIVE_MAX, check_logits};
use crate::truth::{Runner, fixtures, ids, json, tensor};

fn check(name: &str) {
    let golden = json(&format!("quant/{name}/golden.json"));
    let case = &golden["cases"][0];
    let bytes = std::fs::read(fixtures().join(format!("quant/{name}/golden.safetensors"))).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let truth = tensor(&tensors, "case.logits");
    let prompt = ids(&case["input_ids"]);
    let path = format!("quant/{name}");
    let mut runner = Runner::open(&path, Precision::Exact, None);
    check_logits(name, &runner.logits(&prompt, prompt.len()), &truth, EXACT_RELATIVE_MAX, EXACT_WORST_MAX);
    assert_eq!(runner.greedy(&prompt, 32, &[]), ids(&case["greedy_ids"]), "{name}");
    let mut runner = Runner::open(&path, Precision::Fast, None);
    let found = runner.logits(&prompt, prompt.len());
    check_logits(&format!("{name} fast"), &found, &truth, QUANTISED_RELATIVE_MAX, f32::INFINITY);
}

#[test]
fn fp8_in_blocks() {
    ["fp8", "fp8_moe", "fp8_partial"].into_iter().for_each(check);
}

#[test]
fn gptq_in_order_and_scattered() {
    ["gptq_int4", "gptq_int4_desc_act"].into_iter().for_each(check);
}

#[test]
fn awq() {
    check("awq");
}

/// A quantised fixture whose configuration and tensors were changed.
fn changed(name: &str, fields: &serde_json::Value, change: impl FnOnce(&mut Vec<u8>)) -> models::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures().join("quant").join(name);
    let mut config = json(&format!("quant/{name}/config.json"));
    for (field, value) in fields.as_object().unwrap() {
        config["quantization_config"][field] = value.clone();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut weights = std::fs::read(source.join("model.safetensors")).unwrap();
    change(&mut weights);
    std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    let checkpoint = Checkpoint::open(folder.path())?;
    let cpu = kernels::Cpu::new(kernels::CpuOptions::default()).unwrap();
    models::Qwen3::load(&cpu, &checkpoint, Precision::Exact, |_, _| {}).map(|_| ())
}

fn refused(name: &str, fields: &serde_json::Value, expected: &[&str]) {
    words(&changed(name, fields, |_| {}).unwrap_err(), expected);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    refused("gptq_int4", &json!({"bits": 3}), &["quantization_config.bits", "3"]);
    refused("gptq_int4", &json!({"group_size": 0}), &["group_size", "0"]);
    refused("gptq_int4", &json!({"checkpoint_format": "marlin"}), &["checkpoint_format", "marlin"]);
    refused("gptq_int4", &json!({"quant_method": "bitsandbytes"}), &["quant_method", "bitsandbytes"]);
    refused("gptq_int4", &json!({"group_size": 64}), &["qzeros", "shape"]);
    refused("awq", &json!({"version": "gemv"}), &["version", "gemv"]);
    refused("awq", &json!({"zero_point": false}), &["zero_point"]);
    refused("fp8", &json!({"fmt": "e5m2"}), &["fmt", "e5m2"]);
    refused("fp8", &json!({"weight_block_size": [128]}), &["weight_block_size"]);
    refused("fp8", &json!({"weight_block_size": null}), &["weight_block_size"]);
    refused("fp8", &json!({"weight_block_size": [64, 128]}), &["weight_scale_inv", "shape"]);
}

/// Where the bytes of a tensor begin in a file.
fn data_of(file: &[u8], name: &str) -> usize {
    let data = SafeTensors::deserialize(file).unwrap().tensor(name).unwrap().data().as_ptr();
    data as usize - file.as_ptr() as usize
}

#[test]
fn numbers_that_are_none_are_named() {
    let nan = |weights: &mut Vec<u8>| {
        let at = data_of(weights, "model.layers.1.mlp.up_proj.weight");
        weights[at + 256] = 0x7F;
    };
    words(&changed("fp8", &json!({}), nan).unwrap_err(), &["layers.1.mlp.up_proj.weight", "not finite", "row 1"]);
    let wild = |weights: &mut Vec<u8>| {
        let at = data_of(weights, "model.layers.0.mlp.up_proj.scales");
        weights[at..at + 2].copy_from_slice(&[0x00, 0x7C]);
    };
    words(&changed("awq", &json!({}), wild).unwrap_err(), &["layers.0.mlp.up_proj.scales", "not finite"]);
    let group = |weights: &mut Vec<u8>| {
        let at = data_of(weights, "model.layers.0.mlp.up_proj.g_idx");
        weights[at..at + 4].copy_from_slice(&[9, 0, 0, 0]);
    };
    words(&changed("gptq_int4", &json!({}), group).unwrap_err(), &["up_proj.g_idx", "group 9 of 2"]);
}

#[test]
fn quantised_files_survive_any_damage() {
    let cpu = kernels::Cpu::new(kernels::CpuOptions::default()).unwrap();
    for name in ["fp8_partial", "gptq_int4_desc_act", "awq"] {
        let good = std::fs::read(fixtures().join(format!("quant/{name}/model.safetensors"))).unwrap();
        let config = json(&format!("quant/{name}/config.json"));
        let mut rng = Rng::seeded(0x9A57);
        for _ in 0..60 {
            let mut bytes = good.clone();
            // Mostly the header, where names, types and shapes stand.
            for _ in 0..=rng.below(4) {
                let end = if rng.below(4) == 0 { bytes.len() } else { 5_000 };
                let at = rng.below(end as u64) as usize;
                bytes[at] = [b'0', b'9', b'3', 0xFF, rng.next_u64() as u8][rng.below(5) as usize];
            }
            let mut weights = Weights::default();
            if safetensors_files::read("fuzz", &FileBytes::Owned(bytes.into()), &mut weights).is_err() {
                continue;
            }
            let config = models::config::from_json(&config).unwrap();
            let text = Checkpoint::open(&fixtures().join("quant").join(name)).unwrap().text;
            let pixels = models::picture::PixelLimits::default();
            let checkpoint = Checkpoint {
                container: "fuzz",
                config,
                weights,
                text,
                embeds: false,
                pixels,
                clip_pixels: pixels,
                weight_cache: None,
            };
            let _ = models::Qwen3::load(&cpu, &checkpoint, Precision::Exact, |_, _| {});
        }
    }
}

/// What a model takes in memory is known before it is loaded, also where a format has no kernel of its own.
#[test]
fn memory_is_known_beforehand() {
    let cpu = kernels::Cpu::new(kernels::CpuOptions::default()).unwrap();
    for path in [
        "tiny/qwen3_dense",
        "tiny/qwen3_dense_untied_sharded_f32",
        "tiny/qwen3_moe",
        "tiny/qwen3_next",
        "gguf/qwen3_dense.Q5_1.gguf",
        "gguf/qwen3_dense.Q4_0.gguf",
        "gguf/qwen3_k.Q2_K_mix.gguf",
        "gguf/qwen3_k.Q4_K_M.gguf",
        "quant/fp8",
        "quant/gptq_int4",
    ] {
        for precision in [Precision::Fast, Precision::Exact] {
            let checkpoint = Checkpoint::open(&fixtures().join(path)).unwrap();
            let expected = checkpoint.packed_bytes(precision);
            let model = models::Qwen3::load(&cpu, &checkpoint, precision, |_, _| {}).unwrap();
            let found = model.size_bytes() as u64;
            // Four bits computed exactly are unpacked; nobody serves a model so. Norms and a predictor, which are
            // counted, and an embedding that is only looked up are not in what the model says.
            let is_unpacked = precision == Precision::Exact && path.starts_with("quant");
            assert!(is_unpacked || found <= expected, "{path} {precision:?}: {found} of {expected}");
            assert!(expected <= 2 * found + 200_000, "{path} {precision:?}: {found} of {expected}");
        }
    }
}
