//! A thread's share of a region's indexes. Compiled twice, as [`super::region`] is.

use std::ops::Range;

use super::atomics::{AtomicU64, Ordering};

/// How many of the indexes that are left are taken at once: one `n`-th, rounded up.
pub(super) type Part = std::num::NonZeroU32;

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

    /// Takes the first indexes.
    pub(super) fn first(&self, part: Part) -> Option<Range<u32>> {
        self.take(|Range { start, end }| {
            let middle = start + (end - start).div_ceil(part.get());
            (start..middle, middle..end)
        })
    }

    /// Takes the last indexes.
    pub(super) fn last(&self, part: Part) -> Option<Range<u32>> {
        self.take(|Range { start, end }| {
            let middle = end - (end - start).div_ceil(part.get());
            (middle..end, start..middle)
        })
    }

    /// `cut` says what is taken of some indexes and what is left.
    fn take(&self, cut: impl Fn(Range<u32>) -> (Range<u32>, Range<u32>)) -> Option<Range<u32>> {
        let mut now = self.range.load(Ordering::Relaxed);
        // Ends, since whoever is in the way takes some of finitely many. A range never comes back within a region, so
        // equal bits are the same range.
        loop {
            let range = now as u32..(now >> 32) as u32;
            if range.is_empty() {
                return None;
            }
            let (taken, left) = cut(range);
            match self.range.compare_exchange_weak(now, pack(left), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(other) => now = other,
            }
        }
    }
}

fn pack(range: Range<u32>) -> u64 {
    u64::from(range.start) | u64::from(range.end) << 32
}
