//! The books in the database.
//!
//! A reservation is decided in a transaction that does not wait for the disk, and [`Ledger::durable`] waits for it
//! while the work begins already. A settlement never waits for the disk. What that means when the machine loses its
//! power: a reservation is on the disk before the first piece of an answer leaves; a settlement may be missing up to
//! [`meta::FLUSHED_WITHIN`] later, and is then made again from what was noted with the reservation ([`Ledger::note`]),
//! which is never less than what left. When only the process ends, no settlement that answered is missing.

mod group;
mod recent;
mod sweep;

use std::sync::Arc;

use base::Clock;
use futures::FutureExt as _;
use meta::{Batch, Connection, Database, Mark, Row as _, Turn};

use crate::account::Account;
use crate::books::{Books, Change, Charge, Operation, State};
use crate::budget::{Budget, Scope};
use crate::rows::{self, Kept, Reading, Writing};
use crate::usage::{Ended, Recorded, Spent, Subject};
use crate::{Error, Result};

use group::{Asked, Done, Group};
use recent::Recent;

pub use sweep::{DEAD_AFTER_MS, Swept};

/// Bytes of a transaction's name.
const NAME_BYTES_MAX: usize = 200;
/// Bytes of a memo.
const MEMO_BYTES_MAX: usize = 1000;

/// What is booked, by whom and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its name: the same name again changes nothing.
    pub name: String,
    /// What.
    pub operation: Operation,
    /// By whom.
    pub actor: String,
    /// Why.
    pub memo: String,
}

/// What is asked for before a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The reservation's name, which nobody else uses.
    pub id: String,
    /// Who pays.
    pub project: String,
    /// With which key.
    pub key: String,
    /// What for.
    pub subject: Subject,
    /// At most so much.
    pub most: Spent,
    /// What it is charged if its end is never told.
    pub noted: Spent,
}

/// How the books are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What a project may owe that nobody opened an account for; `None`: any amount, it is only counted.
    pub credit_line_micro: Option<i64>,
}

/// The books. Clones share the database.
#[derive(Clone)]
pub struct Ledger {
    pub(crate) database: Database,
    pub(crate) clock: Arc<dyn Clock>,
    owner: Arc<str>,
    options: Options,
    recent: Arc<Recent>,
    group: Arc<Group>,
}

