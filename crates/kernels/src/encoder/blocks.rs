//! Attention of an encoder in BF16, block by block: two products with an online softmax between them, never the whole
//! matrix of scores.
//!
//! Keys and values are rounded once for all queries, and lie in blocks of [`KEYS`] keys for each head. `d` is the
//! head's dimension, made a multiple of 32 by zeros; a word is two BF16.
//!
//! | at word | holds |
//! |---|---|
//! | 0 | keys, `[KEYS / 16][d / 2][16 keys]`, a word is two numbers of a key |
//! | `KEYS * d / 2` | values, `[d / 16][KEYS / 2][16 numbers]`, a word is one number of two keys |
//!
//! Both are panels as in [`crate::layout`], so that the kernels of the products read them.

use super::FullAttention;
use crate::activations::{Kind, TILE};
use crate::layout::{BLOCK, LANES};
use crate::parts::Parts;
use crate::table::Encode;
use crate::{Cpu, Scratch};

/// Keys between two rescalings: their scores for [`QUERIES`] queries stay in the first-level cache.
pub(crate) const KEYS: usize = 256;
/// Queries that are computed together.
pub(crate) const QUERIES: usize = 2 * TILE;

/// The rows of one head in a segment.
#[derive(Clone, Copy)]
pub(crate) struct HeadRows<'a> {
    x: &'a [f32], // [rows, width]
    width: usize,
    at: usize,
    head_dim: usize,
}

impl<'a> HeadRows<'a> {
    /// Row `index`, `[head_dim]`; `None` behind the last one.
    pub(crate) fn row(&self, index: usize) -> Option<&'a [f32]> {
        self.x.chunks_exact(self.width).nth(index).map(|row| &row[self.at..][..self.head_dim])
    }
}

/// The keys and values of one head.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    /// Whole blocks, the last of which may hold fewer keys.
    pub(crate) words: &'a [u32],
    /// How many keys there are.
    pub(crate) count: usize,
    /// The head's dimension, a multiple of 32.
    pub(crate) d: usize,
    /// What scores are multiplied with.
    pub(crate) scale: f32,
}

/// Working memory of a thread.
pub(crate) struct Work<'a> {
    /// `[2 tiles][d / 32][16 queries][16]` words.
    pub(crate) queries: &'a mut [u32],
    /// `[KEYS / 16][QUERIES]` of sixteen keys.
    pub(crate) scores: &'a mut [[f32; LANES]],
    /// `[2 tiles][KEYS / 32][16 queries][16]` words.
    pub(crate) weights: &'a mut [u32],
    /// `[d / 16][QUERIES]` of sixteen numbers: weighted values of a block.
    pub(crate) part: &'a mut [[f32; LANES]],
    /// As `part`, of all blocks; in the end the outputs.
    pub(crate) total: &'a mut [[f32; LANES]],
}

/// The sizes of a segment.
#[derive(Clone, Copy)]
struct Sizes {
    d: usize,
    /// Blocks of a head.
    blocks: usize,
}

impl Sizes {
    fn block_words(self) -> usize {
        KEYS * self.d
    }

    fn work_words(self) -> usize {
        self.lengths().iter().sum()
    }

    /// Words of each part of [`Work`], all of them whole cache lines.
    fn lengths(self) -> [usize; 5] {
        [QUERIES * self.d / 2, QUERIES * KEYS, QUERIES * KEYS / 2, QUERIES * self.d, QUERIES * self.d]
    }

    fn work(self, words: &mut [u32]) -> Work<'_> {
        let mut rest = words;
        let parts = self.lengths().map(|length| rest.split_off_mut(..length).expect("the memory was made for them"));
        let [queries, scores, weights, part, total] = parts;
        let [scores, part, total] = [scores, part, total].map(as_floats);
        Work { queries, scores, weights, part, total }
    }
}

/// Attention of the rows of one segment. Shapes: as for [`super::full_attention`], but all `[rows, width]` of the
/// segment only.
pub(super) fn attend(
    cpu: &Cpu,
    kernels: &Encode,
    shape: &FullAttention,
    [q, k, v]: [&[f32]; 3],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let (head_dim, width) = (shape.head_dim, shape.heads * shape.head_dim);
    let rows = q.len() / width;
    let sizes = Sizes { d: head_dim.next_multiple_of(BLOCK), blocks: rows.div_ceil(KEYS) };
    let of_head = |x, head| HeadRows { x, width, at: head * head_dim, head_dim };
    let (block, work) = (sizes.block_words(), sizes.work_words());
    let count = shape.heads * sizes.blocks;
    let words = &mut scratch.packed[Kind::Bf16 as usize].words(count * block)[..count * block];
    let parts = Parts::new(words);
    cpu.pool.for_each(count, &|_, index| {
        let (head, first) = (index / sizes.blocks, index % sizes.blocks * KEYS);
        // SAFETY: every index has its own block.
        let out = unsafe { parts.part(index * block..(index + 1) * block) };
        (kernels.pack)(of_head(k, head), of_head(v, head), first..rows.min(first + KEYS), out);
    });
    let (words, out) = (&*words, Parts::new(out));
    let works = Parts::new(scratch.unpacked.words(cpu.threads() * work));
    let tiles = rows.div_ceil(QUERIES);
    cpu.pool.for_each(shape.heads * tiles, &|thread, index| {
        let (head, first) = (index / tiles, index % tiles * QUERIES);
        // SAFETY: every thread has its own part.
        let mut work = sizes.work(unsafe { works.part(thread * work..(thread + 1) * work) });
        let words = &words[head * sizes.blocks * block..][..sizes.blocks * block];
        let blocks = Blocks { words, count: rows, d: sizes.d, scale: 1.0 / (head_dim as f32).sqrt() };
        (kernels.attend)(of_head(q, head), first, blocks, &mut work);
        for (column, row) in (first..rows.min(first + QUERIES)).enumerate() {
            let at = row * width + head * head_dim;
            // SAFETY: every index has its own rows of a head.
            let out = unsafe { out.part(at..at + head_dim) };
            for (out, total) in out.chunks_mut(LANES).zip(work.total[column..].iter().step_by(QUERIES)) {
                out.copy_from_slice(&total[..out.len()]);
            }
        }
    });
}

fn as_floats(words: &mut [u32]) -> &mut [[f32; LANES]] {
    let (pointer, count) = (words.as_mut_ptr().cast(), words.len() / LANES);
    // SAFETY: u32 and f32 have the same size and alignment, and every bit pattern is a value of both.
    unsafe { std::slice::from_raw_parts_mut(pointer, count) }
}
