//! Bodies for x86-64.

#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "the instructions carry their own prefix, and there are dozens")
)]

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
