//! Norms, activations and softmax, one row at a time.

use half::bf16;

/// `out = weight * x / sqrt(mean(x^2) + eps)`.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares: f32 = x.iter().map(|x| x * x).sum();
    let scale = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = weight * (x * scale);
    }
}

/// As [`rms_norm`], in place.
pub(crate) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let squares: f32 = x.iter().map(|x| x * x).sum();
    let scale = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = weight * (*x * scale);
    }
}

/// `gate = gate / (1 + exp(-gate)) * up`.
pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + (-*gate).exp()) * up;
    }
}

/// How the weights of a softmax are rounded before they are summed, so that sum and use agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    Plain,
    Bf16,
}

/// One step of online softmax. `largest` is raised to the largest score, `scores` become `exp(score - largest)`
/// (rounded as `weights` says), `sum` is rescaled and they are added to it. Returns the factor by which what was
/// gathered before has to be rescaled. Scores of minus infinity are hidden keys and become zero.
pub(crate) fn softmax_block(scores: &mut [f32], largest: &mut f32, sum: &mut f32, weights: Weights) -> f32 {
    let highest = scores.iter().fold(*largest, |highest, score| highest.max(*score));
    if highest == f32::NEG_INFINITY {
        scores.fill(0.0);
        return 1.0;
    }
    let factor = (*largest - highest).exp();
    let mut added = 0.0;
    for score in scores {
        let weight = (*score - highest).exp();
        *score = match weights {
            Weights::Plain => weight,
            Weights::Bf16 => bf16::from_f32(weight).to_f32(),
        };
        added += *score;
    }
    *largest = highest;
    *sum = *sum * factor + added;
    factor
}
