//! What encoders need and decoders do not: attention that sees everything, layer norms, biases, Gaussian gates.

mod blocks;

use std::ops::Range;

use crate::layout::LANES;
use crate::parts::Parts;
use crate::scalar::Weights;
use crate::{Cpu, Format, Matrix, Precision, Result, Rows, Scratch, matmul};
pub(crate) use blocks::{Blocks, HeadRows, KEYS, QUERIES, Work};

/// Queries whose scores are kept at a time, so that a large picture needs no quadratic memory.
const SCORED: usize = 256;

/// The sizes of [`full_attention`].
#[derive(Clone, Copy, Debug)]
pub struct FullAttention {
    /// Heads of queries, keys and values alike.
    pub heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// How products with keys and values are rounded.
    pub precision: Precision,
}

/// Attention in which every row of a segment sees every other. Scores are scaled by `1 / sqrt(head_dim)`.
///
/// Shapes: `q`, `k`, `v` and `out` `[n, heads, head_dim]`; rows that lie in no segment are left as they are.
///
/// # Errors
/// [`crate::Error::Memory`] if there is no memory for the keys of one head.
///
/// # Panics
/// If the lengths do not fit or a segment lies outside the rows.
pub fn full_attention(
    cpu: &Cpu,
    shape: &FullAttention,
    [q, k, v]: [&[f32]; 3],
    segments: &[Range<usize>],
    out: &mut [f32],
    scratch: &mut Scratch,
) -> Result<()> {
    let width = shape.heads * shape.head_dim;
    assert!(width > 0 && q.len().is_multiple_of(width), "q is [n, {}, {}]", shape.heads, shape.head_dim);
    assert!(k.len() == q.len() && v.len() == q.len() && out.len() == q.len(), "all are as long as q");
    assert!(segments.iter().all(|segment| segment.end <= q.len() / width), "segments lie within the rows");
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        if let (Some(kernels), Precision::Fast) = (&cpu.table.encode, shape.precision) {
            let numbers = segment.start * width..segment.end * width;
            let of_segment = [q, k, v].map(|x| &x[numbers.clone()]);
            blocks::attend(cpu, kernels, shape, of_segment, &mut out[numbers.clone()], scratch);
            continue;
        }
        for head in 0..shape.heads {
            one_head(cpu, shape, [q, k, v], segment.clone(), head, out, scratch)?;
        }
    }
    Ok(())
}

/// Scores and sums are products with the keys `[n, head_dim]` and the transposed values `[head_dim, n]` as weights.
fn one_head(
    cpu: &Cpu,
    shape: &FullAttention,
    [q, k, v]: [&[f32]; 3],
    segment: Range<usize>,
    head: usize,
    out: &mut [f32],
    scratch: &mut Scratch,
) -> Result<()> {
    let (d, n) = (shape.head_dim, segment.len());
    let of_row = |x: &'_ [f32], row: usize| -> Range<usize> {
        let start = (row * shape.heads + head) * d;
        debug_assert!(start + d <= x.len());
        start..start + d
    };
    let pack = |rows: usize, columns: usize, numbers: &[u8]| {
        Matrix::pack(cpu, Format::F32, rows, columns, numbers, shape.precision)
    };
    let mut bytes = Vec::with_capacity(4 * n * d);
    segment.clone().for_each(|row| k[of_row(k, row)].iter().for_each(|x| bytes.extend(x.to_le_bytes())));
    let keys = pack(n, d, &bytes)?;
    bytes.clear();
    for i in 0..d {
        segment.clone().for_each(|row| bytes.extend(v[of_row(v, row).start + i].to_le_bytes()));
    }
    let values = pack(d, n, &bytes)?;
    let scale = 1.0 / (d as f32).sqrt();
    let (mut queries, mut scores, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for first in segment.clone().step_by(SCORED) {
        let rows = first..segment.end.min(first + SCORED);
        queries.clear();
        rows.clone().for_each(|row| queries.extend(q[of_row(q, row)].iter().map(|x| x * scale)));
        scores.resize(rows.len() * n, 0.0);
        matmul(cpu, Rows::prompt(&queries), &keys, &mut scores, scratch);
        each_row(cpu, &mut scores, n, &|_, row| softmax(cpu, row));
        sums.resize(rows.len() * d, 0.0);
        matmul(cpu, Rows::prompt(&scores), &values, &mut sums, scratch);
        for (row, sums) in rows.zip(sums.chunks_exact(d)) {
            let range = of_row(out, row);
            out[range].copy_from_slice(sums);
        }
    }
    Ok(())
}

