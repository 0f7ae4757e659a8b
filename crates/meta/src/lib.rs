//! The one database behind everything that must not be forgotten, and who may do what.
//!
//! * `database`: SQLite in a file, or PostgreSQL at a URL. Many readers, one writer with group commit.
//! * `backup`: the whole database as one file, and back.
//! * `batch`: several statements in one go.
//! * `turn`: a write that begins and ends its transaction with its own statements.
//! * `together`: writes of one kind, made in one turn for all who ask at once.
//! * `flush`: brings commits to the disk.
//! * `schema`: tables by component; a database that a newer program wrote is refused.
//! * `identity`: organisations, projects, members, keys, sessions, and the log of who changed what.
//! * `residence`: where data may be kept and computed on, as it stands with the accounts.
//! * `scope`: what a role and a key may do.
//! * `secret`: keys that are shown once and kept as a hash.
//! * `sealed`, `vault`: secrets that must come back, encrypted with a key that is not in the database.
//!
//! Queries are text with numbered places (`$1`), which both databases read; values never become part of the text.
//! Whole numbers are `BIGINT`, times milliseconds, money micro-dollars.

#![warn(missing_docs)]

mod backup;
mod batch;
mod database;
mod error;
mod flush;
mod identity;
mod residence;
mod schema;
mod scope;
mod sealed;
mod secret;
pub mod testing;
mod together;
mod turn;
mod vault;
mod writer;

pub use backup::restore;
pub use batch::{Answer, Batch, Value};
pub use database::{Connection, Database, FLUSHED_WITHIN, Faults, Flavour, Moment, Place};
pub use error::{Error, Result};
pub use flush::Mark;
pub use identity::{
    Actor, Directory, FIRST, Key, KeyFilter, Listed, Member, NewKey, NewMember, Organisation, PAGE_MAX, Page,
    Principal, Project, SCHEMA, SESSION_MS, Session, ShownKey,
};
pub use residence::{RESIDENCE_SCHEMA, Residence, Residences, Resident};
pub use schema::Schema;
pub use scope::{DIALECTS, Permission, Role, Scopes};
pub use sealed::SEAL_KEY_BYTES;
pub use secret::{KEY_PREFIX, is_same_secret, page_token};
pub use sqlx::any::AnyRow;
pub use sqlx::{AssertSqlSafe, Error as DatabaseError, Row, query};
pub use together::{Together, Undone};
pub use turn::Turn;
pub use vault::{NewPair, OpenPair, Pair, ShownPair, VAULT_SCHEMA, Vault};

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
