//! Compaction: rows of the tail, and of segments that are small or mostly dead, go into new segments.
//!
//! It works on a state as it was at one place of the log while writes go on, and says in a new manifest what it made of
//! that place. Every process, this one too, takes the manifest and applies the log from there.
//!
//! Memory: one part of a segment (24 MiB), one head and a sample of its rows, whatever the size of the index.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::apply::manifest_name;
use super::collect::is_rubbish;
use super::{Index, LARGE_ROWS};
use crate::error::tried;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest, SegmentEntry, Writers};
use crate::newest;
use crate::segment::{Segment, rows_max};
use crate::state::{Live, View};
use crate::types::Row;
use crate::{Error, Result};

/// As many segments of one size are merged into one.
const FAN_IN: usize = 4;
/// A segment with fewer living rows than this fraction (1/2) of its rows is rewritten.
pub(super) const LIVING_PER_ROWS: u32 = 2;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    /// There was nothing to do.
    Idle,
    /// A new manifest counts.
    Done {
        /// Rows that were written.
        rows: u64,
    },
    /// Another process compacted meanwhile; its work counts, ours is rubbish.
    Lost,
}

/// A state to compact.
struct Snapshot {
    view: View,
    manifest: Arc<Manifest>,
    seen: u64,
    next: u64,
    previous: u32,
    writers: Writers,
}

/// How eagerly segments are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Eagerness {
    /// While others write: a row is rewritten about `log4(rows / tail)` times.
    Busy,
    /// When nobody writes: two segments of one size are one too many. Each has lists of its own, and of lists around
    /// fewer rows more have to be looked at for the same neighbours.
    Resting,
}

impl Eagerness {
    /// How many segments of one size are merged into one, with what is there of the same size already.
    fn fan_in(self) -> usize {
        match self {
            Self::Busy => FAN_IN,
            Self::Resting => 2,
        }
    }
}

/// Which segments are to be merged with the tail. `sizes` are living rows and all rows of each segment.
///
/// Segments are merged when so many of them as [`Eagerness`] says are within a factor of [`FAN_IN`] in size.
fn plan(sizes: &[(u32, u32)], tail_rows: u32, segment_rows_max: u32, eagerness: Eagerness) -> Vec<usize> {
    let mut merged: Vec<usize> =
        (0..sizes.len()).filter(|&index| sizes[index].0 < sizes[index].1 / LIVING_PER_ROWS).collect();
    let mut by_size: Vec<usize> = (0..sizes.len()).filter(|index| !merged.contains(index)).collect();
    by_size.sort_by_key(|&index| sizes[index].0);
    let mut size = tail_rows.max(1);
    let is_pair = |pair: &&[usize]| sizes[pair[1]].0 / FAN_IN as u32 <= sizes[pair[0]].0;
    if eagerness == Eagerness::Resting
        && let Some(pair) = by_size.windows(2).find(is_pair)
    {
        // Two of one size, whatever the tail.
        size = size.max(sizes[pair[0]].0);
    }
    // Ends: each round takes at least one segment off the list.
    loop {
        let near = by_size.iter().take_while(|&&index| sizes[index].0 / FAN_IN as u32 <= size).count();
        let total: u64 = by_size[..near].iter().map(|&index| u64::from(sizes[index].0)).sum();
        if near + 1 < eagerness.fan_in() || total + u64::from(tail_rows) > u64::from(segment_rows_max) {
            merged.sort_unstable();
            return merged;
        }
        size = u32::try_from(total).unwrap_or(u32::MAX).max(size);
        merged.extend(by_size.drain(..near));
    }
}

