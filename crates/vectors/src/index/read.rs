//! Rows by their keys.

use std::collections::HashMap;
use std::sync::Arc;

use super::Index;
use super::apply::locate;
use super::search::chosen_rows;
use crate::types::{Key, Row};
use crate::{Error, Result};

/// How often a read begins again because a compaction removed a segment under it.
const TRIES_MAX: u32 = 5;

impl Index {
    /// The rows with these keys, in the order of the keys; keys that are not there are left out. Sees every write that
    /// was acknowledged before the call.
    ///
    /// # Errors
    /// Errors of the store; [`Error::Corrupt`] names a damaged object.
    pub async fn get(&self, keys: &[Key]) -> Result<Vec<Arc<Row>>> {
        let mut tries = 0;
        // Ends: each round counts a try.
        loop {
            self.refresh().await?;
            match self.get_once(keys).await {
                Err(Error::Store { source, .. }) if source.is_not_found() && tries < TRIES_MAX => tries += 1,
                answer => return answer.map(|rows| self.living(rows)),
            }
        }
    }

    /// Bytes of the rows that are alive: four for each number, and the key and the metadata (as JSON) of each. Counts
    /// what this process has seen so far; it does not ask the store.
    ///
    /// Cost: a look at every row.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        let view = self.view();
        let of_vectors = view.rows() * u64::from(self.shape.dimension) * 4;
        let in_segments = view.segments.iter().map(|live| {
            let rows = chosen_rows(live, None);
            rows.iter().map(|row| live.segment.document_bytes(row)).sum::<u64>()
        });
        let in_memory = view.tail.live().map(|row| (row.key.as_str().len() + row.metadata.to_json_text().len()) as u64);
        of_vectors + in_segments.sum::<u64>() + in_memory.sum::<u64>()
    }

    async fn get_once(&self, keys: &[Key]) -> Result<Vec<Arc<Row>>> {
        let (segments, mut found) = {
            let state = self.state();
            let rows = keys.iter().filter_map(|key| state.tail.get(key).cloned());
            let found: HashMap<Key, Arc<Row>> = rows.map(|row| (row.key.clone(), row)).collect();
            (state.segments.clone(), found)
        };
        let missing: Vec<&Key> = keys.iter().filter(|key| !found.contains_key(key)).collect();
        let places = locate(&segments, &missing).await?;
        for (number, live) in segments.iter().enumerate() {
            let rows: Vec<u32> = places.iter().filter(|place| place.segment == number).map(|place| place.row).collect();
            if !rows.is_empty() {
                found.extend(live.segment.rows(&rows).await?.into_iter().map(|row| (row.key.clone(), Arc::new(row))));
            }
        }
        Ok(keys.iter().filter_map(|key| found.get(key).cloned()).collect())
    }
}
