//! Blocks of 32 columns, as the kernels of every instruction set for int8 have them: what layouts are called, what a
//! step of them reads, and how activations lie.

use crate::activations::{I8_WORDS, START};
use crate::layout::{
    BLOCK, K_BLOCKS, K_HIGH, PAIR_HEAD, Q4_PAIR, Q4K_BLOCK, Q4K_SUPER, Q5K_BLOCK, Q5K_SUPER, Q6K_BLOCK, Q6K_SUPER,
    Q8_PAIR,
};

pub(super) const Q8: u8 = 0;
pub(super) const Q4: u8 = 1;
pub(super) const Q4K: u8 = 2;
pub(super) const Q5K: u8 = 3;
pub(super) const Q6K: u8 = 4;

/// Blocks that one step of a kernel takes.
pub(super) const STEP: usize = 2;

/// How many bytes of a panel a step reads.
pub(super) const fn step_bytes<const L: u8>() -> usize {
    match L {
        Q8 => Q8_PAIR,
        Q4 => Q4_PAIR,
        _ => super_bytes::<L>() / 4,
    }
}

/// Bytes of a super-block of Q4K, Q5K or Q6K.
pub(super) const fn super_bytes<const L: u8>() -> usize {
    match L {
        Q4K => Q4K_SUPER,
        Q5K => Q5K_SUPER,
        _ => Q6K_SUPER,
    }
}

/// Where the lines of upper bits begin among those of a block in Q5K and Q6K.
pub(super) const HIGH: usize = K_HIGH / 64;

/// What block `b` of a panel is but for its scales: numbers in Q8; nibbles elsewhere, then upper bits.
#[inline]
pub(super) fn lines<const L: u8>(panel: &[u8], b: usize) -> &[[u8; 64]] {
    let (start, size) = match L {
        Q8 => (b / 2 * Q8_PAIR + PAIR_HEAD + b % 2 * 512, 512),
        Q4 => (b / 2 * Q4_PAIR + PAIR_HEAD + b % 2 * 256, 256),
        _ => {
            let size = match L {
                Q4K => Q4K_BLOCK,
                Q5K => Q5K_BLOCK,
                _ => Q6K_BLOCK,
            };
            (b / 8 * super_bytes::<L>() + K_BLOCKS + b % 8 * size, size)
        }
    };
    panel[start..][..size].as_chunks().0
}

/// Words of a column behind the numbers of a block, in the order in which they lie: where the sum of its products with
/// numbers 128 too large begins (with AVX2 eight), then those of its first half and of its second with numbers 32 too
/// large (that one without [`START`]); the sum of the numbers times the scale; the scale.
pub(super) const BEGIN: usize = BLOCK / 4;
pub(super) const BEGIN_LOW: usize = BEGIN + 1;
pub(super) const BEGIN_HIGH: usize = BEGIN + 2;
pub(super) const SCALED_SUM: usize = BEGIN + 3;
pub(super) const SCALE: usize = BEGIN + 4;

/// The numbers of a row in blocks, zeros behind the last of them.
pub(super) fn blocks(x: &[f32]) -> impl Iterator<Item = [f32; BLOCK]> {
    let (whole, rest) = x.as_chunks::<BLOCK>();
    let last = (!rest.is_empty()).then(|| {
        let mut last = [0.0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        last
    });
    whole.iter().copied().chain(last)
}

/// A block in int8.
pub(super) struct I8Block {
    /// Its numbers, signed.
    pub(super) words: [u32; BLOCK / 4],
    /// The sums of both halves.
    pub(super) sums: [i16; 2],
    pub(super) scale: f32,
}

impl I8Block {
    /// What the kernels of AVX2 and of AVX-512 want of it; weights with one offset have this one.
    #[inline]
    pub(super) fn with_begins(&self, offset: i32) -> [u32; I8_WORDS] {
        let [low, high] = self.sums.map(i32::from);
        let mut words = [0; I8_WORDS];
        words[..BLOCK / 4].copy_from_slice(&self.words);
        words[BEGIN] = (START - offset * (low + high)).cast_unsigned();
        words[BEGIN_LOW] = (START - 32 * low).cast_unsigned();
        words[BEGIN_HIGH] = (-32 * high).cast_unsigned();
        words[SCALED_SUM] = (self.scale * (low + high) as f32).to_bits();
        words[SCALE] = self.scale.to_bits();
        words
    }
}