impl Ledger {
    /// The books of a database that was opened with [`crate::SCHEMA`]. `owner` names this process among all that use
    /// the database, and is never used again.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>, owner: &str, options: Options) -> Self {
        let owner: Arc<str> = owner.into();
        let group = Arc::new(group::group(&database, Arc::clone(&clock), Arc::clone(&owner)));
        Self { database, clock, owner, options, recent: Arc::default(), group }
    }

    /// Where the books are.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The clock that the books go by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Books what a person asked for, and answers when it lies on the disk. A project's accounts are opened as needed.
    ///
    /// # Errors
    /// If it may not be made; [`Error::State`] if the name was used for something else.
    pub async fn book(&self, transaction: Transaction) -> Result<Change> {
        check(&transaction)?;
        let (now_ms, options) = (self.clock.now_ms(), self.options);
        let booked = self.database.write(move |connection| {
            async move {
                if let Operation::Deposit { project, .. } | Operation::Refund { project, .. } = &transaction.operation {
                    open_if_new(connection, project, options, now_ms).await?;
                }
                Ok(book(connection, &transaction, now_ms).await?.change)
            }
            .boxed()
        });
        booked.await
    }

    /// Sets aside what a request may use. The answer does not wait for the disk: [`Self::durable`] does, with what is
    /// returned.
    ///
    /// # Errors
    /// [`Error::Insufficient`] or [`Error::OverBudget`].
    pub async fn reserve(&self, wanted: Wanted) -> Result<Mark> {
        let (mark, wanted) = (self.database.mark(), Arc::new(wanted));
        let made = match self.together(Asked::Reserve(Arc::clone(&wanted))).await? {
            Done::Reserved(kept) => Some(kept),
            _ => self.reserve_alone(Arc::unwrap_or_clone(wanted)).await?,
        };
        if let Some(kept) = made {
            self.recent.put(kept);
        }
        Ok(mark)
    }

    /// Waits until a reservation lies on the disk that answered with this mark.
    ///
    /// # Errors
    /// If the disk refuses.
    pub async fn durable(&self, mark: Mark) -> Result<()> {
        Ok(self.database.flushed(mark).await?)
    }

    /// Notes that a request may have used so much by now: what it is charged if its end is never told.
    /// Answers when it lies on the disk.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn note(&self, id: &str, noted: Spent) -> Result<()> {
        let id = id.to_owned();
        let written = self.database.write(move |connection| {
            async move {
                meta::query("UPDATE ledger_reservations SET noted = $1 WHERE id = $2 AND state = 'open'")
                    .bind(noted.write())
                    .bind(id)
                    .execute(connection)
                    .await?;
                Ok(())
            }
            .boxed()
        });
        written.await
    }

    /// Charges what a request used, gives back the rest, and keeps its usage record. Told again, it changes nothing.
    ///
    /// # Errors
    /// If the reservation does not exist or was released.
    pub async fn settle(&self, id: &str, ended: Ended) -> Result<Charge> {
        if let Some(kept) = self.recent.take(id).filter(|kept| kept.reservation.covers(ended.spent.used()))
            && let Done::Settled(charge) = self.together(Asked::Settle(kept, ended)).await?
        {
            return Ok(charge);
        }
        let (id, now_ms) = (id.to_owned(), self.clock.now_ms());
        let written =
            self.database.write_in_one_turn(move |turn| async move { settle(turn, &id, ended, now_ms).await }.boxed());
        written.await
    }

    /// Gives everything back: the request was not made. Told again, it changes nothing.
    ///
    /// # Errors
    /// If the reservation does not exist or was settled.
    pub async fn release(&self, id: &str) -> Result<()> {
        if let Some(kept) = self.recent.take(id)
            && let Done::Released = self.together(Asked::Release(kept)).await?
        {
            return Ok(());
        }
        let (transaction, now_ms) = (release(id), self.clock.now_ms());
        let written = self.database.write_in_one_turn(move |turn| {
            async move {
                book_with(turn, &transaction, now_ms, |writing, change, _| {
                    change.reservation.iter().for_each(|reservation| writing.end(reservation));
                    Ok(())
                })
                .await?;
                Ok(())
            }
            .boxed()
        });
        written.await
    }

    /// Books it with whoever asks at the same time; [`Done::Apart`] if it must be booked by itself.
    async fn together(&self, asked: Asked) -> Result<Done> {
        match self.group.ask(asked).await {
            Ok(done) => done,
            Err(meta::Error::Apart { why }) => {
                tracing::debug!(why, "a group was undone");
                Ok(Done::Apart)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn reserve_alone(&self, wanted: Wanted) -> Result<Option<Kept>> {
        let (now_ms, options, owner) = (self.clock.now_ms(), self.options, Arc::clone(&self.owner));
        let written = self.database.write_in_one_turn(move |turn| {
            async move { reserve(turn, &wanted, options, &owner, now_ms).await }.boxed()
        });
        written.await
    }

    /// Every account of a project, or of everybody and the house.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn accounts(&self, project: Option<&str>) -> Result<Vec<Account>> {
        let mut connection = self.database.read().await?;
        let query = "SELECT id, project, balance, floor, starts_ms, expires_ms, closed_ms FROM ledger_accounts
                     WHERE $1 = '' OR project = $1 ORDER BY project, id LIMIT $2";
        let query = meta::query(query).bind(project.unwrap_or("")).bind(ACCOUNTS_LISTED_MAX);
        query.fetch_all(&mut *connection).await?.iter().map(rows::account).collect()
    }

    /// Sets a budget; `None` takes it away. What was used in the running period before counts.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn set_budget(&self, scope: &Scope, period: crate::Period, limit_micro: Option<i64>) -> Result<()> {
        let (scope, start_ms) = (scope.clone(), period.start(self.clock.now_ms()));
        let written = self.database.write(move |connection| {
            async move { budget(connection, &scope, period, start_ms, limit_micro).await }.boxed()
        });
        written.await
    }

    /// Every budget with what is spent of it in the running period.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn budgets(&self) -> Result<Vec<(Budget, i64)>> {
        let mut connection = self.database.read().await?;
        rows::budgets(&mut connection, self.clock.now_ms()).await
    }

    /// Remembers the price list, so that every usage record's version can be looked up for ever.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn remember_prices(&self, version: &str, list: &str) -> Result<()> {
        let (version, list, now_ms) = (version.to_owned(), list.to_owned(), self.clock.now_ms());
        let written = self.database.write(move |connection| {
            async move {
                let query = "INSERT INTO ledger_price_lists (version, list, first_used_ms) VALUES ($1, $2, $3)
                             ON CONFLICT (version) DO NOTHING";
                meta::query(query).bind(version).bind(list).bind(now_ms as i64).execute(connection).await?;
                Ok(())
            }
            .boxed()
        });
        written.await
    }
}

/// Accounts of one list.
const ACCOUNTS_LISTED_MAX: i64 = 100_000;

/// A transaction that is in the books.
pub(crate) struct Booked {
    pub(crate) change: Change,
    /// The row of the reservation that it is about, as it was before.
    kept: Option<Kept>,
}

