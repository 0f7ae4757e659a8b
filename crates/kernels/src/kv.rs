//! Keys and values of one layer, in blocks of 64 tokens that attention reads once.
//!
//! Within a block every key/value head has its own contiguous bytes, first the keys, then the values. Both are panels
//! as in [`crate::layout`], so that attention uses the kernels of the matrix products:
//!
//! * keys are a matrix `[64 tokens, head_dim]`: four panels of sixteen tokens;
//! * values are a matrix `[head_dim, 64 tokens]`: a panel for sixteen dimensions.
//!
//! | format | keys | values |
//! |---|---|---|
//! | F32 | layout F32 | layout F32 |
//! | Bf16 | layout Bf16 | layout Bf16 |
//! | Int8 | layout Q8: a scale for a token and 32 dimensions | Q8 with scales 1, then an f32 for a token \[64\] |
//!
//! A value's scale belongs to its token, so that a token can be added without touching the others; attention multiplies
//! it into the softmax weight.

use std::ops::Range;

use half::f16;

use crate::layout::{BLOCK, LANES, Layout, PAIR_HEAD, Q8_PAIR, put_q8};
use crate::memory::Memory;
use crate::parts::Parts;
use crate::table::{PackFn, Write};
use crate::{Cpu, Error, Result};

/// Tokens in a block of the cache: as many as one pair of int8 blocks, and enough that the products between two
/// rescalings of the softmax outweigh them.
pub const KV_BLOCK_TOKENS: usize = 64;

/// Rows of a step up to which handing out work costs more than writing their keys and values alone.
const ALONE_ROWS_MAX: usize = 4;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// As they are.
    F32,
    /// Rounded to BF16: half the bytes.
    Bf16,
    /// Eight bits with a scale for a token and 32 dimensions (keys) or a token (values): a quarter of the bytes.
    Int8,
}

/// Keys and values of one layer for `blocks` blocks. Memory is given by the system when a block is first written.
#[derive(Debug)]
pub struct KvCache {
    pub(crate) format: KvFormat,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    blocks: u32,
    head: HeadBytes,
    memory: Memory,
}

/// Neighbouring panels of one head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    pub(crate) bytes: &'a [u8],
    /// Bytes of a panel, and how many of them hold what was asked for.
    pub(crate) size: usize,
    pub(crate) used: usize,
    pub(crate) count: usize,
}

/// The sizes of one head's part of a block.
#[derive(Clone, Copy, Debug)]
struct HeadBytes {
    key_panel: usize,
    value_panel: usize,
    /// Where the values begin.
    values: usize,
    /// Where the values' scales begin (Int8).
    scales: usize,
    total: usize,
}

/// One token of a head, or sixteen that fill a panel of keys.
pub(crate) struct Tokens<'a> {
    /// The head's numbers of the first token; those of the next lie `stride` behind them.
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) d: usize,
    /// Their panel of keys, all panels of the block's values, and the values' scales.
    pub(crate) keys: &'a mut [u8],
    pub(crate) values: &'a mut [u8],
    pub(crate) scales: &'a mut [[u8; 4]],
    pub(crate) value_panel: usize,
    /// The place of the first token in the block.
    pub(crate) first: usize,
}

/// One sequence's rows in a step.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Its first row in the `q`, `k`, `v` and output of the step.
    pub first_row: usize,
    /// How many rows.
    pub rows: usize,
    /// The position of the first row in its sequence.
    pub first_position: usize,
    /// The blocks of the sequence from position 0 on; block `i` holds positions `64 i..64 (i + 1)`. Blocks that a
    /// window has left behind may be any number: they are not read.
    pub blocks: &'a [u32],
}

impl Span<'_> {
    /// The position behind the last row.
    pub(crate) fn end(&self) -> usize {
        self.first_position + self.rows
    }

    pub(crate) fn assert_fits(&self, rows: usize, cache: &KvCache) {
        assert!(self.first_row + self.rows <= rows, "a span lies within the rows of its step");
        let needed = self.end().div_ceil(KV_BLOCK_TOKENS);
        assert!(needed <= self.blocks.len(), "{} positions need {needed} blocks", self.end());
        let used = &self.blocks[self.first_position / KV_BLOCK_TOKENS..needed];
        assert!(used.iter().all(|block| *block < cache.blocks), "a block is one of the cache's {}", cache.blocks);
    }
}

