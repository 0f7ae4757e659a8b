//! Wire forms, as botocore's model has them. Every field may be missing; `from_wire` says what must be there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::buckets::wire::{DataFormat, WireData, WireRow, WireVector};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CreateVectorBucket {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) encryption_configuration: Option<EncryptionConfiguration>,
    pub(super) tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EncryptionConfiguration {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sse_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kms_key_arn: Option<String>,
}

/// Names a bucket, and whatever an operation on a bucket takes besides.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BucketRequest {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) vector_bucket_arn: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) default_index_mode: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListRequest {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) vector_bucket_arn: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) next_token: Option<String>,
    pub(super) prefix: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CreateIndex {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) vector_bucket_arn: Option<String>,
    pub(super) index_name: Option<String>,
    pub(super) data_type: Option<String>,
    pub(super) dimension: Option<i64>,
    pub(super) distance_metric: Option<String>,
    pub(super) metadata_configuration: Option<MetadataConfiguration>,
    pub(super) encryption_configuration: Option<EncryptionConfiguration>,
    pub(super) tags: Option<BTreeMap<String, String>>,
    pub(super) time_to_live: Option<TimeToLive>,
}

/// Ours: rows end at the second that this field of theirs holds.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TimeToLive {
    pub(super) metadata_key: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MetadataConfiguration {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) non_filterable_metadata_keys: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text_search_configurations: Option<Vec<TextSearchConfiguration>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TextSearchConfiguration {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MetadataChange {
    pub(super) text_search_configurations: Option<Vec<TextSearchConfiguration>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct QueryText {
    pub(super) text: Option<String>,
    pub(super) metadata_key: Option<String>,
}

/// Names an index, and whatever an operation on an index takes besides.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IndexRequest {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) index_name: Option<String>,
    pub(super) index_arn: Option<String>,
    pub(super) index_mode: Option<String>,
    pub(super) add: Option<MetadataChange>,
    pub(super) delete: Option<MetadataChange>,
    pub(super) time_to_live: Option<TimeToLive>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PutVectors {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) index_name: Option<String>,
    pub(super) index_arn: Option<String>,
    pub(super) vectors: Option<Vec<WireVector>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct KeysRequest {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) index_name: Option<String>,
    pub(super) index_arn: Option<String>,
    pub(super) keys: Option<Vec<String>>,
    pub(super) return_data: Option<bool>,
    pub(super) return_metadata: Option<bool>,
    pub(super) data_format: DataFormat,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListVectors {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) index_name: Option<String>,
    pub(super) index_arn: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) next_token: Option<String>,
    pub(super) segment_count: Option<i64>,
    pub(super) segment_index: Option<i64>,
    pub(super) return_data: Option<bool>,
    pub(super) return_metadata: Option<bool>,
    pub(super) data_format: DataFormat,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct QueryVectors {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) index_name: Option<String>,
    pub(super) index_arn: Option<String>,
    pub(super) top_k: Option<i64>,
    pub(super) query_vector: Option<WireData>,
    pub(super) filter: Option<Value>,
    pub(super) query_mode: Option<String>,
    pub(super) return_metadata: Option<bool>,
    pub(super) return_distance: Option<bool>,
    pub(super) query_texts: Option<Vec<QueryText>>,
    pub(super) return_scores: Option<bool>,
    pub(super) next_token: Option<String>,
    /// Ours: how hard to look, in percent.
    pub(super) effort: Option<i64>,
}

/// Ours.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct SubscribeVectors {
    pub(super) vector_bucket_name: Option<String>,
    pub(super) index_name: Option<String>,
    pub(super) index_arn: Option<String>,
    pub(super) filter: Option<Value>,
    pub(super) query_vector: Option<WireData>,
    pub(super) max_distance: Option<f32>,
    pub(super) cursor: Option<String>,
    pub(super) counters: Option<bool>,
    pub(super) return_metadata: Option<bool>,
    pub(super) return_data: Option<bool>,
    pub(super) data_format: DataFormat,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Tags {
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BucketOutput {
    pub(super) vector_bucket_name: String,
    pub(super) vector_bucket_arn: String,
    pub(super) creation_time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encryption_configuration: Option<EncryptionConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_index_mode: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexOutput {
    pub(super) vector_bucket_name: String,
    pub(super) index_name: String,
    pub(super) index_arn: String,
    pub(super) creation_time: f64,
    #[serde(flatten)]
    pub(super) details: Option<IndexDetails>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexDetails {
    pub(super) data_type: &'static str,
    pub(super) dimension: u32,
    pub(super) distance_metric: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata_configuration: Option<MetadataConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encryption_configuration: Option<EncryptionConfiguration>,
    pub(super) index_mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time_to_live: Option<TimeToLive>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RowsOutput {
    pub(super) vectors: Vec<WireRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueryOutput {
    pub(super) vectors: Vec<FoundRow>,
    pub(super) distance_metric: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct FoundRow {
    pub(super) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) distance: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scores: Option<QueryScores>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueryScores {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fused: Option<f32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) bm25_scores: Vec<Bm25Score>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vector_distance: Option<f32>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bm25Score {
    pub(super) metadata_key: String,
    pub(super) score: f32,
}
