//! Blocks of quantised weights, unpacked.

use std::arch::x86_64::*;

use super::super::ask_near;
use super::super::blocks::{HIGH, Q4, Q5K, Q6K, Q8, lines, super_bytes};
use super::{head, load};
use crate::activations::START;
use crate::layout::{K_MINIMA, LANES, PAIR_HEAD, Q4_PAIR, Q8_PAIR};

/// The lines of a block.
#[derive(Clone, Copy)]
pub(super) struct Block<'a>(&'a [[u8; 64]]);

/// What a block's sums are multiplied by, eight rows to a register.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    /// Of the first sixteen columns and of the last ones, the same but in Q6K.
    pub(super) scale: [[__m256; 2]; 2],
    /// [`START`] times the first of them.
    pub(super) start: [__m256; 2],
    /// Of Q4K and Q5K.
    pub(super) minimum: [__m256; 2],
}

/// Block `b` of a panel.
#[inline]
pub(super) fn block<const L: u8>(panel: &[u8], b: usize) -> Block<'_> {
    Block(lines::<L>(panel, b))
}

impl Block<'_> {
    /// Asks for what lies behind the numbers of unit `u`, each line once.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn ask_near(self, u: usize) {
        if let Some(line) = self.0.get(u) {
            ask_near(line);
        }
    }

    /// The numbers of unit `u`, that is of four columns, as they are stored: signed in Q8, unsigned elsewhere.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn unit<const L: u8>(self, u: usize) -> [__m256i; 2] {
        if L == Q8 {
            return load(&self.0[u]);
        }
        let mut q = load(&self.0[u % 4]);
        let high = match L {
            Q5K => load(&self.0[HIGH]),
            Q6K => load(&self.0[HIGH + u / 4]),
            _ => q,
        };
        for (q, high) in q.iter_mut().zip(high) {
            *q = _mm256_and_si256(if u < 4 { *q } else { _mm256_srli_epi16::<4>(*q) }, _mm256_set1_epi8(15));
            if L == Q5K {
                // Bit `u` of a byte belongs to unit `u`.
                let bit = _mm256_and_si256(shifted(high, 4 - u as i32), _mm256_set1_epi8(16));
                *q = _mm256_or_si256(*q, bit);
            }
            if L == Q6K {
                // Those of units 0 to 3 are in a byte from below, those of units 4 to 7 in the next line.
                let bits = _mm256_and_si256(shifted(high, 4 - 2 * (u % 4) as i32), _mm256_set1_epi8(0x30));
                *q = _mm256_or_si256(*q, bits);
            }
        }
        q
    }
}

/// What is in words of sixteen bits, so many bits to the left.
#[target_feature(enable = "avx2")]
#[inline]
fn shifted(x: __m256i, bits: i32) -> __m256i {
    match bits {
        4 => _mm256_slli_epi16::<4>(x),
        3 => _mm256_slli_epi16::<3>(x),
        2 => _mm256_slli_epi16::<2>(x),
        1 => _mm256_slli_epi16::<1>(x),
        0 => x,
        -1 => _mm256_srli_epi16::<1>(x),
        -2 => _mm256_srli_epi16::<2>(x),
        _ => _mm256_srli_epi16::<3>(x),
    }
}

/// The factors of block `b` of a panel.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn factors<const L: u8>(panel: &[u8], b: usize) -> Factors {
    let (scale, minimum) = scale_and_minimum::<L>(panel, b);
    let begin = _mm256_castsi256_ps(_mm256_set1_epi32(START));
    let start = [_mm256_mul_ps(scale[0][0], begin), _mm256_mul_ps(scale[0][1], begin)];
    Factors { scale, start, minimum }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn scale_and_minimum<const L: u8>(panel: &[u8], b: usize) -> ([[__m256; 2]; 2], [__m256; 2]) {
    let nothing = [_mm256_setzero_ps(); 2];
    if L == Q8 || L == Q4 {
        let pair_bytes = if L == Q8 { Q8_PAIR } else { Q4_PAIR };
        return ([halves(&panel[b / 2 * pair_bytes + b % 2 * 32..]); 2], nothing);
    }
    let (block, group) = (&panel[b / 8 * super_bytes::<L>()..][..super_bytes::<L>()], b % 8);
    if L == Q6K {
        let [low, high] = load(head(block)).map(|d| _mm256_castsi256_ps(d));
        let mut scale = [[low, high]; 2];
        for (part, scale) in scale.iter_mut().enumerate() {
            let bytes = sixteen(&block[PAIR_HEAD + LANES * (2 * group + part)..]);
            scale[0] = _mm256_mul_ps(scale[0], _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
            let bytes = _mm_unpackhi_epi64(bytes, bytes);
            scale[1] = _mm256_mul_ps(scale[1], _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
        }
        return (scale, nothing);
    }
    let scale = times_small(halves(block), &block[PAIR_HEAD + LANES * group..]);
    ([scale; 2], times_small(halves(&block[32..]), &block[K_MINIMA + LANES * group..]))
}

/// Sixteen numbers times sixteen unsigned bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn times_small(d: [__m256; 2], bytes: &[u8]) -> [__m256; 2] {
    let low = sixteen(bytes);
    let high = _mm_unpackhi_epi64(low, low);
    [
        _mm256_mul_ps(d[0], _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low))),
        _mm256_mul_ps(d[1], _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high))),
    ]
}

/// Sixteen f16, widened.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn halves(bytes: &[u8]) -> [__m256; 2] {
    [_mm256_cvtph_ps(sixteen(bytes)), _mm256_cvtph_ps(sixteen(&bytes[16..]))]
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn sixteen(bytes: &[u8]) -> __m128i {
    let bytes: &[u8; 16] = head(bytes);
    // SAFETY: sixteen bytes are there, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
