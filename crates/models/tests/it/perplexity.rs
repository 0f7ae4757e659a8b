//! What rounding costs the built-in model on texts that it was not trained on, and that it says the same everywhere.

use std::num::NonZeroUsize;
use std::path::Path;

use kernels::{Isa, KvFormat, Precision};
use models::convert::{Container, Order, Recipe, convert};
use models::divergence::{Divergence, Summary};
use models::{Checkpoint, LogitRows};
use tokenizers::Tokenizer;

use crate::truth::{Runner, best, fixtures};

const WINDOW: usize = 256;
/// How far perplexity may move, as a share, over all of the text: one in a thousand.
const SHARE_MAX: f64 = 1e-3;
/// The gap to the second choice below which rounding may change a greedy token.
const MARGIN_MIN: f32 = 0.25;

/// Conversations of the kind that the model was trained on, with tools that training never saw.
fn windows() -> Vec<Vec<u32>> {
    let tokenizer = Tokenizer::from_file(fixtures().join("nano/tokenizer.json")).unwrap();
    let text = std::fs::read_to_string(fixtures().join("nano/held_out.txt")).unwrap();
    let ids = tokenizer.encode(text, false).unwrap();
    let windows: Vec<Vec<u32>> = ids.get_ids().chunks_exact(WINDOW).map(<[u32]>::to_vec).collect();
    assert!(windows.len() > 60, "the text has {} windows", windows.len());
    windows
}

/// The built-in model in one of the mixes of `sampan model quantize`.
fn quantised(folder: &Path, recipe: Recipe) -> String {
    let mut checkpoint = Checkpoint::open(&fixtures().join("nano")).unwrap();
    checkpoint.text.tokenizer = None;
    let out = folder.join(format!("{recipe:?}.gguf"));
    let threads = NonZeroUsize::new(2).unwrap();
    let order = Order {
        name: "nano",
        out: &out,
        container: Container::Gguf,
        recipe,
        importance: None,
        threads,
        shard_bytes_max: u64::MAX,
    };
    convert(&checkpoint, &order, &mut |_, _| {}).unwrap();
    out.to_str().unwrap().to_owned()
}

/// Logits of all windows; `is_prompt` says as what the tokens count.
fn read(runner: &mut Runner, windows: &[Vec<u32>], is_prompt: bool) -> Vec<Vec<f32>> {
    runner.prompt_until = if is_prompt { usize::MAX } else { 0 };
    windows.iter().map(|window| runner.logits(window, 64)).collect()
}

fn compared(windows: &[Vec<u32>], exact: &[Vec<f32>], found: &[Vec<f32>]) -> Summary {
    let mut divergence = Divergence::default();
    for ((window, exact), found) in windows.iter().zip(exact).zip(found) {
        let vocabulary = exact.len() / WINDOW;
        let rows = exact.chunks_exact(vocabulary).zip(found.chunks_exact(vocabulary));
        rows.zip(&window[1..]).for_each(|((exact, found), next)| divergence.add(exact, found, *next));
    }
    divergence.summary().unwrap()
}

fn check(what: &str, summary: &Summary) {
    let share = summary.after / summary.before - 1.0;
    assert!(share.abs() < SHARE_MAX, "{what}: perplexity moved by {share:+.5}, {summary:?}");
}

#[test]
fn quantised_weights_cost_no_more_than_their_dequantised_values() {
    let (folder, windows) = (tempfile::tempdir().unwrap(), windows());
    for recipe in [Recipe::Q8_0, Recipe::Q4_0, Recipe::Q4KM, Recipe::Q6K] {
        let path = quantised(folder.path(), recipe);
        let exact = read(&mut Runner::open(&path, Precision::Exact, None), &windows, true);
        let mut fast = Runner::open(&path, Precision::Fast, None);
        for is_prompt in [true, false] {
            let found = read(&mut fast, &windows, is_prompt);
            check(&format!("{recipe:?}, prompt {is_prompt}"), &compared(&windows, &exact, &found));
        }
    }
}

#[test]
fn keys_and_values_in_int8_cost_next_to_nothing() {
    let windows = windows();
    let exact = read(&mut Runner::open("nano", Precision::Exact, None), &windows, true);
    for format in [KvFormat::Bf16, KvFormat::Int8] {
        let found = read(&mut Runner::with_kv("nano", Precision::Exact, None, format), &windows, true);
        check(&format!("{format:?}"), &compared(&windows, &exact, &found));
    }
}

#[test]
fn every_isa_continues_alike_where_the_choice_is_clear() {
    let folder = tempfile::tempdir().unwrap();
    let prompts: Vec<Vec<u32>> = windows().iter().step_by(20).map(|window| window[..48].to_vec()).collect();
    let mut paths = vec!["nano".to_owned()];
    paths.extend([Recipe::Q8_0, Recipe::Q4_0, Recipe::Q4KM].map(|recipe| quantised(folder.path(), recipe)));
    let mut certain = 0;
    for path in paths {
        let mut exact = Runner::open(&path, Precision::Exact, Some(Isa::Scalar));
        let truths: Vec<Vec<u32>> = prompts.iter().map(|prompt| clear_choices(&mut exact, prompt)).collect();
        for isa in Isa::available() {
            let mut fast = Runner::open(&path, Precision::Fast, Some(isa));
            for (prompt, truth) in prompts.iter().zip(&truths) {
                let found = fast.greedy(prompt, truth.len().max(1), &[]);
                assert_eq!(found[..truth.len()], truth[..], "{path} on {isa:?}");
                certain += truth.len();
            }
        }
    }
    assert!(certain > 100, "only {certain} choices were clear");
}

/// The greedy continuation, up to the first choice that rounding may change.
fn clear_choices(runner: &mut Runner, prompt: &[u32]) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    let mut chosen = Vec::new();
    while chosen.len() < 32 {
        let first = if chosen.is_empty() { 0 } else { tokens.len() - 1 };
        let logits = runner.step(&tokens[first..], first, LogitRows::Last);
        let next = best(&logits);
        let gap = |at: usize| logits[next as usize] - logits[at];
        if (0..logits.len()).any(|at| at != next as usize && gap(at) < MARGIN_MIN) {
            break;
        }
        chosen.push(next);
        tokens.push(next);
    }
    chosen
}
