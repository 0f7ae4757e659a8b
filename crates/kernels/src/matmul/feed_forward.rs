//! A gated feed-forward network in one call.
//!
//! Between its projections lie six times as many numbers as a row has elsewhere: of a prompt they fit no cache. Where
//! there are kernels for many columns, some panels of the gate and the same panels of the other projection are
//! multiplied one after the other, and what goes on is their product, packed as the last projection wants it: an eighth
//! of the bytes or less, written once. The numbers are those of the products one by one.

use std::mem::{swap, take};
use std::ops::Range;

use super::plan::Set;
use super::rows::Roles;
use super::{Call, MANY_OUTPUTS, Outputs, Store, Task, To, WIDE_OUTPUTS, chunk_columns, kind_for};
use crate::activations::{Kind, TILE};
use crate::layout::{BLOCK, LANES, Layout};
use crate::parts::Parts;
use crate::table::{Many, Wide};
use crate::{Cpu, Matrix, Role, Rows, Scratch, swiglu};

/// The matrices of `down(silu(gate(x)) * up(x))`.
#[derive(Clone, Copy, Debug)]
pub struct Gated<'a> {
    /// `[inner, columns]`.
    pub gate: &'a Matrix,
    /// `[inner, columns]`.
    pub up: &'a Matrix,
    /// `[rows, inner]`.
    pub down: &'a Matrix,
}

impl Gated<'_> {
    /// Whether the rows of a set go from projection to projection packed. It does not depend on which projection the
    /// set was planned for.
    fn is_fused(&self, cpu: &Cpu, set: &Set) -> bool {
        let matrices = [self.gate, self.up, self.down];
        let has_kind = |role| matrices.map(|matrix| kind_for(cpu, matrix, role) == set.kind);
        let [prompt, generated] = [has_kind(Role::Prompt), has_kind(Role::Generated)];
        // The sets are the same for all of them, of whole units, and not so small that memory binds them.
        prompt == [true; 3]
            && (generated == [true; 3] || generated == [false; 3])
            && self.gate.rows().is_multiple_of(BLOCK)
            && match set.kind {
                Kind::Bf16 => {
                    cpu.table.wide.is_some()
                        && (set.count > TILE || matrices.iter().all(|matrix| matrix.layout != Layout::Bf16))
                }
                Kind::I8 => set.count > TILE && cpu.table.many.is_some(),
                _ => false,
            }
    }
}

/// `y += down(silu(gate(x)) * up(x))`. Shapes: `x` `[n, columns]`, `y` `[n, rows]`, any `n`.
///
/// The result is, to the bit, that of [`crate::matmul_group`], [`crate::swiglu`] and [`crate::matmul_add`].
///
/// # Panics
/// If the lengths do not fit the matrices, or these each other.
pub fn feed_forward(cpu: &Cpu, x: Rows<'_>, network: Gated<'_>, y: &mut [f32], scratch: &mut Scratch) {
    let Gated { gate, up, down } = network;
    let (columns, inner) = (gate.columns(), gate.rows());
    assert_eq!((up.columns(), up.rows()), (columns, inner), "gate and up have the same shape");
    assert_eq!(down.columns(), inner, "down takes what the gate lets through");
    let count = x.count(columns);
    assert_eq!(y.len(), count * down.rows(), "y is [n, rows]");
    let (mut plans, [mut gates, mut ups]) = (take(&mut scratch.plans), take(&mut scratch.gates));

    plans.group(cpu, x.roles, count, [gate, up].into_iter());
    let fused_sets = || plans.sets.iter().filter(|set| network.is_fused(cpu, set));
    let fused: usize = fused_sets().map(|set| set.count).sum();
    let kind = fused_sets().map(|set| set.kind).next().unwrap_or(Kind::Bf16);
    let rest = if fused < count { count * inner } else { 0 };
    gates.resize(rest);
    ups.resize(rest);
    plans.tasks.retain(|planned| planned.job == 0 || !network.is_fused(cpu, &planned.set));
    let activations = Parts::new(scratch.activations.words(fused * kind.words(inner)));
    let outputs = [Parts::new(&mut gates), Parts::new(&mut ups)];
    let call = Call {
        cpu,
        x: x.x,
        columns,
        sets: &plans.sets,
        rows: &|set| plans.rows(set, &[]),
        is_stacked: false,
        store: Store::Set,
        count: plans.tasks.len(),
        task: &|index| {
            let planned = plans.tasks[index];
            let to = if network.is_fused(cpu, &planned.set) {
                To::Activations { up, words: &activations }
            } else {
                To::Rows { y: &outputs[planned.job], start: 0 }
            };
            Task { matrix: [gate, up][planned.job], set: planned.set, to }
        },
    };
    call.run(&mut scratch.packed, &mut scratch.unpacked);

    match x.roles {
        _ if rest == 0 => {}
        Roles::Each(roles) if fused > 0 => {
            let rows = gates.chunks_exact_mut(inner).zip(ups.chunks_exact(inner));
            for ((gate, up), _) in rows.zip(roles).filter(|(_, role)| **role == Role::Generated) {
                (cpu.table.swiglu)(gate, up);
            }
        }
        Roles::All(_) | Roles::Each(_) => swiglu(cpu, &mut gates, &ups),
    }

    plans.group(cpu, x.roles, count, std::iter::once(down));
    for set in &mut plans.sets {
        set.is_packed = network.is_fused(cpu, set);
    }
    swap(&mut scratch.packed[kind as usize], &mut scratch.activations);
    let sums = Parts::new(y);
    let call = Call {
        cpu,
        x: &gates,
        columns: inner,
        sets: &plans.sets,
        rows: &|set| plans.rows(set, &[]),
        is_stacked: false,
        store: Store::Add,
        count: plans.tasks.len(),
        task: &|index| Task { matrix: down, set: plans.tasks[index].set, to: To::Rows { y: &sums, start: 0 } },
    };
    call.run(&mut scratch.packed, &mut scratch.unpacked);
    (scratch.plans, scratch.gates) = (plans, [gates, ups]);
}

