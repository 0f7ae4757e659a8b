//! Guessing the next tokens from what was said before: prompt lookup.
//!
//! Where the last [`GRAM`] tokens of a sequence stood before, what followed them there is taken as a guess and computed
//! in the same step as the last token. Every token is drawn from its own logits by the sequence's own sampler; a guess
//! that was drawn is already computed, and the first that was not ends the step. So an answer is the same, token for
//! token, whether anything was guessed or not, by seed too.
//!
//! A guess costs a row of the step. Whoever guesses does so less, and then rests, when the guesses are wrong
//! ([`Trust`]); [`Costs`] says whether rows are cheap at the moment. A second model may guess where nothing was said
//! before (see `drafter`), or a predictor that belongs to the model.

use std::collections::HashMap;

/// Tokens that have to be the same before a guess is made.
const GRAM: usize = 3;
/// Tokens of one guess at most.
pub(crate) const GUESS_MAX: usize = 8;
/// The same of a second model's, each of which costs a step of that model.
pub(crate) const DRAFT_MAX: usize = 4;
/// The same of a model's own predictor: it was trained for one, and is less sure of each that follows.
pub(crate) const PREDICT_MAX: usize = 3;
/// What share of the guessed tokens is taken for right before anything is known.
const RATE_START: f32 = 0.6;
/// How much the last guess counts in that share.
const RATE_STEP: f32 = 0.25;
/// With a smaller share nothing is guessed for a while.
const RATE_MIN: f32 = 0.25;
/// Tokens that such a rest lasts: the first, and the longest.
const REST_MIN: u32 = 16;
const REST_MAX: u32 = 512;

/// The tokens of one sequence and where their beginnings stand.
#[derive(Debug)]
pub(crate) struct Lookup {
    tokens: Vec<u32>,
    /// Behind each run of [`GRAM`] tokens, where it stood last: the place of the token after it.
    places: HashMap<[u32; GRAM], usize>,
    /// Where the last run stood before.
    before: Option<usize>,
    /// Tokens from here on are no words and are never guessed.
    vocabulary: u32,
    trust: Trust,
}

impl Lookup {
    /// Cost: a look-up a token of the prompt.
    pub(crate) fn new(prompt: &[u32], vocabulary: usize) -> Self {
        let mut lookup = Self {
            tokens: Vec::with_capacity(prompt.len()),
            places: HashMap::new(),
            before: None,
            vocabulary: u32::try_from(vocabulary).unwrap_or(u32::MAX),
            trust: Trust::default(),
        };
        prompt.iter().for_each(|&token| lookup.push(token));
        lookup
    }

    pub(crate) fn push(&mut self, token: u32) {
        self.tokens.push(token);
        self.trust.pass();
        if let Some(last) = self.tokens.last_chunk::<GRAM>() {
            self.before = self.places.insert(*last, self.tokens.len());
        }
    }

    /// What may follow, at most so many tokens.
    pub(crate) fn guess(&self, most: usize) -> &[u32] {
        let Some(first) = self.before else { return &[] };
        let length = self.trust.length(GUESS_MAX).min(most);
        let said = &self.tokens[first..];
        let said = &said[..length.min(said.len())];
        let words = said.iter().position(|&token| token >= self.vocabulary).unwrap_or(said.len());
        &said[..words]
    }

    /// All tokens so far.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// What share of the guessed tokens is right.
    pub(crate) fn rate(&self) -> f32 {
        self.trust.rate
    }

    /// Takes note of how many of the guessed tokens were right.
    pub(crate) fn learn(&mut self, guessed: usize, right: usize) {
        self.trust.learn(guessed, right);
    }
}

/// How far whoever guesses is to be trusted with one sequence.
#[derive(Debug)]
pub(crate) struct Trust {
    rate: f32,
    rest: u32,
    rests_for: u32,
}

impl Default for Trust {
    fn default() -> Self {
        Self { rate: RATE_START, rest: 0, rests_for: REST_MIN }
    }
}

impl Trust {
    /// A token went by.
    pub(crate) fn pass(&mut self) {
        self.rest = self.rest.saturating_sub(1);
    }

    /// How many tokens to guess, at most so many; 0 while it rests.
    pub(crate) fn length(&self, most: usize) -> usize {
        if self.rest > 0 { 0 } else { ((self.rate * most as f32).ceil() as usize).clamp(1, most) }
    }

    /// What share of the guessed tokens is right.
    pub(crate) fn rate(&self) -> f32 {
        self.rate
    }

    /// Takes note of how many of the guessed tokens were right.
    pub(crate) fn learn(&mut self, guessed: usize, right: usize) {
        self.rate += RATE_STEP * (right as f32 / guessed as f32 - self.rate);
        if self.rate >= RATE_MIN {
            if right == guessed {
                self.rests_for = REST_MIN;
            }
            return;
        }
        // The next attempt is a short one.
        (self.rest, self.rate) = (self.rests_for, RATE_MIN);
        self.rests_for = (self.rests_for * 2).min(REST_MAX);
    }
}

