//! Models in another form compute the same; models in fewer bits nearly.

use std::num::NonZeroUsize;
use std::path::Path;

use kernels::Precision;
use models::convert::{Container, Order, Recipe, Written, convert};
use models::{Checkpoint, Error, Result};

use crate::truth::{Runner, fixtures, ids, json, relative};

/// Small enough that every tiny model is several files.
const SHARD_BYTES: u64 = 200_000;

fn order(out: &Path, container: Container, recipe: Recipe) -> Order<'_> {
    let threads = NonZeroUsize::new(2).unwrap();
    Order { name: "tiny", out, container, recipe, importance: None, threads, shard_bytes_max: SHARD_BYTES }
}

/// Converts without the tokenizer, which `chat` and the program translate.
fn converted(from: &Path, out: &Path, container: Container, recipe: Recipe) -> Result<Written> {
    let mut checkpoint = Checkpoint::open(from)?;
    checkpoint.text.tokenizer = None;
    let (mut last, mut all) = (0, 0);
    let written = convert(&checkpoint, &order(out, container, recipe), &mut |done, numbers| {
        assert!(done >= last && done <= numbers);
        (last, all) = (done, numbers);
    })?;
    assert_eq!((last, all), (written.numbers, written.numbers), "the progress ends at the end");
    Ok(written)
}

fn logits(path: &Path) -> Vec<f32> {
    let prompt: Vec<u32> = (0..40).map(|at| at * 37 % 480).collect();
    Runner::open(path.to_str().unwrap(), Precision::Exact, None).logits(&prompt, 64)
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// From the folder to GGUF, and from there to another folder: the same numbers come out of all three.
fn check_round_trip(fixture: &str, recipe: Recipe) {
    let (from, out) = (fixtures().join(fixture), tempfile::tempdir().unwrap());
    let (file, folder) = (out.path().join("m.gguf"), out.path().join("m"));
    converted(&from, &file, Container::Gguf, recipe).unwrap();
    let plain = if recipe == Recipe::AsIs { Recipe::F32 } else { recipe };
    converted(&file, &folder, Container::Folder, plain).unwrap();
    let truth = bits(&logits(&from));
    assert_eq!(bits(&logits(&file)), truth, "{fixture} as GGUF");
    assert_eq!(bits(&logits(&folder)), truth, "{fixture} and back");
    let (before, after) = (Checkpoint::open(&from).unwrap(), Checkpoint::open(&folder).unwrap());
    assert_eq!((before.config.tied, before.config.rope), (after.config.tied, after.config.rope));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 2, "nothing temporary is left");
}

#[test]
fn dense_models_and_mixtures_go_both_ways_without_a_bit_of_difference() {
    for fixture in ["qwen3_dense", "qwen3_dense_untied_sharded_f32", "qwen3_yarn", "qwen3_moe"] {
        check_round_trip(&format!("tiny/{fixture}"), Recipe::AsIs);
    }
    check_round_trip("tiny/qwen3_dense", Recipe::F32);
}

#[test]
fn quantised_folders_become_gguf_without_loss() {
    for fixture in ["quant/gptq_int4", "quant/awq"] {
        check_round_trip(fixture, Recipe::AsIs);
    }
    for fixture in ["quant/fp8", "quant/fp8_moe", "quant/gptq_int4_desc_act"] {
        check_round_trip(fixture, Recipe::F32);
    }
}

#[test]
fn every_gguf_fixture_becomes_a_folder() {
    for fixture in ["qwen3_dense.BF16", "qwen3_dense.Q5_1", "qwen3_moe.Q8_0", "qwen3_k.Q4_K_M", "qwen3_k.Q2_K_mix"] {
        let (from, out) = (fixtures().join(format!("gguf/{fixture}.gguf")), tempfile::tempdir().unwrap());
        let folder = out.path().join("m");
        converted(&from, &folder, Container::Folder, Recipe::F32).unwrap();
        assert!(folder.join("model.safetensors.index.json").is_file(), "several files");
        assert_eq!(bits(&logits(&folder)), bits(&logits(&from)), "{fixture}");
    }
}

