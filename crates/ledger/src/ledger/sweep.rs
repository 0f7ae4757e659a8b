//! What the books do of themselves, every few seconds: they end what nobody ends any more.

use futures::FutureExt as _;
use meta::Row as _;

use super::{Ledger, by_itself};
use crate::Result;
use crate::account::AccountId;
use crate::books::Operation;
use crate::calendar::DAY_MS;
use crate::usage::{Ended, Outcome, Spent};

/// A process that was not seen for so long has ended. Clocks of machines that share a database must agree to a part of
/// it.
pub const DEAD_AFTER_MS: u64 = 60_000;
/// Reservations or grants that one sweep ends; the next one takes more.
const SWEPT_MAX: i64 = 1000;

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Reservations of processes that ended, which were charged what was noted.
    pub interrupted: usize,
    /// Grants whose rest expired or, after they were taken back, came back.
    pub ended_grants: usize,
}

impl Ledger {
    /// Says that this process lives, charges what processes that ended had noted, and ends grants. Call it every ten
    /// seconds or so.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn sweep(&self) -> Result<Swept> {
        self.live().await?;
        let mut swept = Swept::default();
        for (id, noted, at_ms) in self.orphans().await? {
            let now_ms = self.clock.now_ms();
            let ended = Ended { spent: noted, outcome: Outcome::Interrupted, latency_ms: now_ms.saturating_sub(at_ms) };
            match self.settle(&id, ended).await {
                Ok(_) => swept.interrupted += 1,
                Err(error) if !error.is_unknown() => {
                    tracing::error!(reservation = id, %error, "a reservation cannot be ended");
                }
                Err(error) => return Err(error),
            }
        }
        for (account, is_closed) in self.ended_grants().await? {
            let now_ms = self.clock.now_ms();
            let id = AccountId::parse(&account)?;
            let (word, operation) = match is_closed {
                true => ("claw back", Operation::ClawBack { account: id }),
                false => ("expire", Operation::Expire { account: id }),
            };
            self.book(by_itself(format!("{word}:{account}:{now_ms}"), operation)).await?;
            swept.ended_grants += 1;
        }
        Ok(swept)
    }

    async fn live(&self) -> Result<()> {
        let (owner, now_ms) = (self.owner.to_string(), self.clock.now_ms());
        let written = self.database.write_soon(move |connection| {
            async move {
                let query = "INSERT INTO ledger_owners (id, seen_ms) VALUES ($1, $2)
                             ON CONFLICT (id) DO UPDATE SET seen_ms = excluded.seen_ms";
                meta::query(query).bind(owner).bind(now_ms as i64).execute(&mut *connection).await?;
                let query = "DELETE FROM ledger_owners WHERE seen_ms < $1";
                meta::query(query).bind(now_ms.saturating_sub(DAY_MS) as i64).execute(connection).await?;
                Ok(())
            }
            .boxed()
        });
        written.await
    }

    /// Open reservations whose process has ended.
    async fn orphans(&self) -> Result<Vec<(String, Spent, u64)>> {
        let mut connection = self.database.read().await?;
        let query = "SELECT id, noted, at_ms FROM ledger_reservations WHERE state = 'open' AND owner <> $1
                     AND owner NOT IN (SELECT id FROM ledger_owners WHERE seen_ms >= $2) AND at_ms < $2 LIMIT $3";
        let rows = meta::query(query)
            .bind(&*self.owner)
            .bind(self.clock.now_ms().saturating_sub(DEAD_AFTER_MS) as i64)
            .bind(SWEPT_MAX)
            .fetch_all(&mut *connection)
            .await?;
        let orphan = |row: &meta::AnyRow| {
            Ok((row.try_get(0)?, Spent::read(&row.try_get::<String, _>(1)?)?, row.try_get::<i64, _>(2)? as u64))
        };
        rows.iter().map(orphan).collect()
    }

    /// Grants that ended and hold something, and whether they were taken back.
    async fn ended_grants(&self) -> Result<Vec<(String, bool)>> {
        let mut connection = self.database.read().await?;
        let query = "SELECT id, closed_ms FROM ledger_accounts
                     WHERE balance > 0 AND id LIKE 'grant:%' AND (closed_ms IS NOT NULL OR expires_ms <= $1) LIMIT $2";
        let query = meta::query(query).bind(self.clock.now_ms() as i64).bind(SWEPT_MAX);
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<Option<i64>, _>(1)?.is_some()))).collect()
    }
}
