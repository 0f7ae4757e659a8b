//! The gated delta rule (arXiv 2412.06464): attention whose memory is a matrix of fixed size.
//!
//! Every value head keeps a matrix `S` `[key_dim, value_dim]`. A token with key `k`, query `q`, value `v`, decay `a`
//! and strength `b` changes it and reads from it:
//!
//! ```text
//! S = a S;   d = b (v - Sᵀ k);   S = S + k dᵀ;   out = Sᵀ q
//! ```
//!
//! The columns of `S` do not see each other. So they are kept in strips of 32 columns that fit the first-level cache,
//! and all tokens of a step pass over a strip before the next one is touched. That is as fast as the chunked form for
//! the sizes that models have, and its numbers do not depend on how a prompt was cut into steps. Before the rule stands
//! a short causal convolution over the last few tokens, whose inputs are kept beside `S`.

use std::collections::BTreeSet;

use crate::parts::Parts;
use crate::{Cpu, Error, Isa, Result};

/// Columns of a strip.
const LANES: usize = 32;
/// What is added to the sum of squares before a key or query is divided by its root.
const UNIT_EPS: f32 = 1e-6;
/// Silu is a gate on ones.
const ONES: [f32; 256] = [1.0; 256];

/// The sizes of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaShape {
    /// Heads of keys and queries.
    pub key_heads: usize,
    /// Heads of values, a multiple of `key_heads`.
    pub value_heads: usize,
    /// Numbers in a key or query.
    pub key_dim: usize,
    /// Numbers in a value.
    pub value_dim: usize,
    /// Tokens that the convolution sees, the current one included.
    pub taps: usize,
    /// Which key head a value head belongs to.
    pub order: HeadOrder,
}

/// In which order value heads stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadOrder {
    /// Those of one key head after the other: head `j` belongs to key head `j / (value_heads / key_heads)`.
    #[default]
    Grouped,
    /// One of each key head, then the next of each: head `j` belongs to key head `j % key_heads`.
    Tiled,
}

impl DeltaShape {
    /// Numbers of a row of queries, keys and values: what is convolved.
    #[must_use]
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
    }

    /// The key head of a value head.
    #[must_use]
    pub fn key_head(&self, value_head: usize) -> usize {
        match self.order {
            HeadOrder::Grouped => value_head / (self.value_heads / self.key_heads),
            HeadOrder::Tiled => value_head % self.key_heads,
        }
    }

    fn head_numbers(&self) -> usize {
        self.value_dim.div_ceil(LANES) * self.key_dim * LANES
    }

    fn history_numbers(&self) -> usize {
        (self.taps - 1) * self.channels()
    }

    /// Bytes of the memory of one sequence.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        4 * (self.history_numbers() + self.value_heads * self.head_numbers())
    }
}

/// The memories of one layer for several sequences, in slots.
#[derive(Debug)]
pub struct DeltaStates {
    shape: DeltaShape,
    history: Vec<f32>,     // [slots, taps - 1, channels], the oldest token first
    matrices: Vec<f32>,    // [slots, value_heads, strips, key_dim, LANES]
    guesses: Vec<Guesses>, // [slots]
    slots: u32,
}

/// The last rows of a step that nobody knew to be right.
#[derive(Clone, Debug, Default)]
struct Guesses {
    x: Vec<f32>,        // [guesses, channels], before the convolution
    mixed: Vec<f32>,    // [guesses, channels], behind it
    decay: Vec<f32>,    // [guesses, value_heads]
    strength: Vec<f32>, // [guesses, value_heads]
}

/// One sequence's rows in a step.
#[derive(Clone, Copy, Debug)]
pub struct DeltaSpan<'a> {
    /// Its first row in the inputs and outputs of the step.
    pub first_row: usize,
    /// How many rows.
    pub rows: usize,
    /// The slot of its memory; no two spans of a step have the same.
    pub slot: u32,
    /// The first row is the first token of the sequence: what the slot held is forgotten.
    pub is_start: bool,
    /// So many rows, from the last, may be wrong: the slot does not learn of them before they are confirmed.
    pub guessed: usize,
    /// So many of the guesses of this slot's last step were right: they come before the first row.
    pub confirmed: usize,
    /// What is kept besides, each in a slot that no span and no other copy has.
    pub copies: &'a [DeltaCopy],
}

