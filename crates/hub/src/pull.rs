//! Fetching a model: which files, in which pieces, on how many threads, and what happens when it goes wrong.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cache::Cache;
use crate::carry::Planes;
use crate::choose::choose;
use crate::depot::{Depot, Stays};
use crate::digest::{Digest, hash_file, hex};
use crate::error::{Error, Result};
use crate::name::{Wanted, is_plain};
use crate::partial::Partial;
use crate::record::{FORMAT, Record, RecordedFile};
use crate::source::{Listing, Remote, Source};

/// The most threads that fetch.
const JOBS_MAX: usize = 64;
/// How often a file is fetched whole before its digest is given up on.
const FETCHES_MAX: u32 = 3;
/// The longest wait between two tries, also if the hub asks for a longer one.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How soon a wait notices that another thread has failed.
const NOTICE: Duration = Duration::from_millis(50);

/// How a model is fetched.
#[derive(Clone)]
pub struct Options {
    /// Its name here; `None`: the last part of its name there, or the name of the GGUF file.
    pub name: Option<String>,
    /// Only files whose names are like one of these; `*` stands for anything.
    pub include: Vec<String>,
    /// Threads that fetch, at most 64.
    pub jobs: NonZeroUsize,
    /// Bytes of a piece; not 0.
    pub piece_bytes: u64,
    /// How many tries in a row may fail without a byte.
    pub retries: u32,
    /// How long the first wait between two tries is; each further one is twice as long.
    pub wait: Duration,
    /// Files that another tool has fetched already.
    pub cache: Option<Cache>,
    /// Has what is missing sent to these addresses, by a place that knows the mover.
    pub planes: Option<Planes>,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
    /// Once it is set, the pull ends with [`Error::Stopped`] at its next byte. What was fetched stays.
    pub stop: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            include: Vec::new(),
            jobs: NonZeroUsize::new(8).expect("8 is not 0"),
            // Eight of them in flight lose little when they are cut, and a request for each costs nothing.
            piece_bytes: 64 << 20,
            retries: 8,
            wait: Duration::from_millis(500),
            cache: None,
            planes: None,
            now_ms: 0,
            stop: Arc::default(),
        }
    }
}

/// What happens while a model is fetched; told from several threads.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The model was found.
    Listed {
        /// Its name here.
        name: &'a str,
        /// Which commit or branch.
        revision: &'a str,
        /// Files that are chosen.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// So many bytes more are there, or fewer.
    Moved(i64),
    /// A connection failed and is tried again.
    Retry {
        /// Which file.
        path: &'a str,
        /// What happened.
        why: &'a Error,
    },
    /// A file is not what the hub says, and is fetched again.
    Corrupt {
        /// Which file.
        path: &'a str,
        /// What it is.
        why: &'a Error,
    },
    /// A file is whole and checked.
    Whole {
        /// Which file.
        path: &'a str,
        /// How long it is.
        bytes: u64,
        /// Where its bytes came from.
        origin: Origin,
    },
}

/// Where the bytes of a file came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// They were fetched.
    Fetched,
    /// They were here.
    Here,
    /// Another tool's cache had them.
    Cache,
}

/// A model that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its name here.
    pub name: String,
    /// Where it lies: a folder or a GGUF file.
    pub path: PathBuf,
    /// What it consists of.
    pub record: Record,
    /// Bytes that were fetched.
    pub fetched_bytes: u64,
}

