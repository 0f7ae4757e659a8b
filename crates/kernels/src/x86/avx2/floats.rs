//! Panels of F32 and BF16, f32 activations.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::super::{Ahead, Panels, Products, ask_near};
use super::{columns_of, load, over_columns, store_floats};
use crate::activations::Tile;
use crate::layout::LANES;
use crate::table::SIDE_BY_SIDE;

#[target_feature(enable = "avx2,fma")]
pub(super) fn f32_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(f32_f32_columns, 6; panel, tile, out);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn bf16_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(bf16_f32_columns, 6; panel, tile, out);
}

#[target_feature(enable = "avx2,fma")]
fn f32_f32_columns<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    for (w, x) in panel.as_chunks().0.iter().zip(tile.words.chunks_exact(tile.stride)) {
        let x: &[u32; N] = columns_of(x, first);
        add_products(&mut sums, load(w), |c| x[c]);
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        store_floats(out, sum);
    }
}

#[target_feature(enable = "avx2,fma")]
fn bf16_f32_columns<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    let ahead = Ahead::of([panel], tile.next);
    for (k, (w, x)) in panel.as_chunks().0.iter().zip(tile.words.chunks_exact(2 * tile.stride)).enumerate() {
        if first == 0 {
            ahead.ask(64 * k, 64);
        }
        let (x_even, x_odd) = x.split_at(tile.stride);
        let (x_even, x_odd): (&[u32; N], &[u32; N]) = (columns_of(x_even, first), columns_of(x_odd, first));
        add_pairs(&mut sums, w, |c| x_even[c], |c| x_odd[c]);
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        store_floats(out, sum);
    }
}

/// One column, two numbers of it and of each panel in turns.
#[target_feature(enable = "avx2,fma")]
pub(super) fn bf16_side_by_side(panels: Panels<'_>, tile: Tile<'_>, out: &mut Products) {
    let panels = panels.map(|panel| panel.as_chunks().0);
    let mut sums = [[_mm256_setzero_ps(); 2]; SIDE_BY_SIDE];
    for (k, [x_even, x_odd]) in tile.words.as_chunks().0.iter().enumerate() {
        for (panel, sums) in panels.iter().zip(&mut sums) {
            ask_near(&panel[k]);
            add_pairs(std::array::from_mut(sums), &panel[k], |_| *x_even, |_| *x_odd);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        store_floats(out, sum);
    }
}

/// Adds the products of a line, sixteen rows of two BF16 numbers each, and two numbers of each column.
///
/// Twelve sums leave four registers. The line is loaded once more for the second numbers, out of a place that the
/// compiler does not know: it keeps the first load and has one of the sums in memory otherwise, where every line waits
/// for it twice.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn add_pairs<const N: usize>(
    sums: &mut [[__m256; 2]; N],
    line: &[u8; 64],
    even: impl Fn(usize) -> u32,
    odd: impl Fn(usize) -> u32,
) {
    add_products(sums, evens(load(line)), even);
    add_products(sums, odds(load(if N > 4 { black_box(line) } else { line })), odd);
}

/// The BF16 numbers in the lower halves of sixteen words, widened.
#[target_feature(enable = "avx2")]
#[inline]
fn evens(words: [__m256i; 2]) -> [__m256i; 2] {
    [_mm256_slli_epi32::<16>(words[0]), _mm256_slli_epi32::<16>(words[1])]
}

/// The BF16 numbers in the upper halves of sixteen words, widened.
#[target_feature(enable = "avx2")]
#[inline]
fn odds(words: [__m256i; 2]) -> [__m256i; 2] {
    let upper = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    [_mm256_and_si256(words[0], upper), _mm256_and_si256(words[1], upper)]
}

/// Adds the products of sixteen weights and a number of each column.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_products<const N: usize>(sums: &mut [[__m256; 2]; N], w: [__m256i; 2], x: impl Fn(usize) -> u32) {
    for (c, sums) in sums.iter_mut().enumerate() {
        let x = _mm256_set1_ps(f32::from_bits(x(c)));
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = _mm256_fmadd_ps(_mm256_castsi256_ps(w), x, *sum);
        }
    }
}
