//! Adapters by the names of models: loaded with their base, in one step with others, and apart in the cache.

use std::sync::Arc;

use base::{Clock, ManualClock};
use chat::{Answer, Error, Generate as _, GenerateRequest, KeepAlive, Manage as _};
use engine::{AdapterEntry, Entry, Extras, Fleet, Machine, Options, Source};
use futures::future::join_all;
use kernels::{Cpu, CpuOptions, KV_BLOCK_TOKENS, KvFormat, Precision};
use safetensors::SafeTensors;

use crate::harness::{continuation, fixture, prompt};

fn adapter(name: &str, base: Option<&str>) -> AdapterEntry {
    AdapterEntry { name: name.to_owned(), folder: fixture("adapters").join(name), base: base.map(str::to_owned) }
}

fn base_of(name: &str, path: &str) -> Entry {
    Entry { name: name.to_owned(), source: Source::Path(fixture(path)), is_optional: false }
}

fn fleet(adapters: Vec<AdapterEntry>) -> engine::Result<Fleet> {
    fleet_in(1 << 33, adapters)
}

fn fleet_in(memory_bytes: u64, adapters: Vec<AdapterEntry>) -> engine::Result<Fleet> {
    let options = CpuOptions { isa: None, threads: std::num::NonZeroUsize::MIN, is_pinned: false };
    let machine = Machine {
        cpu: Arc::new(Cpu::new(options).unwrap()),
        clock: Arc::new(ManualClock::default()) as Arc<dyn Clock>,
        options: Options {
            kv_bytes: 8 << 20,
            kv_format: KvFormat::F32,
            precision: Precision::Exact,
            ..Options::default()
        },
        memory_bytes,
        weight_cache: None,
        keep_alive: KeepAlive::UntilNeeded,
    };
    let entries = vec![
        base_of("qwen3_dense", "tiny/qwen3_dense"),
        base_of("nano", "nano"),
        base_of("embeds", "tiny/qwen3_embedding"),
    ];
    let extras = Extras { adapters, ..Extras::default() };
    Fleet::with_extras(entries, &[("also".to_owned(), "qwen3_dense".to_owned())], extras, machine)
}

fn of(model: &str, tokens: Vec<u32>, count: u32) -> GenerateRequest {
    let mut request = continuation(tokens, count);
    request.model = model.to_owned();
    request.logprobs = Some(0);
    request
}

async fn answer(fleet: &Fleet, request: GenerateRequest) -> Answer {
    chat::collect(fleet.generate(request).await.unwrap()).await.unwrap()
}

