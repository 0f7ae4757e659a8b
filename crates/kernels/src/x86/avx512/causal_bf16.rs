//! Up to sixteen queries past one block of keys and values in BF16, see [`crate::attention`].
//!
//! Four panels at a time: a broadcast word feeds them all, and with the two queries of a group there are eight sums
//! that do not wait for each other.

use std::arch::x86_64::*;

use super::super::Ahead;
use super::causal::{PANELS, UNIT, in_fours, neighbours, weigh_bf16};
use super::floats::as_bf16;
use super::{head, load, load_floats, store_floats};
use crate::KV_BLOCK_TOKENS;
use crate::activations::TILE;
use crate::attention::Block;
use crate::layout::LANES;

/// Bytes of sixteen rows and one word.
const WORD_BYTES: usize = 4 * LANES;

#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bf16")]
pub(super) fn block(mut block: Block<'_>) {
    let (keys, values, columns) = (block.keys, block.values, block.columns);
    assert!((1..=TILE).contains(&columns) && block.first_panel + keys.count <= PANELS, "keys of one block");
    assert_eq!(block.queries.len() * WORD_BYTES, columns * keys.size, "a key has the words of a query");
    assert!(values.size == 2 * LANES * KV_BLOCK_TOKENS && 2 * block.steps * UNIT <= KV_BLOCK_TOKENS, "one block");
    assert!(block.scores.len() >= PANELS * columns, "every panel has scores");
    assert!(block.weights.len() >= columns * KV_BLOCK_TOKENS / 2, "every column has weights");
    assert!(block.gathered.len() >= columns * block.padded && block.padded >= values.count * LANES, "shapes fit");
    let mut panel = 0;
    while panel < keys.count {
        panel +=
            if keys.count - panel >= 4 { keys_of::<4>(&mut block, panel) } else { keys_of::<1>(&mut block, panel) };
    }
    weigh_bf16(&mut block, columns);
    let mut panel = 0;
    while panel < values.count {
        let left = values.count - panel;
        panel += if left >= 4 { values_of::<4>(&mut block, panel) } else { values_of::<1>(&mut block, panel) };
    }
}

/// All columns past `P` panels of keys from `panel` on; returns `P`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn keys_of<const P: usize>(block: &mut Block<'_>, panel: usize) -> usize {
    let (keys, columns, queries) = (block.keys, block.columns, block.queries);
    let panels = neighbours::<P>(keys.bytes, keys.size, panel);
    let ahead = Ahead::of(panels, Some(block.next.map_or(panels[0], |(next, _)| &next[panel * keys.size..])));
    let out = &mut block.scores[(block.first_panel + panel) * columns..][..P * columns];
    in_fours!(columns, scores<P>(panels, queries, columns, out, ahead));
    P
}

/// All columns past `P` panels of values from `panel` on; returns `P`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn values_of<const P: usize>(block: &mut Block<'_>, panel: usize) -> usize {
    let (values, columns) = (block.values, block.columns);
    let panels = neighbours::<P>(values.bytes, values.size, panel);
    let ahead = Ahead::of(panels, Some(block.next.map_or(panels[0], |(_, next)| &next[panel * values.size..])));
    let (weights, out) = (&block.weights[..block.steps * UNIT * columns], &mut block.gathered[panel * LANES..]);
    in_fours!(columns, add_values<P>(panels, weights, columns, out, block.padded, ahead));
    P
}

/// The scores of `C` columns of `stride` and `P` panels of keys.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn scores<const C: usize, const P: usize>(
    first: usize,
    panels: [&[u8]; P],
    queries: &[u32],
    stride: usize,
    out: &mut [[f32; LANES]],
    ahead: Ahead<P>,
) {
    let mut sums = [[_mm512_setzero_ps(); C]; P];
    for (word, queries) in queries.chunks_exact(stride).enumerate() {
        if first == 0 {
            ahead.ask(WORD_BYTES * word, WORD_BYTES);
        }
        let columns: &[u32; C] = head(&queries[first..]);
        add(&mut sums, panels, word, columns);
    }
    for (out, sums) in out.chunks_exact_mut(stride).zip(sums) {
        out[first..].iter_mut().zip(sums).for_each(|(out, sum)| store_floats(out, sum));
    }
}

/// Adds the products of `C` columns' weights and `P` panels of values to what is in `out`, where columns lie `apart`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn add_values<const C: usize, const P: usize>(
    first: usize,
    panels: [&[u8]; P],
    weights: &[u32],
    stride: usize,
    out: &mut [f32],
    apart: usize,
    ahead: Ahead<P>,
) {
    let mut sums = [[_mm512_setzero_ps(); C]; P];
    for c in 0..C {
        let out = out[(first + c) * apart..].as_chunks().0;
        sums.iter_mut().zip(out).for_each(|(sums, out)| sums[c] = load_floats(out));
    }
    for (unit, weights) in weights.chunks_exact(UNIT * stride).enumerate() {
        let columns: &[[u32; UNIT]; C] = head(&weights.as_chunks().0[first..]);
        for j in 0..UNIT {
            if first == 0 {
                ahead.ask(WORD_BYTES * (UNIT * unit + j), WORD_BYTES);
            }
            add(&mut sums, panels, UNIT * unit + j, &columns.each_ref().map(|column| column[j]));
        }
    }
    for c in 0..C {
        let out = out[(first + c) * apart..].as_chunks_mut().0;
        sums.iter().zip(out).for_each(|(sums, out)| store_floats(out, sums[c]));
    }
}

/// Adds the products of a word of every panel and one of every column.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn add<const C: usize, const P: usize>(
    sums: &mut [[__m512; C]; P],
    panels: [&[u8]; P],
    word: usize,
    columns: &[u32; C],
) {
    let mut rows = [as_bf16(_mm512_setzero_si512()); P];
    for (rows, panel) in rows.iter_mut().zip(panels) {
        *rows = as_bf16(load(head(&panel[WORD_BYTES * word..])));
    }
    for (c, x) in columns.iter().enumerate() {
        let x = as_bf16(_mm512_set1_epi32(x.cast_signed()));
        sums.iter_mut().zip(rows).for_each(|(sums, rows)| sums[c] = _mm512_dpbf16_ps(sums[c], rows, x));
    }
}
