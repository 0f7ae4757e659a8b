//! A circuit breaker: a pool that fails is left alone for a while, then tried by one request.
//!
//! A pure state machine; times are milliseconds of the caller's clock, which may step backwards.

use serde::Serialize;

/// So many failures in a row open it.
pub const FAILURES_IN_A_ROW: u32 = 5;
/// Of the last outcomes so many are looked at,
const WINDOW: u32 = 20;
/// and if there are at least so many,
const WINDOW_MIN: u32 = 10;
/// this part of them may fail, in hundredths.
const FAILED_PERCENT_MAX: u32 = 50;
/// The first pause; each further one is twice as long,
const PAUSE_MS: u64 = 1_000;
/// up to this one.
const PAUSE_MS_MAX: u64 = 60_000;
/// A trial of which nothing was heard for so long is forgotten.
const TRIAL_MS_MAX: u64 = 60_000;

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Requests go through.
    Closed,
    /// None go through, until a time.
    Open {
        /// Milliseconds since the Unix epoch.
        until_ms: u64,
    },
    /// One request is trying it.
    Trial {
        /// Since when.
        since_ms: u64,
    },
}

/// The breaker of one pool.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: BreakerState,
    /// The last outcomes, the newest in the lowest bit; 1 is a failure.
    outcomes: u32,
    counted: u32,
    failures_in_a_row: u32,
    /// How often it opened since it was last closed.
    trips: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        let state = BreakerState::Closed;
        Self { state, outcomes: 0, counted: 0, failures_in_a_row: 0, trips: 0 }
    }
}

impl Breaker {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a request may go through now.
    #[must_use]
    pub fn admits(&self, now_ms: u64) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open { until_ms } => now_ms >= until_ms,
            BreakerState::Trial { since_ms } => now_ms >= since_ms.saturating_add(TRIAL_MS_MAX),
        }
    }

    /// A request goes through. It must be followed by one of the three outcomes.
    pub fn begin(&mut self, now_ms: u64) {
        if self.state != BreakerState::Closed {
            self.state = BreakerState::Trial { since_ms: now_ms };
        }
    }

    /// It went well.
    pub fn succeeded(&mut self) {
        if self.state != BreakerState::Closed {
            *self = Self::default();
        }
        self.failures_in_a_row = 0;
        self.count(0);
    }

    /// It failed.
    pub fn failed(&mut self, now_ms: u64) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.count(1);
        let failed = self.outcomes.count_ones() * 100;
        let too_many = self.counted >= WINDOW_MIN && failed > self.counted * FAILED_PERCENT_MAX;
        let opens = match self.state {
            BreakerState::Closed => too_many || self.failures_in_a_row >= FAILURES_IN_A_ROW,
            BreakerState::Trial { .. } => true,
            // Requests that began before it opened come back: they are no news.
            BreakerState::Open { .. } => false,
        };
        if opens {
            let pause_ms = (PAUSE_MS << self.trips.min(16)).min(PAUSE_MS_MAX);
            self.trips += 1;
            self.state = BreakerState::Open { until_ms: now_ms.saturating_add(pause_ms) };
        }
    }

    /// It says nothing of the pool: the caller went away, or the request was at fault.
    pub fn abandoned(&mut self, now_ms: u64) {
        if let BreakerState::Trial { .. } = self.state {
            // The next request may try at once.
            self.state = BreakerState::Open { until_ms: now_ms };
        }
    }

    fn count(&mut self, outcome: u32) {
        self.outcomes = (self.outcomes << 1 | outcome) & ((1 << WINDOW) - 1);
        self.counted = (self.counted + 1).min(WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::{Breaker, BreakerState, FAILURES_IN_A_ROW, PAUSE_MS, PAUSE_MS_MAX, TRIAL_MS_MAX};

    fn opened(now_ms: u64) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_IN_A_ROW {
            assert!(breaker.admits(now_ms));
            breaker.begin(now_ms);
            breaker.failed(now_ms);
        }
        breaker
    }

    #[test]
    fn failures_open_it_and_a_trial_closes_it() {
        let mut breaker = opened(100);
        assert_eq!(breaker.state(), BreakerState::Open { until_ms: 100 + PAUSE_MS });
        assert!(!breaker.admits(100 + PAUSE_MS - 1) && breaker.admits(100 + PAUSE_MS));
        breaker.begin(1_200);
        assert!(!breaker.admits(1_300), "one trial at a time");
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut breaker = opened(0);
        let (mut now_ms, mut last_ms) = (0, PAUSE_MS);
        for _ in 0..20 {
            let BreakerState::Open { until_ms } = breaker.state() else { panic!("{breaker:?}") };
            assert!(until_ms - now_ms >= last_ms && until_ms - now_ms <= PAUSE_MS_MAX);
            (last_ms, now_ms) = (until_ms - now_ms, until_ms);
            breaker.begin(now_ms);
            breaker.failed(now_ms);
        }
        assert_eq!(last_ms, PAUSE_MS_MAX);
    }

    #[test]
    fn a_trial_that_says_nothing_is_followed_by_another() {
        let mut breaker = opened(0);
        breaker.begin(PAUSE_MS);
        breaker.abandoned(PAUSE_MS);
        assert!(breaker.admits(PAUSE_MS));
        breaker.begin(PAUSE_MS);
        assert!(!breaker.admits(PAUSE_MS + 1) && breaker.admits(PAUSE_MS + TRIAL_MS_MAX), "a lost trial is forgotten");
    }

    #[test]
    fn every_second_failure_opens_it_too() {
        let mut breaker = Breaker::default();
        for turn in 0..40 {
            breaker.begin(0);
            if turn % 3 == 0 {
                breaker.succeeded()
            } else {
                breaker.failed(0)
            }
            if breaker.state() != BreakerState::Closed {
                return;
            }
        }
        panic!("{breaker:?}");
    }

    #[test]
    fn whatever_happens_it_opens_again_for_a_request() {
        let mut rng = Rng::seeded(9);
        let (mut breaker, mut now_ms) = (Breaker::default(), 0);
        for _ in 0..10_000 {
            now_ms += rng.below(2_000);
            match rng.below(4) {
                0 if breaker.admits(now_ms) => breaker.begin(now_ms),
                1 => breaker.succeeded(),
                2 => breaker.failed(now_ms),
                _ => breaker.abandoned(now_ms),
            }
            assert!(breaker.admits(now_ms + TRIAL_MS_MAX), "{breaker:?}");
        }
    }
}
