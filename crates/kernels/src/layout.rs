//! How packed weights lie in memory: panels of sixteen rows, in the order in which a kernel reads them.
//!
//! A panel holds rows `16p..16p+16` (missing ones are zero) and all columns. `r` is the row within the panel, `k` the
//! column, `b` the block of 32 columns, `s` the super-block of 256, `u = k % 32 / 4` the unit of four columns within a
//! block and `i = k % 4`; offsets are in bytes. Every part that is loaded at once begins on 64 bytes.
//!
//! | layout | bits | repeats | within |
//! |---|---|---|---|
//! | F32 | 32 | `k` | f32 \[16\] |
//! | Bf16 | 16 | `k / 2` | bf16 \[16\]\[2\] |
//! | Q8 | 8.5 | `b / 2`, 1088 bytes | 0: scale f16 \[2\]\[16\] · 64: `q` i8 \[2\]\[8 u\]\[16 r\]\[4 i\] |
//! | Q4 | 4.5 | `b / 2`, 576 bytes | 0: scale f16 \[2\]\[16\] · 64: nibbles \[2\]\[4 u\]\[16 r\]\[4 i\] |
//! | Q4K | 4.63 | `s`, 2368 bytes | d, dmin, scales, minima, nibbles |
//! | Q5K | 5.63 | `s`, 2880 bytes | as Q4K, the fifth bits behind a block's nibbles |
//! | Q6K | 6.63 | `s`, 3392 bytes | d, scales, nibbles and upper two bits |
//!
//! Within a super-block:
//!
//! | offset | Q4K and Q5K | Q6K |
//! |---|---|---|
//! | 0 | d f16 \[16\], at 32 dmin f16 \[16\] | d f32 \[16\] |
//! | 64 | scale u8 \[8\]\[16\], at 192 minimum u8 \[8\]\[16\] | scale i8 \[16\]\[16\] |
//! | 320 | eight blocks of 256 or 320 bytes | eight blocks of 384 bytes |
//!
//! Within a block of a super-block:
//!
//! | offset | Q4K and Q5K | Q6K |
//! |---|---|---|
//! | 0 | nibbles \[4 u\]\[16 r\]\[4 i\] | the same |
//! | 256 | Q5K: bit `u` is the fifth bit \[16 r\]\[4 i\] | bits `2 (u % 4)` the upper two \[u / 4\]\[16 r\]\[4 i\] |
//!
//! In nibbles the low half of byte `[u][r][i]` is unit `u` and the high half unit `u + 4`.

use half::f16;

use crate::quant::half_at;

/// Rows of a panel.
pub(crate) const LANES: usize = 16;
/// Columns that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Columns of a super-block.
pub(crate) const SUPER: usize = 256;

pub(crate) const Q8_PAIR: usize = 1088;
pub(crate) const Q4_PAIR: usize = 576;
pub(crate) const Q4K_SUPER: usize = 2368;
pub(crate) const Q5K_SUPER: usize = 2880;
pub(crate) const Q6K_SUPER: usize = 3392;
/// Where the quantised numbers of a pair begin, and a super-block's scales.
pub(crate) const PAIR_HEAD: usize = 64;
/// Where the minima of Q4K and Q5K begin.
pub(crate) const K_MINIMA: usize = 192;
/// Where the blocks of a super-block begin.
pub(crate) const K_BLOCKS: usize = 320;
/// Bytes of a block of a super-block: nibbles, then upper bits.
pub(crate) const Q4K_BLOCK: usize = 256;
pub(crate) const Q5K_BLOCK: usize = 320;
pub(crate) const Q6K_BLOCK: usize = 384;
/// Where the upper bits of a block begin.
pub(crate) const K_HIGH: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    F32,
    Bf16,
    Q8,
    Q4,
    Q4K,
    Q5K,
    Q6K,
}

/// Thirty-two columns of one row: column `i` is `scale[i / 16] * (q[i] - offset) - minimum`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) q: [u8; BLOCK],
    pub(crate) scale: [f32; 2],
    pub(crate) offset: u8,
    pub(crate) minimum: f32,
}

impl Layout {
    /// Bytes of a panel with `columns` columns; `None` if that overflows.
    pub(crate) fn panel_bytes(self, columns: usize) -> Option<usize> {
        let (count, bytes) = match self {
            Self::F32 => (columns, 4 * LANES),
            Self::Bf16 => (columns.div_ceil(2), 4 * LANES),
            Self::Q8 => (columns.div_ceil(2 * BLOCK), Q8_PAIR),
            Self::Q4 => (columns.div_ceil(2 * BLOCK), Q4_PAIR),
            Self::Q4K => (columns.div_ceil(SUPER), Q4K_SUPER),
            Self::Q5K => (columns.div_ceil(SUPER), Q5K_SUPER),
            Self::Q6K => (columns.div_ceil(SUPER), Q6K_SUPER),
        };
        count.checked_mul(bytes)
    }

