//! What can be wrong with what a caller brings. Lengths of slices are asserted instead: they are our own bugs.

use crate::{Format, Isa};

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a matrix, a cache or a pool could not be made.
///
/// This crate stands beside `base` in the lowest layer, so it does not sort its causes into kinds: a file that does
/// not fit is the caller's `Invalid` or `Corrupt`, memory and threads are its `Exhausted`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The processor cannot run the instruction set that was asked for.
    #[error("this processor has no {isa}")]
    IsaUnavailable {
        /// What was asked for.
        isa: Isa,
    },
    /// Columns that do not fill whole blocks of the format.
    #[error("{columns} columns do not divide into blocks of {block} ({format:?})")]
    Columns {
        /// The format.
        format: Format,
        /// The columns of a row.
        columns: usize,
        /// Elements in a block of the format.
        block: usize,
    },
    /// A format that is read and not written.
    #[error("nothing is written as {format:?}")]
    NoEncoder {
        /// The format.
        format: Format,
    },
    /// A number of bytes or elements that does not belong to the shape.
    #[error("{what} is {found} long, {expected} expected")]
    Length {
        /// What was measured.
        what: &'static str,
        /// What the shape asks for.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// Bytes that begin where they must not.
    #[error("{what} does not begin at a multiple of {alignment}")]
    Alignment {
        /// What was brought.
        what: &'static str,
        /// What its address has to be a multiple of.
        alignment: usize,
    },
    /// A shape that is empty or whose size does not fit an address.
    #[error("{what} cannot have the shape {rows} x {columns}")]
    Shape {
        /// What was to be made.
        what: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
    },
    /// The operating system gave no memory.
    #[error("allocate {bytes} bytes")]
    Memory {
        /// How much was asked for.
        bytes: usize,
    },
    /// A worker thread could not be started.
    #[error("start a worker thread")]
    Thread(#[source] std::io::Error),
}
