//! The files of a transfer while they are not whole, and how they get under their names.
//!
//! `DIR/.sampan-net/<transfer>/` holds `manifest`, `journal` and `N.part`, file N of the manifest. It lies in the
//! folder that receives, so that a name is given by `rename`, at once or not at all.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, FileTimes, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::manifest::{Entry, Manifest, Place, STATE_FOLDER};
use crate::source::changed_ns;
use crate::wire::Hash;

/// The most files that a transfer keeps open.
const OPEN_MAX: usize = 128;
/// From so many files on, syncing the file system is cheaper than syncing each.
const SYNC_FILES_MAX: usize = 16;

pub(crate) struct Parts {
    /// The folder that receives.
    target: PathBuf,
    /// The folder of this transfer.
    own: PathBuf,
    manifest: Arc<Manifest>,
    open: Mutex<HashMap<u32, Arc<File>>>,
}

impl Parts {
    /// Makes the transfer's folder, or finds it.
    pub(crate) fn open(target: &Path, transfer: &Hash, manifest: Arc<Manifest>, encoded: &[u8]) -> Result<Self> {
        for entry in manifest.entries() {
            way_to(target, &entry.name, false)?;
        }
        let own = target.join(STATE_FOLDER).join(blake3::Hash::from_bytes(*transfer).to_hex().as_str());
        std::fs::create_dir_all(&own).map_err(Error::file("make", &own))?;
        let path = own.join("manifest");
        if std::fs::read(&path).ok().as_deref() != Some(encoded) {
            let mut file = File::create(&path).map_err(Error::file("make", &path))?;
            file.write_all(encoded).and_then(|()| file.sync_all()).map_err(Error::file("write", &path))?;
        }
        sync_folder(&own)?;
        Ok(Self { target: target.to_path_buf(), own, manifest, open: Mutex::default() })
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.own.join("journal")
    }

    pub(crate) fn write(&self, place: Place, bytes: &[u8]) -> Result<()> {
        let file = self.part(place.file)?;
        file.write_all_at(bytes, place.offset).map_err(Error::file("write", &self.part_path(place.file)))
    }

    /// Whether a chunk has this hash.
    pub(crate) fn holds(&self, place: Place, hash: &Hash) -> Result<bool> {
        let mut bytes = vec![0; place.length as usize];
        match self.part(place.file)?.read_exact_at(&mut bytes, place.offset) {
            Ok(()) => Ok(blake3::hash(&bytes) == blake3::Hash::from_bytes(*hash)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Error::file("read", &self.part_path(place.file))(error)),
        }
    }

    /// Puts what was written to these files on the disk.
    pub(crate) fn sync(&self, files: &BTreeSet<u32>) -> Result<()> {
        if files.len() > SYNC_FILES_MAX {
            let folder = File::open(&self.own).map_err(Error::file("open", &self.own))?;
            return rustix::fs::syncfs(&folder).map_err(|errno| Error::file("sync", &self.own)(errno.into()));
        }
        for &file in files {
            self.part(file)?.sync_data().map_err(Error::file("sync", &self.part_path(file)))?;
        }
        Ok(())
    }

    /// Whether a file of this size and age stands under its name already.
    pub(crate) fn is_there(&self, entry: &Entry) -> bool {
        let Ok(metadata) = std::fs::symlink_metadata(self.target.join(&entry.name)) else { return false };
        metadata.is_file() && metadata.len() == entry.size && changed_ns(&metadata) == entry.changed_ns
    }

    /// Gives every file its name, and forgets the transfer.
    pub(crate) fn place_all(&self) -> Result<()> {
        let mut folders = BTreeSet::new();
        for (file, entry) in self.manifest.entries().iter().enumerate() {
            if self.is_there(entry) {
                continue;
            }
            let to = way_to(&self.target, &entry.name, true)?;
            let part = self.part_path(file as u32);
            let open = self.part(file as u32)?;
            open.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_nanos(entry.changed_ns)))
                .and_then(|()| open.sync_all())
                .map_err(Error::file("sync", &part))?;
            self.lock().remove(&(file as u32));
            std::fs::rename(&part, &to).map_err(Error::file("name", &to))?;
            // The folders above may be new as well.
            folders.extend(
                to.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.target)).map(Path::to_path_buf),
            );
        }
        for folder in &folders {
            sync_folder(folder)?;
        }
        std::fs::remove_dir_all(&self.own).map_err(Error::file("remove", &self.own))
    }

    fn part_path(&self, file: u32) -> PathBuf {
        self.own.join(format!("{file}.part"))
    }

    fn part(&self, file: u32) -> Result<Arc<File>> {
        let mut open = self.lock();
        if let Some(part) = open.get(&file) {
            return Ok(Arc::clone(part));
        }
        let path = self.part_path(file);
        let entry = &self.manifest.entries()[file as usize];
        let mode = if entry.executable { 0o777 } else { 0o666 };
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(mode).open(&path);
        let part = Arc::new(opened.map_err(Error::file("make", &path))?);
        part.set_len(entry.size).map_err(Error::file("make room in", &path))?;
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        open.insert(file, Arc::clone(&part));
        Ok(part)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of a name inside a folder, refused if a link or a file stands in the way. Makes folders if `make` is set.
fn way_to(target: &Path, name: &str, make: bool) -> Result<PathBuf> {
    let refuse = |why| Error::Name { name: name.to_owned(), why };
    let mut path = target.to_path_buf();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let is_last = parts.peek().is_none();
        match std::fs::symlink_metadata(&path) {
            Ok(found) if is_last && found.is_dir() => return Err(refuse("a folder stands there")),
            Ok(found) if !is_last && found.is_symlink() => return Err(refuse("a link stands in its way")),
            Ok(found) if !is_last && !found.is_dir() => return Err(refuse("a file stands in its way")),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if make && !is_last {
                    std::fs::create_dir(&path).map_err(Error::file("make", &path))?;
                }
            }
            Err(error) => return Err(Error::file("look at", &path)(error)),
        }
    }
    Ok(path)
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(Error::file("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::way_to;

    #[test]
    fn nothing_is_written_through_a_link_or_over_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path();
        std::fs::create_dir(target.join("there")).unwrap();
        std::fs::write(target.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/tmp", target.join("link")).unwrap();
        for name in ["link/x", "there", "file/x"] {
            assert!(way_to(target, name, true).is_err_and(|error| error.to_string().contains(name)), "{name}");
        }
        assert_eq!(way_to(target, "there/new/x", true).unwrap(), target.join("there/new/x"));
        assert!(target.join("there/new").is_dir());
        assert!(way_to(target, "link", false).is_ok(), "the link itself may be replaced");
    }
}
