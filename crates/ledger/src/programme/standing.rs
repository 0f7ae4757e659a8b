//! How grants stand: what was used, how fast, and when it ends.

use meta::{Connection, Row as _};
use serde::Serialize;

use super::desk::{LISTED_MAX, Programmes, account};
use crate::account::Unit;
use crate::calendar::{DAY_MS, day_start};
use crate::money::share_up;
use crate::{Error, Result};

/// Somebody is told when so much of what came is used.
pub const ALERTS_PERCENT: [i64; 3] = [50, 80, 95];
/// A forecast looks back so many days.
const FORECAST_DAYS: u64 = 14;
/// Days of a burn-down.
const BURN_DAYS: u64 = 90;

/// What became of a tranche.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrancheState {
    /// It waits for its milestone.
    Waiting,
    /// It came.
    Released,
    /// It will not come: the grant was taken back.
    Cancelled,
}

/// How a tranche stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TrancheStanding {
    pub number: i64,
    pub milestone: String,
    pub state: TrancheState,
    pub tokens: i64,
    pub tokens_left: i64,
    pub micro: i64,
    pub micro_left: i64,
    /// 0: it has not come.
    pub expires_ms: i64,
}

/// What was used on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Burn {
    pub day_ms: i64,
    pub tokens: i64,
    pub micro: i64,
}

/// A step in the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Event {
    pub at_ms: i64,
    pub actor: String,
    pub action: String,
    pub detail: String,
}

/// Much of a grant is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Which.
    pub grant: String,
    /// Whose.
    pub project: String,
    /// `token` or `micro`.
    pub unit: String,
    /// Which of [`ALERTS_PERCENT`] was passed.
    pub percent: i64,
    /// When it was noticed.
    pub at_ms: i64,
}

/// How a grant stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Standing {
    pub id: String,
    pub programme: String,
    pub project: String,
    /// `active` or `clawed back`.
    pub state: String,
    pub tokens: i64,
    pub micro: i64,
    pub tranches: Vec<TrancheStanding>,
    /// What was used by day, the days without use left out; what running requests may still use counts as used.
    pub burned: Vec<Burn>,
    /// When what has come is used up, at the pace of the last days; absent where nothing is used.
    pub used_up_ms: Option<i64>,
    pub alerts: Vec<Alert>,
    pub trail: Vec<Event>,
}

impl Programmes {
    /// Every grant's name, programme, project and state, the latest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn grants(&self) -> Result<Vec<Standing>> {
        let mut connection = self.ledger.database.read().await?;
        let query = meta::query("SELECT id FROM programme_grants ORDER BY created_ms DESC, id LIMIT $1");
        let mut grants = Vec::new();
        for row in query.bind(GRANTS_LISTED_MAX).fetch_all(&mut *connection).await? {
            let id: String = row.try_get(0)?;
            grants.push(standing(&mut connection, &id, self.ledger.clock.now_ms()).await?);
        }
        Ok(grants)
    }

    /// How one grant stands.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn standing(&self, grant: &str) -> Result<Standing> {
        let mut connection = self.ledger.database.read().await?;
        standing(&mut connection, grant, self.ledger.clock.now_ms()).await
    }

    /// Looks which grants passed which mark since the last time. Call it now and then; each mark is told once, and
    /// again only after more has come.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn watch(&self) -> Result<Vec<Alert>> {
        let now_ms = self.ledger.clock.now_ms() as i64;
        let passed = self.passed().await?;
        if passed.is_empty() {
            return Ok(Vec::new());
        }
        let written = self.ledger.database.write(move |connection| {
            Box::pin(async move {
                let mut alerts = Vec::new();
                for (grant, project, unit, percent, released) in passed {
                    let query = "INSERT INTO programme_alerts (grant_id, unit, percent, released, at_ms)
                                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
                    let query = meta::query(query).bind(grant.as_str()).bind(unit.name()).bind(percent).bind(released);
                    if query.bind(now_ms).execute(&mut *connection).await?.rows_affected() == 1 {
                        alerts.push(Alert { grant, project, unit: unit.name().to_owned(), percent, at_ms: now_ms });
                    }
                }
                Ok::<_, Error>(alerts)
            })
        });
        let alerts = written.await?;
        for alert in &alerts {
            let (grant, project, unit, percent) = (&alert.grant, &alert.project, &alert.unit, alert.percent);
            tracing::warn!(grant, project, unit, percent, "a grant is used up by so much");
        }
        Ok(alerts)
    }

    /// Marks that active grants are beyond and nobody was told of.
    async fn passed(&self) -> Result<Vec<(String, String, Unit, i64, i64)>> {
        let mut connection = self.ledger.database.read().await?;
        let mut passed = Vec::new();
        for (unit, column) in [(Unit::Token, "tokens"), (Unit::Micro, "micro")] {
            let query = format!(
                "SELECT g.id, g.project, CAST(SUM(t.{column}) AS BIGINT), CAST(SUM(a.balance) AS BIGINT),
                     (SELECT CAST(COALESCE(MAX(m.percent), 0) AS BIGINT) FROM programme_alerts m
                      WHERE m.grant_id = g.id AND m.unit = '{unit}' AND m.released = SUM(t.{column}))
                 FROM programme_grants g
                 JOIN programme_tranches t ON t.grant_id = g.id AND t.state = 'released' AND t.{column} > 0
                 JOIN ledger_accounts a ON a.id = 'grant:' || g.id || '-' || t.number || ':{unit}'
                 WHERE g.state = 'active' GROUP BY g.id, g.project LIMIT $1",
                unit = unit.name()
            );
            let query = meta::query(meta::AssertSqlSafe(query)).bind(LISTED_MAX);
            for row in query.fetch_all(&mut *connection).await? {
                let (released, left): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
                let used = i128::from(released - left) * 100;
                let told: i64 = row.try_get(4)?;
                let news = ALERTS_PERCENT.into_iter().filter(|&percent| percent > told);
                for percent in news.filter(|&percent| used >= i128::from(released) * i128::from(percent)) {
                    passed.push((row.try_get(0)?, row.try_get(1)?, unit, percent, released));
                }
            }
        }
        Ok(passed)
    }
}

