//! Several models in one process: loaded on demand, kept, evicted; and those that embed and rank.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Clock, ManualClock, RequestId, Rng};
use chat::{
    Embed as _, EmbedInput, EmbedRequest, Error, Generate as _, KeepAlive, Manage as _, ModelState, Prompt,
    RerankRequest,
};
use engine::{Entry, Fleet, Machine, Options, Source};
use futures::StreamExt as _;
use futures::future::join_all;
use kernels::{Cpu, CpuOptions, Precision};
use serde_json::Value;

use crate::harness::{continuation, eventually};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn entry(name: &str, path: &Path) -> Entry {
    Entry { name: name.to_owned(), source: Source::Path(path.to_owned()), is_optional: false }
}

fn tiny(name: &str) -> Entry {
    entry(name, &fixtures().join("tiny").join(name))
}

fn fleet(entries: Vec<Entry>, memory_bytes: u64) -> (Fleet, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::starting_at(1_000_000));
    let options = CpuOptions { isa: None, threads: std::num::NonZeroUsize::MIN, is_pinned: false };
    let machine = Machine {
        cpu: Arc::new(Cpu::new(options).unwrap()),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        options: Options { kv_bytes: 1 << 20, precision: Precision::Exact, ..Options::default() },
        memory_bytes,
        weight_cache: None,
        keep_alive: KeepAlive::UntilNeeded,
    };
    let aliases = [("also".to_owned(), entries[0].name.clone())];
    (Fleet::new(entries, &aliases, machine).unwrap(), clock)
}

const PLENTY: u64 = 1 << 33;

fn state(fleet: &Fleet, name: &str) -> ModelState {
    fleet.statuses().into_iter().find(|status| status.card.id == name).unwrap().state
}

fn ask(model: &str, count: u32) -> chat::GenerateRequest {
    let mut request = continuation(vec![1, 2, 3], count);
    request.model = model.to_owned();
    request
}

#[tokio::test]
async fn many_at_once_load_a_model_once_and_an_alias_is_the_model() {
    let (fleet, _) = fleet(vec![tiny("qwen3_dense"), tiny("qwen3_moe")], PLENTY);
    assert_eq!(state(&fleet, "qwen3_dense"), ModelState::OnDisk);
    let names = ["qwen3_dense", "also"].into_iter().cycle().take(20);
    let answers = join_all(names.map(async |name| {
        chat::collect(fleet.generate(ask(name, 4)).await.unwrap()).await.unwrap().finish.usage.output_tokens
    }));
    assert_eq!(answers.await, vec![4; 20]);
    let status = &fleet.statuses()[0];
    assert_eq!((&status.state, status.aliases.as_slice()), (&ModelState::Loaded, ["also".to_owned()].as_slice()));
    assert_eq!((status.prompt_tokens, status.output_tokens), (60, 80));
    // What is kept for the next prompt are whole blocks.
    let mut long = ask("also", 1);
    long.prompt = Prompt::Tokens(vec![1; 100]);
    chat::collect(fleet.generate(long).await.unwrap()).await.unwrap();
    let status = &fleet.statuses()[0];
    assert!(status.kv_used_bytes > 0 && status.kv_used_bytes <= status.kv_max_bytes);
    assert_eq!(state(&fleet, "qwen3_moe"), ModelState::OnDisk, "nobody asked for it");
    let unknown = fleet.generate(ask("nobody", 1)).await.err().unwrap();
    assert!(matches!(unknown, Error::UnknownModel { .. }));
}

#[tokio::test]
async fn a_model_in_use_stays_and_an_idle_one_makes_room() {
    let (probe, _) = fleet(vec![tiny("qwen3_dense")], PLENTY);
    probe.load("qwen3_dense", None).await.unwrap();
    let status = &probe.statuses()[0];
    let one = (status.weights_bytes + status.kv_max_bytes).max(status.card.facts.size_bytes + status.kv_max_bytes);
    let copies = ["a", "b"].map(|name| entry(name, &fixtures().join("tiny/qwen3_dense")));
    let (fleet, clock) = fleet(copies.to_vec(), one * 3 / 2);
    let mut running = fleet.generate(ask("a", 200)).await.unwrap();
    running.next().await.unwrap().unwrap();
    let waits = fleet.clone();
    let waiting = tokio::spawn(async move { waits.load("b", None).await });
    eventually("the second waits", || fleet.statuses()[1].waiting == 1).await;
    assert_eq!((state(&fleet, "a"), state(&fleet, "b")), (ModelState::Loaded, ModelState::OnDisk));
    drop(running);
    waiting.await.unwrap().unwrap();
    assert_eq!((state(&fleet, "a"), state(&fleet, "b")), (ModelState::OnDisk, ModelState::Loaded));
    // Whoever waits for too long is told why.
    let _running = fleet.generate(ask("b", 200)).await.unwrap();
    let waits = fleet.clone();
    let waiting = tokio::spawn(async move { waits.load("a", None).await });
    eventually("the first waits", || fleet.statuses()[0].waiting == 1).await;
    clock.advance_ms(61_000);
    fleet.tick();
    let error = waiting.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("\"a\"") && error.contains("busy"), "{error}");
}

