//! The predictors of the hybrids against transformers' layers, wired as vLLM wires them (`fixtures/tiny/mtp`).

use kernels::{KvFormat, Precision};
use models::{Checkpoint, Followed, LogitRows, Predictor};
use safetensors::SafeTensors;

use crate::goldens::{EXACT_RELATIVE_MAX, EXACT_WORST_MAX, check_logits};
use crate::truth::{Runner, best, fixtures, ids, json, tensor};

/// Blocks of the tiny models' caches.
const BLOCKS: u32 = 8;

struct Guessing {
    runner: Runner,
    predictor: Predictor,
}

impl Guessing {
    fn of(family: &str) -> Self {
        let runner = Runner::open(&format!("tiny/{family}"), Precision::Exact, None);
        let checkpoint = Checkpoint::open(&fixtures().join("tiny").join(family)).unwrap();
        assert!(Predictor::is_in(&checkpoint));
        let predictor = Predictor::load(&runner.cpu, &checkpoint, Precision::Exact, KvFormat::F32, BLOCKS).unwrap();
        Self { runner, predictor }
    }

    /// Computes some tokens of a sequence and lets the predictor follow them; `next` comes behind the last.
    fn step(&mut self, tokens: &[u32], first: usize, next: u32, most: usize) -> Vec<u32> {
        self.runner.step(tokens, first, LogitRows::None);
        let next = tokens[1..].iter().copied().chain([next]).collect();
        let blocks: Vec<u32> = (0..BLOCKS).collect();
        let rows = 0..tokens.len();
        let followed = Followed { rows, next, first_position: first, blocks: &blocks, places: None, most };
        let (model, cpu) = (&self.runner.model, &self.runner.cpu);
        model.predict(cpu, &mut self.predictor, &self.runner.workspace, &[followed]).remove(0)
    }
}

fn prompt_of(family: &str) -> Vec<u32> {
    let golden = json(&format!("tiny/{family}/golden.json"));
    let cases = golden["cases"].as_array().unwrap();
    ids(&cases.iter().find(|case| case["name"] == "chat").unwrap()["input_ids"])
}

#[test]
fn every_row_says_what_the_reference_says() {
    let bytes = std::fs::read(fixtures().join("tiny/mtp/golden.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for family in ["qwen3_next", "qwen3_5", "qwen3_5_moe"] {
        let truth = tensor(&tensors, &format!("{family}.logits"));
        let prompt = prompt_of(family);
        let mut guessing = Guessing::of(family);
        // One row at a time, and all before the last at once: the cache holds what a pass over all would have seen.
        for (row, expected) in truth.chunks_exact(512).enumerate() {
            let guess = guessing.step(&prompt[row..=row], row, prompt[row + 1], 1);
            check_logits(
                &format!("{family} row {row}"),
                guessing.predictor.logits(),
                expected,
                EXACT_RELATIVE_MAX * 2.0,
                EXACT_WORST_MAX,
            );
            assert_eq!(guess, [best(expected)]);
        }
        let mut at_once = Guessing::of(family);
        let last = prompt.len() - 1;
        at_once.step(&prompt[..last], 0, prompt[last], 1);
        let expected = &truth[truth.len() - 512..];
        check_logits(family, at_once.predictor.logits(), expected, EXACT_RELATIVE_MAX * 2.0, EXACT_WORST_MAX);
    }
}

#[test]
fn further_guesses_follow_from_the_first_and_leave_no_trace() {
    let prompt = prompt_of("qwen3_5");
    let last = prompt.len() - 1;
    let mut guessing = Guessing::of("qwen3_5");
    let three = guessing.step(&prompt[..last], 0, prompt[last], 3);
    assert_eq!(three.len(), 3);
    let mut again = Guessing::of("qwen3_5");
    assert_eq!(again.step(&prompt[..last], 0, prompt[last], 1), three[..1]);
    // What is said next is another token than was guessed.
    let other = (three[0] + 1) % 480;
    assert_eq!(guessing.step(&prompt[last..], last, other, 2), again.step(&prompt[last..], last, other, 2));
    let none = guessing.step(&[other], last + 1, 7, 0);
    assert!(none.is_empty());
}