/// Fetches a model, or what of it is missing, and lets it appear when it is whole.
///
/// # Errors
/// If it cannot be listed, chosen, fetched or checked, there is no room, its name is taken, or somebody else is pulling
/// into the same folder. What was fetched stays for the next try.
///
/// # Panics
/// If `piece_bytes` is 0.
pub fn pull(
    depot: &Depot,
    source: &dyn Source,
    wanted: &Wanted,
    options: &Options,
    tell: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Pulled> {
    assert!(options.piece_bytes > 0, "pieces have bytes");
    let listing = source.list(&wanted.repository)?;
    let chosen = choose(&listing, wanted, &options.include)?;
    let name = name_of(options, wanted, chosen.main.as_deref())?;
    let bytes = chosen.files.iter().map(|file| file.size_bytes).sum();
    tell(Event::Listed { name: &name, revision: &listing.revision, files: chosen.files.len(), bytes });
    let _lock = depot.lock()?;
    let before = taken(depot, &name, &listing.repository.id)?;

    let run = Run { depot, source, listing: &listing, options, tell, stop: AtomicBool::new(false) };
    let mut known = Vec::with_capacity(chosen.files.len());
    for file in &chosen.files {
        known.push(run.known(file)?);
    }
    let (fetches, number_of) = fetches(&chosen.files, &known);
    run.check_room(&fetches)?;
    if let Some(planes) = &options.planes {
        run.carry(planes, &fetches)?;
    }
    run.fetch_all(&fetches)?;
    let fetched_bytes = fetches.iter().map(|fetch| fetch.remote.size_bytes).sum();
    let fetched: Vec<String> = fetches.into_iter().map(Fetch::into_hash).collect();
    let hash_of = |(known, number): (Option<String>, usize)| known.unwrap_or_else(|| fetched[number].clone());
    let hashes = known.into_iter().zip(number_of).map(hash_of);
    let record = Record {
        format: FORMAT,
        source: source.name(),
        repository: listing.repository.id.clone(),
        revision: listing.revision.clone(),
        pulled_ms: options.now_ms,
        main: chosen.main,
        files: chosen.files.iter().zip(hashes).map(|(file, blake3)| recorded(file, blake3)).collect(),
    };
    let folder = depot.folder().join(&name);
    let path = record.main.as_ref().map_or_else(|| folder.clone(), |main| folder.join(main));
    // Nothing was fetched, and the folder is what it would be: it is left alone.
    let is_same = before.is_some_and(|before| before.files == record.files) && is_whole(depot, &name, &record);
    if !is_same {
        depot.publish(&name, &record)?;
    }
    Ok(Pulled { name, path, record, fetched_bytes })
}

fn recorded(file: &Remote, blake3: String) -> RecordedFile {
    let digest = file.digest.map(|digest| digest.text());
    RecordedFile { path: file.path.clone(), size_bytes: file.size_bytes, blake3, digest }
}

/// Whether every file of the folder is the blob that the record names.
fn is_whole(depot: &Depot, name: &str, record: &Record) -> bool {
    record.files.iter().all(|file| {
        let inode = |path: PathBuf| std::fs::metadata(path).map(|metadata| metadata.ino()).ok();
        let here = inode(depot.folder().join(name).join(&file.path));
        here.is_some() && here == inode(depot.blob(&file.blake3))
    })
}

fn name_of(options: &Options, wanted: &Wanted, main: Option<&str>) -> Result<String> {
    let stem = main.map(|main| main.rsplit('/').next().unwrap_or(main).trim_end_matches(".gguf"));
    let name = options.name.as_deref().or(stem).unwrap_or_else(|| wanted.repository.short_name());
    if !is_plain(name) {
        let why = "letters, digits and ._- are allowed here, a letter or a digit first";
        return Err(Error::Name { name: name.to_owned(), why });
    }
    Ok(name.to_owned())
}

/// The record that this pull replaces. A name that something else has is refused.
fn taken(depot: &Depot, name: &str, repository: &str) -> Result<Option<Record>> {
    let refuse = |path| Err(Error::Taken { path, repository: repository.to_owned() });
    let file = depot.folder().join(format!("{name}.gguf"));
    if file.exists() {
        return refuse(file);
    }
    let folder = depot.folder().join(name);
    match Record::read(&folder)? {
        Some(record) if record.repository == repository => Ok(Some(record)),
        None if folder.symlink_metadata().is_err() => Ok(None),
        Some(_) | None => refuse(folder),
    }
}

/// A file that has to be fetched.
pub(crate) struct Fetch<'a> {
    pub(crate) remote: &'a Remote,
    /// Open from the first piece to the last.
    partial: Mutex<Option<Arc<Partial>>>,
    /// Pieces that are not there.
    left: AtomicUsize,
    /// Set once it is in the store.
    pub(crate) hash: Mutex<Option<String>>,
}

/// The files that are not known, those of one digest once, and for each file which fetch is its.
fn fetches<'a>(files: &'a [Remote], known: &[Option<String>]) -> (Vec<Fetch<'a>>, Vec<usize>) {
    let mut fetches: Vec<Fetch<'a>> = Vec::new();
    let mut first: HashMap<Digest, usize> = HashMap::new();
    let mut numbers = Vec::with_capacity(files.len());
    for (file, known) in files.iter().zip(known) {
        let same = file.digest.and_then(|digest| first.get(&digest).copied());
        let number = same.unwrap_or(fetches.len());
        numbers.push(number);
        if known.is_some() || same.is_some() {
            continue;
        }
        if let Some(digest) = file.digest {
            first.insert(digest, number);
        }
        fetches.push(Fetch::new(file));
    }
    (fetches, numbers)
}

impl<'a> Fetch<'a> {
    fn new(remote: &'a Remote) -> Self {
        Self { remote, partial: Mutex::default(), left: AtomicUsize::new(0), hash: Mutex::default() }
    }

