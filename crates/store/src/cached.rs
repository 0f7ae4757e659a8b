//! Any store, with what never changes kept nearer: blocks of objects in memory, and blocks and whole objects as files
//! of a local folder.
//!
//! Only objects that `is_fixed` names are kept; everything else goes to the store each time, so what is agreed on by
//! create-if-absent is agreed on as before. A block is [`BLOCK_BYTES`] of an object: rows that are asked for together
//! lie near each other, and one request of this length takes no longer than a shorter one.

mod disk;
mod lru;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::{BoxFuture, try_join_all};

use crate::{Entry, Error, Name, Result, Store};
use disk::Disk;
use lru::Lru;

/// Length of a block: a line of 1 GB/s brings it in 33 µs.
const BLOCK_BYTES: u64 = 32 << 10;
/// What an entry costs in memory beside its bytes.
const ENTRY_BYTES: u64 = 256;

/// How much is kept, and where.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// Bytes of blocks in memory; 0 keeps none.
    pub memory_bytes: u64,
    /// A folder of one process for blocks and whole objects, and how many bytes it may hold.
    pub disk: Option<(PathBuf, u64)>,
}

/// A part of an object that is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: Name,
    piece: Piece,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    /// The block of this number: shorter than the others at the end of the object, empty behind it.
    Block(u64),
    Whole,
}

/// A store with what never changes kept nearer.
///
/// The futures need a tokio runtime around them: the file system is called on its blocking threads.
pub struct Cached {
    inner: Arc<dyn Store>,
    is_fixed: fn(&Name) -> bool,
    memory: Mutex<Lru<Key, Bytes>>,
    disk: Option<Arc<Disk>>,
}

impl Cached {
    /// Puts a cache before a store. `is_fixed` says which objects are written once and never again. Blocks on the file
    /// system.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be used, or another process uses it.
    pub fn open(inner: Arc<dyn Store>, settings: &CacheSettings, is_fixed: fn(&Name) -> bool) -> Result<Self> {
        let disk = settings.disk.as_ref().map(|(folder, bytes)| Disk::open(folder, *bytes)).transpose()?;
        let memory = Mutex::new(Lru::new(settings.memory_bytes));
        Ok(Self { inner, is_fixed, memory, disk: disk.map(Arc::new) })
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Lru<Key, Bytes>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, key: Key, bytes: Bytes) {
        let weight = bytes.len() as u64 + ENTRY_BYTES;
        drop(self.memory().insert(key, bytes, weight));
    }

    fn forget(&self, name: &Name) {
        let start = Key { name: name.clone(), piece: Piece::Block(0) };
        let mut memory = self.memory();
        for key in memory.keys_from(&start, |key| key.name == *name) {
            memory.remove(&key);
        }
        drop(memory);
        if let Some(disk) = &self.disk {
            disk.forget(name);
        }
    }

    /// Pieces that lie on the disk; `None` for the others.
    async fn on_disk(&self, keys: Vec<Key>) -> Vec<Option<Bytes>> {
        let count = keys.len();
        let Some(disk) = self.disk.clone().filter(|_| count > 0) else { return vec![None; count] };
        let read = move || keys.iter().map(|key| disk.read(key)).collect();
        // A panic there is our bug; the store has the pieces too.
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| vec![None; count])
    }

    async fn whole(&self, name: &Name, limit_bytes: u64) -> Result<Bytes> {
        let key = Key { name: name.clone(), piece: Piece::Whole };
        if let Some(Some(bytes)) = self.on_disk(vec![key.clone()]).await.pop() {
            crate::memory::check_size(name, bytes.len() as u64, limit_bytes)?;
            return Ok(bytes);
        }
        let bytes = self.inner.get(name, limit_bytes).await?;
        if let Some(disk) = &self.disk {
            disk.keep(key, bytes.clone());
        }
        Ok(bytes)
    }

    /// The blocks, in their order.
    async fn blocks(&self, keys: &[Key]) -> Result<Vec<Bytes>> {
        let mut found: Vec<Option<Bytes>> = {
            let mut memory = self.memory();
            keys.iter().map(|key| memory.get(key).cloned()).collect()
        };
        let missing = |found: &[Option<Bytes>]| -> Vec<usize> {
            (0..found.len()).filter(|&place| found[place].is_none()).collect()
        };
        let places = missing(&found);
        let on_disk = self.on_disk(places.iter().map(|&place| keys[place].clone()).collect()).await;
        for (&place, bytes) in places.iter().zip(on_disk) {
            if let Some(bytes) = bytes {
                self.remember(keys[place].clone(), bytes.clone());
                found[place] = Some(bytes);
            }
        }
        let places = missing(&found);
        let objects = places.chunk_by(|&left, &right| keys[left].name == keys[right].name);
        let fetched = try_join_all(objects.clone().map(|places| self.fetch(keys, places))).await?;
        for (&place, bytes) in objects.flatten().zip(fetched.into_iter().flatten()) {
            self.remember(keys[place].clone(), bytes.clone());
            if let Some(disk) = &self.disk {
                disk.keep(keys[place].clone(), bytes.clone());
            }
            found[place] = Some(bytes);
        }
        Ok(found.into_iter().map(|bytes| bytes.expect("what was missing has been fetched")).collect())
    }

    /// Fetches blocks of one object; blocks that follow each other share a request.
    async fn fetch(&self, keys: &[Key], places: &[usize]) -> Result<Vec<Bytes>> {
        let number = |place: usize| match keys[place].piece {
            Piece::Block(number) => number,
            Piece::Whole => unreachable!("whole objects are fetched elsewhere"),
        };
        let runs: Vec<&[usize]> = places.chunk_by(|&left, &right| number(left) + 1 == number(right)).collect();
        let range = |run: &&[usize]| number(run[0]) * BLOCK_BYTES..(number(run[run.len() - 1]) + 1) * BLOCK_BYTES;
        let ranges: Vec<Range<u64>> = runs.iter().map(range).collect();
        let fetched = self.inner.get_clipped(&keys[places[0]].name, &ranges).await?;
        let mut blocks = Vec::with_capacity(places.len());
        for (run, bytes) in runs.iter().zip(fetched) {
            for index in 0..run.len() {
                let bound = |block: usize| (block * BLOCK_BYTES as usize).min(bytes.len());
                // Copied, so that a block in memory does not hold the whole answer.
                blocks.push(Bytes::copy_from_slice(&bytes[bound(index)..bound(index + 1)]));
            }
        }
        Ok(blocks)
    }

    async fn many(&self, wanted: &[(Name, Vec<Range<u64>>)]) -> Result<Vec<Vec<Bytes>>> {
        let mut keys: Vec<Key> = wanted
            .iter()
            .filter(|(name, _)| (self.is_fixed)(name))
            .flat_map(|(name, ranges)| ranges.iter().flat_map(blocks_of).map(|number| block_key(name, number)))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let others: Vec<(Name, Vec<Range<u64>>)> =
            wanted.iter().filter(|(name, _)| !(self.is_fixed)(name)).cloned().collect();
        let (blocks, others) = futures::try_join!(self.blocks(&keys), async {
            if others.is_empty() { Ok(Vec::new()) } else { self.inner.get_many(&others).await }
        })?;
        let mut others = others.into_iter();
        let block = |name: &Name, number: u64| {
            let place = keys.binary_search(&block_key(name, number)).expect("every block asked for was fetched");
            &blocks[place]
        };
        let mut answers = Vec::with_capacity(wanted.len());
        for (name, ranges) in wanted {
            if (self.is_fixed)(name) {
                let parts = ranges.iter().map(|range| cut(name, range, |number| block(name, number)));
                answers.push(parts.collect::<Result<Vec<_>>>()?);
            } else {
                answers.push(others.next().expect("the store answers every request"));
            }
        }
        Ok(answers)
    }
}

