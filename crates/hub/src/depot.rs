//! The folder of models.
//!
//! ```text
//! NAME/PATH…                  a model: links to blobs, so a program reads it like any folder
//! NAME/.sampan.json           what it consists of, see `record`
//! .store/blobs/ab/abcd…       bytes, named by their BLAKE3 hash, never written again
//! .store/digests/sha256:…     the BLAKE3 hash of the bytes that a hub names so
//! .store/partial/KEY          what is not whole, see `partial`
//! .store/carried/KEY/PATH…    what the mover brings, see `carry`
//! .store/staging/NAME         a model that is about to appear
//! .store/lock                 held by the one who pulls or removes
//! ```
//! Links are hard ones: a model's folder can be copied, and lasts without its blobs. Whether a blob is still needed is
//! what the records say, not how many links there are: a blob may be linked from another tool's cache too.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::digest::{Digest, hash_file, hex};
use crate::error::{Error, Result};
use crate::name::is_plain;
use crate::record::{RECORD_FILE, Record};

const STORE: &str = ".store";
/// The longest file of `digests`: 64 digits and an end of line.
const POINTER_BYTES: usize = 64;

/// The models of this machine that were pulled.
#[derive(Debug, Clone)]
pub struct Depot {
    folder: PathBuf,
}

/// What a removal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Files that nobody needs any more.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A file of a model that is not what was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

/// Held while something is pulled or removed.
pub(crate) struct Lock {
    _file: File,
}

impl Depot {
    /// The models in a folder, which need not exist.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where the models lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every model that was pulled, with its record, by name.
    ///
    /// # Errors
    /// If the folder cannot be listed or a record cannot be read.
    pub fn models(&self) -> Result<Vec<(String, Record)>> {
        let listing = match std::fs::read_dir(&self.folder) {
            Ok(listing) => listing,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(why) => return Err(Error::file("list", &self.folder)(why)),
        };
        let mut found = Vec::new();
        for entry in listing {
            let entry = entry.map_err(Error::file("list", &self.folder))?;
            let Some(name) = entry.file_name().to_str().filter(|name| is_plain(name)).map(str::to_owned) else {
                continue;
            };
            if let Some(record) = Record::read(&entry.path())? {
                found.push((name, record));
            }
        }
        found.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(found)
    }

    /// The record of one model.
    ///
    /// # Errors
    /// [`Error::NotPulled`] if there is none, or why it cannot be read.
    pub fn record(&self, name: &str) -> Result<Record> {
        let missing = || Error::NotPulled { name: name.to_owned() };
        if !is_plain(name) {
            return Err(missing());
        }
        Record::read(&self.folder.join(name))?.ok_or_else(missing)
    }

    /// Takes a model away, and the files that no other model needs.
    ///
    /// # Errors
    /// If it was not pulled, somebody else is pulling, or the disk refuses.
    pub fn remove(&self, name: &str) -> Result<Removed> {
        let record = self.record(name)?;
        let _lock = self.lock()?;
        let gone = self.place("staging")?.join(format!("{name}.gone"));
        clear(&gone)?;
        let folder = self.folder.join(name);
        std::fs::rename(&folder, &gone).map_err(Error::file("move", &folder))?;
        sync_folder(&self.folder)?;
        clear(&gone)?;
        let needed = self.needed()?;
        let mut removed = Removed::default();
        let mut seen = HashSet::new();
        for file in record.files.iter().filter(|file| !needed.contains(&file.blake3) && seen.insert(&file.blake3)) {
            removed.bytes += self.remove_blob(&file.blake3, &mut removed.files)?;
            if let Some(digest) = &file.digest {
                // A pointer to nothing does no harm; it is looked at before it is believed.
                let _ = std::fs::remove_file(self.pointer(digest));
            }
        }
        Ok(removed)
    }

