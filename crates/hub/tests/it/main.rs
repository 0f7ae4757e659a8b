//! The model store through its public face, against a hub that misbehaves on demand.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so by panicking")]

mod carry;
mod depot;
mod hub;
mod hubs;
mod queue;
mod trouble;
