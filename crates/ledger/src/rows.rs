//! Between rows and books: loads what an operation touches, and writes what it changes.

mod writing;

use std::collections::BTreeSet;

use meta::{Answer, AnyRow, Batch, Connection, Row as _, Turn, Value};

use crate::account::{Account, AccountId};
use crate::books::{Books, Charge, Operation, Part, Reservation, State, Used};
use crate::budget::{Budget, Period, Scope, Window};
use crate::calendar::{day_start, month_start};
use crate::{Error, Result, Wanted};

pub(crate) use writing::Writing;

/// Accounts of one project: a project with more grants than this at once is a mistake.
const ACCOUNTS_MAX: i64 = 1000;
/// Budgets of one list.
const BUDGETS_MAX: i64 = 100_000;

/// A reservation's row.
pub(crate) struct Kept {
    pub(crate) reservation: Reservation,
    pub(crate) key: String,
    pub(crate) at_ms: u64,
    /// What it is for, as JSON.
    pub(crate) subject: String,
}

impl Kept {
    pub(crate) fn new(reservation: Reservation, wanted: &Wanted, now_ms: u64) -> Self {
        let subject = serde_json::to_string(&wanted.subject).expect("strings become JSON");
        Self { reservation, key: wanted.key.clone(), at_ms: now_ms, subject }
    }
}

/// What an operation reads: statements, then what they answered.
pub(crate) struct Reading<'a> {
    operation: &'a Operation,
    now_ms: u64,
}

impl<'a> Reading<'a> {
    pub(crate) fn of(operation: &'a Operation, now_ms: u64) -> Self {
        Self { operation, now_ms }
    }

    /// Adds the statements.
    pub(crate) fn ask(&self, batch: &mut Batch) {
        match self.operation {
            Operation::Open { project, .. } => ask_accounts(batch, [project], self.now_ms),
            Operation::Deposit { project, .. } | Operation::Refund { project, .. } => {
                ask_account(batch, &AccountId::prepaid(project));
            }
            Operation::Grant { account, .. } | Operation::Expire { account } | Operation::ClawBack { account } => {
                ask_account(batch, account);
            }
            Operation::Reserve(reserve) => {
                ask_accounts(batch, [&reserve.project], self.now_ms);
                ask_budgets(batch, &[Scope::project(&reserve.project), Scope::key(&reserve.key)], self.now_ms);
            }
            Operation::Settle { reservation, .. } | Operation::Release { reservation } => {
                ask_reservation(batch, reservation);
            }
        }
    }

    /// The part of the books that the operation reads, and the row of the reservation that it is about. `answers` are
    /// those of [`Self::ask`].
    pub(crate) async fn read(&self, turn: &mut Turn<'_>, answers: &[Answer]) -> Result<(Books, Option<Kept>)> {
        let mut books = Books::new();
        let mut kept = None;
        match self.operation {
            Operation::Reserve(_) => {
                read_accounts(&mut books, &answers[0])?;
                read_budgets(&mut books, &answers[1], self.now_ms)?;
            }
            Operation::Settle { reservation, used } => {
                kept = read_reservation(reservation, &answers[0])?;
                if let Some(Kept { reservation, key, at_ms, .. }) = &kept {
                    books.reservations.insert(reservation.id.clone(), reservation.clone());
                    if !reservation.covers(*used) {
                        let mut batch = Batch::new();
                        ask_accounts(&mut batch, [&reservation.project], self.now_ms);
                        // The windows in which it was reserved, which may not be those of now.
                        ask_budgets(&mut batch, &[Scope::project(&reservation.project), Scope::key(key)], *at_ms);
                        let answers = turn.run(batch).await?;
                        read_accounts(&mut books, &answers[0])?;
                        read_budgets(&mut books, &answers[1], *at_ms)?;
                    }
                    assume_accounts(&mut books, reservation);
                }
            }
            Operation::Release { reservation } => {
                kept = read_reservation(reservation, &answers[0])?;
                if let Some(Kept { reservation, .. }) = &kept {
                    books.reservations.insert(reservation.id.clone(), reservation.clone());
                    assume_accounts(&mut books, reservation);
                }
            }
            Operation::Open { .. }
            | Operation::Deposit { .. }
            | Operation::Refund { .. }
            | Operation::Grant { .. }
            | Operation::Expire { .. }
            | Operation::ClawBack { .. } => read_accounts(&mut books, &answers[0])?,
        }
        Ok((books, kept))
    }
}

