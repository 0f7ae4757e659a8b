//! What transactions change, gathered and written in one go: the same statements for one transaction and for hundreds,
//! and what many add to one account, budget or hour is added once.

use std::collections::BTreeMap;

use meta::{Batch, Value};

use super::{Kept, write_parts, write_windows};
use crate::account::AccountId;
use crate::books::{Change, Charge, Reservation, State};
use crate::budget::Window;
use crate::ledger::Transaction;
use crate::usage::{Hour, Recorded};

/// Rows of the tables of the books.
#[derive(Default)]
pub(crate) struct Writing {
    transactions: Vec<[Value; 5]>,
    opened: Vec<[Value; 5]>,
    entries: Vec<[Value; 3]>,
    balances: BTreeMap<AccountId, i64>,
    closed: Vec<[Value; 2]>,
    spent: BTreeMap<Window, i64>,
    reserved: Vec<[Value; 11]>,
    ended: Vec<[Value; 4]>,
    records: Vec<[Value; 19]>,
    hours: BTreeMap<Hour, [i64; 6]>,
}

impl Writing {
    /// A transaction, which must be new.
    pub(crate) fn transaction(&mut self, transaction: &Transaction, what: &str, now_ms: u64) {
        let Transaction { name, operation: _, actor, memo } = transaction;
        let (name, actor, memo) = (name.as_str(), actor.as_str(), memo.as_str());
        self.transactions.push([name.into(), what.into(), (now_ms as i64).into(), actor.into(), memo.into()]);
    }

    /// What the transaction of this name changes, but for its reservation.
    pub(crate) fn change(&mut self, name: &str, change: &Change, now_ms: u64) {
        for account in &change.opened {
            self.opened.push([
                account.id.as_str().into(),
                account.project.as_deref().into(),
                account.floor.into(),
                (account.starts_ms as i64).into(),
                account.expires_ms.map(|ms| ms as i64).into(),
            ]);
        }
        for (id, &amount) in change.entries.iter().filter(|&(_, &amount)| amount != 0) {
            self.entries.push([name.into(), id.as_str().into(), amount.into()]);
            *self.balances.entry(id.clone()).or_default() += amount;
        }
        self.closed.extend(change.closed.iter().map(|id| [id.as_str().into(), (now_ms as i64).into()]));
        for (window, amount) in &change.spent {
            *self.spent.entry(window.clone()).or_default() += amount;
        }
    }

    /// A new reservation.
    pub(crate) fn reservation(&mut self, kept: &Kept, owner: &str, noted: String) {
        let Kept { reservation, key, at_ms, subject } = kept;
        self.reserved.push([
            reservation.id.as_str().into(),
            owner.into(),
            reservation.project.as_str().into(),
            key.as_str().into(),
            reservation.most.tokens.into(),
            reservation.most.cost_micro.into(),
            write_parts(&reservation.parts).into(),
            write_windows(&reservation.windows).into(),
            subject.as_str().into(),
            noted.into(),
            (*at_ms as i64).into(),
        ]);
    }

    /// What became of an open reservation.
    pub(crate) fn end(&mut self, reservation: &Reservation) {
        let (state, charge) = match reservation.state {
            State::Open => ("open", Charge::default()),
            State::Settled(charge) => ("settled", charge),
            State::Released => ("released", Charge::default()),
        };
        let id = reservation.id.as_str();
        self.ended.push([id.into(), state.into(), charge.value_micro.into(), charge.written_off_micro.into()]);
    }

    /// A usage record, and what it adds to its hour.
    pub(crate) fn record(&mut self, Recorded { record, hour, sums }: Recorded) {
        self.records.push(record);
        let sum = self.hours.entry(hour).or_default();
        sum.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
    }

    /// The statements that write all of it.
    pub(crate) fn into_batch(self) -> Batch {
        // An account that is new, or is closed, is written twice.
        let is_at_once = self.opened.is_empty() && self.closed.is_empty();
        let mut batch = Batch::new();
        add(&mut batch, TRANSACTIONS, &self.transactions);
        add(&mut batch, OPENED, &self.opened);
        add(&mut batch, ENTRIES, &self.entries);
        let balances: Vec<[Value; 2]> =
            self.balances.iter().map(|(id, &amount)| [id.as_str().into(), amount.into()]).collect();
        add_exactly(&mut batch, BALANCES, &balances);
        add(&mut batch, CLOSED, &self.closed);
        let spent = self.spent.iter().filter(|&(_, &amount)| amount != 0);
        let spent: Vec<[Value; 4]> = spent
            .map(|(window, &amount)| {
                let start_ms = window.start_ms as i64;
                [window.scope.as_str().into(), window.period.name().into(), start_ms.into(), amount.into()]
            })
            .collect();
        add(&mut batch, SPENT, &spent);
        add(&mut batch, RESERVED, &self.reserved);
        add_exactly(&mut batch, ENDED, &self.ended);
        add(&mut batch, RECORDS, &self.records);
        let hours: Vec<[Value; 12]> = self.hours.into_iter().map(hour).collect();
        add(&mut batch, HOURS, &hours);
        if is_at_once { batch.at_once() } else { batch }
    }
}

fn hour((hour, sums): (Hour, [i64; 6])) -> [Value; 12] {
    let Hour { hour_ms, project, key, model, region, activity } = hour;
    let [requests, tokens_in, tokens_cached, tokens_out, units, price_micro] = sums.map(Value::from);
    let whose = [hour_ms.into(), project.into(), key.into(), model.into(), region.into(), activity.into()];
    let [hour_ms, project, key, model, region, activity] = whose;
    [hour_ms, project, key, model, region, activity, requests, tokens_in, tokens_cached, tokens_out, units, price_micro]
}

