//! Which rows of a segment fit a filter, answered without reading a row. Its layout is in `format.md`.
//!
//! Texts and booleans are kept by a 64-bit hash of their value: a bitmap for a value of more than 16 rows, a sorted
//! pair (hash, row) for each row of a rarer one. Numbers are a run sorted by value, which answers `$eq` and the
//! orders. Two values of one hash would be taken for one another, so a query checks what it returns against the
//! metadata itself.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::bits::Bits;
use crate::codec::{Reader, Writer, hash64};
use crate::filter::{Filter, Order, Test, number_f64};
use crate::metadata::{Metadata, Scalar};

/// Up to so many rows a value is kept as pairs. A bitmap of one value costs about 30 bytes and 2 a row, a pair 12.
const RARE_ROWS_MAX: usize = 16;

/// The filterable fields of a segment.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct FilterIndex {
    rows: u32,
    fields: BTreeMap<Box<str>, Field>,
}

#[derive(Debug, Default, PartialEq)]
struct Field {
    exists: RoaringBitmap,
    /// Sorted by hash.
    common: Vec<(u64, RoaringBitmap)>,
    /// Sorted by hash, then row.
    rare: Pairs,
    /// Sorted by number, then row. The bits are those of [`sortable`].
    numbers: Pairs,
}

/// Two columns instead of one of pairs: 12 bytes each, not 16.
#[derive(Debug, Default, PartialEq)]
struct Pairs {
    keys: Vec<u64>,
    rows: Vec<u32>,
}

impl Pairs {
    fn from_sorted(pairs: impl Iterator<Item = (u64, u32)>) -> Self {
        let (keys, rows) = pairs.unzip();
        Self { keys, rows }
    }

    fn insert_range(&self, range: std::ops::Range<usize>, into: &mut Bits) {
        for &row in &self.rows[range] {
            into.insert(row);
        }
    }

    fn encode(&self, out: &mut Writer) {
        out.u32(u32::try_from(self.keys.len()).expect("a segment has fewer than 4 billion values"));
        for &key in &self.keys {
            out.u64(key);
        }
        for &row in &self.rows {
            out.u32(row);
        }
    }

    fn decode(reader: &mut Reader<'_>, rows_max: u32) -> Option<Self> {
        let count = reader.u32()? as usize;
        let keys = reader.u64s(count)?;
        let rows = reader.u32s(count)?;
        (keys.is_sorted() && rows.iter().all(|&row| row < rows_max)).then_some(Self { keys, rows })
    }
}

/// Collects the metadata of rows, in the order of rows.
#[derive(Debug, Default)]
pub(crate) struct FilterIndexBuilder {
    rows: u32,
    fields: BTreeMap<Box<str>, Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    exists: RoaringBitmap,
    hashes: Vec<(u64, u32)>,
    numbers: Vec<(u64, u32)>,
}

impl FilterIndexBuilder {
    /// Adds the next row.
    pub(crate) fn push(&mut self, metadata: &Metadata, not_filterable: &[String]) {
        let row = self.rows;
        self.rows += 1;
        for (name, value) in metadata.fields() {
            if not_filterable.iter().any(|other| other == name) {
                continue;
            }
            let field = self.fields.entry(name.into()).or_default();
            field.exists.insert(row);
            for scalar in value.members() {
                match place_of(scalar) {
                    Place::Hash(hash) => field.hashes.push((hash, row)),
                    Place::Number(number) => field.numbers.push((sortable(number), row)),
                }
            }
        }
    }

    pub(crate) fn finish(self) -> FilterIndex {
        let fields = self.fields.into_iter().map(|(name, collected)| (name, collected.finish())).collect();
        FilterIndex { rows: self.rows, fields }
    }
}

impl Collected {
    fn finish(mut self) -> Field {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.numbers.sort_unstable();
        self.numbers.dedup();
        let mut common = Vec::new();
        let mut rare = Vec::new();
        for group in self.hashes.chunk_by(|left, right| left.0 == right.0) {
            if group.len() > RARE_ROWS_MAX {
                common.push((group[0].0, group.iter().map(|&(_, row)| row).collect()));
            } else {
                rare.extend_from_slice(group);
            }
        }
        let numbers = Pairs::from_sorted(self.numbers.into_iter());
        Field { exists: self.exists, common, rare: Pairs::from_sorted(rare.into_iter()), numbers }
    }
}

enum Place {
    Hash(u64),
    Number(f64),
}

fn place_of(scalar: &Scalar) -> Place {
    match scalar {
        Scalar::Text(text) => Place::Hash(hash64(text.as_bytes())),
        // One byte that no UTF-8 text consists of.
        Scalar::Bool(value) => Place::Hash(hash64(&[0xf8 | u8::from(*value)])),
        Scalar::Number(number) => Place::Number(number_f64(number)),
    }
}

/// Bits that sort as the numbers do. Both zeros are one number.
fn sortable(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 0 { bits | (1 << 63) } else { !bits }
}

impl FilterIndex {
    /// The rows that fit.
    pub(crate) fn rows(&self, filter: &Filter) -> Bits {
        match filter {
            Filter::All(parts) => {
                let mut fit = Bits::all(self.rows);
                for part in parts {
                    fit.and(&self.rows(part));
                }
                fit
            }
            Filter::Any(parts) => {
                let mut fit = Bits::none(self.rows);
                for part in parts {
                    fit.or(&self.rows(part));
                }
                fit
            }
            Filter::Field(name, test) => self.rows_of_test(self.fields.get(name), test),
        }
    }

