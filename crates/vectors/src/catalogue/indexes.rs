//! Indexes: create, read, change, delete, list, open.

use std::pin::pin;
use std::sync::{Arc, PoisonError};

use base::Rng;
use futures::TryStreamExt as _;
use store::Name;

use super::document::{Bucket, Document, IndexEntry, IndexSettings};
use super::names::{BucketName, IndexName};
use super::pool::Opened;
use super::{BUCKETS_MAX, Catalogue, INDEXES_MAX, Listing, RACES_MAX, REMEMBERED_MAX, Select, chain, contended, place};
use crate::index::{Effort, Index};
use crate::types::Shape;
use crate::{Error, Result};

const FOLDER: &str = "catalogue/indexes";
/// How many buckets and indexes a start gets to know: fewer than are remembered.
const AHEAD_MAX: usize = REMEMBERED_MAX / 2;

fn chain_of(bucket: &Bucket, name: &IndexName) -> Result<Name> {
    place(&[FOLDER, &bucket.id, name.as_str()])
}

fn not_found(name: &IndexName) -> Error {
    Error::NotFound { what: format!("index {name}") }
}

fn alive(document: Option<&Document>) -> Option<&Arc<IndexEntry>> {
    match document {
        Some(Document::Index(index)) => Some(index),
        _ => None,
    }
}

/// A bucket and an index of it as this process remembers them.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// The bucket.
    pub bucket: Arc<Bucket>,
    /// The index.
    pub index: Arc<IndexEntry>,
    /// Their chains, and the numbers of the documents.
    chains: [(u64, Name); 2],
}

impl Catalogue {
    /// Creates an empty index in a bucket.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one of that name; [`Error::NotFound`] if the bucket is gone; [`Error::Quota`]
    /// if it has too many; a bad shape; errors of the store.
    pub async fn create_index(
        &self,
        bucket: &Bucket,
        name: &IndexName,
        shape: Shape,
        settings: IndexSettings,
    ) -> Result<Arc<IndexEntry>> {
        shape.check()?;
        settings.check(&shape)?;
        let chain = chain_of(bucket, name)?;
        if alive(self.read(&chain).await?.document.as_ref()).is_some() {
            return Err(Error::Conflict { what: format!("index {name}"), why: "exists already" });
        }
        if self.no_more_indexes(bucket).await? {
            return Err(Error::Quota { what: "indexes of a vector bucket", limit: INDEXES_MAX as u64 });
        }
        let folder = place(&["data", &self.draw_id()])?;
        Index::create(&self.store, &folder, &shape).await?;
        let created_ms = self.clock.now_ms();
        let (bucket_name, name) = (bucket.name.clone(), name.clone());
        let index = IndexEntry { bucket: bucket_name, name, created_ms, shape, settings, folder };
        let index = Arc::new(index);
        let entered = self.enter(bucket, &chain, &index).await;
        if entered.is_err() {
            // An index that nobody can name is only in the way.
            let _ = chain::remove_all(self.store.as_ref(), &index.folder).await;
        }
        entered.map(|()| index)
    }

    /// Names that were used before count in the first listing only.
    async fn no_more_indexes(&self, bucket: &Bucket) -> Result<bool> {
        let names = chain::names(self.store.as_ref(), &place(&[FOLDER, &bucket.id])?).await?;
        let all = Select { prefix: "", after: "", limit: INDEXES_MAX };
        Ok(names.len() >= INDEXES_MAX && self.list_indexes(bucket, all).await?.found.len() >= INDEXES_MAX)
    }

    async fn enter(&self, bucket: &Bucket, chain: &Name, index: &Arc<IndexEntry>) -> Result<()> {
        for _ in 0..RACES_MAX {
            let seen = self.read(chain).await?;
            if alive(seen.document.as_ref()).is_some() {
                return Err(Error::Conflict { what: format!("index {}", index.name), why: "exists already" });
            }
            if !self.append(chain, &seen, Document::Index(Arc::clone(index))).await? {
                continue;
            }
            if self.keep_bucket(bucket).await? {
                return Ok(());
            }
            let seen = self.read(chain).await?;
            self.append(chain, &seen, Document::IndexGone(index.folder.clone())).await?;
            return Err(Error::NotFound { what: format!("vector bucket {}", bucket.name) });
        }
        Err(contended("create an index"))
    }

    /// An index of a bucket.
    ///
    /// # Errors
    /// [`Error::NotFound`]; errors of the store.
    pub async fn index(&self, bucket: &Bucket, name: &IndexName) -> Result<Arc<IndexEntry>> {
        let seen = self.look(&chain_of(bucket, name)?).await?;
        alive(seen.document.as_ref()).cloned().ok_or_else(|| not_found(name))
    }

