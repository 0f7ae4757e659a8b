//! Blocks of quantised weights, unpacked.

use std::arch::x86_64::*;

use super::super::blocks::{HIGH, Q4, Q5K, Q6K, Q8, lines, super_bytes};
use super::{head, load};
use crate::layout::{K_MINIMA, LANES, PAIR_HEAD, Q4_PAIR, Q8_PAIR};

/// As [`numbers`], all of them unsigned: 128 too large in Q8 and Q4, 32 in Q6K. Those of Q4 are sixteen times as
/// large, and the scale a sixteenth.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn unsigned<const L: u8>(panel: &[u8], b: usize) -> ([__m512i; 8], [__m512; 2], __m512) {
    let (lines, (mut scale, minimum)) = (lines::<L>(panel, b), scales::<L>(panel, b));
    let mut q = [_mm512_setzero_si512(); 8];
    q.iter_mut().enumerate().for_each(|(u, q)| *q = unsigned_unit::<L>(lines, u));
    if L == Q4 {
        scale = [_mm512_mul_ps(scale[0], _mm512_set1_ps(1.0 / 16.0)); 2];
    }
    (q, scale, minimum)
}

/// The numbers of a block as they are stored (signed in Q8, unsigned elsewhere), its scales and its minimum.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(in super::super) fn numbers<const L: u8>(panel: &[u8], b: usize) -> ([__m512i; 8], [__m512; 2], __m512) {
    let (lines, (scale, minimum)) = (lines::<L>(panel, b), scales::<L>(panel, b));
    let mut q = [_mm512_setzero_si512(); 8];
    q.iter_mut().enumerate().for_each(|(u, q)| *q = unit::<L>(lines, u));
    (q, scale, minimum)
}

/// The numbers of unit `u`, that is of four columns, as [`unsigned`] has them.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn unsigned_unit<const L: u8>(lines: &[[u8; 64]], u: usize) -> __m512i {
    let upper = _mm512_set1_epi8(-16);
    match (L, u) {
        (Q8, _) => _mm512_xor_si512(load(&lines[u]), _mm512_set1_epi8(-128)),
        (Q4, ..4) => _mm512_and_si512(_mm512_slli_epi16::<4>(load(&lines[u])), upper),
        (Q4, _) => _mm512_and_si512(load(&lines[u - 4]), upper),
        _ => unit::<L>(lines, u),
    }
}

/// The numbers of unit `u` as [`numbers`] has them.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn unit<const L: u8>(lines: &[[u8; 64]], u: usize) -> __m512i {
    if L == Q8 {
        return load(&lines[u]);
    }
    let both = load(&lines[u % 4]);
    let q = _mm512_and_si512(if u < 4 { both } else { _mm512_srli_epi16::<4>(both) }, _mm512_set1_epi8(15));
    if L == Q5K {
        // Bit `u` of a byte belongs to unit `u`.
        let is_set = _mm512_test_epi8_mask(load(&lines[HIGH]), _mm512_set1_epi8((1_u8 << u).cast_signed()));
        return _mm512_mask_add_epi8(q, is_set, q, _mm512_set1_epi8(16));
    }
    if L == Q6K {
        let high = load(&lines[HIGH + u / 4]);
        let shifted = match u % 4 {
            0 => _mm512_slli_epi16::<4>(high),
            1 => _mm512_slli_epi16::<2>(high),
            2 => high,
            _ => _mm512_srli_epi16::<2>(high),
        };
        return _mm512_or_si512(q, _mm512_and_si512(shifted, _mm512_set1_epi8(0x30)));
    }
    q
}

/// The scales of a block's halves and its minimum.
#[target_feature(enable = "avx512f,f16c")]
#[inline]
fn scales<const L: u8>(panel: &[u8], b: usize) -> ([__m512; 2], __m512) {
    let nothing = _mm512_setzero_ps();
    if L == Q8 || L == Q4 {
        let pair_bytes = if L == Q8 { Q8_PAIR } else { Q4_PAIR };
        return ([halves(&panel[b / 2 * pair_bytes + b % 2 * 32..]); 2], nothing);
    }
    let (block, group) = (&panel[b / 8 * super_bytes::<L>()..][..super_bytes::<L>()], b % 8);
    if L == Q6K {
        let d = _mm512_castsi512_ps(load(head(block)));
        let scale = |half: usize| {
            let bytes = load_16(head(&block[PAIR_HEAD + LANES * (2 * group + half)..]));
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
        };
        return ([scale(0), scale(1)], nothing);
    }
    let (d, dmin) = (halves(block), halves(&block[32..]));
    let small = |at: usize| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_16(head(&block[at + LANES * group..]))));
    ([_mm512_mul_ps(d, small(PAIR_HEAD)); 2], _mm512_mul_ps(dmin, small(K_MINIMA)))
}

/// Sixteen f16, widened.
#[target_feature(enable = "avx512f")]
#[inline]
fn halves(bytes: &[u8]) -> __m512 {
    let bytes: &[u8; 32] = head(bytes);
    // SAFETY: 32 bytes are there, and the load needs no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: sixteen bytes are there, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
