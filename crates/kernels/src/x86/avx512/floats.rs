//! Panels of F32 and BF16.

use std::arch::x86_64::*;

use super::super::{Ahead, Panels, Products, ask_near};
use super::{load, over_columns, store_floats};
use crate::activations::Tile;
use crate::layout::LANES;
use crate::table::SIDE_BY_SIDE;

#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn bf16_bf16(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(bf16_bf16_columns, 1; [panel], tile, [out]);
}

#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn bf16_bf16_pair(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    let (upper, lower) = panels.split_at(panels.len() / 2);
    let (first, second) = out.split_at_mut(out.len() / 2);
    over_columns!(bf16_bf16_columns, 2; [upper, lower], tile, [first, second]);
}

#[target_feature(enable = "avx512f")]
pub(super) fn bf16_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(bf16_f32_columns, 1; [panel], tile, [out]);
}

#[target_feature(enable = "avx512f")]
pub(super) fn bf16_f32_pair(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    let (upper, lower) = panels.split_at(panels.len() / 2);
    let (first, second) = out.split_at_mut(out.len() / 2);
    over_columns!(bf16_f32_columns, 2; [upper, lower], tile, [first, second]);
}

#[target_feature(enable = "avx512f")]
pub(super) fn f32_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(f32_f32_columns; panel, tile, [out]);
}

/// `N` columns of `P` panels: a broadcast word feeds them all, since broadcasting costs as much as a product.
#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16_bf16_columns<const P: usize, const N: usize>(
    panels: [&[u8]; P],
    tile: Tile<'_>,
    first: usize,
    out: &mut [&mut [[f32; LANES]]; P],
) {
    let ahead = Ahead::of(panels, tile.next);
    let panels = panels.map(|panel| panel.as_chunks::<64>().0);
    let mut sums = [[_mm512_setzero_ps(); N]; P];
    for (k, x) in tile.words.chunks_exact(tile.stride).enumerate() {
        if first == 0 {
            ahead.ask(64 * k, 64);
        }
        // A loop, not `map`: a closure with instructions of its own is not inlined into a function without them.
        let mut weights = [as_bf16(_mm512_setzero_si512()); P];
        for (weights, panel) in weights.iter_mut().zip(&panels) {
            *weights = as_bf16(load(&panel[k]));
        }
        for (c, x) in columns::<N>(x, first).iter().enumerate() {
            let x = as_bf16(_mm512_set1_epi32(x.cast_signed()));
            for (sums, w) in sums.iter_mut().zip(weights) {
                sums[c] = _mm512_dpbf16_ps(sums[c], w, x);
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, sum) in out[first..].iter_mut().zip(sums) {
            store_floats(out, sum);
        }
    }
}

/// As [`bf16_bf16_columns`].
#[target_feature(enable = "avx512f")]
fn bf16_f32_columns<const P: usize, const N: usize>(
    panels: [&[u8]; P],
    tile: Tile<'_>,
    first: usize,
    out: &mut [&mut [[f32; LANES]]; P],
) {
    let ahead = Ahead::of(panels, tile.next);
    let panels = panels.map(|panel| panel.as_chunks::<64>().0);
    let mut sums = [[_mm512_setzero_ps(); N]; P];
    for (k, x) in tile.words.chunks_exact(2 * tile.stride).enumerate() {
        if first == 0 {
            ahead.ask(64 * k, 64);
        }
        let mut words = [_mm512_setzero_si512(); P];
        words.iter_mut().zip(&panels).for_each(|(words, panel)| *words = load(&panel[k]));
        let (left, right) = x.split_at(tile.stride);
        let mut weights = [_mm512_setzero_ps(); P];
        weights.iter_mut().zip(words).for_each(|(weights, words)| *weights = even(words));
        add(&mut sums, weights, columns(left, first));
        weights.iter_mut().zip(words).for_each(|(weights, words)| *weights = odd(words));
        add(&mut sums, weights, columns(right, first));
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, sum) in out[first..].iter_mut().zip(sums) {
            store_floats(out, sum);
        }
    }
}

/// One column, two numbers of it and of each panel in turns.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn bf16_bf16_side_by_side(panels: Panels<'_>, tile: Tile<'_>, out: &mut Products) {
    let panels = panels.map(|panel| panel.as_chunks().0);
    let mut sums = [_mm512_setzero_ps(); SIDE_BY_SIDE];
    for (k, x) in tile.words.iter().enumerate() {
        let x = as_bf16(_mm512_set1_epi32(x.cast_signed()));
        for (panel, sum) in panels.iter().zip(&mut sums) {
            ask_near(&panel[k]);
            *sum = _mm512_dpbf16_ps(*sum, as_bf16(load(&panel[k])), x);
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| store_floats(out, sum));
}

/// As [`bf16_bf16_side_by_side`].
#[target_feature(enable = "avx512f")]
pub(super) fn bf16_f32_side_by_side(panels: Panels<'_>, tile: Tile<'_>, out: &mut Products) {
    let panels = panels.map(|panel| panel.as_chunks().0);
    let mut sums = [[_mm512_setzero_ps()]; SIDE_BY_SIDE];
    for (k, [left, right]) in tile.words.as_chunks().0.iter().enumerate() {
        for (panel, sum) in panels.iter().zip(&mut sums) {
            ask_near(&panel[k]);
            let (words, sum) = (load(&panel[k]), std::array::from_mut(sum));
            add(sum, [even(words)], std::array::from_ref(left));
            add(sum, [odd(words)], std::array::from_ref(right));
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, [sum])| store_floats(out, sum));
}

/// Adds the products of a number of every panel and one of every column.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn add<const P: usize, const N: usize>(sums: &mut [[__m512; N]; P], weights: [__m512; P], x: &[u32; N]) {
    for (c, x) in x.iter().enumerate() {
        let x = _mm512_set1_ps(f32::from_bits(*x));
        sums.iter_mut().zip(weights).for_each(|(sums, w)| sums[c] = _mm512_fmadd_ps(w, x, sums[c]));
    }
}

#[target_feature(enable = "avx512f")]
fn f32_f32_columns<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [&mut [[f32; LANES]]; 1]) {
    let mut sums = [_mm512_setzero_ps(); N];
    for (w, x) in panel.as_chunks().0.iter().zip(tile.words.chunks_exact(tile.stride)) {
        let w = _mm512_castsi512_ps(load(w));
        for (sum, x) in sums.iter_mut().zip(columns::<N>(x, first)) {
            *sum = _mm512_fmadd_ps(w, _mm512_set1_ps(f32::from_bits(*x)), *sum);
        }
    }
    for (out, sum) in out[0][first..].iter_mut().zip(sums) {
        store_floats(out, sum);
    }
}

#[inline]
fn columns<const N: usize>(x: &[u32], first: usize) -> &[u32; N] {
    x[first..].first_chunk().expect("a tile has the columns that are asked for")
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn as_bf16(words: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes, and any bits are valid for either.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
}

/// The first of each word's two numbers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn even(words: __m512i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
}

/// The second of each word's two numbers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn odd(words: __m512i) -> __m512 {
    _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32.cast_signed())))
}
