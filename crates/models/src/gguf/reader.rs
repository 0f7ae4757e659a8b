//! A cursor over foreign bytes that cannot run past their end.

use crate::{Error, FileBytes, Result};

/// Bytes of one string. The longest in published files is a chat template of some ten kilobytes.
const STRING_BYTES_MAX: u64 = 64 << 20;

pub(super) struct Reader<'a> {
    file_name: &'a str,
    file: &'a FileBytes,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file_name: &'a str, file: &'a FileBytes) -> Self {
        Self { file_name, file, bytes: file, position: 0 }
    }

    /// The same bytes from a position on.
    pub(super) fn at(self, position: usize) -> Self {
        Self { position, ..self }
    }

    pub(super) fn file(&self) -> &'a FileBytes {
        self.file
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(super) fn corrupt(&self, why: &str) -> Error {
        Error::corrupt(self.file_name, format!("{why} (at byte {})", self.position))
    }

    pub(super) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        let end = self.position.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(self.corrupt(&format!("it ends inside {what}")));
        };
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        Ok(self.take(N, what)?.try_into().expect("N bytes were taken"))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things to come, refused beyond `most` or beyond one byte each.
    pub(super) fn count(&mut self, what: &str, most: u64) -> Result<u64> {
        let count = self.u64(what)?;
        if count > most.min(self.left() as u64) {
            return Err(self.corrupt(&format!("{count} {what}, at most {most} and one a byte can be")));
        }
        Ok(count)
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(self.string_bytes(what)?).into_owned())
    }

    pub(super) fn string_bytes(&mut self, what: &str) -> Result<&'a [u8]> {
        let size_bytes = self.u64(what)?;
        if size_bytes > STRING_BYTES_MAX {
            return Err(self.corrupt(&format!("{what} has {size_bytes} bytes, {STRING_BYTES_MAX} allowed")));
        }
        let size_bytes = usize::try_from(size_bytes).expect("the limit fits");
        self.take(size_bytes, what)
    }
}