/// A transaction that was begun, with the part of the books that it reads.
struct Begun {
    /// Its name was not used before.
    is_new: bool,
    books: Books,
    kept: Option<Kept>,
}

/// Books one transaction; a name that was used changes nothing.
pub(crate) async fn book(connection: &mut Connection, transaction: &Transaction, now_ms: u64) -> Result<Booked> {
    book_with(&mut Turn::within(connection), transaction, now_ms, |_, _, _| Ok(())).await
}

/// As [`book`], and writes in the same go what `add` adds; not if the name was used. It ends the turn.
async fn book_with(
    turn: &mut Turn<'_>,
    transaction: &Transaction,
    now_ms: u64,
    add: impl FnOnce(&mut Writing, &Change, Option<&Kept>) -> Result<()>,
) -> Result<Booked> {
    let Begun { is_new, books, kept } = begin(turn, transaction, now_ms).await?;
    if !is_new {
        let query = meta::query("SELECT what FROM ledger_transactions WHERE name = $1").bind(transaction.name.as_str());
        let known: String = query.fetch_one(turn.connection().await?).await?.try_get(0)?;
        if known != what(&transaction.operation) {
            let name = transaction.name.clone();
            return Err(Error::State { what: "transaction", name, state: format!("booked as {known:?}") });
        }
        return Ok(Booked { change: Change { is_replay: true, ..Change::default() }, kept });
    }
    let change = books.apply(&transaction.name, &transaction.operation, now_ms)?;
    let mut writing = Writing::default();
    writing.change(&transaction.name, &change, now_ms);
    add(&mut writing, &change, kept.as_ref())?;
    turn.finish(writing.into_batch()).await?;
    Ok(Booked { change, kept })
}

/// Takes the transaction's name, unless it was used, and reads what it touches.
async fn begin(turn: &mut Turn<'_>, transaction: &Transaction, now_ms: u64) -> Result<Begun> {
    let mut batch = Batch::new();
    let query = "INSERT INTO ledger_transactions (name, what, at_ms, actor, memo) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (name) DO NOTHING RETURNING id";
    let Transaction { name, operation, actor, memo } = transaction;
    let (name, actor, memo) = (name.as_str(), actor.as_str(), memo.as_str());
    batch.add(query, [name.into(), what(operation).into(), (now_ms as i64).into(), actor.into(), memo.into()]);
    let reading = Reading::of(operation, now_ms);
    reading.ask(&mut batch);
    let answers = turn.run(batch).await?;
    let (inserted, answers) = answers.split_first().expect("the batch has statements");
    let (books, kept) = reading.read(turn, answers).await?;
    Ok(Begun { is_new: !inserted.rows.is_empty(), books, kept })
}

async fn open_if_new(connection: &mut Connection, project: &str, options: Options, now_ms: u64) -> Result<()> {
    let account = crate::AccountId::prepaid(project);
    let query = meta::query("SELECT id FROM ledger_accounts WHERE id = $1").bind(account.as_str());
    if query.fetch_optional(&mut *connection).await?.is_none() {
        let credit_line_micro = options.credit_line_micro;
        let operation = Operation::Open { project: project.to_owned(), credit_line_micro };
        book(connection, &by_itself(format!("open:{project}"), operation), now_ms).await?;
    }
    Ok(())
}

/// Answers with the row that it made; `None` if it was made before.
async fn reserve(
    turn: &mut Turn<'_>,
    wanted: &Wanted,
    options: Options,
    owner: &str,
    now_ms: u64,
) -> Result<Option<Kept>> {
    let transaction = group::reservation(wanted);
    let Begun { is_new, mut books, .. } = begin(turn, &transaction, now_ms).await?;
    if !is_new {
        return Ok(None);
    }
    if !books.accounts.contains_key(&crate::AccountId::prepaid(&wanted.project)) {
        open_if_new(turn.connection().await?, &wanted.project, options, now_ms).await?;
        let reading = Reading::of(&transaction.operation, now_ms);
        let mut batch = Batch::new();
        reading.ask(&mut batch);
        let answers = turn.run(batch).await?;
        (books, _) = reading.read(turn, &answers).await?;
    }
    let change = books.apply(&transaction.name, &transaction.operation, now_ms)?;
    let mut writing = Writing::default();
    writing.change(&transaction.name, &change, now_ms);
    let kept = Kept::new(change.reservation.expect("reserving makes a reservation"), wanted, now_ms);
    writing.reservation(&kept, owner, wanted.noted.write());
    turn.finish(writing.into_batch()).await?;
    Ok(Some(kept))
}

/// The transaction that ends a request.
fn settlement(id: &str, ended: &Ended) -> Transaction {
    let operation = Operation::Settle { reservation: id.to_owned(), used: ended.spent.used() };
    by_itself(format!("settle:{id}"), operation)
}