/// `row = exp(row) / sum(exp(row))`.
fn softmax(cpu: &Cpu, row: &mut [f32]) {
    let (mut largest, mut sum) = (f32::NEG_INFINITY, 0.0);
    (cpu.table.softmax_block)(row, &mut largest, &mut sum, Weights::Plain);
    let inverse = 1.0 / sum;
    row.iter_mut().for_each(|weight| *weight *= inverse);
}

/// `out = weight * (x - mean) / sqrt(variance + eps) + bias` for each row.
///
/// # Panics
/// If the lengths do not fit.
pub fn layer_norm(cpu: &Cpu, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let d = weight.len();
    assert!(d > 0 && bias.len() == d && x.len().is_multiple_of(d), "x is whole rows of {d}");
    assert_eq!(x.len(), out.len(), "the output is as long as the input");
    each_row(cpu, out, d, &|row, out| {
        let x = &x[row * d..][..d];
        let mean = sum_of(x, |x| x) / d as f32;
        let variance = sum_of(x, |x| (x - mean) * (x - mean)) / d as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for ((out, x), (weight, bias)) in out.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
            *out = (x - mean) * scale * weight + bias;
        }
    });
}

/// The sum over all numbers, of each sixteenth by itself first: one after the other they would wait for each other.
fn sum_of(x: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (lanes, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for x in lanes {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += of(*x));
    }
    rest.iter().map(|x| of(*x)).chain(sums).sum()
}

/// Adds the bias to every row.
///
/// # Panics
/// If `x` is not whole rows.
pub fn add_bias(cpu: &Cpu, x: &mut [f32], bias: &[f32]) {
    assert!(!bias.is_empty() && x.len().is_multiple_of(bias.len()), "x is whole rows of {}", bias.len());
    each_row(cpu, x, bias.len(), &|_, row| row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias));
}

/// Which Gaussian gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// `x Φ(x)`.
    Exact,
    /// The approximation by a hyperbolic tangent.
    Tanh,
}

/// `x = gelu(x)`. The error function is that of Abramowitz and Stegun 7.1.26, to 1.5e-7.
pub fn gelu(cpu: &Cpu, x: &mut [f32], kind: Gelu) {
    const PIECE: usize = 1024;
    let exact = |x: f64| 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
    each_row(cpu, x, PIECE, &|_, x| match kind {
        Gelu::Exact => x.iter_mut().for_each(|x| *x = exact(f64::from(*x)) as f32),
        Gelu::Tanh => {
            // x (1 + tanh u) / 2 is x / (1 + exp(-2u)), so it is the gate of SwiGLU at 2u, times x / 2u.
            let mut ups = [0.0; PIECE];
            for (x, up) in x.iter_mut().zip(&mut ups) {
                let slope = 2.0 * std::f32::consts::FRAC_2_PI.sqrt() * (1.0 + 0.044_715 * *x * *x);
                (*x, *up) = (*x * slope, 1.0 / slope);
            }
            (cpu.table.swiglu)(x, &ups[..x.len()]);
        }
    });
}

fn erf(x: f64) -> f64 {
    const A: [f64; 5] = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let polynomial = A.iter().rev().fold(0.0, |sum, a| (sum + a) * t);
    (1.0 - polynomial * (-x * x).exp()).copysign(x)
}

