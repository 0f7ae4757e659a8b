//! A folder of models: a mirror on a disk or a share.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::choose::FILES_MAX;
use crate::error::{Error, Result, at_most};
use crate::name::Repository;
use crate::record::{RECORD_FILE, Record};
use crate::source::{Listing, Remote, Sink, Source};

/// How deep folders of a model may lie in each other.
const DEPTH_MAX: usize = 8;
/// Bytes that are read at a time.
const BLOCK_BYTES: u64 = 1 << 20;

/// Models in `FOLDER/OWNER/NAME` or `FOLDER/NAME`, or a Hugging Face cache.
pub struct Mirror {
    folder: PathBuf,
}

impl Mirror {
    /// The models in a folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn find(&self, repository: &Repository) -> Result<(PathBuf, String)> {
        if let Some(cached) = Cache::new(&self.folder).find(repository) {
            return Ok((cached.folder, cached.revision));
        }
        let places = [self.folder.join(&repository.id), self.folder.join(repository.short_name())];
        match places.into_iter().find(|place| place.is_dir()) {
            Some(place) => Ok((place, "local".to_owned())),
            None => {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(Error::File { step: "find", path: self.folder.join(&repository.id), source })
            }
        }
    }
}

impl Source for Mirror {
    fn name(&self) -> String {
        self.folder.display().to_string()
    }

    fn list(&self, repository: &Repository) -> Result<Listing> {
        let (folder, revision) = self.find(repository)?;
        let mut files = Vec::new();
        walk(&folder, "", 1, &mut files)?;
        files.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        // What another Sampan pulled says what it is.
        if let Some(record) = Record::read(&folder)? {
            for file in &mut files {
                file.digest = record.digest_of(&file.path);
            }
        }
        Ok(Listing { repository: repository.clone(), revision, files })
    }

    fn read(&self, listing: &Listing, file: &Remote, range: Range<u64>, sink: &mut Sink<'_>) -> Result<()> {
        let path = self.find(&listing.repository)?.0.join(&file.path);
        let open = File::open(&path).map_err(Error::file("open", &path))?;
        let mut block = vec![0; BLOCK_BYTES.min(range.end.saturating_sub(range.start)) as usize];
        let mut at = range.start;
        while at < range.end {
            let count = (range.end - at).min(BLOCK_BYTES) as usize;
            open.read_exact_at(&mut block[..count], at).map_err(Error::file("read", &path))?;
            sink(&block[..count])?;
            at += count as u64;
        }
        Ok(())
    }
}

/// Ends because folders deeper than [`DEPTH_MAX`] are left out.
fn walk(folder: &Path, below: &str, depth: usize, found: &mut Vec<Remote>) -> Result<()> {
    for item in std::fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let item = item.map_err(Error::file("list", folder))?;
        let name = item.file_name();
        let Some(name) = name.to_str().filter(|name| *name != RECORD_FILE && *name != ".git") else { continue };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let metadata = std::fs::metadata(item.path()).map_err(Error::file("look at", &item.path()))?;
        if metadata.is_dir() && depth < DEPTH_MAX {
            walk(&item.path(), &path, depth + 1, found)?;
        } else if metadata.is_file() {
            found.push(Remote { path, size_bytes: metadata.len(), digest: None });
            at_most("files of a model", found.len() as u64, FILES_MAX)?;
        }
    }
    Ok(())
}