fn block_key(name: &Name, number: u64) -> Key {
    Key { name: name.clone(), piece: Piece::Block(number) }
}

/// The blocks that hold a range; also of an empty one, so that an object that is not there is found out.
fn blocks_of(range: &Range<u64>) -> Range<u64> {
    assert!(range.start <= range.end, "a range runs from {} back to {}", range.start, range.end);
    let first = range.start / BLOCK_BYTES;
    first..range.end.div_ceil(BLOCK_BYTES).max(first + 1)
}

/// A range out of the blocks that hold it.
fn cut<'a>(name: &Name, range: &Range<u64>, block: impl Fn(u64) -> &'a Bytes) -> Result<Bytes> {
    let mut out = BytesMut::new();
    for number in blocks_of(range) {
        let (bytes, start) = (block(number), number * BLOCK_BYTES);
        let length = bytes.len() as u64;
        let bound = |at: u64| at.saturating_sub(start).min(BLOCK_BYTES);
        let (from, to) = (bound(range.start), bound(range.end));
        if to > length {
            return Err(Error::Short { name: name.clone(), size_bytes: start + length, end: range.end });
        }
        if to - from == range.end - range.start {
            return Ok(bytes.slice(from as usize..to as usize));
        }
        out.extend_from_slice(&bytes[from as usize..to as usize]);
    }
    Ok(out.freeze())
}

impl fmt::Debug for Cached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Cached({:?})", self.inner)
    }
}

impl Store for Cached {
    fn get<'a>(&'a self, name: &'a Name, limit_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        if (self.is_fixed)(name) { self.whole(name, limit_bytes).boxed() } else { self.inner.get(name, limit_bytes) }
    }

    fn get_ranges<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>>> {
        if !(self.is_fixed)(name) {
            return self.inner.get_ranges(name, ranges);
        }
        async move {
            let mut answers = self.many(&[(name.clone(), ranges.to_vec())]).await?;
            Ok(answers.pop().expect("one object has one answer"))
        }
        .boxed()
    }

    fn get_many<'a>(&'a self, wanted: &'a [(Name, Vec<Range<u64>>)]) -> BoxFuture<'a, Result<Vec<Vec<Bytes>>>> {
        self.many(wanted).boxed()
    }

    fn put_create<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        self.inner.put_create(name, bytes)
    }

    fn put<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        async move {
            let answer = self.inner.put(name, bytes).await;
            if (self.is_fixed)(name) {
                self.forget(name);
            }
            answer
        }
        .boxed()
    }

    fn list_after<'a>(
        &'a self,
        folder: &'a Name,
        after: Option<&'a Name>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>>> {
        self.inner.list_after(folder, after, limit)
    }

    fn delete<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<()>> {
        async move {
            let answer = self.inner.delete(name).await;
            if (self.is_fixed)(name) {
                self.forget(name);
            }
            answer
        }
        .boxed()
    }
}
