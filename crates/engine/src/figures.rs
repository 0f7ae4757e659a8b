//! What an engine is doing and has done since it started, for whoever looks on.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Written by the worker after every step, read by anybody. Single numbers are right; together they may be of two
/// steps.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) running: Count,
    pub(crate) waiting: Count,
    pub(crate) blocks_used: Count,
    pub(crate) blocks_held: Count,
    pub(crate) begun: Count,
    pub(crate) waited_us: Count,
    pub(crate) steps: Count,
    pub(crate) step_sequences: Count,
    pub(crate) preemptions: Count,
    pub(crate) prompt_tokens: Count,
    pub(crate) cached_tokens: Count,
    pub(crate) output_tokens: Count,
    pub(crate) drafted_tokens: Count,
    pub(crate) accepted_tokens: Count,
    pub(crate) masks: Count,
    pub(crate) masks_us: Count,
    pub(crate) mask_waits_us: Count,
    rate_bits: AtomicU32,
    stopped: AtomicBool,
}

/// A number that one thread writes.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Figures {
    pub(crate) fn note_guesses(&self, guessed: usize, right: usize) {
        self.drafted_tokens.add(guessed as u64);
        self.accepted_tokens.add(right as u64);
    }

    /// A request's prompt is computed from now on.
    pub(crate) fn note_begin(&self, waited_us: u64) {
        self.begun.add(1);
        self.waited_us.add(waited_us);
    }

    pub(crate) fn note_step(&self, sequences: usize) {
        self.steps.add(1);
        self.step_sequences.add(sequences as u64);
    }

    pub(crate) fn note_masks(&self, found: usize, took_us: u64) {
        self.masks.add(found as u64);
        self.masks_us.add(took_us);
    }

    /// The worker takes no more requests, and lets go of those that it has.
    pub(crate) fn note_stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Generated tokens a second over the last seconds of computing.
    pub(crate) fn tokens_per_second(&self) -> f32 {
        f32::from_bits(self.rate_bits.load(Ordering::Relaxed))
    }

    pub(crate) fn set_rate(&self, pace: &Pace) {
        self.rate_bits.store(pace.per_second().to_bits(), Ordering::Relaxed);
    }
}

/// Tokens over time, of which what is long ago counts less and less.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    tokens: f64,
    spent_us: f64,
}

/// After so much computing the past counts half.
const WINDOW_US: f64 = 2e6;

impl Pace {
    pub(crate) fn add(&mut self, tokens: u64, spent_us: u64) {
        self.tokens += tokens as f64;
        self.spent_us += spent_us as f64;
        if self.spent_us > 2.0 * WINDOW_US {
            self.tokens /= 2.0;
            self.spent_us /= 2.0;
        }
    }

    fn per_second(&self) -> f32 {
        if self.spent_us > 0.0 { (self.tokens / self.spent_us * 1e6) as f32 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{Figures, Pace};

    #[test]
    fn a_pace_follows_what_happened_last() {
        let (mut pace, figures) = (Pace::default(), Figures::default());
        figures.set_rate(&pace);
        assert_eq!(figures.tokens_per_second().to_bits(), 0.0_f32.to_bits());
        (0..100).for_each(|_| pace.add(1, 100_000));
        figures.set_rate(&pace);
        assert!((figures.tokens_per_second() - 10.0).abs() < 1e-3);
        (0..1000).for_each(|_| pace.add(5, 100_000));
        assert!((pace.per_second() - 50.0).abs() < 1.0);
    }
}
