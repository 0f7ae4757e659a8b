//! Pools and routes against upstreams that misbehave.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so by panicking")]

mod decisions;
mod faults;
mod forms;
mod routing;
mod support;
