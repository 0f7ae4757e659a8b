//! SimAI-Analytical's end-to-end table for an AICB workload, number for number.
//!
//! This is a compatibility mode: it exists so that a reader of SimAI's tables can see where its figures come from and
//! compare. It keeps what that program does, also where it is wrong, and [`FAULTS`] names it. For an estimate use
//! [`crate::collective`]. Behaviour as of aliyun/SimAI f5efb5a9 (release 1.6); where it computes in single precision
//! so do we.

mod bandwidth;
mod csv;
mod ratio;
mod table;

pub use bandwidth::{BusBandwidth, Machine};
pub use ratio::{RatioTables, Table, shipped_ratios};
pub use table::{LayerRow, PassRow, SimaiTable, Summary, Used, table};

/// What is kept although it is wrong.
pub const FAULTS: [&str; 6] = [
    "a GB/s is 2^30 bytes a second",
    "messages of 2 bytes to 1 MiB take a fixed time by the number of ranks, 0 where the number is not a power of two",
    "an all-gather among tensor ranks is as efficient as the column of NICs says, also inside one host",
    "an all-to-all with tensor ranks that fill a host reads the column 'Multi 16', whatever the number of hosts",
    "a data-parallel group among 1 tensor rank is given all NICs of a host for every one of its GPUs",
    "pipeline time is divided by its overlap before the share that is not overlapped is taken",
];