/// A memory as it is behind some row of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaCopy {
    /// Behind so many rows, one or more: those that are confirmed, then those of the step that are no guesses.
    pub rows: usize,
    /// Where it is kept.
    pub slot: u32,
}

impl DeltaSpan<'_> {
    /// Rows of the step that are no guesses.
    fn certain(&self) -> usize {
        self.rows - self.guessed
    }
}

impl DeltaStates {
    /// Empty memories. The system gives the bytes when a slot is first used.
    ///
    /// # Errors
    /// [`Error::Shape`] if a size is zero, the heads do not divide, or the size does not fit an address.
    pub fn new(shape: DeltaShape, slots: u32) -> Result<Self> {
        let wrong = Error::Shape { what: "a recurrent state", rows: shape.key_dim, columns: shape.value_dim };
        let sizes = [shape.key_heads, shape.value_heads, shape.key_dim, shape.value_dim, shape.taps, slots as usize];
        let is_sound = sizes.iter().all(|&size| size > 0) && shape.value_heads.is_multiple_of(shape.key_heads);
        let product = sizes.iter().try_fold(LANES * 8, |product, &size| product.checked_mul(size));
        if !is_sound || product.is_none() {
            return Err(wrong);
        }
        let count = slots as usize;
        Ok(Self {
            history: vec![0.0; count * shape.history_numbers()],
            matrices: vec![0.0; count * shape.value_heads * shape.head_numbers()],
            guesses: vec![Guesses::default(); count],
            shape,
            slots,
        })
    }

    /// The sizes.
    #[must_use]
    pub fn shape(&self) -> &DeltaShape {
        &self.shape
    }

    /// Copies a memory: the way back to one that was kept. Guesses stay behind.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn copy_slot(&mut self, from: u32, to: u32) {
        assert!(from < self.slots && to < self.slots, "slots {from} and {to} of {}", self.slots);
        self.guesses[to as usize] = Guesses::default();
        for (numbers, size) in [
            (&mut self.history, self.shape.history_numbers()),
            (&mut self.matrices, self.shape.value_heads * self.shape.head_numbers()),
        ] {
            let start = from as usize * size;
            numbers.copy_within(start..start + size, to as usize * size);
        }
    }

    fn assert_spans(&self, spans: &[DeltaSpan<'_>], rows: usize) {
        let mut written = BTreeSet::new();
        for span in spans {
            assert!(span.rows > 0 && span.first_row + span.rows <= rows, "a span lies within the rows of its step");
            assert!(span.guessed < span.rows, "the first row of a step is no guess");
            assert!(!span.is_start || span.confirmed == 0, "nothing was guessed before the first token");
            let copies = span.copies.iter().map(|copy| copy.slot);
            for slot in copies.chain([span.slot]) {
                assert!(slot < self.slots, "slot {slot} of {}", self.slots);
                assert!(written.insert(slot), "two share slot {slot}");
            }
            for copy in span.copies {
                let most = span.confirmed + span.certain();
                assert!((1..=most).contains(&copy.rows), "a copy behind row {} of {most}", copy.rows);
            }
        }
    }
}

