//! Panels of F32 and BF16, f32 activations.

use std::arch::x86_64::*;

use super::{load, over_columns, store_floats};
use crate::activations::Tile;
use crate::layout::LANES;

#[target_feature(enable = "avx2,fma")]
pub(super) fn f32_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(f32_f32_columns; panel, tile, out);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn bf16_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    over_columns!(bf16_f32_columns; panel, tile, out);
}

#[target_feature(enable = "avx2,fma")]
fn f32_f32_columns<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    for (w, x) in panel.as_chunks().0.iter().zip(tile.words.chunks_exact(tile.stride)) {
        let [low, high] = load(w);
        let (low, high) = (_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
        for (sum, x) in sums.iter_mut().zip(columns::<N>(x, first)) {
            let x = _mm256_set1_ps(f32::from_bits(*x));
            *sum = [_mm256_fmadd_ps(low, x, sum[0]), _mm256_fmadd_ps(high, x, sum[1])];
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        store_floats(out, sum);
    }
}

#[target_feature(enable = "avx2,fma")]
fn bf16_f32_columns<const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    let upper = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    for (w, x) in panel.as_chunks().0.iter().zip(tile.words.chunks_exact(2 * tile.stride)) {
        let both = load(w);
        let (x_even, x_odd) = x.split_at(tile.stride);
        let x = columns::<N>(x_even, first).iter().zip(columns::<N>(x_odd, first));
        for (sums, (x_even, x_odd)) in sums.iter_mut().zip(x) {
            let (x_even, x_odd) = (_mm256_set1_ps(f32::from_bits(*x_even)), _mm256_set1_ps(f32::from_bits(*x_odd)));
            for (sum, w) in sums.iter_mut().zip(both) {
                let even = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(w));
                let odd = _mm256_castsi256_ps(_mm256_and_si256(w, upper));
                *sum = _mm256_fmadd_ps(odd, x_odd, _mm256_fmadd_ps(even, x_even, *sum));
            }
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        store_floats(out, sum);
    }
}

#[inline]
fn columns<const N: usize>(x: &[u32], first: usize) -> &[u32; N] {
    x[first..].first_chunk().expect("a tile has the columns that are asked for")
}
