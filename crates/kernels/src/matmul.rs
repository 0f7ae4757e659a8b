//! Products of activations and packed weights.
//!
//! A call has two phases: the rows of `x` are packed into tiles of sixteen columns ([`crate::activations`]), then the
//! threads take shares, each a contiguous range of panels, and walk them past all tiles. For one row the cost is
//! reading the weights once; for many it is the arithmetic, and tiles are taken in chunks that stay in the second-level
//! cache.

mod feed_forward;
mod plan;
mod rows;

use std::ops::Range;

use crate::activations::{KINDS, Kind, TILE, Tile};
use crate::layout::{LANES, Layout};
use crate::parts::Parts;
use crate::scratch::Lines;
use crate::table::{SIDE_BY_SIDE, WideFn};
use crate::{Cpu, Matrix, Precision, Scratch};
pub use feed_forward::{Gated, feed_forward};
pub(crate) use plan::Plans;
use plan::Set;
pub use rows::{Role, Rows};

/// Matrices that one [`matmul_group`] takes at most.
const GROUP_MAX: usize = 8;
/// Activations that one pass over a share's panels keeps in the thread's second-level cache (1 MiB on the machines we
/// know; half is left to weights and outputs).
const CHUNK_BYTES: usize = 384 << 10;
/// Weights that a thread unpacks at once, for all columns of its share: the rest of the second-level cache where there
/// are instructions for it (2 MiB).
const UNPACK_BYTES: usize = 512 << 10;
/// Numbers that no second-level cache keeps until somebody reads them.
const STREAM_MIN: usize = 1 << 20;
/// Tiles that one call of a [`crate::table::Wide`] kernel takes.
const WIDE_TILES: usize = 4;
/// Outputs of such a call.
const WIDE_OUTPUTS: usize = 2 * TILE * WIDE_TILES;
/// Outputs of a call of a kernel for many columns of int8: eight tiles.
const MANY_OUTPUTS: usize = 2 * TILE * 8;
/// Bytes of weights, times columns, below which a share of a product is not cut further.
const SHARE_BYTES_MIN: usize = 16 << 10;
/// Shares of a product for each thread.
const SHARES_PER_THREAD: usize = 32;
/// Numbers below which handing out work costs more than packing them alone.
const PACK_ALONE_MAX: usize = 16 << 10;

/// `y = x Wᵀ`. Shapes: `x` `[n, columns]`, `y` `[n, rows]`, any `n`, also 0.
///
/// Error: see [`Precision`]. In f32 at most `columns * f32::EPSILON * sum(|x w|)`.
///
/// # Panics
/// If the lengths do not fit the matrix.
pub fn matmul(cpu: &Cpu, x: Rows<'_>, w: &Matrix, y: &mut [f32], scratch: &mut Scratch) {
    group(cpu, x, &mut [(w, y)], Store::Set, scratch);
}

/// `y += x Wᵀ`, as [`matmul`]: a product that joins the residual stream.
///
/// # Panics
/// If the lengths do not fit the matrix.
pub fn matmul_add(cpu: &Cpu, x: Rows<'_>, w: &Matrix, y: &mut [f32], scratch: &mut Scratch) {
    group(cpu, x, &mut [(w, y)], Store::Add, scratch);
}

/// Several products of one `x`, each as [`matmul`]: query, key and value; gate and up. The activations are packed once
/// and the threads meet once.
///
/// # Panics
/// If the lengths do not fit the matrices, if these have different numbers of columns, or if there are more than eight.
pub fn matmul_group(cpu: &Cpu, x: Rows<'_>, jobs: &mut [(&Matrix, &mut [f32])], scratch: &mut Scratch) {
    group(cpu, x, jobs, Store::Set, scratch);
}

