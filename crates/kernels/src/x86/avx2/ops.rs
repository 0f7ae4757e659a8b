//! Norms, gates, softmax and packing.

use std::arch::x86_64::*;

use super::super::blocks::{I8Block, blocks};
use crate::activations::I8_WORDS;
use crate::layout::{BLOCK, LANES};
use crate::parts::Parts;
use crate::scalar::{self, Weights};

const WIDTH: usize = 8;

#[target_feature(enable = "avx2,fma")]
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    rms_norm_in_place(out, weight, eps);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let count = x.len() as f32;
    let (lanes, tail) = x.as_chunks_mut::<WIDTH>();
    let mut sums = _mm256_setzero_ps();
    for x in &*lanes {
        let x = load_floats(x);
        sums = _mm256_fmadd_ps(x, x, sums);
    }
    let squares = to_array(sums).iter().sum::<f32>() + tail.iter().map(|x| x * x).sum::<f32>();
    let scale = 1.0 / (squares / count + eps).sqrt();
    let (weights, weights_tail) = weight.as_chunks::<WIDTH>();
    for (x, weight) in lanes.iter_mut().zip(weights) {
        let scaled = _mm256_mul_ps(load_floats(x), _mm256_set1_ps(scale));
        store_floats(x, _mm256_mul_ps(load_floats(weight), scaled));
    }
    for (x, weight) in tail.iter_mut().zip(weights_tail) {
        *x = weight * (*x * scale);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn swiglu(gate: &mut [f32], up: &[f32]) {
    let (gates, gates_tail) = gate.as_chunks_mut::<WIDTH>();
    let (ups, ups_tail) = up.as_chunks::<WIDTH>();
    let one = _mm256_set1_ps(1.0);
    for (gate, up) in gates.iter_mut().zip(ups) {
        let x = load_floats(gate);
        let below = _mm256_add_ps(one, exp(_mm256_sub_ps(_mm256_setzero_ps(), x)));
        store_floats(gate, _mm256_mul_ps(_mm256_div_ps(x, below), load_floats(up)));
    }
    scalar::swiglu(gates_tail, ups_tail);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn softmax_block(scores: &mut [f32], largest: &mut f32, sum: &mut f32, weights: Weights) -> f32 {
    let (lanes, tail) = scores.as_chunks_mut::<WIDTH>();
    if !tail.is_empty() {
        return scalar::softmax_block(scores, largest, sum, weights);
    }
    let mut high = _mm256_set1_ps(*largest);
    for scores in &*lanes {
        high = _mm256_max_ps(high, load_floats(scores));
    }
    let highest = to_array(high).into_iter().fold(f32::NEG_INFINITY, f32::max);
    if highest == f32::NEG_INFINITY {
        scores.fill(0.0);
        return 1.0;
    }
    let factor = (*largest - highest).exp();
    let (shift, mut added) = (_mm256_set1_ps(highest), _mm256_setzero_ps());
    for scores in lanes {
        let mut weight = exp(_mm256_sub_ps(load_floats(scores), shift));
        if weights == Weights::Bf16 {
            weight = round_to_bf16(weight);
        }
        added = _mm256_add_ps(added, weight);
        store_floats(scores, weight);
    }
    *largest = highest;
    *sum = *sum * factor + to_array(added).iter().sum::<f32>();
    factor
}

/// As [`scalar::pack_f32`], eight rows and eight columns at a time.
#[target_feature(enable = "avx2,fma")]
pub(super) fn pack_f32(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    let (stride, whole) = (rows.len(), rows.len() / WIDTH * WIDTH);
    if !columns.is_multiple_of(WIDTH) {
        return scalar::pack_f32(x, columns, rows, out);
    }
    for (first, rows) in rows.as_chunks::<WIDTH>().0.iter().enumerate() {
        for (k, out) in out.chunks_exact_mut(WIDTH * stride).enumerate() {
            let mut square = [_mm256_setzero_ps(); WIDTH];
            for (square, row) in square.iter_mut().zip(rows) {
                let x = &x[*row as usize * columns + k * WIDTH..];
                *square = load_floats(x.first_chunk().expect("columns are whole registers"));
            }
            for (out, numbers) in out.chunks_exact_mut(stride).zip(transposed(square)) {
                let out: &mut [u32; WIDTH] = out[first * WIDTH..].first_chunk_mut().expect("a tile has these columns");
                // SAFETY: there is room for eight words, and the store needs no alignment.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr().cast(), numbers) };
            }
        }
    }
    for (c, row) in rows.iter().enumerate().skip(whole) {
        let x = &x[*row as usize * columns..][..columns];
        x.iter().zip(out.chunks_exact_mut(stride)).for_each(|(x, out)| out[c] = x.to_bits());
    }
}

/// Rows become columns.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn transposed(x: [__m256; WIDTH]) -> [__m256; WIDTH] {
    let mut pairs = [_mm256_setzero_ps(); WIDTH];
    for i in 0..WIDTH / 2 {
        pairs[2 * i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
    }
    let mut fours = [_mm256_setzero_ps(); WIDTH];
    for half in [0, 4] {
        for i in 0..2 {
            let (upper, lower) = (pairs[half + i], pairs[half + 2 + i]);
            fours[half + 2 * i] = _mm256_shuffle_ps::<0x44>(upper, lower);
            fours[half + 2 * i + 1] = _mm256_shuffle_ps::<0xee>(upper, lower);
        }
    }
    let mut out = [_mm256_setzero_ps(); WIDTH];
    for i in 0..WIDTH / 2 {
        out[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[4 + i]);
        out[4 + i] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[4 + i]);
    }
    out
}

/// As [`scalar::pack_i8`], laid out `[blocks][columns][words of a block]` as [`super::int8`] wants it.
#[target_feature(enable = "avx2,fma")]
pub(super) fn pack_i8(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    let stride = rows.len();
    for (c, row) in rows.iter().enumerate() {
        let x = &x[*row as usize * columns..][..columns];
        for (x, out) in blocks(x).zip(out.chunks_exact_mut(I8_WORDS * stride)) {
            out[c * I8_WORDS..][..I8_WORDS].copy_from_slice(&i8_block(&x));
        }
    }
}

/// The numbers of two panels for the columns of one tile, where [`pack_i8`] would write them.
///
/// # Safety
/// Nobody else packs this block of this tile at the same time.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn place_i8(
    (upper, lower): (&[[f32; LANES]], &[[f32; LANES]]),
    block: usize,
    out: &Parts<'_, u32>,
    start: usize,
) {
    let start = start + block * I8_WORDS * upper.len();
    for (c, (upper, lower)) in upper.iter().zip(lower).enumerate() {
        let mut x = [0.0; BLOCK];
        x[..LANES].copy_from_slice(upper);
        x[LANES..].copy_from_slice(lower);
        let at = start + c * I8_WORDS;
        // SAFETY: the caller's promise.
        unsafe { out.part(at..at + I8_WORDS) }.copy_from_slice(&i8_block(&x));
    }
}

