//! Panels of quantised weights times tiles of int8 activations.
//!
//! `vpdpbusd` multiplies unsigned bytes with signed ones: weights as most formats store them, a number above what they
//! are, and activations. A column's sum of a block begins at minus that number times the sum of its activations, which
//! is packed beside them, so that weights are unpacked and no more. And it begins [`START`] above that, so that it is a
//! float when it is done: ten instructions for a block of a column, eight of which are products.
//!
//! Eight columns at most meet a block while its weights are in registers. For many, a group of blocks is unpacked once,
//! and stays in the first-level cache for all of them; with nine that pays already. See
//! `docs/decisions/0026-prompts-without-tiles.md` and `0027-the-order-of-tiles.md`.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::hint::black_box;

use super::super::blocks::{
    BEGIN, BEGIN_HIGH, BEGIN_LOW, Q4, Q4K, Q5K, Q6K, Q8, SCALE, SCALED_SUM, STEP, lines, step_bytes,
};
use super::super::{Ahead, Panels, Products, ask_near};
use super::quantised::{unsigned, unsigned_unit};
use super::{head, load, load_floats, store_floats};
use crate::activations::{I8_WORDS, START, TILE, Tile};
use crate::layout::{BLOCK, LANES};
use crate::table::SIDE_BY_SIDE;

/// Columns that meet weights in registers.
const FEW: usize = 8;
/// Blocks that are unpacked before many columns meet them.
const GROUP: usize = 8;

macro_rules! kernels {
    ($($layout:ident $name:ident $side_by_side:ident $many:ident;)*) => {$(
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
        pub(in super::super) fn $name(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            in_fews::<$layout>(panel, tile, out);
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
        pub(super) fn $side_by_side(panels: Panels<'_>, tile: Tile<'_>, out: &mut Products) {
            side_by_side::<$layout>(panels, tile, out);
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
        pub(in super::super) fn $many(panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]) {
            let (columns, size) = (tiles.len() / words, panels.len() * (tiles.len() / words) / out.len());
            for (panel, out) in panels.chunks_exact(size).zip(out.chunks_exact_mut(columns)) {
                many::<$layout>(panel, words, tiles, out);
            }
        }
    )*};
}

kernels! {
    Q8 q8 q8_side_by_side q8_many;
    Q4 q4 q4_side_by_side q4_many;
    Q4K q4_k q4_k_side_by_side q4_k_many;
    Q5K q5_k q5_k_side_by_side q5_k_many;
    Q6K q6_k q6_k_side_by_side q6_k_many;
}

/// What a block's sums are multiplied by, in registers.
#[derive(Clone, Copy)]
struct Factors {
    /// Of both halves, the same but in Q6K.
    scale: [__m512; 2],
    /// [`START`] times the first of them.
    start: __m512,
    /// Of Q4K and Q5K.
    minimum: __m512,
}

/// [`Factors`] in memory.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Kept {
    scale: [[f32; LANES]; 2],
    start: [f32; LANES],
    minimum: [f32; LANES],
}

/// A group of blocks.
#[repr(align(4096))]
struct Group {
    weights: [[u8; LANES * BLOCK]; GROUP],
    factors: [Kept; GROUP],
    /// What is asked for meanwhile, and where the group is in its panel.
    from: Option<(Ahead<1>, usize)>,
}

impl Group {
    const NEW: Self = {
        let zero = [0.0; LANES];
        let kept = Kept { scale: [zero; 2], start: zero, minimum: zero };
        Self { weights: [[0; LANES * BLOCK]; GROUP], factors: [kept; GROUP], from: None }
    };
}

/// All columns of a tile, a few at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn in_fews<const L: u8>(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    assert_eq!(out.len(), tile.stride, "there is an output for every column");
    for (out, first) in out.chunks_mut(FEW).zip((0..).step_by(FEW)) {
        match out.len() {
            1 => few::<L, 1>(panel, tile, first, out),
            2 => few::<L, 2>(panel, tile, first, out),
            3 => few::<L, 3>(panel, tile, first, out),
            4 => few::<L, 4>(panel, tile, first, out),
            5 => few::<L, 5>(panel, tile, first, out),
            6 => few::<L, 6>(panel, tile, first, out),
            7 => few::<L, 7>(panel, tile, first, out),
            _ => few::<L, FEW>(panel, tile, first, out),
        }
    }
}

