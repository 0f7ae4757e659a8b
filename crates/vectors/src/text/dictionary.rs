//! The words of one field in one segment as they lie in the store. The layout is in `format.md`.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use store::{Name, OBJECT_BYTES_MAX, Store};

use super::TextField;
use super::postings::{Collected, List, read_list};
use crate::codec::{Reader, Writer, unseal};
use crate::error::tried;
use crate::segment::{ROWS_MAX, Segment};
use crate::{Error, Result};

const MAGIC: &[u8] = b"SVT1";
/// Words and lists are cut into objects of about this length.
const PIECE_BYTES: usize = 16 << 20;
/// How many rows are read at once while words are collected.
const READ_ROWS: u32 = 1_024;

/// Words of a field in a segment, open for reading: which there are, and where their lists lie.
#[derive(Debug)]
pub(crate) struct TextIndex {
    folder: Name,
    stem: String,
    pub(crate) documents: u32,
    pub(crate) length: u64,
    /// Words of each row. `[rows]`
    pub(crate) lengths: Vec<u16>,
    /// The entries of the words, one behind the other, sorted by word.
    entries: Vec<u8>,
    /// Where each entry starts. `[words]`
    starts: Vec<u32>,
}

/// Where the list of a word lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// How many rows hold the word.
    pub(crate) rows: u32,
    piece: u32,
    start: u32,
    bytes: u32,
}

/// An entry: the word and its place.
fn entry<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], Place)> {
    let word = reader.short_bytes()?;
    Some((word, Place { rows: reader.u32()?, piece: reader.u32()?, start: reader.u32()?, bytes: reader.u32()? }))
}

fn object(folder: &Name, stem: &str, what: &str) -> Result<Name> {
    folder.join(&format!("{stem}-{what}")).map_err(tried("name the words of a segment"))
}

impl TextIndex {
    /// The words of a field in a segment; collects and writes them if nobody has.
    pub(crate) async fn open(segment: &Arc<Segment>, field: &TextField) -> Result<Self> {
        match Self::read(segment, field).await {
            Err(Error::Store { source, .. }) if source.is_not_found() => {
                build(segment, field).await?;
                Self::read(segment, field).await
            }
            answer => answer,
        }
    }

    async fn read(segment: &Segment, field: &TextField) -> Result<Self> {
        let (store, folder, stem) = (&segment.store, segment.folder.clone(), field.stem());
        let name = object(&folder, &stem, "root")?;
        let root = store.get(&name, 1 << 10).await.map_err(tried("read the words of a segment"))?;
        let corrupt = |what| Error::Corrupt { object: name.to_string(), what };
        let body = unseal(&root).ok_or_else(|| corrupt("its checksum is wrong"))?;
        let root = Root::decode(body).ok_or_else(|| corrupt("it is not in the format"))?;
        let mut words = Vec::new();
        for piece in 0..root.word_pieces {
            let name = object(&folder, &stem, &format!("words-{piece:05}"))?;
            let bytes = store.get(&name, OBJECT_BYTES_MAX).await.map_err(tried("read the words of a segment"))?;
            let corrupt = |what| Error::Corrupt { object: name.to_string(), what };
            words.extend_from_slice(unseal(&bytes).ok_or_else(|| corrupt("its checksum is wrong"))?);
        }
        Self::decode(folder, stem, &root, &words, segment.head.rows)
            .ok_or_else(|| corrupt("its words are not in the format"))
    }

    fn decode(folder: Name, stem: String, root: &Root, words: &[u8], rows: u32) -> Option<Self> {
        let mut reader = Reader(words);
        let lengths = reader.take(2 * rows as usize)?.as_chunks::<2>().0;
        let lengths = lengths.iter().map(|&bytes| u16::from_le_bytes(bytes)).collect();
        let entries = reader.0.to_vec();
        let mut reader = Reader(&entries);
        let (mut starts, mut before): (Vec<u32>, Option<&[u8]>) = (Vec::new(), None);
        while !reader.is_empty() {
            starts.push(u32::try_from(entries.len() - reader.0.len()).ok()?);
            let (word, place) = entry(&mut reader)?;
            if before.is_some_and(|before| before >= word) || place.piece >= root.list_pieces || place.rows > rows {
                return None;
            }
            before = Some(word);
        }
        Some(Self { folder, stem, documents: root.documents, length: root.length, lengths, entries, starts })
    }

    /// Where the list of a word lies, if any row holds it.
    pub(crate) fn find(&self, word: &str) -> Option<Place> {
        let read = |start: u32| entry(&mut Reader(&self.entries[start as usize..])).expect("checked when it was read");
        let place = self.starts.binary_search_by(|&start| read(start).0.cmp(word.as_bytes())).ok()?;
        Some(read(self.starts[place]).1)
    }

    /// The object and the range of a list, with its checksum.
    pub(crate) fn range(&self, place: Place) -> Result<(Name, Range<u64>)> {
        let start = u64::from(place.start);
        let name = object(&self.folder, &self.stem, &format!("lists-{:05}", place.piece))?;
        Ok((name, start..start + u64::from(place.bytes)))
    }

    /// Reads a list that was fetched from where [`Self::range`] says.
    pub(crate) fn list(&self, place: Place, bytes: &[u8], each: impl FnMut(u32, u32)) -> Result<()> {
        let corrupt = |what| match self.range(place) {
            Ok((name, _)) => Error::Corrupt { object: name.to_string(), what },
            Err(error) => error,
        };
        let list = unseal(bytes).ok_or_else(|| corrupt("the checksum of a word's rows is wrong"))?;
        let rows = u32::try_from(self.lengths.len()).unwrap_or(ROWS_MAX);
        read_list(list, place.rows, rows, each).ok_or_else(|| corrupt("a word's rows are not in the format"))
    }
}