#[tokio::test]
async fn a_model_too_large_for_the_memory_is_refused_with_both_numbers() {
    let (fleet, _) = fleet(vec![tiny("qwen3_dense")], 1000);
    let error = fleet.load("qwen3_dense", None).await.unwrap_err().to_string();
    assert!(error.contains("there are 1000"), "{error}");
}

#[tokio::test]
async fn time_and_wishes_end_a_stay() {
    let (fleet, clock) = fleet(vec![tiny("qwen3_dense"), tiny("qwen3_moe")], PLENTY);
    fleet.load("also", Some(KeepAlive::Milliseconds(5000))).await.unwrap();
    fleet.load("qwen3_moe", Some(KeepAlive::Forever)).await.unwrap();
    assert_eq!(fleet.statuses()[0].expires_ms, Some(1_005_000));
    clock.advance_ms(4999);
    fleet.tick();
    assert_eq!(state(&fleet, "qwen3_dense"), ModelState::Loaded);
    clock.advance_ms(1);
    fleet.tick();
    assert_eq!(state(&fleet, "qwen3_dense"), ModelState::OnDisk);
    clock.advance_ms(1 << 40);
    fleet.tick();
    assert_eq!(state(&fleet, "qwen3_moe"), ModelState::Loaded);
    let running = fleet.generate(ask("qwen3_moe", 50)).await.unwrap();
    let unloads = fleet.clone();
    let unloading = tokio::spawn(async move { unloads.unload("qwen3_moe").await });
    let whole = chat::collect(running).await.unwrap();
    assert_eq!(whole.finish.usage.output_tokens, 50, "the running answer was finished first");
    unloading.await.unwrap().unwrap();
    assert_eq!(state(&fleet, "qwen3_moe"), ModelState::OnDisk);
}

#[tokio::test]
async fn a_load_that_fails_is_told_to_all_who_wait_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    for file in
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    {
        std::fs::copy(fixtures().join("tiny/qwen3_dense").join(file), folder.path().join(file)).unwrap();
    }
    let (fleet, _) = fleet(vec![entry("m", folder.path())], PLENTY);
    let weights = folder.path().join("model.safetensors");
    std::fs::rename(&weights, folder.path().join("away")).unwrap();
    for error in join_all((0..8).map(|_| fleet.load("m", None))).await {
        let error = error.unwrap_err();
        assert!(matches!(&error, Error::NotLoaded { model, .. } if model == "m"), "{error}");
    }
    assert!(matches!(state(&fleet, "m"), ModelState::Failed { reason } if reason.contains("safetensors")));
    std::fs::rename(folder.path().join("away"), &weights).unwrap();
    fleet.load("m", None).await.unwrap();
}

fn texts(model: &str, texts: &[&str], instruction: Option<&str>) -> EmbedRequest {
    EmbedRequest {
        id: RequestId::random(&mut Rng::seeded(1)),
        caller: None,
        model: model.to_owned(),
        inputs: texts.iter().map(|&text| EmbedInput::Text(text.to_owned())).collect(),
        instruction: instruction.map(str::to_owned),
        dimensions: None,
        truncate: false,
    }
}

fn golden(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join(path)).unwrap()).unwrap()
}

