//! Products of activations and packed weights.
//!
//! A call has two phases: the rows of `x` are packed into tiles of sixteen columns ([`crate::activations`]), then the
//! threads take shares, each a contiguous range of panels, and walk them past all tiles. For one row the cost is
//! reading the weights once; for many it is the arithmetic, and tiles are taken in chunks that stay in the second-level
//! cache.

use crate::activations::{Kind, TILE, Tile};
use crate::layout::{LANES, Layout};
use crate::parts::Parts;
use crate::pool::SHARES_PER_THREAD;
use crate::{Cpu, Matrix, Precision, Scratch};

/// Matrices that one [`matmul_group`] takes at most.
const GROUP_MAX: usize = 8;
/// Activations that one pass over a share's panels keeps in the thread's second-level cache (1 MiB on the machines we
/// know; half is left to weights and outputs).
const CHUNK_BYTES: usize = 384 << 10;
/// Bytes of weights, times columns, below which a share of a product is not cut further.
const SHARE_BYTES_MIN: usize = 32 << 10;
/// Numbers below which handing out work costs more than packing them alone.
const PACK_ALONE_MAX: usize = 16 << 10;

/// `y = x Wᵀ`. Shapes: `x` `[n, columns]`, `y` `[n, rows]`, any `n`, also 0.
///
/// Error: see [`Precision`]. In f32 at most `columns * f32::EPSILON * sum(|x w|)`.
///
/// # Panics
/// If the lengths do not fit the matrix.
pub fn matmul(cpu: &Cpu, x: &[f32], w: &Matrix, y: &mut [f32], scratch: &mut Scratch) {
    group(cpu, x, &mut [(w, y)], Store::Set, scratch);
}

/// `y += x Wᵀ`, as [`matmul`]: a product that joins the residual stream.
///
/// # Panics
/// If the lengths do not fit the matrix.
pub fn matmul_add(cpu: &Cpu, x: &[f32], w: &Matrix, y: &mut [f32], scratch: &mut Scratch) {
    group(cpu, x, &mut [(w, y)], Store::Add, scratch);
}

/// Several products of one `x`, each as [`matmul`]: query, key and value; gate and up. The activations are packed once
/// and the threads meet once.
///
/// # Panics
/// If the lengths do not fit the matrices, if these have different numbers of columns, or if there are more than eight.
pub fn matmul_group(cpu: &Cpu, x: &[f32], jobs: &mut [(&Matrix, &mut [f32])], scratch: &mut Scratch) {
    group(cpu, x, jobs, Store::Set, scratch);
}

/// An expert and the rows of `x` that it works on.
#[derive(Clone, Copy, Debug)]
pub struct Gathered<'a> {
    /// The expert's weights.
    pub weights: &'a Matrix,
    /// Rows of `x`, in the order in which they come out; a row may stand in many jobs. Jobs that share one slice (the
    /// gate and the up projection of an expert) share one packing of activations.
    pub rows: &'a [u32],
}

/// Many products with different weights on different rows of one `x`, in parallel over all of them.
///
/// Shapes: `x` `[any, columns]`; `y` is the jobs' outputs `[rows.len(), weights.rows()]` one after the other.
///
/// # Panics
/// If the lengths do not fit, if the matrices have different numbers of columns, or if a row lies outside `x`.
pub fn matmul_gathered(cpu: &Cpu, x: &[f32], jobs: &[Gathered<'_>], y: &mut [f32], scratch: &mut Scratch) {
    let Some(columns) = jobs.first().map(|job| job.weights.columns()) else {
        assert!(y.is_empty(), "no job has no output");
        return;
    };
    assert!(x.len().is_multiple_of(columns), "x is whole rows of {columns}");
    let mut plans = std::mem::take(&mut scratch.plans);
    plans.plan(cpu, columns, jobs);
    assert!(plans.tasks.last().is_some_and(|task| task.end == y.len()), "y holds the outputs of all jobs");
    let whole = Parts::new(y);
    let call = Call {
        cpu,
        x,
        columns,
        sets: &plans.sets,
        row: &|set, column| jobs[set.job].rows[column],
        store: Store::Set,
        count: jobs.len(),
        task: &|index| {
            let Planned { set, start, .. } = plans.tasks[index];
            Task { matrix: jobs[index].weights, set, y: &whole, start }
        },
    };
    call.run(&mut scratch.packed);
    scratch.plans = plans;
}

/// What [`matmul_gathered`] works out before it begins; kept for its memory.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    sets: Vec<Set>,
    tasks: Vec<Planned>,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    set: Set,
    /// Where the job's outputs begin and end.
    start: usize,
    end: usize,
}

