//! Rows in the store: a small one of bytes, the whole one, and its document (key and metadata).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use store::Name;

use crate::Result;
use crate::codec::{Reader, Writer, f32s};
use crate::distance::{fold, kernels};
use crate::error::{Error, tried};
use crate::kept::Kept;
use crate::metadata::Metadata;
use crate::segment::{ROWS_MAX, Segment, checked};
use crate::types::{Key, Metric, Row};

/// What of a row is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Small,
    Whole,
    Document,
}

/// A row rounded to bytes, as it lies in the store: scale, then one byte a number.
#[derive(Debug)]
pub(crate) struct Small {
    scale: f32,
    /// Signed.
    numbers: Bytes,
}

/// The standard deviation of what rounding to whole numbers takes away: 1/sqrt(12).
const ROUNDING: f32 = 0.288_675_13;
/// Errors of rounded rows lie within this many standard deviations, all but 6 of 100,000.
const DEVIATIONS: f32 = 4.0;

/// Bytes of a small row: scale, numbers, checksum.
pub(crate) fn small_bytes(dimension: u32) -> u64 {
    4 + u64::from(dimension) + 4
}

/// Bytes of a whole row: numbers, checksum.
pub(crate) fn whole_bytes(dimension: u32) -> u64 {
    4 * u64::from(dimension) + 4
}

/// What a prepared vector is divided by so that its numbers fit into signed bytes.
pub(crate) fn scale_of(prepared: &[f32]) -> f32 {
    fold(prepared, 0.0_f32, |largest, number| largest.max(number.abs()), f32::max) / 127.0
}

/// The numbers of a prepared vector as signed bytes.
pub(crate) fn rounded(prepared: &[f32], scale: f32) -> impl Iterator<Item = u8> {
    let per_scale = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    // Its last bit is worth one, so the sum is rounded to an integer (to the nearest, halves to the even one), which is
    // its lowest byte then: several numbers at a time, unlike `round` and conversions with their bounds.
    const TO_INTEGER: f32 = (3 << 22) as f32;
    prepared.iter().map(move |number| ((number * per_scale).clamp(-127.0, 127.0) + TO_INTEGER).to_bits() as u8)
}

/// Writes a prepared vector as a small row.
pub(crate) fn write_small(prepared: &[f32], out: &mut Writer) {
    let start = out.len();
    let scale = scale_of(prepared);
    out.f32s(&[scale]);
    out.0.extend(rounded(prepared, scale));
    out.seal(start);
}

/// Writes a vector as it was sent.
pub(crate) fn write_whole(vector: &[f32], out: &mut Writer) {
    let start = out.len();
    out.f32s(vector);
    out.seal(start);
}

/// Writes a key and its metadata.
pub(crate) fn write_document(key: &Key, metadata: &Metadata, out: &mut Writer) {
    let start = out.len();
    out.short_bytes(key.as_str().as_bytes());
    out.0.extend_from_slice(metadata.to_json_text().as_bytes());
    out.seal(start);
}

/// The key and the metadata's text.
fn read_document(bytes: &[u8]) -> Option<(Key, &[u8])> {
    let mut reader = Reader(bytes);
    let key = Key::parse(str::from_utf8(reader.short_bytes()?).ok()?).ok()?;
    Some((key, reader.0))
}

impl Small {
    /// Takes the bytes of a small row less their checksum.
    fn read(bytes: &Bytes) -> Option<Self> {
        let scale = Reader(bytes).f32s(1)?[0];
        Some(Self { scale, numbers: bytes.slice(4..) })
    }

