//! Reservations that this process made and nobody ended yet, as their rows stand.
//!
//! Whoever ends one of these need not read its row: what the end changes follows from the reservation alone, as long as
//! it covers what was used. So everything is written in one way to the database in place of two, and the database
//! itself says no where the row is not as it is remembered, because another process has ended it: then nothing is
//! written, and the end is booked by reading.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meta::{Batch, Turn};

use super::{Transaction, close, insert};
use crate::Result;
use crate::books::{Books, Change};
use crate::rows::{self, Kept, Of};

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

/// Books the end of a reservation as it is remembered, and what `add` adds. It ends the turn.
///
/// # Errors
/// [`meta::Error::Written`] if it is not as it is remembered, or the transaction is booked already.
pub(super) async fn end(
    turn: &mut Turn<'_>,
    transaction: &Transaction,
    kept: &Kept,
    now_ms: u64,
    add: impl FnOnce(&mut Batch, &Change) -> Result<()>,
) -> Result<Change> {
    let mut books = Books::new();
    books.reservations.insert(kept.reservation.id.clone(), kept.reservation.clone());
    rows::assume_accounts(&mut books, &kept.reservation);
    let change = books.apply(&transaction.name, &transaction.operation, now_ms)?;
    let mut batch = Batch::new();
    insert(&mut batch, transaction, now_ms, "");
    batch.expect_written(1);
    rows::write(&mut batch, Of::Named(&transaction.name), &change, now_ms);
    close(&mut batch, &kept.reservation.id, &change);
    batch.expect_written(1);
    add(&mut batch, &change)?;
    turn.finish(batch).await?;
    Ok(change)
}
