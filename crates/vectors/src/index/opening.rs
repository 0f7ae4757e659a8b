//! Opening: from names to a state.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use base::Rng;
use futures::join;
use store::{Entry, Name, Store};
use tokio::sync::watch;

use super::apply::{load, manifest_name, manifests, newest_whole};
use super::{Config, Index, LARGE_ROWS, scratch};
use crate::error::tried;
use crate::kept::{KEPT_BYTES, Kept};
use crate::newest::{self, Newest};
use crate::rotate::Rotation;
use crate::state::{Known, State};
use crate::text::TextFields;
use crate::{Error, Result};

/// How often opening begins again because a compaction removed what was read.
const TRIES_MAX: u32 = 5;
/// Where the log ended when an index was opened, if that was seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Since(pub(super) Option<Known>);

/// How many entries of the log are listed: one page of every service. Where there are more, the end is found later.
const LOG_PAGE: usize = 1_000;

impl Index {
    /// Opens an index at its newest manifest and the log that follows it. `rng` names this opening; two openings must
    /// not be given the same numbers.
    ///
    /// Cost: one round trip to the store, for heads and filter indexes of the segments (9 MB for 100,000 rows of 384
    /// dimensions), and one for entries of the log that were not compacted yet, if there are any; one more before it if
    /// the segments take more than 15 MiB, and two if an older version compacted them.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none; [`Error::Corrupt`] names the object that is damaged.
    pub async fn open(store: &Arc<dyn Store>, folder: &Name, config: Config, rng: &mut Rng) -> Result<Self> {
        Self::open_for_query(store, folder, config, rng).await.map(|(index, _)| index)
    }

    /// The same by one who has a query: with the second answer, [`Self::query_since`] asks the store once less.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub async fn open_for_query(
        store: &Arc<dyn Store>,
        folder: &Name,
        config: Config,
        rng: &mut Rng,
    ) -> Result<(Self, Since)> {
        Self::open_beside_others(store, folder, config, rng, &Arc::new(Kept::new(KEPT_BYTES))).await
    }

    /// The same for one of several indexes that keep together what was read of them.
    pub(crate) async fn open_beside_others(
        store: &Arc<dyn Store>,
        folder: &Name,
        config: Config,
        rng: &mut Rng,
        kept: &Arc<Kept>,
    ) -> Result<(Self, Since)> {
        let mut tries = 0;
        // Ends: each round counts a try.
        let (state, listed) = loop {
            match first_state(store, folder).await {
                // A compaction has made what was read rubbish meanwhile.
                Err(Error::Store { source, .. }) if source.is_not_found() && tries < TRIES_MAX => tries += 1,
                state => break state?,
            }
        };
        let index = Self {
            store: Arc::clone(store),
            folder: folder.clone(),
            config,
            shape: state.manifest.shape.clone(),
            writer: rng.next_u64(),
            builds: AtomicU64::new(0),
            rotation: Arc::new(Rotation::new(state.manifest.shape.dimension as usize)),
            scratch: scratch::Pool::default(),
            kept: Arc::clone(kept),
            expiry: Mutex::default(),
            news: watch::Sender::new(state.next),
            looked_us: AtomicU64::new(0),
            is_tidy: AtomicBool::new(false),
            counters: Default::default(),
            state: RwLock::new(state),
            applier: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            text_fields: Mutex::new(TextFields::from([])),
        };
        let ended = index.take_listed(&listed).await;
        if index.view().rows() >= LARGE_ROWS {
            kernels::give_back_memory();
        }
        Ok((index, Since(ended)))
    }

    /// Takes the entries of a listing that follow the manifest. Answers how far the state then goes, if the listing
    /// shows the end of the log and all before it could be read; what could not, the next reader reads.
    async fn take_listed(&self, listed: &[Entry]) -> Option<Known> {
        let mut applier = self.applier.lock().await;
        let ahead = self.read_listed(listed).await.ok()?;
        let odd = self.apply_all(&mut applier, &ahead.entries).await.ok()?;
        let known = self.state().known();
        let numbers = listed.iter().filter_map(|entry| entry.name.last_part().parse::<u64>().ok());
        let is_end = listed.len() < LOG_PAGE && numbers.max().is_none_or(|last| last < known.next);
        (is_end && odd.is_none()).then_some(known)
    }
}

/// The state of the newest manifest, and the entries of the log.
async fn first_state(store: &Arc<dyn Store>, folder: &Name) -> Result<(State, Vec<Entry>)> {
    let log = folder.join("log").map_err(tried("name the log"))?;
    let (kept, numbers, listed) = join!(
        newest::read(store.as_ref(), folder),
        manifests(store.as_ref(), folder, None),
        store.list_after(&log, None, LOG_PAGE)
    );
    let (numbers, listed) = (numbers?, listed.map_err(tried("list the log"))?);
    let Some(&last) = numbers.last() else { return Err(Error::NotFound { what: format!("index {folder}") }) };
    // What cannot be read of it is read elsewhere.
    let kept = kept.as_deref().and_then(|bytes| Newest::decode(bytes).ok());
    let known = kept.as_ref().and_then(|kept| kept.open(store, folder)).unwrap_or_default();
    let manifest = match kept {
        // Greater, if a compaction came to its end while the others were listed.
        Some(kept) if kept.manifest.number >= last => kept.manifest,
        _ => newest_whole(store.as_ref(), folder, &numbers).await?.ok_or_else(|| nothing_whole(folder, last))?,
    };
    let rotation = Rotation::new(manifest.shape.dimension as usize);
    let mut state = load(store, folder, &rotation, manifest, &known).await?;
    state.seen = last.max(state.manifest.number);
    Ok((state, listed))
}

fn nothing_whole(folder: &Name, last: u64) -> Error {
    let object = manifest_name(folder, last).map_or_else(|_| folder.to_string(), |name| name.to_string());
    Error::Corrupt { object, what: "no manifest of the index is whole" }
}
