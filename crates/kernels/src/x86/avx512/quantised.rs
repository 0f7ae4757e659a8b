//! Panels of quantised weights, int8 activations.
//!
//! `vpdpbusd` multiplies unsigned weights with signed activations, so weights are kept unsigned and a block's
//! accumulator begins at `-offset * sum(x)`, which one `vpdpwssd` makes out of the two sums that a tile carries.

use std::arch::x86_64::*;

use super::{load, over_columns, store_floats};
use crate::activations::{I8_SCALE, I8_SUMS, I8_WORDS, TILE, Tile};
use crate::layout::{K_HIGH, K_MINIMA, K_NIBBLES, LANES, PAIR_HEAD, Q4_PAIR, Q4K_SUPER, Q5K_SUPER, Q6K_SUPER, Q8_PAIR};

const Q8: u8 = 0;
const Q4: u8 = 1;
const Q4K: u8 = 2;
const Q5K: u8 = 3;
const Q6K: u8 = 4;

macro_rules! kernels {
    ($($name:ident $pair:ident $layout:expr;)*) => {$(
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
        pub(super) fn $pair(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            pair::<$layout>(panels, tile, out);
        }


        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
        pub(super) fn $name(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            over_columns!(columns, $layout; panel, tile, out);
        }
    )*};
}

kernels! {
    q8 q8_pair Q8;
    q4 q4_pair Q4;
    q4_k q4_k_pair Q4K;
    q5_k q5_k_pair Q5K;
    q6_k q6_k_pair Q6K;
}

/// A block's weights: unsigned numbers, the scales of both halves (the same but in Q6K) and the minimum (Q4K, Q5K).
struct Block {
    q: [__m512i; 8],
    scale: [__m512; 2],
    minimum: __m512,
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn columns<const L: u8, const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    // A full tile has a stride that the compiler knows.
    let stride = if N == 16 { 16 } else { tile.stride };
    let blocks = tile.words.len() / (I8_WORDS * stride);
    assert!(first + N <= stride && stride == tile.stride, "a tile has the columns that are asked for");
    let mut totals = [_mm512_setzero_ps(); N];
    for b in 0..blocks {
        let block = unpack::<L>(panel, b);
        for (c, total) in totals.iter_mut().enumerate() {
            let at = b * I8_WORDS * stride + first + c;
            let word = |i: usize| {
                // SAFETY: `b < blocks`, `i < I8_WORDS` and `first + c < stride`, so the index is below the length.
                let word = unsafe { *tile.words.get_unchecked(at + i * stride) };
                _mm512_set1_epi32(word.cast_signed())
            };
            let x = std::array::from_fn(word);
            let products = products::<L>(&block, &x, word(I8_SUMS));
            *total = _mm512_fmadd_ps(products, _mm512_castsi512_ps(word(I8_SCALE)), *total);
        }
    }
    out.iter_mut().zip(totals).for_each(|(out, total)| store_floats(out, total));
}

/// Two neighbouring panels and a full tile: a broadcast word feeds two products, since broadcasting costs as much.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn pair<const L: u8>(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    let blocks = tile.words.as_chunks::<{ I8_WORDS * TILE }>().0;
    assert!(tile.stride == TILE && out.len() == 2 * TILE, "a pair of panels takes a full tile");
    let (upper, lower) = panels.split_at(panels.len() / 2);
    let mut totals = [[_mm512_setzero_ps(); 2]; TILE];
    for (b, words) in blocks.iter().enumerate() {
        let both = [unpack::<L>(upper, b), unpack::<L>(lower, b)];
        for (c, totals) in totals.iter_mut().enumerate() {
            let word = |i: usize| _mm512_set1_epi32(words[i * TILE + c].cast_signed());
            let x = std::array::from_fn(word);
            let (sums, scale) = (word(I8_SUMS), _mm512_castsi512_ps(word(I8_SCALE)));
            for (block, total) in both.iter().zip(totals) {
                *total = _mm512_fmadd_ps(products::<L>(block, &x, sums), scale, *total);
            }
        }
    }
    let (first, second) = out.split_at_mut(TILE);
    for ((first, second), totals) in first.iter_mut().zip(second).zip(totals) {
        store_floats(first, totals[0]);
        store_floats(second, totals[1]);
    }
}

