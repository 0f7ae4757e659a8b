//! The one database behind everything that must not be forgotten, and who may do what.
//!
//! * `database`: SQLite in a file, or PostgreSQL at a URL. Many readers, one writer with group commit.
//! * `backup`: the whole database as one file, and back.
//! * `batch`: several statements in one go.
//! * `schema`: tables by component; a database that a newer program wrote is refused.
//! * `identity`: organisations, projects, keys, and the log of who changed what.
//! * `scope`: what a role and a key may do.
//! * `secret`: keys that are shown once and kept as a hash.
//!
//! Queries are text with numbered places (`$1`), which both databases read; values never become part of the text.
//! Whole numbers are `BIGINT`, times milliseconds, money micro-dollars.

#![warn(missing_docs)]

mod backup;
mod batch;
mod database;
mod error;
mod identity;
mod schema;
mod scope;
mod secret;
mod writer;

pub use backup::restore;
pub use batch::{Answer, Batch, Value};
pub use database::{Connection, Database, FLUSHED_WITHIN, Faults, Flavour, Moment, Place};
pub use error::{Error, Result};
pub use identity::{Directory, FIRST, Key, NewKey, Principal, Project, SCHEMA, ShownKey};
pub use schema::Schema;
pub use scope::{Permission, Role, Scopes};
pub use secret::KEY_PREFIX;
pub use sqlx::any::AnyRow;
pub use sqlx::{AssertSqlSafe, Error as DatabaseError, Row, query};

/// An error with its causes, for a log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