impl Call<'_> {
    /// As [`Self::wide`], for both projections of a gate: a panel of each is a pair.
    pub(super) fn gated(&self, wide: &Wide, task: &Task<'_>, panels: Range<usize>, buffer: &[u32], pairs: &mut [u8]) {
        let To::Activations { up, words: out } = task.to else { unreachable!("the caller has looked") };
        let (words, inner_words) = (Kind::Bf16.words(self.columns), Kind::Bf16.words(task.matrix.rows()));
        let size = 4 * LANES * words;
        let group = pairs.len() / (2 * size);
        let chunk = chunk_columns::<WIDE_OUTPUTS>(words);
        let mut sums = Outputs([[0.0; LANES]; WIDE_OUTPUTS]);
        for first_panel in panels.clone().step_by(group) {
            let pairs = &mut pairs[..2 * size * group.min(panels.end - first_panel)];
            for (p, pair) in (first_panel..).zip(pairs.chunks_exact_mut(2 * size)) {
                for (matrix, pair) in [task.matrix, up].into_iter().zip(pair.chunks_exact_mut(size)) {
                    match matrix.layout {
                        Layout::Bf16 => pair.copy_from_slice(matrix.panel(p, 1)),
                        layout => (wide.unpack)(layout, matrix.panel(p, 1), pair),
                    }
                }
            }
            for chunk_start in (0..task.set.count).step_by(chunk) {
                let chunk_end = task.set.count.min(chunk_start + chunk);
                for (p, pair) in (first_panel..).zip(pairs.chunks_exact(2 * size)) {
                    for first in (chunk_start..chunk_end).step_by(WIDE_OUTPUTS / 2) {
                        let columns = (WIDE_OUTPUTS / 2).min(chunk_end - first);
                        let tiles = &buffer[task.set.start + first * words..][..columns * words];
                        let sums = &mut sums.0[..2 * columns];
                        (wide.multiply)(pair, words, tiles, sums);
                        let (gates, ups) = sums.split_at_mut(columns);
                        (self.cpu.table.swiglu)(gates.as_flattened_mut(), ups.as_flattened());
                        for (tile, gates) in gates.chunks(TILE).enumerate() {
                            // SAFETY: a panel belongs to one share, and is this one's.
                            unsafe { (wide.place)(gates, p, out, (first + tile * TILE) * inner_words) };
                        }
                    }
                }
            }
        }
    }

    /// As [`Self::gated`], in int8: two panels of each projection are a block of what goes on.
    pub(super) fn gated_many(&self, many: &Many, task: &Task<'_>, panels: Range<usize>, buffer: &[u32]) {
        let To::Activations { up, words: out } = task.to else { unreachable!("the caller has looked") };
        let kernels = [task.matrix, up].map(|matrix| (many.multiply)(matrix.layout).expect("int8 is for quantised"));
        let (words, inner_words) = (Kind::I8.words(self.columns), Kind::I8.words(task.matrix.rows()));
        let chunk = chunk_columns::<MANY_OUTPUTS>(words);
        let mut sums = [const { Outputs([[0.0; LANES]; MANY_OUTPUTS]) }; 2];
        for chunk_start in (0..task.set.count).step_by(chunk) {
            let chunk_end = task.set.count.min(chunk_start + chunk);
            for p in panels.clone().step_by(2) {
                for first in (chunk_start..chunk_end).step_by(MANY_OUTPUTS / 2) {
                    let columns = (MANY_OUTPUTS / 2).min(chunk_end - first);
                    let tiles = &buffer[task.set.start + first * words..][..columns * words];
                    let [gates, ups] = sums.each_mut().map(|sums| &mut sums.0[..2 * columns]);
                    kernels[0](task.matrix.panel(p, 2), words, tiles, gates);
                    kernels[1](up.panel(p, 2), words, tiles, ups);
                    (self.cpu.table.swiglu)(gates.as_flattened_mut(), ups.as_flattened());
                    let (upper, lower) = gates.split_at(columns);
                    for (tile, values) in upper.chunks(TILE).zip(lower.chunks(TILE)).enumerate() {
                        // SAFETY: a pair of panels belongs to one share, and is this one's.
                        unsafe { (many.place)(values, p / 2, out, (first + tile * TILE) * inner_words) };
                    }
                }
            }
        }
    }
}
