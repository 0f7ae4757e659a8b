//! Panels of quantised weights times tiles of int8 activations.
//!
//! A block of 32 columns has its own scale, so its sums leave the tile register and join the totals, which stay in
//! AVX-512 registers for the whole row. The numbers are those of AVX-512, to the bit: its integers are as exact, and
//! its floats are added in the same order.
//!
//! While the tile unit works on a block, the one two before it is added up, and after two of them the next two are
//! unpacked. The order matters, and where things lie: `docs/decisions/0027-the-order-of-tiles.md`.

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::super::Ahead;
use super::super::avx512::quantised;
use super::super::avx512::{int8, load, load_floats, pack, store_floats};
use super::super::blocks::{self, Q4, Q4K, Q5K, Q8, STEP, step_bytes};
use super::tiles::{Block, Tiles};
use crate::activations::{I8_WORDS, START, Tile};
use crate::layout::{BLOCK, LANES, PAIR_HEAD, Q4_PAIR, Q8_PAIR};

/// Columns from which on a tile is laid out for, and computed by, AMX: fewer are quicker without.
const COLUMNS_MIN: usize = 9;
/// Bytes of a block of a panel.
const BLOCK_BYTES: usize = LANES * BLOCK;
/// Words of a column for a block's numbers; behind those of all columns come their sums, then their scales.
const WORDS: usize = BLOCK / 4;

/// The sums of a block, `[columns][16 rows]`.
type Sums = [[i32; LANES]; LANES];

/// What goes from the vector registers to the tiles and back.
#[repr(align(4096))]
struct Buffers {
    /// Of the step before, then of this one. With the weights no more than 4 KiB: the processor takes a load for one of
    /// what was just stored if the last twelve bits of their addresses are the same.
    sums: [Sums; STEP],
    /// Of this step and the next one.
    weights: [[[u8; BLOCK_BYTES]; STEP]; 2],
    /// Of the step before, this one and the next one.
    factors: [[Factors; STEP]; 4],
    start: [i32; LANES],
}

/// What a block's sums are multiplied by. Columns that there are not have zeros.
#[repr(align(64))]
struct Factors {
    x_scale: [f32; LANES],
    x_sum: [f32; LANES],
    scale: [f32; LANES],
    /// [`START`] times the scale.
    start: [f32; LANES],
    minimum: [f32; LANES],
}

impl Factors {
    const ZERO: Self = Self {
        x_scale: [0.0; LANES],
        x_sum: [0.0; LANES],
        scale: [0.0; LANES],
        start: [0.0; LANES],
        minimum: [0.0; LANES],
    };
}

impl Buffers {
    const NEW: Self = Self {
        sums: [[[0; LANES]; LANES]; STEP],
        weights: [[[0; BLOCK_BYTES]; STEP]; 2],
        factors: [const { [Factors::ZERO; STEP] }; 4],
        start: [START; LANES],
    };
}

macro_rules! kernels {
    ($($name:ident $pair:ident $layout:expr;)*) => {$(
        /// # Safety
        /// The processor has AMX, and [`super::tiles::is_permitted`] has said yes.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
        pub(super) unsafe fn $name(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            if tile.stride < COLUMNS_MIN {
                return int8::$name(panel, tile, out);
            }
            // SAFETY: the caller's promise.
            unsafe { some::<$layout>(panel, panel.len(), tile, out) };
        }

        /// # Safety
        /// The processor has AMX, and [`super::tiles::is_permitted`] has said yes.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
        pub(super) unsafe fn $pair(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
            if tile.stride < COLUMNS_MIN {
                let outs = out.chunks_exact_mut(tile.stride);
                return panels.chunks_exact(panels.len() / 2).zip(outs).for_each(|(panel, out)| {
                    int8::$name(panel, tile, out);
                });
            }
            // SAFETY: the caller's promise.
            unsafe { some::<$layout>(panels, panels.len() / 2, tile, out) };
        }
    )*};
}

kernels! {
    q8 q8_pair Q8;
    q4 q4_pair Q4;
    q4_k q4_k_pair Q4K;
    q5_k q5_k_pair Q5K;
}

