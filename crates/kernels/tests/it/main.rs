//! The crate through its public API, on every instruction set that the processor has.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its small functions too")]

mod attention;
mod codes;
mod matmul;
mod ops;
mod random;
