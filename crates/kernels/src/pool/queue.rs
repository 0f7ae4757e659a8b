//! A thread's share of a region's indexes. Compiled twice, as [`super::region`] is.

use std::ops::Range;

use super::atomics::{AtomicU64, Ordering};

/// Neighbouring indexes: the owner takes the first, others the last. On a line of its own, since its owner writes it
/// all the time.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Queue {
    /// The first one in the lower half, the end in the upper.
    range: AtomicU64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { range: AtomicU64::new(0) }
    }
}

impl Queue {
    /// Makes these the indexes. Whoever takes one must have been told of it since: opening a region does that.
    pub(super) fn fill(&self, indexes: Range<u32>) {
        self.range.store(pack(indexes), Ordering::Relaxed);
    }

    /// Takes the first index.
    pub(super) fn first(&self) -> Option<u32> {
        self.take(|range| range.next())
    }

    /// Takes the last index.
    pub(super) fn last(&self) -> Option<u32> {
        self.take(|range| range.next_back())
    }

    fn take(&self, one: impl Fn(&mut Range<u32>) -> Option<u32>) -> Option<u32> {
        let mut now = self.range.load(Ordering::Relaxed);
        // Ends, since whoever is in the way takes one of finitely many. A range never comes back within a region, so
        // equal bits are the same range.
        loop {
            let mut range = now as u32..(now >> 32) as u32;
            let index = one(&mut range)?;
            match self.range.compare_exchange_weak(now, pack(range), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(index),
                Err(other) => now = other,
            }
        }
    }
}

fn pack(range: Range<u32>) -> u64 {
    u64::from(range.start) | u64::from(range.end) << 32
}