    /// Takes away what pulls left behind that never became whole.
    ///
    /// # Errors
    /// If somebody is pulling, or the disk refuses.
    pub fn remove_unfinished(&self) -> Result<Removed> {
        let mut removed = Removed::default();
        if !self.folder.join(STORE).is_dir() {
            return Ok(removed);
        }
        let _lock = self.lock()?;
        clear(&self.place("staging")?)?;
        clear(&self.place("carried")?)?;
        let partial = self.place("partial")?;
        for path in files_below(&partial)? {
            removed.bytes += remove_file(&path, &mut removed.files)?;
        }
        let needed = self.needed()?;
        for path in files_below(&self.place("blobs")?)? {
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !needed.contains(name)) {
                removed.bytes += remove_file(&path, &mut removed.files)?;
            }
        }
        Ok(removed)
    }

    /// Reads every file of a model and says which are not what was pulled. The blob of a file whose bytes changed is
    /// let go of, so that the next pull fetches it again.
    ///
    /// # Errors
    /// If the model was not pulled.
    pub fn verify(&self, name: &str, seen: &mut dyn FnMut(u64)) -> Result<Vec<Fault>> {
        let record = self.record(name)?;
        let mut faults = Vec::new();
        for file in &record.files {
            let path = self.folder.join(name).join(&file.path);
            let why = match hash_file(&path, None, seen) {
                Ok(hashed) if hex(&hashed.blake3) == file.blake3 => continue,
                Ok(hashed) => {
                    let found = hex(&hashed.blake3);
                    let _ = std::fs::remove_file(self.blob(&file.blake3));
                    format!("its bytes hash to {found}, pulled were {}", file.blake3)
                }
                Err(Error::File { source, .. }) => source.to_string(),
                Err(error) => error.to_string(),
            };
            faults.push(Fault { path: file.path.clone(), why });
        }
        Ok(faults)
    }

    /// Bytes that are free for more.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let found =
            rustix::fs::statvfs(&self.folder).map_err(|why| Error::file("look at", &self.folder)(why.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.folder.join(STORE).join("lock");
        make_folder(&self.folder.join(STORE))?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&path).map_err(Error::file("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(Error::Busy { folder: self.folder.clone() }),
            Err(why) => Err(Error::file("lock", &path)(why.into())),
        }
    }

    /// A folder of the store; made if need be.
    pub(crate) fn place(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(STORE).join(name);
        make_folder(&folder)?;
        Ok(folder)
    }

    pub(crate) fn blob(&self, blake3: &str) -> PathBuf {
        self.folder.join(STORE).join("blobs").join(&blake3[..2]).join(blake3)
    }

    fn pointer(&self, digest: &str) -> PathBuf {
        self.folder.join(STORE).join("digests").join(digest)
    }

    /// The BLAKE3 hash of bytes that are here.
    pub(crate) fn known(&self, digest: &Digest, size_bytes: u64) -> Option<String> {
        let blake3 = match digest {
            Digest::Blake3(bytes) => hex(bytes),
            Digest::Sha256(_) | Digest::GitBlob(_) => {
                let text = std::fs::read_to_string(self.pointer(&digest.text())).ok()?;
                let text = text.trim_end();
                let is_hash = text.len() == POINTER_BYTES && text.bytes().all(|digit| digit.is_ascii_hexdigit());
                is_hash.then(|| text.to_owned())?
            }
        };
        let metadata = std::fs::metadata(self.blob(&blake3)).ok()?;
        (metadata.len() == size_bytes).then_some(blake3)
    }

    /// Takes a whole, checked and durable file in: by moving it, or by a link where it must stay.
    pub(crate) fn keep(&self, path: &Path, blake3: &[u8; 32], digest: Option<&Digest>, stays: Stays) -> Result<String> {
        let name = hex(blake3);
        let blob = self.blob(&name);
        let folder = blob.parent().expect("a blob lies in a folder");
        make_folder(folder)?;
        match stays {
            Stays::No => {
                let read_only = std::fs::set_permissions(path, Permissions::from_mode(0o444));
                read_only.map_err(Error::file("protect", path))?;
                std::fs::rename(path, &blob).map_err(Error::file("move", path))?;
            }
            Stays::Yes => match std::fs::hard_link(path, &blob) {
                Ok(()) => {}
                Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(Error::file("link", path)(why)),
            },
        }
        sync_folder(folder)?;
        if let Some(digest) = digest.filter(|digest| !matches!(digest, Digest::Blake3(_))) {
            let pointer = self.place("digests")?.join(digest.text());
            std::fs::write(&pointer, &name).map_err(Error::file("write", &pointer))?;
        }
        Ok(name)
    }

    /// Lets a model appear under its name, all at once; what was there under it goes.
    pub(crate) fn publish(&self, name: &str, record: &Record) -> Result<()> {
        let staging = self.place("staging")?.join(name);
        clear(&staging)?;
        make_folder(&staging)?;
        for file in &record.files {
            let (path, blob) = (staging.join(&file.path), self.blob(&file.blake3));
            make_folder(path.parent().expect("a file lies in a folder"))?;
            std::fs::hard_link(&blob, &path).map_err(Error::file("link", &path))?;
        }
        let path = staging.join(RECORD_FILE);
        let text = serde_json::to_vec_pretty(record).expect("a record is JSON");
        let mut file = File::create(&path).map_err(Error::file("make", &path))?;
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        written.map_err(Error::file("write", &path))?;
        sync_folder(&staging)?;
        let target = self.folder.join(name);
        if target.exists() {
            exchange(&staging, &target)?;
        } else {
            std::fs::rename(&staging, &target).map_err(Error::file("move", &staging))?;
        }
        sync_folder(&self.folder)?;
        clear(&staging)
    }

    fn needed(&self) -> Result<HashSet<String>> {
        let files = self.models()?.into_iter().flat_map(|(_, record)| record.files);
        Ok(files.map(|file| file.blake3).collect())
    }

    fn remove_blob(&self, blake3: &str, files: &mut u64) -> Result<u64> {
        let path = self.blob(blake3);
        if path.exists() { remove_file(&path, files) } else { Ok(0) }
    }
}

/// Whether a file that is taken in stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stays {
    Yes,
    No,
}

fn exchange(staging: &Path, target: &Path) -> Result<()> {
    match renameat_with(CWD, staging, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Some file systems cannot; then the name is free for a moment.
        Err(Errno::INVAL | Errno::NOSYS) => {
            let old = staging.with_extension("old");
            clear(&old)?;
            std::fs::rename(target, &old).map_err(Error::file("move", target))?;
            std::fs::rename(staging, target).map_err(Error::file("move", staging))?;
            clear(&old)
        }
        Err(why) => Err(Error::file("move", staging)(why.into())),
    }
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::file("make", folder))
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::file("write to the disk", folder))
}

/// Removes a folder with everything in it, if it is there.
pub(crate) fn clear(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", folder)(why)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove_file(path: &Path, files: &mut u64) -> Result<u64> {
    let bytes = std::fs::metadata(path).map_err(Error::file("look at", path))?.len();
    std::fs::remove_file(path).map_err(Error::file("remove", path))?;
    *files += 1;
    Ok(bytes)
}

/// Files in a folder and in the folders right below it.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let listing = std::fs::read_dir(folder).map_err(Error::file("list", folder))?;
        listing.map(|entry| entry.map(|entry| entry.path()).map_err(Error::file("list", folder))).collect()
    };
    let mut found = Vec::new();
    for path in list(folder)? {
        if path.is_dir() { found.extend(list(&path)?) } else { found.push(path) }
    }
    Ok(found)
}
