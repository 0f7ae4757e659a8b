//! Packing of activations; the numbers are those of `scalar::pack`.
//!
//! Int8 is kept as the kernels of [`super::int8`] want it: `[blocks][columns][words of a block]`.

use std::arch::x86_64::*;

use super::super::blocks::{I8Block, blocks};
use super::{head, load_floats};
use crate::activations::I8_WORDS;
use crate::layout::{BLOCK, LANES};
use crate::parts::Parts;
use crate::scalar;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(in super::super) fn bf16(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    if !columns.is_multiple_of(2 * LANES) {
        return scalar::pack_bf16(x, columns, rows, out);
    }
    let stride = rows.len();
    for (c, row) in rows.iter().enumerate() {
        let x = &x[*row as usize * columns..][..columns];
        for (x, out) in x.as_chunks().0.iter().zip(out.chunks_exact_mut(LANES * stride)) {
            out.chunks_exact_mut(stride).zip(bf16_words(x)).for_each(|(out, word)| out[c] = word);
        }
    }
}

/// Thirty-two numbers in BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
pub(in super::super) fn bf16_words(x: &[f32; BLOCK]) -> [u32; LANES] {
    let (low, high) = x.split_at(LANES);
    let pairs = _mm512_cvtne2ps_pbh(load_floats(head(high)), load_floats(head(low)));
    // SAFETY: both are 64 bytes, and any bits are valid for either.
    unsafe { std::mem::transmute::<__m512bh, [u32; LANES]>(pairs) }
}

/// Sixteen numbers in BF16.
#[target_feature(enable = "avx512f,avx512vl,avx512bf16")]
#[inline]
pub(in super::super) fn bf16_half(x: &[f32; LANES]) -> [u32; LANES / 2] {
    let half = _mm512_cvtneps_pbh(load_floats(x));
    // SAFETY: both are 32 bytes, and any bits are valid for either.
    unsafe { std::mem::transmute::<__m256bh, [u32; LANES / 2]>(half) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(in super::super) fn i8(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    let stride = rows.len();
    for (c, row) in rows.iter().enumerate() {
        let x = &x[*row as usize * columns..][..columns];
        for (x, out) in blocks(x).zip(out.chunks_exact_mut(I8_WORDS * stride)) {
            out[c * I8_WORDS..][..I8_WORDS].copy_from_slice(&i8_words(&x));
        }
    }
}

/// The numbers of two panels for the columns of one tile, where [`i8`] would write them.
///
/// # Safety
/// Nobody else packs this block of this tile at the same time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
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
        unsafe { out.part(at..at + I8_WORDS) }.copy_from_slice(&i8_words(&x));
    }
}

/// A block's words, as [`super::int8`] wants them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn i8_words(x: &[f32; BLOCK]) -> [u32; I8_WORDS] {
    i8_block(x).with_begins(128)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(in super::super) fn i8_block(x: &[f32; BLOCK]) -> I8Block {
    let (low, high) = x.split_at(LANES);
    let (low, high) = (load_floats(head(low)), load_floats(head(high)));
    let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    let inverse = _mm512_set1_ps(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    let (low, high) = (round(low, inverse), round(high, inverse));
    let bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(low));
    // Sums of eight bytes each, 128 too large.
    let eights = _mm256_sad_epu8(_mm256_xor_si256(bytes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    // SAFETY: both are 32 bytes, and any bits are valid for either.
    let eights = unsafe { std::mem::transmute::<__m256i, [u64; 4]>(eights) };
    let sums = [eights[0] + eights[1], eights[2] + eights[3]].map(|sum| sum as i16 - 16 * 128);
    // SAFETY: as above.
    let words = unsafe { std::mem::transmute::<__m256i, [u32; BLOCK / 4]>(bytes) };
    I8Block { words, sums, scale: largest / 127.0 }
}

/// The nearest integers of `x * inverse`, ties to even.
#[target_feature(enable = "avx512f")]
#[inline]
fn round(x: __m512, inverse: __m512) -> __m512i {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm512_cvt_roundps_epi32::<NEAREST>(_mm512_mul_ps(x, inverse))
}
