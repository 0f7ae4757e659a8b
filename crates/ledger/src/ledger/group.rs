//! Reservations and ends that are booked together.
//!
//! Whoever asks while the database writes is in the next group. A group reads once, if anybody in it reserves, and
//! writes once, however many are in it. It is decided on the pure books, one after another as they asked, so that
//! nobody spends what somebody else of the group has spent.
//!
//! What an end changes follows from the reservation as this process remembers it, as long as it covers what was used.
//! The database itself says no where that is not how it stands, because another process has ended it, or where a
//! transaction's name was used. Then the whole group is undone, and each of it is booked by itself; and so is from the
//! start what does not go the usual way.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::Clock;
use futures::FutureExt as _;
use meta::{Database, Together, Turn, Undone};

use super::{Transaction, Wanted, by_itself, charge, release, settlement, what};
use crate::Result;
use crate::account::AccountId;
use crate::books::{Books, Change, Charge, Operation, Reserve, State};
use crate::budget::Scope;
use crate::rows::{self, Kept, Writing};
use crate::usage::{Ended, Recorded};

/// What somebody asks for.
pub(super) enum Asked {
    Reserve(Arc<Wanted>),
    Settle(Kept, Ended),
    Release(Kept),
}

/// What became of it.
pub(super) enum Done {
    Reserved(Kept),
    Settled(Charge),
    Released,
    /// It must be booked by itself.
    Apart,
}

/// Everybody who asks for the same thing at the same time.
pub(super) type Group = Together<Asked, Result<Done>>;

pub(super) fn group(database: &Database, clock: Arc<dyn Clock>, owner: Arc<str>) -> Group {
    database.together(move |turn, asked| {
        let (owner, now_ms) = (Arc::clone(&owner), clock.now_ms());
        async move { book(turn, asked, &owner, now_ms).await }.boxed()
    })
}

async fn book(
    turn: &mut Turn<'_>,
    asked: Vec<Asked>,
    owner: &str,
    now_ms: u64,
) -> std::result::Result<Vec<Result<Done>>, Undone> {
    let mut booking = Booking { books: read(turn, &asked, now_ms).await?, writing: Writing::default(), owner, now_ms };
    let done = asked.into_iter().map(|asked| booking.one(asked)).collect();
    turn.finish(booking.writing.into_batch()).await?;
    Ok(done)
}

/// The accounts and budgets of everybody who reserves.
async fn read(turn: &mut Turn<'_>, asked: &[Asked], now_ms: u64) -> Result<Books> {
    let (mut projects, mut scopes) = (BTreeSet::new(), BTreeSet::new());
    for asked in asked {
        if let Asked::Reserve(wanted) = asked {
            projects.insert(wanted.project.as_str());
            scopes.extend([Scope::project(&wanted.project), Scope::key(&wanted.key)]);
        }
    }
    if projects.is_empty() {
        return Ok(Books::new());
    }
    rows::payers(turn, &projects, &Vec::from_iter(scopes), now_ms).await
}

/// A group that is being booked.
struct Booking<'a> {
    books: Books,
    writing: Writing,
    owner: &'a str,
    now_ms: u64,
}

impl Booking<'_> {
    fn one(&mut self, asked: Asked) -> Result<Done> {
        match asked {
            Asked::Reserve(wanted) => self.reserve(&wanted),
            Asked::Settle(kept, ended) => self.settle(&kept, &ended),
            Asked::Release(kept) => self.release(&kept),
        }
    }

    fn reserve(&mut self, wanted: &Wanted) -> Result<Done> {
        if !self.books.accounts.contains_key(&AccountId::prepaid(&wanted.project)) {
            return Ok(Done::Apart);
        }
        let transaction = reservation(wanted);
        // Whoever is refused may have it already: then it is not refused.
        let Ok(change) = self.books.apply(&transaction.name, &transaction.operation, self.now_ms) else {
            return Ok(Done::Apart);
        };
        let Some(reservation) = change.reservation.clone() else { return Ok(Done::Apart) };
        let kept = Kept::new(reservation, wanted, self.now_ms);
        self.write(&transaction, &change);
        self.writing.reservation(&kept, self.owner, wanted.noted.write());
        Ok(Done::Reserved(kept))
    }

    fn settle(&mut self, kept: &Kept, ended: &Ended) -> Result<Done> {
        let transaction = settlement(&kept.reservation.id, ended);
        let change = self.end(kept, &transaction)?;
        let Some(charge) = charge(&change) else { return Ok(Done::Apart) };
        // Before anything is written, so that whoever cannot be recorded is not charged either.
        let record = Recorded::new(kept, ended, &charge, self.now_ms)?;
        self.write(&transaction, &change);
        self.writing.record(record);
        Ok(Done::Settled(charge))
    }

    fn release(&mut self, kept: &Kept) -> Result<Done> {
        let transaction = release(&kept.reservation.id);
        let change = self.end(kept, &transaction)?;
        if change.is_replay {
            return Ok(Done::Apart);
        }
        self.write(&transaction, &change);
        Ok(Done::Released)
    }

    /// What an end changes.
    fn end(&mut self, kept: &Kept, transaction: &Transaction) -> Result<Change> {
        let reservation = &kept.reservation;
        self.books.reservations.insert(reservation.id.clone(), reservation.clone());
        rows::assume_accounts(&mut self.books, reservation);
        self.books.apply(&transaction.name, &transaction.operation, self.now_ms)
    }

    fn write(&mut self, transaction: &Transaction, change: &Change) {
        self.books.commit(&transaction.name, change);
        self.writing.transaction(transaction, &what(&transaction.operation), self.now_ms);
        self.writing.change(&transaction.name, change, self.now_ms);
        if let Some(ended) = change.reservation.as_ref().filter(|reservation| reservation.state != State::Open) {
            self.writing.end(ended);
        }
    }
}

/// The transaction that begins a request.
pub(super) fn reservation(wanted: &Wanted) -> Transaction {
    let Wanted { id, project, key, most, .. } = wanted;
    let asked = Reserve { id: id.clone(), project: project.clone(), key: key.clone(), most: most.used() };
    by_itself(format!("reserve:{id}"), Operation::Reserve(asked))
}
