//! Files in memory without being read: the one place in this crate with `unsafe`.

use std::fs::{File, Metadata};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::{Error, Result};

/// What a system maps at most for one number that is touched.
#[cfg(unix)]
const HUGE_PAGE: usize = 2 << 20;

/// The bytes of a file, wherever they are. Cheap to clone.
#[derive(Clone)]
pub enum FileBytes {
    /// A file mapped into memory; pages are read when they are touched.
    Mapped(Arc<MappedFile>),
    /// Bytes that are part of the program.
    Static(&'static [u8]),
    /// Bytes made at run time, for example a transposed tensor.
    Owned(Arc<[u8]>),
}

/// A file that is mapped into memory.
pub struct MappedFile {
    mapping: Mmap,
    path: PathBuf,
    metadata: Metadata,
}

impl MappedFile {
    /// Its name, and that of the file behind it as the file system knows it: what lies under the name may be replaced.
    pub(crate) fn place(&self) -> (&Path, &Metadata) {
        (&self.path, &self.metadata)
    }
}

impl FileBytes {
    /// Maps a file. An empty file gives no bytes.
    ///
    /// The file must not be cut short while it is mapped: the operating system then ends the process (`SIGBUS`) when
    /// a lost page is touched. A checkpoint is replaced by writing another file and renaming it, never in place.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be opened or mapped.
    pub fn map(path: &Path) -> Result<Self> {
        let wrap = |source| Error::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(wrap)?;
        let metadata = file.metadata().map_err(wrap)?;
        if !metadata.is_file() {
            return Err(wrap(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file")));
        }
        if metadata.len() == 0 {
            return Ok(Self::Static(&[]));
        }
        #[expect(unsafe_code, reason = "a mapping has no safe form; see the contract above")]
        // SAFETY: the mapping is read-only and private; the bytes are only ever read as `u8`, for which every value is
        // valid, so a concurrent writer can spoil numbers but not memory safety. Truncation is in the contract above.
        let mapping = unsafe { Mmap::map(&file) }.map_err(wrap)?;
        Ok(Self::Mapped(Arc::new(MappedFile { mapping, path: path.to_owned(), metadata })))
    }
}

impl FileBytes {
    /// Maps a file that is wanted whole and at once, on large pages where the system keeps files in them. As
    /// [`Self::map`], the file must not be cut short.
    ///
    /// # Errors
    /// If it cannot be mapped, or is empty.
    pub(crate) fn map_eagerly(file: &File, path: &Path) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        #[expect(unsafe_code, reason = "a mapping has no safe form; see the contract above")]
        // SAFETY: as in `map`.
        let mapping = unsafe { Mmap::map(file) }?;
        // Advice that a system does not take costs time and nothing else.
        #[cfg(target_os = "linux")]
        for advice in [memmap2::Advice::HugePage, memmap2::Advice::PopulateRead] {
            let _ = mapping.advise(advice);
        }
        Ok(Self::Mapped(Arc::new(MappedFile { mapping, path: path.to_owned(), metadata })))
    }

    /// Gives the memory of a part of a mapped file back to the system, best effort: the bytes are read from the file
    /// again when they are touched. So are those beside them, since a system that keeps files in huge pages maps two
    /// megabytes for whoever touches one number.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(file) = self {
            let mapping = &file.mapping;
            let range = range.start / HUGE_PAGE * HUGE_PAGE..range.end.next_multiple_of(HUGE_PAGE).min(mapping.len());
            #[expect(unsafe_code, reason = "advice that drops pages has no safe form")]
            // SAFETY: the mapping is of a file and nobody writes to it, so a dropped page comes back with the file's
            // bytes; what the advice refuses stays as it is.
            let _ =
                unsafe { mapping.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(file) => &file.mapping,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for FileBytes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} bytes", self.len())
    }
}
