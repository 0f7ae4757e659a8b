//! Buckets: create, read, change, delete, list.

use std::pin::pin;
use std::sync::Arc;

use futures::TryStreamExt as _;
use store::Name;

use super::document::{Bucket, BucketSettings, Document};
use super::names::BucketName;
use super::{BUCKETS_MAX, Catalogue, Listing, RACES_MAX, Seen, Select, chain, contended, place};
use crate::{Error, Result};

const FOLDER: &str = "catalogue/buckets";

pub(super) fn chain_of(name: &BucketName) -> Result<Name> {
    place(&[FOLDER, name.as_str()])
}

fn not_found(name: &BucketName) -> Error {
    Error::NotFound { what: format!("vector bucket {name}") }
}

/// The bucket that a document is about, if it still exists.
pub(super) fn alive(document: Option<&Document>) -> Option<&Arc<Bucket>> {
    match document {
        Some(Document::Bucket(bucket) | Document::BucketLeaving(bucket)) => Some(bucket),
        _ => None,
    }
}

impl Catalogue {
    /// Creates a bucket.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one of that name; [`Error::Quota`] if there are too many; errors of the store.
    pub async fn create_bucket(&self, name: &BucketName, settings: BucketSettings) -> Result<Arc<Bucket>> {
        let folder = chain_of(name)?;
        let created_ms = self.clock.now_ms();
        let bucket = Arc::new(Bucket { name: name.clone(), created_ms, settings, id: self.draw_id() });
        if self.no_more_buckets().await? {
            return Err(Error::Quota { what: "vector buckets", limit: BUCKETS_MAX as u64 });
        }
        for _ in 0..RACES_MAX {
            let seen = self.read(&folder).await?;
            if alive(seen.document.as_ref()).is_some() {
                return Err(Error::Conflict { what: format!("vector bucket {name}"), why: "exists already" });
            }
            if self.append(&folder, &seen, Document::Bucket(Arc::clone(&bucket))).await? {
                return Ok(bucket);
            }
        }
        Err(contended("create a bucket"))
    }

    /// Names that were used before count in the first listing only.
    async fn no_more_buckets(&self) -> Result<bool> {
        let names = chain::names(self.store.as_ref(), &place(&[FOLDER])?).await?;
        let all = Select { prefix: "", after: "", limit: BUCKETS_MAX };
        Ok(names.len() >= BUCKETS_MAX && self.list_buckets(all).await?.found.len() >= BUCKETS_MAX)
    }

    /// A bucket.
    ///
    /// # Errors
    /// [`Error::NotFound`]; errors of the store.
    pub async fn bucket(&self, name: &BucketName) -> Result<Arc<Bucket>> {
        let seen = self.look(&chain_of(name)?).await?;
        alive(seen.document.as_ref()).cloned().ok_or_else(|| not_found(name))
    }

    /// Changes the settings of a bucket. `change` is called again if another process was faster.
    ///
    /// # Errors
    /// [`Error::NotFound`]; what `change` answers; errors of the store.
    pub async fn update_bucket(
        &self,
        name: &BucketName,
        change: impl Fn(&mut BucketSettings) -> Result<()>,
    ) -> Result<()> {
        let folder = chain_of(name)?;
        for _ in 0..RACES_MAX {
            let seen = self.read(&folder).await?;
            let bucket = alive(seen.document.as_ref()).ok_or_else(|| not_found(name))?;
            let mut changed = Bucket::clone(bucket);
            change(&mut changed.settings)?;
            if changed.settings == bucket.settings
                || self.append(&folder, &seen, Document::Bucket(Arc::new(changed))).await?
            {
                return Ok(());
            }
        }
        Err(contended("change a bucket"))
    }

    /// Deletes a bucket that holds no index.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] if it holds an index; errors of the store.
    pub async fn delete_bucket(&self, name: &BucketName) -> Result<()> {
        let folder = chain_of(name)?;
        for _ in 0..RACES_MAX {
            let seen = self.read(&folder).await?;
            let bucket = Arc::clone(alive(seen.document.as_ref()).ok_or_else(|| not_found(name))?);
            if !self.append(&folder, &seen, Document::BucketLeaving(Arc::clone(&bucket))).await? {
                continue;
            }
            let leaving = Seen { number: seen.number + 1, ..seen };
            let everything = Select { prefix: "", after: "", limit: 1 };
            let is_empty = self.list_indexes(&bucket, everything).await?.found.is_empty();
            let next = if is_empty { Document::BucketGone } else { Document::Bucket(Arc::clone(&bucket)) };
            let written = self.append(&folder, &leaving, next).await?;
            if !is_empty {
                return Err(Error::Conflict { what: format!("vector bucket {name}"), why: "is not empty" });
            }
            if written {
                return self.forget_indexes(&bucket).await;
            }
        }
        Err(contended("delete a bucket"))
    }

    /// Buckets in the order of their names.
    ///
    /// Cost: a listing of all buckets and a read for each of the page.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn list_buckets(&self, select: Select<'_>) -> Result<Listing<Arc<Bucket>>> {
        let folder = place(&[FOLDER])?;
        let names = self.names(&folder, select).await?;
        let mut found = Vec::new();
        let mut all = pin!(self.look_at_all(&folder, &names));
        while let Some(seen) = all.try_next().await? {
            let Some(bucket) = alive(seen.document.as_ref()) else { continue };
            if found.len() == select.limit {
                return Ok(Listing { found, more: true });
            }
            found.push(Arc::clone(bucket));
        }
        Ok(Listing { found, more: false })
    }

    /// Makes sure that a bucket stays, now that an index has been written to it. `false` if it is gone.
    pub(super) async fn keep_bucket(&self, bucket: &Bucket) -> Result<bool> {
        let folder = chain_of(&bucket.name)?;
        for _ in 0..RACES_MAX {
            let seen = self.read(&folder).await?;
            match &seen.document {
                Some(Document::Bucket(now)) => return Ok(now.id == bucket.id),
                Some(Document::BucketLeaving(now)) if now.id == bucket.id => {
                    let stays = Document::Bucket(Arc::clone(now));
                    if self.append(&folder, &seen, stays).await? {
                        return Ok(true);
                    }
                }
                _ => return Ok(false),
            }
        }
        Err(contended("keep a bucket"))
    }
}