/// The words of a block.
#[target_feature(enable = "avx2")]
#[inline]
fn i8_block(x: &[f32; BLOCK]) -> [u32; I8_WORDS] {
    let mut q = [_mm256_setzero_si256(); 4];
    let mut largest = _mm256_setzero_ps();
    for x in x.as_chunks().0 {
        largest = _mm256_max_ps(largest, _mm256_andnot_ps(_mm256_set1_ps(-0.0), load_floats(x)));
    }
    let largest = to_array(largest).into_iter().fold(0.0, f32::max);
    let inverse = _mm256_set1_ps(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    for (q, x) in q.iter_mut().zip(x.as_chunks().0) {
        // The processor's default rounding: to the nearest, ties to even.
        *q = _mm256_cvtps_epi32(_mm256_mul_ps(load_floats(x), inverse));
    }
    // Packing works on halves of registers as well: the words come out in the order 0, 2, 4, 6, 1, 3, 5, 7.
    let bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    // Sums of eight bytes each, 128 too large.
    let eights = _mm256_sad_epu8(_mm256_xor_si256(bytes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    // SAFETY: both are 32 bytes, and any bits are valid for either.
    let eights = unsafe { std::mem::transmute::<__m256i, [u64; 4]>(eights) };
    let sums = [eights[0] + eights[1], eights[2] + eights[3]].map(|sum| sum as i16 - 16 * 128);
    // SAFETY: as above.
    let words = unsafe { std::mem::transmute::<__m256i, [u32; BLOCK / 4]>(bytes) };
    I8Block { words, sums, scale: largest / 127.0 }.with_begins(8)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_floats(floats: &[f32; WIDTH]) -> __m256 {
    // SAFETY: eight floats are there, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store_floats(floats: &mut [f32; WIDTH], value: __m256) {
    // SAFETY: there is room for eight floats, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(floats.as_mut_ptr(), value) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn to_array(x: __m256) -> [f32; WIDTH] {
    let mut out = [0.0; WIDTH];
    store_floats(&mut out, x);
    out
}

/// The nearest BF16, ties to even; the numbers here are finite or NaN, and a NaN stays one.
#[target_feature(enable = "avx2")]
#[inline]
fn round_to_bf16(x: __m256) -> __m256 {
    let bits = _mm256_castps_si256(x);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32(0xffff_0000_u32.cast_signed())))
}

/// `e^x` to two units in the last place, as the AVX-512 body; below -87.3 it is zero, above 88.7 infinite, NaN is NaN.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn exp(x: __m256) -> __m256 {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    let lowest = _mm256_set1_ps(-87.3);
    let is_zero = _mm256_cmp_ps::<_CMP_LT_OQ>(x, lowest);
    // The second operand comes back if one is NaN: `x`. The bounds keep the exponent within eight bits.
    let x = _mm256_min_ps(_mm256_set1_ps(88.8), _mm256_max_ps(lowest, x));
    let n = _mm256_round_ps::<NEAREST>(_mm256_mul_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E)));
    // ln 2 in two pieces, so that the difference is exact: Cody and Waite.
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693_359_4), x);
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.121_944_4e-4), r);
    let mut p = _mm256_set1_ps(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(coefficient));
    }
    let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent));
    _mm256_andnot_ps(is_zero, _mm256_mul_ps(p, power))
}