/// What a settlement within its reservation moves lies in the reservation itself: the held accounts hold it, because
/// the reservation is open. So their rows need not be read; the database's own check guards them.
pub(crate) fn assume_accounts(books: &mut Books, reservation: &Reservation) {
    for part in &reservation.parts {
        let held = AccountId::held(&reservation.project, part.account.unit());
        for id in [held, part.account.clone()] {
            books.accounts.entry(id.clone()).or_insert_with(|| Account::new(id, None, None));
        }
    }
}

/// What several projects have to pay with, and the budgets that hold them.
pub(crate) async fn payers(
    turn: &mut Turn<'_>,
    projects: &BTreeSet<&str>,
    scopes: &[Scope],
    now_ms: u64,
) -> Result<Books> {
    let mut batch = Batch::new();
    ask_accounts(&mut batch, projects, now_ms);
    ask_budgets(&mut batch, scopes, now_ms);
    let answers = turn.run(batch).await?;
    let mut books = Books::new();
    read_accounts(&mut books, &answers[0])?;
    read_budgets(&mut books, &answers[1], now_ms)?;
    Ok(books)
}

fn ask_accounts(batch: &mut Batch, projects: impl IntoIterator<Item = impl AsRef<str>>, now_ms: u64) {
    let query = "SELECT id, project, balance, floor, starts_ms, expires_ms, closed_ms FROM ledger_accounts
                 WHERE project IN (SELECT value->>0 FROM {rows})
                 AND closed_ms IS NULL AND (expires_ms IS NULL OR expires_ms > $2)
                 AND (balance > 0 OR id NOT LIKE 'grant:%') ORDER BY expires_ms, id LIMIT $3";
    let projects: Vec<[Value; 1]> = projects.into_iter().map(|project| [project.as_ref().into()]).collect();
    let most = ACCOUNTS_MAX * projects.len() as i64;
    batch.add_rows_and(query, &projects, [(now_ms as i64).into(), most.into()]);
}

fn ask_account(batch: &mut Batch, id: &AccountId) {
    let query = "SELECT id, project, balance, floor, starts_ms, expires_ms, closed_ms FROM ledger_accounts
                 WHERE id = $1";
    batch.add(query, [id.as_str().into()]);
}

fn read_accounts(books: &mut Books, answer: &Answer) -> Result<()> {
    for row in &answer.rows {
        let account = account(row)?;
        books.accounts.insert(account.id.clone(), account);
    }
    Ok(())
}

fn ask_budgets(batch: &mut Batch, scopes: &[Scope], at_ms: u64) {
    let query = "SELECT b.scope, b.period, b.limit_micro, s.amount_micro
                 FROM ledger_budgets b LEFT JOIN ledger_spent s ON s.scope = b.scope AND s.period = b.period
                     AND s.start_ms = CASE b.period WHEN 'day' THEN $2 ELSE $3 END
                 WHERE b.scope IN (SELECT value->>0 FROM {rows})";
    let scopes: Vec<[Value; 1]> = scopes.iter().map(|scope| [scope.as_str().into()]).collect();
    batch.add_rows_and(query, &scopes, [day_start(at_ms), month_start(at_ms)].map(|ms| Value::from(ms as i64)));
}

fn read_budgets(books: &mut Books, answer: &Answer, at_ms: u64) -> Result<()> {
    for row in &answer.rows {
        let (budget, spent) = budget(row)?;
        if let Some(amount) = spent {
            books.spent.insert(budget.window(at_ms), amount);
        }
        books.budgets.push(budget);
    }
    Ok(())
}

