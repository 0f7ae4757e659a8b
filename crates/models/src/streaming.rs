//! Experts that are larger than memory: those that a step chooses are read from the model's own files when they are
//! not there, and those that are used stay.
//!
//! The sketch: a token of a mixture goes through `k` of `E` experts in each layer. What of them is not in memory comes
//! from the disk, so a token takes as long as its missing bytes; everything else should hide behind that.
//!
//! * [`disk`]: a mebibyte a read, several in flight, around the page cache.
//! * Rows are packed as they come, on all threads, while others are still on their way. What is quantised with its
//!   scales in other tensors, or has its input outermost, is made rows by whoever read it; the scales come by way of
//!   the page cache.
//! * While a layer waits for its experts, those that the next one is likely to choose are ordered behind them
//!   ([`Next::Likely`]), so that the disk has work while the layer is computed. As many as turn out right.
//! * [`kept`]: what stays in memory follows use.

mod disk;
mod kept;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::Rng;
use kernels::{Cpu, Format, Matrix, PANEL_ROWS, Precision};

use crate::quantised::Quantised;
use crate::qwen3::Network;
use crate::weights::Tensor;
use crate::{Error, Result};
pub use disk::ReadWay;
use disk::{Disk, Numbers, Order, Place, Refusal, Rows};
use kept::{Kept, Key};

/// Of an expert: gate, up and down.
const MATRICES: usize = 3;
/// Bytes of a read, unless sixteen rows have more.
const READ_BYTES: usize = 1 << 20;
/// Matrices that are larger lie on whole pages of this size.
const HUGE_PAGE: usize = 2 << 20;
/// Experts that are ordered ahead at most.
const AHEAD_MAX: usize = 8;
/// Steps of a mixture after which one expert is guessed although guesses came to nothing; no number of layers divides
/// it, so that each has its turn.
const TRIED_EVERY: u64 = 61;
/// Orders that wait while the disk is probed: it has always more to do than it can.
const PROBE_ORDERS: usize = 32;

/// What was read, and what for. All counts begin when the model is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamFigures {
    /// Experts that steps chose, each once a step and layer.
    pub chosen: u64,
    /// Those of them that were in memory.
    pub found: u64,
    /// Those of them that were on their way, or had come, because they were guessed.
    pub guessed: u64,
    /// Bytes of experts that steps chose and that had to be read for it, guessed or not.
    pub needed_bytes: u64,
    /// Bytes of experts that were read.
    pub read_bytes: u64,
    /// Bytes of experts that were read and went before a step chose them.
    pub wasted_bytes: u64,
}

/// Reads experts and keeps some.
pub(crate) struct Streamer {
    mixtures: Vec<Vec<Stored>>, // [mixture][expert]
    precision: Precision,
    disk: Disk,
    /// Experts that are in memory together for one part of a step.
    wave: usize,
    limit_bytes: usize,
    state: Mutex<State>,
}

struct State {
    kept: Kept<Expert>,
    /// What was guessed of this mixture last.
    guessed: Option<(usize, Vec<usize>)>,
    /// How many experts of the next layer are ordered ahead.
    ahead: usize,
    /// Steps of a mixture so far.
    steps: u64,
    figures: StreamFigures,
}

/// An expert in memory, or on its way there.
struct Expert {
    network: Network,
    failure: Option<Error>,
}

/// Where an expert lies: parts that hold gate, up and down, in this order.
pub(crate) struct Stored {
    parts: Vec<Part>,
}

/// One matrix, or two that lie in each other.
struct Part {
    name: Arc<str>,
    place: Arc<Place>,
    offset: u64,
    /// As it is computed with.
    format: Format,
    /// Of all its matrices, one after the other.
    rows: usize,
    columns: usize,
    /// Which of the expert's matrices it holds, each with as many rows.
    matrices: Range<usize>,
    layout: Layout,
}

/// How the numbers of a part lie in the file.
#[derive(Clone)]
enum Layout {
    /// Row after row.
    Rows,
    /// Column after column.
    Columns,
    /// With scales elsewhere.
    Quantised(Arc<Quantised>),
}

/// A matrix of an expert in the files.
pub(crate) enum Source {
    Stored(Tensor),
    Quantised(Box<Quantised>),
    /// The transpose of so many matrices, one after the other: `[columns, count · rows]`.
    Transposed(Tensor, usize),
}

/// What is likely to be chosen next.
pub(crate) enum Next<'a> {
    /// These experts of the same mixture, for certain.
    Sure(&'a [usize]),
    /// These experts of another mixture, the likeliest first.
    Likely(usize, &'a [usize]),
}

/// Experts in memory; as long as this lives, they stay.
pub(crate) struct Present<'a> {
    state: MutexGuard<'a, State>,
    slots: Vec<(usize, usize)>, // (expert, slot), by expert
}