    /// The distance to a prepared query, for sorting (squared if the metric is Euclidean), and how far rounding may
    /// have moved it.
    pub(crate) fn order(&self, query: &[f32], metric: Metric) -> (f32, f32) {
        let product = self.scale * kernels().dot_f32_i8(query, &self.numbers);
        let off = DEVIATIONS * self.scale * ROUNDING;
        match metric {
            Metric::Cosine => (1.0 - product, off),
            Metric::Euclidean => {
                let length: i64 = self.numbers.iter().map(|&byte| i64::from(byte.cast_signed()).pow(2)).sum();
                let squared = self.scale * self.scale * length as f32;
                let order = kernels().dot_f32(query, query) + squared - 2.0 * product;
                // |x - q|^2 changes by 2 <x - q, e> + |e|^2 if x changes by e.
                let own = self.numbers.len() as f32 * (self.scale * ROUNDING).powi(2);
                (order, 2.0 * off * order.max(0.0).sqrt() + 2.0 * own)
            }
        }
    }
}

/// What of which row is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) segment: &'a Arc<Segment>,
    pub(crate) row: u32,
    pub(crate) of: Of,
}

/// Fetches parts of rows, of any segments, in one call of the store, and checks each against its checksum. The answers
/// come in the order of `wanted`, without the checksums.
pub(crate) async fn read_rows(wanted: &[Wanted<'_>]) -> Result<Vec<Bytes>> {
    let Some(first) = wanted.first() else { return Ok(Vec::new()) };
    let mut segments: Vec<&Arc<Segment>> = Vec::new();
    let placed = wanted.iter().enumerate().map(|(answer, wanted)| {
        let known = segments.iter().position(|segment| Arc::ptr_eq(segment, wanted.segment));
        let segment = known.unwrap_or_else(|| {
            segments.push(wanted.segment);
            segments.len() - 1
        });
        let part = wanted.segment.head.part_of(wanted.row);
        Placed { segment, part, range: wanted.segment.range(wanted.of, part, wanted.row), answer }
    });
    let mut placed: Vec<Placed> = placed.collect();
    // An object is opened once then, and read in one direction.
    placed.sort_unstable_by_key(|placed| (placed.segment, placed.part, placed.range.start));
    let name = |placed: &Placed| &segments[placed.segment].parts[placed.part];
    let objects: Vec<(Name, Vec<Range<u64>>)> = placed
        .chunk_by(|left, right| (left.segment, left.part) == (right.segment, right.part))
        .map(|group| (name(&group[0]).clone(), group.iter().map(|placed| placed.range.clone()).collect()))
        .collect();
    let fetched = first.segment.store.get_many(&objects).await.map_err(tried("read rows"))?;
    let mut found = vec![Bytes::new(); wanted.len()];
    for (placed, bytes) in placed.iter().zip(fetched.into_iter().flatten()) {
        let length = checked(name(placed), &bytes)?.len();
        found[placed.answer] = bytes.slice(..length);
    }
    Ok(found)
}

/// Where something that is wanted lies: number of its segment among those that are asked, part, bytes; and which
/// answer it is.
struct Placed {
    segment: usize,
    part: usize,
    range: Range<u64>,
    answer: usize,
}

/// The answer to a row that does not parse although its checksum is right.
fn misshapen(segment: &Segment, row: u32) -> Error {
    Error::Corrupt { object: segment.parts[segment.head.part_of(row)].to_string(), what: "a row is not in the format" }
}

impl Wanted<'_> {
    /// Names this part of this row among all that this process reads.
    pub(crate) fn number(&self) -> u64 {
        const _: () = assert!(ROWS_MAX <= 1 << 20, "rows of a segment fit into 20 bits");
        self.segment.opening << 22 | (self.of as u64) << 20 | u64::from(self.row)
    }
}

