//! One or two tiles of queries past one block of keys: scores, online softmax and sums of values, with nothing packed
//! or copied between them, see [`crate::attention`].

use super::super::Ahead;
use super::super::avx512::causal::{PANELS, weigh_bf16};
use super::tiles::{Four, Tiles, Two, UNIT_BYTES, WORDS};
use crate::KV_BLOCK_TOKENS;
use crate::activations::TILE;
use crate::attention::{Block, QUERIES};
use crate::layout::LANES;

/// Words of a column's weights.
const WEIGHTS: usize = KV_BLOCK_TOKENS / 2;

/// # Safety
/// The processor has AMX, and [`super::is_permitted`] has said yes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn block(mut block: Block<'_>) {
    let (keys, values) = (block.keys, block.values);
    let words = keys.size / (4 * LANES);
    // Of two tiles, both are whole.
    let columns = if block.columns > TILE { QUERIES } else { block.columns };
    assert!(words.is_multiple_of(WORDS) && block.queries.len() >= columns * words, "whole units of all columns");
    assert!(block.first_panel + keys.count <= PANELS, "keys of one block");
    assert!(values.size == 2 * LANES * KV_BLOCK_TOKENS && values.count.is_multiple_of(2), "values in pairs of panels");
    assert!(block.scores.len() >= PANELS * columns && block.weights.len() >= columns * WEIGHTS, "shapes fit");
    assert!(columns <= QUERIES && block.steps > 0 && words > 0, "something of at most two tiles");
    // SAFETY: the caller's promise.
    let registers = unsafe { Tiles::new(columns.min(TILE), 0) };
    for panel in (0..keys.count).step_by(2) {
        // The last of an odd number of panels stands for both.
        let panels = [panel, (panel + 1).min(keys.count - 1)];
        let w = panels.map(|panel| &keys.bytes[panel * keys.size..][..keys.size]);
        let out = panels.map(|panel| block.scores[(block.first_panel + panel) * columns..][..columns].as_mut_ptr());
        let next = block.next.map(|(keys, _)| &keys[panel * block.keys.size..]);
        let product = Product { x: &block.queries[..columns * words], columns, w, next, units: words / WORDS };
        // SAFETY: the queries have whole units of all columns, each panel as many of sixteen keys, and the scores of
        // each panel have room for all columns.
        unsafe { product.multiply::<false>(&registers, out.map(<*mut [f32; LANES]>::cast), LANES) };
    }
    weigh_bf16(&mut block, columns);
    assert!(block.gathered.len() >= columns * block.padded && block.padded >= values.count * LANES, "shapes fit");
    for panel in (0..values.count).step_by(2) {
        let used = block.steps * UNIT_BYTES;
        let w = [panel, panel + 1].map(|panel| &values.bytes[panel * values.size..][..used]);
        let out = [panel, panel + 1].map(|panel| block.gathered[panel * LANES..].as_mut_ptr());
        let next = block.next.map(|(_, values)| &values[panel * block.values.size..]);
        let product = Product { x: &block.weights[..columns * WEIGHTS], columns, w, next, units: block.steps };
        // SAFETY: the weights have units of all columns for all steps, each panel as many of values, and all columns
        // have a place for the sums of each panel.
        unsafe { product.multiply::<true>(&registers, out, block.padded) };
    }
}

/// Two panels, which may be the same, and all columns.
#[derive(Clone, Copy)]
struct Product<'a> {
    /// Packed units of the columns.
    x: &'a [u32],
    columns: usize,
    w: [&'a [u8]; 2],
    /// What is read after the panels.
    next: Option<&'a [u8]>,
    units: usize,
}

impl Product<'_> {
    /// The sums of each panel, or, with `ADDS`, what is there and they; those of a column stand `stride` behind those
    /// of the one before.
    ///
    /// # Safety
    /// `x` is packed for `units` units, each panel has as many of sixteen rows, and `out` places for all columns.
    #[inline]
    unsafe fn multiply<const ADDS: bool>(self, registers: &Tiles, out: [*mut f32; 2], stride: usize) {
        let (w, units, out_row) = (self.w.map(<[u8]>::as_ptr), self.units, 4 * stride);
        if self.columns > TILE {
            let (first, second) = self.x.split_at(self.x.len() / 2);
            let later = out.map(|out| out.wrapping_add(TILE * stride));
            let out = [out[0], out[1], later[0], later[1]];
            let call = Four { x: [first.as_ptr(), second.as_ptr()], w, units, out, out_row };
            // SAFETY: the caller's promise.
            unsafe { registers.four::<ADDS>(call) };
        } else {
            // What is read several times is in a cache already, and asking for it once more costs least.
            let distance = Ahead::of(self.w, self.next.or(Some(self.w[0]))).distance;
            let call = Two { x: self.x.as_ptr(), columns: self.columns, w, distance, units, out, out_row };
            // SAFETY: the caller's promise.
            unsafe { registers.two::<ADDS>(call) };
        }
    }
}