/// The transaction that gives everything back.
fn release(id: &str) -> Transaction {
    by_itself(format!("release:{id}"), Operation::Release { reservation: id.to_owned() })
}

async fn settle(turn: &mut Turn<'_>, id: &str, ended: Ended, now_ms: u64) -> Result<Charge> {
    let transaction = settlement(id, &ended);
    let booked = book_with(turn, &transaction, now_ms, |writing, change, kept| {
        match (kept, &change.reservation, charge(change)) {
            (Some(kept), Some(reservation), Some(charge)) => {
                writing.end(reservation);
                writing.record(Recorded::new(kept, &ended, &charge, now_ms)?);
                Ok(())
            }
            _ => unreachable!("settling leaves a settled reservation"),
        }
    });
    let booked = booked.await?;
    if let Some(charge) = charge(&booked.change) {
        return Ok(charge);
    }
    let kept = booked.kept.ok_or_else(|| Error::Missing { what: "reservation", name: id.to_owned() })?;
    match kept.reservation.state {
        State::Settled(charge) => Ok(charge),
        State::Open | State::Released => {
            Err(Error::row("a reservation", "its settlement is booked, it is not settled"))
        }
    }
}

/// What a settlement charged.
fn charge(change: &Change) -> Option<Charge> {
    match change.reservation.as_ref()?.state {
        State::Settled(charge) => Some(charge),
        State::Open | State::Released => None,
    }
}

async fn budget(
    connection: &mut Connection,
    scope: &Scope,
    period: crate::Period,
    start_ms: u64,
    limit_micro: Option<i64>,
) -> Result<()> {
    let Some(limit_micro) = limit_micro else {
        let query = "DELETE FROM ledger_budgets WHERE scope = $1 AND period = $2";
        meta::query(query).bind(scope.as_str()).bind(period.name()).execute(connection).await?;
        return Ok(());
    };
    let query = "INSERT INTO ledger_budgets (scope, period, limit_micro) VALUES ($1, $2, $3)
                 ON CONFLICT (scope, period) DO UPDATE SET limit_micro = excluded.limit_micro";
    meta::query(query).bind(scope.as_str()).bind(period.name()).bind(limit_micro).execute(&mut *connection).await?;
    let column = if scope.as_str().starts_with("key:") { "key_id" } else { "project" };
    let id = scope.as_str().split_once(':').map_or("", |(_, id)| id);
    // A budget that was there before knows better: it counts what is reserved, too.
    let query = format!(
        "INSERT INTO ledger_spent (scope, period, start_ms, amount_micro)
         SELECT $1, $2, $3, CAST(COALESCE(SUM(price_micro), 0) AS BIGINT) FROM usage_hours
         WHERE hour_ms >= $3 AND {column} = $4 ON CONFLICT (scope, period, start_ms) DO NOTHING"
    );
    meta::query(meta::AssertSqlSafe(query))
        .bind(scope.as_str())
        .bind(period.name())
        .bind(start_ms as i64)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// What the books do of themselves.
fn by_itself(name: String, operation: Operation) -> Transaction {
    Transaction { name, operation, actor: "ledger".to_owned(), memo: String::new() }
}

/// An operation in words: what is compared when a name comes again. A settlement is one, whatever it says was used.
fn what(operation: &Operation) -> String {
    match operation {
        Operation::Open { project, credit_line_micro } => match credit_line_micro {
            Some(line) => format!("open {project} {line}"),
            None => format!("open {project} unlimited"),
        },
        Operation::Deposit { project, amount_micro } => format!("deposit {project} {amount_micro}"),
        Operation::Refund { project, amount_micro } => format!("refund {project} {amount_micro}"),
        Operation::Grant { account, project, amount, .. } => format!("grant {account} {project} {amount}"),
        Operation::Reserve(_) => "reserve".to_owned(),
        Operation::Settle { .. } => "settle".to_owned(),
        Operation::Release { .. } => "release".to_owned(),
        Operation::Expire { account } => format!("expire {account}"),
        Operation::ClawBack { account } => format!("claw back {account}"),
    }
}

fn check(transaction: &Transaction) -> Result<()> {
    let texts =
        [("the name", &transaction.name, 1, NAME_BYTES_MAX), ("the memo", &transaction.memo, 0, MEMO_BYTES_MAX)];
    for (field, text, least, most) in texts {
        let is_plain = !text.chars().any(|character| character.is_control() && character != '\n');
        if !(least..=most).contains(&text.len()) || !is_plain {
            let allowed = format!("{least} to {most} bytes without control characters");
            return Err(Error::Wrong { field, value: text.clone(), allowed });
        }
    }
    Ok(())
}
