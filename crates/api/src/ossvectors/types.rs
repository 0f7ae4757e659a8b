//! Wire forms of the bodies, as the vendor's client sends them.

use serde::Deserialize;
use serde_json::Value;

use crate::buckets::wire::{DataFormat, WireData, WireVector};

/// Every body that names an index, with what each operation takes besides.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IndexRequest {
    pub(super) index_name: Option<String>,
    pub(super) data_type: Option<String>,
    pub(super) dimension: Option<i64>,
    pub(super) distance_metric: Option<String>,
    pub(super) metadata: Option<IndexMetadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IndexMetadata {
    pub(super) non_filterable_metadata_keys: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListIndexes {
    pub(super) max_results: Option<i64>,
    pub(super) next_token: Option<String>,
    pub(super) prefix: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PutVectors {
    pub(super) index_name: Option<String>,
    pub(super) vectors: Vec<WireVector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct KeysRequest {
    pub(super) index_name: Option<String>,
    pub(super) keys: Vec<String>,
    pub(super) return_data: bool,
    pub(super) return_metadata: bool,
    pub(super) data_format: DataFormat,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListVectors {
    pub(super) index_name: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) next_token: Option<String>,
    pub(super) return_data: bool,
    pub(super) return_metadata: bool,
    pub(super) segment_count: Option<i64>,
    pub(super) segment_index: Option<i64>,
    pub(super) data_format: DataFormat,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct QueryVectors {
    pub(super) index_name: Option<String>,
    pub(super) filter: Option<Value>,
    pub(super) query_vector: Option<WireData>,
    pub(super) return_distance: bool,
    pub(super) return_metadata: bool,
    pub(super) top_k: Option<i64>,
}
