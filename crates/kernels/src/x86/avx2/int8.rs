//! Panels of quantised weights times tiles of int8 activations.
//!
//! Products of bytes come from `vpmaddubsw`, which multiplies unsigned with signed bytes and adds neighbours in
//! sixteen bits. Of numbers of four bits eight such sums fit sixteen bits, of five bits four and of six bits two; they
//! are added there before `vpmaddwd` widens them. Numbers of eight bits take the sign trick, `|w| * (x with w's sign)`,
//! whose sums of two are at most `2 * 128 * 127 = 32,512`. As with AVX-512, sums begin at [`START`] less what the
//! offset of the weights makes of the activations, so that they are floats when they are done; and many columns meet a
//! group of blocks that was unpacked into the first-level cache. See `docs/decisions/0029-prompts-in-avx2.md`.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::hint::black_box;

use super::super::blocks::{BEGIN, BEGIN_HIGH, BEGIN_LOW, Q4, Q4K, Q5K, Q6K, Q8, SCALE, SCALED_SUM, STEP, step_bytes};
use super::super::{Ahead, Panels, Products};
use super::quantised::{self, Factors};
use super::{head, load, load_floats, store, store_floats};
use crate::activations::{I8_WORDS, START, TILE, Tile};
use crate::layout::{BLOCK, LANES};
use crate::table::SIDE_BY_SIDE;

/// Blocks that are unpacked before many columns meet them.
const GROUP: usize = 8;

macro_rules! kernels {
    ($($layout:ident $name:ident $side_by_side:ident $many:ident $body:ident;)*) => {$(
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(super) fn $name(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            in_fews::<$layout>(panel, tile, out);
        }

        #[target_feature(enable = "avx2,fma,f16c")]
        pub(super) fn $side_by_side(panels: Panels<'_>, tile: Tile<'_>, out: &mut Products) {
            side_by_side::<$layout>(panels, tile, out);
        }

        #[target_feature(enable = "avx2,fma,f16c")]
        pub(super) fn $many(panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]) {
            let (columns, size) = (tiles.len() / words, panels.len() * (tiles.len() / words) / out.len());
            for (panel, out) in panels.chunks_exact(size).zip(out.chunks_exact_mut(columns)) {
                $body::<$layout>(panel, words, tiles, out);
            }
        }
    )*};
}

kernels! {
    Q8 q8 q8_side_by_side q8_many many_in_fews;
    Q4 q4 q4_side_by_side q4_many many;
    Q4K q4_k q4_k_side_by_side q4_k_many many;
    Q5K q5_k q5_k_side_by_side q5_k_many many;
    Q6K q6_k q6_k_side_by_side q6_k_many many_in_fews;
}

/// The units of a block, as [`quantised::Block::unit`] has them.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Unpacked([[u8; 64]; BLOCK / 4]);

/// [`Factors`] in memory, of layouts that have one scale.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Kept {
    scale: [f32; LANES],
    start: [f32; LANES],
    minimum: [f32; LANES],
}

/// A group of blocks.
#[repr(align(4096))]
struct Group {
    weights: [Unpacked; GROUP],
    factors: [Kept; GROUP],
}

impl Unpacked {
    const NEW: Self = Self([[0; 64]; BLOCK / 4]);
}

impl Group {
    const NEW: Self = {
        let zero = [0.0; LANES];
        let kept = Kept { scale: zero, start: zero, minimum: zero };
        Self { weights: [Unpacked::NEW; GROUP], factors: [kept; GROUP] }
    };
}

/// All columns of a tile, a few at a time.
#[target_feature(enable = "avx2,fma,f16c")]
fn in_fews<const L: u8>(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    let mut first = 0;
    while first < out.len() {
        let out = &mut out[first..];
        first += match out.len() {
            8.. if L == Q5K || L == Q6K => eight::<L>(panel, tile, first, out),
            4.. => few::<L, 4>(panel, tile, first, out),
            2.. => few::<L, 2>(panel, tile, first, out),
            _ => few::<L, 1>(panel, tile, first, out),
        };
    }
}

