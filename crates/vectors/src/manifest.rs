//! The manifests of an index: objects `manifest/<number>`, of which the one with the highest number counts.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `SVM1` |
//! | 8 | its number |
//! | 4, 1 | dimension; metric (0 cosine, 1 Euclidean) |
//! | 1, then each 2 + n | how many fields are not filterable; their names |
//! | 8, 4 | the first log entry that the segments do not hold; checksum of the entry before that |
//! | 2, then each 8 + 8 | how many writers are remembered; writer and its last serial number, longest ago first |
//! | 2, then each | how many segments; each as below |
//! | 4 | checksum of all before it |
//!
//! A segment: id (`u16` length, text), rows `u32`, checksum of its head `u32`, dead rows (`u32` length, roaring bitmap
//! in its portable format).
//!
//! A manifest says everything: segments and dead rows are the state of the index after all log entries before
//! `log_next`. Its writers' serial numbers say which commits that state holds, even when their log entries are gone.

use roaring::RoaringBitmap;

use crate::codec::{Reader, Writer, unseal};
use crate::types::{Metric, Shape};

const MAGIC: &[u8] = b"SVM1";
/// The largest manifest that is read. 1,024 segments of 262,144 rows with every second row dead take 33 MiB.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 48 << 20;
/// How many segments one index may have.
pub(crate) const SEGMENTS_MAX: usize = 1024;
/// How many writers a manifest remembers. A commit whose outcome is not known can be looked up as long as fewer
/// writers than this came after it.
pub(crate) const WRITERS_MAX: usize = 64;

/// The state of an index up to one place in its log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) number: u64,
    pub(crate) shape: Shape,
    pub(crate) log_next: u64,
    pub(crate) log_previous: u32,
    pub(crate) writers: Writers,
    pub(crate) segments: Vec<SegmentEntry>,
}

/// A segment as a manifest names it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SegmentEntry {
    pub(crate) id: String,
    pub(crate) rows: u32,
    pub(crate) head_checksum: u32,
    pub(crate) dead: RoaringBitmap,
}

/// The last serial number of each of the last [`WRITERS_MAX`] writers, in the order of their last commits.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Writers(Vec<(u64, u64)>);

impl Writers {
    /// Notes a commit.
    pub(crate) fn note(&mut self, writer: u64, serial: u64) {
        self.0.retain(|&(other, _)| other != writer);
        self.0.push((writer, serial));
        if self.0.len() > WRITERS_MAX {
            self.0.remove(0);
        }
    }

    /// The writer's last commit, if it is remembered.
    pub(crate) fn last(&self, writer: u64) -> Option<u64> {
        self.0.iter().find(|&&(other, _)| other == writer).map(|&(_, serial)| serial)
    }

    /// Whether no writer can have been forgotten.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.len() < WRITERS_MAX
    }
}