fn add<const N: usize>(batch: &mut Batch, statement: &str, rows: &[[Value; N]]) {
    if !rows.is_empty() {
        batch.add_rows(statement, rows);
    }
}

/// As [`add`]; each of the rows writes one.
fn add_exactly<const N: usize>(batch: &mut Batch, statement: &str, rows: &[[Value; N]]) {
    if !rows.is_empty() {
        batch.add_rows(statement, rows);
        batch.expect_written(rows.len() as u64);
    }
}

const TRANSACTIONS: &str = "INSERT INTO ledger_transactions (name, what, at_ms, actor, memo)
    SELECT value->>0, value->>1, CAST(value->>2 AS BIGINT), value->>3, value->>4 FROM {rows}";

const OPENED: &str = "INSERT INTO ledger_accounts (id, project, balance, floor, starts_ms, expires_ms)
    SELECT value->>0, value->>1, 0, CAST(value->>2 AS BIGINT), CAST(value->>3 AS BIGINT), CAST(value->>4 AS BIGINT)
    FROM {rows} WHERE true ON CONFLICT (id) DO UPDATE SET floor = excluded.floor";

/// The rows come first, whatever the database thinks of their number.
const ENTRIES: &str = "INSERT INTO ledger_entries (transaction_id, account, amount)
    SELECT t.id, e.value->>1, CAST(e.value->>2 AS BIGINT)
    FROM {rows} AS e CROSS JOIN {new ledger_transactions} AS t WHERE t.name = e.value->>0";

const BALANCES: &str = "UPDATE ledger_accounts SET balance = balance + moved.amount
    FROM (SELECT value->>0 AS account, CAST(value->>1 AS BIGINT) AS amount FROM {rows}) AS moved
    WHERE ledger_accounts.id = moved.account";

const CLOSED: &str = "UPDATE ledger_accounts SET closed_ms = ended.at_ms
    FROM (SELECT value->>0 AS account, CAST(value->>1 AS BIGINT) AS at_ms FROM {rows}) AS ended
    WHERE ledger_accounts.id = ended.account AND closed_ms IS NULL";

const SPENT: &str = "INSERT INTO ledger_spent (scope, period, start_ms, amount_micro)
    SELECT value->>0, value->>1, CAST(value->>2 AS BIGINT), CAST(value->>3 AS BIGINT) FROM {rows} WHERE true
    ON CONFLICT (scope, period, start_ms)
    DO UPDATE SET amount_micro = ledger_spent.amount_micro + excluded.amount_micro";

const RESERVED: &str =
    "INSERT INTO ledger_reservations (id, owner, project, key_id, tokens, cost_micro, parts, windows,
     subject, noted, state, value_micro, written_off_micro, at_ms)
    SELECT value->>0, value->>1, value->>2, value->>3, CAST(value->>4 AS BIGINT), CAST(value->>5 AS BIGINT),
     value->>6, value->>7, value->>8, value->>9, 'open', 0, 0, CAST(value->>10 AS BIGINT) FROM {rows}";

const ENDED: &str = "UPDATE ledger_reservations
    SET state = ended.state, value_micro = ended.value_micro, written_off_micro = ended.written_off_micro
    FROM (SELECT value->>0 AS id, value->>1 AS state, CAST(value->>2 AS BIGINT) AS value_micro,
          CAST(value->>3 AS BIGINT) AS written_off_micro FROM {rows}) AS ended
    WHERE ledger_reservations.id = ended.id AND ledger_reservations.state = 'open'";

const RECORDS: &str = "INSERT INTO usage_records (id, at_ms, project, key_id, model, region, activity, outcome, tariff,
     tokens_in, tokens_cached, tokens_out, units, price_micro, paid_micro, paid_tokens, latency_ms, trace, prices)
    SELECT value->>0, CAST(value->>1 AS BIGINT), value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
     value->>8, CAST(value->>9 AS BIGINT), CAST(value->>10 AS BIGINT), CAST(value->>11 AS BIGINT),
     CAST(value->>12 AS BIGINT), CAST(value->>13 AS BIGINT), CAST(value->>14 AS BIGINT), CAST(value->>15 AS BIGINT),
     CAST(value->>16 AS BIGINT), value->>17, value->>18 FROM {rows}";

const HOURS: &str = "INSERT INTO usage_hours (hour_ms, project, key_id, model, region, activity, requests, tokens_in,
     tokens_cached, tokens_out, units, price_micro)
    SELECT CAST(value->>0 AS BIGINT), value->>1, value->>2, value->>3, value->>4, value->>5, CAST(value->>6 AS BIGINT),
     CAST(value->>7 AS BIGINT), CAST(value->>8 AS BIGINT), CAST(value->>9 AS BIGINT), CAST(value->>10 AS BIGINT),
     CAST(value->>11 AS BIGINT) FROM {rows} WHERE true
    ON CONFLICT (hour_ms, project, key_id, model, region, activity) DO UPDATE SET
     requests = usage_hours.requests + excluded.requests,
     tokens_in = usage_hours.tokens_in + excluded.tokens_in,
     tokens_cached = usage_hours.tokens_cached + excluded.tokens_cached,
     tokens_out = usage_hours.tokens_out + excluded.tokens_out,
     units = usage_hours.units + excluded.units,
     price_micro = usage_hours.price_micro + excluded.price_micro";
