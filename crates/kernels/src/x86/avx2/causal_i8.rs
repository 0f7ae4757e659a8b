//! Up to sixteen queries past one block of keys and values in int8, see [`crate::attention`].
//!
//! Keys and values are widened to sixteen bits and meet queries and softmax weights of as many: rounded to eight, these
//! cost perplexity more than rounding keys and values does (`docs/decisions/0024-int8-keys-and-values.md`). `vpmaddwd`
//! adds two neighbouring products, so that a register holds two sums of each of four rows; they meet at the end.

use std::arch::x86_64::*;

use super::super::Ahead;
use super::super::blocks::{Q8, blocks, lines};
use super::causal::weights;
use super::ops::{load_floats as load_eight, to_array};
use super::quantised::{self, sixteen};
use super::{head, load_floats, store_floats};
use crate::KV_BLOCK_TOKENS;
use crate::activations::{I16_WORDS, TILE};
use crate::attention::Block;
use crate::layout::{BLOCK, LANES, PAIR_HEAD, Q8_PAIR};

/// Words of 32 numbers of sixteen bits.
const NUMBERS: usize = BLOCK / 2;
/// A query's words for 32 numbers: these, the scale, and three that mean nothing.
const QUERY: usize = I16_WORDS;
/// Words of a column's weights.
const WEIGHTS: usize = KV_BLOCK_TOKENS / 2;
/// The largest number of a query and the largest weight.
const LARGEST: f32 = 32767.0;

/// Sums of a panel's sixteen rows, four of them a register.
type Sums = [__m256i; 4];

/// Queries `[blocks][columns][QUERY]`; for 32 numbers `scale = max|x| / LARGEST` and `q = round(x / scale)`.
#[target_feature(enable = "avx2")]
pub(super) fn pack(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    let stride = rows.len();
    for (c, row) in rows.iter().enumerate() {
        let x = &x[*row as usize * columns..][..columns];
        for (x, out) in blocks(x).zip(out.chunks_exact_mut(QUERY * stride)) {
            let mut numbers = [_mm256_setzero_ps(); BLOCK / 8];
            numbers.iter_mut().zip(x.as_chunks().0).for_each(|(numbers, x)| *numbers = load_eight(x));
            let out = &mut out[c * QUERY..][..QUERY];
            out[NUMBERS] = round(&numbers, &mut out[..NUMBERS]).to_bits();
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn block(mut block: Block<'_>) {
    let (keys, values, columns) = (block.keys, block.values, block.columns);
    block.assert_is_i16_on_int8();
    for panel in 0..keys.count {
        for first in (0..columns).step_by(2) {
            if columns - first > 1 {
                scores::<2>(panel, first, &mut block)
            } else {
                scores::<1>(panel, first, &mut block)
            }
        }
    }
    let mut factors = [0.0; TILE];
    for (c, factor) in factors.iter_mut().enumerate().take(columns) {
        *factor = weigh(&mut block, c);
    }
    for panel in 0..values.count {
        for first in (0..columns).step_by(2) {
            if columns - first > 1 {
                add_values::<2>(panel, first, &factors, &mut block);
            } else {
                add_values::<1>(panel, first, &factors, &mut block);
            }
        }
    }
    let panels = values.count * values.size;
    if let Some((_, next)) = block.next {
        Ahead::of([&values.bytes[panels..]], Some(&next[panels..])).ask(0, 4 * KV_BLOCK_TOKENS);
    }
}

/// The scores of `C` columns and a panel of keys.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scores<const C: usize>(panel: usize, first: usize, block: &mut Block<'_>) {
    let (keys, stride) = (block.keys, block.columns);
    let bytes = &keys.bytes[panel * keys.size..][..keys.size];
    let ahead = Ahead::of([bytes], Some(block.next.map_or(bytes, |(next, _)| &next[panel * keys.size..])));
    let mut totals = [[_mm256_setzero_ps(); 2]; C];
    for (b, words) in block.queries.chunks_exact(QUERY * stride).enumerate() {
        if first == 0 {
            ahead.ask(b * (Q8_PAIR / 2), Q8_PAIR / 2);
        }
        let columns: &[[u32; QUERY]; C] = head(&words.as_chunks().0[first..]);
        let mut sums = [[_mm256_setzero_si256(); 4]; C];
        for (unit, line) in lines::<Q8>(bytes, b).iter().enumerate() {
            add_unit(&mut sums, line, columns, unit);
        }
        let scale = quantised::factors::<Q8>(bytes, b).scale[0];
        for ((total, sums), column) in totals.iter_mut().zip(sums).zip(columns) {
            let query_scale = _mm256_set1_ps(f32::from_bits(column[NUMBERS]));
            for ((total, sum), scale) in total.iter_mut().zip(joined(sums)).zip(scale) {
                *total = _mm256_fmadd_ps(sum, _mm256_mul_ps(scale, query_scale), *total);
            }
        }
    }
    let out = &mut block.scores[(block.first_panel + panel) * stride + first..];
    out.iter_mut().zip(totals).for_each(|(out, total)| store_floats(out, total));
}

/// Adds the products of `C` columns' weights and a panel of values to what was gathered.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_values<const C: usize>(panel: usize, first: usize, factors: &[f32; TILE], block: &mut Block<'_>) {
    let values = block.values;
    let bytes = &values.bytes[panel * values.size..][..values.size];
    let ahead = Ahead::of([bytes], Some(block.next.map_or(bytes, |(_, next)| &next[panel * values.size..])));
    let columns: &[[u32; WEIGHTS]; C] = head(&block.weights.as_chunks().0[first..]);
    let mut sums = [[_mm256_setzero_si256(); 4]; C];
    let lines = &bytes[PAIR_HEAD..].as_chunks().0[..block.steps * (BLOCK / 4)];
    for (unit, line) in lines.iter().enumerate() {
        if first == 0 {
            ahead.ask(PAIR_HEAD + 64 * unit, 64);
        }
        add_unit(&mut sums, line, columns, unit);
    }
    for (c, sums) in (first..).zip(sums) {
        let out = &mut block.gathered[c * block.padded + panel * LANES..];
        let out: &mut [f32; LANES] = out.first_chunk_mut().expect("a head is padded to whole panels");
        let (mut total, factor) = (load_floats(out), _mm256_set1_ps(factors[c]));
        for (total, sum) in total.iter_mut().zip(joined(sums)) {
            *total = _mm256_fmadd_ps(sum, factor, *total);
        }
        store_floats(out, total);
    }
}

/// Adds the products of a line, four numbers of each of sixteen rows, and of numbers `4 unit..` of each column, two of
/// them a word.
#[target_feature(enable = "avx2")]
#[inline]
fn add_unit<const C: usize, const W: usize>(
    sums: &mut [Sums; C],
    line: &[u8; 64],
    columns: &[[u32; W]; C],
    unit: usize,
) {
    for (part, rows) in line.as_chunks::<16>().0.iter().enumerate() {
        let rows = _mm256_cvtepi8_epi16(sixteen(rows));
        for (sums, column) in sums.iter_mut().zip(columns) {
            let x = u64::from(column[2 * unit]) | u64::from(column[2 * unit + 1]) << 32;
            let products = _mm256_madd_epi16(rows, _mm256_set1_epi64x(x.cast_signed()));
            sums[part] = _mm256_add_epi32(sums[part], products);
        }
    }
}

/// Both sums of each row together, the rows in order.
#[target_feature(enable = "avx2")]
#[inline]
fn joined(sums: Sums) -> [__m256; 2] {
    let mut out = [_mm256_setzero_ps(); 2];
    for (out, [first, second]) in out.iter_mut().zip(*sums.as_chunks::<2>().0.first_chunk::<2>().expect("two pairs")) {
        // Neighbours are added within halves of registers: the second and the third pair of rows change places.
        let rows = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(first, second));
        *out = _mm256_cvtepi32_ps(rows);
    }
    out
}