/// The object that says what else there is. It is written last, so where it is, everything is.
///
/// | bytes | what |
/// |---|---|
/// | 4 | `SVT1` |
/// | 4, 4 | pieces of words, pieces of lists |
/// | 4, 8 | rows that have any word; words of all rows |
/// | 4 | checksum of all before it |
struct Root {
    word_pieces: u32,
    list_pieces: u32,
    documents: u32,
    length: u64,
}

impl Root {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.u32(self.word_pieces);
        out.u32(self.list_pieces);
        out.u32(self.documents);
        out.u64(self.length);
        out.seal(0);
        out.0
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.take(4)? != MAGIC {
            return None;
        }
        let root = Self {
            word_pieces: reader.u32()?,
            list_pieces: reader.u32()?,
            documents: reader.u32()?,
            length: reader.u64()?,
        };
        (reader.is_empty() && root.word_pieces <= 1 << 10).then_some(root)
    }
}

/// Collects the words of a field and writes them.
///
/// Cost: reads every document of the segment; about 3 bytes of memory for each word of each row.
async fn build(segment: &Arc<Segment>, field: &TextField) -> Result<()> {
    let mut collected = Collected::default();
    let rows = segment.head.rows;
    for start in (0..rows).step_by(READ_ROWS as usize) {
        let some: Vec<u32> = (start..rows.min(start + READ_ROWS)).collect();
        for metadata in segment.metadata(&some).await? {
            collected.push(|each| field.words(&metadata, each));
        }
    }
    let (folder, stem) = (&segment.folder, field.stem());
    let write = async |what: String, bytes: Vec<u8>| {
        let name = object(folder, &stem, &what)?;
        segment.store.put(&name, Bytes::from(bytes)).await.map_err(tried("write the words of a segment"))
    };
    let mut words = Writer::default();
    let lengths = std::mem::take(&mut collected.lengths);
    for &length in &lengths {
        words.u16(length);
    }
    let mut lists: Vec<(Box<str>, List)> = collected.lists.into_iter().collect();
    lists.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    let (mut piece, mut list_pieces) = (Writer::default(), 0);
    for (word, list) in lists {
        if piece.len() > 0 && piece.len() + list.bytes.len() > PIECE_BYTES {
            write(format!("lists-{list_pieces:05}"), sealed(std::mem::take(&mut piece))).await?;
            list_pieces += 1;
        }
        let start = piece.len();
        piece.0.extend_from_slice(&list.bytes);
        piece.seal(start);
        words.short_bytes(word.as_bytes());
        words.u32(list.rows);
        words.u32(list_pieces);
        words.u32(u32::try_from(start).expect("a piece is far smaller than 4 GiB"));
        words.u32(u32::try_from(piece.len() - start).expect("a list is far smaller than 4 GiB"));
    }
    if piece.len() > 0 {
        write(format!("lists-{list_pieces:05}"), sealed(piece)).await?;
        list_pieces += 1;
    }
    let mut word_pieces = 0;
    for bytes in words.0.chunks(PIECE_BYTES) {
        write(format!("words-{word_pieces:05}"), sealed(Writer(bytes.to_vec()))).await?;
        word_pieces += 1;
    }
    let documents = lengths.iter().filter(|&&length| length > 0).count() as u32;
    let length = lengths.iter().map(|&length| u64::from(length)).sum();
    write("root".to_owned(), Root { word_pieces, list_pieces, documents, length }.encode()).await
}

fn sealed(mut piece: Writer) -> Vec<u8> {
    piece.seal(0);
    piece.0
}

/// Objects with words in the folder of a segment that are not what was written.
pub(crate) async fn damaged_texts(store: &dyn Store, folder: &Name) -> Result<Vec<(Name, &'static str)>> {
    /// So many objects of words has a segment of ten fields at the very most.
    const OBJECTS_MAX: usize = 10_000;
    let objects = store.list_after(folder, None, OBJECTS_MAX).await.map_err(tried("list a segment"))?;
    let mut damaged = Vec::new();
    for entry in objects.into_iter().filter(|entry| entry.name.last_part().starts_with("text-")) {
        let bytes = match store.get(&entry.name, OBJECT_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => continue,
            Err(source) => return Err(tried("read the words of a segment")(source)),
        };
        if unseal(&bytes).is_none() {
            damaged.push((entry.name, "its checksum is wrong"));
        }
    }
    Ok(damaged)
}

/// Feeds foreign bytes to the readers of roots and of words.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some(body) = unseal(bytes) else { return };
    if let Some(root) = Root::decode(body) {
        assert_eq!(root.encode(), bytes, "a root that is read is written as it was");
    }
    let root = Root { word_pieces: 1, list_pieces: 2, documents: 3, length: 9 };
    let folder = Name::parse("i").expect("a letter is a name");
    if let Some(words) = TextIndex::decode(folder, String::new(), &root, body, 3) {
        for &start in &words.starts {
            let (word, place) = entry(&mut Reader(&words.entries[start as usize..])).expect("it was read");
            if let Ok(word) = str::from_utf8(word) {
                assert_eq!(words.find(word), Some(place), "a word that is there is found");
            }
        }
    }
}

/// A root and words, as they are written.
#[cfg(test)]
pub(crate) fn examples() -> [Vec<u8>; 2] {
    let root = Root { word_pieces: 1, list_pieces: 2, documents: 3, length: 9 };
    let mut words = Writer::default();
    [4, 0, 5].iter().for_each(|&length| words.u16(length));
    for (word, piece) in [("ab", 0), ("b", 0), ("c", 1)] {
        words.short_bytes(word.as_bytes());
        [2, piece, 10, 8].iter().for_each(|&number| words.u32(number));
    }
    words.seal(0);
    [root.encode(), words.0]
}
