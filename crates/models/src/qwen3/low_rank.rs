//! What adapters add to the projections of a step.
//!
//! `y += s (x Aᵀ) Bᵀ` for the rows whose sequence has an adapter. All adapters of a step go through one call of the
//! kernel for gathered rows, as the experts of a mixture do: rows of many adapters cost little more than of one.

use kernels::{Cpu, Gathered, Role, Scratch};

use super::Sequence;
use crate::adapter::{Adapter, LowRank, Part};

/// The rows of a step that have adapters. Most steps have none, and then nothing is done.
#[derive(Default)]
pub(super) struct Adapted<'a> {
    groups: Vec<Group<'a>>,
    /// The layer that is computed.
    pub(super) layer: usize,
    narrow: Vec<f32>,  // [rows of all jobs, their rank]
    wide: Vec<f32>,    // [rows of the jobs of one rank, their outputs]
    stacked: Vec<u32>, // 0, 1, 2, …
}

/// Rows of one adapter and role.
struct Group<'a> {
    adapter: &'a Adapter,
    role: Role,
    rows: Vec<u32>,
}

/// One adapter's part in one product.
struct Job<'a> {
    pair: &'a LowRank,
    rows: &'a [u32],
    role: Role,
    /// Which of the products.
    output: usize,
}

impl Job<'_> {
    fn rank(&self) -> usize {
        self.pair.narrow.rows()
    }
}

impl<'a> Adapted<'a> {
    pub(super) fn new(batch: &[Sequence<'a>]) -> Self {
        let mut groups: Vec<Group<'a>> = Vec::new();
        let mut first_row = 0;
        for sequence in batch {
            let rows = sequence.tokens.len();
            if let Some(adapter) = sequence.adapter {
                let prompt = sequence.prompt_tokens;
                for (role, range) in [(Role::Prompt, 0..prompt), (Role::Generated, prompt..rows)] {
                    let range = range.map(|row| (first_row + row) as u32);
                    let same = |group: &&mut Group<'_>| group.role == role && std::ptr::eq(group.adapter, adapter);
                    match groups.iter_mut().find(same) {
                        Some(group) => group.rows.extend(range),
                        None if range.len() > 0 => groups.push(Group { adapter, role, rows: range.collect() }),
                        None => {}
                    }
                }
            }
            first_row += rows;
        }
        Self { groups, ..Self::default() }
    }

    /// Whether no row has an adapter.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds to several products of one `x` `[n, in]`, each `[n, out]`.
    pub(super) fn add(&mut self, cpu: &Cpu, x: &[f32], products: &mut [(Part, &mut [f32])], scratch: &mut Scratch) {
        let mut jobs = Vec::new();
        for (output, (part, _)) in products.iter().enumerate() {
            for Group { adapter, role, rows } in &self.groups {
                if let Some(pair) = adapter.pair(self.layer, *part) {
                    jobs.push(Job { pair, rows, role: *role, output });
                }
            }
        }
        if jobs.is_empty() {
            return;
        }
        // Products of one rank are neighbours: a call of the kernel has one number of columns.
        jobs.sort_by_key(Job::rank);
        let gathered: Vec<_> =
            jobs.iter().map(|job| Gathered { weights: &job.pair.narrow, rows: job.rows, role: job.role }).collect();
        self.narrow.resize(jobs.iter().map(|job| job.rows.len() * job.rank()).sum(), 0.0);
        kernels::matmul_gathered(cpu, x, &gathered, &mut self.narrow, scratch);

        let mut narrow = self.narrow.as_slice();
        for same in jobs.chunk_by(|a, b| a.rank() == b.rank()) {
            let rows: usize = same.iter().map(|job| job.rows.len()).sum();
            let (here, rest) = narrow.split_at(rows * same[0].rank());
            narrow = rest;
            self.stacked.clear();
            self.stacked.extend(0..rows as u32);
            let mut first = 0;
            let gathered: Vec<_> = same
                .iter()
                .map(|job| {
                    let rows = &self.stacked[first..first + job.rows.len()];
                    first += rows.len();
                    Gathered { weights: &job.pair.wide, rows, role: job.role }
                })
                .collect();
            self.wide.resize(same.iter().map(|job| job.rows.len() * job.pair.wide.rows()).sum(), 0.0);
            kernels::matmul_gathered(cpu, here, &gathered, &mut self.wide, scratch);

            let mut wide = self.wide.as_slice();
            for job in same {
                let width = job.pair.wide.rows();
                let (added, rest) = wide.split_at(job.rows.len() * width);
                wide = rest;
                for (&row, added) in job.rows.iter().zip(added.chunks_exact(width)) {
                    kernels::add(&mut products[job.output].1[row as usize * width..][..width], added);
                }
            }
        }
    }
}
