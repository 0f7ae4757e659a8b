//! Limits that stand with the accounts.

use futures::FutureExt as _;
use meta::Row as _;

use super::{Holder, Limit, Measure};
use crate::{Error, Ledger, Result};

/// Limits of one list.
const LIMITS_MAX: i64 = 100_000;

impl Ledger {
    /// Every limit, in the order of their holders.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn limits(&self) -> Result<Vec<Limit>> {
        let mut connection = self.database.read().await?;
        let query = "SELECT holder, measure, amount, burst FROM limits ORDER BY holder, measure LIMIT $1";
        let rows = meta::query(query).bind(LIMITS_MAX).fetch_all(&mut *connection).await?;
        rows.iter().map(limit).collect()
    }

    /// Sets a limit. Processes that run take it up within seconds.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn set_limit(&self, limit: Limit) -> Result<()> {
        let written = self.database.write(move |connection| {
            async move {
                let query = "INSERT INTO limits (holder, measure, amount, burst) VALUES ($1, $2, $3, $4)
                             ON CONFLICT (holder, measure)
                             DO UPDATE SET amount = excluded.amount, burst = excluded.burst";
                meta::query(query)
                    .bind(limit.holder.as_str())
                    .bind(limit.measure.name())
                    .bind(limit.amount as i64)
                    .bind(limit.burst as i64)
                    .execute(connection)
                    .await?;
                Ok(())
            }
            .boxed()
        });
        written.await
    }

    /// Takes a limit away.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none.
    pub async fn lift_limit(&self, holder: &Holder, measure: Measure) -> Result<()> {
        let holder = holder.clone();
        let written = self.database.write(move |connection| {
            async move {
                let query = meta::query("DELETE FROM limits WHERE holder = $1 AND measure = $2");
                let gone = query.bind(holder.as_str()).bind(measure.name()).execute(connection).await?;
                match gone.rows_affected() {
                    0 => Err(Error::Missing { what: "limit", name: format!("{holder} {}", measure.name()) }),
                    _ => Ok(()),
                }
            }
            .boxed()
        });
        written.await
    }
}

fn limit(row: &meta::AnyRow) -> Result<Limit> {
    let wrong = |error: Error| Error::row("a limit", error);
    let holder = Holder::parse(&row.try_get::<String, _>(0)?).map_err(wrong)?;
    let measure = Measure::parse(&row.try_get::<String, _>(1)?).map_err(wrong)?;
    let (amount, burst): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
    Limit::new(holder, measure, amount as u64, Some(burst as u64)).map_err(wrong)
}
