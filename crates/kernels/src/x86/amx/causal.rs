//! One or two tiles of queries past one block of keys: scores, online softmax and sums of values, with nothing packed
//! or copied between them. The numbers are those of the kernels one by one, see [`crate::attention`].

use std::arch::x86_64::*;

use super::super::Ahead;
use super::super::avx512::{exp, load_floats, store_floats};
use super::tiles::{Few, Four, Tiles, UNIT_BYTES, WORDS};
use crate::KV_BLOCK_TOKENS;
use crate::activations::TILE;
use crate::attention::{Block, QUERIES};
use crate::layout::LANES;

/// Words of a column's weights.
const WEIGHTS: usize = KV_BLOCK_TOKENS / 2;
/// Panels of a block's keys.
const PANELS: usize = KV_BLOCK_TOKENS / LANES;

/// # Safety
/// The processor has AMX, and [`super::is_permitted`] has said yes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn block(mut block: Block<'_>) {
    let (keys, values) = (block.keys, block.values);
    let words = keys.size / (4 * LANES);
    let is_wide = block.columns > TILE;
    let columns = if is_wide { QUERIES } else { block.columns };
    assert!(words.is_multiple_of(WORDS) && block.queries.len() >= columns * words, "whole units of all columns");
    assert!(block.first_panel + keys.count <= PANELS, "keys of one block");
    assert!(values.size == 2 * LANES * KV_BLOCK_TOKENS && values.count.is_multiple_of(2), "values in pairs of panels");
    assert!(block.scores.len() >= PANELS * columns && block.weights.len() >= columns * WEIGHTS, "shapes fit");
    assert!(block.sums.len() >= 2 * columns && columns <= QUERIES, "shapes fit");
    // SAFETY: the caller's promise.
    let registers = unsafe { Tiles::new(columns.min(TILE), 0) };
    for panel in (0..keys.count).step_by(2) {
        // The last of an odd number of panels stands for both.
        let panels = [panel, (panel + 1).min(keys.count - 1)];
        let w = panels.map(|panel| &keys.bytes[panel * keys.size..][..keys.size]);
        let out = panels.map(|panel| block.scores[(block.first_panel + panel) * columns..][..columns].as_mut_ptr());
        let units = words / WORDS;
        let next = block.next.map(|(keys, _)| &keys[panel * w[0].len()..]);
        // SAFETY: the queries have whole units of all columns, each panel as many of sixteen keys, and the scores of
        // each panel have room for all columns.
        unsafe { multiply(&registers, block.queries, columns, w, next, units, out.map(<*mut [f32; LANES]>::cast)) };
    }
    let factors = weigh(&mut block);
    for panel in (0..values.count).step_by(2) {
        let used = block.steps * UNIT_BYTES;
        let w = [panel, panel + 1].map(|panel| &values.bytes[panel * values.size..][..used]);
        let (first_out, second_out) = block.sums.split_at_mut(columns);
        let out = [first_out.as_mut_ptr().cast(), second_out.as_mut_ptr().cast()];
        let next = block.next.map(|(_, values)| &values[panel * block.values.size..]);
        // SAFETY: the weights have units of all columns for all steps, each panel as many of values, and the sums of
        // each panel have room for all columns.
        unsafe { multiply(&registers, block.weights, columns, w, next, block.steps, out) };
        let gathered = block.gathered.chunks_exact_mut(block.padded);
        for (c, (gathered, factor)) in gathered.take(block.columns).zip(factors).enumerate() {
            let factor = _mm512_set1_ps(factor);
            let places = gathered[panel * LANES..].as_chunks_mut::<LANES>().0.iter_mut();
            for (gathered, sums) in places.zip([&block.sums[c], &block.sums[columns + c]]) {
                let sum = _mm512_add_ps(_mm512_mul_ps(load_floats(gathered), factor), load_floats(sums));
                store_floats(gathered, sum);
            }
        }
    }
}

/// `scalar::softmax_block` of every column, whose weights are rounded and packed; what was gathered before has to be
/// multiplied with the factors.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bf16")]
fn weigh(block: &mut Block<'_>) -> [f32; QUERIES] {
    let nothing = _mm512_set1_ps(f32::NEG_INFINITY);
    let mut factors = [1.0; QUERIES];
    let columns = if block.columns > TILE { QUERIES } else { block.columns };
    // Of each tile, whole units of its columns.
    let stride = columns.min(TILE);
    for c in 0..block.columns {
        let mut scores = [nothing; PANELS];
        for (panel, score) in scores.iter_mut().enumerate() {
            let seen = (block.seen[c] >> (panel * LANES)) as u16;
            *score = _mm512_mask_blend_ps(seen, nothing, load_floats(&block.scores[panel * columns + c]));
        }
        let highest = scores.iter().fold(_mm512_set1_ps(block.largest[c]), |high, score| _mm512_max_ps(high, *score));
        let highest = _mm512_reduce_max_ps(highest);
        let units = &mut block.weights[c / TILE * stride * WEIGHTS..][..stride * WEIGHTS];
        let units = units.chunks_exact_mut(stride * WORDS).map(|unit| &mut unit[c % TILE * WORDS..][..WORDS]);
        if highest == f32::NEG_INFINITY {
            units.for_each(|words| words.fill(0));
            continue;
        }
        // Most blocks hold no larger score than those before, and the first of all is compared with none.
        factors[c] = match block.largest[c] {
            largest if largest >= highest => 1.0,
            f32::NEG_INFINITY => 0.0,
            largest => (largest - highest).exp(),
        };
        let (shift, mut added) = (_mm512_set1_ps(highest), _mm512_setzero_ps());
        for (scores, words) in scores.as_chunks::<2>().0.iter().zip(units) {
            let [low, high] = scores.map(|score| exp(_mm512_sub_ps(score, shift)));
            let pairs = as_words(_mm512_cvtne2ps_pbh(high, low));
            for half in [_mm512_castsi512_si256(pairs), _mm512_extracti64x4_epi64::<1>(pairs)] {
                let rounded = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half));
                added = _mm512_add_ps(added, _mm512_castsi512_ps(rounded));
            }
            let words: &mut [u32; WORDS] = words.try_into().expect("a unit has sixteen words of a column");
            // SAFETY: there is room for sixteen words, and the store needs no alignment.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), pairs) };
        }
        block.largest[c] = highest;
        block.total[c] = block.total[c] * factors[c] + _mm512_reduce_add_ps(added);
    }
    factors
}

/// Two panels of `units` units with all columns, as [`Tiles::few`] or [`Tiles::four`].
///
/// # Safety
/// `x` is packed for these units, each of `w` has as many of sixteen rows, and each output `columns`.
#[inline]
unsafe fn multiply(
    registers: &Tiles,
    x: &[u32],
    columns: usize,
    w: [&[u8]; 2],
    next: Option<&[u8]>,
    units: usize,
    out: [*mut f32; 2],
) {
    let pointers = w.map(<[u8]>::as_ptr);
    if columns > TILE {
        let (first, second) = x.split_at(x.len() / 2);
        let call = Four { x: [first.as_ptr(), second.as_ptr()], w: pointers, units, out };
        // SAFETY: the caller's promise.
        unsafe { registers.four(call) };
    } else {
        // What is read several times is in a cache already, and asking for it once more costs least.
        let ahead = Ahead::of(w, next.or(Some(w[0])));
        let call = Few { x: x.as_ptr(), columns, w: pointers, ahead, units, rest: 0, out };
        // SAFETY: the caller's promise.
        unsafe { registers.few(call) };
    }
}

#[inline]
fn as_words(x: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes, and any bits are valid for either.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(x) }
}
