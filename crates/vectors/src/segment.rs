//! A segment: rows that never change, under `segments/<id>/`. What lies where, byte by byte, is in `format.md` beside
//! this file.
//!
//! Rows lie in lists around centres: near rows near each other. In memory stay, for each row of 384 dimensions: the
//! code (48 bytes), two factors (8), its place in the key table (8), the place of its document (4), its share of its
//! list's centre, twice (6), and the filter index (about 12 bytes a distinct value). Vectors, keys and metadata stay in
//! the store and are read row by row, each with its own checksum.

mod build;
mod filter_index;
mod head;
mod rows;
mod verify;

pub(crate) use build::{Builder, rows_max};
use filter_index::FilterIndex;
#[cfg(test)]
pub(crate) use filter_index::FilterIndexBuilder;
pub(crate) use head::{Head, fuzz};
#[cfg(test)]
pub(crate) use head::{List, Part};
#[cfg(test)]
pub(crate) use rows::write_document;
pub(crate) use rows::{Of, Wanted, fuzz as fuzz_rows, read_kept_rows, read_rows, rounded, scale_of};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::join;
use store::{Name, OBJECT_BYTES_MAX, Store};
use tokio::sync::OnceCell;

use crate::error::tried;
use crate::manifest::SegmentEntry;
use crate::rotate::Rotation;
use crate::text::{TextField, TextIndex};
use crate::types::{Key, Shape};
use crate::{Error, Result};

/// The most rows of one segment; of many dimensions it has fewer, see [`rows_max`].
pub(crate) const ROWS_MAX: u32 = 262_144;

/// Counts the segments that this process opened.
static OPENINGS: AtomicU64 = AtomicU64::new(0);

/// Whether an object is written once and never again, so that what was read of it may be kept: those of segments are.
#[must_use]
pub fn is_fixed(name: &Name) -> bool {
    name.as_str().contains("/segments/")
}

/// A segment, open for reading.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: String,
    /// Which one this is of all segments that this process opened.
    opening: u64,
    pub(crate) head: Head,
    pub(crate) filter_index: FilterIndex,
    /// The centres of the lists as codes see them. `[lists, padded]`
    rotated: Vec<f32>,
    /// The objects of its rows.
    parts: Vec<Name>,
    pub(crate) folder: Name,
    pub(crate) store: Arc<dyn Store>,
    /// The words of fields that were asked for.
    texts: Mutex<BTreeMap<TextField, Arc<OnceCell<Arc<TextIndex>>>>>,
}

impl Segment {
    /// Reads what stays in memory.
    pub(crate) async fn open(
        store: &Arc<dyn Store>,
        index_folder: &Name,
        entry: &SegmentEntry,
        shape: &Shape,
        rotation: &Rotation,
    ) -> Result<Self> {
        let folder = folder_of(index_folder, &entry.id)?;
        // Every filter index has a first piece, so it need not wait for the head.
        let (head, first) = join!(Self::read_head(store, &folder, entry, shape), read_filter(store, &folder, 0));
        let head = head?;
        let filter_index = read_filter_index(store, &folder, &head, first).await?;
        Ok(Self::of(store, folder, entry, rotation, (head, filter_index)))
    }

    /// The same of bytes that were kept elsewhere, under a checksum that was seen to be right; `None` if they are not
    /// those of the segment that is named.
    pub(crate) fn of_bytes(
        store: &Arc<dyn Store>,
        index_folder: &Name,
        entry: &SegmentEntry,
        shape: &Shape,
        rotation: &Rotation,
        (head, filter_index): (&[u8], &[u8]),
    ) -> Option<Self> {
        let folder = folder_of(index_folder, &entry.id).ok()?;
        let head = Head::decode_checked(head).ok().filter(|head| misfit(head, entry, shape).is_none())?;
        let filter_index = FilterIndex::decode(filter_index, head.rows)?;
        Some(Self::of(store, folder, entry, rotation, (head, filter_index)))
    }