/// Calls `body` with each row of `d` numbers (the last may be shorter).
fn each_row(cpu: &Cpu, x: &mut [f32], d: usize, body: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let length = x.len();
    let parts = Parts::new(x);
    cpu.pool.for_each(length.div_ceil(d), &|_, row| {
        // SAFETY: every index has its own row.
        body(row, unsafe { parts.part(row * d..length.min((row + 1) * d)) });
    });
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::{FullAttention, Gelu, KEYS, QUERIES, SCORED, full_attention, gelu, layer_norm};
    use crate::{Cpu, CpuOptions, Isa, Precision, Scratch};

    fn cpu() -> Cpu {
        Cpu::new(CpuOptions::default()).unwrap()
    }

    #[test]
    fn every_row_of_a_segment_sees_every_other() {
        let (heads, head_dim, n) = (3, 5, SCORED + 9);
        let numbers =
            |shift: f32| -> Vec<f32> { (0..n * heads * head_dim).map(|i| ((i as f32 + shift) * 0.73).sin()).collect() };
        let [q, k, v] = [numbers(0.0), numbers(0.4), numbers(0.9)];
        let segments = [0..4, 4..n];
        let shape = FullAttention { heads, head_dim, precision: Precision::Exact };
        let mut out = vec![f32::NAN; q.len()];
        full_attention(&cpu(), &shape, [&q, &k, &v], &segments, &mut out, &mut Scratch::new()).unwrap();
        for segment in segments {
            for (row, head) in segment.clone().flat_map(|row| (0..heads).map(move |head| (row, head))) {
                let at = |x: &[f32], row: usize, i: usize| f64::from(x[(row * heads + head) * head_dim + i]);
                let score = |other: usize| {
                    let dot: f64 = (0..head_dim).map(|i| at(&q, row, i) * at(&k, other, i)).sum();
                    (dot / (head_dim as f64).sqrt()).exp()
                };
                let sum: f64 = segment.clone().map(score).sum();
                for i in 0..head_dim {
                    let expected = segment.clone().map(|other| score(other) * at(&v, other, i)).sum::<f64>() / sum;
                    let found = at(&out, row, i);
                    assert!((found - expected).abs() < 1e-5, "{row} {head} {i}: {found} for {expected}");
                }
            }
        }
    }

    /// Numbers with so wide a range of scores that the largest one is found in a late block; both sides have BF16, so
    /// what remains is the rounding of the weights, and of scaled queries where there are no tiles.
    #[test]
    fn scores_in_bf16_come_block_by_block() {
        let (heads, head_dim, n) = (2, 72, 2 * KEYS + QUERIES + 5);
        let numbers = |shift: f32, size: f32| -> Vec<f32> {
            let number = |i: usize| (i as f32 * 0.73 + shift).sin() * (i as f32 * 0.0021 + shift).cos() * size;
            (0..n * heads * head_dim).map(|i| bf16::from_f32(number(i)).to_f32()).collect()
        };
        let [q, k, v] = [numbers(0.0, 3.0), numbers(0.4, 2.0), numbers(0.9, 1.0)];
        let segments = [1..8, 8..n];
        let shape = FullAttention { heads, head_dim, precision: Precision::Fast };
        let at = |x: &[f32], row: usize, head: usize, i: usize| f64::from(x[(row * heads + head) * head_dim + i]);
        let mut expected = vec![f64::NAN; q.len()];
        for segment in segments.clone() {
            for (row, head) in segment.clone().flat_map(|row| (0..heads).map(move |head| (row, head))) {
                let score = |other: usize| -> f64 {
                    let dot: f64 = (0..head_dim).map(|i| at(&q, row, head, i) * at(&k, other, head, i)).sum();
                    dot / (head_dim as f64).sqrt()
                };
                let scores: Vec<f64> = segment.clone().map(score).collect();
                let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for i in 0..head_dim {
                    let of_row = weights.iter().zip(segment.clone());
                    let weighted: f64 = of_row.map(|(weight, other)| weight * at(&v, other, head, i)).sum();
                    expected[(row * heads + head) * head_dim + i] = weighted / sum;
                }
            }
        }
        for isa in Isa::available() {
            let cpu = Cpu::new(CpuOptions { isa: Some(isa), ..CpuOptions::default() }).unwrap();
            let mut out = vec![f32::NAN; q.len()];
            full_attention(&cpu, &shape, [&q, &k, &v], &segments, &mut out, &mut Scratch::new()).unwrap();
            for (i, (&found, &expected)) in out.iter().zip(&expected).enumerate() {
                // A row without a segment stays what it was.
                let is_left = found.is_nan() && expected.is_nan();
                assert!(is_left || (f64::from(found) - expected).abs() < 5e-3, "{isa}, {i}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn gates_and_norms_equal_their_formulas() {
        // Values of scipy's `special.erf` and of the formula in torch's documentation.
        let mut x = [-3.0, -0.5, 0.0, 1.0, 6.0];
        gelu(&cpu(), &mut x, Gelu::Exact);
        for (found, expected) in x.iter().zip([-0.004_049_694, -0.154_268_77, 0.0, 0.841_344_7, 6.0]) {
            assert!((found - expected).abs() < 5e-7, "{found} for {expected}");
        }
        let mut x = [-3.0, -0.5, 0.0, 1.0, 6.0];
        gelu(&cpu(), &mut x, Gelu::Tanh);
        for (found, expected) in x.iter().zip([-0.003_637_392, -0.154_286_01, 0.0, 0.841_192, 6.0_f32]) {
            assert!((found - expected).abs() < 5e-7 * expected.abs().max(1.0), "{found} for {expected}");
        }
        let mut out = [0.0; 2];
        layer_norm(&cpu(), &[1.0, 3.0], &[2.0, 2.0], &[0.5, 0.5], 0.0, &mut out);
        assert!((out[0] + 1.5).abs() < 1e-6 && (out[1] - 2.5).abs() < 1e-6, "{out:?}");
    }
}
