//! What is sent: a file, or a folder with all files below it.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::error::{Error, Result, at_most};
use crate::manifest::{Entry, FILES_MAX, Manifest, NAME_PARTS_MAX};

/// Files to send, with where they lie.
pub(crate) struct Source {
    /// In the order of the manifest.
    paths: Vec<PathBuf>,
}

/// Looks at a file or a folder. Links to files are followed, links to folders are refused; empty folders are left out.
pub(crate) fn survey(path: &Path, chunk_bytes: u32) -> Result<(Manifest, Source)> {
    // The name of `.` and `..` is that of the folder they mean.
    let real = path.canonicalize().map_err(Error::file("find", path))?;
    let name = utf8(real.file_name().unwrap_or_default().to_str(), path)?;
    let mut found = Vec::new();
    let metadata = std::fs::metadata(&real).map_err(Error::file("look at", path))?;
    if metadata.is_dir() {
        walk(&real, &name, 1, &mut found)?;
    } else {
        found.push((entry_of(&real, name, &metadata)?, real));
    }
    found.sort_unstable_by(|left, right| left.0.name.cmp(&right.0.name));
    let (entries, paths) = found.into_iter().unzip();
    Ok((Manifest::new(chunk_bytes, entries)?, Source { paths }))
}

/// Looks at some files below a folder; their names are those they have there.
pub(crate) fn survey_files(folder: &Path, names: &[String], chunk_bytes: u32) -> Result<(Manifest, Source)> {
    at_most("files", names.len() as u64, u64::from(FILES_MAX))?;
    let look = |name: &String| -> Result<(Entry, PathBuf)> {
        let path = folder.join(name);
        let metadata = std::fs::metadata(&path).map_err(Error::file("look at", &path))?;
        Ok((entry_of(&path, name.clone(), &metadata)?, path))
    };
    let mut found = names.iter().map(look).collect::<Result<Vec<_>>>()?;
    found.sort_unstable_by(|left, right| left.0.name.cmp(&right.0.name));
    let (entries, paths) = found.into_iter().unzip();
    // The manifest refuses names that lead out of a folder.
    Ok((Manifest::new(chunk_bytes, entries)?, Source { paths }))
}

/// Ends because folders deeper than [`NAME_PARTS_MAX`] are refused.
fn walk(folder: &Path, name: &str, depth: usize, found: &mut Vec<(Entry, PathBuf)>) -> Result<()> {
    at_most("folders in each other", depth as u64, NAME_PARTS_MAX as u64)?;
    for item in std::fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let item = item.map_err(Error::file("list", folder))?;
        let path = item.path();
        let below = format!("{name}/{}", utf8(item.file_name().to_str(), &path)?);
        let kind = item.file_type().map_err(Error::file("look at", &path))?;
        if kind.is_dir() {
            walk(&path, &below, depth + 1, found)?;
            continue;
        }
        let metadata = std::fs::metadata(&path).map_err(Error::file("look at", &path))?;
        found.push((entry_of(&path, below, &metadata)?, path));
        at_most("files", found.len() as u64, u64::from(FILES_MAX))?;
    }
    Ok(())
}

fn entry_of(path: &Path, name: String, metadata: &Metadata) -> Result<Entry> {
    if !metadata.is_file() {
        return Err(Error::NoFile { path: path.to_path_buf() });
    }
    let executable = metadata.permissions().mode() & 0o100 != 0;
    Ok(Entry { name, size: metadata.len(), changed_ns: changed_ns(metadata), executable })
}

fn utf8(name: Option<&str>, path: &Path) -> Result<String> {
    let refuse = || Error::Name { name: path.display().to_string(), why: "it is not UTF-8" };
    name.map(str::to_owned).ok_or_else(refuse)
}

/// The last change of a file; 0 before 1970 and where the file system does not know.
pub(crate) fn changed_ns(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

impl Source {
    /// Whether every file is still what the manifest says.
    pub(crate) fn check_unchanged(&self, manifest: &Manifest) -> Result<()> {
        for (path, entry) in self.paths.iter().zip(manifest.entries()) {
            let metadata = std::fs::metadata(path).map_err(Error::file("look at", path))?;
            if metadata.len() != entry.size || changed_ns(&metadata) != entry.changed_ns {
                return Err(Error::Changed { path: path.clone() });
            }
        }
        Ok(())
    }

    /// A reader for one stream.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { source: self, open: None }
    }
}

/// Reads chunks; keeps the file of the last one open.
pub(crate) struct Reader<'a> {
    source: &'a Source,
    open: Option<(u32, File)>,
}

impl Reader<'_> {
    /// Fills `bytes` from a place in a file.
    pub(crate) fn read(&mut self, file: u32, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let path = &self.source.paths[file as usize];
        let open = match self.open.take() {
            Some((of, open)) if of == file => open,
            _ => File::open(path).map_err(Error::file("open", path))?,
        };
        open.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::Changed { path: path.clone() },
            _ => Error::file("read", path)(error),
        })?;
        self.open = Some((file, open));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::survey;

    #[test]
    fn a_folder_is_surveyed_with_its_name_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("model");
        std::fs::create_dir_all(root.join("deep/er")).unwrap();
        std::fs::write(root.join("b"), "22").unwrap();
        std::fs::write(root.join("deep/er/a"), "1").unwrap();
        std::os::unix::fs::symlink(root.join("b"), root.join("link")).unwrap();
        let (manifest, source) = survey(&root, 1 << 16).unwrap();
        let names: Vec<_> = manifest.entries().iter().map(|entry| (entry.name.as_str(), entry.size)).collect();
        assert_eq!(names, [("model/b", 2), ("model/deep/er/a", 1), ("model/link", 2)]);
        source.check_unchanged(&manifest).unwrap();
        std::fs::write(root.join("b"), "333").unwrap();
        assert!(source.check_unchanged(&manifest).unwrap_err().to_string().contains("changed"));
    }

    #[test]
    fn what_is_no_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("round")).unwrap();
        assert!(survey(folder.path(), 1 << 16).is_err_and(|error| error.to_string().contains("round")));
        let missing = folder.path().join("missing");
        assert!(survey(&missing, 1 << 16).is_err_and(|error| error.kind() == base::Kind::NotFound));
    }
}