/// `C` columns of a tile from `first` on, whose totals stay in registers as well.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn few<const L: u8, const C: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let mut totals = [_mm512_setzero_ps(); C];
    let ahead = Ahead::of([panel], tile.next);
    for (b, words) in tile.words.chunks_exact(I8_WORDS * tile.stride).enumerate() {
        if b.is_multiple_of(STEP) {
            ahead.ask(b / STEP * step_bytes::<L>(), step_bytes::<L>());
        }
        let columns: &[[u32; I8_WORDS]; C] = head(&words.as_chunks().0[first..]);
        let (q, factors) = block::<L>(panel, b);
        for (column, total) in columns.iter().zip(&mut totals) {
            let mut sums = begin::<L>(column);
            for (j, q) in q.into_iter().enumerate() {
                // One column by itself has two sums, whose products do not wait for each other.
                let half = if L == Q6K || C == 1 { j / 4 } else { 0 };
                sums[half] = _mm512_dpbusd_epi32(sums[half], q, word(column, j));
            }
            if L != Q6K && C == 1 {
                sums[0] = _mm512_add_epi32(sums[0], sums[1]);
            }
            *total = add::<L>(*total, sums, &factors, column);
        }
    }
    out.iter_mut().zip(totals).for_each(|(out, total)| store_floats(out, total));
}

/// One column, a block of it and of each panel in turns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn side_by_side<const L: u8>(panels: Panels<'_>, tile: Tile<'_>, out: &mut Products) {
    let mut totals = [_mm512_setzero_ps(); SIDE_BY_SIDE];
    for (b, column) in tile.words.as_chunks().0.iter().enumerate() {
        for (panel, total) in panels.iter().zip(&mut totals) {
            let ((_, factors), lines) = (block::<L>(panel, b), lines::<L>(panel, b));
            let mut sums = begin::<L>(column);
            for u in 0..BLOCK / 4 {
                if let Some(line) = lines.get(u) {
                    ask_near(line);
                }
                // Two sums, whose products do not wait for each other.
                sums[u / 4] = _mm512_dpbusd_epi32(sums[u / 4], unsigned_unit::<L>(lines, u), word(column, u));
            }
            if L != Q6K {
                sums[0] = _mm512_add_epi32(sums[0], sums[1]);
            }
            // The compiler would read all panels first, for which there are no registers.
            *total = black_box(add::<L>(*total, sums, &factors, column));
        }
    }
    out.iter_mut().zip(totals).for_each(|(out, total)| store_floats(out, total));
}

/// All columns of neighbouring tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
fn many<const L: u8>(panel: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]) {
    thread_local! {
        static GROUP_OF_BLOCKS: RefCell<Group> = const { RefCell::new(Group::NEW) };
    }
    let (blocks, columns) = (words / I8_WORDS, out.len());
    assert_eq!(columns * words, tiles.len(), "there is an output for every column");
    let ahead = Ahead::of([panel], None);
    GROUP_OF_BLOCKS.with_borrow_mut(|group| {
        for start in (0..blocks).step_by(GROUP) {
            let count = GROUP.min(blocks - start);
            // Few columns ask for what is unpacked later, some lines a block: all at once would wait longer than they
            // take.
            let mut asks = columns <= TILE;
            if !asks {
                ahead.ask(start / STEP * step_bytes::<L>(), count.div_ceil(STEP) * step_bytes::<L>());
            }
            for (i, (weights, kept)) in group.weights.iter_mut().zip(&mut group.factors).enumerate().take(count) {
                let (q, factors) = block::<L>(panel, start + i);
                keep::<L>(q, &factors, weights, kept);
            }
            group.from = Some((ahead, start / STEP * step_bytes::<L>()));
            for (tile, out) in tiles.chunks(TILE * words).zip(out.chunks_mut(TILE)) {
                let stride = out.len();
                let tile = &tile[start * I8_WORDS * stride..][..count * I8_WORDS * stride];
                let mut c = 0;
                while c < stride {
                    let (out, words) = (&mut out[c..], &tile[c * I8_WORDS..]);
                    let is_first = start == 0;
                    c += match (stride - c, std::mem::take(&mut asks)) {
                        (8.., true) => add_products::<L, 8, true>(group, words, stride, is_first, out),
                        (8.., false) => add_products::<L, 8, false>(group, words, stride, is_first, out),
                        (4.., _) => add_products::<L, 4, false>(group, words, stride, is_first, out),
                        (2.., _) => add_products::<L, 2, false>(group, words, stride, is_first, out),
                        _ => add_products::<L, 1, false>(group, words, stride, is_first, out),
                    };
                }
            }
        }
    });
}

