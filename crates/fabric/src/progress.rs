//! How far a transfer is, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that a transfer moves and anybody may read.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    received: AtomicU64,
    durable: AtomicU64,
}

impl Progress {
    /// All bytes of the transfer; 0 until it has begun.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the receiver has checked and written.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes that are on the receiver's disk.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Relaxed)
    }

    pub(crate) fn show(&self, bytes: u64, received: u64, durable: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.received.store(received, Ordering::Relaxed);
        self.durable.store(durable, Ordering::Relaxed);
    }
}
