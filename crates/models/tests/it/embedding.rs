//! Embedding and reranking models.

use kernels::Precision;
use models::{Checkpoint, embedding};
use safetensors::SafeTensors;

use crate::truth::{Runner, fixtures, ids, json, tensor, worst};

/// f32 against f32 on unit vectors of 64 numbers.
const OFF_MAX: f32 = 2e-6;

#[test]
fn embeddings_and_their_first_dimensions_equal_the_reference() {
    let golden = json("tiny/qwen3_embedding/golden.json");
    let bytes = std::fs::read(fixtures().join("tiny/qwen3_embedding/golden.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (whole, first) = (tensor(&tensors, "embeddings"), tensor(&tensors, "embeddings_mrl_16"));
    let mut runner = Runner::open("tiny/qwen3_embedding", Precision::Exact, None);
    for (index, case) in golden["cases"].as_array().unwrap().iter().enumerate() {
        let hidden = runner.hidden(&ids(&case["input_ids"]));
        for (dimensions, truth) in [(64, &whole), (16, &first)] {
            let found = embedding::unit(&hidden, dimensions);
            let (off, at, a, b) = worst(&found, &truth[index * dimensions..][..dimensions]);
            assert!(off <= OFF_MAX, "text {index}, {dimensions} dimensions: [{at}] is {a} for {b}");
        }
    }
    let query = embedding::query_text(embedding::DEFAULT_INSTRUCTION, "What is the capital of China?");
    assert_eq!(golden["cases"][0]["text"], query);
}

/// The mistakes of embedding, made on purpose: what the reference shows of each is in `sensitivity.json`.
#[test]
fn other_poolings_are_seen() {
    let golden = json("tiny/qwen3_embedding/golden.json");
    let bytes = std::fs::read(fixtures().join("tiny/qwen3_embedding/golden.safetensors")).unwrap();
    let truth = tensor(&SafeTensors::deserialize(&bytes).unwrap(), "embeddings");
    let mut runner = Runner::open("tiny/qwen3_embedding", Precision::Exact, None);
    let (mut bare, mut first) = (f32::MAX, f32::MAX);
    for (index, case) in golden["cases"].as_array().unwrap().iter().enumerate() {
        let tokens = ids(&case["input_ids"]);
        let mut cosine = |tokens: &[u32]| -> f32 {
            let found = embedding::unit(&runner.hidden(tokens), 64);
            found.iter().zip(&truth[index * 64..]).map(|(a, b)| a * b).sum()
        };
        assert!(cosine(&tokens) > 0.999_99);
        bare = bare.min(cosine(&tokens[..tokens.len() - 1]));
        first = first.min(cosine(&tokens[..1]));
    }
    assert!((bare + 0.001_68).abs() < 1e-3, "without the token that ends a text: {bare}");
    assert!((first + 0.120_05).abs() < 1e-3, "the first token's state: {first}");
}

#[test]
fn an_embedding_model_says_that_it_is_one() {
    let open = |name: &str| Checkpoint::open(&fixtures().join("tiny").join(name)).unwrap();
    assert!(open("qwen3_embedding").embeds);
    assert!(!open("qwen3_reranker").embeds);
    let mut untied = open("qwen3_embedding");
    untied.config.tied = false;
    assert!(!untied.has_head());
    let cpu = kernels::Cpu::new(kernels::CpuOptions::default()).unwrap();
    assert!(!models::Qwen3::load(&cpu, &untied, Precision::Exact, |_, _| {}).unwrap().has_head());
}

#[test]
fn relevance_equals_the_reference() {
    let golden = json("tiny/qwen3_reranker/golden.json");
    let mut runner = Runner::open("tiny/qwen3_reranker", Precision::Exact, None);
    let answers = ["no", "yes"].map(|answer| golden["answer_token_ids"][answer].as_u64().unwrap() as u32);
    for case in golden["rerank"].as_array().unwrap() {
        let hidden = runner.hidden(&ids(&case["input_ids"]));
        let logits = runner.model.logits_of(&hidden, &answers);
        for (found, field) in
            [(logits[0], "logit_no"), (logits[1], "logit_yes"), (embedding::relevance(logits[0], logits[1]), "score")]
        {
            let truth = case[field].as_f64().unwrap();
            assert!((f64::from(found) - truth).abs() < 3e-5, "{field}: {found} for {truth}");
        }
        let [query, document] = ["query", "document"].map(|field| case[field].as_str().unwrap());
        let middle = embedding::rerank_text(embedding::DEFAULT_INSTRUCTION, query, document);
        let prompt = format!("{}{middle}{}", embedding::RERANK_PREFIX, embedding::RERANK_SUFFIX);
        assert_eq!(case["text"], prompt);
    }
}

#[test]
fn pooling_and_cutting_are_what_they_say() {
    assert_eq!(embedding::mean(&[1.0, 2.0, 3.0, 6.0], 2), [2.0, 4.0]);
    assert_eq!(embedding::unit(&[3.0, 4.0, 100.0], 2), [0.6, 0.8]);
    assert_eq!(embedding::unit(&[0.0, 0.0], 2), [0.0, 0.0]);
}
