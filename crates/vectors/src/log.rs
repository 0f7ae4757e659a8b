//! The log of an index: objects `log/<number>`, each one commit.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `SVL1` |
//! | 4 | 4 | length of the whole object |
//! | 8 | 8 | its number |
//! | 16 | 4 | checksum of the entry before it; 0 if that was torn or there is none |
//! | 20 | 8 | writer |
//! | 28 | 8 | the writer's serial number, from 1 |
//! | 36 | 4 | how many operations |
//! | 40 | 4 | checksum of bytes 0..40 |
//! | 44 | | operations |
//! | end - 4 | 4 | checksum of all before it: the entry's checksum |
//!
//! An operation: kind (1 put, 2 delete), key (`u16` length, bytes); a put goes on with the vector (`f32` each) and the
//! metadata (`u32` length, JSON). The dimension is the index's.
//!
//! **Torn entries.** The store promises whole objects. Should one break its promise in a crash, an entry is shorter
//! than it says. Nobody was told that it is durable, so it counts as no operations, and the next entry names 0 as its
//! predecessor. An entry that another names by its checksum was whole once: then a short one is damage, and reported.

use std::sync::Arc;

use crate::codec::{Reader, Writer, checksum, unseal};
use crate::metadata::Metadata;
use crate::types::{Key, Op, Row};

const MAGIC: [u8; 4] = *b"SVL1";
const HEADER_BYTES: usize = 44;
/// The largest entry: a commit stops taking requests before this.
pub(crate) const ENTRY_BYTES_MAX: u64 = 48 << 20;

/// One commit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    /// Checksum of the entry before it.
    pub(crate) previous: u32,
    pub(crate) writer: u64,
    pub(crate) serial: u64,
    pub(crate) ops: Vec<Op>,
}

/// What an object of the log is.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    Whole {
        entry: Entry,
        checksum: u32,
    },
    /// Shorter than it says, or too short to say.
    Torn,
    Damaged(&'static str),
}

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.0.extend_from_slice(&MAGIC);
        out.u32(0);
        out.u64(self.number);
        out.u32(self.previous);
        out.u64(self.writer);
        out.u64(self.serial);
        out.u32(u32::try_from(self.ops.len()).expect("a commit has at most some thousand operations"));
        out.u32(0);
        for op in &self.ops {
            encode_op(op, &mut out);
        }
        let length = u32::try_from(out.len() + 4).expect("a commit is limited to less than 4 GiB");
        out.0[4..8].copy_from_slice(&length.to_le_bytes());
        let header_sum = checksum(&out.0[..40]);
        out.0[40..44].copy_from_slice(&header_sum.to_le_bytes());
        out.seal(0);
        out.0
    }
}

fn encode_op(op: &Op, out: &mut Writer) {
    match op {
        Op::Put(row) => {
            out.u8(1);
            out.short_bytes(row.key.as_str().as_bytes());
            out.f32s(&row.vector);
            out.long_bytes(row.metadata.to_json_text().as_bytes());
        }
        Op::Delete(key) => {
            out.u8(2);
            out.short_bytes(key.as_str().as_bytes());
        }
    }
}

/// How many bytes an operation takes in an entry.
pub(crate) fn op_bytes(op: &Op) -> u64 {
    let with_key = 1 + 2 + op.key().as_str().len();
    match op {
        Op::Put(row) => (with_key + 4 * row.vector.len() + 4 + row.metadata.to_json_text().len()) as u64,
        Op::Delete(_) => with_key as u64,
    }
}

