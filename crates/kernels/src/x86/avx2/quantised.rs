//! Panels of quantised weights, int8 activations.

use std::arch::x86_64::*;

use super::super::Ahead;
use super::{columns_of, over_columns, store_floats};
use crate::activations::{I8_SCALE, I8_SUMS, I8_WORDS, START, Tile};
use crate::layout::{K_HIGH, K_MINIMA, K_NIBBLES, LANES, PAIR_HEAD, Q4_PAIR, Q4K_SUPER, Q5K_SUPER, Q6K_SUPER, Q8_PAIR};

const Q8: u8 = 0;
const Q4: u8 = 1;
const Q4K: u8 = 2;
const Q5K: u8 = 3;
const Q6K: u8 = 4;

macro_rules! kernels {
    ($($name:ident $layout:ident $widest:literal;)*) => {$(
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(super) fn $name(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            over_columns!(columns, $widest, $layout; panel, tile, out);
        }
    )*};
}

kernels! {
    q8 Q8 8;
    q4 Q4 8;
    q4_k Q4K 8;
    q5_k Q5K 8;
    q6_k Q6K 6;
}

/// Words of a column behind those of `scalar::pack_i8`: where the sum of its products with numbers eight too large
/// begins, and the sum of its numbers times the scale.
pub(super) const BEGIN: usize = I8_SCALE + 1;
pub(super) const SCALED_SUM: usize = I8_SCALE + 2;

/// What turns a block's sums into numbers, of eight rows.
#[derive(Clone, Copy)]
struct Scales {
    /// Of the first and the last sixteen columns, the same but in Q6K.
    scale: [__m256; 2],
    /// [`START`] times the first of them.
    start: __m256,
    /// Of Q4K and Q5K.
    minimum: __m256,
}

/// `N` columns. The totals stay in the first-level cache; a block's weights are unpacked once for all columns.
#[target_feature(enable = "avx2,fma,f16c")]
fn columns<const L: u8, const N: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let stride = tile.stride;
    assert!(first + N <= stride, "a tile has the columns that are asked for");
    let blocks = tile.words.len() / (I8_WORDS * stride);
    let (ahead, block_bytes) = (Ahead::of([panel], tile.next), panel.len() / blocks.max(1));
    let mut totals = [[_mm256_setzero_ps(); N]; 2];
    for (b, words) in tile.words.chunks_exact(I8_WORDS * stride).enumerate() {
        if first == 0 {
            ahead.ask(b * block_bytes, block_bytes);
        }
        let mut x = [&[0; N]; I8_WORDS];
        for (x, words) in x.iter_mut().zip(words.chunks_exact(stride)) {
            *x = columns_of(words, first);
        }
        for (half, totals) in totals.iter_mut().enumerate() {
            if N > 2 {
                add_block_apart::<L, N>(panel, b, half, &x, totals);
            } else {
                add_block::<L, N>(panel, b, half, &x, totals);
            }
        }
    }
    for (c, out) in out.iter_mut().enumerate().take(N) {
        store_floats(out, [totals[0][c], totals[1][c]]);
    }
}

/// As [`add_block`], which the compiler must not mix with the other half's: that takes more registers than there are.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn add_block_apart<const L: u8, const N: usize>(
    panel: &[u8],
    b: usize,
    half: usize,
    x: &[&[u32; N]; I8_WORDS],
    totals: &mut [__m256; N],
) {
    add_block::<L, N>(panel, b, half, x, totals);
}

