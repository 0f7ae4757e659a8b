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
        let mut y = Vec::new();
        self.apply_to(cpu, x, &mut y, scratch);
        y
    }

    /// The same in place of what `y` holds.
    pub(crate) fn apply_to(&self, cpu: &Cpu, x: &[f32], y: &mut Vec<f32>, scratch: &mut Scratch) {
        y.resize(x.len() / self.weight.columns() * self.weight.rows(), 0.0);
        kernels::matmul(cpu, Rows::prompt(x), &self.weight, y, scratch);
        kernels::add_bias(cpu, y, &self.bias);
    }

    /// Adds the product with every row of `x` to `sum`, `[n, rows]`.
    pub(crate) fn join(&self, cpu: &Cpu, x: &[f32], sum: &mut [f32], scratch: &mut Scratch) {
        kernels::matmul_add(cpu, Rows::prompt(x), &self.weight, sum, scratch);
        kernels::add_bias(cpu, sum, &self.bias);
    }
}

/// Several products with the same rows, each in place of what its `y` holds.
pub(crate) fn apply_group<const N: usize>(
    cpu: &Cpu,
    linears: &[Linear; N],
    x: &[f32],
    ys: &mut [Vec<f32>; N],
    scratch: &mut Scratch,
) {
    for (linear, y) in linears.iter().zip(&mut *ys) {
        y.resize(x.len() / linear.weight.columns() * linear.weight.rows(), 0.0);
    }
    let mut ys = ys.iter_mut();
    let mut jobs = linears.each_ref().map(|linear| (&linear.weight, &mut ys.next().expect("one for each")[..]));
    kernels::matmul_group(cpu, Rows::prompt(x), &mut jobs, scratch);
    for (linear, (_, y)) in linears.iter().zip(jobs) {
        kernels::add_bias(cpu, y, &linear.bias);
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
        let mut out = Vec::new();
        self.apply_to(cpu, x, &mut out);
        out
    }

    /// The same in place of what `out` holds.
    pub(crate) fn apply_to(&self, cpu: &Cpu, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        kernels::layer_norm(cpu, x, &self.weight, &self.bias, self.eps, out);
    }
}
