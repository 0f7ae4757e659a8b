//! Between rows and books: loads what an operation touches, and writes what it changes.

use meta::{AnyRow, AssertSqlSafe, Connection, Row as _};

use crate::account::{Account, AccountId};
use crate::books::{Books, Change, Charge, Operation, Part, Reservation, State, Used};
use crate::budget::{Budget, Period, Scope, Window};
use crate::calendar::{day_start, month_start};
use crate::{Error, Result};

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

/// The part of the books that an operation reads, and the row of the reservation that it is about.
pub(crate) async fn load(
    connection: &mut Connection,
    operation: &Operation,
    now_ms: u64,
) -> Result<(Books, Option<Kept>)> {
    let mut books = Books::new();
    let mut kept = None;
    match operation {
        Operation::Open { project, .. } => load_project(connection, &mut books, project, now_ms).await?,
        Operation::Deposit { project, .. } | Operation::Refund { project, .. } => {
            load_account(connection, &mut books, &AccountId::prepaid(project)).await?;
        }
        Operation::Grant { account, .. } | Operation::Expire { account } | Operation::ClawBack { account } => {
            load_account(connection, &mut books, account).await?;
        }
        Operation::Reserve(reserve) => {
            load_project(connection, &mut books, &reserve.project, now_ms).await?;
            let scopes = [Scope::project(&reserve.project), Scope::key(&reserve.key)];
            load_budgets(connection, &mut books, &scopes, now_ms).await?;
        }
        Operation::Settle { reservation, used } => {
            kept = load_reservation(connection, reservation).await?;
            if let Some(Kept { reservation, key, at_ms, .. }) = &kept {
                books.reservations.insert(reservation.id.clone(), reservation.clone());
                if !reservation.covers(*used) {
                    load_project(connection, &mut books, &reservation.project, now_ms).await?;
                    // The windows in which it was reserved, which may not be those of now.
                    let scopes = [Scope::project(&reservation.project), Scope::key(key)];
                    load_budgets(connection, &mut books, &scopes, *at_ms).await?;
                }
                assume_accounts(&mut books, reservation);
            }
        }
        Operation::Release { reservation } => {
            kept = load_reservation(connection, reservation).await?;
            if let Some(Kept { reservation, .. }) = &kept {
                books.reservations.insert(reservation.id.clone(), reservation.clone());
                assume_accounts(&mut books, reservation);
            }
        }
    }
    Ok((books, kept))
}

/// What a settlement within its reservation moves lies in the reservation itself: the held accounts hold it, because
/// the reservation is open. So their rows need not be read; the database's own check guards them.
fn assume_accounts(books: &mut Books, reservation: &Reservation) {
    for part in &reservation.parts {
        let held = AccountId::held(&reservation.project, part.account.unit());
        for id in [held, part.account.clone()] {
            books.accounts.entry(id.clone()).or_insert_with(|| Account::new(id, None, None));
        }
    }
}

async fn load_project(connection: &mut Connection, books: &mut Books, project: &str, now_ms: u64) -> Result<()> {
    let query = "SELECT id, project, balance, floor, starts_ms, expires_ms, closed_ms FROM ledger_accounts
                 WHERE project = $1 AND closed_ms IS NULL AND (expires_ms IS NULL OR expires_ms > $2)
                 AND (balance > 0 OR id NOT LIKE 'grant:%') ORDER BY expires_ms, id LIMIT $3";
    let query = meta::query(query).bind(project).bind(now_ms as i64).bind(ACCOUNTS_MAX);
    let rows = query.fetch_all(connection).await?;
    for row in &rows {
        let account = account(row)?;
        books.accounts.insert(account.id.clone(), account);
    }
    Ok(())
}

async fn load_account(connection: &mut Connection, books: &mut Books, id: &AccountId) -> Result<()> {
    let query = "SELECT id, project, balance, floor, starts_ms, expires_ms, closed_ms FROM ledger_accounts
                 WHERE id = $1";
    if let Some(row) = meta::query(query).bind(id.as_str()).fetch_optional(connection).await? {
        let account = account(&row)?;
        books.accounts.insert(account.id.clone(), account);
    }
    Ok(())
}

