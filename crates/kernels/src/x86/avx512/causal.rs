//! Up to sixteen queries past one block of keys and values in int8, see [`crate::attention`].
//!
//! `vpdpbusd` multiplies unsigned bytes with signed ones. Queries and softmax weights have sixteen bits, in two parts
//! of eight that meet a register of keys or values while it is there: rounded to eight, they cost perplexity twenty
//! times what rounding keys and values does.

use std::arch::x86_64::*;

use super::super::Ahead;
use super::super::blocks::{Q8, blocks};
use super::quantised;
use super::{head, load, load_floats, store_floats};
use crate::KV_BLOCK_TOKENS;
use crate::activations::{I16_WORDS, TILE};
use crate::attention::Block;
use crate::layout::{BLOCK, LANES, PAIR_HEAD, Q8_PAIR};

/// Panels of a block's keys.
pub(in super::super) const PANELS: usize = KV_BLOCK_TOKENS / LANES;
/// Words of a column for 32 numbers in BF16.
pub(in super::super) const UNIT: usize = BLOCK / 2;
/// Words of a column's numbers of eight bits, for 32 of them.
const PART: usize = BLOCK / 4;
/// A query's words for 32 numbers: the upper parts, the lower ones, what a sum of products begins at, the scale, and
/// two that mean nothing.
const QUERY: usize = I16_WORDS;
/// Words of a column's weights: the upper parts, then the lower ones.
const WEIGHTS: usize = KV_BLOCK_TOKENS / 2;
/// The largest number of a query: its upper part, rounded, is 127.
const QUERY_MAX: f32 = 127.0 * 256.0;
/// The largest weight.
const WEIGHT_MAX: f32 = 65535.0;

/// Calls a kernel for all columns, in pieces of four, two and one.
macro_rules! in_fours {
    ($columns:expr, $kernel:ident $(<$panels:tt>)? ($($argument:expr),*)) => {{
        let (columns, mut first) = ($columns, 0);
        while first < columns {
            first += match columns - first {
                4.. => { $kernel::<4 $(, $panels)?>(first, $($argument),*); 4 }
                2.. => { $kernel::<2 $(, $panels)?>(first, $($argument),*); 2 }
                _ => { $kernel::<1 $(, $panels)?>(first, $($argument),*); 1 }
            };
        }
    }};
}
pub(super) use in_fours;

/// Queries `[blocks][columns][QUERY]`; for 32 numbers `scale = max|x| / QUERY_MAX` and `q = round(x / scale)`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn pack(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    let stride = rows.len();
    for (c, row) in rows.iter().enumerate() {
        let x = &x[*row as usize * columns..][..columns];
        for (x, out) in blocks(x).zip(out.chunks_exact_mut(QUERY * stride)) {
            let (low, high) = (head(&x), head(&x[LANES..]));
            let halves = [load_floats(low), load_floats(high)];
            let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(halves[0]), _mm512_abs_ps(halves[1])));
            let inverse = _mm512_set1_ps(if largest > 0.0 { QUERY_MAX / largest } else { 0.0 });
            let out = &mut out[c * QUERY..][..QUERY];
            let mut sums = _mm512_setzero_si512();
            for (half, x) in halves.into_iter().enumerate() {
                let q = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
                let upper = _mm512_srai_epi32::<8>(_mm512_add_epi32(q, _mm512_set1_epi32(128)));
                sums = _mm512_add_epi32(sums, q);
                store_bytes(&mut out[half * LANES / 4..], upper);
                store_bytes(&mut out[PART + half * LANES / 4..], q);
            }
            // Keys meet it 128 too large.
            out[2 * PART] = _mm512_reduce_add_epi32(sums).wrapping_mul(-128).cast_unsigned();
            out[2 * PART + 1] = (largest / QUERY_MAX).to_bits();
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) fn i8_block(mut block: Block<'_>) {
    let (keys, values, columns) = (block.keys, block.values, block.columns);
    block.assert_is_i16_on_int8();
    for (panel, bytes) in keys.bytes.chunks_exact(keys.size).take(keys.count).enumerate() {
        let ahead = Ahead::of([bytes], Some(block.next.map_or(bytes, |(keys, _)| &keys[panel * bytes.len()..])));
        let out = &mut block.scores[(block.first_panel + panel) * columns..][..columns];
        in_fours!(columns, scores(bytes, block.queries, out, ahead));
    }
    let factors = weigh(&mut block);
    let (bytes, scales) = values.bytes.split_at(values.count * values.size);
    for (pair, panels) in bytes.chunks(2 * values.size).enumerate() {
        let (first, second) = panels.split_at(values.size);
        let next = block.next.map_or(first, |(_, values)| &values[2 * pair * Q8_PAIR..]);
        let out = &mut block.gathered[2 * pair * LANES..];
        let weights = (&*block.weights, block.steps);
        if second.is_empty() {
            let ahead = Ahead::of([first], Some(next));
            in_fours!(columns, add_values<1>([first], weights, &factors, out, block.padded, ahead));
        } else {
            let ahead = Ahead::of([first, second], Some(next));
            in_fours!(columns, add_values<2>([first, second], weights, &factors, out, block.padded, ahead));
        }
    }
    if let Some((_, next)) = block.next {
        Ahead::of([scales], Some(&next[bytes.len()..])).ask(0, scales.len());
    }
}

