//! Bodies in AMX: a tile of up to sixteen activations' rows times a unit of a BF16 panel in one instruction.
//!
//! The panels' layout is what the instruction wants of its second operand (two BF16 of each of sixteen rows side by
//! side), so weights are the same bytes as for AVX-512; only activations lie otherwise: a tile that is read here has
//! its columns one after the other, `[columns][words]`.
//!
//! A product of sixteen words keeps the sums of even and of odd numbers apart and adds both to the total at its end
//! (Intel's manual, TDPBF16PS), for one column as for sixteen, so a row does not depend on how many stand beside it.
//!
//! Quantised weights become BF16 for the rows of a prompt, a few panels at a time, once for all rows. Rows that were
//! generated meet them in int8, block by block; Q6K with AVX-512, since it has a scale for half a block, and twice as
//! many sums leaving the tiles cost more than the products save.

mod attention;
mod causal;
mod int8;
mod products;
mod tiles;
mod unpack;

pub(crate) use tiles::is_permitted;

use std::ops::Range;

use super::avx512;
use crate::Isa;
use crate::activations::{Kind, Tile};
use crate::attention::{Block, QUERIES};
use crate::encoder::{Blocks, HeadRows, Work};
use crate::kv::KvFormat;
use crate::layout::{BLOCK, LANES, Layout};
use crate::parts::Parts;
use crate::table::{Causal, Encode, Many, Table, Wide};

/// Makes a safe function of the table out of a body that needs AMX or AVX-512.
macro_rules! entry {
    ($name:ident, $body:expr, ($($argument:ident: $type:ty),*)) => {
        fn $name($($argument: $type),*) {
            // SAFETY: `Table::of` hands this table out only if the processor has the instructions and the system lets
            // us use them.
            unsafe { $body($($argument),*) }
        }
    };
}

entry!(bf16, products::bf16::<1>, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(bf16_pair, products::bf16::<2>, (panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q8, int8::q8, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q8_pair, int8::q8_pair, (panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q4, int8::q4, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q4_pair, int8::q4_pair, (panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q4_k, int8::q4_k, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q4_k_pair, int8::q4_k_pair, (panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q5_k, int8::q5_k, (panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(q5_k_pair, int8::q5_k_pair, (panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]));
entry!(pack_i8_tiles, int8::pack, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(pack_bf16, products::pack, (x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]));
entry!(unpack, unpack::panel, (layout: Layout, panel: &[u8], out: &mut [u8]));
entry!(causal_bf16, causal::block, (block: Block<'_>));
entry!(multiply, products::wide, (panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]));
entry!(pack_block, attention::pack, (keys: HeadRows<'_>, values: HeadRows<'_>, rows: Range<usize>, out: &mut [u32]));
entry!(attend, attention::attend, (queries: HeadRows<'_>, first: usize, blocks: Blocks<'_>, work: &mut Work<'_>));

/// # Safety
/// As for [`products::place`].
unsafe fn place(values: &[[f32; LANES]], panel: usize, out: &Parts<'_, u32>, start: usize) {
    // SAFETY: as for the other entries, and the caller's promise.
    unsafe { products::place(values, panel, out, start) }
}

pub(crate) static TABLE: Table = Table {
    isa: Isa::Amx,
    i8_kind: Kind::I8Tiles,
    bf16_bf16: bf16,
    q8,
    q4,
    q4_k,
    q5_k,
    pair: |layout, kind| match (layout, kind) {
        (Layout::Bf16, Kind::Bf16) => Some(bf16_pair),
        (Layout::F32 | Layout::Bf16 | Layout::Q6K, _) => (avx512::WITH_BF16.pair)(layout, kind),
        (Layout::Q8, _) => Some(q8_pair),
        (Layout::Q4, _) => Some(q4_pair),
        (Layout::Q4K, _) => Some(q4_k_pair),
        (Layout::Q5K, _) => Some(q5_k_pair),
    },
    // Intel's alone have tiles, and gain nothing from several streams.
    side_by_side: |_, _| None,
    causal: |format, head_dim| match format {
        KvFormat::Bf16 if head_dim.is_multiple_of(BLOCK) => {
            Some(Causal { kind: Kind::Bf16, columns: QUERIES, block: causal_bf16 })
        }
        // The other one wants another order of activations.
        KvFormat::Bf16 => None,
        KvFormat::Int8 | KvFormat::F32 => (avx512::WITH_BF16.causal)(format, head_dim),
    },
    // Those that no kernel for tiles takes.
    many: Some(Many {
        multiply: |layout| (avx512::MANY.multiply)(layout).filter(|_| layout == Layout::Q6K),
        ..avx512::MANY
    }),
    wide: Some(Wide { unpack, multiply, place }),
    encode: Some(Encode { pack: pack_block, attend }),
    pack_bf16,
    pack_i8_tiles,
    ..avx512::WITH_BF16
};
