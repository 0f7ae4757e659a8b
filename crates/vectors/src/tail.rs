//! Rows that are in the log and in no segment yet, in memory.
//!
//! They lie in chunks. A full chunk keeps its rows rounded to bytes besides, one behind the other: a search of many
//! rows reads those, and of the rows themselves only the nearest, as it does in a segment. 8,192 rows of 384 dimensions
//! are 3 MB then, in one direction, and not 13 MB all over the memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::distance::{distance, kernels, prepare};
use crate::filter::Filter;
use crate::segment::{rounded, scale_of};
use crate::types::{Key, Metric, Row};

/// Rows are shared with readers in chunks of this length, so that a snapshot copies few pointers.
const CHUNK_ROWS: usize = 256;
/// Up to so many rows, a search looks at each as it was sent.
const EXACT_CHUNKS: usize = 2;

/// The newest rows of an index.
#[derive(Debug)]
pub(crate) struct Tail {
    metric: Metric,
    view: TailView,
    by_key: HashMap<Key, u32>,
}

/// The tail as it was at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct TailView {
    chunks: Vec<Arc<Chunk>>,
    open: Vec<Arc<Row>>,
    dead: Arc<RoaringBitmap>,
}

/// Rows, and what is looked at before them.
#[derive(Debug)]
struct Chunk {
    rows: Vec<Arc<Row>>,
    /// The prepared rows as signed bytes. `[rows, dimension]`
    numbers: Vec<u8>,
    /// A row is about this times its bytes. `[rows]`
    scales: Vec<f32>,
    /// The squared lengths of the prepared rows. `[rows]`
    squared: Vec<f32>,
}

/// A row by how near it is, as far as its bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Near {
    /// Ordered as [`f32::total_cmp`] does.
    order: i32,
    place: u32,
}

impl Near {
    fn new(order: f32, place: u32) -> Self {
        let bits = order.to_bits().cast_signed();
        Self { order: bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed(), place }
    }
}

impl Chunk {
    fn of(rows: Vec<Arc<Row>>, metric: Metric) -> Self {
        let (mut scales, mut squared) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut numbers = Vec::with_capacity(rows.iter().map(|row| row.vector.len()).sum());
        for row in &rows {
            let prepared = prepare(&row.vector, metric);
            let scale = scale_of(&prepared);
            numbers.extend(rounded(&prepared, scale));
            scales.push(scale);
            squared.push(kernels().dot_f32(&prepared, &prepared));
        }
        Self { rows, numbers, scales, squared }
    }

    /// Appends every row, the first of which has the place `first`. The order is the squared distance of the prepared
    /// vectors less what all have in common.
    fn orders(&self, prepared: &[f32], first: u32, out: &mut Vec<Reverse<Near>>) {
        let facts = self.scales.iter().zip(&self.squared).zip(first..);
        out.extend(self.numbers.chunks_exact(prepared.len()).zip(facts).map(|(numbers, ((scale, squared), place))| {
            let product = scale * kernels().dot_f32_i8(prepared, numbers);
            Reverse(Near::new(squared - 2.0 * product, place))
        }));
    }
}

impl Tail {
    /// A tail without rows.
    pub(crate) fn new(metric: Metric) -> Self {
        Self { metric, view: TailView::default(), by_key: HashMap::new() }
    }

    /// Adds a row and forgets the one with its key, if there was one.
    pub(crate) fn put(&mut self, row: Arc<Row>) {
        self.remove(&row.key);
        self.by_key.insert(row.key.clone(), self.rows());
        self.view.open.push(row);
        if self.view.open.len() == CHUNK_ROWS {
            let rows = std::mem::take(&mut self.view.open);
            self.view.chunks.push(Arc::new(Chunk::of(rows, self.metric)));
        }
    }

    /// Forgets a row.
    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(old) = self.by_key.remove(key) {
            Arc::make_mut(&mut self.view.dead).insert(old);
        }
    }

    /// The row with this key.
    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Row>> {
        let place = *self.by_key.get(key)? as usize;
        Some(match self.view.chunks.get(place / CHUNK_ROWS) {
            Some(chunk) => &chunk.rows[place % CHUNK_ROWS],
            None => &self.view.open[place % CHUNK_ROWS],
        })
    }

    /// How many rows it holds, dead ones too: what it costs.
    pub(crate) fn rows(&self) -> u32 {
        u32::try_from(self.view.chunks.len() * CHUNK_ROWS + self.view.open.len()).expect("its size is limited")
    }

    /// What readers see from now on.
    pub(crate) fn view(&self) -> TailView {
        self.view.clone()
    }
}

impl TailView {
    /// How many rows are alive.
    pub(crate) fn rows_alive(&self) -> u64 {
        (self.chunks.len() * CHUNK_ROWS + self.open.len()) as u64 - self.dead.len()
    }

    /// Takes rows for dead.
    pub(crate) fn bury(&mut self, is_over: impl Fn(&Row) -> bool) {
        let all = self.chunks.iter().flat_map(|chunk| &chunk.rows).chain(&self.open);
        let over: Vec<u32> = all.zip(0_u32..).filter(|(row, _)| is_over(row)).map(|(_, place)| place).collect();
        if !over.is_empty() {
            Arc::make_mut(&mut self.dead).extend(over);
        }
    }

