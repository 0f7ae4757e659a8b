//! Panels of quantised weights, int8 activations.
//!
//! `vpdpbusd` multiplies unsigned bytes with signed ones: weights as most formats store them, a number above what they
//! are, and activations. A column's sum of a block begins at minus that number times the sum of its activations, which
//! is packed beside them, so that weights are unpacked and no more.

use std::arch::x86_64::*;

use super::super::Ahead;
use super::{head, load, load_floats, store_floats};
use crate::activations::{I8_SCALE, I8_SUMS, I8_WORDS, Tile};
use crate::layout::{K_HIGH, K_MINIMA, K_NIBBLES, LANES, PAIR_HEAD, Q4_PAIR, Q4K_SUPER, Q5K_SUPER, Q6K_SUPER, Q8_PAIR};

pub(in super::super) const Q8: u8 = 0;
pub(in super::super) const Q4: u8 = 1;
pub(in super::super) const Q4K: u8 = 2;
pub(in super::super) const Q5K: u8 = 3;
pub(in super::super) const Q6K: u8 = 4;

macro_rules! kernels {
    ($($name:ident $pair:ident $layout:expr;)*) => {$(
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
        pub(in super::super) fn $pair(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            let (upper, lower) = panels.split_at(panels.len() / 2);
            let (first, second) = out.split_at_mut(out.len() / 2);
            columns::<$layout, 2>([upper, lower], tile, [first, second]);
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
        pub(in super::super) fn $name(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            match out {
                [out] if tile.stride == 1 => one_column::<$layout>(panel, tile, out),
                out => columns::<$layout, 1>([panel], tile, [out]),
            }
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

/// A block's weights.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Unsigned numbers, [`offset`] too large.
    pub(super) q: [__m512i; 8],
    /// The scales of both halves, the same but in Q6K.
    pub(super) scale: [__m512; 2],
    /// Of Q4K and Q5K.
    minimum: __m512,
}

/// How much larger than what they stand for the numbers of a [`Block`] are.
const fn offset<const L: u8>() -> i16 {
    match L {
        Q8 => 128,
        Q4 => 8,
        Q6K => 32,
        _ => 0,
    }
}

impl Block {
    // SAFETY: all bits zero are a value of every field.
    const ZERO: Self = unsafe { std::mem::zeroed() };
}

/// All columns of a tile and `P` panels: a broadcast word feeds them all, since broadcasting costs as much as a
/// product. The totals stay in the first-level cache, so that the registers hold the weights of a block of each panel
/// and the code is the same for any number of columns: unrolled for sixteen, it kept neither in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn columns<const L: u8, const P: usize>(panels: [&[u8]; P], tile: Tile<'_>, mut out: [&mut [[f32; LANES]]; P]) {
    for out in &mut out {
        assert_eq!(out.len(), tile.stride, "there is an output for every column");
        out.iter_mut().for_each(|out| *out = [0.0; LANES]);
    }
    let (ahead, block_bytes) = (Ahead::of(panels, tile.next), step_bytes::<L>() / STEP);
    for (b, words) in tile.words.chunks_exact(I8_WORDS * tile.stride).enumerate() {
        ahead.ask(b * block_bytes, block_bytes);
        // A loop, not `map`: a closure with instructions of its own is not inlined into a function without them.
        let mut blocks = [Block::ZERO; P];
        for (block, panel) in blocks.iter_mut().zip(panels) {
            *block = unpack::<L>(panel, b);
        }
        // Two columns at a time: enough sums in flight, and all of them in registers.
        let (pairs, last) = words.as_chunks::<{ 2 * I8_WORDS }>();
        for (c, words) in pairs.iter().enumerate() {
            add_products::<L, P, 2>(&blocks, words, 2 * c, &mut out);
        }
        if !last.is_empty() {
            add_products::<L, P, 1>(&blocks, last, 2 * pairs.len(), &mut out);
        }
    }
}

/// As [`columns`], with the total in a register.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn one_column<const L: u8>(panel: &[u8], tile: Tile<'_>, out: &mut [f32; LANES]) {
    let mut total = [[_mm512_setzero_ps()]];
    let ahead = Ahead::of([panel], tile.next);
    let (steps, last) = tile.words.as_chunks::<{ STEP * I8_WORDS }>();
    for (step, words) in steps.iter().enumerate() {
        ahead.ask(step * step_bytes::<L>(), step_bytes::<L>());
        for (i, words) in words.as_chunks::<I8_WORDS>().0.iter().enumerate() {
            total = products::<L, 1, 1>(&[unpack::<L>(panel, STEP * step + i)], words, total);
        }
    }
    if !last.is_empty() {
        total = products::<L, 1, 1>(&[unpack::<L>(panel, STEP * steps.len())], last, total);
    }
    store_floats(out, total[0][0]);
}

/// Blocks that one step of a kernel takes.
pub(in super::super) const STEP: usize = 2;

/// How many bytes of a panel a step reads.
pub(in super::super) const fn step_bytes<const L: u8>() -> usize {
    match L {
        Q8 => Q8_PAIR,
        Q4 => Q4_PAIR,
        Q4K => Q4K_SUPER / 4,
        Q5K => Q5K_SUPER / 4,
        _ => Q6K_SUPER / 4,
    }
}

/// Adds the products of a block of each panel and `C` columns to their totals.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn add_products<const L: u8, const P: usize, const C: usize>(
    blocks: &[Block; P],
    words: &[u32],
    first: usize,
    out: &mut [&mut [[f32; LANES]]; P],
) {
    let mut totals = [[_mm512_setzero_ps(); P]; C];
    for (c, totals) in totals.iter_mut().enumerate() {
        for (total, out) in totals.iter_mut().zip(&*out) {
            *total = load_floats(&out[first + c]);
        }
    }
    let totals = products::<L, P, C>(blocks, words, totals);
    for (c, totals) in totals.into_iter().enumerate() {
        for (total, out) in totals.into_iter().zip(&mut *out) {
            store_floats(&mut out[first + c], total);
        }
    }
}

/// The totals and the products of a block of each panel and `C` columns, `words` being `[C][words of a block]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn products<const L: u8, const P: usize, const C: usize>(
    blocks: &[Block; P],
    words: &[u32],
    mut totals: [[__m512; P]; C],
) -> [[__m512; P]; C] {
    let columns: &[[u32; I8_WORDS]; C] = words.as_chunks().0.first_chunk().expect("a block of every column");
    let mut dots = [[[_mm512_setzero_si512(); 2]; P]; C];
    for (column, dots) in columns.iter().zip(&mut dots) {
        *dots = [start::<L>(column[I8_SUMS]); P];
    }
    for j in 0..8 {
        let half = if L == Q6K { j / 4 } else { j % 2 };
        for (column, dots) in columns.iter().zip(&mut dots) {
            let x = _mm512_set1_epi32(column[j].cast_signed());
            for (dots, block) in dots.iter_mut().zip(blocks) {
                dots[half] = _mm512_dpbusd_epi32(dots[half], block.q[j], x);
            }
        }
    }
    for (column, (totals, dots)) in columns.iter().zip(totals.iter_mut().zip(&dots)) {
        let x_scale = _mm512_set1_ps(f32::from_bits(column[I8_SCALE]));
        for ((total, dots), block) in totals.iter_mut().zip(dots).zip(blocks) {
            let product = if L == Q6K {
                let first = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[0]), block.scale[0]);
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[1]), block.scale[1], first)
            } else {
                _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(dots[0], dots[1])), block.scale[0])
            };
            *total = _mm512_fmadd_ps(product, x_scale, *total);
            if L == Q4K || L == Q5K {
                let sum = _mm512_cvtepi32_ps(sums(column[I8_SUMS], [1, 1]));
                *total = _mm512_fnmadd_ps(block.minimum, _mm512_mul_ps(sum, x_scale), *total);
            }
        }
    }
    totals
}

