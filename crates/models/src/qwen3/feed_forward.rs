//! The feed-forward half of a layer: one SwiGLU network, or a choice among many.

use std::ops::Range;

use kernels::{Cpu, Floats, Gated, Gathered, Matrix, Role, Rows, Scratch};

use super::low_rank::Adapted;
use crate::adapter::Part;
use crate::observe::{Importance, Site};
use crate::streaming::{Next, Streamer};
use crate::{Error, Result};

/// `down(silu(gate(x)) · up(x))`.
pub(crate) struct Network {
    pub(crate) gate: Matrix, // [I, H]
    pub(crate) up: Matrix,   // [I, H]
    pub(crate) down: Matrix, // [H, I]
}

impl Network {
    pub(super) fn size_bytes(&self) -> usize {
        self.gate.size_bytes() + self.up.size_bytes() + self.down.size_bytes()
    }
}

/// Experts with their router.
pub(super) struct Mixture {
    pub(super) router: Matrix, // [E, H]
    pub(super) experts: Experts,
    pub(super) intermediate: usize,
    pub(super) shared: Option<Shared>,
    pub(super) per_token: usize,
    pub(super) normalise: bool,
}

/// Where experts are.
pub(super) enum Experts {
    /// In memory, all of them.
    Resident(Vec<Network>),
    /// In files, some of them in memory: those of this mixture of the streamer.
    Streamed(usize),
}

/// The feed-forward half of the next layer, whose choice is foreseen while this one waits for its experts.
pub(super) struct Ahead<'a> {
    pub(super) norm: &'a [f32],
    pub(super) eps: f32,
    pub(super) mixture: &'a Mixture,
}

/// Who reads experts, and what is known of what comes next.
#[derive(Clone, Copy)]
pub(super) struct Stream<'a> {
    pub(super) streamer: &'a Streamer,
    pub(super) ahead: Option<&'a Ahead<'a>>,
}

/// Rows of a step for which the next layer's choice is foreseen: among those of a prompt nearly all are chosen.
const FORESEEN_ROWS_MAX: usize = 16;

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
    own: Inner,           // of a mixture `gate` is the rows of all experts, then `up` of all
    shared: Inner,        // of the shared expert
    out: Vec<f32>,        // [rows, H]
    router: Vec<f32>,     // [n, E]
    choices: Vec<Choice>, // sorted by expert, role, then row
    rows: Vec<u32>,       // the row of each choice
    stacked: Vec<u32>,    // 0, 1, 2, … : the stacked rows themselves
    foreseen: Vec<f32>,   // [n, H]; what the next layer's router is likely to see
    /// Why experts of this step could not be read: what was computed is not to be used.
    pub(super) failure: Option<Error>,
}

/// What lies between the projections of a network.
#[derive(Default)]
pub(super) struct Inner {
    gate: Floats, // [rows, I]; in the end what the down projection is multiplied with
    up: Floats,   // [rows, I]
    /// Whether somebody wants to see them.
    is_observed: bool,
}

impl Buffers {
    /// Whether [`FeedForward::observe`] will be asked after the next steps.
    pub(super) fn set_observed(&mut self, is_observed: bool) {
        self.own.is_observed = is_observed;
        self.shared.is_observed = is_observed;
    }
}

/// What a step computes with.
pub(super) struct Work<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) buffers: &'a mut Buffers,
    pub(super) scratch: &'a mut Scratch,
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
                let experts = match &mixture.experts {
                    Experts::Resident(experts) => experts.iter().map(Network::size_bytes).sum(),
                    Experts::Streamed(_) => 0,
                };
                mixture.router.size_bytes() + shared + experts
            }
        }
    }

    /// Adds what the matrices were multiplied with in the step just done. A shared expert stands for itself, where a
    /// layer without others has its network.
    pub(super) fn observe(&self, layer: usize, normed: &[f32], b: &Buffers, observed: &mut Importance) {
        let mut network = |network: &Network, inner: &Inner| {
            observed.add(layer, Site::FeedForward, None, network.gate.columns(), normed);
            observed.add(layer, Site::Inner, None, network.down.columns(), &inner.gate);
        };
        match self {
            Self::Dense(dense) => network(dense, &b.own),
            Self::Mixture(mixture) => {
                if let Some(shared) = &mixture.shared {
                    network(&shared.network, &b.shared);
                }
                let (h, i) = (mixture.router.columns(), mixture.intermediate);
                for (choice, inner) in b.choices.iter().zip(b.own.gate.chunks_exact(i)) {
                    let (expert, row) = (Some(choice.expert as usize), choice.row as usize * h);
                    observed.add(layer, Site::FeedForward, expert, h, &normed[row..row + h]);
                    observed.add(layer, Site::Inner, expert, i, inner);
                }
            }
        }
    }

    /// `x += feed_forward(normed)`, both `[n, H]`.
    pub(super) fn add(
        &self,
        normed: Rows<'_>,
        x: &mut [f32],
        work: &mut Work<'_>,
        adapted: &mut Adapted<'_>,
        stream: Option<Stream<'_>>,
    ) {
        match self {
            Self::Dense(network) => {
                dense(work.cpu, network, normed, x, &mut work.buffers.own, work.scratch, adapted);
            }
            Self::Mixture(mixture) => mixture.add(normed, x, work, stream),
        }
    }
}