impl KvFormat {
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::F32 => Layout::F32,
            Self::Bf16 => Layout::Bf16,
            Self::Int8 => Layout::Q8,
        }
    }
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    /// [`Error::Shape`] if a size is zero or does not fit an address, [`Error::Memory`] if there is no address space.
    pub fn new(kv_heads: usize, head_dim: usize, format: KvFormat, blocks: u32) -> Result<Self> {
        let shape = Error::Shape { what: "a cache of keys and values", rows: kv_heads, columns: head_dim };
        let size = head_bytes(head_dim, format)
            .filter(|_| kv_heads > 0 && head_dim > 0)
            .and_then(|head| Some((head, head.total.checked_mul(kv_heads)?.checked_mul(blocks as usize)?)));
        let Some((head, size)) = size else { return Err(shape) };
        Ok(Self { format, kv_heads, head_dim, blocks, head, memory: Memory::zeroed(size)? })
    }

    /// Bytes of one block.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.head.total * self.kv_heads
    }

    /// How many blocks there are.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Copies a block: two sequences part ways within it.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        assert!(from < self.blocks && to < self.blocks, "a block is one of the cache's {}", self.blocks);
        let size = self.block_bytes();
        let from = from as usize * size;
        self.memory.copy_within(from..from + size, to as usize * size);
    }

    /// Some panels of a head's keys; each has sixteen tokens.
    pub(crate) fn key_panels(&self, block: u32, head: usize, panels: Range<usize>) -> Panels<'_> {
        let (size, count) = (self.head.key_panel, panels.len());
        let bytes = &self.head(block, head)[panels.start * size..panels.end * size];
        Panels { bytes, size, used: size, count }
    }

    /// The panels of a head's values, one for sixteen dimensions, up to the token `tokens`, whole blocks of 32.
    pub(crate) fn value_panels(&self, block: u32, head: usize, tokens: usize) -> Panels<'_> {
        let (size, count) = (self.head.value_panel, self.head_dim.div_ceil(LANES));
        let used = match self.format {
            KvFormat::F32 | KvFormat::Bf16 => size * tokens / KV_BLOCK_TOKENS,
            // Both blocks' scales stand at the beginning.
            KvFormat::Int8 => size,
        };
        Panels { bytes: &self.head(block, head)[self.head.values..], size, used, count }
    }

    /// All panels of a head's keys from `first_panel` on, and all of its values.
    pub(crate) fn panels_from(&self, block: u32, head: usize, first_panel: usize) -> (&[u8], &[u8]) {
        let (keys, values) = self.head(block, head).split_at(self.head.values);
        (&keys[first_panel * self.head.key_panel..], values)
    }

    /// The scale of each token's values (Int8 only).
    pub(crate) fn value_scales(&self, block: u32, head: usize) -> &[[u8; 4]] {
        let bytes = self.head(block, head);
        bytes[self.head.scales..self.head.total].as_chunks().0
    }

    fn head(&self, block: u32, head: usize) -> &[u8] {
        let start = block as usize * self.block_bytes() + head * self.head.total;
        &self.memory[start..start + self.head.total]
    }
}

fn head_bytes(head_dim: usize, format: KvFormat) -> Option<HeadBytes> {
    let layout = format.layout();
    let key_panel = layout.panel_bytes(head_dim)?;
    let value_panel = layout.panel_bytes(KV_BLOCK_TOKENS)?;
    let values = key_panel.checked_mul(KV_BLOCK_TOKENS / LANES)?;
    let scales = value_panel.checked_mul(head_dim.div_ceil(LANES))?.checked_add(values)?;
    let total = if format == KvFormat::Int8 { scales.checked_add(4 * KV_BLOCK_TOKENS)? } else { scales };
    Some(HeadBytes { key_panel, value_panel, values, scales, total })
}