    /// Looks at a bucket and an index of it side by side, as far as they are known: [`Self::bucket`] and
    /// [`Self::index`] then need not ask the store one after the other. What cannot be read now is read by them.
    pub async fn look_ahead(&self, bucket: &BucketName, name: &IndexName) {
        let Ok(bucket_chain) = super::buckets::chain_of(bucket) else { return };
        let Some(known) = self.known_bucket(&bucket_chain) else { return };
        let Ok(index_chain) = chain_of(&known, name) else { return };
        let _ = futures::join!(self.look(&bucket_chain), self.look(&index_chain));
    }

    /// A bucket and an index of it as this process remembers them, however long ago it looked.
    #[must_use]
    pub fn remembered(&self, bucket: &BucketName, name: &IndexName) -> Option<Remembered> {
        let chain = super::buckets::chain_of(bucket).ok()?;
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let number_of = |chain: &Name| all.get(chain).map(|seen| seen.number);
        let bucket = Arc::clone(super::buckets::alive(all.get(&chain)?.document.as_ref())?);
        let index_chain = chain_of(&bucket, name).ok()?;
        let index = Arc::clone(alive(all.get(&index_chain)?.document.as_ref())?);
        let chains = [(number_of(&chain)?, chain), (number_of(&index_chain)?, index_chain)];
        Some(Remembered { bucket, index, chains })
    }

    /// Whether what was remembered still holds: one round trip to the store, and none if somebody looked within
    /// [`FRESH_US`](super::FRESH_US). `false` also if the store does not say.
    pub async fn still_holds(&self, known: &Remembered) -> bool {
        let [(bucket_number, bucket), (index_number, index)] = &known.chains;
        let (bucket, index) = futures::join!(self.look(bucket), self.look(index));
        bucket.is_ok_and(|seen| seen.number == *bucket_number) && index.is_ok_and(|seen| seen.number == *index_number)
    }

    fn known_bucket(&self, chain: &Name) -> Option<Arc<Bucket>> {
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        super::buckets::alive(all.get(chain)?.document.as_ref()).cloned()
    }

    /// Gets to know the buckets and indexes before anybody asks for them, 8,192 of them, and opens indexes in the
    /// order of their names until as many are open as are kept or the next does not fit into `rows_max` rows together.
    /// Returns how many are open.
    ///
    /// # Errors
    /// Errors of the store, and [`Error::Corrupt`]: whoever asks for such an index is told.
    pub async fn open_ahead(&self, rows_max: u64) -> Result<usize> {
        let (mut rows, mut opened, mut known) = (0, 0, 0);
        let all = Select { prefix: "", after: "", limit: BUCKETS_MAX };
        for bucket in self.list_buckets(all).await?.found {
            if known >= AHEAD_MAX {
                break;
            }
            let some = Select { prefix: "", after: "", limit: AHEAD_MAX - known };
            let entries = self.list_indexes(&bucket, some).await?.found;
            known += entries.len() + 1;
            for entry in entries {
                if opened < self.pool.open_max() && rows < rows_max {
                    let index = self.open(&entry).await?;
                    rows += index.stats().rows;
                    opened += 1;
                }
            }
        }
        Ok(opened)
    }

    /// Changes the settings of an index. `change` is called again if another process was faster.
    ///
    /// # Errors
    /// [`Error::NotFound`]; what `change` answers; errors of the store.
    pub async fn update_index(
        &self,
        bucket: &Bucket,
        name: &IndexName,
        change: impl Fn(&mut IndexSettings) -> Result<()>,
    ) -> Result<()> {
        let chain = chain_of(bucket, name)?;
        for _ in 0..RACES_MAX {
            let seen = self.read(&chain).await?;
            let index = alive(seen.document.as_ref()).ok_or_else(|| not_found(name))?;
            let mut changed = IndexEntry::clone(index);
            change(&mut changed.settings)?;
            changed.settings.check(&changed.shape)?;
            let changed = Arc::new(changed);
            if changed.settings == index.settings {
                return Ok(());
            }
            if self.append(&chain, &seen, Document::Index(Arc::clone(&changed))).await? {
                if !changed.settings.texts.is_empty() {
                    // Opened, it knows its fields; closed, it wakes whoever collects the words of what is there.
                    drop(self.open(&changed).await?);
                }
                return Ok(());
            }
        }
        Err(contended("change an index"))
    }

