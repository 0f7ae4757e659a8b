//! The engine with a real model, as its callers see it.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so by panicking")]

mod adapters;
mod chance;
mod fleet;
mod forms;
mod harness;
mod pictures;
mod predictor;
mod readers;
mod sharing;
mod suite;