/// Reads an object of the log of an index with this dimension.
pub(crate) fn read(bytes: &[u8], number: u64, dimension: u32) -> Read {
    let Some(header) = bytes.get(..HEADER_BYTES) else { return Read::Torn };
    let Some(mut fields) = unseal(header).map(Reader) else { return Read::Damaged("the header's checksum is wrong") };
    let mut parsed = || {
        let magic = fields.take(4)?;
        Some((magic, fields.u32()?, fields.u64()?, fields.u32()?, fields.u64()?, fields.u64()?, fields.u32()?))
    };
    let (magic, length, own_number, previous, writer, serial, count) =
        parsed().expect("40 bytes hold the seven fields");
    if magic != MAGIC || own_number != number {
        return Read::Damaged("it is not the entry of this number");
    }
    if (bytes.len() as u64) < u64::from(length) {
        return Read::Torn;
    }
    let Some(body) = unseal(bytes) else { return Read::Damaged("its checksum is wrong") };
    let Some(ops) = read_ops(&body[HEADER_BYTES..], count, dimension) else {
        return Read::Damaged("its operations are not in the format");
    };
    let entry = Entry { number, previous, writer, serial, ops };
    Read::Whole { entry, checksum: own_checksum(bytes) }
}

/// The checksum by which the next entry names this one.
pub(crate) fn own_checksum(entry: &[u8]) -> u32 {
    u32::from_le_bytes(*entry.last_chunk().expect("an entry ends with its checksum"))
}

fn read_ops(bytes: &[u8], count: u32, dimension: u32) -> Option<Vec<Op>> {
    let mut reader = Reader(bytes);
    // `count` is not trusted with an allocation: the vector grows with the bytes that are really there.
    let mut ops = Vec::new();
    for _ in 0..count {
        let kind = reader.u8()?;
        let key = Key::parse(str::from_utf8(reader.short_bytes()?).ok()?).ok()?;
        ops.push(match kind {
            1 => {
                let vector = reader.f32s(dimension as usize)?.into();
                let metadata = Metadata::from_json_text(reader.long_bytes()?).ok()?;
                Op::Put(Arc::new(Row { key, vector, metadata }))
            }
            2 => Op::Delete(key),
            _ => return None,
        });
    }
    reader.is_empty().then_some(ops)
}

/// Feeds foreign bytes to the reader.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Read::Whole { entry, .. } = read(bytes, 7, 4) {
        assert_eq!(entry.encode().len(), bytes.len(), "an entry that is read is written as it was");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Entry, Read, op_bytes, read};
    use crate::metadata::{Metadata, MetadataLimits};
    use crate::types::{Key, Op, Row};

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = ("[a-zß]{1,20}", prop::option::of((prop::array::uniform4(-1e3_f32..1e3), 0..3_usize)));
        prop::collection::vec(op, 0..6).prop_map(|ops| {
            let of = |(key, row): (String, Option<([f32; 4], usize)>)| {
                let key = Key::parse(&key).unwrap();
                let Some((vector, fields)) = row else { return Op::Delete(key) };
                let json = [json!({}), json!({"a": "x"}), json!({"a": [1, true], "b": 2.5})][fields].clone();
                let metadata = Metadata::from_json(&json, &[], MetadataLimits::default()).unwrap();
                Op::Put(Row { key, vector: vector.into(), metadata }.into())
            };
            ops.into_iter().map(of).collect()
        })
    }

    proptest! {
        #[test]
        fn entries_come_back_and_damage_is_seen(ops in ops(), cut in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let entry = Entry { number: 7, previous: 5, writer: 3, serial: 9, ops };
            let mut bytes = entry.encode();
            prop_assert_eq!(bytes.len() as u64, 48 + entry.ops.iter().map(op_bytes).sum::<u64>());
            let Read::Whole { entry: back, checksum } = read(&bytes, 7, 4) else { panic!("not whole") };
            prop_assert_eq!(&back, &entry);
            prop_assert_eq!(checksum, super::own_checksum(&bytes));
            let at = cut.index(bytes.len());
            prop_assert_eq!(read(&bytes[..at], 7, 4), Read::Torn);
            bytes[at] ^= 1 << bit;
            prop_assert!(matches!(read(&bytes, 7, 4), Read::Damaged(_)));
        }
    }

    #[test]
    fn an_entry_under_another_s_name_is_damage() {
        let bytes = Entry { number: 7, previous: 0, writer: 1, serial: 1, ops: Vec::new() }.encode();
        assert!(matches!(read(&bytes, 8, 4), Read::Damaged(_)));
    }
}
