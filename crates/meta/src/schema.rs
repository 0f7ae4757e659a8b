//! Tables, and how they came to be: each component brings its steps, and the database remembers how many it took.

use sqlx::{AssertSqlSafe, Row as _};

use crate::database::{Flavour, LOCK};
use crate::{Connection, Error, Result};

/// The tables of one component. Steps are only ever added at the end.
///
/// A step is SQL that both databases read. What they spell differently stands in braces: `{id}` is the type of a
/// primary key that counts by itself, `{bytes}` the type of a blob.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Whose tables.
    pub component: &'static str,
    /// What was done to them, oldest first.
    pub steps: &'static [&'static str],
}

impl Schema {
    /// Takes the steps that the database has not taken yet, all or none.
    ///
    /// # Errors
    /// [`Error::NewerSchema`] if a newer program was here.
    pub(crate) async fn apply(&self, flavour: Flavour, connection: &mut Connection) -> Result<()> {
        sqlx::query(begin(flavour)).execute(&mut *connection).await?;
        let applied = self.apply_in_transaction(flavour, connection).await;
        let end = if applied.is_ok() { "COMMIT" } else { "ROLLBACK" };
        sqlx::query(end).execute(&mut *connection).await?;
        applied
    }

    /// As [`Self::apply`], in a transaction that somebody else began.
    pub(crate) async fn apply_in_transaction(&self, flavour: Flavour, connection: &mut Connection) -> Result<()> {
        if let Flavour::Postgres = flavour {
            sqlx::query(LOCK).execute(&mut *connection).await?;
        }
        let table = "CREATE TABLE IF NOT EXISTS schema_versions (component TEXT PRIMARY KEY, version BIGINT NOT NULL)";
        sqlx::query(table).execute(&mut *connection).await?;
        let row = sqlx::query("SELECT version FROM schema_versions WHERE component = $1")
            .bind(self.component)
            .fetch_optional(&mut *connection)
            .await?;
        let found: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
        let known = self.steps.len() as i64;
        if found > known {
            return Err(Error::NewerSchema { component: self.component.to_owned(), found, known });
        }
        for step in &self.steps[found as usize..] {
            sqlx::raw_sql(AssertSqlSafe(flavour.spell(step))).execute(&mut *connection).await?;
        }
        if found < known {
            let remember = "INSERT INTO schema_versions (component, version) VALUES ($1, $2)
                ON CONFLICT (component) DO UPDATE SET version = excluded.version";
            sqlx::query(remember).bind(self.component).bind(known).execute(&mut *connection).await?;
            tracing::debug!(component = self.component, version = known, "tables brought up to date");
        }
        Ok(())
    }
}

/// How a transaction that writes begins.
pub(crate) fn begin(flavour: Flavour) -> &'static str {
    match flavour {
        // A plain BEGIN would take the lock at the first write, and fail where another process took it meanwhile.
        Flavour::Sqlite => "BEGIN IMMEDIATE",
        Flavour::Postgres => "BEGIN",
    }
}

impl Flavour {
    fn spell(self, step: &str) -> String {
        let (id, bytes) = match self {
            Self::Sqlite => ("INTEGER PRIMARY KEY AUTOINCREMENT", "BLOB"),
            Self::Postgres => ("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "BYTEA"),
        };
        step.replace("{id}", id).replace("{bytes}", bytes)
    }
}