/// Convolution, silu, and division of queries and keys by their lengths; queries are scaled by `1 / sqrt(key_dim)`.
///
/// Shapes: `x` and `out` `[n, channels]`, a row being all queries, all keys, all values; `taps` `[taps, channels]`, the
/// last for the current token. The last tokens of every span are kept for its next step, and so are its guesses.
/// [`delta_rule`] follows for the same spans.
///
/// # Panics
/// If the lengths do not fit, a slot does not exist, two share one, or more is confirmed than was guessed.
pub fn delta_convolve(
    cpu: &Cpu,
    states: &mut DeltaStates,
    taps: &[f32],
    x: &[f32],
    spans: &[DeltaSpan<'_>],
    out: &mut [f32],
) {
    let shape = states.shape;
    let channels = shape.channels();
    assert_eq!(taps.len(), shape.taps * channels, "taps are [{}, {channels}]", shape.taps);
    assert!(x.len().is_multiple_of(channels) && x.len() == out.len(), "x and out are [n, {channels}]");
    states.assert_spans(spans, x.len() / channels);
    let size = shape.history_numbers();
    for span in spans {
        states.begin_history(span, &x[span.first_row * channels..][..span.certain() * channels]);
    }
    let history = &states.history;
    let out = Parts::new(out);
    for span in spans {
        let before = &history[span.slot as usize * size..][..size];
        let rows = &x[span.first_row * channels..][..span.rows * channels];
        cpu.pool.for_each(span.rows, &|_, row| {
            let at = (span.first_row + row) * channels;
            // SAFETY: every row is written by one index only; spans are worked on one after the other.
            let out = unsafe { out.part(at..at + channels) };
            out.fill(0.0);
            for (tap, weights) in taps.chunks_exact(channels).enumerate() {
                // Tap `taps - 1` meets the current row; rows before the step are in the history.
                let source = row + tap;
                let input = match source.checked_sub(shape.taps - 1) {
                    Some(row) => &rows[row * channels..][..channels],
                    None => &before[source * channels..][..channels],
                };
                out.iter_mut().zip(input).zip(weights).for_each(|((out, x), w)| *out += x * w);
            }
            for out in out.chunks_mut(ONES.len()) {
                (cpu.table.swiglu)(out, &ONES[..out.len()]);
            }
            unit_heads(&shape, out);
        });
    }
    for span in spans {
        let rows = &x[span.first_row * channels..][..span.rows * channels];
        let (certain, guessed) = rows.split_at(span.certain() * channels);
        remember(&mut states.history[span.slot as usize * size..][..size], certain);
        replace(&mut states.guesses[span.slot as usize].x, guessed);
    }
}

/// Other numbers in the same memory.
fn replace(numbers: &mut Vec<f32>, others: &[f32]) {
    numbers.clear();
    numbers.extend_from_slice(others);
}

impl DeltaStates {
    /// Brings the history of a span up to its first row, and writes those that are kept besides. `certain`: its rows
    /// that are no guesses.
    fn begin_history(&mut self, span: &DeltaSpan<'_>, certain: &[f32]) {
        let (size, channels) = (self.shape.history_numbers(), self.shape.channels());
        let start = span.slot as usize * size;
        if span.is_start {
            self.history[start..start + size].fill(0.0);
        }
        let guesses = &self.guesses[span.slot as usize].x;
        assert!(span.confirmed * channels <= guesses.len(), "more is confirmed than was guessed");
        let confirmed = &guesses[..span.confirmed * channels];
        for copy in span.copies {
            let to = copy.slot as usize * size;
            self.history.copy_within(start..start + size, to);
            let copied = &mut self.history[to..to + size];
            let (old, new) = (copy.rows.min(span.confirmed), copy.rows.saturating_sub(span.confirmed));
            remember(copied, &confirmed[..old * channels]);
            remember(copied, &certain[..new * channels]);
        }
        remember(&mut self.history[start..start + size], confirmed);
    }
}

/// Moves the rows of a step into the history, which keeps the last.
fn remember(history: &mut [f32], rows: &[f32]) {
    match history.len().checked_sub(rows.len()) {
        Some(kept) => {
            history.copy_within(rows.len().., 0);
            history[kept..].copy_from_slice(rows);
        }
        None => history.copy_from_slice(&rows[rows.len() - history.len()..]),
    }
}

fn unit_heads(shape: &DeltaShape, row: &mut [f32]) {
    let keys = shape.key_heads * shape.key_dim;
    let query_scale = 1.0 / (shape.key_dim as f32).sqrt();
    for (index, head) in row[..2 * keys].chunks_exact_mut(shape.key_dim).enumerate() {
        let squares: f32 = head.iter().map(|x| x * x).sum();
        let length = 1.0 / (squares + UNIT_EPS).sqrt();
        let scale = if index < shape.key_heads { length * query_scale } else { length };
        head.iter_mut().for_each(|x| *x *= scale);
    }
}

/// The delta rule over the rows of a step.
///
/// Shapes: `qkv` `[n, channels]` as [`delta_convolve`] gives it; `decay` and `strength` `[n, value_heads]`; `out`
/// `[n, value_heads, value_dim]`.
///
/// # Panics
/// If the lengths do not fit, a slot does not exist, two share one, or more is confirmed than was guessed.
pub fn delta_rule(
    cpu: &Cpu,
    states: &mut DeltaStates,
    qkv: &[f32],
    decay: &[f32],
    strength: &[f32],
    spans: &[DeltaSpan<'_>],
    out: &mut [f32],
) {
    let shape = states.shape;
    let (channels, heads) = (shape.channels(), shape.value_heads);
    let n = qkv.len() / channels;
    assert_eq!(qkv.len(), n * channels, "qkv is [n, {channels}]");
    assert!(decay.len() == n * heads && strength.len() == decay.len(), "gates are [n, value heads]");
    assert_eq!(out.len(), n * heads * shape.value_dim, "out is [n, value heads, value dim]");
    states.assert_spans(spans, n);
    for span in spans {
        let guessed = states.guesses[span.slot as usize].decay.len() / heads;
        assert!(span.confirmed <= guessed, "more is confirmed than was guessed");
    }
    let rule = Rule { shape, rows: Inputs { qkv, decay, strength }, step: step_for(cpu.isa()) };
    let (matrices, out) = (Parts::new(&mut states.matrices), Parts::new(out));
    let guesses = &states.guesses;
    cpu.pool.for_each(spans.len() * heads, &|_, index| {
        let (span, head) = (&spans[index / heads], index % heads);
        rule.head(span, head, &guesses[span.slot as usize], &matrices, &out);
    });
    for span in spans {
        let guesses = &mut states.guesses[span.slot as usize];
        let rows = span.first_row + span.certain()..span.first_row + span.rows;
        replace(&mut guesses.mixed, &qkv[rows.start * channels..rows.end * channels]);
        replace(&mut guesses.decay, &decay[rows.start * heads..rows.end * heads]);
        replace(&mut guesses.strength, &strength[rows.start * heads..rows.end * heads]);
    }
}

/// Rows that change a memory and read from it.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    qkv: &'a [f32],
    decay: &'a [f32],
    strength: &'a [f32],
}

/// A call of [`delta_rule`].
struct Rule<'a> {
    shape: DeltaShape,
    rows: Inputs<'a>,
    step: StepFn,
}

