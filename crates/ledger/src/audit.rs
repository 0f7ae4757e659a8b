//! Whether the books are true: every rule is computed again from the entries, which nobody ever changes.

use meta::{Connection, Row as _};

use crate::books::OVERRUN_PERCENT;
use crate::{Ledger, Result};

/// Findings of one rule that are told by name.
const FINDINGS_MAX: i64 = 20;

/// What an audit saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Transactions that were looked at.
    pub transactions: i64,
    /// Entries that were looked at.
    pub entries: i64,
    /// Accounts that were looked at.
    pub accounts: i64,
    /// Reservations that were looked at.
    pub reservations: i64,
    /// What is wrong, one sentence each. Empty: the books are true.
    pub findings: Vec<String>,
}

/// A rule: what it says, and a query that finds what breaks it: its name and two numbers.
struct Rule {
    broken: &'static str,
    query: &'static str,
    /// What stands at the second place.
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    Nothing,
    Overrun,
    DayAgo,
}

const RULES: [Rule; 9] = [
    Rule {
        broken: "the entries of a transaction do not sum to zero (transaction, sum, unit 1: tokens)",
        query: "SELECT CAST(e.transaction_id AS TEXT), CAST(SUM(e.amount) AS BIGINT),
                    CAST(CASE WHEN e.account LIKE '%:token' THEN 1 ELSE 0 END AS BIGINT)
                FROM ledger_entries e GROUP BY e.transaction_id, CASE WHEN e.account LIKE '%:token' THEN 1 ELSE 0 END
                HAVING SUM(e.amount) <> 0 LIMIT $1",
        bound: Bound::Nothing,
    },
    Rule {
        broken: "a balance is not what its entries sum to (account, balance, sum)",
        query: "SELECT a.id, a.balance, CAST(COALESCE(s.total, 0) AS BIGINT) FROM ledger_accounts a
                LEFT JOIN (SELECT account, SUM(amount) AS total FROM ledger_entries GROUP BY account) s
                ON s.account = a.id
                WHERE a.balance <> COALESCE(s.total, 0) LIMIT $1",
        bound: Bound::Nothing,
    },
    Rule {
        broken: "a balance is below its floor (account, balance, floor)",
        query: "SELECT id, balance, floor FROM ledger_accounts WHERE floor IS NOT NULL AND balance < floor LIMIT $1",
        bound: Bound::Nothing,
    },
    Rule {
        broken: "entries belong to no account or no transaction (account, transaction, amount)",
        query: "SELECT e.account, e.transaction_id, e.amount FROM ledger_entries e
                LEFT JOIN ledger_accounts a ON a.id = e.account
                LEFT JOIN ledger_transactions t ON t.id = e.transaction_id
                WHERE a.id IS NULL OR t.id IS NULL LIMIT $1",
        bound: Bound::Nothing,
    },
    Rule {
        broken: "a reservation was charged more than the overrun allows (reservation, charged, reserved)",
        query: "SELECT id, value_micro, cost_micro FROM ledger_reservations
                WHERE (value_micro - cost_micro) * 100 >= cost_micro * $2 + 100 LIMIT $1",
        bound: Bound::Overrun,
    },
    Rule {
        broken: "a reservation has ended and no transaction ended it, or two did (reservation, number, 0)",
        query: "SELECT r.id, CAST(COUNT(t.id) AS BIGINT), CAST(0 AS BIGINT) FROM ledger_reservations r
                LEFT JOIN ledger_transactions t ON t.name IN ('settle:' || r.id, 'release:' || r.id)
                GROUP BY r.id, r.state HAVING COUNT(t.id) <> CASE r.state WHEN 'open' THEN 0 ELSE 1 END LIMIT $1",
        bound: Bound::Nothing,
    },
    Rule {
        broken: "a charge is not what its usage record says (reservation, charged, recorded)",
        query: "SELECT r.id, r.value_micro, COALESCE(u.price_micro, -1) FROM ledger_reservations r
                LEFT JOIN usage_records u ON u.id = r.id
                WHERE (r.state = 'settled' AND (u.id IS NULL OR u.price_micro <> r.value_micro))
                   OR (r.state <> 'settled' AND u.id IS NOT NULL) LIMIT $1",
        bound: Bound::Nothing,
    },
    Rule {
        broken: "the hours do not sum to the records (project, hours, records)",
        query: "SELECT r.project, CAST(COALESCE(h.total, 0) AS BIGINT), CAST(r.total AS BIGINT) FROM
                (SELECT project, SUM(price_micro + tokens_in + tokens_out) AS total FROM usage_records
                 GROUP BY project) r
                LEFT JOIN
                (SELECT project, SUM(price_micro + tokens_in + tokens_out) AS total FROM usage_hours GROUP BY project) h
                ON h.project = r.project WHERE COALESCE(h.total, 0) <> r.total LIMIT $1",
        bound: Bound::Nothing,
    },
    Rule {
        broken: "an open reservation is older than a day (reservation, reserved at, cost)",
        query: "SELECT id, at_ms, cost_micro FROM ledger_reservations WHERE state = 'open' AND at_ms < $2 LIMIT $1",
        bound: Bound::DayAgo,
    },
];

