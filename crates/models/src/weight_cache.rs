//! Packed weights, kept on disk: the next start maps them into memory and is done.
//!
//! Packing reads every byte of a model, writes it elsewhere, and has the system clear the pages for it first, which
//! takes longer than both. A file that holds the panels as they are computed with needs none of that. It costs the
//! disk as much again as the model, so the folder has a limit, and what was not used for longest goes first.
//!
//! A file is `<identity>.weights`, all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `SAMPANPW` |
//! | 8 | where the directory begins |
//! | 8 | bytes of the directory |
//! | 32 | BLAKE3 of the directory |
//! | to 4096 | zero |
//! | | the panels of each matrix ([`kernels::Matrix::packed`]), each at a multiple of 64 |
//! | | the directory, JSON: `{"matrix": [begin, bytes], …}` |
//!
//! A matrix is named by its tensor, the place of its numbers in the model's file, its shape, format and precision.
//!
//! The identity is the BLAKE3 of what decides about the panels: [`kernels::PACKED_VERSION`], the precision, which part
//! of the model it is, and of each of the model's files the size, the time of its last change and its inode. So a model
//! that is replaced is packed again. A file appears under its name when all of it is on the disk.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use kernels::{Format, Matrix, PACKED_VERSION, Precision, SharedBytes};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::weights::Weights;
use crate::{Checkpoint, FileBytes};

const MAGIC: &[u8; 8] = b"SAMPANPW";
/// Bytes before the first matrix.
const HEAD_BYTES: u64 = 4096;
/// What a matrix begins at a multiple of.
const ALIGNMENT: u64 = 64;
/// Bytes of a directory at most: some 400,000 matrices.
const DIRECTORY_BYTES_MAX: usize = 64 << 20;
/// What of a file is written at once; a file system that keeps files in large pages takes them from this.
const WRITE_BYTES: usize = 4 << 20;
/// A file that was not finished after this time never will be.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// A folder for packed weights.
#[derive(Debug, Clone)]
pub struct WeightCache {
    /// It is made when something is kept.
    pub folder: PathBuf,
    /// Bytes that all files in it may have together.
    pub limit_bytes: u64,
    /// Models that take less than this in memory are not kept: packing them takes no time.
    pub least_bytes: u64,
}

/// What is loaded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Decoder,
    /// Its experts are streamed.
    DecoderWithoutExperts,
    Predictor,
    Tower,
}

impl Part {
    const ALL: [Self; 4] = [Self::Decoder, Self::DecoderWithoutExperts, Self::Predictor, Self::Tower];

    /// What it takes at most: of a predictor or a tower, whose tensors nobody counts, what the model does.
    fn packed_bytes(self, checkpoint: &Checkpoint, precision: Precision) -> u64 {
        let experts = if self == Self::DecoderWithoutExperts { checkpoint.expert_bytes(precision) } else { 0 };
        checkpoint.packed_bytes(precision) - experts
    }
}

/// What one load has of the cache.
pub(crate) enum Session {
    Found(Found),
    New(Writer),
}

/// Panels that were packed before.
pub(crate) struct Found {
    bytes: SharedBytes,
    matrices: HashMap<String, Range<usize>>,
}

/// Writes panels as they are packed.
pub(crate) struct Writer {
    cache: WeightCache,
    target: PathBuf,
    temporary: PathBuf,
    outcome: io::Result<File>,
    end: u64,
    matrices: BTreeMap<String, (u64, u64)>,
}

/// A file that is on its way to the disk; dropping this waits for it.
#[derive(Debug, Default)]
pub(crate) struct Keeping(Option<JoinHandle<()>>);