/// Activations `[blocks]`, each the numbers `[columns][32]`, the sums times the scales and the scales, from
/// [`COLUMNS_MIN`] columns on; otherwise as for AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn pack(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    let stride = rows.len();
    if stride < COLUMNS_MIN {
        return pack::i8(x, columns, rows, out);
    }
    for (c, row) in rows.iter().enumerate() {
        let x = &x[*row as usize * columns..][..columns];
        for (x, out) in blocks::blocks(x).zip(out.chunks_exact_mut(I8_WORDS * stride)) {
            let block = pack::i8_block(&x);
            out[c * WORDS..][..WORDS].copy_from_slice(&block.words);
            let [low, high] = block.sums.map(f32::from);
            out[stride * WORDS + c] = (block.scale * (low + high)).to_bits();
            out[stride * (WORDS + 1) + c] = block.scale.to_bits();
        }
    }
}

/// Panels of `size` bytes, one after the other.
///
/// # Safety
/// As for all kernels of this file.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
unsafe fn some<const L: u8>(panels: &[u8], size: usize, tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    thread_local! {
        static BUFFERS: RefCell<Buffers> = const { RefCell::new(Buffers::NEW) };
    }
    assert!(tile.stride > 0 && out.len() * size == panels.len() * tile.stride, "every column has an output");
    let body = match tile.stride {
        ..=12 => columns::<L, 12>,
        _ => columns::<L, 16>,
    };
    // SAFETY: the caller's promise.
    let registers = unsafe { Tiles::int8(tile.stride) };
    BUFFERS.with_borrow_mut(|buffers| {
        let outs = out.chunks_exact_mut(tile.stride);
        for (p, (panel, out)) in panels.chunks_exact(size).zip(outs).enumerate() {
            let tile = Tile { next: tile.next.map(|next| &next[p * size..]), ..tile };
            // SAFETY: the caller's promise; the registers are the tile's.
            unsafe { body(&registers, panel, tile, out, buffers) };
        }
    });
}

/// One panel and at most `N` columns.
///
/// # Safety
/// As for all kernels of this file; `registers` are shaped for the tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
unsafe fn columns<const L: u8, const N: usize>(
    registers: &Tiles,
    panel: &[u8],
    tile: Tile<'_>,
    out: &mut [[f32; LANES]],
    buffers: &mut Buffers,
) {
    let stride = tile.stride;
    let size = STEP * I8_WORDS * stride;
    let (whole, rest) = (tile.words.len() / size, tile.words.len() % size);
    // A block that is left is a step with another one of zeros, which the panel has too.
    let padded: [u32; STEP * I8_WORDS * LANES];
    let last = if rest > 0 {
        padded = padded_with_zeros(&tile.words[whole * size..]);
        &padded[..size]
    } else {
        &[]
    };
    let steps = whole + usize::from(rest > 0);
    let words_of = |step: usize| if step < whole { &tile.words[step * size..][..size] } else { last };
    let ahead = Ahead::of([panel], tile.next);
    let mut totals = [_mm512_setzero_ps(); N];
    for step in 0..steps + 2 {
        let made = (1..=steps).contains(&step).then(|| (step - 1, words_of(step - 1)));
        let joined = step.checked_sub(2);
        // SAFETY: the caller's promise.
        unsafe { turn::<L, N, false>(registers, panel, made, joined, &mut totals, buffers) };
        // SAFETY: as above.
        unsafe { turn::<L, N, true>(registers, panel, made, joined, &mut totals, buffers) };
        if step < steps {
            ahead.ask(step * step_bytes::<L>(), step_bytes::<L>());
            unpack::<L, N>(panel, step, words_of(step), stride, buffers);
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        store_floats(out, total);
    }
}

fn padded_with_zeros<const N: usize>(words: &[u32]) -> [u32; N] {
    let mut padded = [0; N];
    padded[..words.len()].copy_from_slice(words);
    padded
}

/// Prepares the weights of a step, and what its sums are to be multiplied by. `N` makes it a function of its only
/// caller: called, it would send the totals to memory.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn unpack<const L: u8, const N: usize>(panel: &[u8], step: usize, words: &[u32], stride: usize, buffers: &mut Buffers) {
    let (weights, factors) = (&mut buffers.weights[step % 2], &mut buffers.factors[step % 4]);
    let columns = ((1_u32 << stride) - 1) as u16;
    for (i, factors) in factors.iter_mut().enumerate() {
        let (q, scale, minimum) = signed::<L>(panel, STEP * step + i);
        let more = &words[(i * I8_WORDS + WORDS) * stride..][..2 * stride];
        // SAFETY: no more is read than there is.
        let some = |words: &[u32]| unsafe { _mm512_maskz_loadu_ps(columns, words.as_ptr().cast()) };
        store_floats(&mut factors.x_scale, some(&more[stride..]));
        store_floats(&mut factors.scale, scale);
        store_floats(&mut factors.start, _mm512_mul_ps(scale, _mm512_castsi512_ps(_mm512_set1_epi32(START))));
        if L == Q4K || L == Q5K {
            store_floats(&mut factors.x_sum, some(more));
            store_floats(&mut factors.minimum, minimum);
        }
        if L != Q8 {
            for (q, out) in q.into_iter().zip(weights[i].as_chunks_mut::<64>().0) {
                // SAFETY: 64 bytes are there, and the store needs no alignment.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), q) };
            }
        }
    }
}