impl Plans {
    fn plan(&mut self, cpu: &Cpu, columns: usize, jobs: &[Gathered<'_>]) {
        self.sets.clear();
        self.tasks.clear();
        let (mut starts, mut end) = ([0; 3], 0);
        for (index, job) in jobs.iter().enumerate() {
            assert_eq!(job.weights.columns(), columns, "all matrices of a call have the same columns");
            let kind = kind_for(cpu, job.weights);
            let shared = self.sets.iter().find(|set| set.kind == kind && std::ptr::eq(jobs[set.job].rows, job.rows));
            let set = shared.copied().unwrap_or_else(|| {
                let set = Set { kind, start: starts[kind as usize], count: job.rows.len(), job: index };
                starts[kind as usize] += set.count * kind.words(columns);
                self.sets.push(set);
                set
            });
            let start = end;
            end += job.rows.len() * job.weights.rows();
            self.tasks.push(Planned { set, start, end });
        }
    }
}

fn group(cpu: &Cpu, x: &[f32], jobs: &mut [(&Matrix, &mut [f32])], store: Store, scratch: &mut Scratch) {
    assert!(jobs.len() <= GROUP_MAX, "at most {GROUP_MAX} matrices in a group");
    let Some(columns) = jobs.first().map(|(matrix, _)| matrix.columns()) else { return };
    assert!(x.len().is_multiple_of(columns), "x is whole rows of {columns}");
    let (count, job_count) = (x.len() / columns, jobs.len());
    let (mut sets, mut set_count) = ([Set { kind: Kind::F32, start: 0, count, job: 0 }; 3], 0);
    let mut tasks: [Option<(&Matrix, Set, Parts<'_, f32>)>; GROUP_MAX] = Default::default();
    for ((matrix, y), task) in jobs.iter_mut().zip(&mut tasks) {
        assert_eq!(matrix.columns(), columns, "all matrices of a group have the same columns");
        assert_eq!(y.len(), count * matrix.rows(), "y is [n, rows]");
        let set = Set { kind: kind_for(cpu, matrix), start: 0, count, job: 0 };
        if !sets[..set_count].iter().any(|known| known.kind == set.kind) {
            sets[set_count] = set;
            set_count += 1;
        }
        *task = Some((matrix, set, Parts::new(y)));
    }
    let call = Call {
        cpu,
        x,
        columns,
        sets: &sets[..set_count],
        row: &|_, column| column as u32,
        store,
        count: job_count,
        task: &|index| {
            let (matrix, set, y) = tasks[index].as_ref().expect("every job has a task");
            Task { matrix, set: *set, y, start: 0 }
        },
    };
    call.run(&mut scratch.packed);
}

/// How activations are packed for a matrix.
fn kind_for(cpu: &Cpu, matrix: &Matrix) -> Kind {
    match (matrix.layout, matrix.precision) {
        (Layout::F32, _) | (Layout::Bf16, Precision::Exact) => Kind::F32,
        (Layout::Bf16, Precision::Fast) => cpu.table.bf16_kind,
        (Layout::Q8 | Layout::Q4 | Layout::Q4K | Layout::Q5K | Layout::Q6K, _) => Kind::I8,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Set,
    Add,
}

/// Rows of `x` that are packed together.
#[derive(Clone, Copy, Debug)]
struct Set {
    kind: Kind,
    /// The first word in the buffer of the kind.
    start: usize,
    count: usize,
    /// Whose rows they are.
    job: usize,
}

impl Set {
    fn tiles(&self) -> usize {
        self.count.div_ceil(TILE)
    }

    /// Where tile `index` lies in the buffer, and how many columns it has.
    fn tile(&self, index: usize, words: usize) -> (std::ops::Range<usize>, usize) {
        let stride = TILE.min(self.count - index * TILE);
        let start = self.start + index * TILE * words;
        (start..start + stride * words, stride)
    }
}

/// One matrix on one set of rows.
#[derive(Clone, Copy)]
struct Task<'a> {
    matrix: &'a Matrix,
    set: Set,
    y: &'a Parts<'a, f32>,
    /// Where the outputs `[set.count, matrix.rows()]` begin in `y`.
    start: usize,
}

/// A call of any of the public functions.
#[derive(Clone, Copy)]
struct Call<'a> {
    cpu: &'a Cpu,
    x: &'a [f32],
    columns: usize,
    sets: &'a [Set],
    /// The row of `x` that is a column of a set.
    row: &'a (dyn Fn(&Set, usize) -> u32 + Sync),
    store: Store,
    count: usize,
    task: &'a (dyn Fn(usize) -> Task<'a> + Sync),
}

impl Call<'_> {
    fn run(&self, buffers: &mut [Vec<u32>; 3]) {
        for set in self.sets {
            let end = set.start + set.count * set.kind.words(self.columns);
            let buffer = &mut buffers[set.kind as usize];
            if buffer.len() < end {
                buffer.resize(end, 0);
            }
        }
        self.pack(buffers);
        let buffers: [&[u32]; 3] = [&buffers[0], &buffers[1], &buffers[2]];
        let shares = self.shares();
        self.cpu.pool.for_each(shares, &|_, share| self.multiply(buffers, share, shares));
    }

