//! From logits to a token.
//!
//! Order, as in Hugging Face transformers' `generate`: presence and frequency penalties and the logit bias on the raw
//! logits, repetition penalty, temperature, top-k, top-p, min-p, softmax. `fixtures/sampling.json` holds it to that.
//!
//! Cost for a vocabulary of V: one pass to copy; with top-k or top-p a partial selection, never a sort of V.

use std::collections::HashMap;

use base::Rng;
use chat::Sampling;
use models::text::GenerationDefaults;

/// The smallest number of candidates that a top-p search begins with.
const NUCLEUS_START: usize = 64;
/// By how much that search widens.
const NUCLEUS_GROWTH: usize = 8;

/// Settings with every `None` decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    logit_bias: Vec<(u32, f32)>,
}

impl Settings {
    /// The request's settings; where it says nothing the model's own, and else neutral ones.
    #[must_use]
    pub fn new(sampling: &Sampling, defaults: &GenerationDefaults) -> Self {
        Self {
            temperature: sampling.temperature.or(defaults.temperature).unwrap_or(1.0),
            top_k: sampling.top_k.or(defaults.top_k).unwrap_or(0) as usize,
            top_p: sampling.top_p.or(defaults.top_p).unwrap_or(1.0),
            min_p: sampling.min_p.or(defaults.min_p).unwrap_or(0.0),
            repetition_penalty: sampling.repetition_penalty.or(defaults.repetition_penalty).unwrap_or(1.0),
            presence_penalty: sampling.presence_penalty.unwrap_or(0.0),
            frequency_penalty: sampling.frequency_penalty.unwrap_or(0.0),
            logit_bias: sampling.logit_bias.clone(),
        }
    }
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// Its probability among the candidates.
    pub probability: f32,
}

/// Draws the tokens of one sequence.
pub struct Sampler {
    settings: Settings,
    rng: Rng,
    /// Tokens of prompt and output, and how often each was generated.
    seen: HashMap<u32, u32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler for a sequence that continues `prompt`.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, prompt: &[u32]) -> Self {
        let seen = prompt.iter().map(|&token| (token, 0)).collect();
        Self { settings, rng: Rng::seeded(seed), seen, candidates: Vec::new() }
    }

    /// Draws the next token and remembers it for the penalties.
    ///
    /// # Panics
    /// If `logits` is empty.
    pub fn draw(&mut self, logits: &[f32]) -> u32 {
        self.draw_allowed(logits, None)
    }

    /// As [`Self::draw`], but only tokens whose bit is set: token `t` is bit `t % 32` of word `t / 32`.
    ///
    /// # Panics
    /// If `logits` is empty, or no token is allowed.
    pub fn draw_allowed(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> u32 {
        self.narrow(logits, allowed);
        let token = pick(&self.candidates, self.rng.unit_f64() as f32);
        self.record(token);
        token
    }

    /// Counts a token as generated.
    pub fn record(&mut self, token: u32) {
        *self.seen.entry(token).or_insert(0) += 1;
    }

    /// The distribution that the next token is drawn from; tokens that are not listed have probability 0.
    pub fn distribution(&mut self, logits: &[f32]) -> &[Candidate] {
        self.narrow(logits, None);
        &self.candidates
    }

    /// Fills `candidates` with the tokens that are left and their probabilities.
    fn narrow(&mut self, logits: &[f32], allowed: Option<&[u32]>) {
        assert!(!logits.is_empty(), "no logits to draw from");
        let candidates = &mut self.candidates;
        candidates.clear();
        match allowed {
            None => {
                let scored = logits.iter().enumerate();
                candidates.extend(scored.map(|(token, &logit)| Candidate { token: token as u32, probability: logit }));
            }
            Some(words) => collect_allowed(logits, words, candidates),
        }
        assert!(!candidates.is_empty(), "no token is allowed");
        penalise(candidates, &self.settings, &self.seen);
        if self.settings.temperature <= 0.0 {
            let best = best_of(candidates);
            candidates.clear();
            candidates.push(Candidate { token: best, probability: 1.0 });
            return;
        }
        let inverse = 1.0 / self.settings.temperature;
        candidates.iter_mut().for_each(|candidate| candidate.probability *= inverse);
        keep_top_k(candidates, self.settings.top_k);
        softmax(candidates);
        keep_top_p(candidates, self.settings.top_p);
        keep_min_p(candidates, self.settings.min_p);
    }
}

/// The allowed tokens, by id.
fn collect_allowed(logits: &[f32], words: &[u32], candidates: &mut Vec<Candidate>) {
    for (first, &word) in (0..).step_by(32).zip(words) {
        let mut left = word;
        while left != 0 {
            let token = first + left.trailing_zeros();
            left &= left - 1;
            if let Some(&probability) = logits.get(token as usize) {
                candidates.push(Candidate { token, probability });
            }
        }
    }
}