/// All budgets with what is spent of them.
pub(crate) async fn budgets(connection: &mut Connection, now_ms: u64) -> Result<Vec<(Budget, i64)>> {
    let query = "SELECT b.scope, b.period, b.limit_micro, s.amount_micro
                 FROM ledger_budgets b LEFT JOIN ledger_spent s ON s.scope = b.scope AND s.period = b.period
                     AND s.start_ms = CASE b.period WHEN 'day' THEN $1 ELSE $2 END
                 ORDER BY b.scope, b.period LIMIT $3";
    let query = meta::query(query).bind(day_start(now_ms) as i64).bind(month_start(now_ms) as i64).bind(BUDGETS_MAX);
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(|row| budget(row).map(|(budget, spent)| (budget, spent.unwrap_or(0)))).collect()
}

fn budget(row: &AnyRow) -> Result<(Budget, Option<i64>)> {
    let scope = Scope::parse(&row.try_get::<String, _>(0)?)?;
    let period = Period::parse(&row.try_get::<String, _>(1)?)?;
    Ok((Budget { scope, period, limit_micro: row.try_get(2)? }, row.try_get(3)?))
}

fn ask_reservation(batch: &mut Batch, id: &str) {
    let query = "SELECT project, key_id, tokens, cost_micro, parts, windows, state, value_micro, written_off_micro,
                 at_ms, subject FROM ledger_reservations WHERE id = $1";
    batch.add(query, [id.into()]);
}

fn read_reservation(id: &str, answer: &Answer) -> Result<Option<Kept>> {
    let Some(row) = answer.rows.first() else { return Ok(None) };
    let reservation = Reservation {
        id: id.to_owned(),
        project: row.try_get(0)?,
        most: Used { tokens: row.try_get(2)?, cost_micro: row.try_get(3)? },
        parts: read_parts(&row.try_get::<String, _>(4)?)?,
        windows: read_windows(&row.try_get::<String, _>(5)?)?,
        state: match row.try_get::<String, _>(6)?.as_str() {
            "open" => State::Open,
            "released" => State::Released,
            "settled" => State::Settled(Charge {
                value_micro: row.try_get(7)?,
                written_off_micro: row.try_get(8)?,
                ..Charge::default()
            }),
            other => return Err(Error::row("a reservation", format!("the state {other:?}"))),
        },
    };
    Ok(Some(Kept {
        reservation,
        key: row.try_get(1)?,
        at_ms: row.try_get::<i64, _>(9)? as u64,
        subject: row.try_get(10)?,
    }))
}

pub(crate) fn account(row: &AnyRow) -> Result<Account> {
    Ok(Account {
        id: AccountId::parse(&row.try_get::<String, _>(0)?)?,
        project: row.try_get(1)?,
        balance: row.try_get(2)?,
        floor: row.try_get(3)?,
        starts_ms: row.try_get::<i64, _>(4)? as u64,
        expires_ms: row.try_get::<Option<i64>, _>(5)?.map(|ms| ms as u64),
        is_closed: row.try_get::<Option<i64>, _>(6)?.is_some(),
    })
}

pub(crate) fn write_parts(parts: &[Part]) -> String {
    let pairs: Vec<(&str, i64)> = parts.iter().map(|part| (part.account.as_str(), part.amount)).collect();
    serde_json::to_string(&pairs).expect("pairs become JSON")
}

pub(crate) fn read_parts(text: &str) -> Result<Vec<Part>> {
    let pairs: Vec<(String, i64)> = serde_json::from_str(text).map_err(|error| Error::row("a reservation", error))?;
    pairs.into_iter().map(|(account, amount)| Ok(Part { account: AccountId::parse(&account)?, amount })).collect()
}

pub(crate) fn write_windows(windows: &[Window]) -> String {
    let of = |window: &Window| (window.scope.as_str().to_owned(), window.period.name(), window.start_ms);
    serde_json::to_string(&windows.iter().map(of).collect::<Vec<_>>()).expect("tuples become JSON")
}

fn read_windows(text: &str) -> Result<Vec<Window>> {
    let rows: Vec<(String, String, u64)> =
        serde_json::from_str(text).map_err(|error| Error::row("a reservation", error))?;
    let window = |(scope, period, start_ms): (String, String, u64)| {
        Ok(Window { scope: Scope::parse(&scope)?, period: Period::parse(&period)?, start_ms })
    };
    rows.into_iter().map(window).collect()
}
