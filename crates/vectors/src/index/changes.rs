//! The log as a feed: every change of an index in the order in which it counts, each exactly once.
//!
//! A follower holds nothing but the number of the entry that it reads next. The queue between writers and followers is
//! the log itself: entries that no manifest holds yet are in memory, older ones are read from the store as long as
//! `collect` keeps them ([`LOG_KEPT_ENTRIES`], [`LOG_KEPT_BYTES`]). So a slow follower costs no memory, and one that
//! was away goes on where it stopped, in any process.
//!
//! **An entry of the past counts if the next one names it.** A slot that was cleared may hold what a zombie wrote,
//! which never counted; its checksum is not the one that the entry after it names.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::Index;
use super::apply::log_name;
use crate::distance::{distance, prepare};
use crate::error::tried;
use crate::log::{self, ENTRY_BYTES_MAX, Read};
use crate::state::Logged;
use crate::types::{Op, Row, Shape};
use crate::{Error, Filter, Metric, Result};

/// So many entries of the log stay for followers after a compaction made them superfluous. With as many again that no
/// manifest holds yet, one page of a listing still shows whoever opens the index where the log ends.
pub const LOG_KEPT_ENTRIES: usize = 512;
/// And of them the newest that take so many bytes together.
pub const LOG_KEPT_BYTES: u64 = 16 << 20;

/// One entry of the log: changes that became visible together.
#[derive(Debug, Clone)]
pub struct Changes {
    logged: Arc<Logged>,
    /// How many entries the log has behind this one.
    pub behind: u64,
}

impl Logged {
    /// The checksum of the entry before this one, unless this one is torn.
    fn names_before(&self) -> Option<u32> {
        self.author.map(|_| self.previous)
    }
}

impl Changes {
    /// The changes, in the order in which they count.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.logged.ops
    }
}

/// A query that waits for vectors instead of looking for them.
#[derive(Debug, Clone)]
pub struct Standing {
    metric: Metric,
    near: Option<Near>,
    filter: Option<Filter>,
}

#[derive(Debug, Clone)]
struct Near {
    prepared: Vec<f32>,
    distance_max: f32,
}

impl Standing {
    /// A query for rows that pass the filter and lie within a distance of a vector; each may be left out.
    ///
    /// # Errors
    /// If the vector does not fit the index, or the distance is not a number of 0 or more.
    pub fn new(shape: &Shape, near: Option<(&[f32], f32)>, filter: Option<Filter>) -> Result<Self> {
        let near = match near {
            None => None,
            Some((vector, distance_max)) => {
                shape.check_vector(vector)?;
                if !(0.0..).contains(&distance_max) {
                    let why = format!("{distance_max}, 0 or more is needed");
                    return Err(Error::Invalid { field: "maximum distance", why });
                }
                Some(Near { prepared: prepare(vector, shape.metric), distance_max })
            }
        };
        Ok(Self { metric: shape.metric, near, filter })
    }

    /// Whether every row fits.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.near.is_none() && self.filter.is_none()
    }

    /// How far a row is, if it fits: `Some(None)` where no vector was given.
    #[must_use]
    pub fn fits(&self, row: &Row) -> Option<Option<f32>> {
        if self.filter.as_ref().is_some_and(|filter| !filter.matches(&row.metadata)) {
            return None;
        }
        let Some(near) = &self.near else { return Some(None) };
        let found = distance(&near.prepared, &row.vector, self.metric);
        (found <= near.distance_max).then_some(Some(found))
    }
}

impl Index {
    /// The number of the entry that will be written next, as far as this process knows.
    #[must_use]
    pub fn log_next(&self) -> u64 {
        self.state().next
    }

    /// The number of the next log entry, whenever this process learns of another.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Looks for what other processes wrote, unless somebody did so less than `every_us` ago. For many who wait for
    /// the same; `now_us` is of one clock for all.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn look(&self, now_us: u64, every_us: u64) -> Result<()> {
        let claim = |last: u64| (last == 0 || now_us >= last.saturating_add(every_us)).then_some(now_us.max(1));
        if self.looked_us.fetch_update(Ordering::SeqCst, Ordering::SeqCst, claim).is_err() {
            return Ok(());
        }
        self.refresh().await
    }

    /// The oldest entry that a follower may begin with.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn log_first(&self) -> Result<u64> {
        self.refresh().await?;
        let numbers: Vec<u64> =
            self.all("log").await?.iter().filter_map(|entry| entry.name.last_part().parse().ok()).collect();
        // What stands before a gap is a zombie's.
        let last_run = numbers.chunk_by(|left, right| left + 1 == *right).next_back();
        let first = last_run.and_then(<[u64]>::first).copied().unwrap_or(u64::MAX).min(self.log_next());
        match self.changes(first).await {
            Err(Error::Gone { .. }) => Ok(first + 1),
            Err(error) => Err(error),
            Ok(_) => Ok(first),
        }
    }

    /// The entry with this number; `None` if nobody has written it yet, as far as this process knows.
    ///
    /// # Errors
    /// [`Error::Gone`] if the log does not hold it any more; errors of the store; [`Error::Corrupt`] names a damaged
    /// entry.
    pub async fn changes(&self, number: u64) -> Result<Option<Changes>> {
        let (next, last) = {
            let state = self.state();
            if let Some(first) = state.since.first()
                && let Some(place) = number.checked_sub(first.number)
                && let Some(logged) = state.since.get(place as usize)
            {
                return Ok(Some(Changes { logged: Arc::clone(logged), behind: state.next - number - 1 }));
            }
            let named = state.since.first().map_or((state.next, state.previous), |it| (it.number, it.previous));
            (state.next, named)
        };
        if number >= next {
            return Ok(None);
        }
        let gone = || Error::Gone { what: format!("entry {number} of the log") };
        let logged = self.entry(number).await?.ok_or_else(gone)?;
        let named = match number + 1 == last.0 {
            true => Some(last.1),
            false => self.entry(number + 1).await?.ok_or_else(gone)?.names_before(),
        };
        let counts = match named {
            Some(named) => named == logged.checksum,
            // The next one is torn and names nobody. Slots are cleared in order, so this one is what was written first
            // if the one before it stands.
            None => number == 1 || self.entry(number - 1).await?.is_some(),
        };
        if !counts {
            return Err(gone());
        }
        Ok(Some(Changes { logged: Arc::new(logged), behind: next - number - 1 }))
    }

    /// An entry as it stands in the store.
    async fn entry(&self, number: u64) -> Result<Option<Logged>> {
        let name = log_name(&self.folder, number)?;
        let bytes = match self.store.get(&name, ENTRY_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(source) => return Err(tried("read the log")(source)),
        };
        match log::read(&bytes, number, self.shape.dimension) {
            Read::Damaged(what) => Err(Error::Corrupt { object: name.to_string(), what }),
            Read::Torn => Ok(Some(Logged { number, previous: 0, checksum: 0, author: None, ops: Vec::new() })),
            Read::Whole { entry, checksum } => {
                let author = Some((entry.writer, entry.serial));
                Ok(Some(Logged { number, previous: entry.previous, checksum, author, ops: entry.ops }))
            }
        }
    }

    /// Tells followers how far the state goes.
    pub(super) fn tell_followers(&self) {
        let next = self.state().next;
        self.news.send_if_modified(|told| std::mem::replace(told, next) != next);
    }
}
