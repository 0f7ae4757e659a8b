//! Norms, gates and softmax.

use std::arch::x86_64::*;

use super::{load_floats, store_floats};
use crate::layout::LANES;
use crate::scalar::{self, Weights};

#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    rms_norm_in_place(out, weight, eps);
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let count = x.len() as f32;
    let (lanes, tail) = x.as_chunks_mut::<LANES>();
    let mut sums = _mm512_setzero_ps();
    for x in &*lanes {
        let x = load_floats(x);
        sums = _mm512_fmadd_ps(x, x, sums);
    }
    let squares = _mm512_reduce_add_ps(sums) + tail.iter().map(|x| x * x).sum::<f32>();
    let scale = 1.0 / (squares / count + eps).sqrt();
    let (weights, weights_tail) = weight.as_chunks::<LANES>();
    for (x, weight) in lanes.iter_mut().zip(weights) {
        let scaled = _mm512_mul_ps(load_floats(x), _mm512_set1_ps(scale));
        store_floats(x, _mm512_mul_ps(load_floats(weight), scaled));
    }
    for (x, weight) in tail.iter_mut().zip(weights_tail) {
        *x = weight * (*x * scale);
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn swiglu(gate: &mut [f32], up: &[f32]) {
    let (gates, gates_tail) = gate.as_chunks_mut::<LANES>();
    let (ups, ups_tail) = up.as_chunks::<LANES>();
    let one = _mm512_set1_ps(1.0);
    for (gate, up) in gates.iter_mut().zip(ups) {
        let x = load_floats(gate);
        let below = _mm512_add_ps(one, exp(_mm512_sub_ps(_mm512_setzero_ps(), x)));
        store_floats(gate, _mm512_mul_ps(_mm512_div_ps(x, below), load_floats(up)));
    }
    scalar::swiglu(gates_tail, ups_tail);
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn softmax_block(scores: &mut [f32], largest: &mut f32, sum: &mut f32, weights: Weights) -> f32 {
    let (lanes, tail) = scores.as_chunks_mut::<LANES>();
    if !tail.is_empty() {
        return scalar::softmax_block(scores, largest, sum, weights);
    }
    let mut high = _mm512_set1_ps(*largest);
    for scores in &*lanes {
        high = _mm512_max_ps(high, load_floats(scores));
    }
    let highest = _mm512_reduce_max_ps(high);
    if highest == f32::NEG_INFINITY {
        scores.fill(0.0);
        return 1.0;
    }
    let factor = (*largest - highest).exp();
    let (shift, mut added) = (_mm512_set1_ps(highest), _mm512_setzero_ps());
    for scores in lanes {
        let mut weight = exp(_mm512_sub_ps(load_floats(scores), shift));
        if weights == Weights::Bf16 {
            weight = round_to_bf16(weight);
        }
        added = _mm512_add_ps(added, weight);
        store_floats(scores, weight);
    }
    *largest = highest;
    *sum = *sum * factor + _mm512_reduce_add_ps(added);
    factor
}

/// The nearest BF16, ties to even; the numbers here are finite or NaN, and a NaN stays one.
#[target_feature(enable = "avx512f")]
#[inline]
fn round_to_bf16(x: __m512) -> __m512 {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(0xffff_0000_u32.cast_signed())))
}

/// `e^x` to two units in the last place: `2^n * p(r)` with `x = n ln 2 + r`, `|r| <= ln 2 / 2` and Taylor's polynomial
/// of degree seven. Below -87.3 the result fades to zero, above 88.7 it is infinite; NaN stays NaN.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn exp(x: __m512) -> __m512 {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    // The second operand comes back if one is NaN: `x`. The bounds keep the exponent within what `scalef` scales.
    let x = _mm512_min_ps(_mm512_set1_ps(200.0), _mm512_max_ps(_mm512_set1_ps(-200.0), x));
    let n = _mm512_roundscale_ps::<NEAREST>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    // ln 2 in two pieces, so that the difference is exact: Cody and Waite.
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
    let mut p = _mm512_set1_ps(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(p, n)
}
