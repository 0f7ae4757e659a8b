//! What is drawn with guesses ahead has the law that the model's own logits say.

use std::collections::BTreeMap;

use base::Rng;
use chat::GenerateRequest;
use engine::{Engine, Options};
use futures::future::join_all;
use kernels::{KvFormat, Precision};

use crate::harness::{answer, continuation, prompt, start, start_drafted};

const FIXTURE: &str = "tiny/qwen3_dense";
/// Tokens that may come at each place; so there are `CHOICES^DEPTH` beginnings of an answer.
const CHOICES: u32 = 3;
const DEPTH: usize = 4;
/// Answers go on behind what is looked at: nothing is guessed for the last token of one.
const TOKENS: u32 = 7;
const DRAWS: u64 = 1600;
/// The tiny model is sure of itself; so hot, everything that may come does come.
const TEMPERATURE: f32 = 4.0;
/// Requests that are open at one time.
const AT_ONCE: usize = 100;
/// Cells that so few answers are expected in are counted together.
const EXPECTED_MIN: f64 = 5.0;
/// One of a thousand right laws is farther away than so many deviations of a normal variable.
const DEVIATIONS: f64 = 3.09;

/// The tokens that may come, where not the likeliest ones may.
type Among<'a> = Option<&'a [u32]>;
type Law = BTreeMap<Vec<u32>, f64>;

/// An answer that is drawn from few tokens.
fn drawn(tokens: &[u32], among: Among<'_>, seed: u64) -> GenerateRequest {
    let mut request = continuation(tokens.to_vec(), TOKENS);
    request.sampling.temperature = Some(TEMPERATURE);
    request.sampling.top_k = Some(CHOICES);
    request.sampling.seed = Some(seed);
    request.sampling.logit_bias = among.unwrap_or_default().iter().map(|&token| (token, 100.0)).collect();
    request.logprobs = Some(0);
    request
}

/// What may follow these tokens, and how likely each is among them.
async fn next(plain: &Engine, tokens: &[u32], among: Among<'_>) -> Vec<(u32, f64)> {
    let mut weighed = Vec::new();
    match among {
        None => {
            let mut request = continuation(tokens.to_vec(), 1);
            request.logprobs = Some(CHOICES);
            let found = answer(plain, request).await.logprobs.remove(0).top;
            weighed.extend(found.iter().map(|one| (one.token, weight(one.logprob))));
        }
        Some(allowed) => {
            for &token in allowed {
                // The bias forces the token; the probability is that of the logits themselves.
                let mut request = continuation(tokens.to_vec(), 1);
                request.sampling.logit_bias = vec![(token, 100.0)];
                request.logprobs = Some(0);
                let chosen = answer(plain, request).await.logprobs.remove(0).chosen;
                assert_eq!(chosen.token, token);
                weighed.push((token, weight(chosen.logprob)));
            }
        }
    }
    let all: f64 = weighed.iter().map(|(_, weight)| weight).sum();
    weighed.into_iter().map(|(token, weight)| (token, weight / all)).collect()
}

fn weight(logprob: Option<f32>) -> f64 {
    (f64::from(logprob.unwrap()) / f64::from(TEMPERATURE)).exp()
}

/// Rows of a prompt and of what is generated have the same law only where both are computed exactly.
fn exact() -> Options {
    Options { precision: Precision::Exact, kv_format: KvFormat::F32, ..Options::default() }
}

/// How likely every beginning of an answer is, by an engine that guesses nothing.
async fn law(prompt: &[u32], among: Among<'_>) -> Law {
    let plain = start(FIXTURE, Options { guesses: false, ..exact() });
    let mut law = Law::from([(Vec::new(), 1.0)]);
    for _ in 0..DEPTH {
        let mut longer = Law::new();
        for (said, share) in law {
            for (token, chance) in next(&plain, &[prompt, &said].concat(), among).await {
                longer.insert([&*said, &[token]].concat(), share * chance);
            }
        }
        law = longer;
    }
    law
}

/// How often answers began so.
async fn counts(engine: &Engine, prompt: &[u32], among: Among<'_>) -> BTreeMap<Vec<u32>, u64> {
    let mut counts = BTreeMap::new();
    let seeds: Vec<u64> = (0..DRAWS).collect();
    for seeds in seeds.chunks(AT_ONCE) {
        for answer in join_all(seeds.iter().map(|&seed| answer(engine, drawn(prompt, among, seed)))).await {
            let said = answer.logprobs.iter().take(DEPTH).map(|one| one.chosen.token).collect();
            *counts.entry(said).or_insert(0) += 1;
        }
    }
    counts
}

/// Pearson's statistic, and where the one in a thousand begins, after Wilson and Hilferty.
fn distance(counts: &BTreeMap<Vec<u32>, u64>, law: &Law) -> (f64, f64) {
    let pairs = law.iter().map(|(said, share)| (share * DRAWS as f64, *counts.get(said).unwrap_or(&0) as f64));
    let mut pairs: Vec<(f64, f64)> = pairs.collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut cells = vec![(0.0, 0.0)];
    for (expected, found) in pairs {
        match cells.last_mut() {
            Some(few) if few.0 < EXPECTED_MIN => *few = (few.0 + expected, few.1 + found),
            Some(_) | None => cells.push((expected, found)),
        }
    }
    let statistic = cells.iter().map(|(expected, found)| (found - expected).powi(2) / expected).sum();
    let freedom = (cells.len() - 1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    (statistic, freedom * (1.0 - spread + DEVIATIONS * spread.sqrt()).powi(3))
}

async fn check(engine: Engine, prompt: &[u32], among: Among<'_>) {
    let law = law(prompt, among).await;
    let counts = counts(&engine, prompt, among).await;
    let (guessed, right) = engine.guesses();
    assert!(right > DRAWS / 4 && guessed - right > DRAWS / 4, "both kinds of guesses: {right} of {guessed} were right");
    assert!(counts.keys().all(|said| law.contains_key(said)), "every answer was possible");
    let (statistic, bound) = distance(&counts, &law);
    assert!(statistic < bound, "{statistic} is beyond {bound}");
    let flat = law.keys().map(|said| (said.clone(), 1.0 / law.len() as f64)).collect();
    let (statistic, bound) = distance(&counts, &flat);
    assert!(statistic > bound, "so many draws tell the law from a flat one: {statistic} and {bound}");
}

#[tokio::test]
async fn prompt_lookup_draws_by_the_law_of_the_logits() {
    let alphabet = [17, 101, 330];
    // Whatever is said, it was said before: every run of three tokens stands in the prompt.
    let mut said = prompt(&mut Rng::seeded(1), 5);
    let mut rng = Rng::seeded(2);
    said.extend((0..150).map(|_| alphabet[rng.below(3) as usize]));
    check(start(FIXTURE, exact()), &said, Some(&alphabet)).await;
}

#[tokio::test]
async fn a_draft_model_leaves_the_law_of_the_logits() {
    let said = prompt(&mut Rng::seeded(3), 12);
    check(start_drafted(FIXTURE, FIXTURE, exact()).unwrap(), &said, None).await;
}
