use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use crate::{Entry, Error, Name, OBJECT_BYTES_MAX, Result, Store};

/// Objects in memory. Durable as long as the value lives, which is what "the disk" means to a simulation: processes
/// come and go around one `Memory`.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<Name, Bytes>>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Name, Bytes>> {
        // A panic while the lock was held cannot leave the map half changed: each change is one call.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, name: &Name) -> Result<Bytes> {
        self.objects().get(name).cloned().ok_or_else(|| Error::NotFound { name: name.clone() })
    }

    fn write(&self, name: &Name, bytes: Bytes, replace: bool) -> Result<()> {
        check_size(name, bytes.len() as u64, OBJECT_BYTES_MAX)?;
        let mut objects = self.objects();
        if !replace && objects.contains_key(name) {
            return Err(Error::Exists { name: name.clone() });
        }
        objects.insert(name.clone(), bytes);
        Ok(())
    }
}

pub(crate) fn check_size(name: &Name, size_bytes: u64, limit_bytes: u64) -> Result<()> {
    if size_bytes > limit_bytes {
        return Err(Error::TooLarge { name: name.clone(), size_bytes, limit_bytes });
    }
    Ok(())
}

/// Checks a range against the length of its object.
pub(crate) fn check_range(name: &Name, range: &Range<u64>, size_bytes: u64) -> Result<()> {
    assert!(range.start <= range.end, "a range runs from {} back to {}", range.start, range.end);
    if range.end > size_bytes {
        return Err(Error::Short { name: name.clone(), size_bytes, end: range.end });
    }
    Ok(())
}

impl Store for Memory {
    fn get<'a>(&'a self, name: &'a Name, limit_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        let found = self.read(name).and_then(|bytes| {
            check_size(name, bytes.len() as u64, limit_bytes)?;
            Ok(bytes)
        });
        ready(found).boxed()
    }

    fn get_ranges<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>>> {
        let found = self.read(name).and_then(|bytes| {
            let mut parts = Vec::with_capacity(ranges.len());
            for range in ranges {
                check_range(name, range, bytes.len() as u64)?;
                parts.push(bytes.slice(range.start as usize..range.end as usize));
            }
            Ok(parts)
        });
        ready(found).boxed()
    }

    fn put_create<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        ready(self.write(name, bytes, false)).boxed()
    }

    fn put<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        ready(self.write(name, bytes, true)).boxed()
    }

    fn list_after<'a>(
        &'a self,
        folder: &'a Name,
        after: Option<&'a Name>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>>> {
        let start = after.filter(|&after| after > folder).unwrap_or(folder);
        let found = self
            .objects()
            .range((Bound::Excluded(start.clone()), Bound::Unbounded))
            .filter(|(name, _)| name.is_below(folder))
            .take(limit)
            .map(|(name, bytes)| Entry { name: name.clone(), size_bytes: bytes.len() as u64 })
            .collect();
        ready(Ok(found)).boxed()
    }

    fn delete<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<()>> {
        self.objects().remove(name);
        ready(Ok(())).boxed()
    }
}
