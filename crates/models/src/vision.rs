//! The vision tower of Qwen3-VL and Qwen3.5: from patches to features that take the places of tokens.
//!
//! Notation: `n` patches, `D` width of the tower, `H` width of the decoder. After transformers' `qwen3_vl`:
//!
//! ```text
//! x = patch · Wp + b + position table, resampled bilinearly to the picture's grid
//! for each block:  x += attention(norm(x));  x += fc2(gelu_tanh(fc1(norm(x))))    // every frame sees only itself
//! merged = fc2(gelu(fc1(four patches of norm(x))))                                // one feature a token
//! ```
//! Some blocks have a merger of their own (DeepStack), whose features are added behind the first layers of the decoder.

mod load;
mod positions;

use kernels::{Cpu, FullAttention, Gelu, Precision, Rope, Scratch};

use crate::config::Vision as Shape;
use crate::encoder::{Linear, Norm, apply_group};
use crate::picture::{MERGE, Patches, in_blocks};
use crate::weight_cache::Keeping;
use crate::{Error, Result};

pub use positions::{Placed, placed};

/// Base of the wavelengths of rows and columns.
const THETA: f64 = 10_000.0;

/// A tower that is ready to compute.
pub struct Vision {
    shape: Shape,
    precision: Precision,
    patch: Linear,   // [D, PATCH_NUMBERS]
    table: Vec<f32>, // [side, side, D]
    blocks: Vec<Block>,
    merger: Merger,
    deep_mergers: Vec<Merger>, // in the order of `shape.deepstack`
    _keeping: Keeping,
}

struct Block {
    attention_norm: Norm,
    qkv: [Linear; 3],
    out: Linear,
    norm: Norm,
    up: Linear,
    down: Linear,
}

/// Joins the four patches of a token. The norm is over one patch, or over the four together.
struct Merger {
    norm: Norm,
    up: Linear,
    down: Linear,
}

/// What lies between the products of a block, from block to block.
#[derive(Default)]
struct Buffers {
    normed: Vec<f32>,   // [n, D]
    qkv: [Vec<f32>; 3], // [n, D] each
    attended: Vec<f32>, // [n, D]
    inner: Vec<f32>,    // [n, intermediate]
    scratch: Scratch,
}

/// What a picture becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Frame pairs, rows and columns of patches.
    pub grid: [usize; 3],
    /// `[tokens, H]`, in place of the embeddings.
    pub merged: Vec<f32>,
    /// `[tokens, H]` for each of the first layers of the decoder, added behind it.
    pub deep: Vec<Vec<f32>>,
}

impl Vision {
    /// Computes the features of a picture or of the frames of a video.
    ///
    /// # Errors
    /// [`Error::Pack`] if there is no memory for the attention of a frame.
    ///
    /// # Panics
    /// If the patches do not fit their grid.
    pub fn encode(&self, cpu: &Cpu, patches: &Patches) -> Result<Features> {
        let [frames, rows, columns] = patches.grid;
        let count = rows * columns;
        let mut buffers = Buffers::default();
        let mut x = self.patch.apply(cpu, &patches.values, &mut buffers.scratch); // [n, D]
        assert_eq!(x.len(), frames * count * self.shape.hidden, "the patches fill the grid {:?}", patches.grid);
        let places = self.places(rows, columns);
        x.chunks_exact_mut(places.len()).for_each(|frame| kernels::add(frame, &places));
        let segments: Vec<_> = (0..frames).map(|frame| frame * count..(frame + 1) * count).collect();
        let (cos, sin) = self.rotations(rows, columns, frames);
        let rope = Rope { cos: &cos, sin: &sin, half: self.shape.hidden / self.shape.heads / 2 };
        let mut deep = vec![Vec::new(); self.deep_mergers.len()];
        for (index, block) in self.blocks.iter().enumerate() {
            self.block(cpu, block, rope, &segments, &mut x, &mut buffers)?;
            if let Some(place) = self.shape.deepstack.iter().position(|&layer| layer == index) {
                deep[place] = self.deep_mergers[place].apply(cpu, &x, &mut buffers.scratch);
            }
        }
        Ok(Features { grid: patches.grid, merged: self.merger.apply(cpu, &x, &mut buffers.scratch), deep })
    }

