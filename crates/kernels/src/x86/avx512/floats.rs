//! Panels of F32 and BF16.

use std::arch::x86_64::*;

use super::{load, over_columns, store_floats};
use crate::activations::{TILE, Tile};
use crate::layout::LANES;

#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn bf16_bf16(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(bf16_bf16_columns; panel, tile, out);
}

/// Two neighbouring panels and a full tile, eight columns at a time: a broadcast word feeds two products, since
/// broadcasting costs as much as a product.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn bf16_bf16_pair(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    assert!(tile.stride == TILE && out.len() == 2 * TILE, "a pair of panels takes a full tile");
    let (upper, lower) = panels.split_at(panels.len() / 2);
    let (upper, lower) = (upper.as_chunks().0, lower.as_chunks().0);
    let words = tile.words.as_chunks::<TILE>().0;
    for first in [0, TILE / 2] {
        let mut sums = [[_mm512_setzero_ps(); 2]; TILE / 2];
        for ((upper, lower), x) in upper.iter().zip(lower).zip(words) {
            let (upper, lower) = (as_bf16(load(upper)), as_bf16(load(lower)));
            for (sums, x) in sums.iter_mut().zip(columns::<{ TILE / 2 }>(x, first)) {
                let x = as_bf16(_mm512_set1_epi32(x.cast_signed()));
                sums[0] = _mm512_dpbf16_ps(sums[0], upper, x);
                sums[1] = _mm512_dpbf16_ps(sums[1], lower, x);
            }
        }
        for (c, sums) in sums.into_iter().enumerate() {
            store_floats(&mut out[first + c], sums[0]);
            store_floats(&mut out[TILE + first + c], sums[1]);
        }
    }
}

#[target_feature(enable = "avx512f")]
pub(super) fn bf16_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(bf16_f32_columns; panel, tile, out);
}

#[target_feature(enable = "avx512f")]
pub(super) fn f32_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(f32_f32_columns; panel, tile, out);
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16_bf16_columns<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let mut sums = [_mm512_setzero_ps(); N];
    for (w, x) in panel.as_chunks().0.iter().zip(tile.words.chunks_exact(tile.stride)) {
        let w = as_bf16(load(w));
        for (sum, x) in sums.iter_mut().zip(columns::<N>(x, first)) {
            *sum = _mm512_dpbf16_ps(*sum, w, as_bf16(_mm512_set1_epi32(x.cast_signed())));
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| store_floats(out, sum));
}

#[target_feature(enable = "avx512f")]
fn bf16_f32_columns<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let mut sums = [_mm512_setzero_ps(); N];
    let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    for (w, x) in panel.as_chunks().0.iter().zip(tile.words.chunks_exact(2 * tile.stride)) {
        let w = load(w);
        let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(w));
        let odd = _mm512_castsi512_ps(_mm512_and_si512(w, upper));
        let (x_even, x_odd) = x.split_at(tile.stride);
        let x = columns::<N>(x_even, first).iter().zip(columns::<N>(x_odd, first));
        for (sum, (x_even, x_odd)) in sums.iter_mut().zip(x) {
            *sum = _mm512_fmadd_ps(even, _mm512_set1_ps(f32::from_bits(*x_even)), *sum);
            *sum = _mm512_fmadd_ps(odd, _mm512_set1_ps(f32::from_bits(*x_odd)), *sum);
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| store_floats(out, sum));
}

#[target_feature(enable = "avx512f")]
fn f32_f32_columns<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let mut sums = [_mm512_setzero_ps(); N];
    for (w, x) in panel.as_chunks().0.iter().zip(tile.words.chunks_exact(tile.stride)) {
        let w = _mm512_castsi512_ps(load(w));
        for (sum, x) in sums.iter_mut().zip(columns::<N>(x, first)) {
            *sum = _mm512_fmadd_ps(w, _mm512_set1_ps(f32::from_bits(*x)), *sum);
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| store_floats(out, sum));
}

#[inline]
fn columns<const N: usize>(x: &[u32], first: usize) -> &[u32; N] {
    x[first..].first_chunk().expect("a tile has the columns that are asked for")
}

#[target_feature(enable = "avx512f")]
#[inline]
fn as_bf16(words: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes, and any bits are valid for either.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
}
