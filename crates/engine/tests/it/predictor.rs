//! Models that guess for themselves: the answers stay what they are, and good guesses are taken.

use std::path::Path;

use base::Rng;
use chat::GenerateRequest;
use engine::{Engine, Options};
use futures::future::join_all;
use serde_json::Value;

use crate::harness::{answer, continuation, fixture, prompt, start, start_at};

/// Prompts of several lengths, greedy and drawn.
fn requests() -> Vec<GenerateRequest> {
    let mut rng = Rng::seeded(31);
    let request = |index: u64| {
        let length = 1 + rng.below(300) as usize;
        let mut request = continuation(prompt(&mut rng, length), 50);
        if index % 2 == 1 {
            request.sampling.temperature = Some(0.8);
            request.sampling.seed = Some(index);
        }
        request.logprobs = Some(1);
        request
    };
    (0..8).map(request).collect()
}

async fn alone(engine: &Engine, requests: &[GenerateRequest]) -> Vec<chat::Answer> {
    let mut answers = Vec::new();
    for request in requests {
        answers.push(answer(engine, request.clone()).await);
    }
    answers
}

fn plain() -> Options {
    Options { guesses: false, ..Options::default() }
}

#[tokio::test]
async fn a_models_own_predictor_changes_no_answer() {
    for family in ["tiny/qwen3_next", "tiny/qwen3_5", "tiny/qwen3_5_moe"] {
        let requests = requests();
        let expected = alone(&start(family, plain()), &requests).await;
        let guessing = start(family, Options::default());
        assert_eq!(alone(&guessing, &requests).await, expected, "{family}");
        let (guessed, right) = guessing.guesses();
        assert!(guessed > 0 && right <= guessed, "{family}: {right} of {guessed}");
        let guessing = start(family, Options::default());
        let together = join_all(requests.iter().map(|request| answer(&guessing, request.clone()))).await;
        assert_eq!(together, expected, "{family}, together");
    }
}

/// A model whose next token follows from the last alone, with a predictor that knows how.
fn sure(folder: &Path) {
    let from = fixture("tiny/qwen3_5");
    for entry in std::fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let range = |name: &str| {
        let offsets = &tensors[name]["data_offsets"];
        let [from, to] = [0, 1].map(|at| 8 + header + offsets[at].as_u64().unwrap() as usize);
        from..to
    };
    // No layer adds anything.
    let adds =
        |name: &&String| ["o_proj.weight", "out_proj.weight", "down_proj.weight"].iter().any(|end| name.ends_with(end));
    for name in tensors.as_object().unwrap().keys().filter(adds).filter(|name| !name.contains("visual")) {
        bytes[range(name)].fill(0);
    }
    // The predictor passes the embedding on, and has the model's last norm.
    bytes[range("mtp.pre_fc_norm_embedding.weight")].fill(0);
    let join = range("mtp.fc.weight");
    bytes[join.clone()].fill(0);
    for row in 0..64 {
        let at = join.start + 2 * (row * 128 + row);
        bytes[at..at + 2].copy_from_slice(&0x3F80_u16.to_le_bytes());
    }
    let norm = bytes[range("model.language_model.norm.weight")].to_vec();
    bytes[range("mtp.norm.weight")].copy_from_slice(&norm);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_predictor_that_is_right_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    sure(folder.path());
    let requests: Vec<GenerateRequest> = requests().into_iter().step_by(2).collect();
    let expected = alone(&start_at(folder.path(), plain()), &requests).await;
    let guessing = start_at(folder.path(), Options::default());
    assert_eq!(alone(&guessing, &requests).await, expected);
    let (guessed, right) = guessing.guesses();
    // What is not right was asked for behind the last token of an answer, or is a tie.
    assert!(right > 50 && right * 10 >= guessed * 9, "{right} of {guessed}");
}