/// The scores of `C` columns and a panel of keys.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn scores<const C: usize>(first: usize, panel: &[u8], queries: &[u32], out: &mut [[f32; LANES]], ahead: Ahead<1>) {
    let mut totals = [_mm512_setzero_ps(); C];
    for (b, words) in queries.chunks_exact(QUERY * out.len()).enumerate() {
        if first == 0 {
            ahead.ask(b * (Q8_PAIR / 2), Q8_PAIR / 2);
        }
        let (keys, [key_scale, _], _) = quantised::unsigned::<Q8>(panel, b);
        let columns: &[[u32; QUERY]; C] = head(&words.as_chunks().0[first..]);
        let mut parts = [[_mm512_setzero_si512(); 2]; C];
        for ([_, lower], column) in parts.iter_mut().zip(columns) {
            *lower = _mm512_set1_epi32(column[2 * PART].cast_signed());
        }
        for (j, keys) in keys.into_iter().enumerate() {
            for ([upper, lower], column) in parts.iter_mut().zip(columns) {
                *upper = _mm512_dpbusd_epi32(*upper, keys, _mm512_set1_epi32(column[j].cast_signed()));
                *lower = _mm512_dpbusd_epi32(*lower, keys, _mm512_set1_epi32(column[PART + j].cast_signed()));
            }
        }
        for ((total, parts), column) in totals.iter_mut().zip(parts).zip(columns) {
            let scale = _mm512_set1_ps(f32::from_bits(column[2 * PART + 1]));
            *total = _mm512_fmadd_ps(joined(parts), _mm512_mul_ps(key_scale, scale), *total);
        }
    }
    out[first..].iter_mut().zip(totals).for_each(|(out, total)| store_floats(out, total));
}

/// Adds the products of `C` columns' weights and `P` neighbouring panels of values to what is in `out`, where columns
/// lie `stride` apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn add_values<const C: usize, const P: usize>(
    first: usize,
    panels: [&[u8]; P],
    (weights, steps): (&[u32], usize),
    factors: &[f32; TILE],
    out: &mut [f32],
    stride: usize,
    ahead: Ahead<P>,
) {
    let columns: &[[u32; WEIGHTS]; C] = head(&weights.as_chunks().0[first..]);
    let mut parts = [[[_mm512_setzero_si512(); 2]; P]; C];
    for unit in 0..steps * PART {
        let at = PAIR_HEAD + 64 * unit;
        if first == 0 {
            ahead.ask(at, 64);
        }
        let mut values = [_mm512_setzero_si512(); P];
        for (values, panel) in values.iter_mut().zip(panels) {
            *values = load(head(&panel[at..]));
        }
        for (parts, column) in parts.iter_mut().zip(columns) {
            let upper = _mm512_set1_epi32(column[unit].cast_signed());
            let lower = _mm512_set1_epi32(column[WEIGHTS / 2 + unit].cast_signed());
            for (parts, values) in parts.iter_mut().zip(values) {
                parts[0] = _mm512_dpbusd_epi32(parts[0], upper, values);
                parts[1] = _mm512_dpbusd_epi32(parts[1], lower, values);
            }
        }
    }
    for (c, parts) in parts.into_iter().enumerate() {
        let out = out[(first + c) * stride..].as_chunks_mut().0;
        for (out, parts) in out.iter_mut().zip(parts) {
            let total = _mm512_fmadd_ps(joined(parts), _mm512_set1_ps(factors[first + c]), load_floats(out));
            store_floats(out, total);
        }
    }
}

