//! Keys and values, one token or sixteen at a time; the bytes are those of the plain bodies in [`crate::kv`].

use std::arch::x86_64::*;

use half::f16;

use super::{load_floats, store_floats};
use crate::kv::{Tokens, inverse};
use crate::layout::{BLOCK, LANES, PAIR_HEAD, Q8_PAIR};

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn bf16_sixteen(of: Tokens<'_>) {
    let Tokens { k, v, stride, d, keys, values, value_panel, first, .. } = of;
    assert!(d.is_multiple_of(BLOCK) && keys.len() == 2 * LANES * d, "a panel of whole units");
    for (piece, out) in keys.as_chunks_mut::<64>().0.chunks_exact_mut(LANES).enumerate() {
        let mut words = [_mm512_setzero_si512(); LANES];
        for (token, words) in words.iter_mut().enumerate() {
            let x = k[token * stride..][..d][piece * BLOCK..].first_chunk().expect("a row is whole units");
            *words = paired(x);
        }
        out.iter_mut().zip(transposed(words)).for_each(|(out, words)| store(out, words));
    }
    for pair in 0..LANES / 2 {
        let rows = [2 * pair, 2 * pair + 1].map(|token| v[token * stride..][..d].as_chunks::<LANES>().0);
        let panels = values.chunks_exact_mut(value_panel);
        for (panel, (even, odd)) in panels.zip(rows[0].iter().zip(rows[1])) {
            let (even, odd) = (widened(even), widened(odd));
            let out = panel[64 * (first / 2 + pair)..].first_chunk_mut().expect("a pair of tokens is a line");
            store(out, _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd)));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn bf16_one(of: Tokens<'_>) {
    let Tokens { k, v, d, keys, values, value_panel, first, .. } = of;
    assert!(d.is_multiple_of(BLOCK) && keys.len() == 2 * LANES * d, "a panel of whole units");
    for (x, out) in k[..d].as_chunks().0.iter().zip(keys.as_chunks_mut().0.as_chunks_mut().0) {
        scatter(out, first % LANES, paired(x));
    }
    let is_odd = first % 2 == 1;
    for (x, panel) in v[..d].as_chunks().0.iter().zip(values.chunks_exact_mut(value_panel)) {
        let even = widened(x);
        let numbers = if is_odd { _mm512_slli_epi32::<16>(even) } else { even };
        let out: &mut [u8; 64] = panel[64 * (first / 2)..].first_chunk_mut().expect("a pair of tokens is a line");
        let places = if is_odd { 0xaaaa_aaaa } else { 0x5555_5555 };
        // SAFETY: 64 bytes are there, and the store needs no alignment.
        unsafe { _mm512_mask_storeu_epi16(out.as_mut_ptr().cast(), places, numbers) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
pub(super) fn i8_one(of: Tokens<'_>) {
    let Tokens { k, v, d, keys, values, scales, value_panel, first, .. } = of;
    assert!(keys.len() * 2 * BLOCK == d * Q8_PAIR && value_panel == Q8_PAIR, "a panel of whole pairs of blocks");
    for (x, out) in k[..d].as_chunks::<{ 2 * BLOCK }>().0.iter().zip(keys.as_chunks_mut::<Q8_PAIR>().0) {
        let (head, lines) = out.split_at_mut(PAIR_HEAD);
        let mut words = [[0; BLOCK / 4]; 2];
        for (half, (x, words)) in x.as_chunks::<BLOCK>().0.iter().zip(&mut words).enumerate() {
            let scale = f16::from_f32(largest_of(x) / 127.0);
            head[32 * half + 2 * (first % LANES)..][..2].copy_from_slice(&scale.to_le_bytes());
            *words = i8_words(x, inverse(scale.to_f32()));
        }
        let words = as_register(words.as_flattened().try_into().expect("two blocks are sixteen words"));
        let lines = lines.as_chunks_mut().0.first_chunk_mut().expect("two blocks are sixteen lines");
        scatter(lines, first % LANES, words);
    }
    let scale = largest_of(&v[..d]) / 127.0;
    scales[first] = scale.to_le_bytes();
    let shift = _mm_cvtsi32_si128(8 * (first % 4) as i32);
    for (x, panel) in v[..d].as_chunks().0.iter().zip(values.as_chunks_mut::<Q8_PAIR>().0) {
        let numbers = _mm512_sll_epi32(quantised(x, inverse(scale)), shift);
        let out: &mut [u8; 64] =
            panel[PAIR_HEAD + 64 * (first / 4)..].first_chunk_mut().expect("four tokens are a line");
        // SAFETY: 64 bytes are there, and the store needs no alignment.
        unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), 0x1111_1111_1111_1111 << (first % 4), numbers) };
    }
}

/// Thirty-two numbers in BF16, two of them a word.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
fn paired(x: &[f32; BLOCK]) -> __m512i {
    let [low, high] = [0, 1].map(|half| x[half * LANES..].first_chunk().expect("half a block"));
    let (low, high) = (_mm512_cvtepi32_epi16(widened(low)), _mm512_cvtepi32_epi16(widened(high)));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// Sixteen numbers in BF16, each in the lower half of a word: to the nearest, ties to even; a NaN stays one. Processors
/// with an instruction for it take numbers below 2^-126 for zero.
#[target_feature(enable = "avx512f")]
#[inline]
fn widened(x: &[f32; LANES]) -> __m512i {
    let x = load_floats(x);
    let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let bits = _mm512_castps_si512(x);
    let upper = _mm512_srli_epi32::<16>(bits);
    let half = _mm512_add_epi32(_mm512_and_si512(upper, _mm512_set1_epi32(1)), _mm512_set1_epi32(0x7fff));
    let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
    _mm512_mask_or_epi32(rounded, is_nan, upper, _mm512_set1_epi32(0x40))
}

/// Puts each of the words on a line of its own.
#[target_feature(enable = "avx512f")]
#[inline]
fn scatter(lines: &mut [[u8; 64]; LANES], word: usize, words: __m512i) {
    assert!(word < LANES, "a line has sixteen words");
    let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let places = _mm512_add_epi32(_mm512_slli_epi32::<4>(lanes), _mm512_set1_epi32(word as i32));
    // SAFETY: places are below sixteen times sixteen words, which are there; a word needs no alignment.
    unsafe { _mm512_i32scatter_epi32::<4>(lines.as_mut_ptr().cast(), places, words) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
pub(super) fn i8_sixteen(of: Tokens<'_>) {
    let Tokens { k, v, stride, d, keys, values, scales, value_panel, first } = of;
    assert!(keys.len() * 2 * BLOCK == d * Q8_PAIR && value_panel == Q8_PAIR, "a panel of whole pairs of blocks");
    for (pair, out) in keys.chunks_exact_mut(Q8_PAIR).enumerate() {
        let mut words = [[[0; BLOCK / 4]; 2]; LANES];
        for half in 0..2 {
            let mut largest = [0.0; LANES];
            for (token, largest) in largest.iter_mut().enumerate() {
                *largest = largest_of(&k[token * stride..][..d][(2 * pair + half) * BLOCK..][..BLOCK]);
            }
            let scale = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(scales_of(&largest));
            // SAFETY: 32 bytes are there, and the store needs no alignment.
            unsafe { _mm256_storeu_si256(out[half * 32..][..32].as_mut_ptr().cast(), scale) };
            let inverses = inverses(_mm512_cvtph_ps(scale));
            for (token, (words, inverse)) in words.iter_mut().zip(inverses).enumerate() {
                let x = &k[token * stride..][..d][(2 * pair + half) * BLOCK..];
                words[half] = i8_words(x.first_chunk().expect("a row is whole pairs of blocks"), inverse);
            }
        }
        let mut registers = [_mm512_setzero_si512(); LANES];
        for (register, words) in registers.iter_mut().zip(&words) {
            *register = as_register(words.as_flattened().try_into().expect("two blocks are sixteen words"));
        }
        let lines = out[PAIR_HEAD..].as_chunks_mut().0;
        lines.iter_mut().zip(transposed(registers)).for_each(|(out, words)| store(out, words));
    }
    let mut largest = [0.0; LANES];
    for (token, largest) in largest.iter_mut().enumerate() {
        *largest = largest_of(&v[token * stride..][..d]);
    }
    let scale = scales_of(&largest);
    store(scales[first..][..LANES].as_flattened_mut().try_into().expect("sixteen scales"), _mm512_castps_si512(scale));
    let inverses = inverses(scale);
    let byte = _mm512_set1_epi32(255);
    for (panel, out) in values.chunks_exact_mut(value_panel).enumerate() {
        let lines = out[PAIR_HEAD..].as_chunks_mut().0;
        for (unit, out) in lines[first / 4..][..LANES / 4].iter_mut().enumerate() {
            // Four tokens of a dimension are a word.
            let mut words = _mm512_setzero_si512();
            for token in (4 * unit..4 * unit + 4).rev() {
                let x = v[token * stride..][..d][panel * LANES..].first_chunk().expect("a panel is sixteen dimensions");
                let q = _mm512_and_si512(quantised(x, inverses[token]), byte);
                words = _mm512_or_si512(_mm512_slli_epi32::<8>(words), q);
            }
            store(out, words);
        }
    }
}

/// A block's numbers, four in a word.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
fn i8_words(x: &[f32; BLOCK], inverse: f32) -> [u32; BLOCK / 4] {
    let halves = x.as_chunks().0;
    let [low, high] = [&halves[0], &halves[1]].map(|x| _mm512_cvtepi32_epi8(quantised(x, inverse)));
    let bytes = _mm256_set_m128i(high, low);
    // SAFETY: both are 32 bytes, and any bits are valid for either.
    unsafe { std::mem::transmute::<__m256i, [u32; BLOCK / 4]>(bytes) }
}

/// The largest magnitude.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn largest_of(x: &[f32]) -> f32 {
    let mut largest = _mm512_setzero_ps();
    for x in x.as_chunks().0 {
        // The second operand comes back if one is NaN.
        largest = _mm512_max_ps(_mm512_abs_ps(load_floats(x)), largest);
    }
    _mm512_reduce_max_ps(largest)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn scales_of(largest: &[f32; LANES]) -> __m512 {
    _mm512_div_ps(load_floats(largest), _mm512_set1_ps(127.0))
}

/// One divided by each of them, zero for zero.
#[target_feature(enable = "avx512f")]
#[inline]
fn inverses(scales: __m512) -> [f32; LANES] {
    let is_some = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(scales, _mm512_setzero_ps());
    let mut out = [0.0; LANES];
    store_floats(&mut out, _mm512_maskz_div_ps(is_some, _mm512_set1_ps(1.0), scales));
    out
}

/// The nearest integers of `x * inverse` from -127 to 127, ties to even.
#[target_feature(enable = "avx512f")]
#[inline]
fn quantised(x: &[f32; LANES], inverse: f32) -> __m512i {
    let q = _mm512_cvtps_epi32(_mm512_mul_ps(load_floats(x), _mm512_set1_ps(inverse)));
    _mm512_max_epi32(_mm512_set1_epi32(-127), _mm512_min_epi32(_mm512_set1_epi32(127), q))
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