    /// Deletes an index with everything in it. Requests to it that have begun come to their end first.
    ///
    /// # Errors
    /// [`Error::NotFound`]; errors of the store. After an error the index may be gone while some of its objects are
    /// still there; [`Catalogue::sweep`] removes them.
    pub async fn delete_index(&self, bucket: &Bucket, name: &IndexName) -> Result<()> {
        let chain = chain_of(bucket, name)?;
        for _ in 0..RACES_MAX {
            let seen = self.read(&chain).await?;
            let index = Arc::clone(alive(seen.document.as_ref()).ok_or_else(|| not_found(name))?);
            if self.append(&chain, &seen, Document::IndexGone(index.folder.clone())).await? {
                self.pool.close(&index.folder).await;
                return chain::remove_all(self.store.as_ref(), &index.folder).await;
            }
        }
        Err(contended("delete an index"))
    }

    /// Indexes of a bucket in the order of their names.
    ///
    /// Cost: a listing of all indexes of the bucket and a read for each of the page.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn list_indexes(&self, bucket: &Bucket, select: Select<'_>) -> Result<Listing<Arc<IndexEntry>>> {
        let folder = place(&[FOLDER, &bucket.id])?;
        let mut found = Vec::new();
        let names = self.names(&folder, select).await?;
        let mut all = pin!(self.look_at_all(&folder, &names));
        while let Some(seen) = all.try_next().await? {
            let Some(index) = alive(seen.document.as_ref()) else { continue };
            if found.len() == select.limit {
                return Ok(Listing { found, more: true });
            }
            found.push(Arc::clone(index));
        }
        Ok(Listing { found, more: false })
    }

    /// Opens an index, or takes the one that is open.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it was deleted meanwhile; errors of the store; [`Error::Corrupt`] names a damaged object.
    pub async fn open(&self, index: &IndexEntry) -> Result<Opened> {
        let mut rng = Rng::seeded(self.draw());
        let opened = self.pool.open(&index.folder, &mut rng).await?;
        let opened = opened.ok_or_else(|| not_found(&index.name))?;
        opened.set_text_fields(&index.settings.texts);
        opened.set_time_to_live(index.settings.time_to_live.as_deref(), &self.clock);
        Ok(opened)
    }

    /// [`Index::looks_at_bytes`], if the index is open.
    #[must_use]
    pub fn looks_at_bytes(&self, index: &IndexEntry, effort: Effort) -> Option<u64> {
        Some(self.pool.opened(&index.folder)?.looks_at_bytes(effort))
    }

    /// Reads every byte of an index, which need not be one that can be opened, and names what is damaged.
    ///
    /// # Errors
    /// Those of [`crate::verify`].
    pub async fn verify(&self, index: &IndexEntry) -> Result<crate::Verified> {
        crate::verify(&self.store, &index.folder).await
    }

    /// Compacts open indexes whenever one is due. Never returns; dropping the future is harmless.
    ///
    /// Run it where computing for seconds disturbs nobody: not on a thread that serves requests.
    pub async fn keep_compacted(&self, failed: impl Fn(&Name, &Error)) {
        self.pool.keep_compacted(failed).await;
    }

    /// Compacts and tidies open indexes that were not written to since the last call: rows in memory become a segment,
    /// segments of one size one, and what they were made of goes.
    pub async fn compact_resting(&self, failed: impl Fn(&Name, &Error)) {
        self.pool.compact_resting(failed).await;
    }

    /// Removes what deletions that were cut short left behind, and returns how many indexes that were.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn sweep(&self) -> Result<u64> {
        let folder = place(&[FOLDER])?;
        let mut swept = 0;
        for bucket in chain::names(self.store.as_ref(), &folder).await? {
            swept += self.sweep_bucket(&place(&[folder.as_str(), &bucket])?).await?;
        }
        Ok(swept)
    }

    async fn sweep_bucket(&self, folder: &Name) -> Result<u64> {
        let mut swept = 0;
        for index in chain::names(self.store.as_ref(), folder).await? {
            let seen = self.read(&place(&[folder.as_str(), &index])?).await?;
            let Some(Document::IndexGone(gone)) = &seen.document else { continue };
            let left = self.store.list_after(gone, None, 1).await.map_err(crate::error::tried("list objects"))?;
            if !left.is_empty() {
                chain::remove_all(self.store.as_ref(), gone).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Removes the last traces of a bucket's indexes; the bucket is gone, so nobody looks for them.
    pub(super) async fn forget_indexes(&self, bucket: &Bucket) -> Result<()> {
        let folder = place(&[FOLDER, &bucket.id])?;
        self.sweep_bucket(&folder).await?;
        chain::remove_all(self.store.as_ref(), &folder).await
    }
}