impl Ledger {
    /// Computes every rule again. Reads one state of the database; writers go on meanwhile.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn audit(&self) -> Result<Audit> {
        let mut connection = self.database.read().await?;
        // One state for all rules: what is booked meanwhile is not half seen.
        let begin = match self.database.flavour() {
            meta::Flavour::Sqlite => "BEGIN",
            meta::Flavour::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        meta::query(begin).execute(&mut *connection).await?;
        let audited = audit(&mut connection, self.clock.now_ms()).await;
        meta::query("COMMIT").execute(&mut *connection).await?;
        audited
    }
}

async fn audit(connection: &mut Connection, now_ms: u64) -> Result<Audit> {
    let mut audit = Audit {
        transactions: count(connection, "SELECT COUNT(*) FROM ledger_transactions").await?,
        entries: count(connection, "SELECT COUNT(*) FROM ledger_entries").await?,
        accounts: count(connection, "SELECT COUNT(*) FROM ledger_accounts").await?,
        reservations: count(connection, "SELECT COUNT(*) FROM ledger_reservations").await?,
        findings: Vec::new(),
    };
    let day_ago_ms = now_ms.saturating_sub(crate::calendar::DAY_MS) as i64;
    for rule in &RULES {
        let mut query = meta::query(rule.query).bind(FINDINGS_MAX);
        match rule.bound {
            Bound::Nothing => {}
            Bound::Overrun => query = query.bind(OVERRUN_PERCENT),
            Bound::DayAgo => query = query.bind(day_ago_ms),
        }
        for row in query.fetch_all(&mut *connection).await? {
            let (name, one, other): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            audit.findings.push(format!("{}: {name}, {one}, {other}", rule.broken));
        }
    }
    held(connection, &mut audit).await?;
    Ok(audit)
}

/// What accounts hold for running requests is what the open reservations say.
async fn held(connection: &mut Connection, audit: &mut Audit) -> Result<()> {
    let mut expected = std::collections::BTreeMap::new();
    let query = meta::query("SELECT project, parts FROM ledger_reservations WHERE state = 'open'");
    for row in query.fetch_all(&mut *connection).await? {
        let (project, parts): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        for part in crate::rows::read_parts(&parts)? {
            *expected.entry(crate::AccountId::held(&project, part.account.unit())).or_insert(0) += part.amount;
        }
    }
    for row in
        meta::query("SELECT id, balance FROM ledger_accounts WHERE id LIKE 'held:%'").fetch_all(connection).await?
    {
        let (id, balance): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        let open = expected.remove(&crate::AccountId::parse(&id)?).unwrap_or(0);
        if open != balance {
            audit.findings.push(format!("an account holds {balance} for open reservations of {open}: {id}"));
        }
    }
    audit.findings.extend(expected.into_keys().map(|id| format!("open reservations have no account: {id}")));
    Ok(())
}

async fn count(connection: &mut Connection, query: &'static str) -> Result<i64> {
    Ok(meta::query(query).fetch_one(connection).await?.try_get(0)?)
}
