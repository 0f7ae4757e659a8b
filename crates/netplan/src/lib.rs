//! The network planner: will this model fit this fabric, how fast, and what breaks when a switch dies.
//!
//! Pure: strings and bytes go in, structures and strings come out. No file, socket or clock is touched here; the
//! `sampan net` commands bring the input and print the result.
//!
//! * [`topology`]: fabrics as flat arrays; [`import`] reads them from files of others.
//! * [`flow`]: which flow gets how much, and when each is through.
//! * [`route`]: which way each flow takes, hashed, planned or sprayed, through what is up.
//! * [`traffic`]: what jobs send; [`failure`]: what it costs when something breaks.
//! * [`collective`]: what each algorithm costs, the best one chosen, constants from measurements.
//! * [`model`]: what a model weighs; [`plan`]: does it fit, how fast, at what price, and what breaks.
//! * [`local`]: what of a model fits into one machine's memory.
//! * [`doctor`]: what ails a real cluster, from nccl-tests; [`study`]: hashed against planned uplinks.
//! * [`picture`]: pages with drawings.
//! * [`sites`]: ways between sites far apart, and when a message is answered.
//! * [`simai`]: SimAI's tables, in a mode that keeps its faults.
//! * [`check`]: holds all of it against files of reference results.
//!
//! Units: bytes, bytes a second, seconds as `f64`; a gigabit is 10^9 bits everywhere but in the compatibility modes,
//! which say so.

#![warn(missing_docs)]

pub mod check;
pub mod collective;
pub mod doctor;
pub mod error;
pub mod failure;
pub mod flow;
pub mod fuzz;
pub mod import;
pub mod local;
pub mod model;
pub mod picture;
pub mod plan;
pub mod route;
pub mod simai;
pub mod sites;
pub mod study;
pub mod topology;
pub mod traffic;

pub use error::{Error, Result};
