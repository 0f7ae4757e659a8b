//! The encoder against transformers.

use kernels::{Cpu, CpuOptions, Precision};
use models::bert::{Bert, BertFiles};

use crate::bad_input::words;
use crate::truth::{fixtures, ids, json, worst};

/// f32 against f32 on unit vectors.
const OFF_MAX: f32 = 2e-6;

#[test]
fn tokens_and_vectors_equal_the_reference_one_by_one_and_together() {
    let cpu = Cpu::new(CpuOptions::default()).unwrap();
    let folder = fixtures().join("tiny/bert");
    assert!(BertFiles::are_here(&folder) && !BertFiles::are_here(&fixtures().join("tiny/qwen3_dense")));
    let bert = Bert::load(&cpu, &BertFiles::open(&folder).unwrap(), Precision::Exact).unwrap();
    let golden = json("tiny/bert/golden.json");
    let cases = golden["cases"].as_array().unwrap();
    let tokens: Vec<Vec<u32>> = cases.iter().map(|case| bert.encode(case["text"].as_str().unwrap()).unwrap()).collect();
    let texts: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    let together = bert.embed(&cpu, &texts).unwrap();
    for ((case, text), vector) in cases.iter().zip(&texts).zip(&together) {
        assert_eq!(*text, ids(&case["input_ids"]), "{}", case["text"]);
        let truth: Vec<f32> =
            case["vector"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect();
        let (off, at, a, b) = worst(vector, &truth);
        assert!(off <= OFF_MAX, "{}: [{at}] is {a} for {b}", case["text"]);
        assert_eq!(bert.embed(&cpu, &[text]).unwrap()[0], *vector, "alone as in company");
    }
}

#[test]
fn what_is_no_such_encoder_is_refused_by_name() {
    let cpu = Cpu::new(CpuOptions::default()).unwrap();
    let refused = |field: &str, value: serde_json::Value, expected: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let source = fixtures().join("tiny/bert");
        for name in ["model.safetensors", "tokenizer.json"] {
            std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
        }
        let mut config = json("tiny/bert/config.json");
        config[field] = value;
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let opened = BertFiles::open(folder.path());
        words(&opened.and_then(|files| Bert::load(&cpu, &files, Precision::Exact)).err().unwrap(), expected);
    };
    refused("model_type", "roberta".into(), &["model_type", "roberta"]);
    refused("hidden_act", "relu".into(), &["hidden_act", "relu"]);
    refused("num_attention_heads", 5.into(), &["num_attention_heads", "5"]);
    refused("hidden_size", 0.into(), &["hidden_size", "0"]);
    refused("hidden_size", 64.into(), &["shape"]);
    refused("vocab_size", 90.into(), &["vocab_size is 90"]);
    refused("num_hidden_layers", 3.into(), &["encoder.layer.2", "missing"]);
}
