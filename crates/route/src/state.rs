//! What is known of a pool while it is used.

use serde::Serialize;

use crate::Breaker;

/// Failed checks in a row that make a pool unhealthy.
const FAILED_CHECKS: u32 = 2;
/// How much a new time to the first byte counts beside the ones before it, in hundredths.
const LATENCY_NEW_PERCENT: u64 = 20;
/// A busy pool that names no time is left alone for so long.
const BUSY_MS: u64 = 1_000;

/// The state of one pool.
#[derive(Debug, Clone, Default)]
pub struct PoolState {
    /// What its failures came to.
    pub breaker: Breaker,
    /// Checks of its health that failed in a row.
    pub failed_checks: u32,
    /// Why the last one failed.
    pub complaint: Option<String>,
    /// It said that it is busy until then, milliseconds since the Unix epoch.
    pub busy_until_ms: u64,
    /// Requests that are running there.
    pub running: u32,
    /// Time to the first byte, smoothed; 0: not known yet.
    pub first_byte_us: u64,
    /// What has happened since the start.
    pub counts: Counts,
}

/// What has happened since the start.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Counts {
    /// Requests that were sent there.
    pub sent: u64,
    /// Whole answers.
    pub finished: u64,
    /// Failures, in the middle of an answer too.
    pub failed: u64,
    /// Requests whose caller went away.
    pub abandoned: u64,
    /// Requests that another pool had begun before.
    pub retried: u64,
    /// Requests that were sent beside one to another pool that took long.
    pub hedged: u64,
}

impl PoolState {
    /// Whether its checks go well, or it is not checked.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.failed_checks < FAILED_CHECKS
    }

    /// A check ended.
    pub fn checked(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => (self.failed_checks, self.complaint) = (0, None),
            Err(why) => {
                self.failed_checks = self.failed_checks.saturating_add(1);
                self.complaint = Some(why);
            }
        }
    }

    /// The first byte of an answer came.
    pub fn answered(&mut self, first_byte_us: u64) {
        self.first_byte_us = match self.first_byte_us {
            0 => first_byte_us.max(1),
            old => (old * (100 - LATENCY_NEW_PERCENT) + first_byte_us.max(1) * LATENCY_NEW_PERCENT) / 100,
        };
    }

    /// It said that it is busy.
    pub fn is_busy(&mut self, now_ms: u64, retry_after_ms: Option<u64>) {
        self.busy_until_ms = self.busy_until_ms.max(now_ms.saturating_add(retry_after_ms.unwrap_or(BUSY_MS)));
    }
}

/// Further tries that all requests together may still make. Each request brings a part of one; what is saved up has a
/// limit, so that an outage begins with few.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    percent: u64,
    saved_percent: u64,
}

/// Tries that may be saved up, and that there are at the start.
const SAVED_TRIES: u64 = 10;

impl RetryBudget {
    /// One that gains so many hundredths of a try with each request.
    #[must_use]
    pub fn new(percent: u32) -> Self {
        let percent = u64::from(percent);
        Self { percent, saved_percent: if percent == 0 { 0 } else { SAVED_TRIES * 100 } }
    }

    /// A request came.
    pub fn deposit(&mut self) {
        self.saved_percent = (self.saved_percent + self.percent).min(SAVED_TRIES * 100);
    }

    /// Takes a try, if there is one.
    pub fn withdraw(&mut self) -> bool {
        let left = self.saved_percent.checked_sub(100);
        self.saved_percent = left.unwrap_or(self.saved_percent);
        left.is_some()
    }
}
