//! Rows that fit a filter, whatever their vectors are.

use super::Index;
use super::search::chosen_rows;
use crate::bits::Bits;
use crate::filter::Filter;
use crate::metadata::Metadata;
use crate::segment::{Of, Wanted, read_rows};
use crate::state::View;
use crate::types::Key;
use crate::{Error, Result};

/// How often a search begins again because a compaction removed a segment under it.
const TRIES_MAX: u32 = 5;

impl Index {
    /// The keys and metadata of all rows that fit, in no order; `None` if there are more than `limit`. Sees every write
    /// that was acknowledged before the call.
    ///
    /// Cost: a look at the filter index, and a read of each row that fits.
    ///
    /// # Errors
    /// Errors of the store; [`Error::Corrupt`] names a damaged object.
    pub async fn select(&self, filter: &Filter, limit: usize) -> Result<Option<Vec<(Key, Metadata)>>> {
        let mut tries = 0;
        // Ends: each round counts a try.
        loop {
            self.refresh().await?;
            match select(&self.view(), filter, limit).await {
                Err(Error::Store { source, .. }) if source.is_not_found() && tries < TRIES_MAX => tries += 1,
                answer => return answer,
            }
        }
    }
}

async fn select(view: &View, filter: &Filter, limit: usize) -> Result<Option<Vec<(Key, Metadata)>>> {
    let in_tail = view.tail.live().filter(|row| filter.matches(&row.metadata));
    let mut found: Vec<_> = in_tail.map(|row| (row.key.clone(), row.metadata.clone())).collect();
    let chosen: Vec<Bits> = view.segments.iter().map(|live| chosen_rows(live, Some(filter))).collect();
    let in_segments: u64 = chosen.iter().map(|rows| u64::from(rows.count())).sum();
    if found.len() as u64 + in_segments > limit as u64 {
        return Ok(None);
    }
    let mut wanted = Vec::new();
    for (live, rows) in view.segments.iter().zip(&chosen) {
        wanted.extend(rows.iter().map(|row| Wanted { segment: &live.segment, row, of: Of::Document }));
    }
    for (bytes, wanted) in read_rows(&wanted).await?.iter().zip(&wanted) {
        let (key, metadata) = wanted.segment.document(wanted.row, bytes)?;
        // The filter index knows texts by their hashes; the metadata has the last word.
        if filter.matches(&metadata) {
            found.push((key, metadata));
        }
    }
    Ok(Some(found))
}
