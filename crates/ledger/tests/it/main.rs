//! The books through their public face, on SQLite and, where `SAMPAN_TEST_POSTGRES` says where one is, on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so by panicking")]

mod backup;
mod crash;
mod ledger;
mod metered;
mod processes;
mod programme;
mod pure;
mod support;
mod tally;
mod together;
