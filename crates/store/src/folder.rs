//! Objects as files of a local folder.
//!
//! ```text
//! <root>/objects/<name>       one file an object; the parts of a name are folders
//! <root>/tmp/<process>/<n>    objects being written; <process>/lock is held while the process lives
//! ```
//! A write costs: create, write, `fdatasync` of the temporary file, `link` (fails if the name is taken) or `rename`
//! (replaces), `fsync` of the folder that holds the name. Each new folder costs one more `fsync` of its parent, once.
//! A crash leaves temporary files, which the next process that opens the folder removes, and never half an object.
//!
//! A read takes at once what the system has in its cache, on the thread that asks. Only what has to come from the disk
//! is waited for where nobody else is kept from going on.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base::both;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kernels::Memory;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::memory::{check_range, check_size};
use crate::{Entry, Error, Name, OBJECT_BYTES_MAX, Result, Store};

/// An object up to this length is read where it is asked for; it takes less than 0.1 ms out of the system's cache.
const HERE_BYTES_MAX: u64 = 256 << 10;

/// A folder that takes no more than this has few names.
const FEW_BYTES: u64 = 4 << 10;

/// An object of this length is read into memory of its own, on huge pages: of the time to read one into small pages
/// that are new, most is page faults (measured, see docs/decisions/0021).
const HUGE_BYTES_MIN: u64 = 2 << 20;

/// An object that was opened for reading.
enum Opened {
    Read(Bytes),
    Long(File, u64),
}

/// Objects in a local folder, each write fsync'd before it answers. Several processes may open one folder.
///
/// The futures need a tokio runtime around them. The file system is called on its blocking threads; reads of what the
/// system has in its cache happen where they are asked for, if the runtime has several threads.
#[derive(Debug, Clone)]
pub struct Folder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    objects: PathBuf,
    scratch: PathBuf,
    /// Held, never read: as long as it lives, no other process takes `scratch` for a dead process's.
    _lock: File,
    next_scratch: AtomicU64,
    /// Folders that are known to exist durably.
    folders: Mutex<HashSet<PathBuf>>,
}

impl Folder {
    /// Opens or creates the folder and removes what dead processes left in it. Blocks on the file system.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made or written.
    pub fn open(root: &Path) -> Result<Self> {
        let objects = root.join("objects");
        let all_scratch = root.join("tmp");
        for folder in [root, &objects, &all_scratch] {
            fs::create_dir_all(folder).map_err(|source| io("create folder", folder, source))?;
        }
        sync_folder(root)?;
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        remove_what_the_dead_left(&all_scratch)?;
        let (scratch, lock) = own_scratch(&all_scratch)?;
        let folders = Mutex::new(HashSet::from([objects.clone()]));
        Ok(Self { inner: Arc::new(Inner { objects, scratch, _lock: lock, next_scratch: AtomicU64::new(0), folders }) })
    }

    /// Runs `work` on a blocking thread. The thread finishes its work also when the future is dropped.
    fn on_a_thread<'a, T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'a, Result<T>> {
        let inner = Arc::clone(&self.inner);
        async move {
            match tokio::task::spawn_blocking(move || work(&inner)).await {
                Ok(result) => result,
                Err(joined) => Err(Error::Io {
                    action: "run on a blocking thread",
                    what: "the folder store".to_owned(),
                    source: std::io::Error::other(joined),
                }),
            }
        }
        .boxed()
    }

