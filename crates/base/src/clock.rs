//! Time enters the program at its edge and is handed down from there.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of time. The binary brings the real one; tests and simulations bring [`ManualClock`].
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. May step backwards when the machine's clock is set.
    fn now_ms(&self) -> u64;

    /// Microseconds since an arbitrary start. Never goes backwards; for measuring spans.
    fn monotonic_us(&self) -> u64;
}

/// A clock that stands still until it is told to advance.
#[derive(Debug, Default)]
pub struct ManualClock {
    elapsed_us: AtomicU64,
    start_ms: u64,
}

impl ManualClock {
    /// A clock that shows `start_ms` until [`Self::advance_ms`] is called.
    #[must_use]
    pub fn starting_at(start_ms: u64) -> Self {
        Self { elapsed_us: AtomicU64::new(0), start_ms }
    }

    /// Moves the time forward.
    pub fn advance_ms(&self, by_ms: u64) {
        self.elapsed_us.fetch_add(by_ms * 1000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.start_ms + self.monotonic_us() / 1000
    }

    fn monotonic_us(&self) -> u64 {
        self.elapsed_us.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, ManualClock};

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::starting_at(1_000);
        assert_eq!((clock.now_ms(), clock.monotonic_us()), (1_000, 0));
        clock.advance_ms(250);
        assert_eq!((clock.now_ms(), clock.monotonic_us()), (1_250, 250_000));
    }
}