/// Writes the keys and values of a step into the blocks of its sequences.
///
/// Shapes: `k` and `v` `[n, kv_heads, head_dim]`, keys already rotated. A block is written from its first token on, and
/// by one sequence only: the first token clears what an earlier owner left, so that no number of another sequence, not
/// even a NaN, can reach this one.
///
/// # Panics
/// If the lengths do not fit, a span has too few blocks, or a block is not one of the cache's.
pub fn kv_write(cpu: &Cpu, cache: &mut KvCache, k: &[f32], v: &[f32], spans: &[Span<'_>]) {
    let (heads, d, format, head_bytes) = (cache.kv_heads, cache.head_dim, cache.format, cache.head);
    assert!(k.len().is_multiple_of(heads * d), "k is [n, {heads}, {d}]");
    assert_eq!(k.len(), v.len(), "v is as long as k");
    let rows = k.len() / (heads * d);
    for span in spans {
        span.assert_fits(rows, cache);
    }
    let block_bytes = cache.block_bytes();
    let parts = Parts::new(&mut cache.memory[..]);
    let write = (cpu.table.kv_write)(format, d);
    let body = |_: usize, index: usize| {
        let (span, head) = (&spans[index / heads], index % heads);
        let mut row = 0;
        while row < span.rows {
            let position = span.first_position + row;
            let block = span.blocks[position / KV_BLOCK_TOKENS] as usize;
            let start = block * block_bytes + head * head_bytes.total;
            // SAFETY: every index has its own sequence and head, and a block is written by one sequence only.
            let bytes = unsafe { parts.part(start..start + head_bytes.total) };
            let at = ((span.first_row + row) * heads + head) * d;
            let token = position % KV_BLOCK_TOKENS;
            let (keys, rest) = bytes.split_at_mut(head_bytes.values);
            let (values, scales) = rest.split_at_mut(head_bytes.scales - head_bytes.values);
            let scales = scales.as_chunks_mut().0;
            if token == 0 {
                clear(format, values, scales);
            }
            let keys = &mut keys[token / LANES * head_bytes.key_panel..][..head_bytes.key_panel];
            let is_whole = token.is_multiple_of(LANES) && span.rows - row >= LANES;
            let (k, v, value_panel) = (&k[at..], &v[at..], head_bytes.value_panel);
            let of = Tokens { k, v, stride: heads * d, d, keys, values, scales, value_panel, first: token };
            match write {
                Some(Write { sixteen, .. }) if is_whole => sixteen(of),
                Some(Write { one, .. }) => one(of),
                None => match format {
                    KvFormat::F32 => write_f32(of),
                    KvFormat::Bf16 => write_bf16(cpu.table.pack_bf16, of),
                    KvFormat::Int8 => write_int8(of),
                },
            }
            row += if write.is_some() && is_whole { LANES } else { 1 };
        }
    };
    let count = spans.len() * heads;
    if rows <= ALONE_ROWS_MAX { (0..count).for_each(|index| body(0, index)) } else { cpu.pool.for_each(count, &body) }
}

/// Values of a block of which nothing is written.
fn clear(format: KvFormat, values: &mut [u8], scales: &mut [[u8; 4]]) {
    values.fill(0);
    scales.fill([0; 4]);
    if format == KvFormat::Int8 {
        for pair in values.chunks_exact_mut(Q8_PAIR) {
            pair[..PAIR_HEAD].as_chunks_mut().0.fill(f16::ONE.to_le_bytes());
        }
    }
}

fn write_f32(of: Tokens<'_>) {
    let Tokens { k, v, d, keys, values, value_panel, first: token, .. } = of;
    let (k, v) = (&k[..d], &v[..d]);
    for (i, k) in k.iter().enumerate() {
        keys[4 * (LANES * i + token % LANES)..][..4].copy_from_slice(&k.to_le_bytes());
    }
    for (i, v) in v.iter().enumerate() {
        let at = i / LANES * value_panel + 4 * (LANES * token + i % LANES);
        values[at..at + 4].copy_from_slice(&v.to_le_bytes());
    }
}

fn write_bf16(pack: PackFn, of: Tokens<'_>) {
    let Tokens { k, v, d, keys, values, value_panel, first: token, .. } = of;
    let (k, v) = (&k[..d], &v[..d]);
    let mut words = [0; LANES];
    for (piece, (k, v)) in k.chunks(2 * LANES).zip(v.chunks(2 * LANES)).enumerate() {
        let words = &mut words[..k.len().div_ceil(2)];
        pack(k, k.len(), &[0], words);
        for (i, word) in (piece * LANES..).zip(&*words) {
            keys[4 * (LANES * i + token % LANES)..][..4].copy_from_slice(&word.to_le_bytes());
        }
        pack(v, v.len(), &[0], words);
        let numbers = words.iter().flat_map(|word| [*word as u16, (word >> 16) as u16]);
        for (i, number) in (2 * LANES * piece..).zip(numbers).take(v.len()) {
            let at = i / LANES * value_panel + 4 * (LANES * (token / 2) + i % LANES) + 2 * (token % 2);
            values[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
    }
}

fn write_int8(of: Tokens<'_>) {
    let Tokens { k, v, d, keys, values, scales, value_panel, first: token, .. } = of;
    let (k, v) = (&k[..d], &v[..d]);
    for (b, k) in k.chunks(BLOCK).enumerate() {
        // The scale is rounded first, so that the numbers are the nearest under the scale that is kept.
        let scale = f16::from_f32(largest(k) / 127.0);
        let mut q = [0; BLOCK];
        quantise(k, scale.to_f32(), &mut q);
        put_q8(keys, b, token % LANES, scale, &q);
    }
    let scale = largest(v) / 127.0;
    scales[token] = scale.to_le_bytes();
    for (panel, v) in values.chunks_exact_mut(value_panel).zip(v.chunks(LANES)) {
        let mut q = [0; LANES];
        quantise(v, scale, &mut q);
        for (r, q) in q.iter().enumerate() {
            let at = PAIR_HEAD + 512 * (token / BLOCK) + 4 * (LANES * (token % BLOCK / 4) + r) + token % 4;
            panel[at] = q.cast_unsigned();
        }
    }
}

fn largest(x: &[f32]) -> f32 {
    // Several at a time.
    let (lanes, rest) = x.as_chunks::<LANES>();
    let mut largest = [0.0_f32; LANES];
    for x in lanes {
        largest.iter_mut().zip(x).for_each(|(largest, x)| *largest = largest.max(x.abs()));
    }
    largest.iter().chain(rest).fold(0.0, |largest, x| x.abs().max(largest))
}

/// One divided by a scale, zero for zero.
#[inline]
pub(crate) fn inverse(scale: f32) -> f32 {
    if scale > 0.0 { scale.recip() } else { 0.0 }
}

/// The nearest numbers of eight bits, ties to even.
fn quantise(x: &[f32], scale: f32, out: &mut [i8]) {
    /// Added to less than 2^22, it leaves no bits behind the point.
    const ROUND: f32 = 1.5 * (1 << 23) as f32;
    let inverse = inverse(scale);
    for (out, x) in out.iter_mut().zip(x) {
        *out = ((x * inverse).clamp(-127.0, 127.0) + ROUND - ROUND) as i8;
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{CpuOptions, Isa};

    /// What a cache holds of 90 tokens, written in steps of so many.
    fn written(isa: Isa, format: KvFormat, d: usize, cuts: &[usize], number: fn(usize) -> f32) -> Vec<u8> {
        let threads = NonZeroUsize::new(2).unwrap();
        let cpu = Cpu::new(CpuOptions { isa: Some(isa), threads, is_pinned: false }).unwrap();
        let mut cache = KvCache::new(2, d, format, 2).unwrap();
        let mut first_position = 0;
        for rows in cuts {
            let numbers = |first: usize| (0..rows * 2 * d).map(|i| number(first + i)).collect::<Vec<_>>();
            let (k, v) = (numbers(first_position * 2 * d), numbers(first_position * 2 * d + 11));
            let span = Span { first_row: 0, rows: *rows, first_position, blocks: &[1, 0] };
            kv_write(&cpu, &mut cache, &k, &v, &[span]);
            first_position += rows;
        }
        assert_eq!(first_position, 90);
        cache.memory[..].to_vec()
    }

    fn assert_same(format: KvFormat, d: usize, number: fn(usize) -> f32) {
        let truth = written(Isa::Scalar, format, d, &[90], number);
        assert!(truth.iter().filter(|byte| **byte != 0).count() > 90 * d);
        for isa in Isa::available() {
            for cuts in [&[90][..], &[5, 1, 1, 40, 1, 42], &[1; 90]] {
                assert!(written(isa, format, d, cuts, number) == truth, "{format:?} of {d} on {isa:?} in {cuts:?}");
            }
        }
    }

    #[test]
    fn every_isa_writes_the_same_bytes() {
        for format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
            for d in [64, 33] {
                assert_same(format, d, |i| ((i * 7919 % 2003) as f32 - 1001.0) / 77.0);
            }
        }
    }

    /// Ties, numbers below the smallest normal one, those that become infinite, and NaN among them.
    #[test]
    fn every_isa_rounds_any_bits_to_the_same_bf16() {
        assert_same(KvFormat::Bf16, 64, |i| f32::from_bits((i as u32).wrapping_mul(0x9e37_79b9)));
        const ENDS: [u32; 7] = [0x8000, 0x1_8000, 0x7f7f_8000, 0x7f80_0000, 0x7f80_0001, 0xffff_ffff, 0x8000_0001];
        assert_same(KvFormat::Bf16, 64, |i| f32::from_bits(ENDS[i % ENDS.len()]));
    }
}
