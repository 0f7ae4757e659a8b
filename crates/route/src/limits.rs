//! How long an upstream is waited for.

use std::time::Duration;

/// Limits of time, each with a name under which it appears in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// For the connection, TLS included.
    pub connect_ms: u64,
    /// From the beginning of the request to the first event of the answer.
    pub first_byte_ms: u64,
    /// From one whole line of the answer to the next.
    pub between_ms: u64,
    /// For all of it.
    pub whole_ms: u64,
}

impl Default for TimeLimits {
    /// Generous: prompts of 100,000 tokens take minutes on small machines, and servers send comments while they work.
    fn default() -> Self {
        Self { connect_ms: 5_000, first_byte_ms: 120_000, between_ms: 60_000, whole_ms: 1_800_000 }
    }
}

impl TimeLimits {
    pub(crate) fn first_byte(&self) -> Duration {
        Duration::from_millis(self.first_byte_ms)
    }

    pub(crate) fn between(&self) -> Duration {
        Duration::from_millis(self.between_ms)
    }

    pub(crate) fn whole(&self) -> Duration {
        Duration::from_millis(self.whole_ms)
    }
}
