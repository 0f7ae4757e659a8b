//! One panel of weights times one tile of activations.

use half::bf16;

use crate::activations::{I8_SCALE, I8_SUMS, I8_WORDS, Tile};
use crate::layout::{LANES, Layout};

/// F32 weights, f32 activations.
pub(crate) fn tile_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    out.fill([0.0; LANES]);
    let weights = panel.as_chunks::<4>().0.chunks_exact(LANES);
    for (weights, x) in weights.zip(tile.words.chunks_exact(tile.stride)) {
        for (out, x) in out.iter_mut().zip(x) {
            for (out, w) in out.iter_mut().zip(weights) {
                *out += f32::from_le_bytes(*w) * f32::from_bits(*x);
            }
        }
    }
}

/// BF16 weights, f32 activations.
pub(crate) fn tile_bf16_f32(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    out.fill([0.0; LANES]);
    let weights = panel.as_chunks::<4>().0.chunks_exact(LANES);
    for (weights, x) in weights.zip(tile.words.chunks_exact(2 * tile.stride)) {
        let (even, odd) = x.split_at(tile.stride);
        for ((out, even), odd) in out.iter_mut().zip(even).zip(odd) {
            for (out, w) in out.iter_mut().zip(weights) {
                let [w_even, w_odd] = pair(u32::from_le_bytes(*w));
                *out += w_even * f32::from_bits(*even);
                *out += w_odd * f32::from_bits(*odd);
            }
        }
    }
}

/// BF16 weights, BF16 activations, summed in f32.
pub(crate) fn tile_bf16(panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    out.fill([0.0; LANES]);
    let weights = panel.as_chunks::<4>().0.chunks_exact(LANES);
    for (weights, x) in weights.zip(tile.words.chunks_exact(tile.stride)) {
        for (out, x) in out.iter_mut().zip(x) {
            let [x_even, x_odd] = pair(*x);
            for (out, w) in out.iter_mut().zip(weights) {
                let [w_even, w_odd] = pair(u32::from_le_bytes(*w));
                *out += w_odd * x_odd;
                *out += w_even * x_even;
            }
        }
    }
}

/// Quantised weights, int8 activations: integer products within a block, f32 between blocks.
pub(crate) fn tile_i8(layout: Layout, panel: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    out.fill([0.0; LANES]);
    for (b, x) in tile.words.chunks_exact(I8_WORDS * tile.stride).enumerate() {
        for r in 0..LANES {
            let block = layout.block(panel, b, r);
            for (c, out) in out.iter_mut().enumerate() {
                let word = |i: usize| x[i * tile.stride + c];
                let mut dots = [0_i32; 2];
                for (k, q) in block.q.iter().enumerate() {
                    let x = word(k / 4).to_le_bytes()[k % 4].cast_signed();
                    dots[k / 16] += (i32::from(*q) - i32::from(block.offset)) * i32::from(x);
                }
                let sums = word(I8_SUMS).cast_signed();
                let sum = (i32::from(sums as i16) + (sums >> 16)) as f32;
                let products = block.scale[0] * dots[0] as f32 + block.scale[1] * dots[1] as f32;
                out[r] += f32::from_bits(word(I8_SCALE)) * (products - block.minimum * sum);
            }
        }
    }
}

/// The two numbers of a word of BF16, lower half first.
fn pair(word: u32) -> [f32; 2] {
    [bf16::from_bits(word as u16).to_f32(), bf16::from_bits((word >> 16) as u16).to_f32()]
}
