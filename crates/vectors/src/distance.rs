//! Distances, by the kernels that suit the processor.

use std::sync::LazyLock;

use kernels::codes::CodeKernels;

use crate::types::Metric;

static KERNELS: LazyLock<&'static CodeKernels> = LazyLock::new(CodeKernels::best);

/// The bodies in use.
pub(crate) fn kernels() -> &'static CodeKernels {
    *KERNELS
}

/// Folds numbers eight beside each other, and the eight then: one behind the other, each would wait for the one before.
pub(crate) fn fold<T: Copy>(numbers: &[f32], first: T, next: impl Fn(T, f32) -> T, both: impl Fn(T, T) -> T) -> T {
    let (eights, rest) = numbers.as_chunks::<8>();
    let mut folded = [first; 8];
    for eight in eights {
        for (folded, &number) in folded.iter_mut().zip(eight) {
            *folded = next(*folded, number);
        }
    }
    let rest = rest.iter().fold(first, |folded, &number| next(folded, number));
    folded.into_iter().fold(rest, both)
}

/// The vector that distances are taken of: for [`Metric::Cosine`] of length 1, so that half the squared distance is the
/// cosine distance.
pub(crate) fn prepare(vector: &[f32], metric: Metric) -> Vec<f32> {
    match metric {
        Metric::Euclidean => vector.to_vec(),
        Metric::Cosine => {
            // In `f64`: the square of a small number leaves the range of `f32`.
            let squared = fold(vector, 0.0_f64, |sum, x| sum + f64::from(x) * f64::from(x), |sum, other| sum + other);
            let scale = 1.0 / squared.sqrt();
            vector.iter().map(|&x| (f64::from(x) * scale) as f32).collect()
        }
    }
}

/// The distance of a prepared query to a vector as it was sent.
pub(crate) fn distance(prepared_query: &[f32], vector: &[f32], metric: Metric) -> f32 {
    let kernels = kernels();
    match metric {
        Metric::Euclidean => kernels.squared_f32(prepared_query, vector).sqrt(),
        Metric::Cosine => {
            let length = kernels.dot_f32(vector, vector).sqrt();
            // A vector whose squares leave the range of `f32` is scaled first.
            if length.is_normal() && length < 1e18 && length > 1e-15 {
                1.0 - kernels.dot_f32(prepared_query, vector) / length
            } else {
                1.0 - kernels.dot_f32(prepared_query, &prepare(vector, metric))
            }
        }
    }
}