/// All columns of neighbouring tiles, a few at a time.
#[target_feature(enable = "avx2,fma,f16c")]
fn many_in_fews<const L: u8>(panel: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]) {
    for (words, out) in tiles.chunks(TILE * words).zip(out.chunks_mut(TILE)) {
        in_fews::<L>(panel, Tile { words, stride: out.len(), next: None }, out);
    }
}

/// `C` columns of a tile from `first` on, whose weights are unpacked on the way; returns `C`.
#[target_feature(enable = "avx2,fma,f16c")]
fn few<const L: u8, const C: usize>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) -> usize {
    let ahead = Ahead::of([panel], tile.next);
    let mut totals = [[_mm256_setzero_ps(); 2]; C];
    for (b, words) in tile.words.chunks_exact(I8_WORDS * tile.stride).enumerate() {
        if first == 0 && b.is_multiple_of(STEP) {
            ahead.ask(b / STEP * step_bytes::<L>(), step_bytes::<L>());
        }
        let columns: &[[u32; I8_WORDS]; C] = head(&words.as_chunks().0[first..]);
        let block = quantised::block::<L>(panel, b);
        let sums = sums_of::<L, C>(|u| block.unit::<L>(u), columns);
        add_all::<L, C>(&mut totals, sums, &quantised::factors::<L>(panel, b), columns);
    }
    out.iter_mut().zip(totals).for_each(|(out, total)| store_floats(out, total));
    C
}

/// One column, a block of it and of each panel in turns.
#[target_feature(enable = "avx2,fma,f16c")]
fn side_by_side<const L: u8>(panels: Panels<'_>, tile: Tile<'_>, out: &mut Products) {
    let mut totals = [[_mm256_setzero_ps(); 2]; SIDE_BY_SIDE];
    for (b, column) in tile.words.as_chunks().0.iter().enumerate() {
        let column = std::array::from_ref(column);
        for (panel, total) in panels.iter().zip(&mut totals) {
            let block = quantised::block::<L>(panel, b);
            let numbers = |u: usize| {
                block.ask_near(u);
                block.unit::<L>(u)
            };
            let (sums, factors) = (sums_of::<L, 1>(numbers, column), quantised::factors::<L>(panel, b));
            add_all::<L, 1>(std::array::from_mut(total), sums, &factors, column);
        }
    }
    out.iter_mut().zip(totals).for_each(|(out, total)| store_floats(out, total));
}

/// Eight columns of a tile from `first` on: each block is unpacked once for them; returns how many they are.
#[target_feature(enable = "avx2,fma,f16c")]
fn eight<const L: u8>(panel: &[u8], tile: Tile<'_>, first: usize, out: &mut [[f32; LANES]]) -> usize {
    let ahead = Ahead::of([panel], tile.next);
    let mut totals = [[[_mm256_setzero_ps(); 2]; 4]; 2];
    let mut weights = Unpacked::NEW;
    for (b, words) in tile.words.chunks_exact(I8_WORDS * tile.stride).enumerate() {
        if first == 0 && b.is_multiple_of(STEP) {
            ahead.ask(b / STEP * step_bytes::<L>(), step_bytes::<L>());
        }
        let columns: &[[u32; I8_WORDS]; 8] = head(&words.as_chunks().0[first..]);
        unpack::<L>(panel, b, &mut weights);
        let factors = quantised::factors::<L>(panel, b);
        for (columns, totals) in columns.as_chunks().0.iter().zip(&mut totals) {
            let sums = sums_of::<L, 4>(|u| load(&weights.0[u]), columns);
            add_all::<L, 4>(totals, sums, &factors, columns);
        }
    }
    out.iter_mut().zip(totals.as_flattened()).for_each(|(out, total)| store_floats(out, *total));
    8
}

/// All columns of neighbouring tiles.
#[target_feature(enable = "avx2,fma,f16c")]
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
            ahead.ask(start / STEP * step_bytes::<L>(), count.div_ceil(STEP) * step_bytes::<L>());
            for (i, (weights, kept)) in group.weights.iter_mut().zip(&mut group.factors).enumerate().take(count) {
                unpack::<L>(panel, start + i, weights);
                kept.keep(&quantised::factors::<L>(panel, start + i));
            }
            for (tile, out) in tiles.chunks(TILE * words).zip(out.chunks_mut(TILE)) {
                let stride = out.len();
                let tile = &tile[start * I8_WORDS * stride..][..count * I8_WORDS * stride];
                let mut c = 0;
                while c < stride {
                    let (out, words) = (&mut out[c..], &tile[c * I8_WORDS..]);
                    let is_first = start == 0;
                    c += match stride - c {
                        4.. => add_products::<L, 4>(group, words, stride, is_first, out),
                        2.. => add_products::<L, 2>(group, words, stride, is_first, out),
                        _ => add_products::<L, 1>(group, words, stride, is_first, out),
                    };
                }
            }
        }
    });
}

