//! The words of one field in the rows of one segment, being collected.
//!
//! A list is, for each row that holds the word, in the order of the rows: the row less the one before it (less one),
//! and how often the word stands there, both as varints (seven bits a byte, the last without the high bit).

use std::collections::HashMap;

/// The rows of one word so far.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) bytes: Vec<u8>,
    pub(super) rows: u32,
    next_row: u32,
}

/// All words of a field so far.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) lists: HashMap<Box<str>, List>,
    /// Words of each row, at most 65,535 are counted. `[rows]`
    pub(super) lengths: Vec<u16>,
    counts: HashMap<Box<str>, u32>,
}

impl Collected {
    /// Adds the next row: `words` calls back with each of its words.
    pub(super) fn push(&mut self, words: impl FnOnce(&mut dyn FnMut(&str))) {
        let (counts, mut length) = (&mut self.counts, 0_u32);
        words(&mut |word: &str| {
            length += 1;
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.into(), 1)),
            }
        });
        let row = u32::try_from(self.lengths.len()).expect("a segment has at most 262,144 rows");
        self.lengths.push(u16::try_from(length).unwrap_or(u16::MAX));
        for (word, count) in self.counts.drain() {
            let list = self.lists.entry(word).or_default();
            put_varint(row - list.next_row, &mut list.bytes);
            put_varint(count, &mut list.bytes);
            list.next_row = row + 1;
            list.rows += 1;
        }
    }
}

fn put_varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.next()?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Calls `each` with the rows of a list and how often the word stands there. `None` if it is not a list of so many rows
/// below `rows`.
pub(super) fn read_list(bytes: &[u8], count: u32, rows: u32, mut each: impl FnMut(u32, u32)) -> Option<()> {
    let (mut bytes, mut next_row) = (bytes.iter(), 0_u32);
    for _ in 0..count {
        let row = next_row.checked_add(varint(&mut bytes)?).filter(|&row| row < rows)?;
        each(row, varint(&mut bytes)?);
        next_row = row + 1;
    }
    bytes.as_slice().is_empty().then_some(())
}
