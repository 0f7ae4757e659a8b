//! Reservations that this process made and nobody ended yet, as their rows stand.
//!
//! Whoever ends one of these need not read its row: what the end changes follows from the reservation alone, as long as
//! it covers what was used. So everything is written in one way to the database in place of two; see `group`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rows::Kept;

/// More are not remembered; their ends read.
const REMEMBERED_MAX: usize = 100_000;

/// What is remembered.
#[derive(Default)]
pub(super) struct Recent(Mutex<HashMap<String, Kept>>);

impl Recent {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        // The map is whole between any two statements that hold the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a reservation that is in the books.
    pub(super) fn put(&self, kept: Kept) {
        let mut recent = self.lock();
        if recent.len() < REMEMBERED_MAX {
            recent.insert(kept.reservation.id.clone(), kept);
        }
    }

    /// Forgets a reservation that somebody is about to end.
    pub(super) fn take(&self, id: &str) -> Option<Kept> {
        self.lock().remove(id)
    }
}