/// A block times one column, before the column's scale.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn products<const L: u8>(block: &Block, x: &[__m512i; 8], sums: __m512i) -> __m512 {
    let (zero, one) = (_mm512_setzero_si512(), _mm512_set1_epi16(1));
    let offset = match L {
        Q8 => _mm512_set1_epi16(-128),
        Q4 => _mm512_set1_epi16(-8),
        _ => zero,
    };
    let (low_half, high_half) = (_mm512_set1_epi32(0x0000_ffe0), _mm512_set1_epi32(0xffe0_0000_u32.cast_signed()));
    if L == Q6K {
        let mut dots = [_mm512_dpwssd_epi32(zero, sums, low_half), _mm512_dpwssd_epi32(zero, sums, high_half)];
        for j in 0..4 {
            dots[0] = _mm512_dpbusd_epi32(dots[0], block.q[j], x[j]);
            dots[1] = _mm512_dpbusd_epi32(dots[1], block.q[j + 4], x[j + 4]);
        }
        let product = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[0]), block.scale[0]);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[1]), block.scale[1], product);
    }
    let mut dot = if L == Q8 || L == Q4 { _mm512_dpwssd_epi32(zero, sums, offset) } else { zero };
    for (q, x) in block.q.iter().zip(x) {
        dot = _mm512_dpbusd_epi32(dot, *q, *x);
    }
    if L == Q8 || L == Q4 {
        return _mm512_mul_ps(_mm512_cvtepi32_ps(dot), block.scale[0]);
    }
    let sum = _mm512_cvtepi32_ps(_mm512_dpwssd_epi32(zero, sums, one));
    _mm512_fmsub_ps(_mm512_cvtepi32_ps(dot), block.scale[0], _mm512_mul_ps(sum, block.minimum))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn unpack<const L: u8>(panel: &[u8], b: usize) -> Block {
    let minimum = _mm512_setzero_ps();
    if L == Q8 || L == Q4 {
        let (pair_bytes, block_bytes) = if L == Q8 { (Q8_PAIR, 512) } else { (Q4_PAIR, 256) };
        let pair = &panel[b / 2 * pair_bytes..][..pair_bytes];
        let scale = halves(&pair[b % 2 * 32..]);
        let bytes = &pair[PAIR_HEAD + b % 2 * block_bytes..][..block_bytes];
        let q = if L == Q8 { all(bytes) } else { nibbles(bytes) };
        return Block { q, scale: [scale; 2], minimum };
    }
    let size = match L {
        Q4K => Q4K_SUPER,
        Q5K => Q5K_SUPER,
        _ => Q6K_SUPER,
    };
    let (block, group) = (&panel[b / 8 * size..][..size], b % 8);
    let mut q = nibbles(&block[K_NIBBLES + 256 * group..][..256]);
    if L == Q6K {
        let d = _mm512_castsi512_ps(load(head(block)));
        let scale = |half: usize| {
            let bytes = load_16(head(&block[PAIR_HEAD + LANES * (2 * group + half)..]));
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
        };
        let mask = _mm512_set1_epi8(0x30);
        for half in 0..2 {
            let high = load(head(&block[K_HIGH + 128 * group + 64 * half..]));
            let shifted =
                [_mm512_slli_epi16::<4>(high), _mm512_slli_epi16::<2>(high), high, _mm512_srli_epi16::<2>(high)];
            for (q, high) in q[4 * half..].iter_mut().zip(shifted) {
                *q = _mm512_or_si512(*q, _mm512_and_si512(high, mask));
            }
        }
        return Block { q, scale: [scale(0), scale(1)], minimum };
    }
    let (d, dmin) = (halves(block), halves(&block[32..]));
    let small = |at: usize| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_16(head(&block[at + LANES * group..]))));
    let (scale, minimum) = (_mm512_mul_ps(d, small(PAIR_HEAD)), _mm512_mul_ps(dmin, small(K_MINIMA)));
    if L == Q5K {
        let high = load(head(&block[K_HIGH + 64 * group..]));
        let sixteen = _mm512_set1_epi8(16);
        for (u, q) in q.iter_mut().enumerate() {
            let is_set = _mm512_test_epi8_mask(high, _mm512_set1_epi8((1_u8 << u).cast_signed()));
            *q = _mm512_mask_add_epi8(*q, is_set, *q, sixteen);
        }
    }
    Block { q, scale: [scale; 2], minimum }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn all(bytes: &[u8]) -> [__m512i; 8] {
    let mut out = [_mm512_setzero_si512(); 8];
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = load(bytes);
    }
    out
}

/// The low halves of 256 bytes, then the high halves.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn nibbles(bytes: &[u8]) -> [__m512i; 8] {
    let mask = _mm512_set1_epi8(15);
    let mut out = [_mm512_setzero_si512(); 8];
    for (j, bytes) in bytes.as_chunks().0.iter().enumerate().take(4) {
        let both = load(bytes);
        out[j] = _mm512_and_si512(both, mask);
        out[j + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask);
    }
    out
}

/// Sixteen f16, widened.
#[target_feature(enable = "avx512f")]
#[inline]
fn halves(bytes: &[u8]) -> __m512 {
    let bytes: &[u8; 32] = head(bytes);
    // SAFETY: 32 bytes are there, and the load needs no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
}

#[inline]
fn head<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.first_chunk().expect("a panel is a whole number of blocks")
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: sixteen bytes are there, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
