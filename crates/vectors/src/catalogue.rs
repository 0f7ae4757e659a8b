//! Which buckets and indexes there are, and the indexes that are open.
//!
//! A bucket or an index is a chain of numbered documents (`chain`): the one with the greatest number counts, and
//! create-if-absent decides who writes the next. Deleting writes a document that says so; a name that comes back goes
//! on in its old chain, with another folder for its data. So no document ever needs to be replaced, and any number of
//! processes may share one store.
//!
//! ```text
//! catalogue/buckets/<bucket>/<number>                 a bucket: settings, or that it is gone
//! catalogue/indexes/<bucket's id>/<index>/<number>    an index: shape, settings, folder, or that it is gone
//! data/<id>/...                                       an index (`format.md`)
//! ```
//! **A bucket that holds indexes is not deleted.** Whoever deletes first marks the bucket, then looks for indexes;
//! whoever creates an index first writes it, then looks at the bucket. One of them sees the other.
//!
//! **How fresh reads are.** What this process changed it sees at once. What other processes changed it sees within
//! [`FRESH_US`]: names and policies are looked up for every request, and two listings a request would cost more than
//! the search. Vectors themselves are always read consistently.

mod buckets;
mod chain;
mod document;
mod indexes;
mod names;
mod pool;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base::{Clock, Rng};
use futures::stream::{self, Stream, StreamExt as _};
use store::{Name, Store};

pub(crate) use document::fuzz_document;
pub use document::{Bucket, BucketSettings, Encryption, IndexEntry, IndexSettings};
pub use indexes::Remembered;
pub use names::{BucketName, IndexName};
pub use pool::Opened;

use crate::index::Config;
use crate::{Error, Result};
use document::Document;
use pool::Pool;

/// Buckets of one store; the default quota of Amazon S3 Vectors.
pub const BUCKETS_MAX: usize = 10_000;
/// Indexes of one bucket; the default quota of Amazon S3 Vectors.
pub const INDEXES_MAX: usize = 10_000;
/// What another process changed is seen after so long.
pub const FRESH_US: u64 = 1_000_000;
/// How many buckets and indexes are remembered between requests.
const REMEMBERED_MAX: usize = 16_384;
/// How many documents a listing reads side by side.
const LOOKS_MAX: usize = 16;
/// How often a change begins again because another process was faster.
const RACES_MAX: u32 = 32;

/// The buckets and indexes of a store.
pub struct Catalogue {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rng: Mutex<Rng>,
    seen: Mutex<HashMap<Name, Seen>>,
    pool: Pool,
}

/// What a page of a listing holds.
#[derive(Debug, Clone)]
pub struct Listing<T> {
    /// In the order of their names.
    pub found: Vec<T>,
    /// Whether there are more behind the last.
    pub more: bool,
}

/// Which names are listed.
#[derive(Debug, Clone, Copy)]
pub struct Select<'a> {
    /// Names that begin so.
    pub prefix: &'a str,
    /// Names that are greater.
    pub after: &'a str,
    /// So many.
    pub limit: usize,
}

/// The newest document of a chain, as far as this process knows.
#[derive(Debug, Clone)]
struct Seen {
    read_us: u64,
    /// 0 if the chain is empty.
    number: u64,
    document: Option<Document>,
}

impl Catalogue {
    /// The catalogue of a store. `seed` names what is created here; two processes must not be given the same.
    /// `open_max` indexes are kept open between requests.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, config: Config, open_max: usize, seed: u64) -> Self {
        let pool = Pool::new(Arc::clone(&store), config, open_max);
        Self { store, clock, rng: Mutex::new(Rng::seeded(seed)), seen: Mutex::default(), pool }
    }

    /// Limits that apply to what is written.
    #[must_use]
    pub fn config(&self) -> Config {
        self.pool.config()
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn draw(&self) -> u64 {
        // A panic between two draws leaves a generator that is still good.
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    fn draw_id(&self) -> String {
        format!("{:016x}{:016x}", self.draw(), self.draw())
    }

    /// The newest document of a chain: what is remembered, if it is fresh enough.
    async fn look(&self, folder: &Name) -> Result<Seen> {
        let now_us = self.clock.monotonic_us();
        let remembered = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(folder).cloned();
        match remembered {
            Some(seen) if now_us.saturating_sub(seen.read_us) < FRESH_US => Ok(seen),
            Some(seen) if seen.number > 0 && chain::is_newest(self.store.as_ref(), folder, seen.number).await? => {
                Ok(self.remember(folder, Seen { read_us: now_us, ..seen }))
            }
            _ => self.read(folder).await,
        }
    }

    /// The newest documents of chains of a folder, in their order, some looked at side by side.
    fn look_at_all<'a>(&'a self, folder: &'a Name, names: &'a [String]) -> impl Stream<Item = Result<Seen>> {
        let look = move |name: &'a String| async move { self.look(&place(&[folder.as_str(), name])?).await };
        stream::iter(names).map(look).buffered(LOOKS_MAX)
    }

    /// The newest document of a chain, from the store.
    async fn read(&self, folder: &Name) -> Result<Seen> {
        let read_us = self.clock.monotonic_us();
        let newest = chain::newest(self.store.as_ref(), folder).await?;
        let seen = match newest {
            Some((number, bytes)) => {
                Seen { read_us, number, document: Some(Document::decode(folder, number, &bytes)?) }
            }
            None => Seen { read_us, number: 0, document: None },
        };
        Ok(self.remember(folder, seen))
    }

    /// Keeps the newer of what was known and what was seen: numbers only grow.
    fn remember(&self, folder: &Name, seen: Seen) -> Seen {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED_MAX {
            all.clear();
        }
        match all.get(folder) {
            Some(known) if known.number > seen.number => known.clone(),
            _ => {
                all.insert(folder.clone(), seen.clone());
                seen
            }
        }
    }

    /// Makes `document` the next of the chain. `false` if another came first.
    async fn append(&self, folder: &Name, after: &Seen, document: Document) -> Result<bool> {
        let number = after.number + 1;
        let bytes = document.encode(self.draw());
        if !chain::append(self.store.as_ref(), folder, number, bytes.into()).await? {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(folder);
            return Ok(false);
        }
        let read_us = self.clock.monotonic_us();
        self.remember(folder, Seen { read_us, number, document: Some(document) });
        Ok(true)
    }

    /// The names of the chains below a folder that fit, in order.
    async fn names(&self, folder: &Name, select: Select<'_>) -> Result<Vec<String>> {
        let mut names = chain::names(self.store.as_ref(), folder).await?;
        names.retain(|name| name.starts_with(select.prefix) && name.as_str() > select.after);
        names.sort_unstable();
        Ok(names)
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Catalogue").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A name inside the catalogue; its parts have been checked.
fn place(parts: &[&str]) -> Result<Name> {
    Name::parse(&parts.join("/")).map_err(crate::error::tried("name an object"))
}

fn contended(action: &'static str) -> Error {
    Error::Contended { action, tries: RACES_MAX }
}

#[cfg(test)]
mod tests;