#[test]
fn what_gguf_cannot_say_is_refused_by_the_field_and_a_folder_can() {
    for (fixture, field) in [("qwen3_sliding", "sliding_window"), ("qwen3_moe_mixed", "norm_topk_prob")] {
        let (from, out) = (fixtures().join("tiny").join(fixture), tempfile::tempdir().unwrap());
        let refused = converted(&from, &out.path().join("m.gguf"), Container::Gguf, Recipe::AsIs).unwrap_err();
        assert!(refused.to_string().contains(field), "{fixture}: {refused}");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "nothing is left");
        let folder = out.path().join("m");
        converted(&from, &folder, Container::Folder, Recipe::AsIs).unwrap();
        assert_eq!(bits(&logits(&folder)), bits(&logits(&from)), "{fixture}");
    }
}

#[test]
fn quantising_moves_logits_as_little_as_the_format_allows() {
    let from = fixtures().join("gguf/qwen3_k.Q6_K.gguf");
    let truth = logits(&from);
    // What this deliberately sharp model shows, and some room; a block that is packed wrongly is beyond 1.
    let mut moved = Vec::new();
    for (recipe, formats, most) in [
        (Recipe::Q8_0, ["F32", "Q8_0"].as_slice(), 0.05),
        (Recipe::Q6K, &["F32", "Q6K"], 0.15),
        (Recipe::Q4KM, &["F32", "Q4K", "Q6K"], 0.6),
        (Recipe::Q4_0, &["F32", "Q4_0", "Q6K"], 0.7),
    ] {
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("m.gguf");
        let written = converted(&from, &file, Container::Gguf, recipe).unwrap();
        assert_eq!(written.bytes_by_format.keys().collect::<Vec<_>>(), formats, "{recipe:?}");
        moved.push((recipe, relative(&logits(&file), &truth), most));
    }
    assert!(moved.iter().all(|(_, found, most)| found < most), "{moved:?}");
}

#[test]
fn the_goldens_hold_for_a_converted_model() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("m.gguf");
    converted(&fixtures().join("tiny/qwen3_moe"), &file, Container::Gguf, Recipe::AsIs).unwrap();
    let mut runner = Runner::open(file.to_str().unwrap(), Precision::Exact, None);
    let golden = json("tiny/qwen3_moe/golden.json");
    let case = &golden["cases"][0];
    assert_eq!(runner.greedy(&ids(&case["input_ids"]), 32, &[]), ids(&case["greedy_ids"]));
}

#[test]
fn what_is_there_stays_and_what_fails_leaves_nothing() {
    let (from, out) = (fixtures().join("tiny/qwen3_dense"), tempfile::tempdir().unwrap());
    let file = out.path().join("m.gguf");
    std::fs::write(&file, "mine").unwrap();
    let refused = converted(&from, &file, Container::Gguf, Recipe::AsIs).unwrap_err();
    assert!(matches!(&refused, Error::Exists { path } if *path == file), "{refused}");
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    let folder = out.path().join("m");
    let refused = converted(&from, &folder, Container::Folder, Recipe::Q8_0).unwrap_err();
    assert!(refused.to_string().contains("plain numbers"), "{refused}");
    std::fs::create_dir(out.path().join("m.partial")).unwrap();
    let refused = converted(&from, &folder, Container::Folder, Recipe::AsIs).unwrap_err();
    assert!(refused.to_string().contains("m.partial"), "{refused}");
    assert!(out.path().join("m.partial").is_dir(), "what somebody else put there stays");
    let nowhere = out.path().join("no/such/m.gguf");
    let refused = converted(&from, &nowhere, Container::Gguf, Recipe::AsIs).unwrap_err();
    assert!(matches!(refused, Error::Write { .. }), "{refused}");
}

#[test]
fn a_number_beyond_f16_is_refused_with_its_row() {
    let (model, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = fixtures().join("tiny/qwen3_dense");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), model.path().join(file)).unwrap();
    }
    let path = model.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let start = tensors["model.embed_tokens.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    // 2^20 in BF16, in row 1 of width 64.
    bytes[8 + header + start + 2 * 70..][..2].copy_from_slice(&0x4980_u16.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let file = out.path().join("m.gguf");
    let refused = converted(model.path(), &file, Container::Gguf, Recipe::F16).unwrap_err();
    assert!(matches!(&refused, Error::Beyond { row: 1, .. }), "{refused}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "nothing is left");
}