    /// The values of row `r` of a panel.
    pub(crate) fn row(self, panel: &[u8], r: usize, out: &mut [f32]) {
        match self {
            Self::F32 => {
                let words = panel.as_chunks::<4>().0;
                for (k, out) in out.iter_mut().enumerate() {
                    *out = f32::from_le_bytes(words[LANES * k + r]);
                }
            }
            Self::Bf16 => {
                for (k, out) in out.iter_mut().enumerate() {
                    let at = 4 * (LANES * (k / 2) + r) + 2 * (k % 2);
                    *out = half::bf16::from_le_bytes([panel[at], panel[at + 1]]).to_f32();
                }
            }
            Self::Q8 | Self::Q4 | Self::Q4K | Self::Q5K | Self::Q6K => {
                for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                    let block = self.block(panel, b, r);
                    for (i, out) in out.iter_mut().enumerate() {
                        let q = f32::from(i16::from(block.q[i]) - i16::from(block.offset));
                        *out = block.scale[i / 16] * q - block.minimum;
                    }
                }
            }
        }
    }

    /// Block `b` of row `r` of a panel in one of the quantised layouts.
    pub(crate) fn block(self, panel: &[u8], b: usize, r: usize) -> Block {
        let (s, group) = (b / 8, b % 8);
        match self {
            Self::F32 | Self::Bf16 => unreachable!("the layout has no blocks"),
            Self::Q8 => {
                let pair = &panel[b / 2 * Q8_PAIR..][..Q8_PAIR];
                let scale = half_at(pair, b % 2 * 32 + 2 * r);
                let q = std::array::from_fn(|k| pair[PAIR_HEAD + b % 2 * 512 + unit_at(k / 4, r) + k % 4] ^ 0x80);
                Block { q, scale: [scale; 2], offset: 128, minimum: 0.0 }
            }
            Self::Q4 => {
                let pair = &panel[b / 2 * Q4_PAIR..][..Q4_PAIR];
                let scale = half_at(pair, b % 2 * 32 + 2 * r);
                Block { q: nibbles(&pair[PAIR_HEAD + b % 2 * 256..], r), scale: [scale; 2], offset: 8, minimum: 0.0 }
            }
            Self::Q4K | Self::Q5K => {
                let (size, bytes) = if self == Self::Q4K { (Q4K_SUPER, Q4K_BLOCK) } else { (Q5K_SUPER, Q5K_BLOCK) };
                let block = &panel[s * size..][..size];
                let numbers = &block[K_BLOCKS + bytes * group..];
                let scale = half_at(block, 2 * r) * f32::from(block[PAIR_HEAD + LANES * group + r]);
                let minimum = half_at(block, 32 + 2 * r) * f32::from(block[K_MINIMA + LANES * group + r]);
                let mut q = nibbles(numbers, r);
                if self == Self::Q5K {
                    for (k, q) in q.iter_mut().enumerate() {
                        *q |= (numbers[K_HIGH + 4 * r + k % 4] >> (k / 4) & 1) << 4;
                    }
                }
                Block { q, scale: [scale; 2], offset: 0, minimum }
            }
            Self::Q6K => {
                let block = &panel[s * Q6K_SUPER..][..Q6K_SUPER];
                let d = f32::from_le_bytes([block[4 * r], block[4 * r + 1], block[4 * r + 2], block[4 * r + 3]]);
                let scale = |half: usize| f32::from(block[PAIR_HEAD + LANES * (2 * group + half) + r].cast_signed());
                let numbers = &block[K_BLOCKS + Q6K_BLOCK * group..];
                let mut q = nibbles(numbers, r);
                for (k, q) in q.iter_mut().enumerate() {
                    let (unit, at) = (k / 4, K_HIGH + 64 * (k / 16) + 4 * r + k % 4);
                    *q |= (numbers[at] >> (2 * (unit % 4)) & 3) << 4;
                }
                Block { q, scale: [d * scale(0), d * scale(1)], offset: 32, minimum: 0.0 }
            }
        }
    }
}

/// Where the four bytes of unit `u`, row `r` begin among the units of a block.
fn unit_at(u: usize, r: usize) -> usize {
    4 * (LANES * u + r)
}

fn nibbles(group: &[u8], r: usize) -> [u8; BLOCK] {
    std::array::from_fn(|k| group[unit_at(k / 4 % 4, r) + k % 4] >> (4 * (k / 16)) & 15)
}

/// Writes a block of row `r` of a Q8 panel.
pub(crate) fn put_q8(panel: &mut [u8], b: usize, r: usize, scale: f16, q: &[i8; BLOCK]) {
    let pair = &mut panel[b / 2 * Q8_PAIR..][..Q8_PAIR];
    pair[b % 2 * 32 + 2 * r..][..2].copy_from_slice(&scale.to_le_bytes());
    for (u, q) in q.as_chunks::<4>().0.iter().enumerate() {
        let bytes = q.map(i8::cast_unsigned);
        pair[PAIR_HEAD + b % 2 * 512 + unit_at(u, r)..][..4].copy_from_slice(&bytes);
    }
}
