//! Bodies in AVX2 with FMA: two registers a panel.
//!
//! Products of bytes come from `vpmaddubsw`, which multiplies unsigned with signed bytes and saturates sums of two at
//! 16 bits. Four-bit to six-bit weights stay far below that. Q8 weights take the sign trick: `|w| * (x with w's
//! sign)`, at most `2 * 128 * 127 = 32,512`. Every sum within a block is exact; between blocks the numbers differ from
//! the scalar oracle's by fused roundings.

mod floats;
mod ops;
mod quantised;

use std::arch::x86_64::*;

use crate::Isa;
use crate::activations::{Kind, Tile};
use crate::layout::LANES;
use crate::scalar;
use crate::table::Table;

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
entry!(q8, quantised::q8);
entry!(q4, quantised::q4);
entry!(q4_k, quantised::q4_k);
entry!(q5_k, quantised::q5_k);
entry!(q6_k, quantised::q6_k);
entry!(pack_f32, ops::pack_f32, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(pack_i8, ops::pack_i8, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(rms_norm, ops::rms_norm, (x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]));
entry!(rms_norm_in_place, ops::rms_norm_in_place, (x: &mut [f32], weight: &[f32], eps: f32));
entry!(swiglu, ops::swiglu, (gate: &mut [f32], up: &[f32]));
entry!(
    softmax_block,
    ops::softmax_block,
    (scores: &mut [f32], largest: &mut f32, sum: &mut f32, weights: scalar::Weights) -> f32
);

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
    many: None,
    wide: None,
    causal: |_, _| None,
    kv_write: |_, _| None,
    stream: |from, to| *to = *from,
    fence: || (),
    encode: None,
    pack_f32,
    pack_bf16: scalar::pack_bf16,
    pack_i8,
    pack_i8_tiles: pack_i8,
    pack_i16: pack_i8,
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
fn store_floats(floats: &mut [f32; LANES], value: [__m256; 2]) {
    let (low, high) = floats.split_at_mut(8);
    // SAFETY: there is room for eight floats, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(low.as_mut_ptr(), value[0]) };
    // SAFETY: as above.
    unsafe { _mm256_storeu_ps(high.as_mut_ptr(), value[1]) };
}
