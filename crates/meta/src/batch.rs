//! Several statements in one go.
//!
//! Every statement that SQLite runs costs a way to the thread that owns the connection and back, several times what
//! the statement itself costs. A batch makes that way once. A server takes the statements one after another: its
//! protocol prepares single statements only.

use std::fmt::Write as _;

use futures::TryStreamExt as _;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Either};

use crate::{Connection, Result};

/// A value in a statement's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Number(Option<i64>),
    /// A text.
    Text(Option<String>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

/// What one statement of a batch answered.
#[derive(Default)]
pub struct Answer {
    /// The rows that it returned.
    pub rows: Vec<AnyRow>,
    /// The rows that it wrote; of a statement that only reads it means nothing.
    pub written: u64,
}

/// Statements that are run one after another. The first that fails ends the batch.
///
/// Each has its own places, `$1` for the first of its values. Texts must not come from outside, and hold no `$` but
/// those of places.
#[derive(Debug, Clone, Default)]
pub struct Batch(Vec<(String, Vec<Value>)>);

impl Batch {
    /// No statement.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a statement, and says which of [`Self::run`]'s answers will be its.
    pub fn add(&mut self, statement: impl Into<String>, values: impl Into<Vec<Value>>) -> usize {
        self.0.push((statement.into(), values.into()));
        self.0.len() - 1
    }

    /// Runs the statements, and answers once for each of them.
    ///
    /// # Errors
    /// If one fails.
    ///
    /// # Panics
    /// If a text holds a `$` without a number, or is no statement.
    pub async fn run(self, connection: &mut Connection) -> Result<Vec<Answer>> {
        let count = self.0.len();
        let mut answers = Vec::with_capacity(count);
        if count == 0 {
            return Ok(answers);
        }
        if connection.backend_name() == "SQLite" {
            let (text, values) = self.joined();
            gather(connection, text, values, &mut answers).await?;
        } else {
            for (text, values) in self.0 {
                gather(connection, text, values, &mut answers).await?;
            }
        }
        // A statement that is only a comment would have no answer; nobody writes one.
        assert_eq!(answers.len(), count, "one answer for each statement");
        Ok(answers)
    }

    /// One text, whose places count through.
    fn joined(self) -> (String, Vec<Value>) {
        let mut joined = String::new();
        let mut all = Vec::new();
        for (text, values) in self.0 {
            let mut parts = text.split('$');
            joined.push_str(parts.next().unwrap_or_default());
            for part in parts {
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                let number: usize = part[..digits].parse().expect("a place is a number");
                write!(joined, "${}{}", number + all.len(), &part[digits..]).expect("writing to a string succeeds");
            }
            joined.push_str(";\n");
            all.extend(values);
        }
        (joined, all)
    }
}

/// Runs a text and adds what its statements answer.
async fn gather(
    connection: &mut Connection,
    text: String,
    values: Vec<Value>,
    answers: &mut Vec<Answer>,
) -> Result<()> {
    let query = values.into_iter().fold(crate::query(AssertSqlSafe(text)), bind);
    #[expect(deprecated, reason = "several statements at once are what this is for, and SQLite prepares them")]
    let mut stream = query.fetch_many(connection);
    let mut answer = Answer::default();
    while let Some(item) = stream.try_next().await? {
        match item {
            Either::Right(row) => answer.rows.push(row),
            Either::Left(done) => {
                answer.written = done.rows_affected();
                answers.push(std::mem::take(&mut answer));
            }
        }
    }
    Ok(())
}

fn bind(query: Query<'static, Any, AnyArguments>, value: Value) -> Query<'static, Any, AnyArguments> {
    match value {
        Value::Number(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, Value};

    #[test]
    fn places_count_through_all_statements() {
        let mut batch = Batch::new();
        assert_eq!(batch.add("SELECT $1, $2", [1.into(), "two".into()]), 0);
        assert_eq!(batch.add("SELECT 1", []), 1);
        assert_eq!(batch.add("UPDATE t SET a = $2 WHERE b = $1 AND c = $10", vec![Value::from(3); 10]), 2);
        let (text, values) = batch.joined();
        assert_eq!(text, "SELECT $1, $2;\nSELECT 1;\nUPDATE t SET a = $4 WHERE b = $3 AND c = $12;\n");
        assert_eq!((values.len(), &values[1]), (12, &"two".into()));
    }
}
