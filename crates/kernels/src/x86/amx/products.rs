//! BF16 panels times tiles of activations.

use std::arch::x86_64::*;

use super::super::avx512::{load, over_columns, pack, store_floats};
use super::super::prefetch_panels;
use super::COLUMNS_MIN;
use super::tiles::{self, Few, Four, Tiles};
use crate::activations::{TILE, Tile};
use crate::layout::{BLOCK, LANES};
use crate::parts::Parts;
use crate::scalar;

/// Activations `[units][columns][16 words]` from [`COLUMNS_MIN`] columns on, otherwise as for AVX-512. What is left
/// behind whole units follows as `[columns][words]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    let stride = rows.len();
    if stride < COLUMNS_MIN {
        return pack::bf16(x, columns, rows, out);
    }
    let (units, rest_out) = out.split_at_mut(columns / BLOCK * LANES * stride);
    let rest_words = rest_out.len() / stride;
    for (c, row) in rows.iter().enumerate() {
        let (whole, rest) = x[*row as usize * columns..][..columns].as_chunks::<BLOCK>();
        for (x, out) in whole.iter().zip(units.as_chunks_mut::<LANES>().0.chunks_exact_mut(stride)) {
            out[c] = pack::bf16_words(x);
        }
        scalar::pack_bf16(rest, rest.len(), &[0], &mut rest_out[c * rest_words..][..rest_words]);
    }
}

/// The numbers of one panel for the columns of one tile, where [`pack`] would write them.
///
/// # Safety
/// Nobody else packs this panel of this tile at the same time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn place(values: &[[f32; LANES]], panel: usize, out: &Parts<'_, u32>, start: usize) {
    const PANEL_WORDS: usize = LANES / 2;
    let stride = values.len();
    for (c, values) in values.iter().enumerate() {
        let words = pack::bf16_half(values);
        if stride < COLUMNS_MIN {
            for (w, word) in (panel * PANEL_WORDS..).zip(words) {
                let at = start + w * stride + c;
                // SAFETY: the caller's promise; a word belongs to one panel and one column.
                let place = unsafe { out.part(at..at + 1) };
                place[0] = word;
            }
        } else {
            let at = start + panel / 2 * LANES * stride + c * LANES + panel % 2 * PANEL_WORDS;
            // SAFETY: the caller's promise; half a unit of a column is one panel's.
            let place = unsafe { out.part(at..at + PANEL_WORDS) };
            place.copy_from_slice(&words);
        }
    }
}

/// One or two panels and one tile.
///
/// # Safety
/// The processor has AMX, and [`tiles::is_permitted`] has said yes.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn bf16<const P: usize>(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    let mut outs = out.chunks_exact_mut(tile.stride);
    let outs: [&mut [[f32; LANES]]; P] = std::array::from_fn(|_| outs.next().expect("every panel has outputs"));
    // SAFETY: the caller's promise.
    unsafe { one_tile(panels, tile, outs) };
}

/// One or two panels and many tiles.
///
/// # Safety
/// As for [`bf16`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn wide(panels: &[u8], words: usize, all: &[u32], out: &mut [[f32; LANES]]) {
    let (size, columns) = (4 * LANES * words, all.len() / words);
    if panels.len() == size {
        for (tile, out) in all.chunks(TILE * words).zip(out.chunks_mut(TILE)) {
            // SAFETY: the caller's promise.
            unsafe { one_tile(panels, Tile { words: tile, stride: tile.len() / words }, [out]) };
        }
        return;
    }
    assert!(panels.len() == 2 * size && out.len() == 2 * columns && all.len() == columns * words, "shapes fit");
    let (first, second) = out.split_at_mut(columns);
    // The registers of four products are all there are: what is left behind whole units finds none.
    let in_fours = if words.is_multiple_of(tiles::WORDS) { columns / (2 * TILE) * 2 * TILE } else { 0 };
    if in_fours > 0 {
        // SAFETY: the caller's promise.
        let registers = unsafe { Tiles::new(TILE, 0) };
        let two_tiles = all[..in_fours * words].chunks_exact(2 * TILE * words);
        let outs = first.chunks_exact_mut(2 * TILE).zip(second.chunks_exact_mut(2 * TILE));
        for (x, (first, second)) in two_tiles.zip(outs) {
            let call = Four {
                x: [x.as_ptr(), x[TILE * words..].as_ptr()],
                w: [panels.as_ptr(), panels[size..].as_ptr()],
                units: words / tiles::WORDS,
                out: [first.as_mut_ptr().cast(), second.as_mut_ptr().cast()],
            };
            // SAFETY: both tiles have `units` units of sixteen columns, each panel as many of sixteen rows, and each
            // output has two tiles of sums.
            unsafe { registers.four(call) };
        }
    }
    let rest = all[in_fours * words..].chunks(TILE * words);
    let outs = first[in_fours..].chunks_mut(TILE).zip(second[in_fours..].chunks_mut(TILE));
    for (tile, (first, second)) in rest.zip(outs) {
        // SAFETY: the caller's promise.
        unsafe { one_tile(panels, Tile { words: tile, stride: tile.len() / words }, [first, second]) };
    }
}

