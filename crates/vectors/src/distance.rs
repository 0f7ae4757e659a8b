//! Distances, by the kernels that suit the processor.

use std::sync::LazyLock;

use kernels::codes::CodeKernels;

use crate::types::Metric;

static KERNELS: LazyLock<&'static CodeKernels> = LazyLock::new(CodeKernels::best);

/// The bodies in use.
pub(crate) fn kernels() -> &'static CodeKernels {
    *KERNELS
}

/// The vector that distances are taken of: for [`Metric::Cosine`] of length 1, so that half the squared distance is the
/// cosine distance.
pub(crate) fn prepare(vector: &[f32], metric: Metric) -> Vec<f32> {
    match metric {
        Metric::Euclidean => vector.to_vec(),
        Metric::Cosine => {
            // In `f64`: the square of a small number leaves the range of `f32`.
            let squared: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
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