impl Index {
    /// Whether enough rows are in memory to be worth a compaction.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
        self.state().tail.rows() >= self.config.tail_rows
    }

    /// Writes what is in memory to segments, merges segments where that is due, and removes what nobody needs any more.
    ///
    /// Cost: minutes for millions of rows, mostly computing, on the caller's thread; writes and reads go on meanwhile.
    /// Dropping the future is harmless.
    ///
    /// # Errors
    /// Errors of the store; [`Error::Unknown`] if it is not known whether the new manifest was written.
    pub async fn compact(&self) -> Result<Compaction> {
        self.compact_as(Eagerness::Busy).await
    }

    /// The same when nobody writes: as few segments are left as are worth it, since queries take longer over more.
    ///
    /// # Errors
    /// Those of [`Self::compact`].
    pub async fn compact_at_rest(&self) -> Result<Compaction> {
        self.compact_as(Eagerness::Resting).await
    }

    /// Whether [`Self::compact_at_rest`] would merge segments.
    #[must_use]
    pub fn wants_merging(&self) -> bool {
        let sizes: Vec<(u32, u32)> = self.state().segments.iter().map(size_of).collect();
        !plan(&sizes, 0, rows_max(self.shape.dimension), Eagerness::Resting).is_empty()
    }

    async fn compact_as(&self, eagerness: Eagerness) -> Result<Compaction> {
        let snapshot = self.snapshot().await?;
        let sizes: Vec<(u32, u32)> = snapshot.view.segments.iter().map(size_of).collect();
        let tail: Vec<&Arc<Row>> = snapshot.view.tail.live().collect();
        let merged = plan(&sizes, tail.len() as u32, rows_max(self.shape.dimension), eagerness);
        if snapshot.next == snapshot.manifest.log_next && merged.is_empty() {
            return Ok(Compaction::Idle);
        }
        let kept = (0..sizes.len()).filter(|index| !merged.contains(index));
        let mut segments: Vec<SegmentEntry> = kept.map(|index| entry_of(&snapshot.view.segments[index])).collect();
        let sources: Vec<&Live> = merged.iter().map(|&index| &snapshot.view.segments[index]).collect();
        let number = snapshot.seen + 1;
        let built = self.build(number, &sources, &tail).await?;
        self.collect_words(&built).await?;
        let rows = built.iter().map(|entry| u64::from(entry.rows)).sum();
        segments.extend(built);
        let manifest = Manifest {
            number,
            shape: self.shape.clone(),
            log_next: snapshot.next,
            log_previous: snapshot.previous,
            writers: snapshot.writers.clone(),
            segments,
        };
        if !self.make_newest(&snapshot.manifest, manifest).await? {
            return Ok(Compaction::Lost);
        }
        self.is_tidy.store(false, Ordering::Relaxed);
        drop(snapshot);
        if rows >= LARGE_ROWS {
            kernels::give_back_memory();
        }
        Ok(Compaction::Done { rows })
    }

    /// Removes segments that only the manifest before the newest names, if there are any: writes the newest once more,
    /// and that is the one before it then. Whoever calls it leaves other readers time to take the newest, seconds after
    /// a compaction; by then nobody reads what was merged any more, and its memory is given back.
    ///
    /// Cost: a listing, and nothing the next time if nothing was compacted since.
    ///
    /// # Errors
    /// Those of [`Self::compact`].
    pub async fn tidy(&self) -> Result<()> {
        if self.is_tidy.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let tidied = self.write_newest_again().await;
        if tidied.is_err() {
            self.is_tidy.store(false, Ordering::Relaxed);
        } else if self.view().rows() >= LARGE_ROWS {
            kernels::give_back_memory();
        }
        tidied
    }

    async fn write_newest_again(&self) -> Result<()> {
        let snapshot = self.snapshot().await?;
        let named: HashSet<&str> = snapshot.manifest.segments.iter().map(|segment| segment.id.as_str()).collect();
        let all = self.all("segments").await?;
        if !all.iter().any(|entry| is_rubbish(&entry.name, snapshot.manifest.number, &named)) {
            return Ok(());
        }
        let manifest = Manifest { number: snapshot.seen + 1, ..Manifest::clone(&snapshot.manifest) };
        self.make_newest(&snapshot.manifest, manifest).await.map(drop)
    }

    /// Publishes a manifest and removes what neither it nor the one before it needs. `false` if another process was
    /// faster.
    async fn make_newest(&self, before: &Manifest, manifest: Manifest) -> Result<bool> {
        if !self.publish(&manifest).await? {
            return Ok(false);
        }
        self.refresh().await?;
        let newest = Arc::clone(&self.state().manifest);
        if *newest != manifest {
            return Ok(false);
        }
        let told = self.tell_newest(&newest).await;
        self.collect(before, &newest).await?;
        told?;
        Ok(true)
    }

    /// Puts the newest manifest where whoever opens the index looks first.
    async fn tell_newest(&self, manifest: &Manifest) -> Result<()> {
        let bytes = {
            let state = self.state();
            // Another compaction has come and tells of its own.
            if state.manifest.number != manifest.number {
                return Ok(());
            }
            let segments = state.segments.clone();
            drop(state);
            newest::encode(manifest, &segments)
        };
        let name = newest::name(&self.folder)?;
        self.store.put(&name, Bytes::from(bytes)).await.map_err(tried("write the newest manifest"))
    }

    /// Collects the words of segments before anybody reads them.
    async fn collect_words(&self, built: &[SegmentEntry]) -> Result<()> {
        let fields = self.text_fields();
        if fields.is_empty() {
            return Ok(());
        }
        for entry in built {
            let segment = Segment::open(&self.store, &self.folder, entry, &self.shape, &self.rotation).await?;
            let segment = Arc::new(segment);
            for field in fields.iter() {
                segment.text(field).await?;
            }
        }
        Ok(())
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        let mut applier = self.applier.lock().await;
        self.catch_up(&mut applier).await?;
        let view = self.view();
        // Nobody changes the state as long as the applier is held.
        let state = self.state();
        Ok(Snapshot {
            view,
            manifest: Arc::clone(&state.manifest),
            seen: state.seen,
            next: state.next,
            previous: state.previous,
            writers: state.writers.clone(),
        })
    }

    /// Creates the manifest. `false` if another has its number.
    async fn publish(&self, manifest: &Manifest) -> Result<bool> {
        let name = manifest_name(&self.folder, manifest.number)?;
        let bytes = Bytes::from(manifest.encode());
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(Error::Busy { rows: bytes.len() as u64, limit: MANIFEST_BYTES_MAX });
        }
        match self.store.put_create(&name, bytes.clone()).await {
            Ok(()) => return Ok(true),
            Err(store::Error::Exists { .. } | store::Error::Unavailable { .. } | store::Error::Io { .. }) => {}
            Err(source) => return Err(tried("write a manifest")(source)),
        }
        match self.store.get(&name, MANIFEST_BYTES_MAX).await {
            Ok(stored) => Ok(stored == bytes),
            // Not there now, and perhaps a moment later: our segments stay until a manifest of this number is there.
            Err(_) => Err(Error::Unknown),
        }
    }
}

