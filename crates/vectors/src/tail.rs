//! Rows that are in the log and in no segment yet, in memory.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::types::{Key, Row};

/// Rows are shared with readers in chunks of this length, so that a snapshot copies few pointers.
const CHUNK_ROWS: usize = 256;

/// The newest rows of an index.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    view: TailView,
    by_key: HashMap<Key, u32>,
}

/// The tail as it was at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct TailView {
    chunks: Vec<Arc<Vec<Arc<Row>>>>,
    open: Vec<Arc<Row>>,
    dead: Arc<RoaringBitmap>,
}

impl Tail {
    /// Adds a row and forgets the one with its key, if there was one.
    pub(crate) fn put(&mut self, row: Arc<Row>) {
        self.remove(&row.key);
        self.by_key.insert(row.key.clone(), self.rows());
        self.view.open.push(row);
        if self.view.open.len() == CHUNK_ROWS {
            self.view.chunks.push(Arc::new(std::mem::take(&mut self.view.open)));
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
            Some(chunk) => &chunk[place % CHUNK_ROWS],
            None => &self.view.open[place % CHUNK_ROWS],
        })
    }

    /// How many rows it holds, dead ones too: what it costs.
    pub(crate) fn rows(&self) -> u32 {
        u32::try_from(self.view.chunks.len() * CHUNK_ROWS + self.view.open.len()).expect("its size is limited")
    }

    /// How many rows are alive.
    pub(crate) fn live(&self) -> usize {
        self.by_key.len()
    }

    /// What readers see from now on.
    pub(crate) fn view(&self) -> TailView {
        self.view.clone()
    }
}

impl TailView {
    /// The rows that are alive, oldest first.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Arc<Row>> {
        let all = self.chunks.iter().flat_map(|chunk| chunk.iter()).chain(&self.open);
        all.zip(0_u32..).filter(|&(_, place)| !self.dead.contains(place)).map(|(row, _)| row)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Tail;
    use crate::metadata::Metadata;
    use crate::types::{Key, Row};

    fn row(key: usize, value: f32) -> Arc<Row> {
        let key = Key::parse(&key.to_string()).unwrap();
        Arc::new(Row { key, vector: [value].into(), metadata: Metadata::default() })
    }

    #[test]
    fn the_last_row_of_a_key_is_the_one_that_counts() {
        let mut tail = Tail::default();
        for round in 0..3 {
            for key in 0..300 {
                tail.put(row(key, round as f32));
            }
        }
        let before = tail.view();
        tail.remove(&row(7, 0.0).key);
        tail.remove(&row(7, 0.0).key);
        assert_eq!((tail.rows(), tail.live(), before.live().count(), tail.view().live().count()), (900, 299, 300, 299));
        assert!(tail.get(&row(7, 0.0).key).is_none());
        assert_eq!(tail.get(&row(299, 0.0).key).unwrap(), &row(299, 2.0));
        assert!(before.live().all(|row| row.vector[0] > 1.5));
    }
}
