//! An encoder's attention: thirty-two queries of a head past all blocks of its keys, see [`crate::encoder`].

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::avx512::causal::exp2;
use super::super::avx512::{load_floats, pack, store_floats};
use super::super::blocks::blocks;
use super::tiles::{Four, Tiles, WORDS};
use crate::activations::TILE;
use crate::encoder::{Blocks, HeadRows, KEYS, QUERIES, Work};
use crate::layout::{BLOCK, LANES};

/// Words of sixteen rows of 32 numbers.
const UNIT: usize = LANES * WORDS;
/// The score of a key that does not exist: its weight is zero, and no difference with it is NaN.
const HIDDEN: f32 = -1e30;

/// Keys and values of the rows `rows` as one block.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack(keys: HeadRows<'_>, values: HeadRows<'_>, rows: Range<usize>, out: &mut [u32]) {
    if rows.len() < KEYS {
        out.fill(0);
    }
    let d = out.len() / KEYS;
    let (key_panels, value_panels) = out.split_at_mut(KEYS * d / 2);
    for (r, row) in rows.clone().filter_map(|row| keys.row(row)).enumerate() {
        let panel = &mut key_panels[r / LANES * (d / 2 * LANES)..][..d / 2 * LANES];
        for (x, panel) in blocks(row).zip(panel.chunks_exact_mut(UNIT)) {
            for (word, panel) in pack::bf16_words(&x).into_iter().zip(panel.chunks_exact_mut(LANES)) {
                panel[r % LANES] = word;
            }
        }
    }
    let end = rows.end;
    for (pair, first) in rows.step_by(2).enumerate() {
        let second = if first + 1 < end { values.row(first + 1) } else { None };
        let Some(first) = values.row(first) else { break };
        for (block, x) in blocks(first).enumerate() {
            let y = second.and_then(|second| blocks(second).nth(block)).unwrap_or_default();
            let halves = x.as_chunks::<LANES>().0.iter().zip(y.as_chunks::<LANES>().0);
            for (half, (x, y)) in halves.enumerate() {
                let at = (2 * block + half) * (KEYS / 2 * LANES) + pair * LANES;
                store_words(&mut value_panels[at..], interleaved(x, y));
            }
        }
    }
}

/// Words of a number of `low` and one of `high`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn interleaved(low: &[f32; LANES], high: &[f32; LANES]) -> __m512i {
    let [low, high] = [low, high].map(|x| _mm512_cvtepu16_epi32(as_bits(_mm512_cvtneps_pbh(load_floats(x)))));
    _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
}