/// The prompt of the goldens, and the token that PEFT holds for the likeliest after it.
fn golden(name: &str) -> (Vec<u32>, u32) {
    let bytes = std::fs::read(fixture("adapters/golden.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tokens = tensors.tensor("tokens").unwrap();
    let tokens = tokens.data().chunks_exact(8).map(|id| u64::from_le_bytes(id.try_into().unwrap()) as u32).collect();
    let logits = tensors.tensor(&format!("{name}.logits")).unwrap();
    let logits: Vec<f32> =
        logits.data().chunks_exact(4).map(|number| f32::from_le_bytes(number.try_into().unwrap())).collect();
    let last = &logits[logits.len() - 512..];
    let best = (0..512_usize).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
    (tokens, best as u32)
}

#[tokio::test]
async fn every_adapter_answers_under_its_name_and_the_base_under_its_own() {
    let fleet = fleet(vec![adapter("all", None), adapter("some", Some("also"))]).unwrap();
    let names: Vec<String> = fleet.models().into_iter().map(|card| card.id).collect();
    assert_eq!(names, ["qwen3_dense", "all", "some", "nano"]);
    for (model, reference) in [("qwen3_dense", "base"), ("all", "all"), ("some", "some"), ("also", "base")] {
        let (tokens, best) = golden(reference);
        let said = answer(&fleet, of(model, tokens.clone(), 1)).await;
        assert_eq!(said.logprobs[0].chosen.token, best, "{model}");
        assert_eq!(fleet.count_tokens(of(model, tokens.clone(), 1)).await.unwrap() as usize, tokens.len());
    }
    let status = fleet.statuses().into_iter().find(|status| status.card.id == "qwen3_dense").unwrap();
    assert_eq!(status.aliases, ["also", "all", "some"]);
    let unknown = fleet.generate(of("none", vec![1], 1)).await.err();
    assert!(matches!(unknown, Some(Error::UnknownModel { .. })), "{unknown:?}");
}

#[tokio::test]
async fn requests_with_many_adapters_get_what_they_would_get_alone() {
    let adapters = || vec![adapter("all", None), adapter("some", None)];
    let mut rng = base::Rng::seeded(9);
    let request = |index: usize| {
        let length = 3 + 11 * index;
        let mut request = of(["all", "qwen3_dense", "some"][index % 3], prompt(&mut rng, length), 12);
        if index % 2 == 1 {
            (request.sampling.temperature, request.sampling.seed) = (Some(0.9), Some(index as u64));
        }
        request
    };
    let requests: Vec<GenerateRequest> = (0..9).map(request).collect();
    let one_by_one = fleet(adapters()).unwrap();
    let mut alone = Vec::new();
    for request in &requests {
        alone.push(answer(&one_by_one, request.clone()).await);
    }
    let shared = fleet(adapters()).unwrap();
    assert_eq!(join_all(requests.iter().map(|request| answer(&shared, request.clone()))).await, alone);
}

#[tokio::test]
async fn what_one_adapter_computed_serves_no_other() {
    let fleet = fleet(vec![adapter("all", None), adapter("some", None)]).unwrap();
    let tokens = prompt(&mut base::Rng::seeded(3), 3 * KV_BLOCK_TOKENS + 5);
    for model in ["qwen3_dense", "all", "some"] {
        for cached in [0, 3 * KV_BLOCK_TOKENS] {
            let usage = answer(&fleet, of(model, tokens.clone(), 2)).await.finish.usage;
            assert_eq!(usage.cached_tokens as usize, cached, "{model}");
        }
    }
}

#[test]
fn an_adapter_without_a_model_or_with_a_name_that_is_taken_is_refused() {
    let said = |adapters: Vec<AdapterEntry>| fleet(adapters).err().expect("it is refused").to_string();
    let check = |found: String, words: &[&str]| words.iter().for_each(|word| assert!(found.contains(word), "{found}"));
    check(said(vec![adapter("mixture", None)]), &["\"mixture\"", "\"tiny/qwen3_moe\""]);
    check(said(vec![adapter("all", Some("nobody"))]), &["\"all\"", "\"nobody\""]);
    check(said(vec![adapter("all", Some("embeds"))]), &["\"embeds\"", "generates no text"]);
    check(said(vec![adapter("all", None), adapter("all", None)]), &["two models", "\"all\""]);
    check(said(vec![adapter("none", None)]), &["\"none\""]);
}

#[tokio::test]
async fn an_adapter_that_does_not_fit_its_base_is_a_load_that_failed() {
    let fleet = fleet(vec![adapter("all", Some("nano"))]).unwrap();
    match fleet.generate(of("all", vec![1, 2], 1)).await.err() {
        Some(Error::NotLoaded { reason, .. }) => {
            assert!(reason.contains("\"all\"") && reason.contains("shape"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

/// What the files of an adapter take counts, also after its base was looked at again.
#[tokio::test]
async fn an_adapter_counts_in_the_memory_of_its_base() {
    let needed = async |fleet: &Fleet| {
        let refused = fleet.generate(of("qwen3_dense", vec![1], 1)).await.map(|_| ()).unwrap_err();
        refused.to_string()
    };
    let (plain, adapted) = (fleet_in(1, vec![]).unwrap(), fleet_in(1, vec![adapter("all", None)]).unwrap());
    let before = needed(&adapted).await;
    assert!(before != needed(&plain).await && before.contains("bytes"), "{before}");
    adapted.add(base_of("qwen3_dense", "tiny/qwen3_dense")).unwrap();
    assert_eq!(needed(&adapted).await, before);
}
