//! One function pointer for each kernel, chosen once when a [`crate::Cpu`] is made.

use std::ops::Range;

use crate::Isa;
use crate::activations::{Kind, Tile};
use crate::attention::Block;
use crate::encoder::{Blocks, HeadRows, Work};
use crate::kv::{KvFormat, Tokens};
use crate::layout::{LANES, Layout};
use crate::parts::Parts;
use crate::scalar::{self, Weights};

/// `out[c][r]` becomes the product of row `r` of a panel and column `c` of a tile, for as many columns as `out` has.
pub(crate) type TileFn = fn(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]);
/// Panels of which a [`SideBySideFn`] computes the products with one column.
pub(crate) const SIDE_BY_SIDE: usize = 4;
/// `out[p][r]` becomes the product of row `r` of panel `p` and a tile's only column.
pub(crate) type SideBySideFn =
    fn(panels: [&[u8]; SIDE_BY_SIDE], tile: Tile<'_>, out: &mut [[f32; LANES]; SIDE_BY_SIDE]);
/// Packs the rows `rows` (at most a tile) of `x`, `[.., columns]`, into words `[words][rows.len()]`.
pub(crate) type PackFn = fn(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]);
/// One block of online softmax over the scores of one query, see [`scalar::softmax_block`].
pub(crate) type SoftmaxFn = fn(scores: &mut [f32], largest: &mut f32, sum: &mut f32, weights: Weights) -> f32;

/// `out[p][c]` becomes the product of one or two panels and neighbouring tiles of `words` words a column, all
/// of which but the last have sixteen columns.
pub(crate) type WideFn = fn(panels: &[u8], words: usize, tiles: &[u32], out: &mut [[f32; LANES]]);

