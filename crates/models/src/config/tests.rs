use serde_json::json;

use super::{Config, from_json};

fn qwen3_0_6b() -> serde_json::Value {
    json!({
        "model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "rms_norm_eps": 1e-6,
        "vocab_size": 151_936, "tie_word_embeddings": true, "max_position_embeddings": 40_960,
        "rope_theta": 1_000_000, "rope_scaling": null, "sliding_window": 4096, "use_sliding_window": false,
        "max_window_layers": 28, "attention_bias": false, "hidden_act": "silu",
    })
}

#[test]
fn the_count_of_parameters_gives_the_models_their_names() {
    let dense = from_json(&qwen3_0_6b()).unwrap();
    assert_eq!(dense.parameters().0, 596_049_920);
    let moe = json!({
        "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "vocab_size": 151_936,
        "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": true,
    });
    let (total, active) = from_json(&moe).unwrap().parameters();
    assert_eq!((total / 10_000_000, active / 10_000_000), (3053, 335), "30.53 and 3.35 billion");
}

#[test]
fn hybrids_have_the_parameters_that_name_them() {
    let next = json!({
        "model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
        "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": 5120, "vocab_size": 151_936,
        "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512, "norm_topk_prob": true, "full_attention_interval": 4,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "partial_rotary_factor": 0.25,
    });
    let config = from_json(&next).unwrap();
    let (total, active) = config.parameters();
    assert_eq!((total / 100_000_000, active / 100_000_000), (796, 38), "79.7 and 3.9 billion");
    assert_eq!(config.kv_numbers_per_token() * 2, 24 << 10);
    assert_eq!(config.state_bytes() >> 20, 75, "74 MiB, with the inputs of the convolution");
    assert_eq!(config.rope.dims, 64);

    let refused = |field: &str, value: serde_json::Value, word: &str| {
        let mut changed = next.clone();
        changed[field] = value;
        let error = from_json(&changed).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains(word), "{error}");
    };
    refused("linear_num_value_heads", json!(33), "multiple");
    refused("linear_conv_kernel_dim", json!(0), "1 to");
    refused("partial_rotary_factor", json!(1.5), "at most 1");
    refused("full_attention_interval", json!(0), "1 or more");
    refused("layer_types", json!(vec!["linear_attention"; 48]), "full attention");
}

#[test]
fn both_spellings_say_the_same() {
    let published = from_json(&qwen3_0_6b()).unwrap();
    let mut newer = qwen3_0_6b();
    let object = newer.as_object_mut().unwrap();
    object.remove("rope_theta");
    object.remove("rope_scaling");
    object.insert("rope_parameters".to_owned(), json!({"rope_type": "default", "rope_theta": 1_000_000}));
    assert_eq!(from_json(&newer).unwrap(), published);
}

#[test]
fn a_window_needs_its_switch() {
    let windows = |fields: serde_json::Value| -> Config {
        let mut config = qwen3_0_6b();
        for (field, value) in fields.as_object().unwrap() {
            config[field] = value.clone();
        }
        from_json(&config).unwrap()
    };
    assert!(windows(json!({})).windows.iter().all(Option::is_none));
    let on = windows(json!({"use_sliding_window": true, "max_window_layers": 20}));
    assert_eq!((on.windows[19], on.windows[20]), (None, Some(4096)));
}