/// Grants of one list, each with all that is known of it.
const GRANTS_LISTED_MAX: i64 = 1000;

async fn standing(connection: &mut Connection, id: &str, now_ms: u64) -> Result<Standing> {
    let query = "SELECT programme, project, state, tokens, micro FROM programme_grants WHERE id = $1";
    let row = meta::query(query).bind(id).fetch_optional(&mut *connection).await?;
    let row = row.ok_or_else(|| Error::Missing { what: "grant", name: id.to_owned() })?;
    let tranches = tranches(connection, id).await?;
    let burned = burned(connection, id, now_ms).await?;
    let used_up_ms = forecast(&tranches, &burned, now_ms);
    let project: String = row.try_get(1)?;
    Ok(Standing {
        id: id.to_owned(),
        programme: row.try_get(0)?,
        state: row.try_get(2)?,
        tokens: row.try_get(3)?,
        micro: row.try_get(4)?,
        tranches,
        burned,
        used_up_ms,
        alerts: alerts(connection, id, &project).await?,
        trail: trail(connection, id).await?,
        project,
    })
}

async fn tranches(connection: &mut Connection, grant: &str) -> Result<Vec<TrancheStanding>> {
    let query = "SELECT number, milestone, state, tokens, micro, expires_ms FROM programme_tranches
                 WHERE grant_id = $1 ORDER BY number";
    let mut tranches = Vec::new();
    for row in meta::query(query).bind(grant).fetch_all(&mut *connection).await? {
        let (number, state): (i64, String) = (row.try_get(0)?, row.try_get(2)?);
        let mut left = [0, 0];
        for (unit, left) in Unit::ALL.into_iter().zip(&mut left) {
            let account = account(grant, number, unit);
            let query = meta::query("SELECT balance FROM ledger_accounts WHERE id = $1").bind(account.as_str());
            if let Some(row) = query.fetch_optional(&mut *connection).await? {
                *left = row.try_get(0)?;
            }
        }
        tranches.push(TrancheStanding {
            number,
            milestone: row.try_get(1)?,
            state: match state.as_str() {
                "waiting" => TrancheState::Waiting,
                "released" => TrancheState::Released,
                "cancelled" => TrancheState::Cancelled,
                _ => return Err(Error::row("a tranche", format!("the state {state:?}"))),
            },
            tokens: row.try_get(3)?,
            tokens_left: left[0],
            micro: row.try_get(4)?,
            micro_left: left[1],
            expires_ms: row.try_get(5)?,
        });
    }
    Ok(tranches)
}

async fn burned(connection: &mut Connection, grant: &str, now_ms: u64) -> Result<Vec<Burn>> {
    let query = "SELECT day_ms, CAST(SUM(tokens) AS BIGINT), CAST(SUM(micro) AS BIGINT) FROM
                 (SELECT t.at_ms - t.at_ms % 86400000 AS day_ms,
                      CASE WHEN e.account LIKE '%:token' THEN -e.amount ELSE 0 END AS tokens,
                      CASE WHEN e.account LIKE '%:token' THEN 0 ELSE -e.amount END AS micro
                  FROM programme_tranches p
                  JOIN ledger_entries e ON e.account IN ('grant:' || p.grant_id || '-' || p.number || ':token',
                      'grant:' || p.grant_id || '-' || p.number || ':micro')
                  JOIN ledger_transactions t ON t.id = e.transaction_id
                  WHERE p.grant_id = $1 AND t.at_ms >= $2 AND t.what IN ('reserve', 'settle', 'release')) AS days
                 GROUP BY day_ms HAVING SUM(tokens) <> 0 OR SUM(micro) <> 0 ORDER BY day_ms";
    let from_ms = day_start(now_ms).saturating_sub(BURN_DAYS * DAY_MS);
    let rows = meta::query(query).bind(grant).bind(from_ms as i64).fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok(Burn { day_ms: row.try_get(0)?, tokens: row.try_get(1)?, micro: row.try_get(2)? }))
        .collect()
}

