//! Bodies in AVX-512 with VNNI, some of them with products of BF16.
//!
//! A register is one unit of a panel's sixteen rows. Each column has one accumulator, whose additions come in the order
//! of the columns of the matrix whatever the number of columns beside it: that is what makes rows independent of their
//! batch.

pub(super) mod causal;
mod causal_bf16;
mod causal_f32;
mod floats;
pub(super) mod int8;
mod kv;
mod ops;
pub(super) mod pack;
pub(super) mod quantised;

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

/// Makes a safe function of the table out of a body that needs AVX-512.
macro_rules! entry {
    ($name:ident, $body:path, ($($argument:ident: $type:ty),*) $(-> $result:ty)?) => {
        fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: `Table::of` hands this table out only if the processor has the instructions.
            unsafe { $body($($argument),*) }
        }
    };
}

entry!(f32_f32, floats::f32_f32, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(bf16_f32, floats::bf16_f32, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(bf16_bf16, floats::bf16_bf16, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q8, int8::q8, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q4, int8::q4, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q4_k, int8::q4_k, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q5_k, int8::q5_k, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q6_k, int8::q6_k, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q6_k_many, int8::q6_k_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(bf16_bf16_pair, floats::bf16_bf16_pair, (panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q8_many, int8::q8_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(q4_many, int8::q4_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(q4_k_many, int8::q4_k_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(q5_k_many, int8::q5_k_many, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(bf16_f32_pair, floats::bf16_f32_pair, (panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(
    bf16_bf16_side_by_side,
    floats::bf16_bf16_side_by_side,
    (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products)
);
entry!(bf16_f32_side_by_side, floats::bf16_f32_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q8_side_by_side, int8::q8_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q4_side_by_side, int8::q4_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q4_k_side_by_side, int8::q4_k_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q5_k_side_by_side, int8::q5_k_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(q6_k_side_by_side, int8::q6_k_side_by_side, (panels: Panels<'_>, tile: Tile<'_>, out: &mut Products));
entry!(pack_bf16, pack::bf16, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(pack_i8, pack::i8, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(rms_norm, ops::rms_norm, (x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]));
entry!(rms_norm_in_place, ops::rms_norm_in_place, (x: &mut [f32], weight: &[f32], eps: f32));
entry!(swiglu, ops::swiglu, (gate: &mut [f32], up: &[f32]));
entry!(
    softmax_block,
    ops::softmax_block,
    (scores: &mut [f32], largest: &mut f32, sum: &mut f32, weights: scalar::Weights) -> f32
);
entry!(causal_i8, causal::i8_block, (block: Block<'_>));
entry!(causal_f32, causal_f32::block, (block: Block<'_>));
entry!(causal_bf16, causal_bf16::block, (block: Block<'_>));
entry!(pack_i16, causal::pack, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(stream, stream_line, (from: &[f32; LANES], to: &mut [f32; LANES]));
entry!(bf16_one, kv::bf16_one, (of: Tokens<'_>));
entry!(bf16_sixteen, kv::bf16_sixteen, (of: Tokens<'_>));
entry!(i8_one, kv::i8_one, (of: Tokens<'_>));
entry!(i8_sixteen, kv::i8_sixteen, (of: Tokens<'_>));
entry!(fence, _mm_sfence, ());

/// # Safety
/// That of [`crate::table::PlaceBlockFn`].
unsafe fn place_i8(values: (&[[f32; LANES]], &[[f32; LANES]]), block: usize, out: &Parts<'_, u32>, start: usize) {
    // SAFETY: the processor has the instructions, as for [`entry`]; the caller's promise.
    unsafe { pack::place_i8(values, block, out, start) };
}

pub(super) const MANY: Many = Many {
    multiply: |layout| match layout {
        Layout::F32 | Layout::Bf16 => None,
        Layout::Q8 => Some(q8_many),
        Layout::Q4 => Some(q4_many),
        Layout::Q4K => Some(q4_k_many),
        Layout::Q5K => Some(q5_k_many),
        Layout::Q6K => Some(q6_k_many),
    },
    least: 9,
    place: place_i8,
};

pub(crate) static TABLE: Table = Table {
    isa: Isa::Avx512,
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
    pair: |layout, kind| match (layout, kind) {
        (Layout::Bf16, Kind::F32) => Some(bf16_f32_pair),
        _ => None,
    },
    side_by_side: |layout, kind| match (layout, kind) {
        (Layout::Bf16, Kind::F32) => Some(bf16_f32_side_by_side),
        (Layout::Q8, Kind::I8) => Some(q8_side_by_side),
        (Layout::Q4, Kind::I8) => Some(q4_side_by_side),
        (Layout::Q4K, Kind::I8) => Some(q4_k_side_by_side),
        (Layout::Q5K, Kind::I8) => Some(q5_k_side_by_side),
        (Layout::Q6K, Kind::I8) => Some(q6_k_side_by_side),
        _ => None,
    },
    many: Some(MANY),
    wide: None,
    causal: |format, _| match format {
        KvFormat::Int8 => Some(Causal { kind: Kind::I16, columns: TILE, block: causal_i8 }),
        KvFormat::Bf16 => Some(Causal { kind: Kind::F32, columns: TILE, block: causal_f32 }),
        KvFormat::F32 => None,
    },
    kv_write: |format, head_dim| match format {
        KvFormat::Bf16 if head_dim.is_multiple_of(BLOCK) => Some(Write { one: bf16_one, sixteen: bf16_sixteen }),
        KvFormat::Int8 if head_dim.is_multiple_of(2 * BLOCK) => Some(Write { one: i8_one, sixteen: i8_sixteen }),
        _ => None,
    },
    stream,
    fence,
    encode: None,
    pack_f32: scalar::pack_f32,
    pack_bf16: scalar::pack_bf16,
    pack_i8,
    pack_i8_tiles: pack_i8,
    pack_i16,
    rms_norm,
    rms_norm_in_place,
    swiglu,
    softmax_block,
};

/// The same with products of BF16.
pub(crate) static WITH_BF16: Table = Table {
    isa: Isa::Avx512Bf16,
    bf16_kind: Kind::Bf16,
    bf16_bf16,
    pair: |layout, kind| match (layout, kind) {
        (Layout::Bf16, Kind::Bf16) => Some(bf16_bf16_pair),
        _ => (TABLE.pair)(layout, kind),
    },
    side_by_side: |layout, kind| match (layout, kind) {
        (Layout::Bf16, Kind::Bf16) => Some(bf16_bf16_side_by_side),
        _ => (TABLE.side_by_side)(layout, kind),
    },
    causal: |format, head_dim| match format {
        KvFormat::Bf16 => Some(Causal { kind: Kind::Bf16, columns: TILE, block: causal_bf16 }),
        _ => (TABLE.causal)(format, head_dim),
    },
    pack_bf16,
    ..TABLE
};

/// Runs a kernel over all columns of its panels, in pieces of sixteen, eight, four, two and one. More than sixteen sums
/// and their operands do not fit the registers, so two panels take eight columns at most.
macro_rules! over_columns {
    ($kernel:ident $(, $parameter:expr)*; $panels:expr, $tile:expr, $outs:expr) => {{
        let (panels, mut outs, mut first) = ($panels, $outs, 0);
        let count = outs[0].len();
        while first < count {
            first += match count - first {
                16.. if outs.len() == 1 => { $kernel::<$({ $parameter },)* 16>(panels, $tile, first, &mut outs); 16 }
                8.. => { $kernel::<$({ $parameter },)* 8>(panels, $tile, first, &mut outs); 8 }
                4.. => { $kernel::<$({ $parameter },)* 4>(panels, $tile, first, &mut outs); 4 }
                2.. => { $kernel::<$({ $parameter },)* 2>(panels, $tile, first, &mut outs); 2 }
                _ => { $kernel::<$({ $parameter },)* 1>(panels, $tile, first, &mut outs); 1 }
            };
        }
    }};
}
pub(super) use over_columns;

/// So many of the first ones.
#[inline]
fn head<T, const N: usize>(x: &[T]) -> &[T; N] {
    x.first_chunk().expect("panels, rows and tiles are whole blocks")
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are there, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_floats(floats: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen floats are there, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(floats.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
fn stream_line(from: &[f32; LANES], to: &mut [f32; LANES]) {
    if !to.as_ptr().addr().is_multiple_of(64) {
        return *to = *from;
    }
    let line = load_floats(from);
    // SAFETY: there is a line for sixteen floats; whoever calls this ends it with a fence.
    unsafe { _mm512_stream_ps(to.as_mut_ptr(), line) };
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store_floats(floats: &mut [f32; LANES], value: __m512) {
    // SAFETY: there is room for sixteen floats, and the store needs no alignment.
    unsafe { _mm512_storeu_ps(floats.as_mut_ptr(), value) }
}