/// Columns of a value head that are computed together.
#[derive(Clone, Copy)]
struct Columns {
    head: usize,
    first: usize,
    width: usize,
}

impl Rule<'_> {
    /// All rows of a span for one value head.
    fn head(
        &self,
        span: &DeltaSpan<'_>,
        head: usize,
        guesses: &Guesses,
        matrices: &Parts<'_, f32>,
        out: &Parts<'_, f32>,
    ) {
        let shape = &self.shape;
        let (size, strip_size) = (shape.head_numbers(), shape.key_dim * LANES);
        let confirmed = Inputs { qkv: &guesses.mixed, decay: &guesses.decay, strength: &guesses.strength };
        for index in 0..size / strip_size {
            let part = |slot: u32| {
                let start = (slot as usize * shape.value_heads + head) * size + index * strip_size;
                // SAFETY: every index has its own head; no two slots of a step, copies included, are the same.
                unsafe { matrices.part(start..start + strip_size) }
            };
            let memory = part(span.slot);
            if span.is_start {
                memory.fill(0.0);
            }
            let first = index * LANES;
            let columns = Columns { head, first, width: (shape.value_dim - first).min(LANES) };
            let keep = |memory: &[f32], rows: usize| {
                let copies = span.copies.iter().filter(|copy| copy.rows == rows);
                copies.for_each(|copy| part(copy.slot).copy_from_slice(memory));
            };
            let write = |row: usize, read: &[f32; LANES]| {
                let at = (row * shape.value_heads + head) * shape.value_dim + first;
                // SAFETY: a row's head is written by this index only, each strip its own columns.
                unsafe { out.part(at..at + columns.width) }.copy_from_slice(&read[..columns.width]);
            };
            for row in 0..span.confirmed {
                self.token(memory, confirmed, row, columns);
                keep(memory, row + 1);
            }
            let certain = span.first_row + span.certain();
            for row in span.first_row..certain {
                write(row, &self.token(memory, self.rows, row, columns));
                keep(memory, span.confirmed + row + 1 - span.first_row);
            }
            if span.guessed > 0 {
                let mut ahead = memory.to_vec();
                for row in certain..certain + span.guessed {
                    write(row, &self.token(&mut ahead, self.rows, row, columns));
                }
            }
        }
    }

    /// One row over a strip.
    fn token(&self, strip: &mut [f32], rows: Inputs<'_>, row: usize, columns: Columns) -> [f32; LANES] {
        let Columns { head, first, width } = columns;
        let shape = &self.shape;
        let (keys, channels) = (shape.key_heads * shape.key_dim, shape.channels());
        let key_head = shape.key_head(head);
        let qkv = &rows.qkv[row * channels..][..channels];
        let q = &qkv[key_head * shape.key_dim..][..shape.key_dim];
        let k = &qkv[keys + key_head * shape.key_dim..][..shape.key_dim];
        let mut v = [0.0; LANES];
        v[..width].copy_from_slice(&qkv[2 * keys + head * shape.value_dim + first..][..width]);
        let gate = row * shape.value_heads + head;
        (self.step)(strip.as_chunks_mut::<LANES>().0, q, k, v, rows.decay[gate], rows.strength[gate])
    }
}