/// What the two sums of a column's products begin at: those of both halves of a block in Q6K, elsewhere any two that
/// add up to the block's.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn start<const L: u8>(x_sums: u32) -> [__m512i; 2] {
    let (zero, offset) = (_mm512_setzero_si512(), -offset::<L>());
    match L {
        Q4K | Q5K => [zero; 2],
        Q6K => [sums(x_sums, [offset, 0]), sums(x_sums, [0, offset])],
        _ => [sums(x_sums, [offset; 2]), zero],
    }
}

/// The sums of a column's halves, each times a factor, added up.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn sums(x_sums: u32, factors: [i16; 2]) -> __m512i {
    let [low, high] = factors.map(|factor| u32::from(factor.cast_unsigned()));
    let factors = _mm512_set1_epi32((low | high << 16).cast_signed());
    _mm512_madd_epi16(_mm512_set1_epi32(x_sums.cast_signed()), factors)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(super) fn unpack<const L: u8>(panel: &[u8], b: usize) -> Block {
    let (mut q, scale, minimum) = numbers::<L>(panel, b);
    if L == Q8 {
        q.iter_mut().for_each(|q| *q = _mm512_xor_si512(*q, _mm512_set1_epi8(-128)));
    }
    Block { q, scale, minimum }
}

/// The numbers of a block as they are stored (signed in Q8, unsigned elsewhere), its scales and its minimum.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
pub(in super::super) fn numbers<const L: u8>(panel: &[u8], b: usize) -> ([__m512i; 8], [__m512; 2], __m512) {
    let minimum = _mm512_setzero_ps();
    if L == Q8 || L == Q4 {
        let (pair_bytes, block_bytes) = if L == Q8 { (Q8_PAIR, 512) } else { (Q4_PAIR, 256) };
        let pair = &panel[b / 2 * pair_bytes..][..pair_bytes];
        let scale = halves(&pair[b % 2 * 32..]);
        let bytes = &pair[PAIR_HEAD + b % 2 * block_bytes..][..block_bytes];
        let q = if L == Q8 { all(bytes) } else { nibbles(bytes) };
        return (q, [scale; 2], minimum);
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
        return (q, [scale(0), scale(1)], minimum);
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
    (q, [scale; 2], minimum)
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

#[target_feature(enable = "avx512f")]
#[inline]
fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: sixteen bytes are there, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
