//! One index: what is written to it, and how every process that opens it sees the same.
//!
//! The log is the truth. Entry `n` is whatever object was created under the number `n` first; a process that loses the
//! race for a number applies the winner's entry and takes the next. So any number of processes may write, and a zombie
//! does no harm. Compaction moves rows into segments and says so in a numbered manifest, created the same way.
//!
//! **Reads are strongly consistent.** Before it answers, a reader looks for the next log entry and then for a newer
//! manifest, in this order: an entry is removed only after a manifest that holds it was written, so when neither is
//! found, the reader knows everything that was acknowledged before it looked.
//!
//! **Writes are acknowledged when durable and certain.** After its entry is created, a writer looks for a newer
//! manifest. If there is one whose log begins later, the slot may have been one that was used and cleared before: the
//! manifest's list of writers says whether the entry counts. If it does not, it is written again.

mod apply;
mod build;
mod changes;
mod collect;
mod commit;
mod compact;
mod effort;
mod expiry;
mod list;
mod opening;
mod read;
mod scratch;
mod search;
mod select;
mod texts;
mod verify;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use store::{Name, Store};
use tokio::sync::watch;

pub use changes::{Changes, LOG_KEPT_BYTES, LOG_KEPT_ENTRIES, Standing};
pub use compact::Compaction;
use compact::LIVING_PER_ROWS;
pub use effort::Effort;
pub use list::{PAGE_KEYS_MAX, Page, Position, Span};
pub use opening::Since;
pub use search::{Match, Query, Want};
pub use texts::{Scored, TextQuery};
pub use verify::{Damaged, Verified, verify};

use crate::error::tried;
use crate::kept::Kept;
use crate::manifest::Manifest;
use crate::metadata::MetadataLimits;
use crate::rotate::Rotation;
use crate::state::State;
use crate::text::TextFields;
use crate::types::Shape;
use crate::{Error, Result};

/// Work on so many rows leaves so much free memory behind that it is worth giving back.
const LARGE_ROWS: u64 = 4_096;

/// What may be set for an index that is open.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Limits of a row's metadata.
    pub metadata: MetadataLimits,
    /// So many rows in memory are worth a compaction.
    pub tail_rows: u32,
    /// At so many rows in memory, writes are refused with [`Error::Busy`] until a compaction is done.
    pub tail_rows_max: u32,
    /// Up to so many living rows in segments, every one is looked at by its code; of more, lists that cannot be
    /// expected to hold a near row are passed over.
    pub exhaustive_rows: u64,
    /// So many entries of the log stay for followers, of those that compactions made superfluous.
    pub log_kept_entries: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            metadata: MetadataLimits::default(),
            tail_rows: 8_192,
            tail_rows_max: 65_536,
            exhaustive_rows: 262_144,
            log_kept_entries: LOG_KEPT_ENTRIES,
        }
    }
}

/// An index, open in this process.
#[derive(Debug)]
pub struct Index {
    store: Arc<dyn Store>,
    folder: Name,
    config: Config,
    shape: Shape,
    /// Names this opening of the index in the log.
    writer: u64,
    /// Numbers the segments that this opening writes.
    builds: AtomicU64,
    rotation: Arc<Rotation>,
    scratch: scratch::Pool,
    kept: Arc<Kept>,
    state: RwLock<State>,
    /// Whoever holds it may change `state`.
    applier: tokio::sync::Mutex<commit::Applier>,
    waiting: Mutex<Vec<commit::Request>>,
    text_fields: Mutex<TextFields>,
    expiry: Mutex<Option<expiry::Expiry>>,
    /// The number of the next log entry, for those who wait for it.
    news: watch::Sender<u64>,
    /// When somebody who waits looked for what others wrote.
    looked_us: AtomicU64,
    /// Whether no object is left that only an old manifest names, as far as is known.
    is_tidy: AtomicBool,
    /// Rows put, keys deleted, queries.
    counters: [AtomicU64; 3],
}

impl Index {
    /// Creates an index in an empty folder.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one; [`Error::Unknown`] if the store does not say; a bad shape.
    pub async fn create(store: &Arc<dyn Store>, folder: &Name, shape: &Shape) -> Result<()> {
        shape.check()?;
        let mut number = 0;
        // Ends: each round takes a higher number, and only one that a crash left a torn manifest under.
        loop {
            // Looked at first: of an index that was compacted, the first manifests are gone and their names are free.
            match Self::first_number(store.as_ref(), folder).await? {
                Some(free) if free > number => number = free,
                Some(_) | None => {
                    return Err(Error::Conflict { what: format!("index {folder}"), why: "exists already" });
                }
            }
            let manifest = Manifest { number, ..Manifest::first(shape.clone()) };
            let name = apply::manifest_name(folder, number)?;
            match store.put_create(&name, Bytes::from(manifest.encode())).await {
                Ok(()) => return Ok(()),
                Err(store::Error::Exists { .. }) => {}
                Err(store::Error::Unavailable { .. } | store::Error::Io { .. }) => return Err(Error::Unknown),
                Err(source) => return Err(tried("create an index")(source)),
            }
        }
    }

    /// Where the first manifest may stand: after those that were torn when somebody tried to create the index, and
    /// nowhere if there is anything else.
    async fn first_number(store: &dyn Store, folder: &Name) -> Result<Option<u64>> {
        let numbers = apply::manifests(store, folder, None).await?;
        let all = store.list_after(folder, None, numbers.len() + 1).await.map_err(tried("list an index"))?;
        let is_empty = all.len() == numbers.len() && apply::newest_whole(store, folder, &numbers).await?.is_none();
        Ok(is_empty.then(|| numbers.last().map_or(1, |last| last + 1)))
    }

    /// What the index is made for.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The limits that apply.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config
    }

    /// Counts of what this process has seen so far; it does not ask the store.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let rows = self.view().rows();
        let state = self.state();
        Stats {
            rows,
            tail_rows: state.tail.rows(),
            segments: state.segments.len() as u32,
            manifest: state.manifest.number,
            log_next: state.next,
            damaged_manifests: state.seen - state.manifest.number,
        }
    }

    /// About how many bytes of codes, and of rows in memory, a query with this effort looks at.
    #[must_use]
    pub fn looks_at_bytes(&self, effort: Effort) -> u64 {
        let state = self.state();
        let in_segments: u64 = state.segments.iter().map(|live| u64::from(live.segment.head.rows)).sum();
        let d = u64::from(self.shape.dimension);
        // A code and its factors; a row in memory is first looked at in bytes.
        effort.part_of(in_segments) * (d / 8 + 8) + u64::from(state.tail.rows()) * d
    }

    /// What happened to the index since this process opened it.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let [puts, deletes, queries] = &self.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted { puts: count(puts), deletes: count(deletes), queries: count(queries) }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        // A panic while the lock was held would be our bug; what was there is still consistent, entry by entry.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this process did with an index since it opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Rows that came, whoever wrote them.
    pub puts: u64,
    /// Keys that were deleted, whoever did.
    pub deletes: u64,
    /// Queries that were asked here.
    pub queries: u64,
}

/// Counts of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Rows that are alive and not over.
    pub rows: u64,
    /// Rows in memory, dead ones too.
    pub tail_rows: u32,
    /// Segments.
    pub segments: u32,
    /// The number of the manifest.
    pub manifest: u64,
    /// The number of the next log entry.
    pub log_next: u64,
    /// How many newer manifests were found damaged and passed over; `verify` names them.
    pub damaged_manifests: u64,
}