#[tokio::test]
async fn vectors_and_scores_are_the_reference_ones() {
    let (fleet, _) = fleet(vec![tiny("qwen3_embedding"), tiny("qwen3_reranker"), tiny("bert")], PLENTY);
    let ids = |cards: Vec<chat::ModelCard>| cards.into_iter().map(|card| card.id).collect::<Vec<_>>();
    assert_eq!(ids(fleet.embedding_models()), ["qwen3_embedding", "bert"]);
    assert_eq!(ids(fleet.reranking_models()), ["qwen3_reranker"]);
    assert!(fleet.models().is_empty());
    chat::testing::embed_conformance(&fleet).await;
    let bert = golden("tiny/bert/golden.json");
    let cases: Vec<&Value> = bert["cases"].as_array().unwrap().iter().collect();
    let words: Vec<&str> = cases.iter().map(|case| case["text"].as_str().unwrap()).collect();
    let found = fleet.embed(texts("bert", &words, None)).await.unwrap();
    for (vector, case) in found.vectors.iter().zip(&cases) {
        for (found, truth) in vector.iter().zip(case["vector"].as_array().unwrap()) {
            assert!((f64::from(*found) - truth.as_f64().unwrap()).abs() < 1e-5, "{}", case["text"]);
        }
    }
    let reranker = golden("tiny/qwen3_reranker/golden.json");
    for case in reranker["rerank"].as_array().unwrap() {
        let [query, document] = ["query", "document"].map(|field| case[field].as_str().unwrap().to_owned());
        let id = RequestId::random(&mut Rng::seeded(1));
        let model = "qwen3_reranker".to_owned();
        let request = RerankRequest { id, caller: None, model, query, documents: vec![document], instruction: None };
        let score = fleet.rerank(request).await.unwrap().scores[0];
        // Keys and values are BF16 here.
        assert!((f64::from(score) - case["score"].as_f64().unwrap()).abs() < 5e-3, "{case}: {score}");
    }
    let wrong = fleet.embed(texts("qwen3_reranker", &["a"], None)).await.unwrap_err().to_string();
    assert!(wrong.contains("ranking documents"), "{wrong}");
}

#[tokio::test]
async fn a_long_text_is_computed_in_pieces_cut_where_allowed_and_an_instruction_changes_the_vector() {
    let (fleet, _) = fleet(vec![tiny("qwen3_embedding"), tiny("bert")], PLENTY);
    let long = "a boat ".repeat(600);
    let both = fleet.embed(texts("qwen3_embedding", &[&long, "a boat"], None)).await.unwrap();
    assert!(both.prompt_tokens > 1000);
    assert_eq!(fleet.embed(texts("qwen3_embedding", &["a boat"], None)).await.unwrap().vectors[0], both.vectors[1]);
    let told = fleet.embed(texts("qwen3_embedding", &["a boat"], Some("Find boats"))).await.unwrap();
    assert!(told.vectors[0] != both.vectors[1]);
    let too_long = fleet.embed(texts("bert", &[&long], None)).await.unwrap_err();
    assert!(matches!(too_long, Error::PromptTooLong { .. }), "{too_long}");
    let cut = EmbedRequest { truncate: true, ..texts("bert", &[&long], None) };
    assert!(fleet.embed(cut).await.is_ok());
    let strange = EmbedRequest { inputs: vec![EmbedInput::Tokens(vec![1 << 30])], ..texts("bert", &["a"], None) };
    assert!(matches!(fleet.embed(strange).await, Err(Error::UnknownToken { .. })));
}

#[tokio::test]
async fn a_model_comes_while_others_are_served() {
    let (fleet, _) = fleet(vec![tiny("qwen3_dense")], PLENTY);
    let running = fleet.generate(ask("qwen3_dense", 4)).await.unwrap();
    assert!(matches!(fleet.generate(ask("new", 2)).await, Err(Error::UnknownModel { .. })));
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixtures().join("tiny/qwen3_moe")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    fleet.add(entry("new", folder.path())).unwrap();
    assert_eq!(fleet.models().iter().map(|card| card.id.as_str()).collect::<Vec<_>>(), ["qwen3_dense", "new"]);
    assert_eq!(state(&fleet, "new"), ModelState::OnDisk);
    let events: Vec<_> = fleet.generate(ask("new", 2)).await.unwrap().collect().await;
    assert!(events.iter().all(Result::is_ok), "{events:?}");
    let status = fleet.statuses().into_iter().find(|status| status.card.id == "new").unwrap();
    assert_eq!((status.begun, status.waited_us), (1, 0), "the clock of the test stood still");
    assert!(status.steps >= 2 && status.step_sequences == status.steps, "{status:?}");
    assert_eq!(running.collect::<Vec<_>>().await.into_iter().filter(Result::is_err).count(), 0);

    let other = fleet.add(tiny("qwen3_dense")).map(|()| fleet.models().len());
    assert_eq!(other.unwrap(), 2, "the same place is looked at again");
    for name in ["qwen3_dense", "also"] {
        let taken = fleet.add(entry(name, folder.path())).unwrap_err().to_string();
        assert!(taken.contains(name), "{taken}");
    }
    let nowhere = fleet.add(entry("nowhere", &folder.path().join("nowhere"))).unwrap_err().to_string();
    assert!(nowhere.contains("nowhere"), "{nowhere}");
    assert_eq!(fleet.statuses().len(), 2);
}