/// The candidate of a token, while they are sorted by token.
fn find(candidates: &mut [Candidate], token: u32) -> Option<&mut Candidate> {
    // All tokens, as a rule: then each stands at its own place.
    let place = match candidates.get(token as usize) {
        Some(candidate) if candidate.token == token => token as usize,
        Some(_) | None => candidates.binary_search_by_key(&token, |candidate| candidate.token).ok()?,
    };
    candidates.get_mut(place)
}

/// While narrowing, `probability` holds the logit.
fn penalise(candidates: &mut [Candidate], settings: &Settings, seen: &HashMap<u32, u32>) {
    for (&token, &times) in seen.iter().filter(|&(_, &times)| times > 0) {
        if let Some(candidate) = find(candidates, token) {
            candidate.probability -= settings.presence_penalty + settings.frequency_penalty * times as f32;
        }
    }
    for &(token, bias) in &settings.logit_bias {
        if let Some(candidate) = find(candidates, token) {
            candidate.probability += bias;
        }
    }
    let penalty = settings.repetition_penalty;
    for &token in seen.keys() {
        if let Some(candidate) = find(candidates, token) {
            let logit = candidate.probability;
            candidate.probability = if logit > 0.0 { logit / penalty } else { logit * penalty };
        }
    }
}

/// The most likely token; the lower id of equals.
fn best_of(candidates: &[Candidate]) -> u32 {
    let mut best = candidates[0];
    for candidate in candidates {
        if candidate.probability > best.probability {
            best = *candidate;
        }
    }
    best.token
}

fn by_probability(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.probability.total_cmp(&a.probability).then(a.token.cmp(&b.token))
}

/// Keeps the `k` best and everything that equals the last of them.
fn keep_top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k == 0 || k >= candidates.len() {
        return;
    }
    candidates.select_nth_unstable_by(k - 1, by_probability);
    let least = candidates[k - 1].probability;
    let mut kept = k;
    for index in k..candidates.len() {
        if candidates[index].probability >= least {
            candidates.swap(kept, index);
            kept += 1;
        }
    }
    candidates.truncate(kept);
    candidates.sort_unstable_by(by_probability);
}

fn softmax(candidates: &mut [Candidate]) {
    let most = candidates.iter().map(|candidate| candidate.probability).fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0_f64;
    for candidate in candidates.iter_mut() {
        candidate.probability = (candidate.probability - most).exp();
        sum += f64::from(candidate.probability);
    }
    scale(candidates, sum);
}

fn scale(candidates: &mut [Candidate], sum: f64) {
    let inverse = (1.0 / sum) as f32;
    candidates.iter_mut().for_each(|candidate| candidate.probability *= inverse);
}

/// Keeps the smallest set of best tokens whose probabilities reach `p`, at least one.
fn keep_top_p(candidates: &mut Vec<Candidate>, p: f32) {
    if p >= 1.0 {
        return;
    }
    let mut sorted = NUCLEUS_START.min(candidates.len());
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted - 1, by_probability);
        }
        candidates[..sorted].sort_unstable_by(by_probability);
        let mut sum = 0.0_f64;
        let reached = candidates[..sorted].iter().position(|candidate| {
            sum += f64::from(candidate.probability);
            sum >= f64::from(p)
        });
        // Each round looks at eight times as many, so this ends after log8(V) rounds.
        match reached {
            Some(last) => {
                candidates.truncate(last + 1);
                return scale(candidates, sum);
            }
            None if sorted == candidates.len() => return,
            None => sorted = (sorted * NUCLEUS_GROWTH).min(candidates.len()),
        }
    }
}

/// Keeps the tokens with at least this fraction of the best one's probability.
fn keep_min_p(candidates: &mut Vec<Candidate>, fraction: f32) {
    if fraction <= 0.0 {
        return;
    }
    let most = candidates.iter().map(|candidate| candidate.probability).fold(0.0, f32::max);
    candidates.retain(|candidate| candidate.probability >= fraction * most);
    let sum = candidates.iter().map(|candidate| f64::from(candidate.probability)).sum();
    scale(candidates, sum);
}

/// The candidate at `point` of the cumulated probabilities; rounding at the end falls to the last one.
fn pick(candidates: &[Candidate], point: f32) -> u32 {
    let mut sum = 0.0;
    for candidate in candidates {
        sum += candidate.probability;
        if point < sum {
            return candidate.token;
        }
    }
    let possible = candidates.iter().rev().find(|candidate| candidate.probability > 0.0);
    possible.unwrap_or(&candidates[0]).token
}

#[cfg(test)]
mod tests;
