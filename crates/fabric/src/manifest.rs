//! What is sent: files with their sizes, and the names under which they arrive.
//!
//! ```text
//! offset  size
//! 0       8     "SMPNMAN1"
//! 8       4     bytes of a chunk: a power of two, 64 KiB to 64 MiB
//! 12      4     files, each:
//!   0     8       size
//!   8     8       time of the last change, nanoseconds since 1970
//!   16    1       1: executable, 0: not
//!   17    2       length of the name
//!   19    n       name: UTF-8, parts separated by '/', relative
//! ```
//!
//! Names ascend strictly by their bytes, so there is one manifest for one set of files. Chunks are numbered through all
//! files in this order; the last of a file is as short as it has to be, and an empty file has none.

use std::collections::HashSet;

use crate::error::{Error, Result, at_most};
use crate::wire::Hash;

/// The most files of one transfer.
pub const FILES_MAX: u32 = 200_000;
/// The most chunks of one transfer.
pub const CHUNKS_MAX: u32 = 1 << 24;
/// The most bytes of one transfer.
pub const BYTES_MAX: u64 = 1 << 50;
/// The longest manifest.
pub const MANIFEST_BYTES_MAX: u32 = 32 << 20;
/// The longest name.
pub const NAME_BYTES_MAX: usize = 1_024;
/// The longest part of a name between two slashes: what file systems take.
pub const NAME_PART_BYTES_MAX: usize = 255;
/// How deep folders may lie in each other.
pub const NAME_PARTS_MAX: usize = 64;
/// The smallest and the largest chunk.
pub const CHUNK_BYTES: std::ops::RangeInclusive<u32> = 64 << 10..=64 << 20;
/// The most streams of one transfer.
pub const STREAMS_MAX: u32 = 64;
/// Where a receiver keeps what is not whole, inside its folder. No file may be sent under this name.
pub const STATE_FOLDER: &str = ".sampan-net";

const MAGIC: &[u8; 8] = b"SMPNMAN1";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The relative name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The last change, in nanoseconds since 1970.
    pub changed_ns: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// All files of a transfer, checked: every name and number is within its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    chunk_bytes: u32,
    entries: Vec<Entry>,
    /// The number of each file's first chunk, and behind the last the number of all chunks.
    first_chunk: Vec<u32>,
    bytes: u64,
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub file: u32,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub length: u32,
}

impl Manifest {
    /// Checks the files and numbers their chunks.
    ///
    /// # Errors
    /// If a name, a size or a count is refused.
    pub fn new(chunk_bytes: u32, mut entries: Vec<Entry>) -> Result<Self> {
        entries.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Self::checked(chunk_bytes, entries)
    }

    fn checked(chunk_bytes: u32, entries: Vec<Entry>) -> Result<Self> {
        if !CHUNK_BYTES.contains(&chunk_bytes) || !chunk_bytes.is_power_of_two() {
            let detail = "a power of two from 65536 to 67108864 is needed";
            return Err(Error::Option { what: "chunk size", value: chunk_bytes.to_string(), detail });
        }
        at_most("files", entries.len() as u64, u64::from(FILES_MAX))?;
        check_names(&entries)?;
        let (mut bytes, mut chunks) = (0_u64, 0_u64);
        let mut first_chunk = Vec::with_capacity(entries.len() + 1);
        for entry in &entries {
            first_chunk.push(chunks as u32);
            bytes = bytes.saturating_add(entry.size);
            at_most("bytes in a transfer", bytes, BYTES_MAX)?;
            chunks += entry.size.div_ceil(u64::from(chunk_bytes));
            at_most("chunks in a transfer", chunks, u64::from(CHUNKS_MAX))?;
        }
        first_chunk.push(chunks as u32);
        Ok(Self { chunk_bytes, entries, first_chunk, bytes })
    }

    /// Bytes of a whole chunk.
    #[must_use]
    pub fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// The files.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.first_chunk.last().copied().unwrap_or(0)
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The numbers of a file's chunks.
    #[must_use]
    pub fn chunks_of(&self, file: u32) -> std::ops::Range<u32> {
        self.first_chunk[file as usize]..self.first_chunk[file as usize + 1]
    }

    /// Where a chunk lies; `None` if there is no such chunk.
    #[must_use]
    pub fn place(&self, number: u32) -> Option<Place> {
        if number >= self.chunks() {
            return None;
        }
        // The last file whose first chunk is not behind this one; empty files before it begin at the same number.
        let file = self.first_chunk.partition_point(|&first| first <= number) - 1;
        let offset = u64::from(number - self.first_chunk[file]) * u64::from(self.chunk_bytes);
        let length = (self.entries[file].size - offset).min(u64::from(self.chunk_bytes)) as u32;
        Some(Place { file: file as u32, offset, length })
    }