async fn load_budgets(connection: &mut Connection, books: &mut Books, scopes: &[Scope; 2], at_ms: u64) -> Result<()> {
    let query = "SELECT b.scope, b.period, b.limit_micro, s.amount_micro
                 FROM ledger_budgets b LEFT JOIN ledger_spent s ON s.scope = b.scope AND s.period = b.period
                     AND s.start_ms = CASE b.period WHEN 'day' THEN $1 ELSE $2 END
                 WHERE b.scope IN ($3, $4)";
    let rows = meta::query(query)
        .bind(day_start(at_ms) as i64)
        .bind(month_start(at_ms) as i64)
        .bind(scopes[0].as_str())
        .bind(scopes[1].as_str())
        .fetch_all(connection)
        .await?;
    for row in &rows {
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

async fn load_reservation(connection: &mut Connection, id: &str) -> Result<Option<Kept>> {
    let query = "SELECT project, key_id, tokens, cost_micro, parts, windows, state, value_micro, written_off_micro,
                 at_ms, subject FROM ledger_reservations WHERE id = $1";
    let Some(row) = meta::query(query).bind(id).fetch_optional(connection).await? else { return Ok(None) };
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

/// Writes what an operation changes, but for its reservation.
pub(crate) async fn persist(
    connection: &mut Connection,
    transaction_id: i64,
    change: &Change,
    now_ms: u64,
) -> Result<()> {
    for account in &change.opened {
        let query = "INSERT INTO ledger_accounts (id, project, balance, floor, starts_ms, expires_ms)
                     VALUES ($1, $2, 0, $3, $4, $5) ON CONFLICT (id) DO UPDATE SET floor = excluded.floor";
        meta::query(query)
            .bind(account.id.as_str())
            .bind(account.project.as_deref())
            .bind(account.floor)
            .bind(account.starts_ms as i64)
            .bind(account.expires_ms.map(|ms| ms as i64))
            .execute(&mut *connection)
            .await?;
    }
    let entries: Vec<(&str, i64)> =
        change.entries.iter().map(|(id, &amount)| (id.as_str(), amount)).filter(|&(_, amount)| amount != 0).collect();
    post(connection, transaction_id, &entries).await?;
    for id in &change.closed {
        let query = "UPDATE ledger_accounts SET closed_ms = $1 WHERE id = $2 AND closed_ms IS NULL";
        meta::query(query).bind(now_ms as i64).bind(id.as_str()).execute(&mut *connection).await?;
    }
    for (window, amount) in change.spent.iter().filter(|(_, amount)| *amount != 0) {
        let query = "INSERT INTO ledger_spent (scope, period, start_ms, amount_micro) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (scope, period, start_ms)
                     DO UPDATE SET amount_micro = ledger_spent.amount_micro + excluded.amount_micro";
        meta::query(query)
            .bind(window.scope.as_str())
            .bind(window.period.name())
            .bind(window.start_ms as i64)
            .bind(*amount)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Adds the entries and moves the balances by them: two statements for any number of accounts.
async fn post(connection: &mut Connection, transaction_id: i64, entries: &[(&str, i64)]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let places = |first: &str| -> String {
        let pair = |index: usize| format!("({first}${}, ${})", 2 * index + 2, 2 * index + 3);
        (0..entries.len()).map(pair).collect::<Vec<String>>().join(", ")
    };
    let insert = format!("INSERT INTO ledger_entries (transaction_id, account, amount) VALUES {}", places("$1, "));
    let mut query = meta::query(AssertSqlSafe(insert)).bind(transaction_id);
    for &(account, amount) in entries {
        query = query.bind(account).bind(amount);
    }
    query.execute(&mut *connection).await?;
    // The first place is unused, so that both statements count alike; both databases want it mentioned.
    let update = format!(
        "UPDATE ledger_accounts SET balance = balance + moved.column2 FROM (VALUES {}) AS moved
         WHERE ledger_accounts.id = moved.column1 AND $1 > 0",
        places("")
    );
    let mut query = meta::query(AssertSqlSafe(update)).bind(transaction_id);
    for &(account, amount) in entries {
        query = query.bind(account).bind(amount);
    }
    let moved = query.execute(connection).await?.rows_affected();
    if moved != entries.len() as u64 {
        return Err(Error::row("an account", format!("{moved} of {} accounts exist", entries.len())));
    }
    Ok(())
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