/// Neighbouring panels from `first` on.
pub(super) fn neighbours<const P: usize>(bytes: &[u8], size: usize, first: usize) -> [&[u8]; P] {
    std::array::from_fn(|p| &bytes[(first + p) * size..][..size])
}

/// What two parts' sums are together.
#[target_feature(enable = "avx512f")]
#[inline]
fn joined([upper, lower]: [__m512i; 2]) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(upper), lower))
}

/// Weights of every column with the scales of the values in them, rounded and packed; returns what one is worth.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn weigh(block: &mut Block<'_>) -> [f32; TILE] {
    let mut factors = [0.0; TILE];
    for (c, factor) in factors.iter_mut().enumerate().take(block.columns) {
        let mut weights = weights(block, c, block.columns);
        let (mut added, mut high) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for (weights, scales) in weights.iter_mut().zip(block.scales.as_chunks::<LANES>().0) {
            added = _mm512_add_ps(added, *weights);
            *weights = _mm512_mul_ps(*weights, load_scales(scales));
            high = _mm512_max_ps(high, *weights);
        }
        block.total[c] += _mm512_reduce_add_ps(added);
        let largest = _mm512_reduce_max_ps(high);
        let inverse = _mm512_set1_ps(if largest > 0.0 { WEIGHT_MAX / largest } else { 0.0 });
        let words = &mut block.weights[c * WEIGHTS..][..WEIGHTS];
        for (panel, weights) in weights.into_iter().enumerate() {
            let q = _mm512_cvtps_epi32(_mm512_mul_ps(weights, inverse));
            store_bytes(&mut words[panel * LANES / 4..], _mm512_srli_epi32::<8>(q));
            store_bytes(&mut words[WEIGHTS / 2 + panel * LANES / 4..], q);
        }
        *factor = largest / WEIGHT_MAX;
    }
    factors
}

/// Weights of every column, rounded to BF16 before they are summed, and packed as `[units][columns][UNIT]`, a tile
/// behind the other; `columns` of them.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bf16")]
pub(in super::super) fn weigh_bf16(block: &mut Block<'_>, columns: usize) {
    let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    let (stride, words) = (columns.min(TILE), KV_BLOCK_TOKENS / 2);
    for c in 0..block.columns {
        let weights = weights(block, c, columns);
        let units = &mut block.weights[c / TILE * stride * words..][..stride * words];
        let units = units.chunks_exact_mut(stride * UNIT).map(|unit| &mut unit[c % TILE * UNIT..][..UNIT]);
        let mut added = _mm512_setzero_ps();
        for ([low, high], words) in weights.as_chunks::<2>().0.iter().zip(units) {
            let pairs = as_words(_mm512_cvtne2ps_pbh(*high, *low));
            let [even, odd] = [_mm512_slli_epi32::<16>(pairs), _mm512_and_si512(pairs, upper)];
            added = _mm512_add_ps(added, _mm512_add_ps(_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)));
            let words: &mut [u32; UNIT] = words.try_into().expect("a unit has the words of a column");
            // SAFETY: there is room for sixteen words, and the store needs no alignment.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), pairs) };
        }
        block.total[c] += _mm512_reduce_add_ps(added);
    }
}