    /// Runs `work` where it is called from, if that thread may block, and as [`Self::on_a_thread`] otherwise.
    ///
    /// For reads that are short and mostly find their bytes in the system's cache: waking another thread and waiting
    /// for it takes longer than they do. Where a query is computed is a blocking thread already, and costs nothing
    /// here; a thread that serves requests hands those on first.
    fn here<'a, T: Send + 'static>(
        &'a self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'a, Result<T>> {
        async move {
            if may_block() { tokio::task::block_in_place(|| work(&self.inner)) } else { self.on_a_thread(work).await }
        }
        .boxed()
    }
}

impl Store for Folder {
    fn get<'a>(&'a self, name: &'a Name, limit_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        async move {
            // Whoever follows a log or a chain asks for what is not there yet, and that again and again.
            if may_block() && self.inner.is_absent(name) {
                return Err(Error::NotFound { name: name.clone() });
            }
            let opened = {
                let name = name.clone();
                self.here(move |inner| {
                    let (file, size_bytes) = inner.open(&name)?;
                    check_size(&name, size_bytes, limit_bytes)?;
                    if size_bytes > HERE_BYTES_MAX {
                        return Ok(Opened::Long(file, size_bytes));
                    }
                    read_all(&name, file, size_bytes).map(Opened::Read)
                })
            };
            match opened.await? {
                Opened::Read(bytes) => Ok(bytes),
                Opened::Long(file, size_bytes) => {
                    let name = name.clone();
                    self.on_a_thread(move |_| read_all(&name, file, size_bytes)).await
                }
            }
        }
        .boxed()
    }

    fn get_ranges<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>>> {
        async move {
            if may_block() {
                if let Some(found) = self.inner.get_cached(name, ranges)? {
                    return Ok(found);
                }
                return tokio::task::block_in_place(|| self.inner.get_ranges(name, ranges));
            }
            let (name, ranges) = (name.clone(), ranges.to_vec());
            self.on_a_thread(move |inner| inner.get_ranges(&name, &ranges)).await
        }
        .boxed()
    }

    fn get_many<'a>(&'a self, wanted: &'a [(Name, Vec<Range<u64>>)]) -> BoxFuture<'a, Result<Vec<Vec<Bytes>>>> {
        async move {
            if may_block() {
                let cached = wanted.iter().map(|(name, ranges)| self.inner.get_cached(name, ranges));
                if let Some(found) = cached.collect::<Result<Option<Vec<_>>>>()? {
                    return Ok(found);
                }
                return tokio::task::block_in_place(|| self.inner.get_many(wanted));
            }
            let wanted = wanted.to_vec();
            self.on_a_thread(move |inner| inner.get_many(&wanted)).await
        }
        .boxed()
    }

    fn put_create<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        let name = name.clone();
        self.on_a_thread(move |inner| inner.write(&name, &bytes, false))
    }

    fn put<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        let name = name.clone();
        self.on_a_thread(move |inner| inner.write(&name, &bytes, true))
    }

    fn list_after<'a>(
        &'a self,
        folder: &'a Name,
        after: Option<&'a Name>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>>> {
        async move {
            if may_block() && self.inner.has_few(folder) {
                return self.inner.list_after(folder, after, limit);
            }
            let (folder, after) = (folder.clone(), after.cloned());
            self.here(move |inner| inner.list_after(&folder, after.as_ref(), limit)).await
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<()>> {
        let name = name.clone();
        self.on_a_thread(move |inner| inner.delete(&name))
    }
}

fn bytes_of(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum()
}

/// Whether the thread that asks may wait for the file system.
fn may_block() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
}

impl Inner {
    fn path(&self, name: &Name) -> PathBuf {
        self.objects.join(name.as_str())
    }

    fn open(&self, name: &Name) -> Result<(File, u64)> {
        let opened = File::open(self.path(name)).and_then(|file| {
            let facts = file.metadata()?;
            Ok((file, facts))
        });
        match opened {
            Ok((_, facts)) if !facts.is_file() => Err(Error::NotFound { name: name.clone() }),
            Ok((file, facts)) => Ok((file, facts.len())),
            Err(source) if is_absent(&source) => Err(Error::NotFound { name: name.clone() }),
            Err(source) => Err(io_name("open", name, source)),
        }
    }

    fn is_absent(&self, name: &Name) -> bool {
        fs::metadata(self.path(name)).is_err_and(|source| is_absent(&source))
    }

    /// Whether a folder is one that takes microseconds to list: it lies in one block of the file system.
    fn has_few(&self, folder: &Name) -> bool {
        fs::metadata(self.path(folder)).is_ok_and(|facts| facts.len() <= FEW_BYTES)
    }

    fn get_ranges(&self, name: &Name, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read_ranges(name, ranges, |file, part, start| file.read_exact_at(part, start))
    }