/// Unpacks block `b` of a panel.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack<const L: u8>(panel: &[u8], b: usize, out: &mut Unpacked) {
    let block = quantised::block::<L>(panel, b);
    for (u, out) in out.0.iter_mut().enumerate() {
        store(out, block.unit::<L>(u));
    }
}

impl Kept {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn keep(&mut self, factors: &Factors) {
        store_floats(&mut self.scale, factors.scale[0]);
        store_floats(&mut self.start, factors.start);
        store_floats(&mut self.minimum, factors.minimum);
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn factors(&self) -> Factors {
        let scale = [load_floats(&self.scale); 2];
        Factors { scale, start: load_floats(&self.start), minimum: load_floats(&self.minimum) }
    }
}

/// Adds the products of `C` columns of a tile of `stride` and the blocks of a group to their totals, which begin with
/// the first group; returns `C`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn add_products<const L: u8, const C: usize>(
    group: &Group,
    words: &[u32],
    stride: usize,
    is_first: bool,
    out: &mut [[f32; LANES]],
) -> usize {
    let out: &mut [[f32; LANES]; C] = out.first_chunk_mut().expect("columns have outputs");
    let mut totals = [[_mm256_setzero_ps(); 2]; C];
    if !is_first {
        totals.iter_mut().zip(&*out).for_each(|(total, out)| *total = load_floats(out));
    }
    for ((words, weights), kept) in words.chunks(I8_WORDS * stride).zip(&group.weights).zip(&group.factors) {
        let columns: &[[u32; I8_WORDS]; C] = head(words.as_chunks().0);
        let sums = sums_of::<L, C>(|u| load(&weights.0[u]), columns);
        add_all::<L, C>(&mut totals, sums, &kept.factors(), columns);
    }
    out.iter_mut().zip(totals).for_each(|(out, total)| store_floats(out, total));
    C
}

/// The sums of a block's products, of `C` columns: those of the first sixteen columns of the matrix and those of the
/// last ones in Q6K, all of them first elsewhere.
#[target_feature(enable = "avx2")]
#[inline]
fn sums_of<const L: u8, const C: usize>(
    unit: impl Fn(usize) -> [__m256i; 2],
    columns: &[[u32; I8_WORDS]; C],
) -> [[[__m256i; 2]; C]; 2] {
    let mut sums = [[[_mm256_setzero_si256(); 2]; C]; 2];
    // As many units of numbers as fit sixteen bits.
    match L {
        Q8 => add_signed::<C>(&mut sums[0], unit, columns),
        Q5K => {
            add_pairs::<4, C>(&mut sums[0], &unit, 0, columns);
            add_pairs::<4, C>(&mut sums[0], &unit, 4, columns);
        }
        Q6K => {
            add_twos::<C>(&mut sums[0], &unit, 0, columns);
            add_twos::<C>(&mut sums[1], &unit, 4, columns);
        }
        _ => add_pairs::<8, C>(&mut sums[0], &unit, 0, columns),
    }
    for (c, column) in columns.iter().enumerate() {
        let begin = match L {
            Q4 => word(column, BEGIN),
            Q6K => word(column, BEGIN_LOW),
            _ => _mm256_set1_epi32(START),
        };
        sums[0][c] = [_mm256_add_epi32(sums[0][c][0], begin), _mm256_add_epi32(sums[0][c][1], begin)];
        if L == Q6K {
            let begin = word(column, BEGIN_HIGH);
            sums[1][c] = [_mm256_add_epi32(sums[1][c][0], begin), _mm256_add_epi32(sums[1][c][1], begin)];
        }
    }
    sums
}

