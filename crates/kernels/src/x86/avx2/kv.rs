//! Keys and values in BF16 and int8, one token or sixteen at a time; the bytes are those of the plain bodies in
//! [`crate::kv`].

use std::arch::x86_64::*;

use super::ops::{load_floats, to_array, transposed};
use super::{head, load, store};
use crate::kv::{Tokens, inverse};
use crate::layout::{BLOCK, LANES, PAIR_HEAD, Q8_PAIR};

/// Numbers in a register.
const WIDTH: usize = 8;

#[target_feature(enable = "avx2")]
pub(super) fn bf16_sixteen(of: Tokens<'_>) {
    let Tokens { k, v, stride, d, keys, values, value_panel, first, .. } = of;
    assert!(d.is_multiple_of(BLOCK) && keys.len() == 2 * LANES * d, "a panel of whole units");
    // Eight words of sixteen tokens are eight lines.
    for (piece, lines) in keys.as_chunks_mut::<64>().0.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let [mut low, mut high] = [[_mm256_setzero_ps(); WIDTH]; 2];
        for (token, words) in low.iter_mut().chain(&mut high).enumerate() {
            let x = &k[token * stride..][..d][2 * WIDTH * piece..];
            *words = _mm256_castsi256_ps(paired(head(x)));
        }
        for ((line, low), high) in lines.iter_mut().zip(transposed(low)).zip(transposed(high)) {
            store(line, [_mm256_castps_si256(low), _mm256_castps_si256(high)]);
        }
    }
    for pair in 0..LANES / 2 {
        let rows = [2 * pair, 2 * pair + 1].map(|token| v[token * stride..][..d].as_chunks::<LANES>().0);
        let panels = values.chunks_exact_mut(value_panel);
        for (panel, (even, odd)) in panels.zip(rows[0].iter().zip(rows[1])) {
            let (even, odd) = (widened(even), widened(odd));
            let out = panel[64 * (first / 2 + pair)..].first_chunk_mut().expect("a pair of tokens is a line");
            store(out, [joined(even[0], odd[0]), joined(even[1], odd[1])]);
        }
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn bf16_one(of: Tokens<'_>) {
    let Tokens { k, v, d, keys, values, value_panel, first, .. } = of;
    assert!(d.is_multiple_of(BLOCK) && keys.len() == 2 * LANES * d, "a panel of whole units");
    let lines = keys.as_chunks_mut::<64>().0.as_chunks_mut::<WIDTH>().0;
    for (x, lines) in k[..d].as_chunks().0.iter().zip(lines) {
        let words = paired(x);
        // SAFETY: both are 32 bytes, and any bits are valid for either.
        let words = unsafe { std::mem::transmute::<__m256i, [[u8; 4]; WIDTH]>(words) };
        for (line, word) in lines.iter_mut().zip(words) {
            line.as_chunks_mut().0[first % LANES] = word;
        }
    }
    let is_odd = first % 2 == 1;
    for (x, panel) in v[..d].as_chunks().0.iter().zip(values.chunks_exact_mut(value_panel)) {
        let out: &mut [u8; 64] = panel[64 * (first / 2)..].first_chunk_mut().expect("a pair of tokens is a line");
        let (new, [low, high]) = (widened(x), load(out));
        // What is there of the other token stays.
        let value = if is_odd {
            [
                _mm256_blend_epi16::<0xaa>(low, _mm256_slli_epi32::<16>(new[0])),
                _mm256_blend_epi16::<0xaa>(high, _mm256_slli_epi32::<16>(new[1])),
            ]
        } else {
            [_mm256_blend_epi16::<0x55>(low, new[0]), _mm256_blend_epi16::<0x55>(high, new[1])]
        };
        store(out, value);
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn i8_sixteen(of: Tokens<'_>) {
    let Tokens { k, v, stride, d, keys, values, scales, value_panel, first } = of;
    for token in 0..LANES {
        let (k, v) = (&k[token * stride..], &v[token * stride..]);
        i8_one(Tokens { k, v, stride, d, keys, values, scales, value_panel, first: first + token });
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn i8_one(of: Tokens<'_>) {
    let Tokens { k, v, d, keys, values, scales, value_panel, first, .. } = of;
    assert!(keys.len() * 2 * BLOCK == d * Q8_PAIR && value_panel == Q8_PAIR, "a panel of whole pairs of blocks");
    for (x, pair) in k[..d].as_chunks::<{ 2 * BLOCK }>().0.iter().zip(keys.as_chunks_mut::<Q8_PAIR>().0) {
        for (half, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
            // The scale is rounded first, so that the numbers are the nearest under the scale that is kept.
            let scale = _mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(largest_of(x) / 127.0));
            let inverse = inverse(_mm_cvtss_f32(_mm_cvtph_ps(scale)));
            let scale = _mm_cvtsi128_si32(scale) as u16;
            pair[half * 32 + 2 * (first % LANES)..][..2].copy_from_slice(&scale.to_le_bytes());
            let lines = pair[PAIR_HEAD + half * 16 * BLOCK..].as_chunks_mut::<64>().0;
            for (x, lines) in x.as_chunks().0.iter().zip(lines.as_chunks_mut::<2>().0) {
                // Both words of eight numbers.
                let words = in_bytes(quantised(x, inverse));
                for (line, word) in lines.iter_mut().zip(words) {
                    line.as_chunks_mut().0[first % LANES] = word;
                }
            }
        }
    }
    let scale = largest_of(&v[..d]) / 127.0;
    scales[first] = scale.to_le_bytes();
    let (inverse, place) = (inverse(scale), _mm_cvtsi32_si128(8 * (first % 4) as i32));
    let byte = _mm256_sll_epi32(_mm256_set1_epi32(255), place);
    for (x, panel) in v[..d].as_chunks::<LANES>().0.iter().zip(values.as_chunks_mut::<Q8_PAIR>().0) {
        // Four tokens of a dimension are a word: those of the others stay.
        let out = &mut panel[PAIR_HEAD..].as_chunks_mut().0[first / 4];
        let mut words = load(out);
        for (words, x) in words.iter_mut().zip(x.as_chunks().0) {
            *words = _mm256_blendv_epi8(*words, _mm256_sll_epi32(quantised(x, inverse), place), byte);
        }
        store(out, words);
    }
}

/// The largest magnitude.
#[target_feature(enable = "avx2")]
#[inline]
fn largest_of(x: &[f32]) -> f32 {
    let mut largest = _mm256_setzero_ps();
    for x in x.as_chunks().0 {
        // The second operand comes back if one is NaN.
        largest = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0), load_floats(x)), largest);
    }
    to_array(largest).into_iter().fold(0.0, f32::max)
}

/// The nearest integers of `x * inverse` from -127 to 127, ties to even.
#[target_feature(enable = "avx2")]
#[inline]
fn quantised(x: &[f32; WIDTH], inverse: f32) -> __m256i {
    let q = _mm256_cvtps_epi32(_mm256_mul_ps(load_floats(x), _mm256_set1_ps(inverse)));
    _mm256_max_epi32(_mm256_set1_epi32(-127), _mm256_min_epi32(_mm256_set1_epi32(127), q))
}

/// Eight numbers of eight bits each, in order.
#[target_feature(enable = "avx2")]
#[inline]
fn in_bytes(numbers: __m256i) -> [[u8; 4]; 2] {
    let (low, high) = (_mm256_castsi256_si128(numbers), _mm256_extracti128_si256::<1>(numbers));
    let words = _mm_packs_epi32(low, high);
    let bytes = _mm_cvtsi128_si64(_mm_packs_epi16(words, words)).to_le_bytes();
    [[bytes[0], bytes[1], bytes[2], bytes[3]], [bytes[4], bytes[5], bytes[6], bytes[7]]]
}

/// Sixteen numbers in BF16, two of them a word.
#[target_feature(enable = "avx2")]
#[inline]
fn paired(x: &[f32; LANES]) -> __m256i {
    let [low, high] = widened(x);
    // Packing works on halves of registers: those of the second and third must change places.
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high))
}

/// The first numbers in the lower halves of words, the second ones in the upper halves.
#[target_feature(enable = "avx2")]
#[inline]
fn joined(even: __m256i, odd: __m256i) -> __m256i {
    _mm256_or_si256(even, _mm256_slli_epi32::<16>(odd))
}

/// Sixteen numbers in BF16, each in the lower half of a word: to the nearest, ties to even; a NaN stays one.
#[target_feature(enable = "avx2")]
#[inline]
fn widened(x: &[f32; LANES]) -> [__m256i; 2] {
    let mut out = [_mm256_setzero_si256(); 2];
    for (out, x) in out.iter_mut().zip(x.as_chunks().0) {
        let x = load_floats(x);
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        let bits = _mm256_castps_si256(x);
        let upper = _mm256_srli_epi32::<16>(bits);
        let half = _mm256_add_epi32(_mm256_and_si256(upper, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half));
        *out = _mm256_blendv_epi8(rounded, _mm256_or_si256(upper, _mm256_set1_epi32(0x40)), is_nan);
    }
    out
}
