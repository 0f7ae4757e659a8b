//! Activations as the kernels read them: tiles of up to sixteen columns, so that one word feeds sixteen rows.
//!
//! A tile is a matrix of 32-bit words `[words][columns]`. Column `c` belongs to one row of `x`:
//!
//! | kind | words of a column |
//! |---|---|
//! | F32 | one f32 each; a zero behind an odd number of them |
//! | Bf16 | two bf16 each, the lower half first; a zero behind an odd number of them |
//! | I8, I8Tiles | for 32 numbers: eight of four i8, one of two i16 (the sums of both halves), one f32 scale, more |
//! | I16 | for 32 numbers: sixteen of the numbers, as the instruction set wants them, and four more |
//!
//! That is how the scalar kernels have them. An instruction set may lay out as many words otherwise, as its kernels
//! want them; I8Tiles is what tile registers want where the processor has them.

use crate::layout::BLOCK;

/// Columns of a full tile.
pub(crate) const TILE: usize = 16;
/// Words of a column for 32 numbers in int8, as many as the kernels of any instruction set want.
pub(crate) const I8_WORDS: usize = 13;
/// Which of them holds the two sums.
pub(crate) const I8_SUMS: usize = 8;
/// Which of them holds the scale.
pub(crate) const I8_SCALE: usize = 9;
/// Words of a column for 32 numbers in sixteen bits.
pub(crate) const I16_WORDS: usize = 20;

/// Where sums of products of int8 begin. As the bits of a float it is 3 * 2^22, and with a sum of less than 2^22 added
/// as an integer, the bits of that much more: so sums are floats when they are done. Its product with a scale of at
/// most 22 bits is exact, and no format has longer ones: so one `fmsub` takes it out again, and rounds as a product.
pub(crate) const START: i32 = 0x4b40_0000;

/// How activations are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32 = 0,
    Bf16 = 1,
    I8 = 2,
    I8Tiles = 3,
    /// For attention alone.
    I16 = 4,
}

/// How many kinds there are that matrices are multiplied with.
pub(crate) const KINDS: usize = 4;

impl Kind {
    /// Words of one column of `columns` numbers.
    pub(crate) fn words(self, columns: usize) -> usize {
        match self {
            Self::F32 => columns.next_multiple_of(2),
            Self::Bf16 => columns.div_ceil(2),
            Self::I8 | Self::I8Tiles => columns.div_ceil(BLOCK) * I8_WORDS,
            Self::I16 => columns.div_ceil(BLOCK) * I16_WORDS,
        }
    }
}

/// Packed activations `[words][stride]`; a kernel uses the first columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile<'a> {
    pub(crate) words: &'a [u32],
    pub(crate) stride: usize,
    /// What is read after the panels that the tile meets, unless it lies behind them.
    pub(crate) next: Option<&'a [u8]>,
}
