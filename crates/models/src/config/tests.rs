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