/// Packs the numbers of panel `panel` for the columns of one tile, which begins at `start`, as
/// [`Table::pack_bf16`] lays out whole rows.
///
/// # Safety
/// Nobody else packs this panel of this tile at the same time.
pub(crate) type PlaceFn = unsafe fn(values: &[[f32; LANES]], panel: usize, out: &Parts<'_, u32>, start: usize);

/// Packs the numbers of two panels, which are block `block`, for the columns of one tile, which begins at `start`, as
/// [`Table::pack_i8`] lays out whole rows.
///
/// # Safety
/// Nobody else packs this block of this tile at the same time.
pub(crate) type PlaceBlockFn =
    unsafe fn(values: (&[[f32; LANES]], &[[f32; LANES]]), block: usize, out: &Parts<'_, u32>, start: usize);

/// Writes tokens into a cache.
#[derive(Clone, Copy)]
pub(crate) struct Write {
    pub(crate) one: fn(Tokens<'_>),
    pub(crate) sixteen: fn(Tokens<'_>),
}

/// Attention of some queries over one block of keys and values at once.
#[derive(Clone, Copy)]
pub(crate) struct Causal {
    /// How queries are packed.
    pub(crate) kind: Kind,
    /// Most columns of a prompt's tile; any other tile has [`TILE`].
    pub(crate) columns: usize,
    pub(crate) block: fn(Block<'_>),
}

/// Kernels for many columns of BF16, where the processor has a unit for it.
#[derive(Clone, Copy)]
pub(crate) struct Wide {
    /// Rounds a panel of one of the quantised layouts to a panel of BF16, which is as long as `out`.
    pub(crate) unpack: fn(layout: Layout, panel: &[u8], out: &mut [u8]),
    pub(crate) multiply: WideFn,
    pub(crate) place: PlaceFn,
}

/// Kernels for many columns of int8.
#[derive(Clone, Copy)]
pub(crate) struct Many {
    /// The kernel for weights in a layout, if there is one.
    pub(crate) multiply: fn(Layout) -> Option<WideFn>,
    /// Columns from which on it pays.
    pub(crate) least: usize,
    pub(crate) place: PlaceBlockFn,
}

/// Kernels for an encoder's attention in BF16, where the processor has a unit for it.
#[derive(Clone, Copy)]
pub(crate) struct Encode {
    /// Rounds the keys and values of a head's rows `rows`, at most a block, into one block.
    pub(crate) pack: fn(keys: HeadRows<'_>, values: HeadRows<'_>, rows: Range<usize>, block: &mut [u32]),
    /// Attention of a head's queries from row `first` on, as many as are computed together.
    pub(crate) attend: fn(queries: HeadRows<'_>, first: usize, blocks: Blocks<'_>, work: &mut Work<'_>),
}

pub(crate) struct Table {
    pub(crate) isa: Isa,
    /// What `Precision::Fast` makes of activations for BF16 weights.
    pub(crate) bf16_kind: Kind,
    /// What int8 activations are for weights with one scale for a block.
    pub(crate) i8_kind: Kind,
    pub(crate) f32_f32: TileFn,
    pub(crate) bf16_f32: TileFn,
    pub(crate) bf16_bf16: TileFn,
    pub(crate) q8: TileFn,
    pub(crate) q4: TileFn,
    pub(crate) q4_k: TileFn,
    pub(crate) q5_k: TileFn,
    pub(crate) q6_k: TileFn,
    /// The kernel for two neighbouring panels, if there is one: the first panel's outputs, then the second's. The
    /// numbers are those of the single kernel.
    pub(crate) pair: fn(Layout, Kind) -> Option<TileFn>,
    /// The kernel for one column that reads several streams of panels, if that is faster than one stream. The numbers
    /// are those of the single kernel.
    pub(crate) side_by_side: fn(Layout, Kind) -> Option<SideBySideFn>,
    /// If it is there, many columns of int8 have kernels of their own, whose numbers are those of the others.
    pub(crate) many: Option<Many>,
    /// If it is there, prompts meet quantised weights in BF16.
    pub(crate) wide: Option<Wide>,
    /// What tokens are written with into a cache with heads of so many numbers, if not number by number.
    pub(crate) kv_write: fn(KvFormat, usize) -> Option<Write>,
    /// What attention over a cache with heads of so many numbers is computed with, if not product by product.
    pub(crate) causal: fn(KvFormat, usize) -> Option<Causal>,
    /// Stores past the caches what is a line. Others see it after [`Self::fence`].
    pub(crate) stream: fn(from: &[f32; LANES], to: &mut [f32; LANES]),
    /// Ends the streaming of this thread.
    pub(crate) fence: fn(),
    /// If it is there, encoders multiply queries and keys, weights and values in BF16 block by block.
    pub(crate) encode: Option<Encode>,
    pub(crate) pack_f32: PackFn,
    pub(crate) pack_bf16: PackFn,
    pub(crate) pack_i8: PackFn,
    /// Not used unless it is [`Self::i8_kind`].
    pub(crate) pack_i8_tiles: PackFn,
    /// Not used unless [`Self::causal`] asks for it.
    pub(crate) pack_i16: PackFn,
    pub(crate) rms_norm: fn(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]),
    pub(crate) rms_norm_in_place: fn(x: &mut [f32], weight: &[f32], eps: f32),
    pub(crate) swiglu: fn(gate: &mut [f32], up: &[f32]),
    pub(crate) softmax_block: SoftmaxFn,
}

impl Table {
    /// The bodies of an instruction set, which the processor must have.
    pub(crate) fn of(isa: Isa) -> &'static Self {
        assert!(isa.is_available(), "a table is taken for what the processor has");
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => &crate::x86::amx::TABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => &crate::x86::avx512::WITH_BF16,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &crate::x86::avx512::TABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &crate::x86::avx2::TABLE,
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512 | Isa::Avx2 => unreachable!("only x86-64 has these instructions"),
            Isa::Scalar => &SCALAR,
        }
    }

    /// The kernel for weights in `layout` and activations of `kind`.
    pub(crate) fn tile(&self, layout: Layout, kind: Kind) -> TileFn {
        match (layout, kind) {
            (Layout::F32, _) => self.f32_f32,
            (Layout::Bf16, Kind::Bf16) => self.bf16_bf16,
            (Layout::Bf16, _) => self.bf16_f32,
            (Layout::Q8, _) => self.q8,
            (Layout::Q4, _) => self.q4,
            (Layout::Q4K, _) => self.q4_k,
            (Layout::Q5K, _) => self.q5_k,
            (Layout::Q6K, _) => self.q6_k,
        }
    }

    /// What int8 activations are for weights in `layout`.
    pub(crate) fn i8_kind_for(&self, layout: Layout) -> Kind {
        if layout == Layout::Q6K { Kind::I8 } else { self.i8_kind }
    }

    pub(crate) fn pack(&self, kind: Kind) -> PackFn {
        match kind {
            Kind::F32 => self.pack_f32,
            Kind::Bf16 => self.pack_bf16,
            Kind::I8 => self.pack_i8,
            Kind::I8Tiles => self.pack_i8_tiles,
            Kind::I16 => self.pack_i16,
        }
    }
}

static SCALAR: Table = Table {
    isa: Isa::Scalar,
    bf16_kind: Kind::Bf16,
    i8_kind: Kind::I8,
    f32_f32: scalar::tile_f32,
    bf16_f32: scalar::tile_bf16_f32,
    bf16_bf16: scalar::tile_bf16,
    q8: |panel, tile, out| scalar::tile_i8(Layout::Q8, panel, tile, out),
    q4: |panel, tile, out| scalar::tile_i8(Layout::Q4, panel, tile, out),
    q4_k: |panel, tile, out| scalar::tile_i8(Layout::Q4K, panel, tile, out),
    q5_k: |panel, tile, out| scalar::tile_i8(Layout::Q5K, panel, tile, out),
    q6_k: |panel, tile, out| scalar::tile_i8(Layout::Q6K, panel, tile, out),
    pair: |_, _| None,
    side_by_side: |_, _| None,
    many: None,
    wide: None,
    causal: |_, _| None,
    kv_write: |_, _| None,
    stream: |from, to| *to = *from,
    fence: || (),
    encode: None,
    pack_f32: scalar::pack_f32,
    pack_bf16: scalar::pack_bf16,
    pack_i8: scalar::pack_i8,
    pack_i8_tiles: scalar::pack_i8,
    pack_i16: scalar::pack_i8,
    rms_norm: scalar::rms_norm,
    rms_norm_in_place: scalar::rms_norm_in_place,
    swiglu: scalar::swiglu,
    softmax_block: scalar::softmax_block,
};

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{Cpu, CpuOptions, Format, Matrix, Precision};

    /// Bytes of which every format makes finite numbers.
    fn weights(format: Format, rows: usize, columns: usize) -> Vec<u8> {
        let count = rows * format.row_bytes(columns).expect("whole blocks");
        let mut bytes: Vec<u8> = (0..count).map(|i| (i * 31 % 29 + i / 997 % 7) as u8).collect();
        if format == Format::Bf16 {
            bytes.chunks_exact_mut(2).for_each(|number| number[1] = 0x3c | number[1] & 0x81);
        }
        bytes
    }

    /// Also those that are not used on this processor.
    #[test]
    fn panels_side_by_side_have_the_products_of_one_by_one() {
        for isa in Isa::available() {
            let cpu = Cpu::new(CpuOptions { isa: Some(isa), threads: NonZeroUsize::MIN, is_pinned: false }).unwrap();
            let Table { bf16_kind, i8_kind, .. } = *cpu.table;
            for (format, kind) in [
                (Format::Bf16, Kind::F32),
                (Format::Bf16, bf16_kind),
                (Format::Q8_0, i8_kind),
                (Format::Q4_0, i8_kind),
                (Format::Q4K, i8_kind),
                (Format::Q5K, i8_kind),
                (Format::Q6K, cpu.table.i8_kind_for(Layout::Q6K)),
            ] {
                let is_compared = compare(&cpu, format, kind);
                assert!(is_compared || matches!(isa, Isa::Scalar | Isa::Amx), "{isa} has one for {format:?}");
            }
        }
    }

    /// Returns whether there is a kernel for panels side by side.
    fn compare(cpu: &Cpu, format: Format, kind: Kind) -> bool {
        let (rows, columns) = (SIDE_BY_SIDE * LANES, 768);
        let bytes = weights(format, rows, columns);
        let matrix = Matrix::pack(cpu, format, rows, columns, &bytes, Precision::Fast).unwrap();
        let Some(kernel) = (cpu.table.side_by_side)(matrix.layout, kind) else { return false };
        let x: Vec<f32> = (0..columns).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
        let mut words = vec![0; kind.words(columns)];
        cpu.table.pack(kind)(&x, columns, &[0], &mut words);
        let tile = Tile { words: &words, stride: 1, next: None };
        let mut found = [[0.0; LANES]; SIDE_BY_SIDE];
        kernel(std::array::from_fn(|p| matrix.panel(p, 1)), tile, &mut found);
        for (p, found) in found.iter().enumerate() {
            let mut expected = [[0.0; LANES]];
            cpu.table.tile(matrix.layout, kind)(matrix.panel(p, 1), tile, &mut expected);
            assert!(found.iter().all(|x| x.abs() > 1e-9), "products of {format:?} are numbers");
            assert_eq!(found.map(f32::to_bits), expected[0].map(f32::to_bits), "{}, {format:?}, {p}", cpu.isa());
        }
        true
    }
}
