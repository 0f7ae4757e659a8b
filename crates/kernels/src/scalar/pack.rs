//! Rows of f32 activations into tiles of words, see `crate::activations`.

use half::bf16;

use crate::activations::{I8_SCALE, I8_SUMS, I8_WORDS};
use crate::layout::BLOCK;

pub(crate) fn pack_f32(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    for (c, row) in rows.iter().enumerate() {
        let x = &x[*row as usize * columns..][..columns];
        for (k, x) in x.iter().enumerate() {
            out[k * rows.len() + c] = x.to_bits();
        }
        if columns % 2 == 1 {
            out[columns * rows.len() + c] = 0;
        }
    }
}

pub(crate) fn pack_bf16(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    for (c, row) in rows.iter().enumerate() {
        let x = &x[*row as usize * columns..][..columns];
        for (k, pair) in x.chunks(2).enumerate() {
            let low = bf16::from_f32(pair[0]).to_bits();
            let high = pair.get(1).map_or(0, |x| bf16::from_f32(*x).to_bits());
            out[k * rows.len() + c] = u32::from(low) | u32::from(high) << 16;
        }
    }
}

/// For each 32 numbers: `scale = max|x| / 127` and `q = round(x / scale)`, ties to even.
#[inline]
pub(crate) fn pack_i8(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    for (c, row) in rows.iter().enumerate() {
        let x = &x[*row as usize * columns..][..columns];
        for (x, out) in x.chunks(BLOCK).zip(out.chunks_exact_mut(I8_WORDS * rows.len())) {
            let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let mut q = [0_i8; BLOCK];
            for (q, x) in q.iter_mut().zip(x) {
                *q = (x * inverse).round_ties_even() as i8;
            }
            for (u, q) in q.as_chunks::<4>().0.iter().enumerate() {
                out[u * rows.len() + c] = u32::from_le_bytes(q.map(i8::cast_unsigned));
            }
            let sum = |q: &[i8]| q.iter().map(|q| i16::from(*q)).sum::<i16>().cast_unsigned();
            out[I8_SUMS * rows.len() + c] = u32::from(sum(&q[..16])) | u32::from(sum(&q[16..])) << 16;
            out[I8_SCALE * rows.len() + c] = (largest / 127.0).to_bits();
        }
    }
}
