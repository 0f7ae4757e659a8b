//! Panels of quantised weights, int8 activations.

use std::arch::x86_64::*;

use super::{load, over_columns, store_floats};
use crate::activations::{I8_SCALE, I8_SUMS, I8_WORDS, Tile};
use crate::layout::{K_HIGH, K_MINIMA, K_NIBBLES, LANES, PAIR_HEAD, Q4_PAIR, Q4K_SUPER, Q5K_SUPER, Q6K_SUPER, Q8_PAIR};

const Q8: u8 = 0;
const Q4: u8 = 1;
const Q4K: u8 = 2;
const Q5K: u8 = 3;
const Q6K: u8 = 4;

macro_rules! kernels {
    ($($name:ident $layout:expr;)*) => {$(
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(super) fn $name(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            over_columns!(columns, $layout; panel, tile, out);
        }
    )*};
}

kernels! {
    q8 Q8;
    q4 Q4;
    q4_k Q4K;
    q5_k Q5K;
    q6_k Q6K;
}

/// One half of a panel (eight rows) of one block: unsigned numbers (signed in Q8), the scales of both halves of the
/// columns, the minimum.
#[derive(Clone, Copy)]
struct Block {
    q: [__m256i; 8],
    scale: [__m256; 2],
    minimum: __m256,
}

#[target_feature(enable = "avx2,fma,f16c")]
fn columns<const L: u8, const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let stride = tile.stride;
    assert!(first + N <= stride, "a tile has the columns that are asked for");
    let mut totals = [[_mm256_setzero_ps(); 2]; N];
    for (b, words) in tile.words.chunks_exact(I8_WORDS * stride).enumerate() {
        for half in 0..2 {
            let block = unpack::<L>(panel, b, half);
            for (c, totals) in totals.iter_mut().enumerate() {
                totals[half] = add_product::<L>(&block, words, stride, first + c, totals[half]);
            }
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        store_floats(out, total);
    }
}

