//! A file that is not whole yet, and how far each of its pieces got.
//!
//! ```text
//! KEY         the file's bytes, in their places
//! KEY.marks   offset  size
//!             0       8     bytes of the file, little-endian like all here
//!             8       8     bytes of a piece
//!             16      8     for each piece: how many of its bytes are there
//! ```
//! A mark is written behind the bytes that it counts. After a loss of power it may count bytes that never reached the
//! disk: the digest of the whole file notices, so a file without one is not taken up again.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

const HEADER_BYTES: u64 = 16;

/// A file that is being fetched.
pub(crate) struct Partial {
    path: PathBuf,
    marks_path: PathBuf,
    file: File,
    marks: File,
    size_bytes: u64,
    piece_bytes: u64,
    /// Bytes of each piece that are there. One thread at a time writes a piece.
    done: Vec<AtomicU64>,
}

impl Partial {
    /// Opens what is there, or begins anew if there is nothing of this size and these pieces.
    pub(crate) fn open(path: PathBuf, size_bytes: u64, piece_bytes: u64) -> Result<Self> {
        let marks_path = path.with_extension("marks");
        let file = open(&path)?;
        let marks = open(&marks_path)?;
        let pieces = size_bytes.div_ceil(piece_bytes).max(1);
        let length = file.metadata().map_err(Error::file("look at", &path))?.len();
        let known = if length == size_bytes { read_marks(&marks, size_bytes, piece_bytes, pieces) } else { None };
        let done = known.clone().unwrap_or_else(|| vec![0; pieces as usize]);
        let partial = Self {
            path,
            marks_path,
            file,
            marks,
            size_bytes,
            piece_bytes,
            done: done.into_iter().map(AtomicU64::new).collect(),
        };
        if known.is_none() {
            partial.begin_anew()?;
        }
        Ok(partial)
    }

    /// Forgets everything that was fetched.
    pub(crate) fn begin_anew(&self) -> Result<()> {
        self.file.set_len(self.size_bytes).map_err(Error::file("make room for", &self.path))?;
        let mut header = [self.size_bytes.to_le_bytes(), self.piece_bytes.to_le_bytes()].concat();
        header.resize(HEADER_BYTES as usize + 8 * self.done.len(), 0);
        self.marks.write_all_at(&header, 0).map_err(Error::file("write", &self.marks_path))?;
        for done in &self.done {
            done.store(0, Ordering::Release);
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pieces(&self) -> usize {
        self.done.len()
    }

    /// All bytes that are there.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.done.iter().map(|done| done.load(Ordering::Acquire)).sum()
    }

    /// Where the rest of a piece lies in the file.
    pub(crate) fn missing(&self, piece: usize) -> std::ops::Range<u64> {
        let start = piece as u64 * self.piece_bytes;
        let end = (start + self.piece_bytes).min(self.size_bytes);
        start + self.done[piece].load(Ordering::Acquire)..end
    }

    /// Writes the next bytes of a piece.
    pub(crate) fn write(&self, piece: usize, bytes: &[u8]) -> Result<()> {
        let missing = self.missing(piece);
        assert!(bytes.len() as u64 <= missing.end - missing.start, "a piece is not written beyond its end");
        self.file.write_all_at(bytes, missing.start).map_err(Error::file("write", &self.path))?;
        let done = self.done[piece].load(Ordering::Acquire) + bytes.len() as u64;
        let place = HEADER_BYTES + 8 * piece as u64;
        self.marks.write_all_at(&done.to_le_bytes(), place).map_err(Error::file("write", &self.marks_path))?;
        self.done[piece].store(done, Ordering::Release);
        Ok(())
    }

    /// Makes the bytes durable and lets go of the marks; the file itself is the caller's to move.
    pub(crate) fn complete(&self) -> Result<()> {
        self.file.sync_all().map_err(Error::file("write to the disk", &self.path))
    }

    /// Removes the marks when the file has moved.
    pub(crate) fn forget_marks(&self) -> Result<()> {
        std::fs::remove_file(&self.marks_path).map_err(Error::file("remove", &self.marks_path))
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(Error::file("open", path))
}

/// The marks, if they are of this file cut into these pieces and none is beyond its piece's end.
fn read_marks(marks: &File, size_bytes: u64, piece_bytes: u64, pieces: u64) -> Option<Vec<u64>> {
    let length = HEADER_BYTES + 8 * pieces;
    if marks.metadata().ok()?.len() != length {
        return None;
    }
    let mut bytes = vec![0; length as usize];
    marks.read_exact_at(&mut bytes, 0).ok()?;
    let numbers: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let [size, piece, done @ ..] = numbers.as_slice() else { return None };
    let fits = |(number, done): (u64, &u64)| *done <= piece_bytes.min(size_bytes - number * piece_bytes);
    let fits = (0..pieces).zip(done).all(fits);
    (*size == size_bytes && *piece == piece_bytes && fits).then(|| done.to_vec())
}

#[cfg(test)]
mod tests {
    use super::Partial;

    #[test]
    fn what_was_written_is_known_to_the_next_who_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let partial = Partial::open(path.clone(), 10, 4).unwrap();
        assert_eq!((partial.pieces(), partial.missing(2)), (3, 8..10));
        partial.write(1, b"ab").unwrap();
        partial.write(1, b"c").unwrap();
        partial.write(2, b"yz").unwrap();
        drop(partial);
        let again = Partial::open(path.clone(), 10, 4).unwrap();
        assert_eq!((again.done_bytes(), again.missing(1), again.missing(2)), (5, 7..8, 10..10));
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0\0abc\0yz");
        again.begin_anew().unwrap();
        assert_eq!(Partial::open(path, 10, 4).unwrap().done_bytes(), 0);
    }

    #[test]
    fn marks_of_something_else_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let check = |marks: &[u64], size: u64, piece: u64| {
            std::fs::write(&path, vec![0; size as usize]).unwrap();
            let bytes: Vec<u8> = marks.iter().flat_map(|mark| mark.to_le_bytes()).collect();
            std::fs::write(path.with_extension("marks"), bytes).unwrap();
            Partial::open(path.clone(), size, piece).unwrap().done_bytes()
        };
        assert_eq!(check(&[10, 4, 4, 4, 2], 10, 4), 10);
        assert_eq!(check(&[10, 4, 4, 4, 3], 10, 4), 0, "beyond the end of the file");
        assert_eq!(check(&[10, 4, 5, 4, 2], 10, 4), 0, "beyond the end of a piece");
        assert_eq!(check(&[10, 5, 4, 4, 2], 10, 4), 0, "other pieces");
        assert_eq!(check(&[10, 4, 4, 4], 10, 4), 0, "too short");
    }
}