/// Adds the products of one half of a block (eight rows) and `N` columns.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_block<const L: u8, const N: usize>(
    panel: &[u8],
    b: usize,
    half: usize,
    x: &[&[u32; N]; I8_WORDS],
    totals: &mut [__m256; N],
) {
    let scales = scales::<L>(panel, b, half);
    let start = _mm256_set1_epi32(START);
    // Q4 and Q4K begin with sums of sixteen bits.
    let first = if L == Q4 || L == Q4K { _mm256_setzero_si256() } else { start };
    let mut dots = [[first, _mm256_setzero_si256()]; N];
    if L == Q8 {
        q8_dots(panel, b, half, x, &mut dots);
    } else {
        nibble_dots::<L, N>(panel, b, half, x, &mut dots);
    }
    for (c, (total, mut dots)) in totals.iter_mut().zip(dots).enumerate() {
        let word = |at: usize| _mm256_set1_epi32(x[at][c].cast_signed());
        match L {
            Q4 => dots[0] = _mm256_add_epi32(_mm256_madd_epi16(dots[0], _mm256_set1_epi16(1)), word(BEGIN)),
            Q4K => dots[0] = _mm256_add_epi32(_mm256_madd_epi16(dots[0], _mm256_set1_epi16(1)), start),
            Q6K => {
                // Both sums of a column are in one word: products of 16 bits take out the offset.
                let sums = word(I8_SUMS);
                dots[0] = _mm256_add_epi32(dots[0], _mm256_madd_epi16(sums, _mm256_set1_epi32(0xffe0)));
                dots[1] = _mm256_add_epi32(dots[1], _mm256_madd_epi16(sums, _mm256_set1_epi32(-32 << 16)));
            }
            _ => {}
        }
        let mut product = _mm256_fmsub_ps(_mm256_castsi256_ps(dots[0]), scales.scale[0], scales.start);
        if L == Q6K {
            product = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[1]), scales.scale[1], product);
        }
        *total = _mm256_fmadd_ps(product, _mm256_castsi256_ps(word(I8_SCALE)), *total);
        if L == Q4K || L == Q5K {
            *total = _mm256_fnmadd_ps(scales.minimum, _mm256_castsi256_ps(word(SCALED_SUM)), *total);
        }
    }
}

/// Adds the sums of one half of a Q8 panel's block (eight rows) and `N` columns.
#[target_feature(enable = "avx2")]
#[inline]
fn q8_dots<const N: usize>(
    panel: &[u8],
    b: usize,
    half: usize,
    x: &[&[u32; N]; I8_WORDS],
    dots: &mut [[__m256i; 2]; N],
) {
    let one = _mm256_set1_epi16(1);
    let bytes: &[u8; 512] = head(&panel[b / 2 * Q8_PAIR + PAIR_HEAD + b % 2 * 512..]);
    for (bytes, x) in bytes.as_chunks().0.iter().zip(x) {
        let q = load_half(bytes, half);
        let size = _mm256_abs_epi8(q);
        for (dots, x) in dots.iter_mut().zip(*x) {
            let x = _mm256_sign_epi8(_mm256_set1_epi32(x.cast_signed()), q);
            dots[0] = _mm256_add_epi32(dots[0], _mm256_madd_epi16(_mm256_maddubs_epi16(size, x), one));
        }
    }
}

/// Adds the sums of one half of a block of the other layouts and `N` columns. Pairs of products of unsigned numbers
/// with at most four bits and of int8 stay within 16 bits eight times over (and are left to the caller to be widened),
/// with five bits four times, with six bits twice.
#[target_feature(enable = "avx2")]
#[inline]
fn nibble_dots<const L: u8, const N: usize>(
    panel: &[u8],
    b: usize,
    half: usize,
    x: &[&[u32; N]; I8_WORDS],
    dots: &mut [[__m256i; 2]; N],
) {
    let one = _mm256_set1_epi16(1);
    let group = b % 8;
    let (nibbles_at, high_at) = match L {
        Q4 => (b / 2 * Q4_PAIR + PAIR_HEAD + b % 2 * 256, 0),
        _ => {
            let start = b / 8 * super_bytes::<L>();
            (start + K_NIBBLES + 256 * group, start + K_HIGH + if L == Q5K { 64 } else { 128 } * group)
        }
    };
    let bytes: &[u8; 256] = head(&panel[nibbles_at..]);
    // Units 0, 1, 4 and 5 of a block, then 2, 3, 6 and 7: low halves of bytes, then high.
    let units = [[x[0], x[1], x[4], x[5]], [x[2], x[3], x[6], x[7]]];
    for (part, (bytes, x)) in bytes.as_chunks::<128>().0.iter().zip(units).enumerate() {
        let mut q = nibbles(bytes, half);
        match L {
            Q5K => fifth_bits(&mut q, &panel[high_at..], half, part),
            Q6K => upper_bits(&mut q, &panel[high_at..], half, part),
            _ => {}
        }
        for (c, dots) in dots.iter_mut().enumerate() {
            let mut pairs = [_mm256_setzero_si256(); 4];
            for ((pairs, q), x) in pairs.iter_mut().zip(q).zip(x) {
                *pairs = _mm256_maddubs_epi16(q, _mm256_set1_epi32(x[c].cast_signed()));
            }
            let (low, high) = (_mm256_add_epi16(pairs[0], pairs[1]), _mm256_add_epi16(pairs[2], pairs[3]));
            match L {
                Q4 | Q4K => dots[0] = _mm256_add_epi16(dots[0], _mm256_add_epi16(low, high)),
                Q5K => {
                    let sums = _mm256_add_epi16(low, high);
                    dots[0] = _mm256_add_epi32(dots[0], _mm256_madd_epi16(sums, one));
                }
                _ => {
                    dots[0] = _mm256_add_epi32(dots[0], _mm256_madd_epi16(low, one));
                    dots[1] = _mm256_add_epi32(dots[1], _mm256_madd_epi16(high, one));
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scales<const L: u8>(panel: &[u8], b: usize, half: usize) -> Scales {
    let (scale, minimum) = scales_and_minimum::<L>(panel, b, half);
    let start = _mm256_mul_ps(scale[0], _mm256_castsi256_ps(_mm256_set1_epi32(START)));
    Scales { scale, start, minimum }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scales_and_minimum<const L: u8>(panel: &[u8], b: usize, half: usize) -> ([__m256; 2], __m256) {
    let nothing = _mm256_setzero_ps();
    if L == Q8 || L == Q4 {
        let pair_bytes = if L == Q8 { Q8_PAIR } else { Q4_PAIR };
        return ([halves(&panel[b / 2 * pair_bytes + b % 2 * 32 + 16 * half..]); 2], nothing);
    }
    let size = super_bytes::<L>();
    let (block, group) = (&panel[b / 8 * size..][..size], b % 8);
    if L == Q6K {
        let d = _mm256_castsi256_ps(load_half(head(block), half));
        let mut scale = [d; 2];
        for (part, scale) in scale.iter_mut().enumerate() {
            let bytes = eight(&block[PAIR_HEAD + LANES * (2 * group + part) + 8 * half..]);
            *scale = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
        }
        return (scale, nothing);
    }
    let (d, dmin) = (halves(&block[16 * half..]), halves(&block[32 + 16 * half..]));
    let small = |at: usize| &block[at + LANES * group + 8 * half..];
    let scale = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight(small(PAIR_HEAD)))));
    let minimum = _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight(small(K_MINIMA)))));
    ([scale; 2], minimum)
}

