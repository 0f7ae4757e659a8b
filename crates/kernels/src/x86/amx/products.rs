//! BF16 panels times tiles of activations.

use std::arch::x86_64::*;

use super::super::avx512::{load, over_columns, pack, prefetch, store_floats};
use super::COLUMNS_MIN;
use super::tiles::{self, Bf16, Tiles};
use crate::activations::Tile;
use crate::layout::{BLOCK, LANES};
use crate::scalar;

/// Activations `[columns][words]` from [`COLUMNS_MIN`] columns on, otherwise as for AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    if rows.len() < COLUMNS_MIN {
        return pack::bf16(x, columns, rows, out);
    }
    let words = out.len() / rows.len();
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(words)) {
        let (whole, rest) = x[*row as usize * columns..][..columns].as_chunks::<BLOCK>();
        let (whole_out, rest_out) = out.split_at_mut(whole.len() * LANES);
        for (x, out) in whole.iter().zip(whole_out.as_chunks_mut().0) {
            *out = pack::bf16_words(x);
        }
        scalar::pack_bf16(rest, rest.len(), &[0], rest_out);
    }
}

/// One or two panels.
///
/// # Safety
/// The processor has AMX, and [`tiles::is_permitted`] has said yes.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn bf16<const P: usize>(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    let (columns, words) = (tile.stride, tile.words.len() / tile.stride);
    let size = 4 * LANES * words;
    assert!(panels.len() == P * size && out.len() == P * columns && tile.words.len() == columns * words, "shapes fit");
    if columns < COLUMNS_MIN {
        for (panel, out) in panels.chunks_exact(size).zip(out.chunks_exact_mut(columns)) {
            over_columns!(few; panel, tile, [out]);
        }
        return;
    }
    let (units, rest) = (words / tiles::WORDS, words % tiles::WORDS);
    // SAFETY: the caller's promise.
    let registers = unsafe { Tiles::new(columns, rest) };
    let (mut w, mut sums) = ([panels.as_ptr(); P], [out.as_mut_ptr().cast(); P]);
    for p in 1..P {
        w[p] = panels[p * size..].as_ptr();
        sums[p] = out[p * columns..].as_mut_ptr().cast();
    }
    let call = Bf16 { x: tile.words.as_ptr(), stride: 4 * words, w, units, rest, out: sums };
    // SAFETY: `x` has `columns` rows of `words` words, each panel `words` rows of 64 bytes, each output `columns`.
    unsafe { registers.bf16(call) };
}

/// `N` columns in the order of the tile unit: even and odd numbers of sixteen words, then both to the total.
#[target_feature(enable = "avx512f")]
#[inline]
fn few<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [&mut [[f32; LANES]]; 1]) {
    let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    let zero = _mm512_setzero_ps();
    let mut totals = [zero; N];
    let units = panel.as_chunks::<64>().0.chunks(tiles::WORDS);
    for (weights, x) in units.zip(tile.words.chunks(tiles::WORDS * tile.stride)) {
        let (mut even, mut odd) = ([zero; N], [zero; N]);
        for (w, x) in weights.iter().zip(x.chunks_exact(tile.stride)) {
            if N == 1 {
                prefetch(w.as_ptr(), 64);
            }
            let w = load(w);
            let w_even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(w));
            let w_odd = _mm512_castsi512_ps(_mm512_and_si512(w, upper));
            for (c, x) in x[first..first + N].iter().enumerate() {
                even[c] = _mm512_fmadd_ps(w_even, _mm512_set1_ps(f32::from_bits(x << 16)), even[c]);
                odd[c] = _mm512_fmadd_ps(w_odd, _mm512_set1_ps(f32::from_bits(x & 0xffff_0000)), odd[c]);
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
