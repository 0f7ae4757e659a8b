//! What encoders of texts and pictures share: products with a bias, and layer norms.

use kernels::{Cpu, Rows, Scratch};

/// `y = x Wᵀ + b`.
pub(crate) struct Linear {
    pub(crate) weight: kernels::Matrix, // [rows, columns]
    pub(crate) bias: Vec<f32>,          // [rows]
}

impl Linear {
    /// The product with every row of `x`, `[n, rows]`.
    pub(crate) fn apply(&self, cpu: &Cpu, x: &[f32], scratch: &mut Scratch) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / self.weight.columns() * self.weight.rows()];
        kernels::matmul(cpu, Rows::prompt(x), &self.weight, &mut y, scratch);
        kernels::add_bias(cpu, &mut y, &self.bias);
        y
    }
}

/// Layer norm.
pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) eps: f32,
}

impl Norm {
    /// The norm of every row of `x`.
    pub(crate) fn apply(&self, cpu: &Cpu, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        kernels::layer_norm(cpu, x, &self.weight, &self.bias, self.eps, &mut out);
        out
    }
}
