//! Pieces of objects as files of a local folder: no promise, any of them may be lost.
//!
//! ```text
//! <folder>/lock                 held while a process uses the folder
//! <folder>/<xx>/<hash>-<piece>  the piece's bytes, then 8 bytes: the name's checksum, and that of all before
//! ```
//! Nothing is fsync'd; a file that was torn or has decayed is found by its checksum, removed, and fetched again.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::lru::Lru;
use super::{Key, Piece};
use crate::{Error, Result};

/// Pieces that wait to be written; what comes while so many wait is not kept.
const WAITING_MAX: usize = 256;
/// Bytes behind each piece.
const TRAILER_BYTES: usize = 8;

/// The files, and the thread that writes them.
#[derive(Debug)]
pub(super) struct Disk {
    shared: Arc<Shared>,
    queue: Option<SyncSender<(Key, Bytes)>>,
    writer: Option<JoinHandle<()>>,
    /// Held, never read: as long as it lives, no other process takes the folder.
    _lock: File,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    files: Mutex<Lru<PathBuf, ()>>,
    /// What waits to be written and was not forgotten since.
    waiting: Mutex<BTreeSet<Key>>,
}

impl Disk {
    /// Opens the folder and finds what an earlier process left. Blocks on the file system.
    pub(super) fn open(folder: &Path, limit_bytes: u64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(io("create folder", folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let taken = std::io::Error::other("another process uses this cache; give each its own folder");
                return Err(io("lock", &path)(taken));
            }
            Err(TryLockError::Error(source)) => return Err(io("lock", &path)(source)),
        }
        let files = Mutex::new(Lru::new(limit_bytes));
        let shared = Arc::new(Shared { folder: folder.to_owned(), files, waiting: Mutex::default() });
        shared.find()?;
        let (queue, waiting) = sync_channel::<(Key, Bytes)>(WAITING_MAX);
        let own = Arc::clone(&shared);
        let work = move || {
            for (key, bytes) in waiting {
                own.write(&key, &bytes);
            }
        };
        let writer = std::thread::Builder::new().name("block-cache".to_owned()).spawn(work);
        let writer = writer.map_err(io("start the writer of", folder))?;
        Ok(Self { shared, queue: Some(queue), writer: Some(writer), _lock: lock })
    }

    /// A piece, if it is there and whole. Blocks on the file system.
    pub(super) fn read(&self, key: &Key) -> Option<Bytes> {
        self.shared.read(key)
    }

    /// Keeps a piece, some time later, if not too many wait.
    pub(super) fn keep(&self, key: Key, bytes: Bytes) {
        let Some(queue) = &self.queue else { return };
        self.shared.waiting().insert(key.clone());
        // Full: the disk is slower than the network, and the piece can be fetched again.
        if let Err(TrySendError::Full((key, _)) | TrySendError::Disconnected((key, _))) = queue.try_send((key, bytes)) {
            self.shared.waiting().remove(&key);
        }
    }

    /// Forgets all pieces of an object.
    pub(super) fn forget(&self, name: &crate::Name) {
        self.shared.forget(name);
    }

    /// Bytes that are kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.shared.files().weight()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been reported already, and nothing is lost with it.
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn files(&self) -> std::sync::MutexGuard<'_, Lru<PathBuf, ()>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeSet<Key>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the files of an earlier process over, oldest first.
    fn find(&self) -> Result<()> {
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.folder).map_err(io("list", &self.folder))? {
            let folder = folder.map_err(io("list", &self.folder))?.path();
            let Ok(files) = fs::read_dir(&folder) else { continue };
            for file in files.flatten() {
                let Ok(facts) = file.metadata() else { continue };
                found.push((facts.modified().ok(), file.path(), facts.len()));
            }
        }
        found.sort_unstable();
        let mut files = self.files();
        for (_, path, length) in found {
            for (gone, ()) in files.insert(path, (), length) {
                remove(&gone);
            }
        }
        Ok(())
    }

    fn path(&self, key: &Key) -> PathBuf {
        let piece = match key.piece {
            Piece::Whole => "whole".to_owned(),
            Piece::Block(number) => number.to_string(),
        };
        self.stem(&key.name).with_extension(piece)
    }

    /// What the paths of all pieces of an object begin with.
    fn stem(&self, name: &crate::Name) -> PathBuf {
        let hash = hash64(name.as_str().as_bytes());
        self.folder.join(format!("{:02x}", hash >> 56)).join(format!("{hash:016x}"))
    }

    fn read(&self, key: &Key) -> Option<Bytes> {
        let path = self.path(key);
        self.files().get(&path)?;
        let sound = fs::read(&path).ok().and_then(|bytes| unseal(bytes, key));
        if sound.is_none() {
            self.files().remove(&path);
            remove(&path);
        }
        sound
    }

    fn write(&self, key: &Key, bytes: &Bytes) {
        let path = self.path(key);
        let scratch = path.with_extension("new");
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let mut file = File::create(&scratch)?;
            file.write_all(bytes)?;
            file.write_all(&trailer(bytes, key))
        });
        // Held to the end, so that it is not forgotten between the two.
        let mut waiting = self.waiting();
        let is_wanted = waiting.remove(key);
        // Not written: a full disk, and then the cache is of no use and of no harm.
        if !is_wanted || written.and_then(|()| fs::rename(&scratch, &path)).is_err() {
            remove(&scratch);
            return;
        }
        for (gone, ()) in self.files().insert(path, (), (bytes.len() + TRAILER_BYTES) as u64) {
            remove(&gone);
        }
    }

    fn forget(&self, name: &crate::Name) {
        let stem = self.stem(name);
        self.waiting().retain(|key| key.name != *name);
        let mut files = self.files();
        for path in files.keys_from(&stem, |path| path.with_extension("") == stem) {
            files.remove(&path);
            remove(&path);
        }
    }
}

fn trailer(bytes: &[u8], key: &Key) -> [u8; TRAILER_BYTES] {
    let name = crc32fast::hash(key.name.as_str().as_bytes()).to_le_bytes();
    let mut sum = crc32fast::Hasher::new();
    sum.update(bytes);
    sum.update(&name);
    let mut out = [0; TRAILER_BYTES];
    out[..4].copy_from_slice(&name);
    out[4..].copy_from_slice(&sum.finalize().to_le_bytes());
    out
}

/// The bytes of a file less its trailer, if that fits.
fn unseal(bytes: Vec<u8>, key: &Key) -> Option<Bytes> {
    let length = bytes.len().checked_sub(TRAILER_BYTES)?;
    let fits = bytes[length..] == trailer(&bytes[..length], key);
    fits.then(|| Bytes::from(bytes).slice(..length))
}

/// FNV-1a.
fn hash64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn remove(path: &Path) {
    // Whatever cannot be removed is overwritten or found damaged later.
    let _ = fs::remove_file(path);
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let what = path.display().to_string();
    move |source| Error::Io { action, what, source }
}