/// [`read_rows`], of which parts that were read before are taken out of memory, and the others put there.
pub(crate) async fn read_kept_rows(kept: &Kept, wanted: &[Wanted<'_>]) -> Result<Vec<Bytes>> {
    let mut missing = Vec::new();
    let mut found = kept.find(wanted, &mut missing);
    if missing.is_empty() {
        return Ok(found);
    }
    let others: Vec<Wanted<'_>> = missing.iter().map(|&place| wanted[place]).collect();
    let read = read_rows(&others).await?;
    kept.add(&others, &read);
    for (place, bytes) in missing.into_iter().zip(read) {
        found[place] = bytes;
    }
    Ok(found)
}

impl Segment {
    /// The vectors of these rows as they were sent, in their order.
    pub(crate) async fn whole(self: &Arc<Self>, rows: &[u32]) -> Result<Vec<Vec<f32>>> {
        let read = read_rows(&self.wanted(rows, Of::Whole)).await?;
        Ok(read.iter().map(|bytes| f32s(bytes)).collect())
    }

    /// Keys of these rows, in their order.
    pub(crate) async fn keys(self: &Arc<Self>, rows: &[u32]) -> Result<Vec<Key>> {
        let read = read_rows(&self.wanted(rows, Of::Document)).await?;
        rows.iter().zip(&read).map(|(&row, bytes)| self.key(row, bytes)).collect()
    }

    /// Metadata of these rows, in their order.
    pub(crate) async fn metadata(self: &Arc<Self>, rows: &[u32]) -> Result<Vec<Metadata>> {
        let read = read_rows(&self.wanted(rows, Of::Document)).await?;
        rows.iter().zip(&read).map(|(&row, bytes)| Ok(self.document(row, bytes)?.1)).collect()
    }

    /// Whole rows with their keys and metadata.
    pub(crate) async fn rows(self: &Arc<Self>, rows: &[u32]) -> Result<Vec<Row>> {
        let mut wanted = self.wanted(rows, Of::Whole);
        wanted.extend(self.wanted(rows, Of::Document));
        let read = read_rows(&wanted).await?;
        let (vectors, documents) = read.split_at(rows.len());
        let both = rows.iter().zip(vectors).zip(documents);
        both.map(|((&row, vector), document)| {
            let (key, metadata) = self.document(row, document)?;
            Ok(Row { key, vector: f32s(vector).into(), metadata })
        })
        .collect()
    }

    fn wanted<'a>(self: &'a Arc<Self>, rows: &[u32], of: Of) -> Vec<Wanted<'a>> {
        rows.iter().map(|&row| Wanted { segment: self, row, of }).collect()
    }

    /// Reads a small row that [`read_rows`] fetched.
    pub(crate) fn small(&self, row: u32, bytes: &Bytes) -> Result<Small> {
        Small::read(bytes).ok_or_else(|| misshapen(self, row))
    }

    /// Reads a document that [`read_rows`] fetched.
    pub(crate) fn document(&self, row: u32, bytes: &[u8]) -> Result<(Key, Metadata)> {
        let (key, text) = read_document(bytes).ok_or_else(|| misshapen(self, row))?;
        let metadata = Metadata::from_json_text(text).map_err(|_| misshapen(self, row))?;
        Ok((key, metadata))
    }

    /// Reads the key of a document that [`read_rows`] fetched.
    pub(crate) fn key(&self, row: u32, bytes: &[u8]) -> Result<Key> {
        Ok(read_document(bytes).ok_or_else(|| misshapen(self, row))?.0)
    }

    /// Bytes of a row's key and of its metadata as JSON.
    pub(crate) fn document_bytes(&self, row: u32) -> u64 {
        let range = self.range(Of::Document, self.head.part_of(row), row);
        // The length of the key stands before it, a checksum behind the metadata; a damaged head may say anything.
        (range.end - range.start).saturating_sub(2 + 4)
    }

    /// Where a row lies in the object of its part: small rows, whole rows, documents.
    pub(super) fn range(&self, of: Of, part: usize, row: u32) -> Range<u64> {
        let rows = self.head.rows_of(part);
        let (count, place) = (u64::from(rows.end - rows.start), u64::from(row - rows.start));
        let (small, whole) = (small_bytes(self.head.dimension), whole_bytes(self.head.dimension));
        match of {
            Of::Small => place * small..(place + 1) * small,
            Of::Whole => count * small + place * whole..count * small + (place + 1) * whole,
            Of::Document => {
                let start = self.head.document_starts[row as usize];
                let end = if row + 1 < rows.end {
                    self.head.document_starts[row as usize + 1]
                } else {
                    self.head.parts[part].documents_bytes
                };
                let base = count * (small + whole);
                base + u64::from(start)..base + u64::from(end)
            }
        }
    }
}

