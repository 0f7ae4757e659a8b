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

use crate::{Connection, Error, Result};

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
pub struct Batch(Vec<Statement>);

#[derive(Debug, Clone)]
struct Statement {
    text: String,
    values: Vec<Value>,
    /// How many rows it must write.
    expected: Option<u64>,
}

/// Fails in SQLite if the statement before it wrote another number of rows: there is no absolute value of the least
/// number. It has no rows, because each is a message from SQLite's thread.
const GUARD: &str = "SELECT 1 WHERE abs(CASE WHEN changes() = $1 THEN 0 ELSE -9223372036854775807 - 1 END) < 0";

impl Batch {
    /// No statement.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a statement, and says which of [`Self::run`]'s answers will be its.
    pub fn add(&mut self, statement: impl Into<String>, values: impl Into<Vec<Value>>) -> usize {
        self.0.push(Statement { text: statement.into(), values: values.into(), expected: None });
        self.0.len() - 1
    }

    /// The statement that was added last must write so many rows, or the batch fails with it.
    pub fn expect_written(&mut self, rows: u64) {
        if let Some(last) = self.0.last_mut() {
            last.expected = Some(rows);
        }
    }

    /// The same after this statement.
    pub(crate) fn with_first(mut self, statement: &str) -> Self {
        self.0.insert(0, Statement { text: statement.to_owned(), values: Vec::new(), expected: None });
        self
    }

    /// Runs the statements, and answers once for each of them.
    ///
    /// # Errors
    /// If one fails; [`Error::Written`] if it wrote another number of rows than it must.
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
            let is_guarded: Vec<bool> = self.0.iter().map(|statement| statement.expected.is_some()).collect();
            let (text, values) = self.joined();
            gather(connection, text, values, &mut answers).await.map_err(guarded)?;
            // Behind each statement with a guard stands the guard's own answer.
            let mut gathered = std::mem::take(&mut answers).into_iter();
            for is_guarded in is_guarded {
                answers.extend(gathered.next());
                if is_guarded {
                    gathered.next();
                }
            }
        } else {
            for Statement { text, values, expected } in self.0 {
                gather(connection, text, values, &mut answers).await?;
                let written = answers.last().map_or(0, |answer| answer.written);
                if expected.is_some_and(|expected| expected != written) {
                    return Err(Error::Written);
                }
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
        for Statement { text, values, expected } in self.0 {
            join(&mut joined, &text, all.len());
            all.extend(values);
            if let Some(expected) = expected {
                join(&mut joined, GUARD, all.len());
                all.push(Value::from(i64::try_from(expected).unwrap_or(i64::MAX)));
            }
        }
        (joined, all)
    }
}

/// Adds a statement whose places count on behind so many.
fn join(joined: &mut String, text: &str, before: usize) {
    let mut parts = text.split('$');
    joined.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = part[..digits].parse().expect("a place is a number");
        write!(joined, "${}{}", number + before, &part[digits..]).expect("writing to a string succeeds");
    }
    joined.push_str(";\n");
}

/// What the guard's failure means; nothing else that we ask computes with numbers near the least one.
fn guarded(error: Error) -> Error {
    let is_guard =
        matches!(&error, Error::Database(sqlx::Error::Database(told)) if told.message() == "integer overflow");
    if is_guard { Error::Written } else { error }
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
