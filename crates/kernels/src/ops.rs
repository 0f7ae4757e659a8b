//! What stands between the products: norms, rotary positions, gates and sums.

use crate::parts::Parts;
use crate::{Cpu, scalar};

/// Numbers below which handing out work costs more than doing it alone.
const ALONE_MAX: usize = 16 << 10;
/// Into how many shares rows are cut for each thread: what the slowest can be late by, against the cost of taking one.
const SHARES_PER_THREAD: usize = 8;

/// `out = weight * x / sqrt(mean(x^2) + eps)` for each row of `x`, `[n, weight.len()]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn rms_norm(cpu: &Cpu, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let d = weight.len();
    assert!(d > 0 && x.len().is_multiple_of(d), "x is whole rows of {d}");
    assert_eq!(x.len(), out.len(), "the output is as long as the input");
    rows(cpu, out, d, &|row, out| (cpu.table.rms_norm)(&x[row * d..(row + 1) * d], weight, eps, out));
}

/// The norm of each head before its rotation.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm<'a> {
    /// `[head_dim]`, shared by all heads.
    pub weight: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
}

/// Rotary positions in the half-split layout: of the first `2 * half` numbers of a head, number `i` and number
/// `i + half` are rotated together; the others stay.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// `[n, half]`, one row for each row of `x`.
    pub cos: &'a [f32],
    /// `[n, half]`.
    pub sin: &'a [f32],
    /// Half of the rotated dimensions.
    pub half: usize,
}

/// Norm, if there is one, then rotation of each head of `x`, `[n, heads, head_dim]`, in place.
///
/// # Panics
/// If the lengths do not fit, or if more than `head_dim` dimensions would be rotated.
pub fn head_norm_rope(
    cpu: &Cpu,
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    norm: Option<HeadNorm<'_>>,
    rope: Rope<'_>,
) {
    let (d, half) = (heads * head_dim, rope.half);
    assert!(d > 0 && x.len().is_multiple_of(d), "x is whole rows of {heads} heads of {head_dim}");
    assert!(2 * half <= head_dim, "{half} pairs in a head of {head_dim}");
    let n = x.len() / d;
    assert_eq!(rope.cos.len(), n * half, "cos is [n, half]");
    assert_eq!(rope.sin.len(), n * half, "sin is [n, half]");
    assert!(norm.is_none_or(|norm| norm.weight.len() == head_dim), "the norm has {head_dim} weights");
    rows(cpu, x, d, &|row, x| {
        let (cos, sin) = (&rope.cos[row * half..][..half], &rope.sin[row * half..][..half]);
        for head in x.chunks_exact_mut(head_dim) {
            if let Some(norm) = norm {
                (cpu.table.rms_norm_in_place)(head, norm.weight, norm.eps);
            }
            rotate(&mut head[..2 * half], cos, sin);
        }
    });
}

/// Small enough that the compiler's own vectors do; every operation is the same on each ISA.
fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// `gate = silu(gate) * up`.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu(cpu: &Cpu, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up have the same length");
    const PIECE: usize = 4096;
    rows(cpu, gate, PIECE, &|piece, gate| (cpu.table.swiglu)(gate, &up[piece * PIECE..][..gate.len()]));
}

/// `x += y`.
///
/// # Panics
/// If the lengths differ.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "both have the same length");
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// `x += scale * y`: an expert's share.
///
/// # Panics
/// If the lengths differ.
pub fn scale_add(x: &mut [f32], scale: f32, y: &[f32]) {
    assert_eq!(x.len(), y.len(), "both have the same length");
    x.iter_mut().zip(y).for_each(|(x, y)| *x += scale * y);
}

/// Softmax over all of `x`, in place and in f32. Minus infinity becomes zero.
pub fn softmax(x: &mut [f32]) {
    let (mut largest, mut sum) = (f32::NEG_INFINITY, 0.0);
    scalar::softmax_block(x, &mut largest, &mut sum, scalar::Weights::Plain);
    x.iter_mut().for_each(|x| *x /= sum);
}

/// Calls `body` with each row of `d` numbers (the last may be shorter), on all threads if there are many.
fn rows(cpu: &Cpu, x: &mut [f32], d: usize, body: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    if x.len() <= ALONE_MAX || cpu.threads() == 1 {
        return x.chunks_mut(d).enumerate().for_each(|(row, x)| body(row, x));
    }
    let (length, count) = (x.len(), x.len().div_ceil(d));
    let shares = count.min(SHARES_PER_THREAD * cpu.threads());
    let parts = Parts::new(x);
    cpu.pool.for_each(shares, &|_, share| {
        for row in count * share / shares..count * (share + 1) / shares {
            // SAFETY: the shares' ranges of rows do not overlap, and every share is handed out once.
            body(row, unsafe { parts.part(row * d..length.min((row + 1) * d)) });
        }
    });
}