impl WeightCache {
    /// What was kept of a part of a model, or a place to keep it; `None` if it is not to be kept.
    pub(crate) fn open(&self, checkpoint: &Checkpoint, precision: Precision, part: Part) -> Option<Session> {
        let target = self.place(checkpoint, precision, part)?;
        match found(&target) {
            Ok(found) => return Some(Session::Found(found)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => tracing::warn!(path = %target.display(), %why, "packed weights that cannot be used"),
        }
        let size = part.packed_bytes(checkpoint, precision);
        if size < self.least_bytes || size > self.limit_bytes {
            return None;
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let temporary = target.with_extension(format!("{process}-{count}.part"));
        let outcome = self.begin(&temporary);
        let cache = self.clone();
        Some(Session::New(Writer { cache, target, temporary, outcome, end: HEAD_BYTES, matrices: BTreeMap::new() }))
    }

    /// Removes what is kept of a model that goes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        for precision in [Precision::Exact, Precision::Fast] {
            let places = Part::ALL.into_iter().filter_map(|part| self.place(checkpoint, precision, part));
            for path in places {
                match std::fs::remove_file(path) {
                    Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// `None` if the model lies in no files.
    fn place(&self, checkpoint: &Checkpoint, precision: Precision, part: Part) -> Option<PathBuf> {
        let name = identity(&checkpoint.weights, precision, part)?;
        Some(self.folder.join(name).with_extension("weights"))
    }

    fn begin(&self, temporary: &Path) -> io::Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        let file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
        let now = file.metadata()?.modified()?;
        for (path, file) in self.files("part")? {
            if now.duration_since(file.modified()?).is_ok_and(|age| age > ABANDONED_AFTER) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(file)
    }

    fn files(&self, extension: &str) -> io::Result<Vec<(PathBuf, std::fs::Metadata)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == extension) {
                let metadata = std::fs::metadata(&path)?;
                files.push((path, metadata));
            }
        }
        Ok(files)
    }

    /// Removes what was not used for longest until there is room for so many bytes.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files = self.files("weights")?;
        files.sort_by_key(|(_, file)| std::cmp::Reverse(file.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
        let mut all: u64 = files.iter().map(|(_, file)| file.len()).sum();
        while all + bytes > self.limit_bytes {
            let Some((path, file)) = files.pop() else { break };
            std::fs::remove_file(path)?;
            all -= file.len();
        }
        Ok(())
    }
}

/// `None` if the model lies in no files.
fn identity(weights: &Weights, precision: Precision, part: Part) -> Option<String> {
    let files = weights.files();
    if files.is_empty() {
        return None;
    }
    let mut decides = format!("packed weights {PACKED_VERSION} {precision:?} {part:?}");
    for file in files {
        let (_, metadata) = file.place();
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        write!(decides, " {} {seconds}.{nanoseconds} {}", metadata.len(), metadata.ino()).expect("a string grows");
    }
    Some(blake3::hash(decides.as_bytes()).to_hex().as_str()[..32].to_owned())
}

/// The name of a matrix in the directory: `at` is where its numbers begin in the model's file.
pub(crate) fn matrix_name(
    name: &str,
    at: u64,
    [rows, columns]: [usize; 2],
    format: Format,
    precision: Precision,
) -> String {
    format!("{name} at {at}, {rows} x {columns}, {format:?}, {precision:?}")
}

fn corrupt(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn found(path: &Path) -> io::Result<Found> {
    let file = File::open(path)?;
    // When it was used decides how long it stays.
    let [omit, now] = [UTIME_OMIT, UTIME_NOW].map(|tv_nsec| Timespec { tv_sec: 0, tv_nsec });
    if let Err(why) = rustix::fs::futimens(&file, &Timestamps { last_access: omit, last_modification: now }) {
        tracing::debug!(path = %path.display(), %why, "packed weights of somebody else");
    }
    let bytes = FileBytes::map_eagerly(&file, path)?;
    let head = bytes.get(..56).filter(|head| head.starts_with(MAGIC)).ok_or_else(|| corrupt("it is something else"))?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i])) as usize;
    let (begin, length) = (number(8), number(16));
    let end = begin.checked_add(length).filter(|_| length <= DIRECTORY_BYTES_MAX);
    let directory = end.and_then(|end| bytes.get(begin..end)).ok_or_else(|| corrupt("it ends early"))?;
    if blake3::hash(directory).as_bytes() != &head[24..56] {
        return Err(corrupt("its directory is damaged"));
    }
    let directory: HashMap<String, (usize, usize)> = serde_json::from_slice(directory).map_err(io::Error::other)?;
    let matrices = directory.into_iter().map(|(name, (at, length))| (name, at..at.saturating_add(length))).collect();
    Ok(Found { bytes: Arc::new(bytes), matrices })
}

impl Found {
    /// A matrix, if it was kept.
    pub(crate) fn matrix(
        &self,
        name: &str,
        [rows, columns]: [usize; 2],
        format: Format,
        precision: Precision,
    ) -> Option<Matrix> {
        let range = self.matrices.get(name)?.clone();
        match Matrix::from_packed(format, rows, columns, precision, Arc::clone(&self.bytes), range) {
            Ok(matrix) => Some(matrix),
            Err(why) => {
                tracing::warn!(matrix = name, %why, "a packed matrix that cannot be used");
                None
            }
        }
    }
}

impl Writer {
    /// Keeps a matrix. What the disk says is told at the end.
    pub(crate) fn keep(&mut self, name: String, panels: &[u8]) {
        let Ok(file) = &self.outcome else { return };
        let begin = self.end.next_multiple_of(ALIGNMENT);
        let mut at = begin;
        for part in panels.chunks(WRITE_BYTES) {
            if let Err(why) = file.write_all_at(part, at) {
                self.outcome = Err(why);
                return;
            }
            at += part.len() as u64;
        }
        self.matrices.insert(name, (begin, panels.len() as u64));
        self.end = at;
    }

    /// Has the file appear, when it is on the disk.
    pub(crate) fn finish(mut self) -> Keeping {
        let keep = move || {
            if let Err(why) = self.complete() {
                tracing::warn!(path = %self.target.display(), %why, "packed weights are not kept");
            }
        };
        match std::thread::Builder::new().name("packed-weights".to_owned()).spawn(keep) {
            Ok(thread) => Keeping(Some(thread)),
            Err(why) => {
                tracing::warn!(%why, "packed weights are not kept");
                Keeping(None)
            }
        }
    }

    fn complete(&mut self) -> io::Result<()> {
        let file = std::mem::replace(&mut self.outcome, Err(io::ErrorKind::Other.into()))?;
        let directory = serde_json::to_vec(&self.matrices)?;
        if directory.len() > DIRECTORY_BYTES_MAX {
            return Err(io::Error::other("it has too many matrices"));
        }
        let mut head = Vec::with_capacity(56);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&self.end.to_le_bytes());
        head.extend_from_slice(&(directory.len() as u64).to_le_bytes());
        head.extend_from_slice(blake3::hash(&directory).as_bytes());
        file.write_all_at(&directory, self.end)?;
        file.write_all_at(&head, 0)?;
        self.cache.make_room(self.end + directory.len() as u64)?;
        file.sync_all()?;
        std::fs::rename(&self.temporary, &self.target)?;
        File::open(&self.cache.folder)?.sync_all()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Of a load that failed, half a file; of one that was kept, nothing. What stays goes as abandoned.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // If it panicked, that was told.
            let _ = thread.join();
        }
    }
}
