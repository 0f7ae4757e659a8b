//! Rows in the store: a small one of bytes, the whole one, and its document (key and metadata).

use std::ops::Range;

use bytes::Bytes;
use futures::future::try_join_all;

use crate::Result;
use crate::codec::{Reader, Writer, f32s};
use crate::distance::KERNELS;
use crate::error::{Error, tried};
use crate::metadata::Metadata;
use crate::segment::{Segment, checked, object};
use crate::types::{Key, Metric};

/// What of a row is read.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Small,
    Whole,
    Document,
}

/// A row rounded to bytes, as it lies in the store: scale, then one byte a number.
#[derive(Debug)]
pub(crate) struct Small {
    scale: f32,
    numbers: Vec<i8>,
}

/// Bytes of a small row: scale, numbers, checksum.
pub(crate) fn small_bytes(dimension: u32) -> u64 {
    4 + u64::from(dimension) + 4
}

/// Bytes of a whole row: numbers, checksum.
pub(crate) fn whole_bytes(dimension: u32) -> u64 {
    4 * u64::from(dimension) + 4
}

/// The vector that distances are taken of: for [`Metric::Cosine`] of length 1, so that half the squared distance is the
/// cosine distance.
pub(crate) fn prepare(vector: &[f32], metric: Metric) -> Vec<f32> {
    match metric {
        Metric::Euclidean => vector.to_vec(),
        Metric::Cosine => {
            // In `f64`: the square of a small number leaves the range of `f32`.
            let squared: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let scale = 1.0 / squared.sqrt();
            vector.iter().map(|&x| (f64::from(x) * scale) as f32).collect()
        }
    }
}

/// The distance of a prepared query to a vector as it was sent.
pub(crate) fn distance(prepared_query: &[f32], vector: &[f32], metric: Metric) -> f32 {
    match metric {
        Metric::Euclidean => (KERNELS.squared_f32)(prepared_query, vector).sqrt(),
        Metric::Cosine => {
            let length = (KERNELS.dot_f32)(vector, vector).sqrt();
            // A vector whose squares leave the range of `f32` is scaled first.
            if length.is_normal() && length < 1e18 && length > 1e-15 {
                1.0 - (KERNELS.dot_f32)(prepared_query, vector) / length
            } else {
                1.0 - (KERNELS.dot_f32)(prepared_query, &prepare(vector, metric))
            }
        }
    }
}

/// Writes a prepared vector as a small row.
pub(crate) fn write_small(prepared: &[f32], out: &mut Writer) {
    let start = out.len();
    let largest = prepared.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
    let scale = largest / 127.0;
    let per_scale = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    out.f32s(&[scale]);
    out.0.extend(prepared.iter().map(|number| (number * per_scale).round() as i8 as u8));
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
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let scale = reader.f32s(1)?[0];
        Some(Self { scale, numbers: reader.0.iter().map(|&byte| byte as i8).collect() })
    }

    /// The distance to a prepared query, for sorting: rounded, and squared if the metric is Euclidean.
    pub(crate) fn order(&self, query: &[f32], metric: Metric) -> f32 {
        match metric {
            Metric::Cosine => 1.0 - self.scale * (KERNELS.dot_f32_i8)(query, &self.numbers),
            Metric::Euclidean => {
                let numbers: Vec<f32> = self.numbers.iter().map(|&number| self.scale * f32::from(number)).collect();
                (KERNELS.squared_f32)(query, &numbers)
            }
        }
    }
}

impl Segment {
    /// The small rows of these rows, in their order.
    pub(crate) async fn small(&self, rows: &[u32]) -> Result<Vec<Small>> {
        let read = |bytes: &[u8]| Small::read(bytes);
        self.read(Kind::Small, rows, read).await
    }

    /// The vectors of these rows as they were sent, in their order.
    pub(crate) async fn whole(&self, rows: &[u32]) -> Result<Vec<Vec<f32>>> {
        self.read(Kind::Whole, rows, |bytes| Some(f32s(bytes))).await
    }

    /// Keys and metadata of these rows, in their order.
    pub(crate) async fn documents(&self, rows: &[u32]) -> Result<Vec<(Key, Metadata)>> {
        let read = |bytes: &[u8]| {
            let (key, text) = read_document(bytes)?;
            Some((key, Metadata::from_json_text(text).ok()?))
        };
        self.read(Kind::Document, rows, read).await
    }

    /// Keys of these rows, in their order.
    pub(crate) async fn keys(&self, rows: &[u32]) -> Result<Vec<Key>> {
        self.read(Kind::Document, rows, |bytes| read_document(bytes).map(|(key, _)| key)).await
    }

    /// Fetches, checks and reads the rows: one call of the store for each part that holds any, side by side.
    async fn read<T>(&self, kind: Kind, rows: &[u32], read: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        let mut by_part: Vec<(usize, Vec<usize>, Vec<Range<u64>>)> = Vec::new();
        for (place, &row) in rows.iter().enumerate() {
            let part = self.head.part_of(row);
            let range = self.range(kind, part, row);
            match by_part.iter_mut().find(|(other, ..)| *other == part) {
                Some((_, places, ranges)) => {
                    places.push(place);
                    ranges.push(range);
                }
                None => by_part.push((part, vec![place], vec![range])),
            }
        }
        let fetched = try_join_all(by_part.iter().map(|(part, _, ranges)| self.fetch(*part, ranges))).await?;
        let mut found: Vec<Option<T>> = Vec::new();
        found.resize_with(rows.len(), || None);
        for ((part, places, _), bytes) in by_part.iter().zip(&fetched) {
            let name = self.part_name(*part);
            for (&place, bytes) in places.iter().zip(bytes) {
                let value = read(checked(&name, bytes)?);
                let corrupt = || Error::Corrupt { object: name.to_string(), what: "a row is not in the format" };
                found[place] = Some(value.ok_or_else(corrupt)?);
            }
        }
        Ok(found.into_iter().map(|value| value.expect("every place was filled")).collect())
    }

    async fn fetch(&self, part: usize, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(&self.part_name(part), ranges).await.map_err(tried("read rows"))
    }

    fn part_name(&self, part: usize) -> store::Name {
        object(&self.folder, &format!("rows-{part:05}"))
    }

    /// Where a row lies in the object of its part: small rows, whole rows, documents.
    fn range(&self, kind: Kind, part: usize, row: u32) -> Range<u64> {
        let rows = self.head.rows_of(part);
        let (count, place) = (u64::from(rows.end - rows.start), u64::from(row - rows.start));
        let (small, whole) = (small_bytes(self.head.dimension), whole_bytes(self.head.dimension));
        match kind {
            Kind::Small => place * small..(place + 1) * small,
            Kind::Whole => count * small + place * whole..count * small + (place + 1) * whole,
            Kind::Document => {
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
