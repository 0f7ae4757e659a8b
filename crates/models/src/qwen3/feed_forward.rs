//! The feed-forward half of a layer: one SwiGLU network, or a choice among many.

use kernels::{Cpu, Gathered, Matrix, Role, Rows, Scratch};

use super::low_rank::Adapted;
use crate::adapter::Part;
use crate::observe::{Importance, Site};

/// `down(silu(gate(x)) · up(x))`.
pub(super) struct Network {
    pub(super) gate: Matrix, // [I, H]
    pub(super) up: Matrix,   // [I, H]
    pub(super) down: Matrix, // [H, I]
}

impl Network {
    pub(super) fn size_bytes(&self) -> usize {
        self.gate.size_bytes() + self.up.size_bytes() + self.down.size_bytes()
    }
}

/// Experts with their router.
pub(super) struct Mixture {
    pub(super) router: Matrix, // [E, H]
    pub(super) experts: Vec<Network>,
    pub(super) shared: Option<Shared>,
    pub(super) per_token: usize,
    pub(super) normalise: bool,
}

/// An expert that every token uses, as much as its gate says.
pub(super) struct Shared {
    pub(super) network: Network,
    pub(super) gate: Vec<f32>, // [H]
}

pub(super) enum FeedForward {
    Dense(Network),
    Mixture(Mixture),
}

/// Buffers of a step.
#[derive(Default)]
pub(super) struct Buffers {
    gate: Vec<f32>,       // [rows, I]; of a mixture the rows of all experts, then `up` of all
    up: Vec<f32>,         // [rows, I]
    out: Vec<f32>,        // [rows, H]
    router: Vec<f32>,     // [n, E]
    choices: Vec<Choice>, // sorted by expert, role, then row
    rows: Vec<u32>,       // the row of each choice
    stacked: Vec<u32>,    // 0, 1, 2, … : the stacked rows themselves
}

/// One row goes through one expert with this weight.
#[derive(Clone, Copy)]
struct Choice {
    expert: u32,
    role: Role,
    row: u32,
    weight: f32,
}

impl FeedForward {
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Dense(network) => network.size_bytes(),
            Self::Mixture(mixture) => {
                let shared = mixture.shared.as_ref().map_or(0, |shared| shared.network.size_bytes());
                let experts = mixture.experts.iter().map(Network::size_bytes).sum::<usize>();
                mixture.router.size_bytes() + shared + experts
            }
        }
    }

    /// Adds what the matrices were multiplied with in the step just done; not for a shared expert, whose step is the
    /// last and hides the others'.
    pub(super) fn observe(&self, layer: usize, normed: &[f32], b: &Buffers, observed: &mut Importance) {
        match self {
            Self::Dense(network) => {
                observed.add(layer, Site::FeedForward, None, network.gate.columns(), normed);
                observed.add(layer, Site::Inner, None, network.down.columns(), &b.gate);
            }
            Self::Mixture(mixture) if mixture.shared.is_none() => {
                let (h, i) = (mixture.router.columns(), mixture.experts[0].down.columns());
                for (choice, inner) in b.choices.iter().zip(b.gate.chunks_exact(i)) {
                    let (expert, row) = (Some(choice.expert as usize), choice.row as usize * h);
                    observed.add(layer, Site::FeedForward, expert, h, &normed[row..row + h]);
                    observed.add(layer, Site::Inner, expert, i, inner);
                }
            }
            Self::Mixture(_) => {}
        }
    }

    /// `x += feed_forward(normed)`, both `[n, H]`.
    pub(super) fn add(
        &self,
        cpu: &Cpu,
        normed: Rows<'_>,
        x: &mut [f32],
        buffers: &mut Buffers,
        scratch: &mut Scratch,
        adapted: &mut Adapted<'_>,
    ) {
        match self {
            Self::Dense(network) => dense(cpu, network, normed, x, buffers, scratch, adapted),
            Self::Mixture(mixture) => mixture.add(cpu, normed, x, buffers, scratch),
        }
    }
}

fn dense(
    cpu: &Cpu,
    network: &Network,
    normed: Rows<'_>,
    x: &mut [f32],
    b: &mut Buffers,
    scratch: &mut Scratch,
    adapted: &mut Adapted<'_>,
) {
    let rows = normed.numbers().len() / network.gate.columns();
    b.gate.resize(rows * network.gate.rows(), 0.0);
    b.up.resize(rows * network.up.rows(), 0.0);
    let mut jobs = [(&network.gate, b.gate.as_mut_slice()), (&network.up, &mut b.up)];
    kernels::matmul_group(cpu, normed, &mut jobs, scratch);
    let mut products = [(Part::Gate, b.gate.as_mut_slice()), (Part::Up, &mut b.up)];
    adapted.add(cpu, normed.numbers(), &mut products, scratch);
    kernels::swiglu(cpu, &mut b.gate, &b.up);
    kernels::matmul_add(cpu, normed.with(&b.gate), &network.down, x, scratch);
    adapted.add(cpu, &b.gate, &mut [(Part::Down, x)], scratch);
}

