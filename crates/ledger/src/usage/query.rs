//! Looking at what was used.

use meta::{AnyRow, AssertSqlSafe, Database, Row as _};
use serde::Serialize;

use crate::Result;

/// Which usage: of everybody and ever where nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// From here on.
    pub from_ms: u64,
    /// Before that; `None`: up to now.
    pub to_ms: Option<u64>,
    /// One project's.
    pub project: Option<String>,
    /// One key's.
    pub key: Option<String>,
    /// One model's.
    pub model: Option<String>,
}

/// What totals are summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// Hours.
    Hour,
    /// Days in UTC.
    #[default]
    Day,
    /// Everything at once.
    All,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Record {
    pub id: String,
    /// When it was settled.
    pub at_ms: i64,
    pub project: String,
    pub key: String,
    pub model: String,
    pub region: String,
    pub activity: String,
    pub outcome: String,
    pub tariff: String,
    pub tokens_in: i64,
    pub tokens_cached: i64,
    pub tokens_out: i64,
    pub units: i64,
    pub price_micro: i64,
    pub paid_micro: i64,
    pub paid_tokens: i64,
    pub latency_ms: i64,
    pub trace: String,
    pub prices: String,
}

/// A sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Total {
    /// When the hour or day began; 0 for everything at once.
    pub start_ms: i64,
    pub project: String,
    pub key: String,
    pub model: String,
    pub region: String,
    pub activity: String,
    pub requests: i64,
    pub tokens_in: i64,
    pub tokens_cached: i64,
    pub tokens_out: i64,
    pub units: i64,
    pub price_micro: i64,
}

/// The most records of one answer.
pub const RECORDS_MAX: i64 = 100_000;

/// Requests, the latest first; `after` is the `at_ms` and `id` of the last one that was seen.
///
/// # Errors
/// If the database cannot be read.
pub async fn records(
    database: &Database,
    filter: &Filter,
    after: Option<(i64, &str)>,
    count: i64,
) -> Result<Vec<Record>> {
    let mut connection = database.read().await?;
    let (before_ms, before_id) = after.unwrap_or((i64::MAX, ""));
    let query = "SELECT id, at_ms, project, key_id, model, region, activity, outcome, tariff, tokens_in, tokens_cached,
         tokens_out, units, price_micro, paid_micro, paid_tokens, latency_ms, trace, prices FROM usage_records
         WHERE at_ms >= $1 AND at_ms < $2 AND ($3 = '' OR project = $3) AND ($4 = '' OR key_id = $4)
         AND ($5 = '' OR model = $5) AND (at_ms < $6 OR (at_ms = $6 AND id < $7))
         ORDER BY at_ms DESC, id DESC LIMIT $8";
    let rows = meta::query(query)
        .bind(filter.from_ms as i64)
        .bind(filter.to_ms.map_or(i64::MAX, |ms| ms as i64))
        .bind(filter.project.as_deref().unwrap_or(""))
        .bind(filter.key.as_deref().unwrap_or(""))
        .bind(filter.model.as_deref().unwrap_or(""))
        .bind(before_ms)
        .bind(before_id)
        .bind(count.clamp(0, RECORDS_MAX))
        .fetch_all(&mut *connection)
        .await?;
    rows.iter().map(record).collect()
}

/// Sums by time, project, key, model, region and activity, from the sums of hours; the earliest first.
///
/// # Errors
/// If the database cannot be read.
pub async fn totals(database: &Database, filter: &Filter, by: By) -> Result<Vec<Total>> {
    let mut connection = database.read().await?;
    let start = match by {
        By::Hour => "hour_ms",
        By::Day => "hour_ms - hour_ms % 86400000",
        By::All => "CAST(0 AS BIGINT)",
    };
    let query = format!(
        "SELECT start_ms, project, key_id, model, region, activity, CAST(SUM(requests) AS BIGINT),
         CAST(SUM(tokens_in) AS BIGINT), CAST(SUM(tokens_cached) AS BIGINT), CAST(SUM(tokens_out) AS BIGINT),
         CAST(SUM(units) AS BIGINT), CAST(SUM(price_micro) AS BIGINT)
         FROM (SELECT {start} AS start_ms, project, key_id, model, region, activity, requests, tokens_in, tokens_cached,
               tokens_out, units, price_micro FROM usage_hours
               WHERE hour_ms >= $1 AND hour_ms < $2 AND ($3 = '' OR project = $3) AND ($4 = '' OR key_id = $4)
               AND ($5 = '' OR model = $5)) AS hours
         GROUP BY start_ms, project, key_id, model, region, activity
         ORDER BY start_ms, project, key_id, model, region, activity LIMIT $6"
    );
    let rows = meta::query(AssertSqlSafe(query))
        .bind(filter.from_ms as i64)
        .bind(filter.to_ms.map_or(i64::MAX, |ms| ms as i64))
        .bind(filter.project.as_deref().unwrap_or(""))
        .bind(filter.key.as_deref().unwrap_or(""))
        .bind(filter.model.as_deref().unwrap_or(""))
        .bind(RECORDS_MAX)
        .fetch_all(&mut *connection)
        .await?;
    rows.iter().map(total).collect()
}

fn record(row: &AnyRow) -> Result<Record> {
    Ok(Record {
        id: row.try_get(0)?,
        at_ms: row.try_get(1)?,
        project: row.try_get(2)?,
        key: row.try_get(3)?,
        model: row.try_get(4)?,
        region: row.try_get(5)?,
        activity: row.try_get(6)?,
        outcome: row.try_get(7)?,
        tariff: row.try_get(8)?,
        tokens_in: row.try_get(9)?,
        tokens_cached: row.try_get(10)?,
        tokens_out: row.try_get(11)?,
        units: row.try_get(12)?,
        price_micro: row.try_get(13)?,
        paid_micro: row.try_get(14)?,
        paid_tokens: row.try_get(15)?,
        latency_ms: row.try_get(16)?,
        trace: row.try_get(17)?,
        prices: row.try_get(18)?,
    })
}

fn total(row: &AnyRow) -> Result<Total> {
    Ok(Total {
        start_ms: row.try_get(0)?,
        project: row.try_get(1)?,
        key: row.try_get(2)?,
        model: row.try_get(3)?,
        region: row.try_get(4)?,
        activity: row.try_get(5)?,
        requests: row.try_get(6)?,
        tokens_in: row.try_get(7)?,
        tokens_cached: row.try_get(8)?,
        tokens_out: row.try_get(9)?,
        units: row.try_get(10)?,
        price_micro: row.try_get(11)?,
    })
}
