//! Gated DeltaNet: linear attention with a memory of fixed size (arXiv 2412.06464; transformers' `qwen3_next`).
//!
//! ```text
//! q, k, v = unit(silu(conv(h Wqkv)))        z = h Wz
//! strength = sigmoid(h Wb)                  decay = exp(−exp(A_log) · softplus(h Wa + dt_bias))
//! o = delta rule(q, k, v, decay, strength)  // kernels::delta_rule
//! x += (rms per head(o) · silu(z)) Wo
//! ```

use kernels::{Cpu, DeltaShape, DeltaSpan, DeltaStates, Floats, HeadNorm, Matrix, Rope, Rows};

use super::Workspace;
use crate::config::Config;

pub(super) struct DeltaNet {
    pub(super) qkv: Matrix,     // [2 Hk dk + Hv dv, H]
    pub(super) z: Matrix,       // [Hv dv, H]
    pub(super) b: Matrix,       // [Hv, H]
    pub(super) a: Matrix,       // [Hv, H]
    pub(super) taps: Vec<f32>,  // [taps, 2 Hk dk + Hv dv]
    pub(super) rates: Vec<f32>, // [Hv], −exp(A_log)
    pub(super) bias: Vec<f32>,  // [Hv]
    pub(super) norm: Vec<f32>,  // [dv]
    pub(super) out: Matrix,     // [H, Hv dv]
    pub(super) shape: DeltaShape,
}

/// Buffers of a step.
#[derive(Default)]
pub(super) struct Buffers {
    qkv: Floats,      // [n, 2 Hk dk + Hv dv], before the convolution
    mixed: Floats,    // and behind it
    z: Floats,        // [n, Hv dv]; in the end the product with what was read
    strength: Floats, // [n, Hv]
    decay: Floats,    // [n, Hv]
    read: Floats,     // [n, Hv dv]
}

impl Buffers {
    /// What the last step's output projection was multiplied with, `[n, Hv dv]`.
    pub(super) fn gated(&self) -> &[f32] {
        &self.z
    }
}

impl DeltaNet {
    pub(super) fn size_bytes(&self) -> usize {
        [&self.qkv, &self.z, &self.b, &self.a, &self.out].map(Matrix::size_bytes).iter().sum()
    }

    /// `x += delta net(normed)`; the memories of the sequences move on.
    pub(super) fn add(
        &self,
        cpu: &Cpu,
        config: &Config,
        states: &mut DeltaStates,
        spans: &[DeltaSpan<'_>],
        w: &mut Workspace,
    ) {
        let (heads, dv) = (self.shape.value_heads, self.shape.value_dim);
        let n = w.normed.len() / config.hidden;
        let d = &mut w.delta_net;
        for (buffer, width) in [
            (&mut d.qkv, self.shape.channels()),
            (&mut d.mixed, self.shape.channels()),
            (&mut d.z, heads * dv),
            (&mut d.read, heads * dv),
            (&mut d.strength, heads),
            (&mut d.decay, heads),
        ] {
            buffer.resize(n * width);
        }
        let mut jobs =
            [(&self.qkv, &mut *d.qkv), (&self.z, &mut d.z), (&self.b, &mut d.strength), (&self.a, &mut d.decay)];
        kernels::matmul_group(cpu, Rows::mixed(&w.normed, &w.roles), &mut jobs, &mut w.scratch);
        d.strength.iter_mut().for_each(|b| *b = 1.0 / (1.0 + (-*b).exp()));
        for decay in d.decay.chunks_exact_mut(heads) {
            for ((a, rate), bias) in decay.iter_mut().zip(&self.rates).zip(&self.bias) {
                *a = (rate * softplus(*a + bias)).exp();
            }
        }
        kernels::delta_convolve(cpu, states, &self.taps, &d.qkv, spans, &mut d.mixed);
        kernels::delta_rule(cpu, states, &d.mixed, &d.decay, &d.strength, spans, &mut d.read);
        let norm = HeadNorm { weight: &self.norm, eps: config.norm_eps };
        let unturned = Rope { cos: &[], sin: &[], half: 0 };
        kernels::head_norm_rope(cpu, &mut d.read, heads, dv, Some(norm), unturned);
        kernels::swiglu(cpu, &mut d.z, &d.read);
        kernels::matmul_add(cpu, Rows::mixed(&d.z, &w.roles), &self.out, &mut w.x, &mut w.scratch);
    }
}

/// `ln(1 + exp(x))`; for large `x` the reference takes `x` itself.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}
