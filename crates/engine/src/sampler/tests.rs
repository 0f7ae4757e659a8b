use serde_json::Value;

use super::{Sampler, Settings};
use chat::Sampling;
use models::text::GenerationDefaults;

/// f32 softmax against f32 softmax: a few units in the last place.
const PROBABILITY_TOLERANCE: f64 = 2e-6;

fn numbers<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    value.as_array().unwrap().iter().map(|item| read(item).unwrap()).collect()
}

fn settings_of(json: &Value) -> Settings {
    let float = |name: &str| json[name].as_f64().map(|number| number as f32);
    let sampling = Sampling {
        temperature: float("temperature"),
        top_k: json["top_k"].as_u64().map(|top_k| top_k as u32),
        top_p: float("top_p"),
        min_p: float("min_p"),
        repetition_penalty: float("repetition_penalty"),
        presence_penalty: float("presence_penalty"),
        frequency_penalty: float("frequency_penalty"),
        ..Sampling::default()
    };
    Settings::new(&sampling, &GenerationDefaults::default())
}

#[test]
fn every_distribution_equals_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/sampling.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 32);
    for (index, case) in cases.iter().enumerate() {
        let logits = numbers(&case["logits"], |item| item.as_f64().map(|logit| logit as f32));
        let ids = |name: &str| numbers(&case[name], |item| item.as_u64().map(|id| id as u32));
        let mut sampler = Sampler::new(settings_of(&case["settings"]), 1, &ids("prompt_ids"));
        ids("output_ids").into_iter().for_each(|token| sampler.record(token));
        let mut found = vec![0.0; logits.len()];
        for candidate in sampler.distribution(&logits) {
            found[candidate.token as usize] = f64::from(candidate.probability);
        }
        let expected = numbers(&case["probabilities"], Value::as_f64);
        for (token, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let settings = &case["settings"];
            assert!(
                (found - expected).abs() <= PROBABILITY_TOLERANCE && (*found > 0.0) == (*expected > 0.0),
                "case {index} {settings}: token {token} has {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn draws_follow_the_distribution_and_the_seed() {
    let logits = [2.0, 1.0, 0.0, -1.0, f32::NEG_INFINITY];
    let settings = settings_of(&serde_json::json!({}));
    let draws = |seed: u64| -> Vec<u32> {
        let mut sampler = Sampler::new(settings.clone(), seed, &[]);
        (0..20_000).map(|_| sampler.draw(&logits)).collect()
    };
    let drawn = draws(3);
    assert_eq!(drawn, draws(3));
    assert_ne!(drawn, draws(4));
    let mut sampler = Sampler::new(settings.clone(), 0, &[]);
    for candidate in sampler.distribution(&logits).to_vec() {
        let times = drawn.iter().filter(|&&token| token == candidate.token).count();
        let share = times as f32 / drawn.len() as f32;
        // Four standard deviations of a share over 20,000 draws.
        assert!((share - candidate.probability).abs() < 0.015, "{candidate:?}, drawn {share}");
    }
}

#[test]
fn a_large_nucleus_needs_no_sort_and_loses_nothing() {
    // A flat distribution over 10,000 tokens: the nucleus of 0.9 holds 9,000 of them.
    let logits: Vec<f32> = (0..10_000).map(|index| (index % 7) as f32 * 1e-6).collect();
    let settings = settings_of(&serde_json::json!({"top_p": 0.9}));
    let mut sampler = Sampler::new(settings, 0, &[]);
    let kept = sampler.distribution(&logits);
    assert!((8_995..=9_005).contains(&kept.len()), "{}", kept.len());
    let sum: f64 = kept.iter().map(|candidate| f64::from(candidate.probability)).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
}

#[test]
fn logit_bias_forbids_and_forces() {
    let bias = Sampling { logit_bias: vec![(0, -100.0), (2, 100.0), (999, 5.0)], ..Sampling::default() };
    let settings = Settings::new(&bias, &GenerationDefaults::default());
    let mut sampler = Sampler::new(settings, 0, &[]);
    assert!((0..200).all(|_| sampler.draw(&[9.0, 1.0, 0.0]) == 2));
}

#[test]
fn the_request_comes_before_the_model_and_the_model_before_neutral() {
    let defaults = GenerationDefaults { temperature: Some(0.6), top_k: Some(20), ..GenerationDefaults::default() };
    let request = Sampling { temperature: Some(0.0), ..Sampling::default() };
    let settings = Settings::new(&request, &defaults);
    assert!(settings.temperature.abs() < f32::EPSILON);
    assert_eq!(settings.top_k, 20);
    assert!((settings.top_p - 1.0).abs() < f32::EPSILON);
}
