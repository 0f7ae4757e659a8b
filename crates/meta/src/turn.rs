//! The turn of one write.
//!
//! Every statement costs SQLite a way to the thread that owns the connection and back, which is several times what it
//! costs itself. So a write that says so begins its transaction with its first statements and ends it with its last
//! ones: two ways in place of four. Where several writes share a transaction, or the database is a server, it is
//! begun and ended around them.

use crate::database::{Faults, Moment};
use crate::{Answer, Batch, Connection, Error, Result};

/// What a write has at hand.
pub struct Turn<'c> {
    connection: &'c mut Connection,
    /// What begins the transaction, until it has begun.
    begin: Option<&'static str>,
    /// Whether the transaction is this write's alone, so that it may end it.
    is_alone: bool,
    is_committed: bool,
    faults: Option<&'c dyn Faults>,
}

impl<'c> Turn<'c> {
    /// A part of a write whose transaction has begun and goes on afterwards.
    #[must_use]
    pub fn within(connection: &'c mut Connection) -> Self {
        Self { connection, begin: None, is_alone: false, is_committed: false, faults: None }
    }

    /// One that begins and ends its transaction.
    pub(crate) fn alone(connection: &'c mut Connection, begin: &'static str, faults: Option<&'c dyn Faults>) -> Self {
        Self { connection, begin: Some(begin), is_alone: true, is_committed: false, faults }
    }

    /// Runs statements.
    ///
    /// # Errors
    /// If one fails; the write must end with that.
    pub async fn run(&mut self, batch: Batch) -> Result<Vec<Answer>> {
        match self.begin.take() {
            None => batch.run(self.connection).await,
            Some(begin) => {
                let mut answers = batch.with_first(begin).run(self.connection).await?;
                answers.remove(0);
                Ok(answers)
            }
        }
    }

    /// Runs the last statements. Whatever may still go wrong must be in them: see [`Batch::expect_written`].
    ///
    /// # Errors
    /// As [`Self::run`].
    ///
    /// # Panics
    /// If these are not the last.
    pub async fn finish(&mut self, mut batch: Batch) -> Result<Vec<Answer>> {
        assert!(!self.is_committed, "a write ends once");
        if !self.is_alone {
            return self.run(batch).await;
        }
        if self.faults.is_some_and(|faults| faults.strikes(Moment::BeforeCommit)) {
            return Err(Error::Interrupted { why: "simulated".to_owned() });
        }
        batch.add("COMMIT", []);
        let mut answers = self.run(batch).await?;
        self.is_committed = true;
        answers.pop();
        Ok(answers)
    }

    /// The connection, for other statements.
    ///
    /// # Errors
    /// If the transaction cannot be begun.
    ///
    /// # Panics
    /// After [`Self::finish`].
    pub async fn connection(&mut self) -> Result<&mut Connection> {
        assert!(!self.is_committed, "a write ends once");
        if let Some(begin) = self.begin.take() {
            crate::query(begin).execute(&mut *self.connection).await?;
        }
        Ok(self.connection)
    }

    /// What is left for the writer to do.
    pub(crate) fn end(self) -> End {
        match (self.is_committed, self.begin) {
            (true, _) => End::Committed,
            (false, Some(_)) => End::Unbegun,
            (false, None) => End::Open,
        }
    }
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its transaction waits for its end.
    Open,
    /// It is committed.
    Committed,
    /// It did nothing.
    Unbegun,
}
