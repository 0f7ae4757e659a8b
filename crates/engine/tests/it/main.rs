//! The engine with a real model, as its callers see it.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so by panicking")]

mod fleet;
mod harness;
mod pictures;
mod readers;
mod sharing;
mod suite;