type StepFn = fn(&mut [[f32; LANES]], &[f32], &[f32], [f32; LANES], f32, f32) -> [f32; LANES];

/// One token over one strip. Plain loops that the compiler turns into vectors; every operation is the same on each ISA.
#[inline(always)]
fn step(strip: &mut [[f32; LANES]], q: &[f32], k: &[f32], v: [f32; LANES], decay: f32, strength: f32) -> [f32; LANES] {
    let mut seen = [0.0; LANES];
    for (row, k) in strip.iter_mut().zip(k) {
        for (s, seen) in row.iter_mut().zip(&mut seen) {
            *s *= decay;
            *seen += *s * k;
        }
    }
    let delta: [f32; LANES] = std::array::from_fn(|i| strength * (v[i] - seen[i]));
    let mut read = [0.0; LANES];
    for ((row, k), q) in strip.iter_mut().zip(k).zip(q) {
        for ((s, delta), read) in row.iter_mut().zip(&delta).zip(&mut read) {
            *s += k * delta;
            *read += *s * q;
        }
    }
    read
}

fn step_for(isa: Isa) -> StepFn {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => |strip, q, k, v, decay, strength| {
            // SAFETY: a `Cpu` has an instruction set only if the processor has it.
            unsafe { step_avx512(strip, q, k, v, decay, strength) }
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => |strip, q, k, v, decay, strength| {
            // SAFETY: as above.
            unsafe { step_avx2(strip, q, k, v, decay, strength) }
        },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => unreachable!("only x86-64 has these instructions"),
        Isa::Scalar => |strip, q, k, v, decay, strength| step(strip, q, k, v, decay, strength),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn step_avx512(
    strip: &mut [[f32; LANES]],
    q: &[f32],
    k: &[f32],
    v: [f32; LANES],
    decay: f32,
    strength: f32,
) -> [f32; LANES] {
    step(strip, q, k, v, decay, strength)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn step_avx2(
    strip: &mut [[f32; LANES]],
    q: &[f32],
    k: &[f32],
    v: [f32; LANES],
    decay: f32,
    strength: f32,
) -> [f32; LANES] {
    step(strip, q, k, v, decay, strength)
}

#[cfg(test)]
mod tests;