/// Finds the experts of a model in its files.
#[derive(Default)]
pub(crate) struct Finder {
    places: Vec<(PathBuf, Arc<Place>)>,
    mixtures: Vec<Vec<Stored>>,
}

impl Finder {
    /// Adds a mixture, of which each expert is `gate`, `up` and `down`; returns its number.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] if they do not lie in a file as they are, or are no matrices, and [`Error::Read`].
    pub(crate) fn add(&mut self, experts: impl Iterator<Item = Result<Vec<Source>>>) -> Result<usize> {
        let mut stored = Vec::new();
        for sources in experts {
            let mut parts: Vec<Part> = Vec::new();
            for source in sources? {
                let first = parts.last().map_or(0, |part| part.matrices.end);
                parts.push(self.part(source, first)?);
            }
            debug_assert_eq!(parts.last().map(|part| part.matrices.end), Some(MATRICES), "gate, up and down");
            stored.push(Stored { parts });
        }
        self.mixtures.push(stored);
        Ok(self.mixtures.len() - 1)
    }

    /// The part whose first matrix is this one of its expert.
    fn part(&mut self, source: Source, first: usize) -> Result<Part> {
        let (name, found) = match &source {
            Source::Stored(tensor) | Source::Transposed(tensor, _) => (tensor.name().to_owned(), tensor.in_file()),
            Source::Quantised(matrix) => (matrix.name("weight"), matrix.in_file()?),
        };
        let Some((file, offset)) = found else {
            let found = "an expert that lies in no file, so it cannot be streamed".to_owned();
            return Err(Error::UnsupportedType { name, found });
        };
        let path = file.place().0;
        let place = match self.places.iter().find(|(known, _)| known == path) {
            Some((_, place)) => Arc::clone(place),
            None => {
                let place = Arc::new(Place::open(file)?);
                self.places.push((path.to_owned(), Arc::clone(&place)));
                place
            }
        };
        let shape = |tensor: &Tensor| [0, 1].map(|axis| tensor.shape()[axis] as usize);
        let (format, [rows, columns], count, layout) = match source {
            Source::Stored(tensor) => (tensor.format(), shape(&tensor), 1, Layout::Rows),
            Source::Quantised(matrix) => (matrix.format()?, matrix.shape(), 1, Layout::Quantised(Arc::from(matrix))),
            Source::Transposed(tensor, count) => {
                let [columns, rows] = shape(&tensor);
                (tensor.format(), [rows, columns], count, Layout::Columns)
            }
        };
        Ok(Part { name: name.into(), place, offset, format, rows, columns, matrices: first..first + count, layout })
    }

    /// Starts reading.
    ///
    /// # Errors
    /// [`Error::ExpertMemory`] if `limit_bytes` does not hold the experts of a token and those that are ordered ahead;
    /// [`Error::Reader`].
    pub(crate) fn finish(self, precision: Precision, limit_bytes: usize, per_token: usize) -> Result<Streamer> {
        let mut largest = 0;
        let mut order_bytes = 0;
        for part in self.mixtures.iter().flatten().map(|stored| &stored.parts) {
            largest = largest.max(part.iter().map(|part| part.packed_bytes(precision)).sum::<Result<usize>>()?);
            order_bytes = order_bytes.max(part.iter().map(Part::order_bytes).max().unwrap_or(0));
        }
        let capacity = limit_bytes / largest.max(1);
        let needed = per_token + AHEAD_MAX;
        if capacity < needed {
            let needed_bytes = (needed * largest) as u64;
            return Err(Error::ExpertMemory { given_bytes: limit_bytes as u64, needed_bytes });
        }
        let state = State {
            kept: Kept::new(limit_bytes, self.mixtures.len()),
            guessed: None,
            ahead: 2.min(AHEAD_MAX),
            steps: 0,
            figures: StreamFigures::default(),
        };
        Ok(Streamer {
            mixtures: self.mixtures,
            precision,
            disk: Disk::new(order_bytes)?,
            wave: capacity - AHEAD_MAX,
            limit_bytes,
            state: Mutex::new(state),
        })
    }
}

impl Part {
    /// Bytes of a row in the file; `None` if a part of the matrix means nothing by itself.
    fn row_bytes(&self) -> Option<usize> {
        match &self.layout {
            Layout::Rows => Some(self.format.row_bytes(self.columns).unwrap_or(0)),
            Layout::Columns => None,
            Layout::Quantised(matrix) => matrix.row_bytes(),
        }
    }