    fn block(
        &self,
        cpu: &Cpu,
        block: &Block,
        rope: Rope<'_>,
        segments: &[std::ops::Range<usize>],
        x: &mut [f32],
        buffers: &mut Buffers,
    ) -> Result<()> {
        let shape = FullAttention {
            heads: self.shape.heads,
            head_dim: self.shape.hidden / self.shape.heads,
            precision: self.precision,
        };
        let Buffers { normed, qkv, attended, inner, scratch } = buffers;
        block.attention_norm.apply_to(cpu, x, normed);
        apply_group(cpu, &block.qkv, normed, qkv, scratch);
        let [q, k, v] = qkv;
        kernels::head_norm_rope(cpu, q, shape.heads, shape.head_dim, None, rope);
        kernels::head_norm_rope(cpu, k, shape.heads, shape.head_dim, None, rope);
        attended.resize(x.len(), 0.0);
        kernels::full_attention(cpu, &shape, [q, k, v], segments, attended, scratch)
            .map_err(|source| Error::Pack { name: "the keys of a picture".to_owned(), source })?;
        block.out.join(cpu, attended, x, scratch);
        block.norm.apply_to(cpu, x, normed);
        block.up.apply_to(cpu, normed, inner, scratch);
        kernels::gelu(cpu, inner, Gelu::Tanh);
        block.down.join(cpu, inner, x, scratch);
        Ok(())
    }

    /// The learned positions of a grid, `[patches, D]`: the square table resampled with its corners on the grid's.
    fn places(&self, rows: usize, columns: usize) -> Vec<f32> {
        let (side, width) = (self.shape.table_side, self.shape.hidden);
        let steps = |count: usize| -> Vec<f32> {
            let step = if count > 1 { (side - 1) as f32 / (count - 1) as f32 } else { 0.0 };
            (0..count).map(|i| i as f32 * step).collect()
        };
        let (down, across) = (steps(rows), steps(columns));
        let mut places = vec![0.0; rows * columns * width];
        for ((row, column), place) in in_blocks(rows, columns).zip(places.chunks_exact_mut(width)) {
            let (y, x) = (down[row], across[column]);
            let (y0, x0) = (y as usize, x as usize);
            let (y1, x1) = ((y0 + 1).min(side - 1), (x0 + 1).min(side - 1));
            let (dy, dx) = (y - y0 as f32, x - x0 as f32);
            for (at, share) in [
                (y0 * side + x0, (1.0 - dy) * (1.0 - dx)),
                (y0 * side + x1, (1.0 - dy) * dx),
                (y1 * side + x0, dy * (1.0 - dx)),
                (y1 * side + x1, dy * dx),
            ] {
                kernels::scale_add(place, share, &self.table[at * width..][..width]);
            }
        }
        places
    }

    /// Cosines and sines, `[patches, head / 2]`: a quarter of the head turns with the row, a quarter with the column.
    fn rotations(&self, rows: usize, columns: usize, frames: usize) -> (Vec<f32>, Vec<f32>) {
        let quarter = self.shape.hidden / self.shape.heads / 4;
        let frequency = |i: usize| THETA.powf(-(i as f64) / quarter as f64) as f32;
        let frequencies: Vec<f32> = (0..quarter).map(frequency).collect();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for (row, column) in (0..frames).flat_map(|_| in_blocks(rows, columns)) {
            for position in [row, column] {
                for frequency in &frequencies {
                    let (s, c) = (position as f32 * frequency).sin_cos();
                    cos.push(c);
                    sin.push(s);
                }
            }
        }
        (cos, sin)
    }
}

impl Merger {
    fn apply(&self, cpu: &Cpu, x: &[f32], scratch: &mut Scratch) -> Vec<f32> {
        // The four patches of a token lie together, so joining them moves nothing; only the norm's width differs.
        debug_assert!(x.len().is_multiple_of(MERGE * MERGE));
        let mut inner = self.up.apply(cpu, &self.norm.apply(cpu, x), scratch);
        kernels::gelu(cpu, &mut inner, Gelu::Exact);
        self.down.apply(cpu, &inner, scratch)
    }
}