    /// The rows that are alive, oldest first.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Arc<Row>> {
        let all = self.chunks.iter().flat_map(|chunk| &chunk.rows).chain(&self.open);
        all.zip(0_u32..).filter(|&(_, place)| !self.dead.contains(place)).map(|(row, _)| row)
    }

    /// Living rows that fit, with their distances, in no order: at least the `count` nearest, so far as rows rounded to
    /// bytes tell which those are. Of few rows, all that fit.
    pub(crate) fn nearest(
        &self,
        prepared: &[f32],
        metric: Metric,
        filter: Option<&Filter>,
        count: usize,
    ) -> Vec<(f32, &Arc<Row>)> {
        let fits = |row: &Row| filter.is_none_or(|filter| filter.matches(&row.metadata));
        let far = |row: &Row| distance(prepared, &row.vector, metric);
        if self.chunks.len() <= EXACT_CHUNKS {
            return self.live().filter(|row| fits(row)).map(|row| (far(row), row)).collect();
        }
        let in_chunks = (self.chunks.len() * CHUNK_ROWS) as u32;
        let open = self.open.iter().zip(in_chunks..).filter(|&(row, place)| !self.dead.contains(place) && fits(row));
        let mut found: Vec<(f32, &Arc<Row>)> = open.map(|(row, _)| (far(row), row)).collect();
        let mut orders = Vec::with_capacity(in_chunks as usize);
        for (chunk, number) in self.chunks.iter().zip(0_u32..) {
            chunk.orders(prepared, number * CHUNK_ROWS as u32, &mut orders);
        }
        let mut left = BinaryHeap::from(orders);
        let mut wanted = count;
        // Ends: each round takes a row off the heap.
        while wanted > 0
            && let Some(Reverse(Near { place, .. })) = left.pop()
        {
            let row = &self.chunks[place as usize / CHUNK_ROWS].rows[place as usize % CHUNK_ROWS];
            if !self.dead.contains(place) && fits(row) {
                found.push((far(row), row));
                wanted -= 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::Rng;

    use super::{Near, Tail};
    use crate::distance::{distance, prepare};
    use crate::filter::Filter;
    use crate::metadata::{Metadata, MetadataLimits};
    use crate::types::{Key, Metric, Row};

    fn row(key: usize, value: f32) -> Arc<Row> {
        let key = Key::parse(&key.to_string()).unwrap();
        Arc::new(Row { key, vector: [value].into(), metadata: Metadata::default() })
    }

    #[test]
    fn the_last_row_of_a_key_is_the_one_that_counts() {
        let mut tail = Tail::new(Metric::Euclidean);
        for round in 0..3 {
            for key in 0..300 {
                tail.put(row(key, round as f32));
            }
        }
        let before = tail.view();
        tail.remove(&row(7, 0.0).key);
        tail.remove(&row(7, 0.0).key);
        assert_eq!((tail.rows(), before.live().count(), tail.view().live().count()), (900, 300, 299));
        assert!(tail.get(&row(7, 0.0).key).is_none());
        assert_eq!(tail.get(&row(299, 0.0).key).unwrap(), &row(299, 2.0));
        assert!(before.live().all(|row| row.vector[0] > 1.5));
        let mut view = tail.view();
        view.bury(|row| row.key.as_str().len() < 3);
        assert_eq!((view.rows_alive(), tail.view().rows_alive()), (200, 299));
    }

    #[test]
    fn the_nearest_of_many_are_those_that_a_look_at_each_finds() {
        let mut rng = Rng::seeded(4);
        let filter = Filter::parse(&serde_json::json!({"part": 1}), &[]).unwrap();
        for (metric, rows) in [(Metric::Cosine, 3_000), (Metric::Euclidean, 3_000), (Metric::Cosine, 300)] {
            let mut draw = || (0..64).map(|_| rng.unit_f64() as f32 - 0.5).collect::<Box<[f32]>>();
            let mut tail = Tail::new(metric);
            for number in 0..rows {
                let metadata = serde_json::json!({"part": number % 10});
                let metadata = Metadata::from_json(&metadata, &[], MetadataLimits::default()).unwrap();
                tail.put(Arc::new(Row { key: Key::parse(&number.to_string()).unwrap(), vector: draw(), metadata }));
            }
            for number in (0..rows).step_by(3) {
                tail.remove(&Key::parse(&number.to_string()).unwrap());
            }
            let (view, query) = (tail.view(), prepare(&draw(), metric));
            for filter in [None, Some(&filter)] {
                let sorted = |mut found: Vec<(f32, &Arc<Row>)>| {
                    found.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
                    found.into_iter().take(10).map(|(_, row)| row.key.clone()).collect::<Vec<_>>()
                };
                let fit = view.live().filter(|row| filter.is_none_or(|filter| filter.matches(&row.metadata)));
                let exact = fit.map(|row| (distance(&query, &row.vector, metric), row)).collect();
                assert_eq!(sorted(view.nearest(&query, metric, filter, 22)), sorted(exact));
            }
        }
    }

    #[test]
    fn orders_are_those_of_numbers() {
        let numbers = [f32::NEG_INFINITY, -2.0, -0.5, -0.0, 0.0, 1e-9, 3.0, f32::INFINITY, f32::NAN];
        assert!(numbers.windows(2).all(|pair| Near::new(pair[0], 9) < Near::new(pair[1], 0)));
    }
}