impl Manifest {
    /// The first manifest of an index.
    pub(crate) fn first(shape: Shape) -> Self {
        Self { number: 1, shape, log_next: 1, log_previous: 0, writers: Writers::default(), segments: Vec::new() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.u64(self.number);
        out.u32(self.shape.dimension);
        out.u8(match self.shape.metric {
            Metric::Cosine => 0,
            Metric::Euclidean => 1,
        });
        out.u8(u8::try_from(self.shape.not_filterable.len()).expect("a shape names at most ten fields"));
        for name in &self.shape.not_filterable {
            out.short_bytes(name.as_bytes());
        }
        out.u64(self.log_next);
        out.u32(self.log_previous);
        out.u16(u16::try_from(self.writers.0.len()).expect("at most 64 writers are remembered"));
        for &(writer, serial) in &self.writers.0 {
            out.u64(writer);
            out.u64(serial);
        }
        out.u16(u16::try_from(self.segments.len()).expect("an index has at most 1,024 segments"));
        for segment in &self.segments {
            out.short_bytes(segment.id.as_bytes());
            out.u32(segment.rows);
            out.u32(segment.head_checksum);
            let mut dead = Vec::new();
            segment.dead.serialize_into(&mut dead).expect("a vector takes every byte");
            out.long_bytes(&dead);
        }
        out.seal(0);
        out.0
    }

    /// Reads the object of this number; the error says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8], number: u64) -> Result<Self, &'static str> {
        let body = unseal(bytes).ok_or("its checksum is wrong")?;
        let manifest = Self::decode_body(body).ok_or("it is not in the format of a manifest")?;
        if manifest.number != number {
            return Err("it is not the manifest of this number");
        }
        Ok(manifest)
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.take(4)? != MAGIC {
            return None;
        }
        let number = reader.u64()?;
        let dimension = reader.u32()?;
        let metric = match reader.u8()? {
            0 => Metric::Cosine,
            1 => Metric::Euclidean,
            _ => return None,
        };
        let count = reader.u8()?;
        let not_filterable = (0..count).map(|_| text(&mut reader)).collect::<Option<_>>()?;
        let shape = Shape { dimension, metric, not_filterable };
        shape.check().ok()?;
        let (log_next, log_previous) = (reader.u64()?, reader.u32()?);
        let count = usize::from(reader.u16()?);
        let writers = (0..count).map(|_| Some((reader.u64()?, reader.u64()?))).collect::<Option<Vec<_>>>()?;
        let count = usize::from(reader.u16()?);
        if writers.len() > WRITERS_MAX || count > SEGMENTS_MAX {
            return None;
        }
        let segments = (0..count).map(|_| segment(&mut reader)).collect::<Option<Vec<_>>>()?;
        let manifest = Self { number, shape, log_next, log_previous, writers: Writers(writers), segments };
        reader.is_empty().then_some(manifest)
    }
}

fn text(reader: &mut Reader<'_>) -> Option<String> {
    Some(str::from_utf8(reader.short_bytes()?).ok()?.to_owned())
}

fn segment(reader: &mut Reader<'_>) -> Option<SegmentEntry> {
    let id = text(reader)?;
    let (rows, head_checksum) = (reader.u32()?, reader.u32()?);
    let dead = RoaringBitmap::deserialize_from(reader.long_bytes()?).ok()?;
    let is_sound = rows <= crate::segment::ROWS_MAX && dead.max().is_none_or(|max| max < rows);
    is_sound.then_some(SegmentEntry { id, rows, head_checksum, dead })
}

/// Feeds foreign bytes to the reader.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::decode(bytes, 7) {
        assert_eq!(Manifest::decode(&manifest.encode(), 7), Ok(manifest), "a manifest that is read can be written");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Manifest, SegmentEntry, WRITERS_MAX, Writers};
    use crate::types::{Metric, Shape};

    fn example(dead: &[u32], writers: u64) -> Manifest {
        let shape = Shape { dimension: 4, metric: Metric::Euclidean, not_filterable: vec!["text".to_owned()] };
        let mut manifest = Manifest { number: 7, log_next: 90, log_previous: 3, ..Manifest::first(shape) };
        for writer in 0..writers {
            manifest.writers.note(writer, writer * 3 + 1);
        }
        let dead = dead.iter().copied().collect();
        manifest.segments.push(SegmentEntry { id: "7-ab".to_owned(), rows: 500, head_checksum: 17, dead });
        manifest
    }

    proptest! {
        #[test]
        fn manifests_come_back_and_damage_is_seen(dead in prop::collection::vec(0_u32..500, 0..50),
                                                  writers in 0_u64..80,
                                                  at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let manifest = example(&dead, writers);
            let mut bytes = manifest.encode();
            prop_assert_eq!(Manifest::decode(&bytes, 7), Ok(manifest));
            prop_assert!(Manifest::decode(&bytes, 8).is_err());
            let at = at.index(bytes.len());
            prop_assert!(Manifest::decode(&bytes[..at], 7).is_err());
            bytes[at] ^= 1 << bit;
            prop_assert!(Manifest::decode(&bytes, 7).is_err());
        }
    }

    #[test]
    fn the_writers_longest_silent_are_forgotten_first() {
        let mut writers = Writers::default();
        for writer in 0..WRITERS_MAX as u64 {
            assert!(writers.is_complete());
            writers.note(writer, 1);
        }
        writers.note(0, 2);
        writers.note(1_000, 1);
        assert_eq!((writers.last(0), writers.last(1), writers.last(2)), (Some(2), None, Some(1)));
        assert!(!writers.is_complete());
    }
}