    fn of(
        store: &Arc<dyn Store>,
        folder: Name,
        entry: &SegmentEntry,
        rotation: &Rotation,
        (head, filter_index): (Head, FilterIndex),
    ) -> Self {
        let mut rotated = vec![0.0; head.lists.len() * rotation.padded()];
        for (list, out) in rotated.chunks_exact_mut(rotation.padded()).enumerate() {
            rotation.apply(head.centre(list), out);
        }
        let parts = (0..head.parts.len()).map(|part| object(&folder, &format!("rows-{part:05}"))).collect();
        let (id, store, texts) = (entry.id.clone(), Arc::clone(store), Mutex::default());
        let opening = OPENINGS.fetch_add(1, Ordering::Relaxed);
        Self { id, opening, head, filter_index, rotated, parts, folder, store, texts }
    }

    /// A segment without rows.
    #[cfg(test)]
    pub(crate) fn testing() -> Arc<Self> {
        let store: Arc<dyn Store> = Arc::new(store::Memory::new());
        let folder = Name::parse("index/segments/none").expect("letters are a name");
        let parts = (Head::default(), FilterIndex::default());
        let entry =
            SegmentEntry { id: "none".to_owned(), rows: 0, head_checksum: 0, dead: roaring::RoaringBitmap::new() };
        Arc::new(Self::of(&store, folder, &entry, &Rotation::new(1), parts))
    }

    fn text_cell(&self, field: &TextField) -> Arc<OnceCell<Arc<TextIndex>>> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(texts.entry(field.clone()).or_default())
    }

    /// The words of a field; collected now if nobody has, once for all who wait.
    pub(crate) async fn text(self: &Arc<Self>, field: &TextField) -> Result<Arc<TextIndex>> {
        let cell = self.text_cell(field);
        cell.get_or_try_init(async || TextIndex::open(self, field).await.map(Arc::new)).await.cloned()
    }

    /// The words of a field, if they are open.
    pub(crate) fn known_text(&self, field: &TextField) -> Option<Arc<TextIndex>> {
        self.text_cell(field).get().cloned()
    }

    async fn read_head(store: &Arc<dyn Store>, folder: &Name, entry: &SegmentEntry, shape: &Shape) -> Result<Head> {
        let name = object(folder, "head");
        let bytes = store.get(&name, OBJECT_BYTES_MAX).await.map_err(tried("read the head of a segment"))?;
        let corrupt = |what| Error::Corrupt { object: name.to_string(), what };
        let head = Head::decode(&bytes).map_err(corrupt)?;
        match misfit(&head, entry, shape) {
            Some(what) => Err(corrupt(what)),
            None => Ok(head),
        }
    }

    /// The centre of a list as codes see it. `[padded]`
    pub(crate) fn rotated_centre(&self, list: usize) -> &[f32] {
        let padded = self.rotated.len() / self.head.lists.len();
        &self.rotated[list * padded..(list + 1) * padded]
    }

    /// Rows that may have this key: its hash fits.
    pub(crate) fn rows_with_hash(&self, key: &Key) -> impl Iterator<Item = u32> {
        let hash = u64::from(key.hash32());
        let start = first_of_hash(&self.head.keys, hash);
        self.head.keys[start..].iter().take_while(move |&&entry| entry >> 32 == hash).map(|&entry| entry as u32)
    }
}

