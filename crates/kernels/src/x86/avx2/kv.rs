//! Keys and values in BF16, one token or sixteen at a time; the bytes are those of the plain bodies in [`crate::kv`].

use std::arch::x86_64::*;

use super::ops::{load_floats, transposed};
use super::{head, load, store};
use crate::kv::Tokens;
use crate::layout::{BLOCK, LANES};

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
