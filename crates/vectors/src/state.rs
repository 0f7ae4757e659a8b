//! What an index knows after some entry of its log. Pure: entries come in, nothing is read or written.

use std::sync::Arc;

use crate::bits::Bits;
use crate::manifest::{Manifest, Writers};
use crate::segment::Segment;
use crate::tail::{Tail, TailView};
use crate::types::Op;

/// An index up to and without the log entry `next`.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) manifest: Arc<Manifest>,
    /// The highest number of a manifest that was looked at, whole or damaged.
    pub(crate) seen: u64,
    /// The number of the next log entry.
    pub(crate) next: u64,
    /// The checksum of the last one; 0 if it was torn.
    pub(crate) previous: u32,
    pub(crate) writers: Writers,
    pub(crate) segments: Vec<Live>,
    pub(crate) tail: Tail,
    /// The entries that the manifest does not hold.
    pub(crate) since: Vec<Arc<Logged>>,
}

/// A segment and which of its rows are dead.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) segment: Arc<Segment>,
    pub(crate) dead: Arc<Bits>,
}

/// A log entry as it counts.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) number: u64,
    pub(crate) previous: u32,
    /// 0 if the entry is torn.
    pub(crate) checksum: u32,
    /// Writer and serial number; `None` if the entry is torn.
    pub(crate) author: Option<(u64, u64)>,
    pub(crate) ops: Vec<Op>,
}

/// Where a key lies in the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: usize,
    pub(crate) row: u32,
}

/// What a reader works on: it never changes.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) segments: Vec<Live>,
    pub(crate) tail: TailView,
}

/// How far a state goes: what is newer is what it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// The number of the next log entry.
    pub(crate) next: u64,
    /// The highest number of a manifest that was looked at.
    pub(crate) seen: u64,
}

impl State {
    /// How far it goes.
    pub(crate) fn known(&self) -> Known {
        Known { next: self.next, seen: self.seen }
    }

    /// The state that a manifest describes, with its segments opened.
    pub(crate) fn of_manifest(manifest: Manifest, segments: Vec<Live>) -> Self {
        Self {
            next: manifest.log_next,
            previous: manifest.log_previous,
            writers: manifest.writers.clone(),
            seen: manifest.number,
            tail: Tail::new(manifest.shape.metric),
            manifest: Arc::new(manifest),
            segments,
            since: Vec::new(),
        }
    }

    /// Applies the next entry. `places` are all rows of the segments whose keys the entry changes.
    pub(crate) fn apply(&mut self, entry: Arc<Logged>, places: &[Place]) {
        assert_eq!(entry.number, self.next, "entries are applied in order");
        assert!(entry.author.is_none() || entry.previous == self.previous, "an entry names the one before it");
        for place in places {
            Arc::make_mut(&mut self.segments[place.segment].dead).insert(place.row);
        }
        for op in &entry.ops {
            match op {
                Op::Put(row) => self.tail.put(Arc::clone(row)),
                Op::Delete(key) => self.tail.remove(key),
            }
        }
        if let Some((writer, serial)) = entry.author {
            self.writers.note(writer, serial);
        }
        self.next += 1;
        self.previous = entry.checksum;
        self.since.push(entry);
    }

    pub(crate) fn view(&self) -> View {
        View { segments: self.segments.clone(), tail: self.tail.view() }
    }
}

impl View {
    /// How many rows are alive.
    pub(crate) fn rows(&self) -> u64 {
        let in_segments: u64 = self.segments.iter().map(|live| u64::from(live.rows())).sum();
        in_segments + self.tail.rows_alive()
    }
}

impl Live {
    /// How many rows are alive.
    pub(crate) fn rows(&self) -> u32 {
        self.segment.head.rows - self.dead.count()
    }
}