/// Where the entries whose high half is `hash` begin in sorted ones. Hashes lie evenly, so it is looked for from where
/// it is expected: of 100,000 entries within a few hundred places, while the steps of a search from the middle lie far
/// apart. A batch of 500 keys is looked for in every segment.
fn first_of_hash(keys: &[u64], hash: u64) -> usize {
    let is_before = |place: usize| keys[place] >> 32 < hash;
    let guess = ((u128::from(hash) * keys.len() as u128) >> 32) as usize;
    // Everything before `low` has a smaller hash, everything from `high` on has not.
    let (mut low, mut high) = (guess.min(keys.len()), guess.min(keys.len()));
    let mut step = 32;
    while low > 0 && !is_before(low - 1) {
        high = low - 1;
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = 32;
    while high < keys.len() && is_before(high) {
        low = high + 1;
        high = (high + step).min(keys.len());
        step *= 2;
    }
    low + keys[low..high].partition_point(|&entry| entry >> 32 < hash)
}

/// What is wrong with a head that was read for a segment of a manifest.
fn misfit(head: &Head, entry: &SegmentEntry, shape: &Shape) -> Option<&'static str> {
    if head.checksum != entry.head_checksum {
        return Some("it is not the one that the manifest names");
    }
    ((head.rows, head.dimension) != (entry.rows, shape.dimension))
        .then_some("it has another shape than the manifest says")
}

/// A piece of a filter index, without its checksum.
async fn read_filter(store: &Arc<dyn Store>, folder: &Name, number: u32) -> Result<Bytes> {
    let name = object(folder, &format!("filter-{number:05}"));
    let bytes = store.get(&name, OBJECT_BYTES_MAX).await.map_err(tried("read a filter index"))?;
    let corrupt = Error::Corrupt { object: name.to_string(), what: "its checksum is wrong" };
    let length = crate::codec::unseal(&bytes).ok_or(corrupt)?.len();
    Ok(bytes.slice(..length))
}

/// The filter index of which `first` is the first piece.
async fn read_filter_index(
    store: &Arc<dyn Store>,
    folder: &Name,
    head: &Head,
    first: Result<Bytes>,
) -> Result<FilterIndex> {
    let decoded = match head.filter_objects {
        0 => None,
        1 => FilterIndex::decode(&first?, head.rows),
        count => {
            let mut whole = first?.to_vec();
            for number in 1..count {
                whole.extend_from_slice(&read_filter(store, folder, number).await?);
            }
            FilterIndex::decode(&whole, head.rows)
        }
    };
    decoded.ok_or_else(|| Error::Corrupt {
        object: object(folder, "filter-00000").to_string(),
        what: "it is not in the format of a filter index",
    })
}

/// Feeds foreign bytes to the reader of filter indexes.
pub(crate) fn fuzz_filter_index(bytes: &[u8]) {
    if let Some(index) = FilterIndex::decode(bytes, 100) {
        assert_eq!(FilterIndex::decode(&index.encode(), 100), Some(index), "what is read can be written");
    }
}

/// The folder of a segment in the folder of its index.
pub(crate) fn folder_of(index_folder: &Name, id: &str) -> Result<Name> {
    index_folder.join("segments").and_then(|all| all.join(id)).map_err(tried("name a segment"))
}

fn object(folder: &Name, last: &str) -> Name {
    folder.join(last).expect("an index's folder leaves room for its objects")
}

/// Bytes of a stored row, checked against the checksum at their end.
fn checked<'a>(name: &Name, bytes: &'a Bytes) -> Result<&'a [u8]> {
    crate::codec::unseal(bytes)
        .ok_or_else(|| Error::Corrupt { object: name.to_string(), what: "the checksum of a row is wrong" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::first_of_hash;

    proptest! {
        #[test]
        fn hashes_are_found_however_they_lie(mut keys in prop::collection::vec(any::<u64>(), 0..400),
                                             shift in 0..40_u32, asked in prop::collection::vec(any::<u32>(), 1..20)) {
            // Shifted, they lie close together, and many are equal.
            keys.iter_mut().for_each(|key| *key = (*key >> shift) & !0xffff_ffff | (*key & 0xffff_ffff));
            keys.sort_unstable();
            let known = keys.iter().map(|key| key >> 32);
            for hash in known.chain(asked.into_iter().map(u64::from)).chain([0, u64::from(u32::MAX)]) {
                let expected = keys.partition_point(|&entry| entry >> 32 < hash);
                prop_assert_eq!(first_of_hash(&keys, hash), expected);
            }
        }
    }
}