/// Weights of every column, packed as `[columns][tokens]`.
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
pub(super) fn weigh_f32(block: &mut Block<'_>) {
    for c in 0..block.columns {
        let weights = weights(block, c, block.columns);
        let words = &mut block.weights[c * KV_BLOCK_TOKENS..][..KV_BLOCK_TOKENS];
        let mut added = _mm512_setzero_ps();
        for (weights, words) in weights.into_iter().zip(words.as_chunks_mut::<LANES>().0) {
            added = _mm512_add_ps(added, weights);
            // SAFETY: there is room for sixteen words, and the store needs no alignment.
            unsafe { _mm512_storeu_ps(words.as_mut_ptr().cast(), weights) };
        }
        block.total[c] += _mm512_reduce_add_ps(added);
    }
}

#[inline]
fn as_words(x: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes, and any bits are valid for either.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(x) }
}

/// The softmax weights of column `c` of `columns`, as in `scalar::softmax_block`. What was gathered and summed before
/// fits the largest score then; the weights are not yet among it.
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
#[inline]
fn weights(block: &mut Block<'_>, c: usize, columns: usize) -> [__m512; PANELS] {
    let nothing = _mm512_set1_ps(f32::NEG_INFINITY);
    let mut weights = [nothing; PANELS];
    for (panel, score) in weights.iter_mut().enumerate() {
        let seen = (block.seen[c] >> (panel * LANES)) as u16;
        *score = _mm512_mask_blend_ps(seen, nothing, load_floats(&block.scores[panel * columns + c]));
    }
    let highest = weights.iter().fold(_mm512_set1_ps(block.largest[c]), |high, score| _mm512_max_ps(high, *score));
    let highest = _mm512_reduce_max_ps(highest);
    if highest == f32::NEG_INFINITY {
        return [_mm512_setzero_ps(); PANELS];
    }
    let factor = block.factor(c, highest);
    if factor < 1.0 {
        let gathered = &mut block.gathered[c * block.padded..][..block.padded];
        for gathered in gathered.as_chunks_mut::<LANES>().0 {
            store_floats(gathered, _mm512_mul_ps(load_floats(gathered), _mm512_set1_ps(factor)));
        }
    }
    block.largest[c] = highest;
    block.total[c] *= factor;
    let log2_e = _mm512_set1_ps(std::f32::consts::LOG2_E);
    let shift = _mm512_mul_ps(_mm512_set1_ps(highest), log2_e);
    for weight in &mut weights {
        *weight = exp2(_mm512_fmsub_ps(*weight, log2_e, shift));
    }
    weights
}

/// `2^x` for `x <= 0` to 2.4e-6: `2^n * p(r)` with `x = n + r`, `|r| <= 1 / 2` and Taylor's polynomial of degree five.
/// Below -200 it is zero.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
pub(in super::super) fn exp2(x: __m512) -> __m512 {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    // The second operand comes back if one is NaN: `x`.
    let x = _mm512_max_ps(_mm512_set1_ps(-200.0), x);
    let n = _mm512_roundscale_ps::<NEAREST>(x);
    let r = _mm512_sub_ps(x, n);
    let mut p = _mm512_set1_ps(1.333_355_8e-3);
    for coefficient in [9.618_129e-3, 5.550_411e-2, 0.240_226_5, std::f32::consts::LN_2, 1.0] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(p, n)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_scales(scales: &[[u8; 4]; LANES]) -> __m512 {
    // SAFETY: sixteen floats are there, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(scales.as_ptr().cast()) }
}

/// The lowest eight bits of each number.
#[target_feature(enable = "avx512f")]
#[inline]
fn store_bytes(out: &mut [u32], numbers: __m512i) {
    let out: &mut [u32; LANES / 4] = out.first_chunk_mut().expect("there is room for sixteen bytes");
    let bytes = _mm512_cvtepi32_epi8(numbers);
    // SAFETY: there is room for sixteen bytes, and the store needs no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), bytes) }
}
