//! The program itself, as a person or a script starts it.
#![expect(clippy::unwrap_used, reason = "a test that fails here says so by panicking")]

mod accounts;
mod batches;
mod charged;
mod chat;
mod commands;
mod convert;
mod net;
mod program;
mod pull;
mod route;
mod serving;
mod traces;
mod transfer;
mod trillion;
mod vectors;