/// Adds the products of `S` units from `first` on, which are summed in sixteen bits. There is a look at the number of
/// units behind each of them, which costs little: without it the compiler takes all units of one column before those of
/// the next, and so all weights, which are more than there are registers.
#[target_feature(enable = "avx2")]
#[inline]
fn add_pairs<const S: usize, const C: usize>(
    sums: &mut [[__m256i; 2]; C],
    unit: impl Fn(usize) -> [__m256i; 2],
    first: usize,
    columns: &[[u32; I8_WORDS]; C],
) {
    let mut pairs = [[_mm256_setzero_si256(); 2]; C];
    for u in (first..first + S).take(black_box(S)) {
        let q = unit(u);
        for (pairs, column) in pairs.iter_mut().zip(columns) {
            let x = word(column, u);
            for (pairs, q) in pairs.iter_mut().zip(q) {
                *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(q, x));
            }
        }
    }
    for (sums, pairs) in sums.iter_mut().zip(pairs) {
        for (sum, pairs) in sums.iter_mut().zip(pairs) {
            *sum = _mm256_add_epi32(*sum, widened(pairs));
        }
    }
}

/// Adds the products of four units from `first` on, of which two are summed in sixteen bits.
#[target_feature(enable = "avx2")]
#[inline]
fn add_twos<const C: usize>(
    sums: &mut [[__m256i; 2]; C],
    unit: impl Fn(usize) -> [__m256i; 2],
    first: usize,
    columns: &[[u32; I8_WORDS]; C],
) {
    for u in [first, first + 2] {
        let (left, right) = (unit(u), unit(u + 1));
        for (sums, column) in sums.iter_mut().zip(columns) {
            let (x, y) = (word(column, u), word(column, u + 1));
            for (sum, (left, right)) in sums.iter_mut().zip(left.into_iter().zip(right)) {
                let pairs = _mm256_add_epi16(_mm256_maddubs_epi16(left, x), _mm256_maddubs_epi16(right, y));
                *sum = _mm256_add_epi32(*sum, widened(pairs));
            }
        }
    }
}

/// Adds the products of all units of signed numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn add_signed<const C: usize>(
    sums: &mut [[__m256i; 2]; C],
    unit: impl Fn(usize) -> [__m256i; 2],
    columns: &[[u32; I8_WORDS]; C],
) {
    for u in (0..8).take(black_box(8)) {
        let q = unit(u);
        let sizes = [_mm256_abs_epi8(q[0]), _mm256_abs_epi8(q[1])];
        for (sums, column) in sums.iter_mut().zip(columns) {
            let x = word(column, u);
            for ((sum, q), size) in sums.iter_mut().zip(q).zip(sizes) {
                *sum = _mm256_add_epi32(*sum, widened(_mm256_maddubs_epi16(size, _mm256_sign_epi8(x, q))));
            }
        }
    }
}

/// Adds a block's products to the totals.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_all<const L: u8, const C: usize>(
    totals: &mut [[__m256; 2]; C],
    sums: [[[__m256i; 2]; C]; 2],
    factors: &Factors,
    columns: &[[u32; I8_WORDS]; C],
) {
    let Factors { scale, start, minimum } = *factors;
    for (c, (totals, column)) in totals.iter_mut().zip(columns).enumerate() {
        let (x_scale, x_sum) = (word(column, SCALE), word(column, SCALED_SUM));
        for (half, total) in totals.iter_mut().enumerate() {
            let mut product = _mm256_fmsub_ps(_mm256_castsi256_ps(sums[0][c][half]), scale[0][half], start[half]);
            if L == Q6K {
                product = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[1][c][half]), scale[1][half], product);
            }
            *total = _mm256_fmadd_ps(product, _mm256_castsi256_ps(x_scale), *total);
            if L == Q4K || L == Q5K {
                *total = _mm256_fnmadd_ps(minimum[half], _mm256_castsi256_ps(x_sum), *total);
            }
        }
    }
}

/// Sums of sixteen bits, added to their neighbours in 32.
#[target_feature(enable = "avx2")]
#[inline]
fn widened(pairs: __m256i) -> __m256i {
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

#[target_feature(enable = "avx2")]
#[inline]
fn word(column: &[u32; I8_WORDS], at: usize) -> __m256i {
    _mm256_set1_epi32(column[at].cast_signed())
}