    /// Bytes of the part in the file.
    fn stored_bytes(&self) -> usize {
        match &self.layout {
            Layout::Rows | Layout::Columns => self.rows * self.format.row_bytes(self.columns).unwrap_or(0),
            Layout::Quantised(matrix) => matrix.size_bytes(),
        }
    }

    /// Rows of each of its matrices.
    fn matrix_rows(&self) -> usize {
        self.rows / self.matrices.len()
    }

    /// Bytes of an order at most.
    fn order_bytes(&self) -> usize {
        self.row_bytes().map_or(self.stored_bytes(), |row| row * self.order_rows())
    }

    /// Bytes of memory, with the rest of the last page of each matrix.
    fn packed_bytes(&self, precision: Precision) -> Result<usize> {
        let bytes = Matrix::packed_bytes(self.format, self.matrix_rows(), self.columns, precision);
        let bytes = bytes.ok_or_else(|| Error::corrupt(&self.name, "its size fits no address"))?;
        Ok(self.matrices.len() * if bytes < HUGE_PAGE { bytes } else { bytes.next_multiple_of(HUGE_PAGE) })
    }

    /// Rows of one order: whole panels, or all.
    fn order_rows(&self) -> usize {
        let all = self.rows.max(PANEL_ROWS);
        let of_read = |row: usize| (READ_BYTES / row.max(1) / PANEL_ROWS * PANEL_ROWS).clamp(PANEL_ROWS, all);
        self.row_bytes().map_or(all, of_read)
    }

    fn orders(&self, slot: usize, part: usize) -> impl Iterator<Item = Order> {
        let numbers = match &self.layout {
            Layout::Rows => Numbers::Stored(self.format),
            Layout::Columns => Numbers::Transposed(self.format, self.columns),
            Layout::Quantised(matrix) => Numbers::Quantised(Arc::clone(matrix)),
        };
        (0..self.rows).step_by(self.order_rows()).map(move |first_row| {
            let rows = self.order_rows().min(self.rows - first_row);
            Order {
                place: Arc::clone(&self.place),
                offset: self.offset + (first_row * self.row_bytes().unwrap_or(0)) as u64,
                length: self.row_bytes().map_or(self.stored_bytes(), |row| row * rows),
                numbers: numbers.clone(),
                way: ReadWay::Direct,
                slot,
                part,
                first_row,
            }
        })
    }

    fn empty(&self, precision: Precision) -> Result<Matrix> {
        Matrix::empty(self.format, self.matrix_rows(), self.columns, precision)
            .map_err(|source| Error::Pack { name: self.name.to_string(), source })
    }
}

impl Stored {
    fn orders(&self, slot: usize) -> impl Iterator<Item = Order> {
        self.parts.iter().enumerate().flat_map(move |(index, part)| part.orders(slot, index))
    }

    fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.stored_bytes() as u64).sum()
    }

    fn fits(&self, network: &Network, precision: Precision) -> bool {
        let matrices = [&network.gate, &network.up, &network.down];
        let fits =
            |part: &Part, matrix: &Matrix| matrix.holds(part.format, part.matrix_rows(), part.columns, precision);
        self.parts.iter().all(|part| matrices[part.matrices.clone()].iter().all(|matrix| fits(part, matrix)))
    }

    /// Matrices without numbers.
    fn empty(&self, precision: Precision) -> Result<Network> {
        let part_of = |matrix| self.parts.iter().find(|part| part.matrices.contains(&matrix));
        let empty = |matrix| part_of(matrix).expect("parts hold all matrices").empty(precision);
        Ok(Network { gate: empty(0)?, up: empty(1)?, down: empty(2)? })
    }
}

