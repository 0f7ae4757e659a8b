//! Attention over keys and values.
//!
//! ```text
//! q, k, v = h Wq, h Wk, h Wv;   q, k = rope(rms per head(q)), rope(rms per head(k));   cache += k, v
//! x += (attention(q, cache) [· sigmoid(h Wg)]) Wo          // the gate in hybrids only
//! ```

use kernels::{AttentionShape, Cpu, Floats, HeadNorm, KvCache, Matrix, Rope, Rows, Span};

use super::Workspace;
use super::low_rank::Adapted;
use crate::adapter::Part;
use crate::config::Config;

pub(super) struct Attention {
    pub(super) q: Matrix,
    pub(super) gate: Option<Matrix>,
    pub(super) k: Matrix,
    pub(super) v: Matrix,
    pub(super) o: Matrix,
    pub(super) q_norm: Vec<f32>,
    pub(super) k_norm: Vec<f32>,
    pub(super) window: Option<usize>,
}

/// Buffers of a step.
#[derive(Default)]
pub(super) struct Buffers {
    q: Floats,        // [n, nq * hd]
    gate: Floats,     // [n, nq * hd]
    k: Floats,        // [n, nk * hd]
    v: Floats,        // [n, nk * hd]
    attended: Floats, // [n, nq * hd]
}

impl Buffers {
    /// What the last step's output projection was multiplied with, `[n, nq * hd]`.
    pub(super) fn attended(&self) -> &[f32] {
        &self.attended
    }
}

impl Attention {
    pub(super) fn size_bytes(&self) -> usize {
        let gate = self.gate.as_ref().map_or(0, Matrix::size_bytes);
        gate + [&self.q, &self.k, &self.v, &self.o].map(Matrix::size_bytes).iter().sum::<usize>()
    }

    /// `x += attention(normed)`; the keys and values of the new tokens go into the cache.
    pub(super) fn add(
        &self,
        cpu: &Cpu,
        config: &Config,
        cache: &mut KvCache,
        spans: &[Span<'_>],
        w: &mut Workspace,
        adapted: &mut Adapted<'_>,
    ) {
        let (hd, eps) = (config.head_dim, config.norm_eps);
        let n = w.normed.len() / config.hidden;
        let b = &mut w.attention;
        b.q.resize(n * config.heads * hd);
        b.k.resize(n * config.kv_heads * hd);
        b.v.resize(n * config.kv_heads * hd);
        b.attended.resize(n * config.heads * hd);
        if let Some(gate) = &self.gate {
            b.gate.resize(n * config.heads * hd);
            let mut jobs = [(&self.q, &mut *b.q), (gate, &mut b.gate), (&self.k, &mut b.k), (&self.v, &mut b.v)];
            kernels::matmul_group(cpu, Rows::mixed(&w.normed, &w.roles), &mut jobs, &mut w.scratch);
        } else {
            let mut jobs = [(&self.q, &mut *b.q), (&self.k, &mut b.k), (&self.v, &mut b.v)];
            kernels::matmul_group(cpu, Rows::mixed(&w.normed, &w.roles), &mut jobs, &mut w.scratch);
        }
        let mut products = [(Part::Query, &mut *b.q), (Part::Key, &mut b.k), (Part::Value, &mut b.v)];
        adapted.add(cpu, &w.normed, &mut products, &mut w.scratch);
        let rope = Rope { cos: &w.cos, sin: &w.sin, half: config.rope.dims / 2 };
        let norm = |weight| Some(HeadNorm { weight, eps });
        kernels::head_norm_rope(cpu, &mut b.q, config.heads, hd, norm(&self.q_norm), rope);
        kernels::head_norm_rope(cpu, &mut b.k, config.kv_heads, hd, norm(&self.k_norm), rope);
        kernels::kv_write(cpu, cache, &b.k, &b.v, spans);
        let shape = AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: hd,
            scale: 1.0 / (hd as f32).sqrt(),
            window: self.window,
        };
        kernels::attention(cpu, cache, &shape, &b.q, spans, &mut b.attended, &mut w.scratch);
        if self.gate.is_some() {
            kernels::sigmoid_gate(cpu, &mut b.attended, &b.gate);
        }
        kernels::matmul_add(cpu, Rows::mixed(&b.attended, &w.roles), &self.o, &mut w.x, &mut w.scratch);
        adapted.add(cpu, &b.attended, &mut [(Part::Output, &mut *w.x)], &mut w.scratch);
    }
}