/// An expert and the rows of `x` that it works on.
#[derive(Clone, Copy, Debug)]
pub struct Gathered<'a> {
    /// The expert's weights.
    pub weights: &'a Matrix,
    /// Rows of `x`, in the order in which they come out; a row may stand in many jobs. Jobs with the same rows (the
    /// gate and the up projection of an expert) share one packing of activations.
    pub rows: &'a [u32],
    /// What all of them are for.
    pub role: Role,
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
    assert!(jobs.iter().all(|job| job.weights.columns() == columns), "all matrices of a call have the same columns");
    let mut plans = std::mem::take(&mut scratch.plans);
    assert_eq!(plans.gathered(cpu, jobs), y.len(), "y holds the outputs of all jobs");
    let whole = Parts::new(y);
    let call = Call {
        cpu,
        x,
        columns,
        sets: &plans.sets,
        rows: &|set| plans.rows(set, jobs),
        is_stacked: true,
        store: Store::Set,
        count: plans.tasks.len(),
        task: &|index| {
            let planned = plans.tasks[index];
            let to = To::Rows { y: &whole, start: planned.start };
            Task { matrix: jobs[planned.job].weights, set: planned.set, to }
        },
    };
    call.run(&mut scratch.packed, &mut scratch.unpacked);
    scratch.plans = plans;
}

fn group(cpu: &Cpu, x: Rows<'_>, jobs: &mut [(&Matrix, &mut [f32])], store: Store, scratch: &mut Scratch) {
    assert!(jobs.len() <= GROUP_MAX, "at most {GROUP_MAX} matrices in a group");
    let Some(columns) = jobs.first().map(|(matrix, _)| matrix.columns()) else { return };
    let count = x.count(columns);
    for (matrix, y) in &*jobs {
        assert_eq!(matrix.columns(), columns, "all matrices of a group have the same columns");
        assert_eq!(y.len(), count * matrix.rows(), "y is [n, rows]");
    }
    let outputs: usize = jobs.iter().map(|(_, y)| y.len()).sum();
    let store = if store == Store::Set && outputs >= STREAM_MIN { Store::Stream } else { store };
    let mut plans = std::mem::take(&mut scratch.plans);
    plans.group(cpu, x.roles, count, jobs.iter().map(|(matrix, _)| *matrix));
    let mut outputs: [Option<(&Matrix, Parts<'_, f32>)>; GROUP_MAX] = Default::default();
    for ((matrix, y), output) in jobs.iter_mut().zip(&mut outputs) {
        *output = Some((matrix, Parts::new(y)));
    }
    let call = Call {
        cpu,
        x: x.x,
        columns,
        sets: &plans.sets,
        rows: &|set| plans.rows(set, &[]),
        is_stacked: false,
        store,
        count: plans.tasks.len(),
        task: &|index| {
            let planned = plans.tasks[index];
            let (matrix, y) = outputs[planned.job].as_ref().expect("every job has an output");
            Task { matrix, set: planned.set, to: To::Rows { y, start: planned.start } }
        },
    };
    call.run(&mut scratch.packed, &mut scratch.unpacked);
    scratch.plans = plans;
}

/// How activations are packed for a matrix.
fn kind_for(cpu: &Cpu, matrix: &Matrix, role: Role) -> Kind {
    match (matrix.layout, matrix.precision) {
        (Layout::F32, _) | (Layout::Bf16, Precision::Exact) => Kind::F32,
        (Layout::Bf16, Precision::Fast) => cpu.table.bf16_kind,
        (Layout::Q8 | Layout::Q4 | Layout::Q4K | Layout::Q5K | Layout::Q6K, _) => match role {
            Role::Prompt if cpu.table.wide.is_some() => Kind::Bf16,
            Role::Prompt | Role::Generated => cpu.table.i8_kind_for(matrix.layout),
        },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Set,
    /// As `Set`, past the caches where lines are whole: they would only be read from memory to be overwritten.
    Stream,
    Add,
}

/// One matrix on one set of rows.
#[derive(Clone, Copy)]
struct Task<'a> {
    matrix: &'a Matrix,
    set: Set,
    to: To<'a>,
}

/// Where a task's outputs go.
#[derive(Clone, Copy)]
enum To<'a> {
    /// To numbers `[set.count, matrix.rows()]` that begin at `start`.
    Rows { y: &'a Parts<'a, f32>, start: usize },
    /// Through the gate of SwiGLU, whose other operand is `up`'s product, to packed activations `[set.count]` of as
    /// many columns as the matrices have rows.
    Activations { up: &'a Matrix, words: &'a Parts<'a, u32> },
}

impl Task<'_> {
    /// Whether the weights become BF16 before they are multiplied, or are copied to stand beside others.
    fn is_unpacked(&self) -> bool {
        self.set.kind == Kind::Bf16 && (self.is_gated() || self.matrix.layout != Layout::Bf16)
    }

    fn is_gated(&self) -> bool {
        matches!(self.to, To::Activations { .. })
    }

    /// What a panel costs, in columns of a panel.
    fn panel_work(&self) -> usize {
        self.set.count * if self.is_gated() { 2 } else { 1 }
    }
}

/// A call of any of the public functions.
#[derive(Clone, Copy)]
struct Call<'a> {
    cpu: &'a Cpu,
    x: &'a [f32],
    columns: usize,
    sets: &'a [Set],
    /// The rows of `x` that are in a set; `None` for all.
    rows: &'a (dyn Fn(&Set) -> Option<&'a [u32]> + Sync),
    /// Whether the outputs of a set stand one behind the other, and not where its rows do.
    is_stacked: bool,
    store: Store,
    count: usize,
    task: &'a (dyn Fn(usize) -> Task<'a> + Sync),
}

