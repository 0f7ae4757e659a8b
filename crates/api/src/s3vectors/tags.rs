//! Tags of buckets and indexes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use serde_json::{Value, json};
use vectors::{Bucket, BucketSettings, IndexEntry, IndexSettings};

use super::call::Call;
use super::error::Failure;
use super::from_wire;
use super::resource::{self, Resource};
use super::types::Tags;
use crate::signature::decoded_pairs;

type Answer = Result<Json<Value>, Failure>;
type Labels = BTreeMap<String, String>;

/// What tags hang on.
struct Tagged {
    bucket: Arc<Bucket>,
    index: Option<Arc<IndexEntry>>,
}

impl Tagged {
    async fn find(call: &Call, arn: &str, operation: &str) -> Result<Self, Failure> {
        let Resource { bucket, index } = resource::parse(&call.buckets.identity, "/resourceArn", arn)?;
        match index {
            Some(index) => {
                let (bucket, index) = call.index(&bucket, &index, &[operation]).await?;
                Ok(Self { bucket, index: Some(index) })
            }
            None => Ok(Self { bucket: call.bucket(&bucket, operation).await?, index: None }),
        }
    }

    async fn change(&self, call: &Call, change: impl Fn(&mut Labels) -> vectors::Result<()>) -> Result<(), Failure> {
        let catalogue = &call.buckets.catalogue;
        match &self.index {
            Some(index) => {
                let of_index = |settings: &mut IndexSettings| change(&mut settings.tags);
                catalogue.update_index(&self.bucket, &index.name, of_index).await
            }
            None => {
                let of_bucket = |settings: &mut BucketSettings| change(&mut settings.tags);
                catalogue.update_bucket(&self.bucket.name, of_bucket).await
            }
        }
        .map_err(call.failed())
    }

    fn labels(&self) -> &Labels {
        self.index.as_ref().map_or(&self.bucket.settings.tags, |index| &index.settings.tags)
    }
}

pub(super) async fn list(Path(arn): Path<String>, call: Call) -> Answer {
    let tagged = Tagged::find(&call, &arn, "ListTagsForResource").await?;
    Ok(Json(json!({"tags": tagged.labels()})))
}

pub(super) async fn put(Path(arn): Path<String>, call: Call) -> Answer {
    let wire: Tags = call.json()?;
    let added = from_wire::tags(Some(wire.tags))?;
    let tagged = Tagged::find(&call, &arn, "TagResource").await?;
    let mut all = tagged.labels().clone();
    all.extend(added.clone());
    from_wire::tags(Some(all))?;
    let add = |labels: &mut Labels| {
        labels.extend(added.clone());
        Ok(())
    };
    tagged.change(&call, add).await?;
    Ok(Json(json!({})))
}

pub(super) async fn remove(Path(arn): Path<String>, call: Call) -> Answer {
    let tagged = Tagged::find(&call, &arn, "UntagResource").await?;
    let keys: Vec<String> =
        decoded_pairs(&call.query).filter(|(name, _)| name == "tagKeys").map(|(_, value)| value).collect();
    let take = |labels: &mut Labels| {
        labels.retain(|key, _| !keys.contains(key));
        Ok(())
    };
    tagged.change(&call, take).await?;
    Ok(Json(json!({})))
}