    /// The ranges, if they are short and all of them lie in the system's cache.
    fn get_cached(&self, name: &Name, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        if bytes_of(ranges) > HERE_BYTES_MAX {
            return Ok(None);
        }
        let mut is_cached = true;
        let found = self.read_ranges(name, ranges, |file, part, start| {
            is_cached = is_cached && read_cached(file, part, start);
            Ok(())
        })?;
        Ok(is_cached.then_some(found))
    }

    /// The ranges share one buffer, which lives as long as any of them.
    fn read_ranges(
        &self,
        name: &Name,
        ranges: &[Range<u64>],
        mut read: impl FnMut(&File, &mut [u8], u64) -> std::io::Result<()>,
    ) -> Result<Vec<Bytes>> {
        let (file, size_bytes) = self.open(name)?;
        for range in ranges {
            check_range(name, range, size_bytes)?;
        }
        let length = |range: &Range<u64>| (range.end - range.start) as usize;
        let mut all = vec![0; ranges.iter().map(length).sum()];
        let mut left = all.as_mut_slice();
        for range in ranges {
            let (part, behind) = left.split_at_mut(length(range));
            read(&file, part, range.start).map_err(|source| io_name("read", name, source))?;
            left = behind;
        }
        let mut all = Bytes::from(all);
        Ok(ranges.iter().map(|range| all.split_to(length(range))).collect())
    }

    fn get_many(&self, wanted: &[(Name, Vec<Range<u64>>)]) -> Result<Vec<Vec<Bytes>>> {
        wanted.iter().map(|(name, ranges)| self.get_ranges(name, ranges)).collect()
    }

    fn write(&self, name: &Name, bytes: &[u8], replace: bool) -> Result<()> {
        check_size(name, bytes.len() as u64, OBJECT_BYTES_MAX)?;
        let target = self.path(name);
        let folder = target.parent().expect("an object lies below the root");
        self.ensure_folder(folder)?;
        let scratch = self.scratch.join(self.next_scratch.fetch_add(1, Ordering::Relaxed).to_string());
        let placed = write_synced(&scratch, bytes).and_then(|()| place(&scratch, &target, replace));
        match placed {
            Ok(()) => sync_folder(folder),
            Err(source) => {
                // The temporary file is worth nothing now; if it cannot be removed, the next process does it.
                let _ = fs::remove_file(&scratch);
                if source.kind() == ErrorKind::AlreadyExists {
                    // Whoever made it may not have synced the folder yet; the caller is going to rely on it.
                    sync_folder(folder)?;
                    return Err(Error::Exists { name: name.clone() });
                }
                Err(io_name("write", name, source))
            }
        }
    }

    /// Makes the folder and its parents up to the root of the objects, each durable in its own parent.
    fn ensure_folder(&self, folder: &Path) -> Result<()> {
        if self.folders.lock().unwrap_or_else(PoisonError::into_inner).contains(folder) {
            return Ok(());
        }
        let parent = folder.parent().expect("the root of the objects is always known");
        self.ensure_folder(parent)?;
        match fs::create_dir(folder) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                return Err(io("create folder", folder, source));
            }
            Ok(()) | Err(_) => sync_folder(parent)?,
        }
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Ok(())
    }

    fn list_after(&self, folder: &Name, after: Option<&Name>, limit: usize) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut folders = vec![folder.clone()];
        while let Some(folder) = folders.pop() {
            let listing = match fs::read_dir(self.path(&folder)) {
                Ok(listing) => listing,
                Err(source) if is_absent(&source) => continue,
                Err(source) => return Err(io_name("list", &folder, source)),
            };
            for entry in listing {
                let entry = entry.map_err(|source| io_name("list", &folder, source))?;
                // A file whose name is no object name is not ours; it is left alone.
                let Some(name) = entry.file_name().to_str().and_then(|part| folder.join(part).ok()) else { continue };
                let kind = entry.file_type().map_err(|source| io_name("list", &name, source))?;
                if kind.is_dir() {
                    folders.push(name);
                } else if kind.is_file() && after.is_none_or(|after| name > *after) {
                    found.push(name);
                }
            }
        }
        found.sort_unstable();
        found.truncate(limit);
        found.into_iter().filter_map(|name| self.entry(name).transpose()).collect()
    }

    /// The entry of a name just listed; `None` if it was removed meanwhile.
    fn entry(&self, name: Name) -> Result<Option<Entry>> {
        match fs::metadata(self.path(&name)) {
            Ok(facts) => Ok(Some(Entry { name, size_bytes: facts.len() })),
            Err(source) if is_absent(&source) => Ok(None),
            Err(source) => Err(io_name("list", &name, source)),
        }
    }

    fn delete(&self, name: &Name) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(path.parent().expect("an object lies below the root")),
            Err(source) if is_absent(&source) => Ok(()),
            Err(source) => Err(io_name("delete", name, source)),
        }
    }
}