/// Rows of a step whose time is remembered.
const ROWS_MAX: usize = 64;
/// How much the last step counts.
const COST_STEP: f32 = 0.2;
/// Every so often a guess is made although it did not pay last time: times change.
const TRY_AGAIN: u32 = 64;

/// What steps took in which nothing but next tokens was computed, by their rows; 0 where it is not known.
#[derive(Debug)]
pub(crate) struct Costs {
    us: [f32; ROWS_MAX + 1],
    /// What a token of the second model takes.
    draft_us: f32,
    declined: u32,
}

impl Default for Costs {
    fn default() -> Self {
        Self { us: [0.0; ROWS_MAX + 1], draft_us: 0.0, declined: 0 }
    }
}

impl Costs {
    pub(crate) fn note(&mut self, rows: usize, took_us: u64) {
        if let Some(us) = self.us.get_mut(rows) {
            *us = if *us > 0.0 { *us + COST_STEP * (took_us as f32 - *us) } else { took_us as f32 };
        }
    }

    /// Takes note of what the second model took for so many tokens.
    pub(crate) fn note_draft(&mut self, guessed: usize, took_us: u64) {
        let us = took_us as f32 / guessed as f32;
        self.draft_us = if self.draft_us > 0.0 { self.draft_us + COST_STEP * (us - self.draft_us) } else { us };
    }

    /// As [`Self::pays`], for tokens that the second model would have to guess first.
    pub(crate) fn pays_draft(&mut self, rows: usize, guessed: usize, rate: f32) -> bool {
        self.pays_at(rows, guessed, rate, self.draft_us * guessed as f32)
    }

    /// Whether to compute so many guessed tokens, `rate` of which are right, beside `rows` rows, one a sequence.
    pub(crate) fn pays(&mut self, rows: usize, guessed: usize, rate: f32) -> bool {
        self.pays_at(rows, guessed, rate, 0.0)
    }

    fn pays_at(&mut self, rows: usize, guessed: usize, rate: f32, before_us: f32) -> bool {
        let (Some(&without), Some(&with)) = (self.us.get(rows), self.us.get(rows + guessed)) else { return false };
        // All sequences wait for the longer step; one of them gets more tokens out of it.
        if without <= 0.0 || with <= 0.0 || rate * guessed as f32 / rows as f32 > (with + before_us) / without - 1.0 {
            return true;
        }
        self.declined += 1;
        self.declined.is_multiple_of(TRY_AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::{Costs, GUESS_MAX, Lookup, REST_MIN};

    #[test]
    fn what_followed_before_is_guessed() {
        let mut lookup = Lookup::new(&[1, 2, 3, 4, 5, 6, 7, 1, 2], 100);
        assert_eq!(lookup.guess(GUESS_MAX), [] as [u32; 0], "2 has other tokens before it");
        lookup.push(3);
        assert_eq!(lookup.guess(GUESS_MAX), [4, 5, 6, 7, 1]);
        assert_eq!(lookup.guess(2), [4, 5]);
        lookup.push(9);
        assert!(lookup.guess(GUESS_MAX).is_empty());
    }

    #[test]
    fn the_places_of_pictures_are_not_guessed() {
        assert_eq!(Lookup::new(&[1, 2, 3, 4, 500, 6, 1, 2, 3], 100).guess(GUESS_MAX), [4]);
    }

    #[test]
    fn guesses_that_are_wrong_end_and_are_tried_again() {
        let mut lookup = Lookup::new(&[1, 2, 3, 4, 5, 1, 2, 3], 100);
        let mut wrong = 0;
        while !lookup.guess(GUESS_MAX).is_empty() {
            lookup.learn(lookup.guess(GUESS_MAX).len(), 0);
            wrong += 1;
        }
        assert!((2..8).contains(&wrong), "{wrong}");
        let rest = (0..).take_while(|_| {
            [1, 2, 3].iter().for_each(|&token| lookup.push(token));
            lookup.guess(GUESS_MAX).is_empty()
        });
        assert!(rest.count() as u32 * 3 >= REST_MIN - 3);
        (0..20).for_each(|_| lookup.learn(1, 1));
        assert!(lookup.rate() > 0.9);
    }

    #[test]
    fn rows_that_cost_too_much_are_declined_but_for_now_and_then() {
        let mut costs = Costs::default();
        assert!(costs.pays(1, 4, 0.5), "nothing is known");
        costs.note(1, 10_000);
        costs.note(5, 15_000);
        assert!(costs.pays(1, 4, 0.5), "two more tokens for half a step");
        assert!(!costs.pays(1, 4, 0.1));
        costs.note(4, 10_000);
        costs.note(8, 15_000);
        assert!(!costs.pays(4, 4, 0.4), "three others wait for it");
        assert!((0..100).any(|_| costs.pays(1, 4, 0.1)));
        assert!(!costs.pays(70, 4, 1.0));
        assert!(costs.pays_draft(1, 4, 0.5), "the second model has taken no time yet");
        costs.note_draft(4, 20_000);
        assert!(!costs.pays_draft(1, 4, 0.5), "two more tokens for two and a half steps");
        assert!(costs.pays(1, 4, 0.5), "what costs nothing to guess pays as before");
    }
}