/// Adds a block times a column to a total.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_product<const L: u8>(block: &Block, words: &[u32], stride: usize, c: usize, total: __m256) -> __m256 {
    let word = |i: usize| words[i * stride + c].cast_signed();
    let one = _mm256_set1_epi16(1);
    let mut dots = [_mm256_setzero_si256(); 2];
    for (j, q) in block.q.iter().enumerate() {
        let x = _mm256_set1_epi32(word(j));
        let pairs = if L == Q8 {
            _mm256_maddubs_epi16(_mm256_abs_epi8(*q), _mm256_sign_epi8(x, *q))
        } else {
            _mm256_maddubs_epi16(*q, x)
        };
        dots[j / 4] = _mm256_add_epi32(dots[j / 4], _mm256_madd_epi16(pairs, one));
    }
    let sums = word(I8_SUMS);
    let (low_sum, high_sum) = (i32::from(sums as i16), sums >> 16);
    let offset = match L {
        Q4 => 8,
        Q6K => 32,
        _ => 0,
    };
    let x_scale = _mm256_castsi256_ps(_mm256_set1_epi32(word(I8_SCALE)));
    if L == Q6K {
        dots[0] = _mm256_sub_epi32(dots[0], _mm256_set1_epi32(offset * low_sum));
        dots[1] = _mm256_sub_epi32(dots[1], _mm256_set1_epi32(offset * high_sum));
        let product = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[0]), block.scale[0]);
        return _mm256_fmadd_ps(_mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[1]), block.scale[1], product), x_scale, total);
    }
    let sum = low_sum + high_sum;
    let dot = _mm256_add_epi32(dots[0], dots[1]);
    let dot = if offset > 0 { _mm256_sub_epi32(dot, _mm256_set1_epi32(offset * sum)) } else { dot };
    let mut product = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), block.scale[0]);
    if L == Q4K || L == Q5K {
        product = _mm256_fnmadd_ps(_mm256_set1_ps(sum as f32), block.minimum, product);
    }
    _mm256_fmadd_ps(product, x_scale, total)
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn unpack<const L: u8>(panel: &[u8], b: usize, half: usize) -> Block {
    let minimum = _mm256_setzero_ps();
    if L == Q8 || L == Q4 {
        let (pair_bytes, block_bytes) = if L == Q8 { (Q8_PAIR, 512) } else { (Q4_PAIR, 256) };
        let pair = &panel[b / 2 * pair_bytes..][..pair_bytes];
        let scale = halves(&pair[b % 2 * 32 + 16 * half..]);
        let bytes = &pair[PAIR_HEAD + b % 2 * block_bytes..][..block_bytes];
        let q = if L == Q8 { signed(bytes, half) } else { nibbles(bytes, half) };
        return Block { q, scale: [scale; 2], minimum };
    }
    let size = match L {
        Q4K => Q4K_SUPER,
        Q5K => Q5K_SUPER,
        _ => Q6K_SUPER,
    };
    let (block, group) = (&panel[b / 8 * size..][..size], b % 8);
    let mut q = nibbles(&block[K_NIBBLES + 256 * group..][..256], half);
    if L == Q6K {
        let d = _mm256_castsi256_ps(load(head(block))[half]);
        let scale = |part: usize| {
            let bytes = eight(&block[PAIR_HEAD + LANES * (2 * group + part) + 8 * half..]);
            _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)))
        };
        let mask = _mm256_set1_epi8(0x30);
        for part in 0..2 {
            let high = load(head(&block[K_HIGH + 128 * group + 64 * part..]))[half];
            let shifted =
                [_mm256_slli_epi16::<4>(high), _mm256_slli_epi16::<2>(high), high, _mm256_srli_epi16::<2>(high)];
            for (q, high) in q[4 * part..].iter_mut().zip(shifted) {
                *q = _mm256_or_si256(*q, _mm256_and_si256(high, mask));
            }
        }
        return Block { q, scale: [scale(0), scale(1)], minimum };
    }
    let (d, dmin) = (halves(&block[16 * half..]), halves(&block[32 + 16 * half..]));
    let small = |at: usize| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight(&block[at + LANES * group + 8 * half..])));
    let (scale, minimum) = (_mm256_mul_ps(d, small(PAIR_HEAD)), _mm256_mul_ps(dmin, small(K_MINIMA)));
    if L == Q5K {
        let high = load(head(&block[K_HIGH + 64 * group..]))[half];
        let sixteen = _mm256_set1_epi8(16);
        for (u, q) in q.iter_mut().enumerate() {
            let bit = _mm256_set1_epi8((1_u8 << u).cast_signed());
            let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(high, bit), bit);
            *q = _mm256_or_si256(*q, _mm256_and_si256(is_set, sixteen));
        }
    }
    Block { q, scale: [scale; 2], minimum }
}

/// The numbers of a Q8 block.
#[target_feature(enable = "avx2")]
#[inline]
fn signed(bytes: &[u8], half: usize) -> [__m256i; 8] {
    let mut out = [_mm256_setzero_si256(); 8];
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = load(bytes)[half];
    }
    out
}

/// The low halves of eight rows' bytes, then the high halves.
#[target_feature(enable = "avx2")]
#[inline]
fn nibbles(bytes: &[u8], half: usize) -> [__m256i; 8] {
    let mask = _mm256_set1_epi8(15);
    let mut out = [_mm256_setzero_si256(); 8];
    for (j, bytes) in bytes.as_chunks().0.iter().enumerate().take(4) {
        let both = load(bytes)[half];
        out[j] = _mm256_and_si256(both, mask);
        out[j + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask);
    }
    out
}

/// Eight f16, widened.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn halves(bytes: &[u8]) -> __m256 {
    let bytes: &[u8; 16] = head(bytes);
    // SAFETY: sixteen bytes are there, and the load needs no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Eight bytes in the low half.
#[target_feature(enable = "avx2")]
#[inline]
fn eight(bytes: &[u8]) -> __m128i {
    let bytes: &[u8; 8] = head(bytes);
    // SAFETY: eight bytes are there, and the load needs no alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}

#[inline]
fn head<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.first_chunk().expect("a panel is a whole number of blocks")
}