impl Call<'_> {
    fn run(&self, packed: &mut [Lines; KINDS], unpacked: &mut Lines) {
        let mut ends = [0; KINDS];
        for set in self.sets {
            ends[set.kind as usize] = set.start + set.count * set.kind.words(self.columns);
        }
        let mut ends = ends.into_iter();
        let mut buffers = packed.each_mut().map(|lines| lines.words(ends.next().expect("a length for every kind")));
        self.pack(&mut buffers);
        let buffers = buffers.map(|buffer| &*buffer);
        let is_unpacked = (0..self.count).any(|index| (self.task)(index).is_unpacked());
        // Whole pairs of panels, one at least.
        let pair_bytes = 2 * 4 * LANES * Kind::Bf16.words(self.columns);
        let size = if is_unpacked { pair_bytes * (UNPACK_BYTES / pair_bytes).max(1) } else { 0 };
        let unpacked = Parts::new(unpacked.bytes(size * self.cpu.threads()));
        let shares = self.shares();
        self.cpu.pool.for_ranges(shares, &|thread, mine| {
            // SAFETY: every thread has its own part.
            let unpacked = unsafe { unpacked.part(thread * size..(thread + 1) * size) };
            self.multiply(buffers, mine, shares, unpacked);
            if self.store == Store::Stream {
                (self.cpu.table.fence)();
            }
        });
    }

    fn pack(&self, buffers: &mut [&mut [u32]; KINDS]) {
        let parts = buffers.each_mut().map(|buffer| Parts::new(&mut buffer[..]));
        let sets = || self.sets.iter().filter(|set| !set.is_packed);
        let tiles: usize = sets().map(Set::tiles).sum();
        let body = |_: usize, mut index: usize| {
            let Some(set) = sets().find(|set| {
                let is_here = index < set.tiles();
                index -= if is_here { 0 } else { set.tiles() };
                is_here
            }) else {
                return;
            };
            let (range, stride) = set.tile(index, set.kind.words(self.columns));
            let (mut rows, members) = ([0; TILE], (self.rows)(set));
            for (c, row) in rows[..stride].iter_mut().enumerate() {
                let place = index * TILE + c;
                *row = members.map_or(place as u32, |members| members[place]);
            }
            // SAFETY: tiles do not overlap, and every index is handed out once.
            let out = unsafe { parts[set.kind as usize].part(range) };
            self.cpu.table.pack(set.kind)(self.x, self.columns, &rows[..stride], out);
        };
        let numbers = self.columns * sets().map(|set| set.count).sum::<usize>();
        if numbers <= PACK_ALONE_MAX {
            (0..tiles).for_each(|index| body(0, index));
        } else {
            self.cpu.pool.for_each(tiles, &body);
        }
    }

    /// Into how many shares the work is cut: so many a thread that threads end together, but none so small that it
    /// would be no stream.
    fn shares(&self) -> usize {
        let tasks = (0..self.count).map(|index| (self.task)(index));
        let bytes: usize = tasks.map(|task| task.matrix.size_bytes() * task.set.count.min(TILE)).sum();
        (bytes / SHARE_BYTES_MIN).clamp(1, SHARES_PER_THREAD * self.cpu.threads())
    }

    /// Some shares of the work: all pairs of panels whose first unit of work lies in them, the unit being a panel's
    /// column.
    fn multiply(&self, buffers: [&[u32]; KINDS], mine: Range<usize>, shares: usize, unpacked: &mut [u8]) {
        let work = |task: &Task<'_>| task.matrix.panels() * task.panel_work();
        let total: usize = (0..self.count).map(|index| work(&(self.task)(index))).sum();
        let (mine, next) = (total * mine.start / shares, total * mine.end / shares);
        let mut before = 0;
        for index in 0..self.count {
            let task = (self.task)(index);
            let (begin, end) = (before, before + work(&task));
            before = end;
            if end > begin && begin < next && end > mine {
                let pair = |at: usize| at.saturating_sub(begin).div_ceil(2 * task.panel_work());
                let panel = |at: usize| (2 * pair(at)).min(task.matrix.panels());
                let (panels, buffer) = (panel(mine)..panel(next), buffers[task.set.kind as usize]);
                let many = self.cpu.table.many.as_ref();
                let multiply = many.and_then(|many| (many.multiply)(task.matrix.layout));
                match (&self.cpu.table.wide, multiply) {
                    (Some(wide), _) if task.is_gated() => self.gated(wide, &task, panels, buffer, unpacked),
                    (None, _) if task.is_gated() => {
                        self.gated_many(many.expect("what is fused has kernels"), &task, panels, buffer);
                    }
                    // A few columns are bound by memory, which `panels` reads in the better order.
                    (Some(wide), _) if task.is_unpacked() || (task.set.kind == Kind::Bf16 && task.set.count > TILE) => {
                        self.wide::<WIDE_OUTPUTS>(wide.multiply, &task, panels, buffer, unpacked);
                    }
                    (_, Some(multiply)) if task.set.count > TILE => {
                        self.wide::<MANY_OUTPUTS>(multiply, &task, panels, buffer, unpacked);
                    }
                    (_, Some(multiply)) if many.is_some_and(|many| task.set.count >= many.least) => {
                        self.wide::<{ 2 * TILE }>(multiply, &task, panels, buffer, unpacked);
                    }
                    _ => self.panels(&task, panels, buffer),
                }
            }
        }
    }

    fn panels(&self, task: &Task<'_>, panels: Range<usize>, buffer: &[u32]) {
        let words = task.set.kind.words(self.columns);
        let kernel = self.cpu.table.tile(task.matrix.layout, task.set.kind);
        let chunk = (CHUNK_BYTES / (4 * TILE * words)).max(1);
        let pair = (self.cpu.table.pair)(task.matrix.layout, task.set.kind);
        let mut out = Outputs([[0.0; LANES]; 2 * TILE]);
        let panels = self.side_by_side(task, panels, buffer);
        for first in (0..task.set.tiles()).step_by(chunk) {
            for p in panels.clone().step_by(2) {
                let count = 2.min(panels.end - p);
                for index in first..task.set.tiles().min(first + chunk) {
                    let (range, stride) = task.set.tile(index, words);
                    let tile = Tile { words: &buffer[range], stride, next: None };
                    // One column is bound by memory. What is not read in several streams is read fastest as one, panel
                    // behind panel.
                    if let Some(pair) = pair.filter(|_| count == 2 && stride > 1) {
                        pair(task.matrix.panel(p, 2), tile, &mut out.0[..2 * stride]);
                        self.store(task, p, index * TILE, &out.0[..stride]);
                        self.store(task, p + 1, index * TILE, &out.0[stride..2 * stride]);
                        continue;
                    }
                    for p in p..p + count {
                        kernel(task.matrix.panel(p, 1), tile, &mut out.0[..stride]);
                        self.store(task, p, index * TILE, &out.0[..stride]);
                    }
                }
            }
        }
    }

    /// One column in as many streams, each of neighbouring panels, as there is a kernel for. Returns the panels that
    /// are left.
    fn side_by_side(&self, task: &Task<'_>, panels: Range<usize>, buffer: &[u32]) -> Range<usize> {
        let kernel = (self.cpu.table.side_by_side)(task.matrix.layout, task.set.kind);
        let Some(kernel) = kernel.filter(|_| self.cpu.is_side_by_side && task.set.count == 1) else { return panels };
        let (range, stride) = task.set.tile(0, task.set.kind.words(self.columns));
        let tile = Tile { words: &buffer[range], stride, next: None };
        let each = panels.len() / SIDE_BY_SIDE;
        for first in panels.start..panels.start + each {
            let places: [usize; SIDE_BY_SIDE] = std::array::from_fn(|stream| first + stream * each);
            let mut out = [[0.0; LANES]; SIDE_BY_SIDE];
            kernel(places.map(|p| task.matrix.panel(p, 1)), tile, &mut out);
            for (p, out) in places.into_iter().zip(&out) {
                self.store(task, p, 0, std::slice::from_ref(out));
            }
        }
        panels.start + each * SIDE_BY_SIDE..panels.end
    }

    /// As [`Self::panels`], for `N / 2` columns at a time; and for weights that become BF16 first, as many panels as
    /// fit `unpacked`, each once for all columns.
    fn wide<const N: usize>(
        &self,
        multiply: WideFn,
        task: &Task<'_>,
        panels: Range<usize>,
        buffer: &[u32],
        unpacked: &mut [u8],
    ) {
        let (words, matrix) = (task.set.kind.words(self.columns), task.matrix);
        let unpack = self.cpu.table.wide.as_ref().map(|wide| wide.unpack).filter(|_| task.is_unpacked());
        let (size, group) = match unpack {
            Some(_) => (4 * LANES * words, unpacked.len() / (4 * LANES * words)),
            None => (matrix.size_bytes() / matrix.panels(), panels.len()),
        };
        let chunk = chunk_columns::<N>(words);
        let mut out = Outputs([[0.0; LANES]; N]);
        for first_panel in panels.clone().step_by(group.max(1)) {
            let count = group.min(panels.end - first_panel);
            let weights = match unpack {
                Some(unpack) => {
                    for (p, out) in unpacked.chunks_exact_mut(size).take(count).enumerate() {
                        unpack(matrix.layout, matrix.panel(first_panel + p, 1), out);
                    }
                    &unpacked[..count * size]
                }
                None => matrix.panel(first_panel, count),
            };
            for chunk_start in (0..task.set.count).step_by(chunk) {
                let chunk_end = task.set.count.min(chunk_start + chunk);
                for (pair, weights) in weights.chunks(2 * size).enumerate() {
                    let p = first_panel + 2 * pair;
                    for first in (chunk_start..chunk_end).step_by(N / 2) {
                        let columns = (N / 2).min(chunk_end - first);
                        let tiles = &buffer[task.set.start + first * words..][..columns * words];
                        let out = &mut out.0[..weights.len() / size * columns];
                        multiply(weights, words, tiles, out);
                        for (p, out) in (p..).zip(out.chunks_exact(columns)) {
                            self.store(task, p, first, out);
                        }
                    }
                }
            }
        }
    }

    /// Writes the outputs of panel `p` and the columns from `first` on.
    fn store(&self, task: &Task<'_>, p: usize, first: usize, out: &[[f32; LANES]]) {
        let To::Rows { y, start } = task.to else { unreachable!("what is gated is stored as activations") };
        let rows = task.matrix.rows();
        let lanes = LANES.min(rows - p * LANES);
        let places = if self.is_stacked { None } else { (self.rows)(&task.set) };
        for (c, out) in (first..).zip(out) {
            let place = places.map_or(c, |places| places[c] as usize);
            let at = start + place * rows + p * LANES;
            // SAFETY: a panel belongs to one share, and different panels and columns have different outputs.
            let y = unsafe { y.part(at..at + lanes) };
            // Whole panels have a length that the compiler knows: no call for a copy of 64 bytes.
            match (self.store, y.first_chunk_mut::<LANES>()) {
                (Store::Stream, Some(y)) => (self.cpu.table.stream)(out, y),
                (Store::Set, Some(y)) => *y = *out,
                (Store::Set | Store::Stream, None) => y.copy_from_slice(&out[..lanes]),
                (Store::Add, Some(y)) => y.iter_mut().zip(out).for_each(|(y, out)| *y += out),
                (Store::Add, None) => y.iter_mut().zip(out).for_each(|(y, out)| *y += out),
            }
        }
    }
}

/// Columns of `words` words that stay in the second-level cache, in whole calls with `N` outputs.
fn chunk_columns<const N: usize>(words: usize) -> usize {
    TILE * (CHUNK_BYTES / (4 * TILE * words)).max(1).next_multiple_of(N / 2 / TILE)
}

/// A kernel's outputs, on a cache line.
#[repr(align(64))]
struct Outputs<const N: usize>([[f32; LANES]; N]);
