//! Up to sixteen queries past one block of keys and values in BF16, see [`crate::attention`], with products in f32: for
//! processors without products of BF16, and for Intel's, which have them at half that rate.
//!
//! Four panels at a time: a broadcast number feeds them all, and with the two queries of a group there are eight sums
//! that do not wait for each other. Nothing but keys and values is rounded. It stands beside `causal_bf16`: one text
//! for both, by a macro, took a quarter longer in f32 (`docs/decisions/0028-avx512-without-bf16.md`).

use std::arch::x86_64::*;

use super::super::Ahead;
use super::causal::{UNIT, in_fours, neighbours, weigh_f32};
use super::floats::{self, even, odd};
use super::{head, load, load_floats, store_floats};
use crate::KV_BLOCK_TOKENS;
use crate::attention::Block;
use crate::layout::LANES;

/// Bytes of sixteen rows and one word.
const WORD_BYTES: usize = 4 * LANES;

#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
pub(super) fn block(mut block: Block<'_>) {
    let (keys, values) = (block.keys, block.values);
    block.assert_is_f32_on_bf16();
    let mut panel = 0;
    while panel < keys.count {
        panel +=
            if keys.count - panel >= 4 { keys_of::<4>(&mut block, panel) } else { keys_of::<1>(&mut block, panel) };
    }
    weigh_f32(&mut block);
    let mut panel = 0;
    while panel < values.count {
        let left = values.count - panel;
        panel += if left >= 4 { values_of::<4>(&mut block, panel) } else { values_of::<1>(&mut block, panel) };
    }
}

/// All columns past `P` panels of keys from `panel` on; returns `P`.
#[target_feature(enable = "avx512f")]
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
#[target_feature(enable = "avx512f")]
#[inline]
fn values_of<const P: usize>(block: &mut Block<'_>, panel: usize) -> usize {
    let (values, columns) = (block.values, block.columns);
    let panels = neighbours::<P>(values.bytes, values.size, panel);
    let ahead = Ahead::of(panels, Some(block.next.map_or(panels[0], |(_, next)| &next[panel * values.size..])));
    let (weights, out) = (&block.weights[..columns * KV_BLOCK_TOKENS], &mut block.gathered[panel * LANES..]);
    in_fours!(columns, add_values<P>(panels, (weights, block.steps), out, block.padded, ahead));
    P
}

/// The scores of `C` columns of `stride` and `P` panels of keys.
#[target_feature(enable = "avx512f")]
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
    for (word, queries) in queries.chunks_exact(2 * stride).enumerate() {
        if first == 0 {
            ahead.ask(WORD_BYTES * word, WORD_BYTES);
        }
        let (left, right) = queries.split_at(stride);
        add(&mut sums, panels, word, head(&left[first..]), head(&right[first..]));
    }
    for (out, sums) in out.chunks_exact_mut(stride).zip(sums) {
        out[first..].iter_mut().zip(sums).for_each(|(out, sum)| store_floats(out, sum));
    }
}

/// Adds the products of `C` columns' weights and `P` panels of values to what is in `out`, where columns lie `apart`.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_values<const C: usize, const P: usize>(
    first: usize,
    panels: [&[u8]; P],
    (weights, steps): (&[u32], usize),
    out: &mut [f32],
    apart: usize,
    ahead: Ahead<P>,
) {
    let mut sums = [[_mm512_setzero_ps(); C]; P];
    for c in 0..C {
        let out = out[(first + c) * apart..].as_chunks().0;
        sums.iter_mut().zip(out).for_each(|(sums, out)| sums[c] = load_floats(out));
    }
    let columns: &[[u32; KV_BLOCK_TOKENS]; C] = head(&weights.as_chunks().0[first..]);
    for word in 0..(steps * UNIT).min(KV_BLOCK_TOKENS / 2) {
        if first == 0 {
            ahead.ask(WORD_BYTES * word, WORD_BYTES);
        }
        let (mut left, mut right) = ([0; C], [0; C]);
        for ((left, right), column) in left.iter_mut().zip(&mut right).zip(columns) {
            [*left, *right] = *head(&column[2 * word..]);
        }
        add(&mut sums, panels, word, &left, &right);
    }
    for c in 0..C {
        let out = out[(first + c) * apart..].as_chunks_mut().0;
        sums.iter().zip(out).for_each(|(sums, out)| store_floats(out, sums[c]));
    }
}

/// Adds the products of both numbers of a word of every panel and those of every column.
#[target_feature(enable = "avx512f")]
#[inline]
fn add<const C: usize, const P: usize>(
    sums: &mut [[__m512; C]; P],
    panels: [&[u8]; P],
    word: usize,
    left: &[u32; C],
    right: &[u32; C],
) {
    let mut words = [_mm512_setzero_si512(); P];
    for (words, panel) in words.iter_mut().zip(panels) {
        *words = load(head(&panel[WORD_BYTES * word..]));
    }
    let mut rows = [_mm512_setzero_ps(); P];
    rows.iter_mut().zip(words).for_each(|(rows, words)| *rows = even(words));
    floats::add(sums, rows, left);
    rows.iter_mut().zip(words).for_each(|(rows, words)| *rows = odd(words));
    floats::add(sums, rows, right);
}