#[inline]
fn as_bits(x: __m256bh) -> __m256i {
    // SAFETY: both are 32 bytes, and any bits are valid for either.
    unsafe { std::mem::transmute::<__m256bh, __m256i>(x) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_words(out: &mut [u32], words: __m512i) {
    let out: &mut [u32; LANES] = out.first_chunk_mut().expect("there is room for a register");
    // SAFETY: there is room for sixteen words, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) }
}

/// The queries from row `first` on; those behind the last row are zeros. What comes out is in `work.total`.
///
/// # Safety
/// The processor has AMX, and [`super::is_permitted`] has said yes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn attend(queries: HeadRows<'_>, first: usize, blocks: Blocks<'_>, work: &mut Work<'_>) {
    let (d, units) = (blocks.d, blocks.d / BLOCK);
    let panels = d / LANES;
    assert!(d.is_multiple_of(BLOCK) && work.queries.len() == QUERIES * d / 2, "shapes fit");
    assert!(work.scores.len() == KEYS / LANES * QUERIES && work.weights.len() == QUERIES * KEYS / 2, "shapes fit");
    assert!(work.part.len() == panels * QUERIES && work.total.len() == panels * QUERIES, "shapes fit");
    assert!(blocks.words.len() == blocks.count.div_ceil(KEYS) * KEYS * d, "shapes fit");
    pack_queries(queries, first, d, work.queries);
    work.total.as_flattened_mut().fill(0.0);
    let mut limits = Limits { largest: [f32::NEG_INFINITY; QUERIES], sums: [[0.0; LANES]; QUERIES] };
    // SAFETY: the caller's promise.
    let registers = unsafe { Tiles::new(TILE, 0) };
    for (index, block) in blocks.words.chunks_exact(KEYS * d).enumerate() {
        let keys = (blocks.count - index * KEYS).min(KEYS);
        let steps = keys.div_ceil(BLOCK);
        let (key_panels, value_panels) = block.split_at(KEYS * d / 2);
        let key_panels = key_panels.chunks_exact(BLOCK * d / 2);
        for (w, out) in key_panels.zip(work.scores.chunks_exact_mut(2 * QUERIES)).take(steps) {
            let (first, second) = out.split_at_mut(QUERIES);
            let call = Four {
                x: [work.queries.as_ptr(), work.queries[units * UNIT..].as_ptr()],
                w: [w.as_ptr().cast(), w[LANES * d / 2..].as_ptr().cast()],
                units,
                out: Four::outs(first, second),
                out_row: 4 * LANES,
            };
            // SAFETY: both tiles have `units` units of sixteen queries, each panel as many of sixteen keys, and each
            // output has two tiles of scores.
            unsafe { registers.four::<false>(call) };
        }
        let scores = &mut work.scores[..2 * steps * QUERIES];
        hide(scores, keys);
        let factors = limits.weigh(scores, blocks.scale, work.weights);
        let outs = work.part.chunks_exact_mut(2 * QUERIES);
        for (w, out) in value_panels.chunks_exact(KEYS * LANES).zip(outs) {
            let (first, second) = out.split_at_mut(QUERIES);
            let call = Four {
                x: [work.weights.as_ptr(), work.weights[KEYS / BLOCK * UNIT..].as_ptr()],
                w: [w.as_ptr().cast(), w[KEYS / 2 * LANES..].as_ptr().cast()],
                units: steps,
                out: Four::outs(first, second),
                out_row: 4 * LANES,
            };
            // SAFETY: both tiles have `steps` units of sixteen queries, each panel room for as many keys, and each
            // output has two tiles of sums.
            unsafe { registers.four::<false>(call) };
        }
        join(work.total, work.part, &factors);
    }
    let inverses = limits.sums.map(|sum| 1.0 / _mm512_reduce_add_ps(load_floats(&sum)));
    for total in work.total.chunks_exact_mut(QUERIES) {
        for (total, inverse) in total.iter_mut().zip(inverses) {
            store_floats(total, _mm512_mul_ps(load_floats(total), _mm512_set1_ps(inverse)));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn pack_queries(queries: HeadRows<'_>, first: usize, d: usize, out: &mut [u32]) {
    for (tile, out) in out.chunks_exact_mut(TILE * d / 2).enumerate() {
        for r in 0..TILE {
            let row = queries.row(first + tile * TILE + r).unwrap_or_default();
            for (block, out) in out.chunks_exact_mut(UNIT).enumerate() {
                let x = blocks(row).nth(block).unwrap_or_default();
                out[r * WORDS..][..WORDS].copy_from_slice(&pack::bf16_words(&x));
            }
        }
    }
}

/// Takes keys behind the last one out of the scores `[panels][QUERIES]`.
fn hide(scores: &mut [[f32; LANES]], keys: usize) {
    for (panel, scores) in scores.chunks_exact_mut(QUERIES).enumerate().skip(keys / LANES) {
        let seen = keys.saturating_sub(panel * LANES);
        scores.iter_mut().for_each(|scores| scores[seen..].fill(HIDDEN));
    }
}

/// `total = total * factor + part` for each query.
#[target_feature(enable = "avx512f")]
#[inline]
fn join(total: &mut [[f32; LANES]], part: &[[f32; LANES]], factors: &[f32; QUERIES]) {
    for (total, part) in total.chunks_exact_mut(QUERIES).zip(part.chunks_exact(QUERIES)) {
        for ((total, part), factor) in total.iter_mut().zip(part).zip(factors) {
            let sum = _mm512_fmadd_ps(load_floats(total), _mm512_set1_ps(*factor), load_floats(part));
            store_floats(total, sum);
        }
    }
}

/// The online softmax of each query.
struct Limits {
    /// Largest score so far.
    largest: [f32; QUERIES],
    /// Sums of weights, of each sixteenth key.
    sums: [[f32; LANES]; QUERIES],
}

impl Limits {
    /// Weights of the scores `[panels][QUERIES]` of a block, rounded to BF16 before they are summed; what was gathered
    /// before has to be multiplied with the factors.
    #[target_feature(enable = "avx512f,avx512dq,avx512bf16")]
    #[inline]
    fn weigh(&mut self, scores: &[[f32; LANES]], scale: f32, weights: &mut [u32]) -> [f32; QUERIES] {
        // In powers of two.
        let scale = scale * std::f32::consts::LOG2_E;
        let mut highest = [0.0; QUERIES];
        for (c, highest) in highest.iter_mut().enumerate() {
            let mut high = load_floats(&scores[c]);
            for scores in scores[c..].iter().skip(QUERIES).step_by(QUERIES) {
                high = _mm512_max_ps(high, load_floats(scores));
            }
            *highest = _mm512_reduce_max_ps(high);
        }
        let mut factors = [0.0; QUERIES];
        let largest = self.largest.as_chunks_mut::<LANES>().0.iter_mut();
        let lanes = largest.zip(highest.as_chunks::<LANES>().0).zip(factors.as_chunks_mut::<LANES>().0);
        for ((largest, highest), factors) in lanes {
            let old = _mm512_max_ps(load_floats(largest), _mm512_set1_ps(HIDDEN));
            let new = _mm512_max_ps(old, load_floats(highest));
            store_floats(factors, exp2(_mm512_mul_ps(_mm512_sub_ps(old, new), _mm512_set1_ps(scale))));
            store_floats(largest, new);
        }
        let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
        for (tile, weights) in weights.chunks_exact_mut(KEYS / BLOCK * UNIT).enumerate() {
            for r in 0..TILE {
                let c = tile * TILE + r;
                let (factor, shift) = (_mm512_set1_ps(scale), _mm512_set1_ps(self.largest[c] * scale));
                let mut sum = _mm512_mul_ps(load_floats(&self.sums[c]), _mm512_set1_ps(factors[c]));
                for (scores, weights) in scores.chunks_exact(2 * QUERIES).zip(weights.chunks_exact_mut(UNIT)) {
                    let [low, high] = [&scores[c], &scores[QUERIES + c]]
                        .map(|scores| exp2(_mm512_fmsub_ps(load_floats(scores), factor, shift)));
                    let pairs = as_words(_mm512_cvtne2ps_pbh(high, low));
                    let [even, odd] = [_mm512_slli_epi32::<16>(pairs), _mm512_and_si512(pairs, upper)];
                    sum = _mm512_add_ps(sum, _mm512_add_ps(_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)));
                    store_words(&mut weights[r * WORDS..], pairs);
                }
                store_floats(&mut self.sums[c], sum);
            }
        }
        factors
    }
}

#[inline]
fn as_words(x: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes, and any bits are valid for either.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(x) }
}