fn is_absent(source: &std::io::Error) -> bool {
    matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Fills `part` if the system has those bytes in its cache, and says whether. Some file systems always say no.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, part: &mut [u8], start: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let length = part.len();
    let mut parts = [std::io::IoSliceMut::new(part)];
    preadv2(file, &mut parts, start, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == length)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_file: &File, _part: &mut [u8], _start: u64) -> bool {
    false
}

fn read_all(name: &Name, mut file: File, size_bytes: u64) -> Result<Bytes> {
    let failed = |source| io_name("read", name, source);
    if size_bytes >= HUGE_BYTES_MIN {
        // An object does not change its length: who replaces it makes a new file.
        let mut bytes = Memory::zeroed(size_bytes as usize).map_err(|why| failed(std::io::Error::other(why)))?;
        let middle = bytes.len() / 2;
        let (left, right) = bytes.split_at_mut(middle);
        // Most of it is the system's clearing of new pages, which two threads share.
        let read = both(middle, || file.read_exact_at(left, 0), || file.read_exact_at(right, middle as u64));
        read.0.and(read.1).map_err(failed)?;
        return Ok(Bytes::from_owner(bytes));
    }
    let mut bytes = Vec::with_capacity(size_bytes as usize);
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Gives the finished file its name. `link` is the one portable call that fails when the name is taken; `rename`
/// replaces.
fn place(scratch: &Path, target: &Path, replace: bool) -> std::io::Result<()> {
    if replace {
        return fs::rename(scratch, target);
    }
    fs::hard_link(scratch, target)?;
    // The object stands under its name; a temporary name that stays is removed by the next process.
    let _ = fs::remove_file(scratch);
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|source| io("sync folder", folder, source))
}

/// Makes a folder for this process's temporary files and locks it.
fn own_scratch(all: &Path) -> Result<(PathBuf, File)> {
    // Ends because each round has a new number; a number is taken only if a process of the same id opened the folder.
    for number in 0_u64.. {
        let scratch = all.join(format!("{}-{number}", std::process::id()));
        match fs::create_dir(&scratch) {
            Ok(()) => {
                let lock = File::create(scratch.join("lock")).map_err(|source| io("create", &scratch, source))?;
                match lock.try_lock() {
                    Ok(()) => return Ok((scratch, lock)),
                    // Another process is just looking whether we live, and takes the folder for a dead one's.
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(source)) => return Err(io("lock", &scratch, source)),
                }
            }
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(io("create folder", &scratch, source)),
        }
    }
    unreachable!("there are 2^64 numbers")
}

fn remove_what_the_dead_left(all: &Path) -> Result<()> {
    let listing = fs::read_dir(all).map_err(|source| io("list", all, source))?;
    for entry in listing {
        let scratch = entry.map_err(|source| io("list", all, source))?.path();
        // Without a lock file: a process that is just starting, or one that died between two calls. Let it be.
        let Ok(lock) = File::open(scratch.join("lock")) else { continue };
        match lock.try_lock() {
            Ok(()) => fs::remove_dir_all(&scratch).map_err(|source| io("remove", &scratch, source))?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(io("lock", &scratch, source)),
        }
    }
    Ok(())
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { action, what: path.display().to_string(), source }
}

fn io_name(action: &'static str, name: &Name, source: std::io::Error) -> Error {
    Error::Io { action, what: name.to_string(), source }
}
