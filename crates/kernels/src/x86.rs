//! Bodies for x86-64.

#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "the instructions carry their own prefix, and there are dozens")
)]

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
mod blocks;

use std::arch::x86_64::*;

use crate::layout::LANES;
use crate::table::SIDE_BY_SIDE;

/// Whether Intel made this processor.
pub(crate) fn is_by_intel() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

/// How far ahead of themselves kernels ask for weights, in bytes. The processor's own prefetching stops at every 4 KiB;
/// measured, see `docs/decisions/0023-reading-further-ahead.md`.
const AHEAD: usize = 16 << 10;

/// What kernels for panels side by side take and give.
type Panels<'a> = [&'a [u8]; SIDE_BY_SIDE];
type Products = [[f32; LANES]; SIDE_BY_SIDE];

/// How far ahead kernels for panels side by side ask for weights, in bytes: the processor's own prefetching follows
/// each of the streams, but stops at every 4 KiB. See `docs/decisions/0031-four-streams-in-avx2.md`.
const NEAR: usize = 256;

/// Asks for what lies behind a line.
#[target_feature(enable = "sse")]
#[inline]
fn ask_near(line: &[u8; 64]) {
    _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().wrapping_add(NEAR).cast());
}

/// Where that lies what is read after neighbouring panels, which are read side by side.
#[derive(Clone, Copy)]
struct Ahead<const P: usize> {
    panels: [*const u8; P],
    /// How far behind the panels; it wraps.
    distance: usize,
    /// What is asked for when this place of the panels is reached belongs to those behind them, `skip` bytes further.
    end: usize,
    skip: usize,
}

impl<const P: usize> Ahead<P> {
    #[inline]
    fn of(panels: [&[u8]; P], next: Option<&[u8]>) -> Self {
        let (size, panels) = (panels[0].len(), panels.map(<[u8]>::as_ptr));
        let (distance, end, skip) = match next {
            Some(next) => (next.as_ptr().addr().wrapping_sub(panels[0].addr()), usize::MAX, 0),
            None => (AHEAD / P, size.saturating_sub(AHEAD / P), (P - 1) * size),
        };
        Self { panels, distance, end, skip }
    }

    /// Asks for as much of each panel, into the second-level cache, when `bytes` bytes at `at` are read.
    #[inline]
    fn ask(&self, at: usize, bytes: usize) {
        let at = if at < self.end { at } else { at + self.skip };
        for panel in self.panels {
            let place = panel.wrapping_add(self.distance).wrapping_add(at);
            for line in (0..bytes).step_by(64) {
                // SAFETY: a hint, which may point anywhere.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(place.wrapping_add(line).cast()) };
            }
        }
    }
}
