//! What the catalogue and the engine answer, as the vendor writes it.

use vectors::{Bucket, Encryption, IndexEntry, Match, Metric, Opened};

use super::resource::{bucket_arn, index_arn};
use super::texts;
use super::types::TimeToLive;
use super::types::{BucketOutput, EncryptionConfiguration, FoundRow, IndexDetails, IndexOutput, MetadataConfiguration};
use crate::buckets::Identity;

/// Every index filters before it searches.
pub(super) const MODE: &str = "ENHANCED";

/// Seconds since 1970, to the millisecond.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

fn encryption(encryption: Option<&Encryption>) -> Option<EncryptionConfiguration> {
    encryption.map(|encryption| match encryption {
        Encryption::Aes256 => EncryptionConfiguration { sse_type: Some("AES256".to_owned()), kms_key_arn: None },
        Encryption::Kms { key } => {
            EncryptionConfiguration { sse_type: Some("aws:kms".to_owned()), kms_key_arn: Some(key.clone()) }
        }
    })
}

/// A bucket, in full.
pub(super) fn bucket(identity: &Identity, bucket: &Bucket) -> BucketOutput {
    BucketOutput {
        encryption_configuration: encryption(bucket.settings.encryption.as_ref()),
        default_index_mode: Some(MODE),
        ..bucket_summary(identity, bucket)
    }
}

pub(super) fn bucket_summary(identity: &Identity, bucket: &Bucket) -> BucketOutput {
    BucketOutput {
        vector_bucket_name: bucket.name.to_string(),
        vector_bucket_arn: bucket_arn(identity, &bucket.name),
        creation_time: seconds(bucket.created_ms),
        encryption_configuration: None,
        default_index_mode: None,
    }
}

pub(super) fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::Euclidean => "euclidean",
    }
}

/// An index, in full.
pub(super) fn index(
    identity: &Identity,
    in_bucket: &Bucket,
    entry: &IndexEntry,
    opened: Option<&Opened>,
) -> IndexOutput {
    let keys = &entry.shape.not_filterable;
    let texts = texts::configurations(&entry.settings.texts, opened);
    let is_configured = !keys.is_empty() || texts.is_some();
    let configuration =
        MetadataConfiguration { non_filterable_metadata_keys: Some(keys.clone()), text_search_configurations: texts };
    let own = entry.settings.encryption.as_ref();
    IndexOutput {
        details: Some(IndexDetails {
            data_type: "float32",
            dimension: entry.shape.dimension,
            distance_metric: metric(entry.shape.metric),
            metadata_configuration: is_configured.then_some(configuration),
            encryption_configuration: encryption(own.or(in_bucket.settings.encryption.as_ref())),
            index_mode: MODE,
            time_to_live: entry.settings.time_to_live.clone().map(|metadata_key| TimeToLive { metadata_key }),
        }),
        ..index_summary(identity, entry)
    }
}

pub(super) fn index_summary(identity: &Identity, entry: &IndexEntry) -> IndexOutput {
    IndexOutput {
        vector_bucket_name: entry.bucket.to_string(),
        index_name: entry.name.to_string(),
        index_arn: index_arn(identity, &entry.bucket, &entry.name),
        creation_time: seconds(entry.created_ms),
        details: None,
    }
}

/// A row that was found.
pub(super) fn found(row: &Match, with_distance: bool, with_metadata: bool) -> FoundRow {
    FoundRow {
        key: row.key.as_str().to_owned(),
        distance: with_distance.then_some(row.distance),
        metadata: row.metadata.as_ref().filter(|_| with_metadata).map(vectors::Metadata::to_json),
        scores: None,
    }
}