/// Makes the sums of a block of step `made.0`, the second one or the first. Meanwhile the block's sums of step
/// `joined`, in whose place they go, join the totals.
///
/// # Safety
/// As for all kernels of this file; `registers` are shaped for the columns of `made.1`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
unsafe fn turn<const L: u8, const N: usize, const SECOND: bool>(
    registers: &Tiles,
    panel: &[u8],
    made: Option<(usize, &[u32])>,
    joined: Option<usize>,
    totals: &mut [__m512; N],
    buffers: &mut Buffers,
) {
    let block = usize::from(SECOND);
    if let Some((step, words)) = made {
        let w = match L {
            Q8 => panel[step * Q8_PAIR..][..Q8_PAIR][PAIR_HEAD + block * BLOCK_BYTES..].as_ptr(),
            _ => buffers.weights[step % 2][block].as_ptr(),
        };
        let call = Block { start: buffers.start.as_ptr(), x: words[block * (words.len() / STEP)..].as_ptr(), w };
        // SAFETY: `x` is the numbers of a block of the registers' columns, and `w` those of a panel.
        unsafe { registers.block::<SECOND>(call) };
    }
    if let Some(step) = joined {
        join::<L, N>(totals, &buffers.sums[block], &buffers.factors[step % 4][block]);
    }
    if made.is_some() {
        // SAFETY: there are sums for all columns.
        unsafe { registers.store::<SECOND>(buffers.sums[block].as_mut_ptr().cast()) };
    }
}

/// Adds the products of a block to the totals.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn join<const L: u8, const N: usize>(totals: &mut [__m512; N], sums: &Sums, factors: &Factors) {
    let (scale, start) = (load_floats(&factors.scale), load_floats(&factors.start));
    let minimum = load_floats(&factors.minimum);
    for (c, (total, sums)) in totals.iter_mut().zip(sums).enumerate() {
        let product = _mm512_fmsub_ps(floats(sums), scale, start);
        *total = _mm512_fmadd_ps(product, _mm512_set1_ps(factors.x_scale[c]), *total);
        if L == Q4K || L == Q5K {
            *total = _mm512_fnmadd_ps(minimum, _mm512_set1_ps(factors.x_sum[c]), *total);
        }
    }
}

/// The bits of sums.
#[target_feature(enable = "avx512f")]
#[inline]
fn floats(sums: &[i32; LANES]) -> __m512 {
    // SAFETY: sixteen numbers are there, any bits are a float, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(sums.as_ptr().cast()) }
}

/// As [`quantised::numbers`], all of them signed. Of Q4 they are sixteen times as large, and the scale a sixteenth.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
#[inline]
fn signed<const L: u8>(panel: &[u8], b: usize) -> ([__m512i; 8], __m512, __m512) {
    let (mut q, [mut scale, _], minimum) = quantised::numbers::<L>(panel, b);
    if L == Q4 {
        // A number of four bits less eight is the same four bits with the upper one flipped: in the upper half of a
        // byte it is as good as a byte.
        const AND_XOR: i32 = 0x6a;
        let (upper, sign) = (_mm512_set1_epi8(-16), _mm512_set1_epi8(-128));
        let bytes = &panel[b / 2 * Q4_PAIR + PAIR_HEAD + b % 2 * (BLOCK_BYTES / 2)..][..BLOCK_BYTES / 2];
        for (j, bytes) in bytes.as_chunks().0.iter().enumerate() {
            let both = load(bytes);
            q[j] = _mm512_ternarylogic_epi64::<AND_XOR>(_mm512_slli_epi16::<4>(both), upper, sign);
            q[j + 4] = _mm512_ternarylogic_epi64::<AND_XOR>(both, upper, sign);
        }
        scale = _mm512_mul_ps(scale, _mm512_set1_ps(1.0 / 16.0));
    }
    (q, scale, minimum)
}
