//! Following the log and the manifests.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use base::both;
use bytes::Bytes;
use futures::future::try_join_all;
use store::{Name, Store};

use super::Index;
use super::commit::Applier;
use crate::bits::Bits;
use crate::error::tried;
use crate::log::{self, ENTRY_BYTES_MAX, Read};
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest, SegmentEntry};
use crate::rotate::Rotation;
use crate::segment::Segment;
use crate::state::{Known, Live, Logged, Place, State};
use crate::types::Key;
use crate::{Error, Result};

/// How often one call looks for more before it gives up: others write faster than it can read.
const STEPS_MAX: u32 = 100_000;

/// How many entries of the log are read side by side, and how many bytes of them, one entry at least.
const READ_ENTRIES: usize = 64;
const READ_BYTES: u64 = 16 << 20;

/// How many segments are opened side by side: each brings a head of up to 48 MiB along.
const OPENED_AT_ONCE: usize = 4;

pub(super) fn manifest_name(folder: &Name, number: u64) -> Result<Name> {
    folder.join("manifest").and_then(|all| all.join(&format!("{number:020}"))).map_err(tried("name a manifest"))
}

pub(super) fn log_name(folder: &Name, number: u64) -> Result<Name> {
    folder.join("log").and_then(|all| all.join(&format!("{number:020}"))).map_err(tried("name a log entry"))
}

/// The numbers of the manifests after `after`, in their order.
pub(super) async fn manifests(store: &dyn Store, folder: &Name, after: Option<u64>) -> Result<Vec<u64>> {
    const PAGE: usize = 100;
    let all = folder.join("manifest").map_err(tried("name the manifests"))?;
    let mut last = after.map(|number| manifest_name(folder, number)).transpose()?;
    let mut numbers = Vec::new();
    // Ends: each page begins after the last.
    loop {
        let page = store.list_after(&all, last.as_ref(), PAGE).await.map_err(tried("list manifests"))?;
        numbers.extend(page.iter().filter_map(|entry| entry.name.last_part().parse::<u64>().ok()));
        match page.last() {
            Some(entry) if page.len() == PAGE => last = Some(entry.name.clone()),
            Some(_) | None => return Ok(numbers),
        }
    }
}

