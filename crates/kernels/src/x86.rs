//! Bodies for x86-64.

#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "the instructions carry their own prefix, and there are dozens")
)]

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;

use std::arch::x86_64::*;

/// How far ahead of itself the reading of one column asks for weights, in bytes. The processor's own prefetching stops
/// at every 4 KiB; measured, see `docs/decisions/0013-reading-weights.md`.
const PREFETCH: usize = 2048;

/// Asks for the weights that lie [`PREFETCH`] behind `bytes` bytes at `at` of each of neighbouring panels that are read
/// side by side. Behind the end of a panel comes, for whoever reads it, not its neighbour but the one behind that.
#[inline]
fn prefetch_panels<const P: usize>(panels: [&[u8]; P], at: usize, bytes: usize) {
    let mut ahead = at + PREFETCH;
    if ahead >= panels[0].len() {
        ahead += (P - 1) * panels[0].len();
    }
    for panel in panels {
        for line in (0..bytes).step_by(64) {
            // SAFETY: a hint, which may point anywhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(panel.as_ptr().wrapping_add(ahead + line).cast()) };
        }
    }
}