fn dense(
    cpu: &Cpu,
    network: &Network,
    normed: Rows<'_>,
    x: &mut [f32],
    b: &mut Inner,
    scratch: &mut Scratch,
    adapted: &mut Adapted<'_>,
) {
    if !b.is_observed && adapted.is_empty() {
        let Network { gate, up, down } = network;
        return kernels::feed_forward(cpu, normed, Gated { gate, up, down }, x, scratch);
    }
    let rows = normed.numbers().len() / network.gate.columns();
    b.gate.resize(rows * network.gate.rows());
    b.up.resize(rows * network.up.rows());
    let mut jobs = [(&network.gate, &mut *b.gate), (&network.up, &mut b.up)];
    kernels::matmul_group(cpu, normed, &mut jobs, scratch);
    let mut products = [(Part::Gate, &mut *b.gate), (Part::Up, &mut b.up)];
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
        dense(cpu, &self.network, normed, &mut out, &mut b.shared, scratch, &mut Adapted::default());
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
    fn add(&self, normed: Rows<'_>, x: &mut [f32], work: &mut Work<'_>, stream: Option<Stream<'_>>) {
        let hidden = self.router.columns();
        self.route(normed, work);
        let b = &mut *work.buffers;
        let rows = b.choices.len();
        b.rows.clear();
        b.rows.extend(b.choices.iter().map(|choice| choice.row));
        b.stacked.clear();
        b.stacked.extend(0..rows as u32);
        b.out.resize(rows * hidden, 0.0);
        match (&self.experts, stream) {
            (Experts::Resident(experts), _) => {
                let mut inner = std::mem::take(&mut b.own.gate);
                self.compute(normed, &|expert| &experts[expert], 0..rows, &mut inner, work);
                work.buffers.own.gate = inner;
            }
            (&Experts::Streamed(mixture), Some(stream)) => {
                if let Err(error) = self.stream(normed, mixture, stream, x, work) {
                    work.buffers.failure = Some(error);
                    return;
                }
            }
            (Experts::Streamed(_), None) => panic!("a model whose experts are streamed has a streamer"),
        }
        let b = &mut *work.buffers;
        for (choice, out) in b.choices.iter().zip(b.out.chunks_exact(hidden)) {
            let row = choice.row as usize * hidden;
            for (sum, value) in x[row..row + hidden].iter_mut().zip(out) {
                *sum += choice.weight * value;
            }
        }
        if let Some(shared) = &self.shared {
            shared.add(work.cpu, normed, x, b, work.scratch);
        }
    }

    /// Chooses experts for every row.
    fn route(&self, normed: Rows<'_>, work: &mut Work<'_>) {
        let b = &mut *work.buffers;
        b.router.resize(normed.numbers().len() / self.router.columns() * self.router.rows(), 0.0);
        kernels::matmul(work.cpu, normed, &self.router, &mut b.router, work.scratch);
        self.choose(&mut b.router, normed, &mut b.choices);
    }

    /// The outputs of some choices, of whole experts: `inner` is what the down projections see, `out` what they say.
    fn compute<'a>(
        &self,
        normed: Rows<'_>,
        network: &dyn Fn(usize) -> &'a Network,
        choices: Range<usize>,
        inner: &mut Floats, // [2 * choices, I]: the gates of all, then `up` of all
        work: &mut Work<'_>,
    ) {
        let (cpu, b) = (work.cpu, &mut *work.buffers);
        let (hidden, count) = (self.router.columns(), choices.len());
        inner.resize(2 * count * self.intermediate);
        // Both projections of all experts at once: the rows are packed once and the threads meet once.
        let (chosen, rows) = (&b.choices[choices.clone()], &b.rows[choices.clone()]);
        let mut jobs = Vec::new();
        self::jobs(chosen, rows, |expert| &network(expert).gate, &mut jobs);
        self::jobs(chosen, rows, |expert| &network(expert).up, &mut jobs);
        kernels::matmul_gathered(cpu, normed.numbers(), &jobs, inner, work.scratch);
        let (gate, up) = inner.split_at_mut(count * self.intermediate);
        kernels::swiglu(cpu, gate, up);
        let mut jobs = Vec::new();
        self::jobs(chosen, &b.stacked[..count], |expert| &network(expert).down, &mut jobs);
        let out = &mut b.out[choices.start * hidden..choices.end * hidden];
        kernels::matmul_gathered(cpu, gate, &jobs, out, work.scratch);
    }

    /// The same for experts that are read when they are needed, as many at a time as there is memory for.
    fn stream(
        &self,
        normed: Rows<'_>,
        mixture: usize,
        stream: Stream<'_>,
        x: &[f32],
        work: &mut Work<'_>,
    ) -> Result<()> {
        let likely = match stream.ahead {
            Some(ahead) if x.len() / self.router.columns() <= FORESEEN_ROWS_MAX => {
                ahead.mixture.foresee(ahead, x, work)
            }
            Some(_) | None => None,
        };
        let b = &mut *work.buffers;
        let mut wanted: Vec<usize> = b.choices.iter().map(|choice| choice.expert as usize).collect();
        wanted.dedup();
        let (mut inner, mut gates) = (std::mem::take(&mut b.own.up), std::mem::take(&mut b.own.gate));
        gates.resize(b.choices.len() * self.intermediate);
        let mut start = 0;
        let waves: Vec<&[usize]> = wanted.chunks(stream.streamer.wave()).collect();
        for (index, &wave) in waves.iter().enumerate() {
            let next = match (waves.get(index + 1), &likely) {
                (Some(&next), _) => Next::Sure(next),
                (None, Some((mixture, experts))) => Next::Likely(*mixture, experts),
                (None, None) => Next::Sure(&[]),
            };
            let present = stream.streamer.present(work.cpu, mixture, wave, &next)?;
            let last = wave.last().map_or(0, |&expert| expert as u32);
            let end = start + work.buffers.choices[start..].partition_point(|choice| choice.expert <= last);
            self.compute(normed, &|expert| present.network(expert), start..end, &mut inner, work);
            let done = start * self.intermediate..end * self.intermediate;
            gates[done.clone()].copy_from_slice(&inner[..done.len()]);
            start = end;
        }
        (work.buffers.own.up, work.buffers.own.gate) = (inner, gates);
        Ok(())
    }

    /// Which experts the rows of `x`, as they are before the layer between, would choose here: often they do.
    fn foresee(&self, ahead: &Ahead<'_>, x: &[f32], work: &mut Work<'_>) -> Option<(usize, Vec<usize>)> {
        let (cpu, b) = (work.cpu, &mut *work.buffers);
        let Experts::Streamed(mixture) = self.experts else { return None };
        b.foreseen.resize(x.len(), 0.0);
        kernels::rms_norm(cpu, x, ahead.norm, ahead.eps, &mut b.foreseen);
        b.router.resize(x.len() / self.router.columns() * self.router.rows(), 0.0);
        kernels::matmul(cpu, Rows::generated(&b.foreseen), &self.router, &mut b.router, work.scratch);
        let mut best = vec![0.0_f32; self.router.rows()];
        for scores in b.router.chunks_exact_mut(best.len()) {
            kernels::softmax(scores);
            best.iter_mut().zip(scores).for_each(|(best, score)| *best += *score);
        }
        let mut order: Vec<usize> = (0..best.len()).collect();
        order.sort_unstable_by(|&a, &b| best[b].total_cmp(&best[a]));
        order.truncate(self.per_token);
        Some((mixture, order))
    }

    /// Softmax over all experts, then the best `per_token` of each row; ties go to the lower expert.
    fn choose(&self, router: &mut [f32], rows: Rows<'_>, choices: &mut Vec<Choice>) {
        choices.clear();
        let count = self.router.rows();
        let mut order: Vec<u32> = Vec::with_capacity(count);
        for (row, scores) in router.chunks_exact_mut(count).enumerate() {
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
}

/// Adds one job for each expert and role that some row chose; `rows` are the inputs of the choices.
fn jobs<'a>(choices: &[Choice], rows: &'a [u32], weights: impl Fn(usize) -> &'a Matrix, jobs: &mut Vec<Gathered<'a>>) {
    let mut start = 0;
    for group in choices.chunk_by(|a, b| (a.expert, a.role) == (b.expert, b.role)) {
        let rows = &rows[start..start + group.len()];
        jobs.push(Gathered { weights: weights(group[0].expert as usize), rows, role: group[0].role });
        start += group.len();
    }
}
