//! Bodies in AVX2 with FMA: two registers a panel. Every sum of products of integers is exact; between blocks the
//! numbers differ from the scalar oracle's by fused roundings.

mod causal;
mod causal_i8;
mod floats;
mod int8;
mod kv;
mod ops;
mod quantised;

use std::arch::x86_64::*;

use super::{Panels, Products};
use crate::Isa;
use crate::activations::{Kind, TILE, Tile};
use crate::attention::Block;
use crate::kv::{KvFormat, Tokens};
use crate::layout::{BLOCK, LANES, Layout};
use crate::parts::Parts;
use crate::scalar;
use crate::table::{Causal, Many, Table, Write};

/// Makes a safe function of the table out of a body that needs AVX2.
macro_rules! entry {
    ($name:ident, $body:path) => {
        entry!($name, $body, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
    };
    ($name:ident, $body:path, ($($argument:ident: $type:ty),*) $(-> $result:ty)?) => {
        fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: `Table::of` hands this table out only if the processor has the instructions.
            unsafe { $body($($argument),*) }
        }
    };
}

entry!(f32_f32, floats::f32_f32);
entry!(bf16_f32, floats::bf16_f32);
entry!(q8, int8::q8);
entry!(q4, int8::q4);
entry!(q4_k, int8::q4_k);
entry!(q5_k, int8::q5_k);
entry!(q6_k, int8::q6_k);
entry!(bf16_side_by_side, floats::bf16_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q8_side_by_side, int8::q8_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q4_side_by_side, int8::q4_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q4_k_side_by_side, int8::q4_k_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q5_k_side_by_side, int8::q5_k_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q6_k_side_by_side, int8::q6_k_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q8_many, int8::q8_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(q4_many, int8::q4_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(q4_k_many, int8::q4_k_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(q5_k_many, int8::q5_k_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(q6_k_many, int8::q6_k_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(pack_f32, ops::pack_f32, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(pack_i8, ops::pack_i8, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(causal_bf16, causal::block, (block: Block<'_>));
entry!(causal_i8, causal_i8::block, (block: Block<'_>));
entry!(pack_i16, causal_i8::pack, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(i8_one, kv::i8_one, (of: Tokens<'_>));
entry!(i8_sixteen, kv::i8_sixteen, (of: Tokens<'_>));
entry!(bf16_one, kv::bf16_one, (of: Tokens<'_>));
entry!(bf16_sixteen, kv::bf16_sixteen, (of: Tokens<'_>));
entry!(rms_norm, ops::rms_norm, (x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]));
entry!(rms_norm_in_place, ops::rms_norm_in_place, (x: &mut [f32], weight: &[f32], eps: f32));
entry!(swiglu, ops::swiglu, (gate: &mut [f32], up: &[f32]));
entry!(
    softmax_block,
    ops::softmax_block,
    (scores: &mut [f32], largest: &mut f32, sum: &mut f32, weights: scalar::Weights) -> f32
);

/// # Safety
/// That of [`crate::table::PlaceBlockFn`].
unsafe fn place_i8(values: (&[[f32; LANES]], &[[f32; LANES]]), block: usize, out: &Parts<'_, u32>, start: usize) {
    // SAFETY: the processor has the instructions, as for [`entry`]; the caller's promise.
    unsafe { ops::place_i8(values, block, out, start) };
}

/// There is no dot product of BF16 here: BF16 weights are widened and meet f32 activations.
pub(crate) static TABLE: Table = Table {
    isa: Isa::Avx2,
    bf16_kind: Kind::F32,
    i8_kind: Kind::I8,
    f32_f32,
    bf16_f32,
    bf16_bf16: scalar::tile_bf16,
    q8,
    q4,
    q4_k,
    q5_k,
    q6_k,
    pair: |_, _| None,
    side_by_side: |layout, _| match layout {
        Layout::Bf16 => Some(bf16_side_by_side),
        Layout::Q8 => Some(q8_side_by_side),
        Layout::Q4 => Some(q4_side_by_side),
        Layout::Q4K => Some(q4_k_side_by_side),
        Layout::Q5K => Some(q5_k_side_by_side),
        Layout::Q6K => Some(q6_k_side_by_side),
        Layout::F32 => None,
    },
    many: Some(Many {
        multiply: |layout| match layout {
            Layout::F32 | Layout::Bf16 => None,
            Layout::Q8 => Some(q8_many),
            Layout::Q4 => Some(q4_many),
            Layout::Q4K => Some(q4_k_many),
            Layout::Q5K => Some(q5_k_many),
            Layout::Q6K => Some(q6_k_many),
        },
        least: TILE + 1,
        place: place_i8,
    }),
    wide: None,
    causal: |format, _| match format {
        KvFormat::Bf16 => Some(Causal { kind: Kind::F32, columns: TILE, block: causal_bf16 }),
        KvFormat::Int8 => Some(Causal { kind: Kind::I16, columns: TILE, block: causal_i8 }),
        KvFormat::F32 => None,
    },
    kv_write: |format, head_dim| match format {
        KvFormat::Bf16 if head_dim.is_multiple_of(BLOCK) => Some(Write { one: bf16_one, sixteen: bf16_sixteen }),
        KvFormat::Int8 if head_dim.is_multiple_of(2 * BLOCK) => Some(Write { one: i8_one, sixteen: i8_sixteen }),
        _ => None,
    },
    stream: |from, to| *to = *from,
    fence: || (),
    encode: None,
    pack_f32,
    pack_bf16: scalar::pack_bf16,
    pack_i8,
    pack_i8_tiles: pack_i8,
    pack_i16,
    rms_norm,
    rms_norm_in_place,
    swiglu,
    softmax_block,
};

/// Runs a kernel over all columns, in pieces of the given number of them, four, two and one.
macro_rules! over_columns {
    ($kernel:ident, $widest:literal $(, $parameter:expr)?; $panel:expr, $tile:expr, $out:expr) => {{
        let mut first = 0;
        while first < $out.len() {
            let out = &mut $out[first..];
            first += match out.len() {
                $widest.. => { $kernel::<$({ $parameter },)? $widest>($panel, $tile, first, out); $widest }
                4.. => { $kernel::<$({ $parameter },)? 4>($panel, $tile, first, out); 4 }
                2.. => { $kernel::<$({ $parameter },)? 2>($panel, $tile, first, out); 2 }
                _ => { $kernel::<$({ $parameter },)? 1>($panel, $tile, first, out); 1 }
            };
        }
    }};
}
use over_columns;

/// The same word of `N` neighbouring columns.
#[inline]
fn columns_of<const N: usize>(x: &[u32], first: usize) -> &[u32; N] {
    x[first..].first_chunk().expect("a tile has the columns that are asked for")
}

/// The two registers of 64 bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 64]) -> [__m256i; 2] {
    let (low, high) = bytes.split_at(32);
    // SAFETY: 32 bytes are there, and the load needs no alignment.
    let low = unsafe { _mm256_loadu_si256(low.as_ptr().cast()) };
    // SAFETY: as above.
    let high = unsafe { _mm256_loadu_si256(high.as_ptr().cast()) };
    [low, high]
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(bytes: &mut [u8; 64], value: [__m256i; 2]) {
    let (low, high) = bytes.split_at_mut(32);
    // SAFETY: there is room for 32 bytes, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(low.as_mut_ptr().cast(), value[0]) };
    // SAFETY: as above.
    unsafe { _mm256_storeu_si256(high.as_mut_ptr().cast(), value[1]) };
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_floats(floats: &mut [f32; LANES], value: [__m256; 2]) {
    let (low, high) = floats.split_at_mut(8);
    // SAFETY: there is room for eight floats, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(low.as_mut_ptr(), value[0]) };
    // SAFETY: as above.
    unsafe { _mm256_storeu_ps(high.as_mut_ptr(), value[1]) };
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_floats(floats: &[f32; LANES]) -> [__m256; 2] {
    let (low, high) = floats.split_at(8);
    // SAFETY: eight floats are there, and the load needs no alignment.
    let low = unsafe { _mm256_loadu_ps(low.as_ptr()) };
    // SAFETY: as above.
    let high = unsafe { _mm256_loadu_ps(high.as_ptr()) };
    [low, high]
}

#[inline]
fn head<T, const N: usize>(x: &[T]) -> &[T; N] {
    x.first_chunk().expect("panels, rows and tiles are whole blocks")
}