/// The low halves of two units' bytes, then the high halves.
#[target_feature(enable = "avx2")]
#[inline]
fn nibbles(bytes: &[u8; 128], half: usize) -> [__m256i; 4] {
    let mask = _mm256_set1_epi8(15);
    let mut q = [_mm256_setzero_si256(); 4];
    for (i, bytes) in bytes.as_chunks().0.iter().enumerate() {
        let both = load_half(bytes, half);
        q[i] = _mm256_and_si256(both, mask);
        q[i + 2] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask);
    }
    q
}

/// The fifth bits of Q5K: bit `u` of a byte belongs to unit `u`.
#[target_feature(enable = "avx2")]
#[inline]
fn fifth_bits(q: &mut [__m256i; 4], bytes: &[u8], half: usize, part: usize) {
    let high = load_half(head(bytes), half);
    for (q, unit) in q.iter_mut().zip([0, 1, 4, 5]) {
        let bit = _mm256_set1_epi8((1_u8 << (unit + 2 * part)).cast_signed());
        let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(high, bit), bit);
        *q = _mm256_or_si256(*q, _mm256_and_si256(is_set, _mm256_set1_epi8(16)));
    }
}

/// The upper two bits of Q6K: those of units 0 to 3 in a byte from below, then those of units 4 to 7.
#[target_feature(enable = "avx2")]
#[inline]
fn upper_bits(q: &mut [__m256i; 4], bytes: &[u8], half: usize, part: usize) {
    let mask = _mm256_set1_epi8(0x30);
    let shift = _mm_cvtsi32_si128(if part == 0 { 4 } else { 0 });
    let bytes: &[u8; 128] = head(bytes);
    for (q, bytes) in q.as_chunks_mut::<2>().0.iter_mut().zip(bytes.as_chunks().0) {
        let first = _mm256_sll_epi16(load_half(bytes, half), shift);
        q[0] = _mm256_or_si256(q[0], _mm256_and_si256(first, mask));
        q[1] = _mm256_or_si256(q[1], _mm256_and_si256(_mm256_srli_epi16::<2>(first), mask));
    }
}

/// One of the two registers of 64 bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn load_half(bytes: &[u8; 64], half: usize) -> __m256i {
    let bytes = &bytes.as_chunks::<32>().0[half % 2];
    // SAFETY: 32 bytes are there, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

const fn super_bytes<const L: u8>() -> usize {
    match L {
        Q4K => Q4K_SUPER,
        Q5K => Q5K_SUPER,
        _ => Q6K_SUPER,
    }
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