/// Feeds foreign bytes to the readers of documents and of small rows.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some((key, text)) = read_document(bytes)
        && let Ok(metadata) = Metadata::from_json_text(text)
    {
        let mut again = Writer::default();
        write_document(&key, &metadata, &mut again);
        let body = crate::codec::unseal(&again.0).expect("what was sealed is whole");
        let (same_key, text) = read_document(body).expect("what is written can be read");
        assert_eq!((same_key, Metadata::from_json_text(text).ok()), (key, Some(metadata)));
    }
    // A small row has a number for each of its bytes, so any length but that of the dimension is refused before.
    let _ = Small::read(&Bytes::copy_from_slice(bytes)).map(|small| small.numbers.len());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Small, read_document, rounded, scale_of, write_document, write_small, write_whole};
    use crate::codec::{Writer, f32s, unseal};
    use crate::metadata::{Metadata, MetadataLimits};
    use crate::types::{Key, Metric};

    #[test]
    fn numbers_are_rounded_to_the_nearest_byte() {
        let numbers: Vec<f32> = (-508..=508).map(|quarter| quarter as f32 / 4.0).collect();
        let scale = scale_of(&numbers);
        assert_eq!(scale.to_bits(), 1.0_f32.to_bits());
        let bytes: Vec<i8> = rounded(&numbers, scale).map(u8::cast_signed).collect();
        let expected: Vec<i8> = numbers.iter().map(|number| number.round_ties_even() as i8).collect();
        assert_eq!(bytes, expected);
        // Nothing, nearly nothing, and numbers whose scale has no inverse.
        for (numbers, bytes) in [([0.0, -0.0], [0, 0]), ([1e-44, -1e-45], [0, 0]), ([1e-40, -1e-41], [127, -127])] {
            assert_eq!(rounded(&numbers, scale_of(&numbers)).map(u8::cast_signed).collect::<Vec<_>>(), bytes);
        }
    }

    proptest! {
        #[test]
        fn rows_come_back(vector in prop::collection::vec(-1e3_f32..1e3, 1..40), key in "[a-zß\u{4e00}]{1,20}",
                          fields in 0..4_usize, at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let json = [json!({}), json!({"a": "x"}), json!({"a": [1, true]}), json!({"b": -2.5, "c": false})];
            let metadata = Metadata::from_json(&json[fields], &[], MetadataLimits::default()).unwrap();
            let key = Key::parse(&key).unwrap();
            let [mut small, mut whole, mut document] = [(); 3].map(|()| Writer::default());
            write_small(&vector, &mut small);
            write_whole(&vector, &mut whole);
            write_document(&key, &metadata, &mut document);
            prop_assert_eq!(f32s(unseal(&whole.0).unwrap()), &vector[..]);
            let (read, text) = read_document(unseal(&document.0).unwrap()).unwrap();
            prop_assert_eq!((read, Metadata::from_json_text(text).unwrap()), (key, metadata));
            let rounded = Small::read(&Bytes::copy_from_slice(unseal(&small.0).unwrap())).unwrap();
            // A number is off by half a step at most, a step being a 127th of the largest.
            let largest = vector.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
            let far = (vector.len() as f32).sqrt() * largest / 127.0;
            prop_assert!(rounded.order(&vector, Metric::Euclidean).0.max(0.0).sqrt() <= far + largest * 0.01);
            for written in [&mut small.0, &mut whole.0, &mut document.0] {
                let at = at.index(written.len());
                written[at] ^= 1 << bit;
                prop_assert!(unseal(written).is_none());
            }
        }
    }
}
