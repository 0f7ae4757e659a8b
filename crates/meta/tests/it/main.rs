//! The database and the directory through their public face, on SQLite and, where `SAMPAN_TEST_POSTGRES` says where
//! one is, on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so by panicking")]

mod database;
mod identity;
mod residence;
mod support;
mod vault;