/// The newest of these manifests (in the order of their numbers) that is whole, if any is.
///
/// One that is not was torn in a crash, so nobody was told of it, or has decayed since. The one before it is removed
/// only when a newer one than both is whole, and so are the log entries that follow it: it says the same, only with a
/// longer log.
pub(super) async fn newest_whole(store: &dyn Store, folder: &Name, numbers: &[u64]) -> Result<Option<Manifest>> {
    for &number in numbers.iter().rev() {
        let bytes = store.get(&manifest_name(folder, number)?, MANIFEST_BYTES_MAX).await;
        let bytes = bytes.map_err(tried("read a manifest"))?;
        if let Ok(manifest) = Manifest::decode(&bytes, number) {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

/// Opens the segments of a manifest, taking those that `known` has open already.
pub(super) async fn load(
    store: &Arc<dyn Store>,
    folder: &Name,
    rotation: &Rotation,
    manifest: Manifest,
    known: &[Arc<Segment>],
) -> Result<State> {
    let open = async |entry: &SegmentEntry| {
        let same = |known: &&Arc<Segment>| known.id == entry.id && known.head.checksum == entry.head_checksum;
        let segment = match known.iter().find(same) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Segment::open(store, folder, entry, &manifest.shape, rotation).await?),
        };
        let mut dead = Bits::none(entry.rows);
        dead.add_roaring(&entry.dead).expect("the reader of manifests has checked the rows");
        Ok(Live { segment, dead: Arc::new(dead) })
    };
    let mut segments = Vec::with_capacity(manifest.segments.len());
    for entries in manifest.segments.chunks(OPENED_AT_ONCE) {
        segments.extend(try_join_all(entries.iter().map(&open)).await?);
    }
    Ok(State::of_manifest(manifest, segments))
}

/// Rows of the segments that are alive and have one of these keys.
pub(super) async fn locate(segments: &[Live], keys: &[&Key]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for (number, live) in segments.iter().enumerate() {
        let mut rows: Vec<u32> = keys
            .iter()
            .flat_map(|key| live.segment.rows_with_hash(key))
            .filter(|&row| !live.dead.contains(row))
            .collect();
        // As it is for new keys.
        if rows.is_empty() {
            continue;
        }
        rows.sort_unstable();
        rows.dedup();
        let found = live.segment.keys(&rows).await?;
        let wanted: HashSet<&Key> = keys.iter().copied().collect();
        let alive = rows.iter().zip(&found).filter(|(_, key)| wanted.contains(key));
        places.extend(alive.map(|(&row, _)| Place { segment: number, row }));
    }
    Ok(places)
}

/// Reads entries of the log, the first of which has the number `first`: one half of the bytes beside the other.
fn read_all(entries: &[Bytes], first: u64, dimension: u32) -> Vec<Read> {
    let bytes: usize = entries.iter().map(Bytes::len).sum();
    let mut before = 0;
    let half = entries.iter().take_while(|entry| {
        before += entry.len();
        before <= bytes / 2
    });
    let (left, right) = entries.split_at(half.count());
    let read = |entries: &[Bytes], first: u64| -> Vec<Read> {
        entries.iter().zip(first..).map(|(bytes, number)| log::read(bytes, number, dimension)).collect()
    };
    let behind = first + left.len() as u64;
    let (mut all, right) = both(bytes / 2, || read(left, first), || read(right, behind));
    all.extend(right);
    all
}

/// Entries of the log that were read, the first of which would be applied next.
pub(super) struct Ahead {
    pub(super) entries: Vec<Bytes>,
    /// Whether there may be more to read.
    is_cut: bool,
}

impl Index {
    /// Learns everything that was acknowledged before this call.
    ///
    /// # Errors
    /// If the store fails or an object is damaged.
    pub async fn refresh(&self) -> Result<()> {
        if self.is_fresh().await? {
            return Ok(());
        }
        self.follow().await
    }

    /// [`Self::refresh`] where it is known that there is more to know.
    pub(super) async fn follow(&self) -> Result<()> {
        let mut applier = self.applier.lock().await;
        self.catch_up(&mut applier).await
    }

    /// Whether neither a log entry nor a manifest is new. Does not wait for a commit that is under way.
    async fn is_fresh(&self) -> Result<bool> {
        let known = self.state().known();
        Ok(self.log_ended(known).await? && self.no_newer_manifest(known).await?)
    }

    /// Whether no log entry is new.
    pub(super) async fn log_ended(&self, known: Known) -> Result<bool> {
        Ok(self.read_entry(&log_name(&self.folder, known.next)?).await?.is_none())
    }

    /// Whether no manifest is new. To be asked after [`Self::log_ended`].
    pub(super) async fn no_newer_manifest(&self, known: Known) -> Result<bool> {
        Ok(manifests(self.store.as_ref(), &self.folder, Some(known.seen)).await?.is_empty())
    }

    /// Follows the log to its end and takes newer manifests: three round trips, and more if a manifest is new or very
    /// much has been written.
    pub(super) async fn catch_up(&self, applier: &mut Applier) -> Result<()> {
        for _ in 0..STEPS_MAX {
            let ahead = self.read_ahead().await?;
            let odd = self.apply_all(applier, &ahead.entries).await?;
            // After the last read of the log: what was read there may be what a zombie wrote where a slot was cleared.
            if self.adopt_newer(applier).await? {
                continue;
            }
            match odd {
                Some(error) => return Err(error),
                None if !ahead.is_cut => return Ok(()),
                None => {}
            }
        }
        Err(Error::Contended { action: "follow the log", tries: STEPS_MAX })
    }

    /// Reads what stands in the log behind the last entry that is known.
    async fn read_ahead(&self) -> Result<Ahead> {
        let all = self.folder.join("log").map_err(tried("name the log"))?;
        let known = log_name(&self.folder, self.state().next.saturating_sub(1))?;
        let listed = self.store.list_after(&all, Some(&known), READ_ENTRIES).await.map_err(tried("list the log"))?;
        self.read_listed(&listed).await
    }

    /// Reads those of the entries that would be applied next, side by side.
    pub(super) async fn read_listed(&self, listed: &[store::Entry]) -> Result<Ahead> {
        let next = self.state().next;
        let number = |entry: &store::Entry| entry.name.last_part().parse::<u64>().ok();
        let new = listed.iter().filter(|&entry| number(entry).is_some_and(|number| number >= next));
        // What stands behind a gap follows a manifest that is not known yet.
        let run = new.zip(next..).take_while(|&(entry, next)| number(entry) == Some(next)).map(|(entry, _)| entry);
        let run: Vec<&store::Entry> = run.collect();
        let mut bytes = 0;
        let fitting = run.iter().take(READ_ENTRIES).enumerate().take_while(|(place, entry)| {
            bytes += entry.size_bytes;
            *place == 0 || bytes <= READ_BYTES
        });
        let count = fitting.count();
        let read = try_join_all(run[..count].iter().map(|entry| self.read_entry(&entry.name))).await?;
        let entries: Vec<Bytes> = read.into_iter().map_while(|bytes| bytes).collect();
        let is_cut = entries.len() < run.len() || listed.len() >= READ_ENTRIES;
        Ok(Ahead { entries, is_cut })
    }

    /// An entry of the log; `None` if it is not there: a newer manifest holds it, and it was removed.
    async fn read_entry(&self, name: &Name) -> Result<Option<Bytes>> {
        match self.store.get(name, ENTRY_BYTES_MAX).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(source) => Err(tried("read the log")(source)),
        }
    }

    /// Applies entries of the log, the next one first. Answers what is wrong with one that cannot follow.
    pub(super) async fn apply_all(&self, applier: &mut Applier, entries: &[Bytes]) -> Result<Option<Error>> {
        let first = self.state().next;
        for (read, number) in read_all(entries, first, self.shape.dimension).into_iter().zip(first..) {
            let previous = self.state().previous;
            let odd = |what| -> Result<Option<Error>> {
                Ok(Some(Error::Corrupt { object: log_name(&self.folder, number)?.to_string(), what }))
            };
            let logged = match read {
                Read::Damaged(what) => return odd(what),
                Read::Torn => Logged { number, previous, checksum: 0, author: None, ops: Vec::new() },
                Read::Whole { entry, .. } if entry.previous != previous => {
                    return odd("the entry before it is not the one that it names");
                }
                Read::Whole { entry, checksum } => {
                    let author = Some((entry.writer, entry.serial));
                    Logged { number, previous, checksum, author, ops: entry.ops }
                }
            };
            self.apply(applier, Arc::new(logged)).await?;
        }
        Ok(None)
    }

    /// Applies an entry that stands in the log at the place `next`.
    pub(super) async fn apply(&self, _applier: &mut Applier, logged: Arc<Logged>) -> Result<()> {
        let segments = self.state().segments.clone();
        let keys: Vec<&Key> = logged.ops.iter().map(crate::types::Op::key).collect();
        let places = locate(&segments, &keys).await?;
        drop(segments);
        let puts = logged.ops.iter().filter(|op| matches!(op, crate::types::Op::Put(_))).count() as u64;
        self.counters[0].fetch_add(puts, Ordering::Relaxed);
        self.counters[1].fetch_add(logged.ops.len() as u64 - puts, Ordering::Relaxed);
        self.state.write().unwrap_or_else(PoisonError::into_inner).apply(logged, &places);
        self.tell_followers();
        Ok(())
    }

    /// Takes the newest manifest that is whole. Says whether any is new.
    pub(super) async fn adopt_newer(&self, _applier: &mut Applier) -> Result<bool> {
        let seen = self.state().seen;
        let numbers = manifests(self.store.as_ref(), &self.folder, Some(seen)).await?;
        let Some(&newest) = numbers.last() else { return Ok(false) };
        let manifest = match newest_whole(self.store.as_ref(), &self.folder, &numbers).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                self.state.write().unwrap_or_else(PoisonError::into_inner).seen = newest;
                return Ok(true);
            }
            // An even newer manifest has made this one rubbish; the next round finds it.
            Err(Error::Store { source, .. }) if source.is_not_found() => return Ok(true),
            Err(error) => return Err(error),
        };
        let known: Vec<Arc<Segment>> = self.state().segments.iter().map(|live| Arc::clone(&live.segment)).collect();
        let mut state = match load(&self.store, &self.folder, &self.rotation, manifest, &known).await {
            Ok(state) => state,
            // As above, of a segment.
            Err(Error::Store { source, .. }) if source.is_not_found() => return Ok(true),
            Err(error) => return Err(error),
        };
        state.seen = newest;
        // Entries that we know already need not be read again, as long as they follow the manifest's.
        let since: Vec<Arc<Logged>> = self.state().since.clone();
        let begin = state.next;
        for logged in since.into_iter().skip_while(|logged| logged.number < begin) {
            if logged.number != state.next || logged.previous != state.previous {
                break;
            }
            let keys: Vec<&Key> = logged.ops.iter().map(crate::types::Op::key).collect();
            let places = locate(&state.segments, &keys).await?;
            state.apply(logged, &places);
        }
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        self.tell_followers();
        Ok(true)
    }
}