    fn into_hash(self) -> String {
        let hash = self.hash.into_inner().unwrap_or_else(PoisonError::into_inner);
        hash.expect("a file that was fetched has its hash")
    }
}

/// What the threads of one pull share.
pub(crate) struct Run<'a> {
    pub(crate) depot: &'a Depot,
    pub(crate) source: &'a dyn Source,
    pub(crate) listing: &'a Listing,
    pub(crate) options: &'a Options,
    pub(crate) tell: &'a (dyn Fn(Event<'_>) + Sync),
    stop: AtomicBool,
}

impl Run<'_> {
    /// The hash of a file that is here, or that another tool has.
    fn known(&self, file: &Remote) -> Result<Option<String>> {
        let Some(digest) = &file.digest else { return Ok(None) };
        let whole = |origin| {
            (self.tell)(Event::Moved(file.size_bytes as i64));
            (self.tell)(Event::Whole { path: &file.path, bytes: file.size_bytes, origin });
        };
        if let Some(blake3) = self.depot.known(digest, file.size_bytes) {
            whole(Origin::Here);
            return Ok(Some(blake3));
        }
        let cached = self.options.cache.as_ref().and_then(|cache| cache.blob(&self.listing.repository, digest));
        let Some(cached) = cached else { return Ok(None) };
        let hashed = hash_file(&cached, Some(*digest), &mut |_| ())?;
        if hashed.digest != Some(*digest) {
            tracing::warn!(path = %cached.display(), "a file of the cache is not what its name says, and is fetched");
            return Ok(None);
        }
        let kept = match self.depot.keep(&cached, &hashed.blake3, Some(digest), Stays::Yes) {
            // On another disk: a copy.
            Err(Error::File { step: "link", .. }) => self.copy(&cached, file, &hashed.blake3)?,
            kept => kept?,
        };
        whole(Origin::Cache);
        Ok(Some(kept))
    }

    fn copy(&self, from: &Path, file: &Remote, blake3: &[u8; 32]) -> Result<String> {
        let to = self.depot.place("partial")?.join(format!("{}-copy", hex(blake3)));
        std::fs::copy(from, &to).map_err(Error::file("copy", from))?;
        let copied = hash_file(&to, None, &mut |_| ())?;
        if copied.blake3 != *blake3 {
            let (found, expected) = (hex(&copied.blake3), hex(blake3));
            return Err(Error::Digest { file: file.path.clone(), kind: "blake3", found, expected });
        }
        let synced = std::fs::File::open(&to).and_then(|file| file.sync_all());
        synced.map_err(Error::file("write to the disk", &to))?;
        self.depot.keep(&to, blake3, file.digest.as_ref(), Stays::No)
    }

    /// Where a file grows. Files of one digest are the same file.
    fn partial_path(&self, file: &Remote) -> Result<PathBuf> {
        let key = match &file.digest {
            Some(digest) => digest.text(),
            None => {
                let (source, id) = (self.source.name(), &self.listing.repository.id);
                format!("{source}\0{id}\0{}\0{}\0{}", self.listing.revision, file.path, file.size_bytes)
            }
        };
        Ok(self.depot.place("partial")?.join(blake3::hash(key.as_bytes()).to_hex().as_str()))
    }

    fn check_room(&self, fetches: &[Fetch<'_>]) -> Result<()> {
        let mut needed = 0_u64;
        for fetch in fetches {
            let allocated = std::fs::metadata(self.partial_path(fetch.remote)?).map_or(0, |file| file.blocks() * 512);
            needed = needed.saturating_add(fetch.remote.size_bytes.saturating_sub(allocated));
        }
        let free = self.depot.free_bytes()?;
        if needed > free {
            return Err(Error::Space { folder: self.depot.folder().to_owned(), needed, free });
        }
        Ok(())
    }

    /// Fetches all files on several threads; the first error ends them all.
    fn fetch_all(&self, fetches: &[Fetch<'_>]) -> Result<()> {
        let mut pieces = Vec::new();
        for fetch in fetches.iter().filter(|fetch| lock(&fetch.hash).is_none()) {
            let count = fetch.remote.size_bytes.div_ceil(self.options.piece_bytes).max(1) as usize;
            fetch.left.store(count, Ordering::Release);
            pieces.extend((0..count).map(|piece| (fetch, piece)));
        }
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            // Ends where the pieces end.
            while let Some(&(fetch, piece)) = pieces.get(next.fetch_add(1, Ordering::AcqRel)) {
                if let Err(error) = self.piece(fetch, piece) {
                    self.stop.store(true, Ordering::Release);
                    lock(&failed).get_or_insert(error);
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.options.jobs.get().min(JOBS_MAX).min(pieces.len()) {
                scope.spawn(work);
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Fetches a piece; whoever fetches the last one of a file checks it and takes it in.
    fn piece(&self, fetch: &Fetch<'_>, piece: usize) -> Result<()> {
        let partial = self.opened(fetch)?;
        self.rest_of(fetch.remote, &partial, piece)?;
        if fetch.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        let blake3 = self.checked(fetch.remote, &partial)?;
        let kept = self.depot.keep(partial.path(), &blake3, fetch.remote.digest.as_ref(), Stays::No)?;
        partial.forget_marks()?;
        *lock(&fetch.partial) = None;
        *lock(&fetch.hash) = Some(kept);
        let (path, bytes) = (&fetch.remote.path, fetch.remote.size_bytes);
        (self.tell)(Event::Whole { path, bytes, origin: Origin::Fetched });
        Ok(())
    }

    fn opened(&self, fetch: &Fetch<'_>) -> Result<Arc<Partial>> {
        let mut open = lock(&fetch.partial);
        if let Some(partial) = &*open {
            return Ok(Arc::clone(partial));
        }
        let path = self.partial_path(fetch.remote)?;
        let partial = Partial::open(path, fetch.remote.size_bytes, self.options.piece_bytes)?;
        if fetch.remote.digest.is_none() {
            // What cannot be checked in the end is not taken up again.
            partial.begin_anew()?;
        }
        (self.tell)(Event::Moved(partial.done_bytes() as i64));
        Ok(Arc::clone(open.insert(Arc::new(partial))))
    }

    /// Fetches what is missing of a piece, as often as it takes while bytes come.
    fn rest_of(&self, file: &Remote, partial: &Partial, piece: usize) -> Result<()> {
        let mut failures = 0;
        // Ends: without progress after `retries` failures, with progress when nothing is missing.
        loop {
            let missing = partial.missing(piece);
            if missing.is_empty() {
                return Ok(());
            }
            let mut sink = |bytes: &[u8]| {
                if self.is_stopped() {
                    return Err(Error::Stopped);
                }
                partial.write(piece, bytes)?;
                (self.tell)(Event::Moved(bytes.len() as i64));
                Ok(())
            };
            let Err(error) = self.source.read(self.listing, file, missing.clone(), &mut sink) else { continue };
            if partial.missing(piece).start > missing.start {
                failures = 0;
            }
            failures += 1;
            if !error.is_passing() || failures > self.options.retries {
                return Err(error);
            }
            (self.tell)(Event::Retry { path: &file.path, why: &error });
            self.wait(&error, failures)?;
        }
    }

    fn wait(&self, error: &Error, failures: u32) -> Result<()> {
        let asked = match error {
            Error::Status { retry_after_s: Some(seconds), .. } => Duration::from_secs(*seconds),
            _ => Duration::ZERO,
        };
        let mut left = self.options.wait.saturating_mul(1 << (failures - 1).min(16)).max(asked).min(WAIT_MAX);
        while !left.is_zero() {
            if self.is_stopped() {
                return Err(Error::Stopped);
            }
            let slice = left.min(NOTICE);
            std::thread::sleep(slice);
            left -= slice;
        }
        Ok(())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.options.stop.load(Ordering::Acquire)
    }

    /// The hash of a whole file that is what the hub says; fetched again if it is not.
    fn checked(&self, file: &Remote, partial: &Partial) -> Result<[u8; 32]> {
        let mut fetches = 1;
        // Ends after FETCHES_MAX fetches.
        loop {
            partial.complete()?;
            let hashed = hash_file(partial.path(), file.digest, &mut |_| ())?;
            if hashed.digest == file.digest {
                return Ok(hashed.blake3);
            }
            let text = |digest: Option<Digest>| digest.map(|digest| digest.hex()).unwrap_or_default();
            let kind = file.digest.map_or("", |digest| digest.kind());
            let (found, expected) = (text(hashed.digest), text(file.digest));
            let error = Error::Digest { file: file.path.clone(), kind, found, expected };
            partial.begin_anew()?;
            (self.tell)(Event::Moved(-(file.size_bytes as i64)));
            if fetches == FETCHES_MAX {
                return Err(error);
            }
            (self.tell)(Event::Corrupt { path: &file.path, why: &error });
            for piece in 0..partial.pieces() {
                self.rest_of(file, partial, piece)?;
            }
            fetches += 1;
        }
    }
}

/// A panic elsewhere does not spoil what is behind these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
