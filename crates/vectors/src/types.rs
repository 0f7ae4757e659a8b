use std::fmt;
use std::sync::Arc;

use crate::metadata::Metadata;
use crate::{Error, Result};

/// The largest number of dimensions; the limit of Amazon S3 Vectors.
pub const DIMENSION_MAX: u32 = 4096;
/// The longest key in bytes; the limit of Amazon S3 Vectors is 1,024 characters.
pub const KEY_BYTES_MAX: usize = 1024;
/// How many vectors one write may name; the limit of Amazon S3 Vectors.
pub const BATCH_ROWS_MAX: usize = 500;
/// How many changes one step may make: a vector may be several rows.
pub const CHANGES_MAX: usize = 4_096;
/// How many neighbours one query may ask for.
pub const NEIGHBOURS_MAX: usize = 10_000;

/// Names a vector in its index. Not empty, at most [`KEY_BYTES_MAX`] bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Parses a key.
    ///
    /// # Errors
    /// If the text is empty or too long.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err(Error::Invalid {
                field: "key",
                why: format!("{} bytes, 1 to {KEY_BYTES_MAX} allowed", text.len()),
            });
        }
        Ok(Self(text.into()))
    }

    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key's place in listings and in the key table of a segment. Part of the format: FNV-1a over the bytes, mixed.
    pub(crate) fn hash32(&self) -> u32 {
        (crate::codec::hash64(self.0.as_bytes()) >> 32) as u32
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

/// How the distance of two vectors is measured. Smaller is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// `1 - cos(a, b)`, in `0..=2`. A zero vector has no direction and is refused.
    Cosine,
    /// The length of `a - b`.
    Euclidean,
}

/// What an index is made for. Fixed when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// How many numbers a vector has, 1 to [`DIMENSION_MAX`].
    pub dimension: u32,
    /// How distance is measured.
    pub metric: Metric,
    /// Metadata fields that queries cannot filter by, and that count only towards the larger limit.
    pub not_filterable: Vec<String>,
}

impl Shape {
    /// Fields that may be declared not filterable; the limit of Amazon S3 Vectors.
    pub const NOT_FILTERABLE_MAX: usize = 10;

    /// Checks the numbers.
    ///
    /// # Errors
    /// If the dimension or the number of fields is out of range, or a field's name is not 1 to 63 bytes long.
    pub fn check(&self) -> Result<()> {
        if !(1..=DIMENSION_MAX).contains(&self.dimension) {
            let why = format!("{}, 1 to {DIMENSION_MAX} allowed", self.dimension);
            return Err(Error::Invalid { field: "dimension", why });
        }
        let count = self.not_filterable.len();
        if count > Self::NOT_FILTERABLE_MAX || self.not_filterable.iter().any(|name| !(1..=63).contains(&name.len())) {
            let why = format!("{count} names, {} of 1 to 63 bytes allowed", Self::NOT_FILTERABLE_MAX);
            return Err(Error::Invalid { field: "not_filterable", why });
        }
        Ok(())
    }

    /// Checks that a vector fits: its length, finite numbers, and for [`Metric::Cosine`] a direction.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_vector(&self, vector: &[f32]) -> Result<()> {
        if vector.len() != self.dimension as usize {
            let why = format!("{} numbers, the index has dimension {}", vector.len(), self.dimension);
            return Err(Error::Invalid { field: "vector", why });
        }
        let squared: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        if !squared.is_finite() || vector.iter().any(|x| !x.is_finite()) {
            return Err(Error::Invalid { field: "vector", why: "a number is not finite".to_owned() });
        }
        // Beyond these lengths the square of a distance leaves the range of `f32`.
        let length_min = if self.metric == Metric::Cosine { 1e-15 } else { 0.0 };
        if !(length_min..=1e15).contains(&squared.sqrt()) {
            let why = format!("its length is {}, {length_min:e} to 1e15 allowed", squared.sqrt());
            return Err(Error::Invalid { field: "vector", why });
        }
        Ok(())
    }
}

/// One vector with its key and metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Names it in the index.
    pub key: Key,
    /// As it was sent. `[dimension]`
    pub vector: Box<[f32]>,
    /// What filters see and queries return.
    pub metadata: Metadata,
}

/// One change of an index.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Adds the row or replaces the one with its key.
    Put(Arc<Row>),
    /// Removes the row with this key, if there is one.
    Delete(Key),
}

impl Op {
    /// The key that it changes.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(row) => &row.key,
            Self::Delete(key) => key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Metric, Shape};

    #[test]
    fn vectors_that_have_no_distance_are_refused() {
        let cosine = Shape { dimension: 2, metric: Metric::Cosine, not_filterable: Vec::new() };
        let euclidean = Shape { metric: Metric::Euclidean, ..cosine.clone() };
        for bad in [&[1.0][..], &[1.0, 2.0, 3.0], &[f32::NAN, 1.0], &[f32::INFINITY, 0.0], &[1e30, 0.0]] {
            assert!(cosine.check_vector(bad).is_err() && euclidean.check_vector(bad).is_err(), "{bad:?}");
        }
        assert!(cosine.check_vector(&[0.0, 0.0]).is_err());
        assert!(euclidean.check_vector(&[0.0, 0.0]).is_ok());
        assert!(cosine.check_vector(&[0.0, -1.0]).is_ok());
    }

    #[test]
    fn shapes_and_keys_have_limits() {
        let good = Shape { dimension: 4096, metric: Metric::Cosine, not_filterable: vec!["text".to_owned()] };
        good.check().unwrap();
        assert!(Shape { dimension: 0, ..good.clone() }.check().is_err());
        assert!(Shape { dimension: 4097, ..good.clone() }.check().is_err());
        assert!(Shape { not_filterable: vec![String::new()], ..good }.check().is_err());
        assert!(Shape { not_filterable: vec!["a".to_owned(); 11], ..good }.check().is_err());
        assert!(Key::parse("").is_err() && Key::parse(&"k".repeat(1025)).is_err());
        assert_eq!(Key::parse("ключ").unwrap().as_str(), "ключ");
    }
}