/// # Safety
/// As for [`bf16`].
#[target_feature(enable = "avx512f")]
unsafe fn one_tile<const P: usize>(panels: &[u8], tile: Tile<'_>, out: [&mut [[f32; LANES]]; P]) {
    let (columns, words) = (tile.stride, tile.words.len() / tile.stride);
    let size = 4 * LANES * words;
    assert!(panels.len() == P * size && tile.words.len() == columns * words, "shapes fit");
    assert!(out.iter().all(|out| out.len() == columns), "there is an output for every column");
    if columns < COLUMNS_MIN {
        for (panel, out) in panels.chunks_exact(size).zip(out) {
            over_columns!(few; panel, tile, [out]);
        }
        return;
    }
    let (units, rest) = (words / tiles::WORDS, words % tiles::WORDS);
    // SAFETY: the caller's promise.
    let registers = unsafe { Tiles::new(columns, rest) };
    let (mut w, mut sums) = ([panels.as_ptr(); P], [std::ptr::null_mut(); P]);
    for p in 0..P {
        w[p] = panels[p * size..].as_ptr();
        sums[p] = out[p].as_mut_ptr().cast();
    }
    let call = Few { x: tile.words.as_ptr(), columns, w, units, rest, out: sums };
    // SAFETY: `x` has `columns` rows of `words` words, each panel `words` rows of 64 bytes, each output `columns`.
    unsafe { registers.few(call) };
}

/// Words of a unit of the most columns that are not computed by tiles.
const UNIT_MAX: usize = tiles::WORDS * (COLUMNS_MIN - 1);

/// `N` columns in the order of the tile unit: even and odd numbers of sixteen words, then both to the total.
#[target_feature(enable = "avx512f")]
#[inline]
fn few<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [&mut [[f32; LANES]]; 1]) {
    let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    let zero = _mm512_setzero_ps();
    let mut totals = [zero; N];
    // The numbers of a unit's words, widened once, so that a product takes them from memory.
    let (mut x_even, mut x_odd) = ([0.0; UNIT_MAX], [0.0; UNIT_MAX]);
    let units = panel.as_chunks::<64>().0.chunks(tiles::WORDS);
    for (unit, (weights, x)) in units.zip(tile.words.chunks(tiles::WORDS * tile.stride)).enumerate() {
        if first == 0 {
            prefetch_panels([panel], 64 * tiles::WORDS * unit, 64 * tiles::WORDS);
        }
        for (x, (even, odd)) in x.iter().zip(x_even.iter_mut().zip(&mut x_odd)) {
            *even = f32::from_bits(x << 16);
            *odd = f32::from_bits(x & 0xffff_0000);
        }
        let (mut even, mut odd) = ([zero; N], [zero; N]);
        let x = x_even.chunks_exact(tile.stride).zip(x_odd.chunks_exact(tile.stride));
        for (w, (x_even, x_odd)) in weights.iter().zip(x) {
            let w = load(w);
            let w_even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(w));
            let w_odd = _mm512_castsi512_ps(_mm512_and_si512(w, upper));
            for (c, (x_even, x_odd)) in x_even[first..first + N].iter().zip(&x_odd[first..first + N]).enumerate() {
                even[c] = _mm512_fmadd_ps(w_even, _mm512_set1_ps(*x_even), even[c]);
                odd[c] = _mm512_fmadd_ps(w_odd, _mm512_set1_ps(*x_odd), odd[c]);
            }
        }
        for (total, (even, odd)) in totals.iter_mut().zip(even.into_iter().zip(odd)) {
            *total = _mm512_add_ps(*total, _mm512_add_ps(even, odd));
        }
    }
    for (out, total) in out[0][first..].iter_mut().zip(totals) {
        store_floats(out, total);
    }
}