    /// The bytes that travel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.chunk_bytes.to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.size.to_le_bytes());
            out.extend_from_slice(&entry.changed_ns.to_le_bytes());
            out.push(u8::from(entry.executable));
            out.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
            out.extend_from_slice(entry.name.as_bytes());
        }
        out
    }

    /// Reads what somebody sent.
    ///
    /// # Errors
    /// If it is not of the form above, or a name, a size or a count is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        at_most("bytes in a manifest", bytes.len() as u64, u64::from(MANIFEST_BYTES_MAX))?;
        let mut rest = bytes;
        if take::<8>(&mut rest)? != *MAGIC {
            return Err(Error::malformed("manifest", "it does not begin like one"));
        }
        let chunk_bytes = u32::from_le_bytes(take(&mut rest)?);
        let files = u32::from_le_bytes(take(&mut rest)?);
        at_most("files", u64::from(files), u64::from(FILES_MAX))?;
        // A file takes 20 bytes at least, so a false count cannot reserve more than was sent.
        let mut entries = Vec::with_capacity((files as usize).min(bytes.len() / 20));
        for _ in 0..files {
            entries.push(decode_entry(&mut rest)?);
        }
        if !rest.is_empty() {
            return Err(Error::malformed("manifest", format!("{} bytes too many", rest.len())));
        }
        Self::checked(chunk_bytes, entries)
    }

    /// The name of the transfer: the hash of its manifest.
    #[must_use]
    pub fn transfer(encoded: &[u8]) -> Hash {
        *blake3::hash(encoded).as_bytes()
    }
}

fn decode_entry(rest: &mut &[u8]) -> Result<Entry> {
    let size = u64::from_le_bytes(take(rest)?);
    let changed_ns = u64::from_le_bytes(take(rest)?);
    let [executable] = take(rest)?;
    if executable > 1 {
        return Err(Error::malformed("manifest", format!("{executable} for executable")));
    }
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    let Some((name, behind)) = rest.split_at_checked(length) else {
        return Err(Error::malformed("manifest", "it ends inside a name"));
    };
    *rest = behind;
    let name = String::from_utf8(name.to_vec()).map_err(|_| Error::malformed("manifest", "a name is not UTF-8"))?;
    Ok(Entry { name, size, changed_ns, executable: executable == 1 })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk::<N>().ok_or_else(|| Error::malformed("manifest", "it is cut off"))?;
    *rest = behind;
    Ok(*bytes)
}

fn check_names(entries: &[Entry]) -> Result<()> {
    let mut folders = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        let refuse = |why| Err(Error::Name { name: entry.name.clone(), why });
        if let Some(why) = fault_of(&entry.name) {
            return refuse(why);
        }
        if index > 0 && entries[index - 1].name >= entry.name {
            return refuse("names do not ascend, or it stands twice");
        }
        let slashes = entry.name.match_indices('/');
        folders.extend(slashes.map(|(at, _)| &entry.name[..at]));
    }
    match entries.iter().find(|entry| folders.contains(entry.name.as_str())) {
        Some(entry) => Err(Error::Name { name: entry.name.clone(), why: "it is a file and a folder" }),
        None => Ok(()),
    }
}

/// Why nothing may be written under a name.
#[must_use]
fn fault_of(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Some("it is empty or longer than 1024 bytes");
    }
    if name.chars().any(|character| character.is_control() || character == '\\') {
        return Some("it holds a control character or a backslash");
    }
    if name.split('/').count() > NAME_PARTS_MAX {
        return Some("it lies more than 64 folders deep");
    }
    for part in name.split('/') {
        match part {
            "" => return Some("it is absolute, or a part of it is empty"),
            "." | ".." => return Some("it leads out of its folder"),
            STATE_FOLDER => return Some("the receiver keeps its own things there"),
            long if long.len() > NAME_PART_BYTES_MAX => return Some("a part of it is longer than 255 bytes"),
            _ => {}
        }
    }
    None
}

/// Feeds foreign bytes to the reader of manifests; for fuzzing.
///
/// # Panics
/// If what was read is not written as it was: a fault of this module.
pub fn fuzz_manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes, "a manifest that was read is written as it was");
    }
}

#[cfg(test)]
mod tests;