async fn alerts(connection: &mut Connection, grant: &str, project: &str) -> Result<Vec<Alert>> {
    let query = "SELECT unit, percent, at_ms FROM programme_alerts WHERE grant_id = $1 ORDER BY at_ms, unit, percent";
    let rows = meta::query(query).bind(grant).fetch_all(connection).await?;
    let alert = |row: &meta::AnyRow| {
        let (grant, project) = (grant.to_owned(), project.to_owned());
        Ok(Alert { grant, project, unit: row.try_get(0)?, percent: row.try_get(1)?, at_ms: row.try_get(2)? })
    };
    rows.iter().map(alert).collect()
}

async fn trail(connection: &mut Connection, subject: &str) -> Result<Vec<Event>> {
    let query = "SELECT at_ms, actor, action, detail FROM programme_trail
                 WHERE subject = $1 OR subject = (SELECT application_id FROM programme_grants WHERE id = $1)
                 ORDER BY id LIMIT $2";
    let rows = meta::query(query).bind(subject).bind(LISTED_MAX).fetch_all(connection).await?;
    let event = |row: &meta::AnyRow| {
        Ok(Event { at_ms: row.try_get(0)?, actor: row.try_get(1)?, action: row.try_get(2)?, detail: row.try_get(3)? })
    };
    rows.iter().map(event).collect()
}

/// When the sooner of tokens and money is used up, at the pace of the last days.
fn forecast(tranches: &[TrancheStanding], burned: &[Burn], now_ms: u64) -> Option<i64> {
    let from_ms = now_ms.saturating_sub(FORECAST_DAYS * DAY_MS);
    let recent: Vec<&Burn> = burned.iter().filter(|burn| burn.day_ms as u64 + DAY_MS > from_ms).collect();
    let first_ms = recent.first()?.day_ms as u64;
    let span_ms = now_ms.saturating_sub(first_ms.max(from_ms)).max(DAY_MS) as i64;
    let sum = |of: fn(&TrancheStanding) -> i64| tranches.iter().map(of).sum::<i64>();
    let tokens = (sum(|tranche| tranche.tokens_left), recent.iter().map(|burn| burn.tokens).sum::<i64>());
    let micro = (sum(|tranche| tranche.micro_left), recent.iter().map(|burn| burn.micro).sum::<i64>());
    let ends = |(left, used): (i64, i64)| {
        // What is used more slowly than in a thousand spans ends with its day, not with its use.
        (used > 0 && left > 0 && left / used < 1000).then(|| {
            let whole = (left / used) * span_ms;
            now_ms as i64 + whole + share_up(span_ms, left % used, used)
        })
    };
    [ends(tokens), ends(micro)].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::{Burn, TrancheStanding, TrancheState, forecast};
    use crate::calendar::DAY_MS;

    fn tranche(tokens_left: i64, micro_left: i64) -> TrancheStanding {
        TrancheStanding {
            number: 1,
            milestone: String::new(),
            state: TrancheState::Released,
            tokens: 1000,
            tokens_left,
            micro: 1000,
            micro_left,
            expires_ms: 0,
        }
    }

    #[test]
    fn a_forecast_goes_on_as_the_last_days_went() {
        let day = |n: u64| n * DAY_MS;
        let now_ms = day(100);
        let burned = [95, 97].map(|n| Burn { day_ms: day(n) as i64, tokens: 50, micro: 0 });
        // A hundred in five days: two hundred more last ten.
        assert_eq!(forecast(&[tranche(200, 7)], &burned, now_ms), Some(day(110) as i64));
        assert_eq!(forecast(&[tranche(200, 7)], &[], now_ms), None);
        let old = [Burn { day_ms: day(10) as i64, tokens: 50, micro: 50 }];
        assert_eq!(forecast(&[tranche(200, 7)], &old, now_ms), None);
        let both = [Burn { day_ms: day(98) as i64, tokens: 1, micro: 7 }];
        assert_eq!(forecast(&[tranche(200, 7)], &both, now_ms), Some(day(102) as i64));
    }
}