/// Adds the products of `C` columns of a tile of `stride` and the blocks of a group to their totals, which begin with
/// the first group; returns `C`. Not inlined: the totals would leave the registers. What `ASKS` takes is in the group:
/// an argument more costs all others a twentieth.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline(never)]
fn add_products<const L: u8, const C: usize, const ASKS: bool>(
    group: &Group,
    words: &[u32],
    stride: usize,
    is_first: bool,
    out: &mut [[f32; LANES]],
) -> usize {
    let out: &mut [[f32; LANES]; C] = out.first_chunk_mut().expect("columns have outputs");
    let mut totals = [_mm512_setzero_ps(); C];
    if !is_first {
        totals.iter_mut().zip(&*out).for_each(|(total, out)| *total = load_floats(out));
    }
    let mut block = 0;
    for ((words, weights), kept) in words.chunks(I8_WORDS * stride).zip(&group.weights).zip(&group.factors) {
        if ASKS && let Some((ahead, at)) = &group.from {
            if block % STEP == 0 {
                ahead.ask(at + block / STEP * step_bytes::<L>(), step_bytes::<L>());
            }
            block += 1;
        }
        let columns: &[[u32; I8_WORDS]; C] = head(words.as_chunks().0);
        let mut sums = [[_mm512_setzero_si512(); 2]; C];
        sums.iter_mut().zip(columns).for_each(|(sums, column)| *sums = begin::<L>(column));
        for (j, q) in weights.as_chunks().0.iter().enumerate() {
            let (q, half) = (load(q), if L == Q6K { j / 4 } else { 0 });
            // Each word is one product's operand: broadcasting it is part of that instruction.
            for (sums, column) in sums.iter_mut().zip(columns) {
                sums[half] = _mm512_dpbusd_epi32(sums[half], q, word(column, j));
            }
        }
        let factors = kept.factors();
        for ((total, sums), column) in totals.iter_mut().zip(sums).zip(columns) {
            *total = add::<L>(*total, sums, &factors, column);
        }
    }
    out.iter_mut().zip(totals).for_each(|(out, total)| store_floats(out, total));
    C
}

/// Block `b` of a panel, its numbers unsigned.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn block<const L: u8>(panel: &[u8], b: usize) -> ([__m512i; 8], Factors) {
    let (q, scale, minimum) = unsigned::<L>(panel, b);
    let start = _mm512_mul_ps(scale[0], _mm512_castsi512_ps(_mm512_set1_epi32(START)));
    (q, Factors { scale, start, minimum })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn keep<const L: u8>(q: [__m512i; 8], factors: &Factors, weights: &mut [u8; LANES * BLOCK], kept: &mut Kept) {
    for (q, out) in q.into_iter().zip(weights.as_chunks_mut::<64>().0) {
        // SAFETY: 64 bytes are there, and the store needs no alignment.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), q) };
    }
    store_floats(&mut kept.scale[0], factors.scale[0]);
    store_floats(&mut kept.start, factors.start);
    if L == Q6K {
        store_floats(&mut kept.scale[1], factors.scale[1]);
    }
    if L == Q4K || L == Q5K {
        store_floats(&mut kept.minimum, factors.minimum);
    }
}

impl Kept {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn factors(&self) -> Factors {
        Factors {
            scale: [load_floats(&self.scale[0]), load_floats(&self.scale[1])],
            start: load_floats(&self.start),
            minimum: load_floats(&self.minimum),
        }
    }
}

/// What the sums of both halves begin at.
#[target_feature(enable = "avx512f")]
#[inline]
fn begin<const L: u8>(column: &[u32; I8_WORDS]) -> [__m512i; 2] {
    match L {
        Q4K | Q5K => [_mm512_set1_epi32(START), _mm512_setzero_si512()],
        Q6K => [word(column, BEGIN_LOW), word(column, BEGIN_HIGH)],
        _ => [word(column, BEGIN), _mm512_setzero_si512()],
    }
}

/// The total with a block's products.
#[target_feature(enable = "avx512f")]
#[inline]
fn add<const L: u8>(total: __m512, sums: [__m512i; 2], factors: &Factors, column: &[u32; I8_WORDS]) -> __m512 {
    let float = |at: usize| _mm512_castsi512_ps(word(column, at));
    let mut product = _mm512_fmsub_ps(_mm512_castsi512_ps(sums[0]), factors.scale[0], factors.start);
    if L == Q6K {
        product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[1]), factors.scale[1], product);
    }
    let total = _mm512_fmadd_ps(product, float(SCALE), total);
    if L == Q4K || L == Q5K { _mm512_fnmadd_ps(factors.minimum, float(SCALED_SUM), total) } else { total }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn word(column: &[u32; I8_WORDS], at: usize) -> __m512i {
    _mm512_set1_epi32(column[at].cast_signed())
}
