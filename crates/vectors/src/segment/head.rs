//! The head of a segment: what stays in memory. Its layout is in `format.md`.

use kernels::codes::{CODE_BLOCK_ROWS, CodeWord};

use crate::codec::{Reader, Writer, unseal};
use crate::rabitq::{Codes, Factors, Words};
use crate::segment::ROWS_MAX;
use crate::types::DIMENSION_MAX;

const MAGIC: &[u8] = b"SVS2";

/// Consecutive rows that share an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first_row: u32,
    /// Length of the documents at the end of the object.
    pub(crate) documents_bytes: u32,
}

/// Consecutive rows that lie near one centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct List {
    pub(crate) first_row: u32,
    /// The mean of the rows' squared distances to the centre.
    pub(crate) spread: f32,
}

/// What a segment keeps in memory.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) dimension: u32,
    pub(crate) rows: u32,
    pub(crate) filter_objects: u32,
    pub(crate) lists: Vec<List>,
    /// Near the means of the lists' rows, prepared as for search. `[lists, dimension]`
    pub(crate) centres: Vec<f32>,
    pub(crate) parts: Vec<Part>,
    /// Where a row's document starts among those of its part. `[rows]`
    pub(crate) document_starts: Vec<u32>,
    /// The hash of a key in the high half, its row in the low half, sorted. `[rows]`
    pub(crate) keys: Vec<u64>,
    pub(crate) codes: Codes,
    pub(crate) checksum: u32,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.u32(self.dimension);
        out.u32(self.rows);
        out.u32(self.filter_objects);
        out.u32(u32::try_from(self.parts.len()).expect("a part has at least one row"));
        out.u32(u32::try_from(self.lists.len()).expect("a list has at least one row"));
        for list in &self.lists {
            out.u32(list.first_row);
            out.f32s(&[list.spread]);
        }
        out.f32s(&self.centres);
        for part in &self.parts {
            out.u32(part.first_row);
            out.u32(part.documents_bytes);
        }
        for &start in &self.document_starts {
            out.u32(start);
        }
        for &entry in &self.keys {
            out.u64(entry);
        }
        for factors in self.codes.factors.as_flattened() {
            out.f32s(factors);
        }
        for words in self.codes.bits.iter() {
            for &word in words {
                out.u64(word);
            }
        }
        out.seal(0);
        out.0
    }

    /// Reads a head; the error says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        unseal(bytes).ok_or("its checksum is wrong")?;
        Self::decode_checked(bytes)
    }

    /// The same of bytes that lie in an object whose own checksum covers them.
    pub(crate) fn decode_checked(bytes: &[u8]) -> Result<Self, &'static str> {
        let (body, checksum) = bytes.split_last_chunk().ok_or("it is empty")?;
        let checksum = u32::from_le_bytes(*checksum);
        let head = Self::decode_body(body, checksum).ok_or("it is not in the format of a segment")?;
        if head.is_sound() { Ok(head) } else { Err("it names rows that it does not have") }
    }

    fn decode_body(body: &[u8], checksum: u32) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.take(4)? != MAGIC {
            return None;
        }
        let (dimension, rows, filter_objects) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let part_count = reader.u32()? as usize;
        if !(1..=DIMENSION_MAX).contains(&dimension) || !(1..=ROWS_MAX).contains(&rows) {
            return None;
        }
        let list_count = reader.u32()? as usize;
        if list_count > rows as usize {
            return None;
        }
        let lists = (0..list_count).map(|_| list(&mut reader)).collect::<Option<Vec<_>>>()?;
        let centres = reader.f32s(list_count * dimension as usize)?;
        let parts = reader.u32s(part_count.checked_mul(2)?)?;
        let parts = parts.as_chunks().0.iter().map(|&[first_row, documents_bytes]| Part { first_row, documents_bytes });
        let parts = parts.collect();
        let document_starts = reader.u32s(rows as usize)?;
        let keys = reader.u64s(rows as usize)?;
        let (blocks, words) = ((rows as usize).div_ceil(CODE_BLOCK_ROWS), dimension.div_ceil(64) as usize);
        let factors = reader.f32s(2 * CODE_BLOCK_ROWS * blocks)?;
        let factors =
            factors.as_chunks::<CODE_BLOCK_ROWS>().0.as_chunks().0.iter().map(|&pair| pair as Factors).collect();
        let bits = Words::of_bytes(reader.take(blocks * words * size_of::<CodeWord>())?.as_chunks().0);
        let codes = Codes { words, rows, bits, factors };
        let head =
            Self { dimension, rows, filter_objects, lists, centres, parts, document_starts, keys, codes, checksum };
        reader.is_empty().then_some(head)
    }

    /// Whether every number that is used as a place lies inside.
    fn is_sound(&self) -> bool {
        let starts_in_order = self.parts.windows(2).all(|pair| pair[0].first_row < pair[1].first_row);
        let first = self.parts.first().is_some_and(|part| part.first_row == 0);
        let last = self.parts.last().is_some_and(|part| part.first_row < self.rows);
        let keys_in_order = self.keys.is_sorted() && self.keys.iter().all(|&entry| (entry as u32) < self.rows);
        starts_in_order && first && last && keys_in_order && self.lists_in_order() && self.documents_in_order()
    }

    fn lists_in_order(&self) -> bool {
        self.lists.windows(2).all(|pair| pair[0].first_row < pair[1].first_row)
            && self.lists.first().is_some_and(|list| list.first_row == 0)
            && self.lists.last().is_some_and(|list| list.first_row < self.rows)
    }

    fn documents_in_order(&self) -> bool {
        (0..self.parts.len()).all(|index| {
            let rows = self.rows_of(index);
            let starts = &self.document_starts[rows.start as usize..rows.end as usize];
            starts[0] == 0
                && starts.is_sorted()
                && starts.iter().all(|&start| start < self.parts[index].documents_bytes)
        })
    }

    /// The rows of a part.
    pub(crate) fn rows_of(&self, part: usize) -> std::ops::Range<u32> {
        let end = self.parts.get(part + 1).map_or(self.rows, |next| next.first_row);
        self.parts[part].first_row..end
    }

    /// The rows of a list.
    pub(crate) fn rows_of_list(&self, list: usize) -> std::ops::Range<u32> {
        let end = self.lists.get(list + 1).map_or(self.rows, |next| next.first_row);
        self.lists[list].first_row..end
    }

    /// The centre of a list. `[dimension]`
    pub(crate) fn centre(&self, list: usize) -> &[f32] {
        let d = self.dimension as usize;
        &self.centres[list * d..(list + 1) * d]
    }

    /// The part of a row.
    pub(crate) fn part_of(&self, row: u32) -> usize {
        self.parts.partition_point(|part| part.first_row <= row) - 1
    }
}

fn list(reader: &mut Reader<'_>) -> Option<List> {
    Some(List { first_row: reader.u32()?, spread: reader.f32s(1)?[0] })
}

/// Feeds foreign bytes to the reader.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(head) = Head::decode(bytes) {
        assert_eq!(head.encode(), bytes, "a head that is read is written as it was");
    }
}