impl Streamer {
    /// Bytes of memory that experts may take. Buffers of reads are 64 MiB more at most.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    pub(crate) fn figures(&self) -> StreamFigures {
        self.lock().figures
    }

    /// Reads experts by chance until so many bytes came, each as when it is wanted, and keeps none; says how many.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(crate) fn probe(&self, cpu: &Cpu, rng: &mut Rng, bytes: u64, way: ReadWay) -> Result<u64> {
        let mut state = self.lock();
        // What was guessed comes first.
        while self.receive(cpu, &mut state) {}
        let (mut read, mut fault) = (0, None);
        while read < bytes && fault.is_none() {
            let mixture = &self.mixtures[rng.below(self.mixtures.len() as u64) as usize];
            let stored = &mixture[rng.below(mixture.len() as u64) as usize];
            if way == ReadWay::Cached {
                for part in &stored.parts {
                    let failed = |source| Error::Read { path: part.place.path().to_owned(), source };
                    part.place.forget_cached().map_err(failed)?;
                }
            }
            self.disk.order(stored.orders(0).map(|order| Order { numbers: Numbers::Ignored, way, ..order }));
            read += stored.stored_bytes();
            while self.disk.open() > PROBE_ORDERS || (read >= bytes && self.disk.open() > 0) {
                let Some(mut delivery) = self.disk.take() else { break };
                if let Err(Refusal::Unread(source)) = delivery.rows() {
                    fault = Some(Error::Read { path: delivery.order.place.path().to_owned(), source });
                }
                self.disk.done_with(delivery);
            }
        }
        while let Some(delivery) = self.disk.take() {
            self.disk.done_with(delivery);
        }
        fault.map_or(Ok(read), Err)
    }

    /// So many experts of a mixture can be present together.
    pub(crate) fn wave(&self) -> usize {
        self.wave
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic left is whole but for pins, which the next step undoes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings experts of a mixture into memory. `wanted` is sorted and has no more than [`Self::wave`].
    ///
    /// Cost: what is missing is read; the rows are packed on all threads as they come.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::NotFinite`] of an expert that is wanted.
    pub(crate) fn present(&self, cpu: &Cpu, mixture: usize, wanted: &[usize], next: &Next<'_>) -> Result<Present<'_>> {
        let mut state = self.lock();
        state.kept.begin();
        state.steps += 1;
        state.judge(mixture, wanted);
        let known: Vec<Option<usize>> = wanted.iter().map(|&expert| state.kept.find((mixture, expert))).collect();
        for slot in known.iter().copied().flatten() {
            self.find(&mut state, slot);
        }
        self.forget_guesses(&mut state);
        let mut slots = Vec::with_capacity(wanted.len());
        for (&expert, known) in wanted.iter().zip(known) {
            let slot = match known {
                Some(slot) => slot,
                None => self.order(cpu, &mut state, (mixture, expert))?,
            };
            slots.push((expert, slot));
        }
        self.order_ahead(&mut state, mixture, next)?;
        while slots.iter().any(|&(_, slot)| state.kept.slot(slot).missing > 0) {
            assert!(self.receive(cpu, &mut state), "what is missing was ordered");
        }
        for &(_, slot) in &slots {
            let what = state.kept.slot_mut(slot).what.as_mut().expect("a slot that is pinned holds an expert");
            if let Some(failure) = what.failure.take() {
                state.kept.remove(slot);
                return Err(failure);
            }
        }
        Ok(Present { state, slots })
    }

    /// An expert that is wanted is in memory, or on its way.
    fn find(&self, state: &mut State, slot: usize) {
        let (missing, is_first) = (state.kept.slot(slot).missing, !state.kept.slot(slot).is_used());
        state.figures.chosen += 1;
        if is_first {
            let stored = self.stored(state.kept.slot(slot).key());
            state.figures.guessed += 1;
            state.figures.needed_bytes += stored.stored_bytes();
        } else {
            state.figures.found += 1;
        }
        if missing > 0 {
            self.disk.hurry(slot);
        }
        state.kept.use_now(slot);
    }

    fn stored(&self, (mixture, expert): Key) -> &Stored {
        &self.mixtures[mixture][expert]
    }

    /// Guesses that nobody wants now, and of which nothing was read, are not read any more.
    fn forget_guesses(&self, state: &mut State) {
        for slot in self.disk.forget(|slot| state.kept.slot(slot).orders) {
            state.figures.read_bytes -= self.stored(state.kept.slot(slot).key()).stored_bytes();
            state.kept.remove(slot);
        }
    }

    /// Orders an expert that is wanted.
    fn order(&self, cpu: &Cpu, state: &mut State, key: Key) -> Result<usize> {
        // Ends: what is on its way arrives and may go then, and the rest is pinned or may go.
        let slot = loop {
            match self.take_in(state, key)? {
                Some(slot) => break slot,
                None => assert!(self.receive(cpu, state), "the memory holds what is pinned and what was ordered ahead"),
            }
        };
        let stored = self.stored(key);
        state.figures.chosen += 1;
        state.figures.needed_bytes += stored.stored_bytes();
        state.kept.use_now(slot);
        self.disk.order(stored.orders(slot));
        Ok(slot)
    }

    /// Orders what is likely to be wanted next, if there is room for it.
    fn order_ahead(&self, state: &mut State, mixture: usize, next: &Next<'_>) -> Result<()> {
        let (mixture, experts, most) = match *next {
            Next::Sure(experts) => (mixture, experts, AHEAD_MAX),
            Next::Likely(mixture, experts) => (mixture, experts, state.guesses()),
        };
        let mut guessed = Vec::new();
        for &expert in experts {
            if guessed.len() >= most {
                break;
            }
            if state.kept.find((mixture, expert)).is_some() {
                continue;
            }
            let Some(slot) = self.take_in(state, (mixture, expert))? else { break };
            self.disk.guess(self.stored((mixture, expert)).orders(slot));
            guessed.push(expert);
        }
        if matches!(next, Next::Likely(..)) {
            state.guessed = Some((mixture, guessed));
        }
        Ok(())
    }

    /// A place for an expert; `None` if everything is pinned or on its way.
    fn take_in(&self, state: &mut State, key: Key) -> Result<Option<usize>> {
        let stored = self.stored(key);
        let bytes = stored.parts.iter().map(|part| part.packed_bytes(self.precision)).sum::<Result<usize>>()?;
        let Some(evicted) = state.kept.make_room(bytes) else { return Ok(None) };
        state.figures.wasted_bytes += evicted.unused_bytes as u64;
        let same = evicted.what.into_iter().find(|what| stored.fits(&what.network, self.precision));
        let network = match same {
            Some(what) => what.network,
            None => stored.empty(self.precision)?,
        };
        let orders = stored.orders(0).count();
        state.figures.read_bytes += stored.stored_bytes();
        Ok(Some(state.kept.insert(key, bytes, orders, Expert { network, failure: None })))
    }

    /// Packs the rows that come next. False if none are on their way.
    fn receive(&self, cpu: &Cpu, state: &mut State) -> bool {
        let Some(mut delivery) = self.disk.take() else { return false };
        let (slot, part, first_row) = (delivery.order.slot, delivery.order.part, delivery.order.first_row);
        let slot = state.kept.slot_mut(slot);
        let key = slot.key();
        slot.missing -= 1;
        let what = slot.what.as_mut().expect("a slot that something was ordered for holds an expert");
        let part = &self.stored(key).parts[part];
        let Network { gate, up, down } = &mut what.network;
        let packed = &mut [gate, up, down][part.matrices.clone()];
        // Rows of several matrices come whole.
        let mut fill = |format, rows: &[u8]| {
            let each = rows.chunks_exact(rows.len() / packed.len());
            packed.iter_mut().zip(each).for_each(|(packed, rows)| packed.fill(cpu, format, first_row, rows));
        };
        match delivery.rows() {
            Ok(Rows::Stored(format, rows)) => fill(format, rows),
            Ok(Rows::Converted(rows)) => fill(rows.format(), rows.bytes()),
            Ok(Rows::Ignored) => {}
            Err(Refusal::Unread(error)) => {
                let source = std::io::Error::new(error.kind(), format!("expert {} of {}: {error}", key.1, part.name));
                what.failure = Some(Error::Read { path: part.place.path().to_owned(), source });
            }
            Err(Refusal::NotFinite(element)) => {
                let row = first_row + element / part.columns;
                what.failure = Some(Error::NotFinite { name: format!("{}, expert {}", part.name, key.1), row });
            }
            Err(Refusal::Wrong(error)) => what.failure = Some(error),
        }
        self.disk.done_with(delivery);
        true
    }
}

impl State {
    /// Looks how good the last guess of this mixture was: as many are ordered ahead as turn out right.
    fn judge(&mut self, mixture: usize, wanted: &[usize]) {
        let Some((_, guessed)) = self.guessed.take_if(|(of, _)| *of == mixture) else { return };
        let right = guessed.iter().filter(|expert| wanted.contains(expert)).count();
        if guessed.is_empty() {
            return;
        }
        if right == guessed.len() {
            self.ahead = (self.ahead + 1).min(AHEAD_MAX);
        } else if 2 * right < guessed.len() {
            self.ahead = self.ahead.saturating_sub(1);
        }
    }

    /// How many experts are to be guessed now. Where guesses came to nothing, one is tried now and then.
    fn guesses(&self) -> usize {
        self.ahead.max(usize::from(self.steps.is_multiple_of(TRIED_EVERY)))
    }
}

impl Present<'_> {
    /// An expert that was asked for.
    pub(crate) fn network(&self, expert: usize) -> &Network {
        let at = self.slots.binary_search_by_key(&expert, |&(expert, _)| expert).expect("it was asked for");
        let what = self.state.kept.slot(self.slots[at].1).what.as_ref();
        &what.expect("a slot that is pinned holds an expert").network
    }
}