    fn pack(&self, buffers: &mut [Vec<u32>; 3]) {
        let parts = buffers.each_mut().map(|buffer| Parts::new(&mut buffer[..]));
        let tiles: usize = self.sets.iter().map(Set::tiles).sum();
        let body = |_: usize, mut index: usize| {
            let Some(set) = self.sets.iter().find(|set| {
                let is_here = index < set.tiles();
                index -= if is_here { 0 } else { set.tiles() };
                is_here
            }) else {
                return;
            };
            let (range, stride) = set.tile(index, set.kind.words(self.columns));
            let mut rows = [0; TILE];
            for (c, row) in rows[..stride].iter_mut().enumerate() {
                *row = (self.row)(set, index * TILE + c);
            }
            // SAFETY: tiles do not overlap, and every index is handed out once.
            let out = unsafe { parts[set.kind as usize].part(range) };
            self.cpu.table.pack(set.kind)(self.x, self.columns, &rows[..stride], out);
        };
        let numbers = self.columns * self.sets.iter().map(|set| set.count).sum::<usize>();
        if numbers <= PACK_ALONE_MAX {
            (0..tiles).for_each(|index| body(0, index));
        } else {
            self.cpu.pool.for_each(tiles, &body);
        }
    }

    /// Into how many shares the work is cut: several a thread, so that a thread that was held up leaves its part to the
    /// others, but none so small that it would be no stream.
    fn shares(&self) -> usize {
        let tasks = (0..self.count).map(|index| (self.task)(index));
        let bytes: usize = tasks.map(|task| task.matrix.size_bytes() * task.set.count.min(TILE)).sum();
        (bytes / SHARE_BYTES_MIN).clamp(1, SHARES_PER_THREAD * self.cpu.threads())
    }

    /// One share of the work: all panels whose first unit of work lies in it, the unit being a panel's column.
    fn multiply(&self, buffers: [&[u32]; 3], share: usize, shares: usize) {
        let work = |task: &Task<'_>| task.matrix.panels() * task.set.count;
        let total: usize = (0..self.count).map(|index| work(&(self.task)(index))).sum();
        let (mine, next) = (total * share / shares, total * (share + 1) / shares);
        let mut before = 0;
        for index in 0..self.count {
            let task = (self.task)(index);
            let (begin, end) = (before, before + work(&task));
            before = end;
            if end > begin && begin < next && end > mine {
                let panel = |at: usize| at.saturating_sub(begin).div_ceil(task.set.count).min(task.matrix.panels());
                self.panels(&task, panel(mine)..panel(next), buffers[task.set.kind as usize]);
            }
        }
    }

    fn panels(&self, task: &Task<'_>, panels: std::ops::Range<usize>, buffer: &[u32]) {
        let words = task.set.kind.words(self.columns);
        let kernel = self.cpu.table.tile(task.matrix.layout, task.set.kind);
        let chunk = (CHUNK_BYTES / (4 * TILE * words)).max(1);
        let pair = (self.cpu.table.pair)(task.matrix.layout, task.set.kind);
        let mut out = Outputs([[0.0; LANES]; 2 * TILE]);
        for first in (0..task.set.tiles()).step_by(chunk) {
            for p in panels.clone().step_by(2) {
                let count = 2.min(panels.end - p);
                for index in first..task.set.tiles().min(first + chunk) {
                    let (range, stride) = task.set.tile(index, words);
                    let tile = Tile { words: &buffer[range], stride };
                    // One column is bound by memory, and that is read fastest as one stream, panel behind panel.
                    if let Some(pair) = pair.filter(|_| count == 2 && stride > 1) {
                        pair(task.matrix.panel(p, 2), tile, &mut out.0[..2 * stride]);
                        self.store(task, p, index, &out.0[..stride]);
                        self.store(task, p + 1, index, &out.0[stride..2 * stride]);
                        continue;
                    }
                    for p in p..p + count {
                        kernel(task.matrix.panel(p, 1), tile, &mut out.0[..stride]);
                        self.store(task, p, index, &out.0[..stride]);
                    }
                }
            }
        }
    }

    /// Writes the outputs of panel `p` and tile `index`.
    fn store(&self, task: &Task<'_>, p: usize, index: usize, out: &[[f32; LANES]]) {
        let rows = task.matrix.rows();
        let lanes = LANES.min(rows - p * LANES);
        for (c, out) in out.iter().enumerate() {
            let at = task.start + (index * TILE + c) * rows + p * LANES;
            // SAFETY: a panel belongs to one share, and different panels and columns have different outputs.
            let y = unsafe { task.y.part(at..at + lanes) };
            match self.store {
                Store::Set => y.copy_from_slice(&out[..lanes]),
                Store::Add => y.iter_mut().zip(out).for_each(|(y, out)| *y += out),
            }
        }
    }
}

/// A kernel's outputs, on a cache line.
#[repr(align(64))]
struct Outputs([[f32; LANES]; 2 * TILE]);