/// The weights of a column with the scales of the values in them, rounded and packed; returns what one is worth.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn weigh(block: &mut Block<'_>, c: usize) -> f32 {
    let mut weights = weights(block, c);
    let mut added = _mm256_setzero_ps();
    for (weights, scales) in weights.iter_mut().zip(block.scales.as_chunks().0) {
        added = _mm256_add_ps(added, *weights);
        *weights = _mm256_mul_ps(*weights, load_scales(scales));
    }
    block.total[c] += to_array(added).iter().sum::<f32>();
    round(&weights, &mut block.weights[c * WEIGHTS..][..WEIGHTS])
}

/// Rounds numbers to sixteen bits, two of them a word; returns their scale.
#[target_feature(enable = "avx2")]
#[inline]
fn round(x: &[__m256], out: &mut [u32]) -> f32 {
    let mut largest = _mm256_setzero_ps();
    for x in x {
        // The second operand comes back if one is NaN.
        largest = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0), *x), largest);
    }
    let largest = to_array(largest).into_iter().fold(0.0, f32::max);
    let inverse = _mm256_set1_ps(if largest > 0.0 { LARGEST / largest } else { 0.0 });
    for ([low, high], out) in x.as_chunks().0.iter().zip(out.as_chunks_mut::<8>().0) {
        let low = _mm256_cvtps_epi32(_mm256_mul_ps(*low, inverse));
        let high = _mm256_cvtps_epi32(_mm256_mul_ps(*high, inverse));
        // Packing works on halves of registers: the second and the third quarter change places.
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
        // SAFETY: there is room for eight words, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), words) };
    }
    largest / LARGEST
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_scales(scales: &[[u8; 4]; 8]) -> __m256 {
    // SAFETY: eight floats are there, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(scales.as_ptr().cast()) }
}