/// Living rows, and all.
fn size_of(live: &Live) -> (u32, u32) {
    (live.rows(), live.segment.head.rows)
}

fn entry_of(live: &Live) -> SegmentEntry {
    SegmentEntry {
        id: live.segment.id.clone(),
        rows: live.segment.head.rows,
        head_checksum: live.segment.head.checksum,
        dead: live.dead.to_roaring(),
    }
}

#[cfg(test)]
mod tests {
    use super::Eagerness::{Busy, Resting};
    use super::{Eagerness, plan};

    /// Segments without dead rows.
    fn alive(sizes: &[u32], tail_rows: u32, eagerness: Eagerness) -> Vec<usize> {
        let sizes: Vec<(u32, u32)> = sizes.iter().map(|&rows| (rows, rows)).collect();
        plan(&sizes, tail_rows, 10_000, eagerness)
    }

    #[test]
    fn segments_of_one_size_are_merged_and_the_dead_are_swept() {
        assert_eq!(alive(&[], 100, Busy), [0; 0]);
        assert_eq!(alive(&[100; 2], 100, Busy), [0; 0]);
        assert_eq!(alive(&[100; 3], 100, Busy), [0, 1, 2]);
        assert_eq!(alive(&[100, 9_000, 100, 120], 100, Busy), [0, 2, 3]);
        assert_eq!(plan(&[(49, 100), (50, 100)], 1, 10_000, Busy), [0]);
        assert_eq!(alive(&[4_000; 3], 4_000, Busy), [0; 0]);
    }

    #[test]
    fn at_rest_two_of_one_size_are_one_too_many() {
        assert_eq!(alive(&[], 100, Resting), [0; 0]);
        assert_eq!(alive(&[3_000], 0, Resting), [0; 0]);
        assert_eq!(alive(&[3_000, 900], 0, Resting), [0, 1]);
        assert_eq!(alive(&[3_000, 700], 0, Resting), [0; 0], "of another size");
        assert_eq!(alive(&[3_000, 700], 200, Resting), [1], "the tail is of the size of one");
        assert_eq!(alive(&[100, 120, 9_000], 0, Resting), [0, 1], "the largest stays");
        assert_eq!(alive(&[10, 3_000, 3_000], 0, Resting), [0, 1, 2], "what is smaller comes along");
        assert_eq!(alive(&[6_000, 5_000], 0, Resting), [0; 0], "too many for one");
        assert_eq!(plan(&[(49, 100), (3_000, 3_000)], 0, 10_000, Resting), [0]);
    }
}
