//! What a bucket and an index are, and how they lie in the store: JSON with a format number.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use store::Name;

use super::names::{BucketName, IndexName};
use crate::text::TextField;
use crate::types::{Metric, Shape};
use crate::{Error, Result};

/// The format that is written.
const FORMAT: u32 = 1;

/// A bucket that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: BucketName,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: u64,
    /// What may be changed.
    pub settings: BucketSettings,
    /// Names this life of the bucket: one that is created again has another.
    pub(super) id: String,
}

/// What of a bucket may be changed. The texts are the vendors' documents as they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketSettings {
    /// How it was asked to be encrypted.
    pub encryption: Option<Encryption>,
    /// Who may do what, a JSON document.
    pub policy: Option<String>,
    /// Where accesses are to be logged, a JSON document.
    pub logging: Option<String>,
    /// The project that made it; `None`: made before projects had buckets, or by the machine's own pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The group that it belongs to.
    pub resource_group: Option<String>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// How data at rest is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// By whatever stores it, with its own key.
    Aes256,
    /// With a key of a key service.
    Kms {
        /// Names the key.
        key: String,
    },
}

/// An index that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its bucket.
    pub bucket: BucketName,
    /// Its name in the bucket.
    pub name: IndexName,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: u64,
    /// What it is made for.
    pub shape: Shape,
    /// What may be changed.
    pub settings: IndexSettings,
    /// Where its vectors lie.
    pub(super) folder: Name,
}

/// What of an index may be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexSettings {
    /// How it was asked to be encrypted, if otherwise than its bucket.
    pub encryption: Option<Encryption>,
    /// Fields that are searched by words.
    pub texts: Vec<TextField>,
    /// The metadata field that holds the second, since 1970, at which a row ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_live: Option<String>,
    /// What a row holds besides one vector, a vendor's document; what the rows are, its dialect says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fusion: Option<String>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

impl IndexSettings {
    /// Whether an index of this shape can have them.
    pub(super) fn check(&self, shape: &Shape) -> Result<()> {
        TextField::check(&self.texts)?;
        let Some(field) = &self.time_to_live else { return Ok(()) };
        let why = match field.len() {
            1..=63 if shape.not_filterable.contains(field) => format!("{field:?} is not filterable"),
            1..=63 => return Ok(()),
            bytes => format!("the name of the field has {bytes} bytes, 1 to 63 allowed"),
        };
        Err(Error::Invalid { field: "time to live", why })
    }
}

/// A document of a chain.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Bucket(Arc<Bucket>),
    /// The bucket is being deleted: unless somebody comes with an index for it, it will be gone.
    BucketLeaving(Arc<Bucket>),
    BucketGone,
    Index(Arc<IndexEntry>),
    /// The index is gone; its folder, until it is empty.
    IndexGone(Name),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    /// Makes every document different from every other.
    nonce: u64,
    is: StoredKind,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum StoredKind {
    Bucket(StoredBucket),
    BucketLeaving(StoredBucket),
    BucketGone,
    Index(StoredIndex),
    IndexGone { folder: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredBucket {
    id: String,
    name: String,
    created_ms: u64,
    settings: BucketSettings,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredIndex {
    bucket: String,
    name: String,
    created_ms: u64,
    folder: String,
    dimension: u32,
    metric: StoredMetric,
    not_filterable: Vec<String>,
    settings: IndexSettings,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredMetric {
    Cosine,
    Euclidean,
}

impl Document {
    pub(super) fn encode(&self, nonce: u64) -> Vec<u8> {
        let is = match self {
            Self::Bucket(bucket) => StoredKind::Bucket(StoredBucket::of(bucket)),
            Self::BucketLeaving(bucket) => StoredKind::BucketLeaving(StoredBucket::of(bucket)),
            Self::BucketGone => StoredKind::BucketGone,
            Self::Index(index) => StoredKind::Index(StoredIndex::of(index)),
            Self::IndexGone(folder) => StoredKind::IndexGone { folder: folder.as_str().to_owned() },
        };
        serde_json::to_vec(&Stored { format: FORMAT, nonce, is }).expect("texts and numbers are JSON")
    }

    pub(super) fn decode(folder: &Name, number: u64, bytes: &[u8]) -> Result<Self> {
        let corrupt = |what| Error::Corrupt { object: format!("{folder}/{number:020}"), what };
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| corrupt("it is no document of a catalogue"))?;
        if stored.format != FORMAT {
            return Err(corrupt("its format is not known"));
        }
        let document = match stored.is {
            StoredKind::Bucket(bucket) => bucket.read().map(|bucket| Self::Bucket(Arc::new(bucket))),
            StoredKind::BucketLeaving(bucket) => bucket.read().map(|bucket| Self::BucketLeaving(Arc::new(bucket))),
            StoredKind::BucketGone => Some(Self::BucketGone),
            StoredKind::Index(index) => index.read().map(|index| Self::Index(Arc::new(index))),
            StoredKind::IndexGone { folder } => Name::parse(&folder).ok().map(Self::IndexGone),
        };
        document.ok_or_else(|| corrupt("a name in it breaks the rules"))
    }
}

impl StoredBucket {
    fn of(bucket: &Bucket) -> Self {
        Self {
            id: bucket.id.clone(),
            name: bucket.name.as_str().to_owned(),
            created_ms: bucket.created_ms,
            settings: bucket.settings.clone(),
        }
    }

    fn read(self) -> Option<Bucket> {
        let name = BucketName::parse(&self.name).ok()?;
        Name::parse(&self.id).ok()?;
        Some(Bucket { name, created_ms: self.created_ms, settings: self.settings, id: self.id })
    }
}

impl StoredIndex {
    fn of(index: &IndexEntry) -> Self {
        Self {
            bucket: index.bucket.as_str().to_owned(),
            name: index.name.as_str().to_owned(),
            created_ms: index.created_ms,
            folder: index.folder.as_str().to_owned(),
            dimension: index.shape.dimension,
            metric: match index.shape.metric {
                Metric::Cosine => StoredMetric::Cosine,
                Metric::Euclidean => StoredMetric::Euclidean,
            },
            not_filterable: index.shape.not_filterable.clone(),
            settings: index.settings.clone(),
        }
    }

    fn read(self) -> Option<IndexEntry> {
        let metric = match self.metric {
            StoredMetric::Cosine => Metric::Cosine,
            StoredMetric::Euclidean => Metric::Euclidean,
        };
        let shape = Shape { dimension: self.dimension, metric, not_filterable: self.not_filterable };
        shape.check().ok()?;
        Some(IndexEntry {
            bucket: BucketName::parse(&self.bucket).ok()?,
            name: IndexName::parse(&self.name).ok()?,
            created_ms: self.created_ms,
            shape,
            settings: self.settings,
            folder: Name::parse(&self.folder).ok()?,
        })
    }
}

/// What a fuzzer feeds.
pub(crate) fn fuzz_document(bytes: &[u8]) {
    let folder = Name::parse("catalogue/buckets/fuzz").expect("a good name");
    // Foreign bytes are refused or read; they never panic.
    let _ = Document::decode(&folder, 1, bytes);
}
