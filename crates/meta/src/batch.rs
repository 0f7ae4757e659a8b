//! Several statements in one go.
//!
//! Every statement that SQLite runs costs a way to the thread that owns the connection and back, several times what
//! the statement itself costs. A batch makes that way once. A server takes the statements one after another: its
//! protocol prepares single statements only.

use std::fmt::Write as _;

use futures::TryStreamExt as _;
use serde::{Serialize, Serializer};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Either, Row as _};

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

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
        }
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
pub struct Batch {
    statements: Vec<Statement>,
    /// A text among rows holds a zero byte, which JSON cannot bring to either database.
    holds_zero_byte: bool,
    /// A server may run them as one.
    is_at_once: bool,
}

/// Stands in a statement for the rows of [`Batch::add_rows`].
const ROWS: &str = "{rows}";
/// The same, as a server spells it.
const SERVER_ROWS: &str = "json_array_elements(CAST($1 AS JSON))";

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
        self.statements.push(Statement { text: statement.into(), values: values.into(), expected: None });
        self.statements.len() - 1
    }

    /// Adds a statement about any number of rows, whose text is the same for any number, so that it is prepared once.
    /// `{rows}` in it is a table of them: `value->>0` is a row's first value, as text in PostgreSQL, so that numbers
    /// need a `CAST`.
    pub fn add_rows<const N: usize>(&mut self, statement: &str, rows: &[[Value; N]]) -> usize {
        self.add_rows_and(statement, rows, Vec::new())
    }

    /// As [`Self::add_rows`], with further values from `$2` on.
    #[expect(clippy::missing_panics_doc, reason = "numbers and texts become JSON")]
    pub fn add_rows_and<const N: usize>(
        &mut self,
        statement: &str,
        rows: &[[Value; N]],
        more: impl IntoIterator<Item = Value>,
    ) -> usize {
        let is_zero = |value: &Value| matches!(value, Value::Text(Some(text)) if text.contains('\0'));
        self.holds_zero_byte |= rows.as_flattened().iter().any(is_zero);
        let rows: Vec<&[Value]> = rows.iter().map(<[Value; N]>::as_slice).collect();
        let json = serde_json::to_string(&rows).expect("numbers and texts become JSON");
        self.add(statement, std::iter::once(json.into()).chain(more).collect::<Vec<_>>())
    }

    /// The statement that was added last must write so many rows, or the batch fails with it.
    pub fn expect_written(&mut self, rows: u64) {
        if let Some(last) = self.statements.last_mut() {
            last.expected = Some(rows);
        }
    }

    /// The statements only write, and none sees what another one writes; so a server may run them in one way there and
    /// back, in any order. `{new TABLE}` in a statement is what an earlier one inserts there, if one does, and may be
    /// the whole table.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.is_at_once = true;
        self
    }

    /// The same after this statement.
    pub(crate) fn with_first(mut self, statement: &str) -> Self {
        self.statements.insert(0, Statement { text: statement.to_owned(), values: Vec::new(), expected: None });
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
        if self.holds_zero_byte {
            return Err(Error::ZeroByte);
        }
        let count = self.statements.len();
        let mut answers = Vec::with_capacity(count);
        if count == 0 {
            return Ok(answers);
        }
        if connection.backend_name() == "SQLite" {
            let is_guarded: Vec<bool> = self.statements.iter().map(|statement| statement.expected.is_some()).collect();
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
            if self.is_at_once && count > 1 {
                return self.run_merged(connection).await;
            }
            for Statement { text, values, expected } in self.statements {
                let text = with_new(&text.replace(ROWS, SERVER_ROWS), |_| None);
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

    /// All of them as one statement of a server.
    async fn run_merged(self, connection: &mut Connection) -> Result<Vec<Answer>> {
        let expected: Vec<Option<u64>> = self.statements.iter().map(|statement| statement.expected).collect();
        let (text, values) = self.merged();
        let mut answers = Vec::with_capacity(1);
        gather(connection, text, values, &mut answers).await?;
        let row = answers.first().and_then(|answer| answer.rows.first()).ok_or(Error::Written)?;
        let counted = |(place, expected): (usize, Option<u64>)| {
            let written = row.try_get::<i64, _>(place)? as u64;
            match expected {
                Some(expected) if expected != written => Err(Error::Written),
                _ => Ok(Answer { rows: Vec::new(), written }),
            }
        };
        expected.into_iter().enumerate().map(counted).collect()
    }

    /// One text, whose places count through: a statement that counts what each of the others writes.
    fn merged(self) -> (String, Vec<Value>) {
        let texts: Vec<String> = self.statements.iter().map(|statement| statement.text.clone()).collect();
        let (mut merged, mut all) = (String::new(), Vec::new());
        for (place, Statement { text, values, .. }) in self.statements.into_iter().enumerate() {
            let inserts = |table: &str| {
                let into = format!("INSERT INTO {table} ");
                let earlier = texts[..place].iter().position(|text| text.starts_with(&into));
                earlier.map(|earlier| format!("s{earlier}"))
            };
            let text = with_new(&text.replace(ROWS, SERVER_ROWS), inserts);
            let before = if place == 0 { "WITH" } else { "," };
            let written = if text.starts_with("INSERT") { "*" } else { "1" };
            write!(merged, "{before} s{place} AS (").expect("writing to a string succeeds");
            shift(&mut merged, &text, all.len());
            write!(merged, " RETURNING {written})").expect("writing to a string succeeds");
            all.extend(values);
        }
        let counts: Vec<String> = (0..texts.len()).map(|place| format!("(SELECT count(*) FROM s{place})")).collect();
        write!(merged, " SELECT {}", counts.join(", ")).expect("writing to a string succeeds");
        (merged, all)
    }

    /// One text, whose places count through.
    fn joined(self) -> (String, Vec<Value>) {
        let mut joined = String::new();
        let mut all = Vec::new();
        for Statement { text, values, expected } in self.statements {
            shift(&mut joined, &with_new(&text.replace(ROWS, "json_each($1)"), |_| None), all.len());
            joined.push_str(";\n");
            all.extend(values);
            if let Some(expected) = expected {
                shift(&mut joined, GUARD, all.len());
                joined.push_str(";\n");
                all.push(Value::from(i64::try_from(expected).unwrap_or(i64::MAX)));
            }
        }
        (joined, all)
    }
}

/// The text, with names for what `{new TABLE}` stands for; the table itself where `name` knows none.
fn with_new(text: &str, name: impl Fn(&str) -> Option<String>) -> String {
    let mut parts = text.split("{new ");
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (table, rest) = part.split_once('}').expect("a brace that opens is closed");
        named.push_str(&name(table).unwrap_or_else(|| table.to_owned()));
        named.push_str(rest);
    }
    named
}

/// Adds a statement whose places count on behind so many.
fn shift(joined: &mut String, text: &str, before: usize) {
    let mut parts = text.split('$');
    joined.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = part[..digits].parse().expect("a place is a number");
        write!(joined, "${}{}", number + before, &part[digits..]).expect("writing to a string succeeds");
    }
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

    #[test]
    fn a_server_gets_statements_that_write_as_one() {
        let mut batch = Batch::new();
        let rows: [[Value; 2]; 1] = [[1.into(), "a\"b".into()]];
        batch.add_rows("INSERT INTO t (a, b) SELECT value->>0, value->>1 FROM {rows}", &rows);
        batch.add_rows_and("UPDATE u SET a = $2 FROM {rows} WHERE u.b IN (SELECT b FROM {new t})", &rows, [3.into()]);
        let (text, values) = batch.clone().merged();
        assert_eq!(
            text,
            "WITH s0 AS (INSERT INTO t (a, b) SELECT value->>0, value->>1 FROM json_array_elements(CAST($1 AS JSON)) \
             RETURNING *), s1 AS (UPDATE u SET a = $3 FROM json_array_elements(CAST($2 AS JSON)) \
             WHERE u.b IN (SELECT b FROM s0) RETURNING 1) \
             SELECT (SELECT count(*) FROM s0), (SELECT count(*) FROM s1)"
        );
        assert_eq!(values, [r#"[[1,"a\"b"]]"#.into(), r#"[[1,"a\"b"]]"#.into(), 3.into()]);
        let (text, _) = batch.joined();
        assert_eq!(
            text,
            "INSERT INTO t (a, b) SELECT value->>0, value->>1 FROM json_each($1);\n\
             UPDATE u SET a = $3 FROM json_each($2) WHERE u.b IN (SELECT b FROM t);\n"
        );
    }
}
