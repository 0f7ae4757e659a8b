//! Keys and values of a prompt in BF16, sixteen tokens at a time; the bytes are those of one token after the other.

use std::arch::x86_64::*;

use super::{load_floats, pack};
use crate::kv::Sixteen;
use crate::layout::{BLOCK, LANES};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn sixteen(of: Sixteen<'_>) {
    let Sixteen { k, v, stride, d, keys, values, value_panel, first } = of;
    assert!(d.is_multiple_of(BLOCK) && keys.len() == 2 * LANES * d, "a panel of whole units");
    let row = |x: &'_ [f32], token: usize| -> std::ops::Range<usize> {
        let at = token * stride;
        assert!(at + d <= x.len(), "a row lies within the step");
        at..at + d
    };
    for (piece, out) in keys.as_chunks_mut::<64>().0.chunks_exact_mut(LANES).enumerate() {
        let mut words = [_mm512_setzero_si512(); LANES];
        for (token, words) in words.iter_mut().enumerate() {
            let x = k[row(k, token)][piece * BLOCK..].first_chunk().expect("a row is whole units");
            *words = as_register(&pack::bf16_words(x));
        }
        out.iter_mut().zip(transposed(words)).for_each(|(out, words)| store(out, words));
    }
    for pair in 0..LANES / 2 {
        let rows = [2 * pair, 2 * pair + 1].map(|token| v[row(v, token)].as_chunks::<LANES>().0);
        let panels = values.chunks_exact_mut(value_panel);
        for (panel, (even, odd)) in panels.zip(rows[0].iter().zip(rows[1])) {
            let [even, odd] = [even, odd].map(|x| {
                let half = _mm512_cvtneps_pbh(load_floats(x));
                // SAFETY: both are 32 bytes, and any bits are valid for either.
                _mm512_cvtepu16_epi32(unsafe { std::mem::transmute::<__m256bh, __m256i>(half) })
            });
            let out = panel[64 * (first / 2 + pair)..].first_chunk_mut().expect("a pair of tokens is a line");
            store(out, _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd)));
        }
    }
}

/// Word `i` of register `j` becomes word `j` of register `i`.
#[target_feature(enable = "avx512f")]
#[inline]
fn transposed(x: [__m512i; LANES]) -> [__m512i; LANES] {
    // Within groups of 128 bits: pairs of words, then all four words of four registers.
    let mut pairs = x;
    for j in (0..LANES).step_by(2) {
        pairs[j] = _mm512_unpacklo_epi32(x[j], x[j + 1]);
        pairs[j + 1] = _mm512_unpackhi_epi32(x[j], x[j + 1]);
    }
    let mut fours = pairs;
    for j in (0..LANES).step_by(4) {
        fours[j] = _mm512_unpacklo_epi64(pairs[j], pairs[j + 2]);
        fours[j + 1] = _mm512_unpackhi_epi64(pairs[j], pairs[j + 2]);
        fours[j + 2] = _mm512_unpacklo_epi64(pairs[j + 1], pairs[j + 3]);
        fours[j + 3] = _mm512_unpackhi_epi64(pairs[j + 1], pairs[j + 3]);
    }
    // `fours[4 b + i]` holds, in group `g`, word `4 g + i` of the registers from `4 b` on.
    let mut out = x;
    for i in 0..4 {
        let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(fours[i], fours[4 + i]);
        let high = _mm512_shuffle_i32x4::<0b10_00_10_00>(fours[8 + i], fours[12 + i]);
        let low_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(fours[i], fours[4 + i]);
        let high_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(fours[8 + i], fours[12 + i]);
        out[i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
        out[8 + i] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
        out[4 + i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_odd, high_odd);
        out[12 + i] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_odd, high_odd);
    }
    out
}

#[target_feature(enable = "avx512f")]
#[inline]
fn as_register(words: &[u32; LANES]) -> __m512i {
    // SAFETY: sixteen words are there, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(out: &mut [u8; 64], words: __m512i) {
    // SAFETY: 64 bytes are there, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) }
}
