//! Transfers between two ends in one process, over planes that can be cut.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so by panicking")]

mod ends;
mod plane;
mod refused;
mod transfers;
