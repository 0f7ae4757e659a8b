//! What a receiver remembers of a transfer when it is killed.
//!
//! A file of records of 48 bytes, appended in the order of events:
//!
//! ```text
//! offset  size
//! 0       1     kind: 1 received, 2 on the disk
//! 1       3     zero
//! 4       4     number of the chunk
//! 8       32    BLAKE3 of the chunk; zero in kind 2
//! 40      8     the first bytes of BLAKE3 over bytes 0 to 40
//! ```
//!
//! A chunk's record is written after its bytes. Both survive the death of the process; the death of the machine may
//! take what has no record of kind 2, so a reader checks those chunks against their hashes. The first record that does
//! not hold ends the journal: it was being written.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::manifest::CHUNKS_MAX;
use crate::wire::Hash;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 48;
/// A chunk has two records at most, one of each kind.
const JOURNAL_BYTES_MAX: u64 = 2 * CHUNKS_MAX as u64 * RECORD_BYTES as u64;

/// What a journal says of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Which chunk.
    pub number: u32,
    /// Its hash.
    pub hash: Hash,
    /// Whether its bytes are certainly on the disk.
    pub durable: bool,
}

/// An open journal.
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens or begins a journal, and says what it holds. What was being written when it ended is cut off.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Remembered>)> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(Error::file("open", path))?;
        let mut bytes = Vec::new();
        (&file).take(JOURNAL_BYTES_MAX).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
        let (remembered, whole) = decode(&bytes);
        file.set_len(whole as u64).map_err(Error::file("cut", path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::file("read", path))?;
        Ok((Self { file, path: path.to_path_buf() }, remembered))
    }

    pub(crate) fn received(&mut self, number: u32, hash: &Hash) -> Result<()> {
        self.append(&encode(1, number, hash))
    }

    /// Says that these chunks are on the disk, and puts the journal there too.
    pub(crate) fn durable(&mut self, numbers: &[u32]) -> Result<()> {
        let records: Vec<u8> = numbers.iter().flat_map(|&number| encode(2, number, &[0; 32])).collect();
        self.append(&records)?;
        self.file.sync_data().map_err(Error::file("sync", &self.path))
    }

    fn append(&mut self, records: &[u8]) -> Result<()> {
        self.file.write_all(records).map_err(Error::file("write", &self.path))
    }
}

fn encode(kind: u8, number: u32, hash: &Hash) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[0] = kind;
    record[4..8].copy_from_slice(&number.to_le_bytes());
    record[8..40].copy_from_slice(hash);
    let check = *blake3::hash(&record[..40]).as_bytes();
    record[40..].copy_from_slice(&check[..8]);
    record
}

/// What the bytes of a journal say, and how many of them hold. Never fails: what does not hold was not written.
#[must_use]
pub fn decode(bytes: &[u8]) -> (Vec<Remembered>, usize) {
    let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
    let mut remembered: Vec<Remembered> = Vec::new();
    let mut place_of: HashMap<u32, usize> = HashMap::new();
    for (index, record) in records.iter().enumerate() {
        let number = u32::from_le_bytes([record[4], record[5], record[6], record[7]]);
        let mut hash: Hash = [0; 32];
        hash.copy_from_slice(&record[8..40]);
        if *record != encode(record[0], number, &hash) || !matches!(record[0], 1 | 2) {
            return (remembered, index * RECORD_BYTES);
        }
        if record[0] == 1 {
            place_of.insert(number, remembered.len());
            remembered.push(Remembered { number, hash, durable: false });
        } else if let Some(&place) = place_of.get(&number) {
            remembered[place].durable = true;
        }
    }
    (remembered, records.len() * RECORD_BYTES)
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::{Journal, RECORD_BYTES, Remembered, decode};

    #[test]
    fn what_was_written_is_remembered_up_to_a_torn_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, remembered) = Journal::open(&path).unwrap();
        assert!(remembered.is_empty());
        journal.received(3, &[3; 32]).unwrap();
        journal.received(4, &[4; 32]).unwrap();
        journal.durable(&[3]).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), 3 * RECORD_BYTES);
        let expected = [
            Remembered { number: 3, hash: [3; 32], durable: true },
            Remembered { number: 4, hash: [4; 32], durable: false },
        ];
        assert_eq!(decode(&whole), (expected.to_vec(), 3 * RECORD_BYTES));
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let (mut journal, remembered) = Journal::open(&path).unwrap();
        assert_eq!(remembered.len(), 2);
        assert!(!remembered[0].durable, "the torn record does not count");
        journal.received(5, &[5; 32]).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1.len(), 3);
    }

    #[test]
    fn smoke_of_the_journal_reader() {
        let mut rng = Rng::seeded(5);
        for _ in 0..2_000 {
            let mut bytes: Vec<u8> =
                (0..4).flat_map(|number| super::encode(1 + (rng.below(2) as u8), number, &[9; 32])).collect();
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
            bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            let (remembered, whole) = decode(&bytes);
            assert!(whole <= at && remembered.len() * RECORD_BYTES <= whole);
        }
    }
}
