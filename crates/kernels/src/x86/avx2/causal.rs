//! Up to sixteen queries past one block of keys and values in BF16, see [`crate::attention`], with products in f32.
//!
//! Up to six queries meet a panel at once, whose numbers are widened for all of them. Nothing but keys and values is
//! rounded.

use std::arch::x86_64::*;

use super::super::Ahead;
use super::floats::add_pairs;
use super::ops::{exp, load_floats as load_eight, store_floats as store_eight, to_array};
use super::{columns_of, head, load_floats, store_floats};
use crate::KV_BLOCK_TOKENS;
use crate::attention::Block;
use crate::layout::LANES;

/// Bytes of sixteen rows and one word.
const WORD_BYTES: usize = 4 * LANES;
/// Words of a panel's values for 32 tokens.
const UNIT: usize = 16;
/// Registers of a column's scores.
const SCORES: usize = KV_BLOCK_TOKENS / 8;

/// Calls a kernel for all columns of every panel.
macro_rules! over_panels {
    ($columns:expr, $panels:expr, $kernel:ident, $block:expr) => {
        for panel in 0..$panels {
            let mut first = 0;
            while first < $columns {
                first += match $columns - first {
                    6.. => $kernel::<6>(panel, first, $block),
                    4.. => $kernel::<4>(panel, first, $block),
                    2.. => $kernel::<2>(panel, first, $block),
                    _ => $kernel::<1>(panel, first, $block),
                };
            }
        }
    };
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn block(mut block: Block<'_>) {
    let (keys, values, columns) = (block.keys, block.values, block.columns);
    block.assert_is_f32_on_bf16();
    over_panels!(columns, keys.count, scores, &mut block);
    for column in 0..columns {
        weigh(&mut block, column);
    }
    over_panels!(columns, values.count, add_values, &mut block);
}

/// The scores of `C` columns and a panel of keys; returns `C`.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn scores<const C: usize>(panel: usize, first: usize, block: &mut Block<'_>) -> usize {
    let (keys, stride) = (block.keys, block.columns);
    let bytes = &keys.bytes[panel * keys.size..][..keys.size];
    let ahead = Ahead::of([bytes], Some(block.next.map_or(bytes, |(next, _)| &next[panel * keys.size..])));
    let mut sums = [[_mm256_setzero_ps(); 2]; C];
    for (word, (keys, queries)) in bytes.as_chunks().0.iter().zip(block.queries.chunks_exact(2 * stride)).enumerate() {
        if first == 0 {
            ahead.ask(WORD_BYTES * word, WORD_BYTES);
        }
        let (even, odd) = queries.split_at(stride);
        let (even, odd): (&[u32; C], &[u32; C]) = (columns_of(even, first), columns_of(odd, first));
        add_pairs(&mut sums, keys, |c| even[c], |c| odd[c]);
    }
    let out = &mut block.scores[(block.first_panel + panel) * stride + first..];
    out.iter_mut().zip(sums).for_each(|(out, sum)| store_floats(out, sum));
    C
}

/// Adds the products of `C` columns' weights and a panel of values to what was gathered; returns `C`.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_values<const C: usize>(panel: usize, first: usize, block: &mut Block<'_>) -> usize {
    let values = block.values;
    let bytes = &values.bytes[panel * values.size..][..values.size];
    let ahead = Ahead::of([bytes], Some(block.next.map_or(bytes, |(_, next)| &next[panel * values.size..])));
    let columns: &[[u32; KV_BLOCK_TOKENS]; C] = head(&block.weights.as_chunks().0[first..]);
    let places: [usize; C] = std::array::from_fn(|c| (first + c) * block.padded + panel * LANES);
    let mut sums = [[_mm256_setzero_ps(); 2]; C];
    for (sum, at) in sums.iter_mut().zip(places) {
        *sum = load_floats(head(&block.gathered[at..]));
    }
    for (word, values) in bytes.as_chunks().0.iter().enumerate().take(block.steps * UNIT) {
        if first == 0 {
            ahead.ask(WORD_BYTES * word, WORD_BYTES);
        }
        add_pairs(&mut sums, values, |c| columns[c][2 * word], |c| columns[c][2 * word + 1]);
    }
    for (sum, at) in sums.into_iter().zip(places) {
        store_floats(block.gathered[at..].first_chunk_mut().expect("a head is padded to whole panels"), sum);
    }
    C
}

/// Weights of a column, packed `[columns][tokens]`.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn weigh(block: &mut Block<'_>, c: usize) {
    let (weights, mut added) = (weights(block, c), _mm256_setzero_ps());
    let words = &mut block.weights[c * KV_BLOCK_TOKENS..][..KV_BLOCK_TOKENS];
    for (weight, words) in weights.into_iter().zip(words.as_chunks_mut::<8>().0) {
        added = _mm256_add_ps(added, weight);
        // SAFETY: there is room for eight words, and the store needs no alignment.
        unsafe { _mm256_storeu_ps(words.as_mut_ptr().cast(), weight) };
    }
    block.total[c] += to_array(added).iter().sum::<f32>();
}

/// The softmax weights of column `c`, as in `scalar::softmax_block`. What was gathered and summed before fits the
/// largest score then; the weights are not yet among it.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn weights(block: &mut Block<'_>, c: usize) -> [__m256; SCORES] {
    let nothing = _mm256_set1_ps(f32::NEG_INFINITY);
    let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    let (mut weights, mut high) = ([nothing; SCORES], _mm256_set1_ps(block.largest[c]));
    for (at, weight) in weights.iter_mut().enumerate() {
        let scores = &block.scores[at / 2 * block.columns + c].as_chunks().0[at % 2];
        let seen = _mm256_set1_epi32((block.seen[c] >> (8 * at)) as i32);
        let is_seen = _mm256_cmpeq_epi32(_mm256_and_si256(seen, lanes), lanes);
        *weight = _mm256_blendv_ps(nothing, load_eight(scores), _mm256_castsi256_ps(is_seen));
        high = _mm256_max_ps(high, *weight);
    }
    let highest = to_array(high).into_iter().fold(f32::NEG_INFINITY, f32::max);
    if highest == f32::NEG_INFINITY {
        return [_mm256_setzero_ps(); SCORES];
    }
    let factor = block.factor(c, highest);
    if factor < 1.0 {
        let gathered = &mut block.gathered[c * block.padded..][..block.padded];
        for gathered in gathered.as_chunks_mut().0 {
            let scaled = _mm256_mul_ps(load_eight(gathered), _mm256_set1_ps(factor));
            store_eight(gathered, scaled);
        }
    }
    let shift = _mm256_set1_ps(highest);
    for weight in &mut weights {
        *weight = exp(_mm256_sub_ps(*weight, shift));
    }
    block.largest[c] = highest;
    block.total[c] *= factor;
    weights
}
