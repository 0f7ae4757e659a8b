use proptest::prelude::*;

use super::{PRESETS, from_config, preset};

#[track_caller]
fn counts(name: &str, total_billion: f64, active_billion: f64, kv_kib: u64) {
    let model = preset(name).unwrap();
    let found = model.parameters();
    assert!((found.total as f64 / 1e9 - total_billion).abs() < 0.051, "{name}: {found:?}");
    assert!((found.active as f64 / 1e9 - active_billion).abs() < 0.051, "{name}: {found:?}");
    assert_eq!(model.kv_bytes_per_token(2.0) as u64, kv_kib * 1_024, "{name}");
}

#[test]
fn the_qwen3_family_has_its_published_sizes() {
    counts("qwen3-0.6b", 0.60, 0.60, 112);
    counts("qwen3-1.7b", 1.72, 1.72, 112);
    counts("qwen3-4b", 4.02, 4.02, 144);
    counts("qwen3-8b", 8.19, 8.19, 144);
    counts("qwen3-14b", 14.77, 14.77, 160);
    counts("qwen3-32b", 32.76, 32.76, 256);
    counts("qwen3-30b-a3b", 30.53, 3.35, 96);
    counts("qwen3-235b-a22b", 235.1, 22.2, 188);
    counts("qwen3-coder-480b-a35b", 480.2, 35.5, 248);
    counts("qwen3-next-80b-a3b", 79.7, 3.9, 24);
}

#[test]
fn a_token_of_qwen3_235b_leaves_192512_bytes() {
    assert_eq!(preset("qwen3-235b-a22b").unwrap().kv_bytes_per_token(2.0) as u64, 192_512);
}

#[test]
fn the_trillion_says_that_it_is_guessed() {
    let model = preset("1t-moe-guessed").unwrap();
    assert!(model.notes[0].contains("guessed") && model.parameters().total > 1_000_000_000_000);
    for (name, _) in PRESETS {
        assert!(preset(name).is_ok(), "{name}");
    }
    assert!(preset("qwen9").is_err());
}

#[test]
fn a_config_says_the_same_as_the_preset() {
    let text = r#"{"model_type": "qwen3_moe", "hidden_size": 4096, "num_hidden_layers": 94, "num_attention_heads": 64,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936, "num_experts": 128,
        "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "tie_word_embeddings": false, "mlp_only_layers": [],
        "decoder_sparse_step": 1}"#;
    let read = from_config("x", text).unwrap();
    let known = preset("qwen3-235b-a22b").unwrap();
    assert_eq!(read.parameters(), known.parameters());
    assert_eq!(read.kv_bytes_per_token(2.0) as u64, 192_512);
}

#[test]
fn compressed_keys_and_values_are_counted() {
    let text = r#"{"model_type": "kimi_k2", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 64,
        "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "intermediate_size": 18432, "vocab_size": 163840, "n_routed_experts": 384, "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048, "n_shared_experts": 1, "first_k_dense_replace": 1}"#;
    let read = from_config("kimi", text).unwrap();
    let found = read.parameters();
    assert!((found.total as f64 / 1e9 - 1026.0).abs() < 1.0, "{found:?}");
    assert!((found.active as f64 / 1e9 - 32.0).abs() < 1.0, "{found:?}");
    assert_eq!(read.kv_bytes_per_token(2.0) as u64, 70_272);
}

#[test]
fn tiny_published_layouts_are_read() {
    for family in ["qwen3_dense", "qwen3_moe", "qwen3_moe_mixed", "qwen3_yarn"] {
        let path = format!("{}/../../fixtures/tiny/{family}/config.json", env!("CARGO_MANIFEST_DIR"));
        let model = from_config(family, &std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(model.parameters().total > 0, "{family}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}", number in any::<u64>()) {
        let _ = from_config("x", &text);
        let text = format!(r#"{{"hidden_size": {number}, "num_hidden_layers": {number}, "num_attention_heads": 3,
            "vocab_size": 7, "intermediate_size": {number}, "num_experts": {number}, "num_experts_per_tok": 2}}"#);
        if let Ok(model) = from_config("x", &text) {
            let _ = model.parameters();
        }
    }
}