impl Shared {
    /// `x += sigmoid(normed · gate) · network(normed)`.
    fn add(&self, cpu: &Cpu, normed: Rows<'_>, x: &mut [f32], b: &mut Buffers, scratch: &mut Scratch) {
        b.out.clear();
        b.out.resize(x.len(), 0.0);
        let mut out = std::mem::take(&mut b.out);
        // No adapter reaches an expert.
        dense(cpu, &self.network, normed, &mut out, b, scratch, &mut Adapted::default());
        let hidden = self.gate.len();
        let rows = x.chunks_exact_mut(hidden).zip(out.chunks_exact(hidden)).zip(normed.numbers().chunks_exact(hidden));
        for ((x, out), normed) in rows {
            let opening: f32 = normed.iter().zip(&self.gate).map(|(a, b)| a * b).sum();
            kernels::scale_add(x, 1.0 / (1.0 + (-opening).exp()), out);
        }
        b.out = out;
    }
}

impl Mixture {
    fn add(&self, cpu: &Cpu, normed: Rows<'_>, x: &mut [f32], b: &mut Buffers, scratch: &mut Scratch) {
        let hidden = self.router.columns();
        b.router.resize(normed.numbers().len() / hidden * self.experts.len(), 0.0);
        kernels::matmul(cpu, normed, &self.router, &mut b.router, scratch);
        self.choose(&mut b.router, normed, &mut b.choices);

        let rows = b.choices.len();
        b.rows.clear();
        b.rows.extend(b.choices.iter().map(|choice| choice.row));
        b.stacked.clear();
        b.stacked.extend(0..rows as u32);
        let intermediate = self.experts[0].gate.rows();
        b.gate.resize(2 * rows * intermediate, 0.0);
        b.out.resize(rows * hidden, 0.0);

        // Both projections of all experts at once: the rows are packed once and the threads meet once.
        let mut jobs = Vec::new();
        self.jobs(&b.choices, &b.rows, |expert| &expert.gate, &mut jobs);
        self.jobs(&b.choices, &b.rows, |expert| &expert.up, &mut jobs);
        kernels::matmul_gathered(cpu, normed.numbers(), &jobs, &mut b.gate, scratch);
        let (gate, up) = b.gate.split_at_mut(rows * intermediate);
        kernels::swiglu(cpu, gate, up);
        let mut jobs = Vec::new();
        self.jobs(&b.choices, &b.stacked, |expert| &expert.down, &mut jobs);
        kernels::matmul_gathered(cpu, gate, &jobs, &mut b.out, scratch);

        for (choice, out) in b.choices.iter().zip(b.out.chunks_exact(hidden)) {
            let row = choice.row as usize * hidden;
            for (sum, value) in x[row..row + hidden].iter_mut().zip(out) {
                *sum += choice.weight * value;
            }
        }
        if let Some(shared) = &self.shared {
            shared.add(cpu, normed, x, b, scratch);
        }
    }

    /// Softmax over all experts, then the best `per_token` of each row; ties go to the lower expert.
    fn choose(&self, router: &mut [f32], rows: Rows<'_>, choices: &mut Vec<Choice>) {
        choices.clear();
        let mut order: Vec<u32> = Vec::with_capacity(self.experts.len());
        for (row, scores) in router.chunks_exact_mut(self.experts.len()).enumerate() {
            kernels::softmax(scores);
            order.clear();
            order.extend(0..scores.len() as u32);
            let better = |&a: &u32, &b: &u32| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b));
            if self.per_token < order.len() {
                order.select_nth_unstable_by(self.per_token - 1, better);
            }
            let best = &order[..self.per_token];
            let sum: f32 = best.iter().map(|&expert| scores[expert as usize]).sum();
            let divisor = if self.normalise { sum } else { 1.0 };
            choices.extend(best.iter().map(|&expert| Choice {
                expert,
                role: rows.role(row),
                row: row as u32,
                weight: scores[expert as usize] / divisor,
            }));
        }
        choices.sort_unstable_by_key(|choice| (choice.expert, choice.role, choice.row));
    }

    /// Adds one job for each expert and role that some row chose; `rows` are the inputs of the choices.
    fn jobs<'a>(
        &'a self,
        choices: &[Choice],
        rows: &'a [u32],
        weights: impl Fn(&'a Network) -> &'a Matrix,
        jobs: &mut Vec<Gathered<'a>>,
    ) {
        let mut start = 0;
        for group in choices.chunk_by(|a, b| (a.expert, a.role) == (b.expert, b.role)) {
            let expert = &self.experts[group[0].expert as usize];
            let rows = &rows[start..start + group.len()];
            jobs.push(Gathered { weights: weights(expert), rows, role: group[0].role });
            start += group.len();
        }
    }
}