    fn rows_of_test(&self, field: Option<&Field>, test: &Test) -> Bits {
        let mut fit = Bits::none(self.rows);
        let Some(field) = field else {
            return match test {
                Test::Differs(_) | Test::NotIn(_) | Test::Exists(false) => fit.not(),
                Test::Equals(_) | Test::In(_) | Test::Is(..) | Test::Exists(true) => fit,
            };
        };
        match test {
            Test::Equals(wanted) => field.add_equal(wanted, &mut fit),
            Test::Differs(wanted) => {
                field.add_equal(wanted, &mut fit);
                return fit.not();
            }
            Test::In(wanted) => wanted.iter().for_each(|wanted| field.add_equal(wanted, &mut fit)),
            Test::NotIn(wanted) => {
                wanted.iter().for_each(|wanted| field.add_equal(wanted, &mut fit));
                return fit.not();
            }
            Test::Is(order, bound) => field.add_ordered(*order, *bound, &mut fit),
            Test::Exists(wanted) => {
                add(&field.exists, &mut fit);
                return if *wanted { fit } else { fit.not() };
            }
        }
        fit
    }

    /// The rows that have a number of at most `bound` in a field, if there are any.
    pub(crate) fn rows_up_to(&self, field: &str, bound: f64) -> Option<Bits> {
        let field = self.fields.get(field)?;
        if *field.numbers.keys.first()? > sortable(bound) {
            return None;
        }
        let mut fit = Bits::none(self.rows);
        field.add_ordered(Order::AtMost, bound, &mut fit);
        Some(fit)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(u32::try_from(self.fields.len()).expect("rows have a limited number of fields"));
        for (name, field) in &self.fields {
            out.short_bytes(name.as_bytes());
            encode_bitmap(&field.exists, &mut out);
            out.u32(u32::try_from(field.common.len()).expect("fewer values than rows"));
            for (hash, rows) in &field.common {
                out.u64(*hash);
                encode_bitmap(rows, &mut out);
            }
            field.rare.encode(&mut out);
            field.numbers.encode(&mut out);
        }
        out.0
    }

    pub(crate) fn decode(bytes: &[u8], rows: u32) -> Option<Self> {
        let mut reader = Reader(bytes);
        let mut fields = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let name = str::from_utf8(reader.short_bytes()?).ok()?.into();
            let exists = decode_bitmap(&mut reader, rows)?;
            let mut common = Vec::new();
            for _ in 0..reader.u32()? {
                common.push((reader.u64()?, decode_bitmap(&mut reader, rows)?));
            }
            let (rare, numbers) = (Pairs::decode(&mut reader, rows)?, Pairs::decode(&mut reader, rows)?);
            if !common.is_sorted_by_key(|&(hash, _)| hash) {
                return None;
            }
            fields.insert(name, Field { exists, common, rare, numbers });
        }
        reader.is_empty().then_some(Self { rows, fields })
    }
}

impl Field {
    fn add_equal(&self, wanted: &Scalar, fit: &mut Bits) {
        match place_of(wanted) {
            Place::Number(number) => {
                let wanted = sortable(number);
                let start = self.numbers.keys.partition_point(|&key| key < wanted);
                let end = self.numbers.keys.partition_point(|&key| key <= wanted);
                self.numbers.insert_range(start..end, fit);
            }
            Place::Hash(hash) => {
                if let Ok(found) = self.common.binary_search_by_key(&hash, |&(hash, _)| hash) {
                    add(&self.common[found].1, fit);
                }
                let start = self.rare.keys.partition_point(|&key| key < hash);
                let end = self.rare.keys.partition_point(|&key| key <= hash);
                self.rare.insert_range(start..end, fit);
            }
        }
    }

    fn add_ordered(&self, order: Order, bound: f64, fit: &mut Bits) {
        let (keys, bound) = (&self.numbers.keys, sortable(bound));
        let range = match order {
            Order::Above => keys.partition_point(|&key| key <= bound)..keys.len(),
            Order::AtLeast => keys.partition_point(|&key| key < bound)..keys.len(),
            Order::Below => 0..keys.partition_point(|&key| key < bound),
            Order::AtMost => 0..keys.partition_point(|&key| key <= bound),
        };
        self.numbers.insert_range(range, fit);
    }
}

fn add(stored: &RoaringBitmap, fit: &mut Bits) {
    fit.add_roaring(stored).expect("the reader has checked the rows");
}

fn encode_bitmap(bitmap: &RoaringBitmap, out: &mut Writer) {
    let mut bytes = Vec::new();
    bitmap.serialize_into(&mut bytes).expect("a vector takes every byte");
    out.long_bytes(&bytes);
}

fn decode_bitmap(reader: &mut Reader<'_>, rows: u32) -> Option<RoaringBitmap> {
    let bitmap = RoaringBitmap::deserialize_from(reader.long_bytes()?).ok()?;
    bitmap.max().is_none_or(|max| max < rows).then_some(bitmap)
}

#[cfg(test)]
mod tests;
