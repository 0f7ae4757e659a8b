//! The indexes that are open in this process.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use base::Rng;
use store::{Name, Store};
use tokio::sync::{Notify, OnceCell, OwnedRwLockReadGuard, RwLock};

use crate::index::{Config, Index, Match, Query, Since};
use crate::kept::{KEPT_BYTES, Kept};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct Pool {
    store: Arc<dyn Store>,
    config: Config,
    open_max: usize,
    /// What was read of rows, of all indexes together.
    kept: Arc<Kept>,
    open: Mutex<Open>,
    due: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Open {
    places: HashMap<Name, Arc<Place>>,
    /// Counts uses, so that the place that rested longest is known.
    uses: u64,
}

#[derive(Debug, Default)]
struct Place {
    index: OnceCell<Arc<Index>>,
    /// Read by whoever uses the index, written once when it is deleted.
    deleted: Arc<RwLock<bool>>,
    last_use: Mutex<u64>,
    /// The end of the log when it was last looked at.
    log_seen: Mutex<u64>,
}

/// So many rows in memory are worth a compaction when nobody writes: every query looks at each of them.
const RESTING_ROWS_MIN: u32 = 512;

/// An index that stays while this lives. When it is dropped, it is seen whether a compaction is due.
#[derive(Debug)]
pub struct Opened {
    index: Arc<Index>,
    /// What was seen of the log if the index was opened for this.
    since: Since,
    due: Arc<Notify>,
    _not_deleted: OwnedRwLockReadGuard<bool>,
}

impl Opened {
    /// [`Index::query`] by one who asked for the index just now: finds everything that was acknowledged before
    /// [`Catalogue::open`](super::Catalogue::open) was called. If that had to open the index, this is one round trip to
    /// the store less.
    ///
    /// # Errors
    /// Those of [`Index::query`].
    pub async fn query_since_open(&self, query: &Query) -> Result<Vec<Match>> {
        self.index.query_since(query, self.since).await
    }
}

impl Deref for Opened {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.index
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.index.wants_compaction() || self.index.wants_texts() {
            self.due.notify_one();
        }
    }
}

impl Pool {
    pub(super) fn new(store: Arc<dyn Store>, config: Config, open_max: usize) -> Self {
        let kept = Arc::new(Kept::new(KEPT_BYTES));
        Self { store, config, open_max, kept, open: Mutex::default(), due: Arc::default() }
    }

    pub(super) fn open_max(&self) -> usize {
        self.open_max
    }

    pub(super) fn config(&self) -> Config {
        self.config
    }

    /// The index of a folder; `None` if it was deleted.
    pub(super) async fn open(&self, folder: &Name, rng: &mut Rng) -> Result<Option<Opened>> {
        let place = self.place(folder);
        let mut since = Since::default();
        let opening = async || {
            let opened = Index::open_beside_others(&self.store, folder, self.config, rng, &self.kept);
            let (index, seen) = opened.await?;
            since = seen;
            Ok(Arc::new(index))
        };
        let index = match place.index.get_or_try_init(opening).await {
            Ok(index) => Arc::clone(index),
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let not_deleted = Arc::clone(&place.deleted).read_owned().await;
        if *not_deleted {
            return Ok(None);
        }
        Ok(Some(Opened { index, since, due: Arc::clone(&self.due), _not_deleted: not_deleted }))
    }

    /// An index, if it is open.
    pub(super) fn opened(&self, folder: &Name) -> Option<Arc<Index>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.places.get(folder)?.index.get().cloned()
    }

    fn place(&self, folder: &Name) -> Arc<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.uses += 1;
        let uses = open.uses;
        if !open.places.contains_key(folder) && open.places.len() >= self.open_max {
            open.close_one();
        }
        let place = Arc::clone(open.places.entry(folder.clone()).or_default());
        *place.last_use.lock().unwrap_or_else(PoisonError::into_inner) = uses;
        place
    }

    /// Waits until nobody uses the index any more, and lets nobody begin.
    pub(super) async fn close(&self, folder: &Name) {
        let place = self.open.lock().unwrap_or_else(PoisonError::into_inner).places.remove(folder);
        if let Some(place) = place {
            *place.deleted.write().await = true;
        }
    }

    pub(super) async fn keep_compacted(&self, failed: impl Fn(&Name, &Error)) {
        // Runs as long as the process: whoever owns it drops it.
        loop {
            self.due.notified().await;
            for (folder, place) in self.all() {
                let Some(index) = place.index.get() else { continue };
                let not_deleted = place.deleted.read().await;
                if !*not_deleted
                    && index.wants_compaction()
                    && let Err(error) = index.compact().await
                {
                    failed(&folder, &error);
                }
                if !*not_deleted && let Err(error) = index.prepare_texts().await {
                    failed(&folder, &error);
                }
            }
        }
    }

    pub(super) async fn compact_resting(&self, failed: impl Fn(&Name, &Error)) {
        for (folder, place) in self.all() {
            let Some(index) = place.index.get() else { continue };
            let stats = index.stats();
            let seen =
                std::mem::replace(&mut *place.log_seen.lock().unwrap_or_else(PoisonError::into_inner), stats.log_next);
            let not_deleted = place.deleted.read().await;
            if *not_deleted {
                continue;
            }
            let rests = seen == stats.log_next;
            let sweeps = index.wants_sweeping();
            let done = if rests && (sweeps || stats.tail_rows >= RESTING_ROWS_MIN || index.wants_merging()) {
                index.compact_at_rest().await.map(drop)
            } else if sweeps {
                index.compact().await.map(drop)
            } else if rests {
                index.tidy().await
            } else {
                Ok(())
            };
            if let Err(error) = done {
                failed(&folder, &error);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).places.len()
    }

    fn all(&self) -> Vec<(Name, Arc<Place>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.places.iter().map(|(folder, place)| (folder.clone(), Arc::clone(place))).collect()
    }
}

impl Open {
    /// Closes the index that rested longest, if one rests.
    fn close_one(&mut self) {
        let resting = self.places.iter().filter(|(_, place)| {
            let unused = place.index.get().is_none_or(|index| Arc::strong_count(index) == 1);
            unused && Arc::strong_count(place) == 1
        });
        let oldest = resting.min_by_key(|(_, place)| *place.last_use.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(folder) = oldest.map(|(folder, _)| folder.clone()) {
            self.places.remove(&folder);
        }
    }
}
