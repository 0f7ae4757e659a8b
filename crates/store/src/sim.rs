//! What a simulation needs: [`Tasks`], which orders tasks by a seed, and [`FaultStore`], which fails by a seed.
//!
//! A process that crashes is a task that is dropped; its objects stay in the store. The same seed gives the same run.

mod fault;
mod tasks;

pub use fault::{FaultStore, Faults};
pub use tasks::{TaskId, Tasks, pause};
