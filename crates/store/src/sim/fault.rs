use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use base::Rng;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::pause;
use crate::{Entry, Error, Name, Result, Store};

/// How often a [`FaultStore`] fails, and how. Chances are out of 1,000 calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A call takes up to this many turns before and again after it happens.
    pub delay_polls_max: u64,
    /// The call does not happen and answers `Unavailable`.
    pub refused: u64,
    /// A write happens and answers `Unavailable` all the same.
    pub lost_reply: u64,
    /// A write stores only the front part of the bytes and answers `Unavailable`. No store behind [`Store`] may do
    /// that; this shows what an engine does if one does, for example a folder on a file system that loses its journal.
    pub torn: u64,
}

/// A store that delays, refuses, loses replies and tears writes, by a seed, around another store.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    rng: Rng,
    faults: Faults,
    calls: u64,
}

enum Fate {
    Happens,
    Refused,
    LostReply,
    Torn,
}

impl FaultStore {
    /// A faulty view of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, faults: Faults, seed: u64) -> Self {
        Self { inner, shared: Arc::new(Mutex::new(Shared { rng: Rng::seeded(seed), faults, calls: 0 })) }
    }

    /// Changes how often the store fails from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.with(|shared| shared.faults = faults);
    }

    /// How many calls were made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.with(|shared| shared.calls)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn delay(&self) -> impl Future<Output = ()> + Send + use<> {
        let polls = self.with(|shared| shared.rng.below(shared.faults.delay_polls_max + 1));
        pause(polls)
    }

    fn fate(&self, is_write: bool) -> Fate {
        self.with(|shared| {
            shared.calls += 1;
            let Faults { refused, lost_reply, torn, .. } = shared.faults;
            let drawn = shared.rng.below(1000);
            if drawn < refused {
                Fate::Refused
            } else if is_write && drawn < refused + lost_reply {
                Fate::LostReply
            } else if is_write && drawn < refused + lost_reply + torn {
                Fate::Torn
            } else {
                Fate::Happens
            }
        })
    }

    async fn read<T>(&self, name: &Name, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.delay().await;
        let answer = match self.fate(false) {
            Fate::Happens => call.await,
            Fate::Refused | Fate::LostReply | Fate::Torn => Err(unavailable("read", name)),
        };
        self.delay().await;
        answer
    }

    async fn write(&self, name: &Name, bytes: Bytes, replace: bool) -> Result<()> {
        self.delay().await;
        let fate = self.fate(true);
        let kept = match fate {
            Fate::Refused => return Err(unavailable("write", name)),
            Fate::Happens | Fate::LostReply => bytes,
            Fate::Torn => {
                let length = self.with(|shared| shared.rng.below(bytes.len().max(1) as u64));
                bytes.slice(..length as usize)
            }
        };
        let answer = if replace { self.inner.put(name, kept).await } else { self.inner.put_create(name, kept).await };
        self.delay().await;
        match fate {
            Fate::Happens => answer,
            Fate::Refused | Fate::LostReply | Fate::Torn => Err(unavailable("write", name)),
        }
    }
}

fn unavailable(action: &'static str, name: &Name) -> Error {
    Error::Unavailable { action, name: name.clone() }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "FaultStore({:?})", self.inner)
    }
}

impl Store for FaultStore {
    fn get<'a>(&'a self, name: &'a Name, limit_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        // Inside a block, so that the inner call happens when it is polled and not when it is made.
        self.read(name, async move { self.inner.get(name, limit_bytes).await }).boxed()
    }

    fn get_ranges<'a>(&'a self, name: &'a Name, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>>> {
        self.read(name, async move { self.inner.get_ranges(name, ranges).await }).boxed()
    }

    fn put_create<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        self.write(name, bytes, false).boxed()
    }

    fn put<'a>(&'a self, name: &'a Name, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        self.write(name, bytes, true).boxed()
    }

    fn list_after<'a>(
        &'a self,
        folder: &'a Name,
        after: Option<&'a Name>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>>> {
        self.read(folder, async move { self.inner.list_after(folder, after, limit).await }).boxed()
    }

    fn delete<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<()>> {
        async move {
            self.delay().await;
            let fate = self.fate(true);
            if matches!(fate, Fate::Refused) {
                return Err(unavailable("delete", name));
            }
            let answer = self.inner.delete(name).await;
            self.delay().await;
            match fate {
                Fate::Happens => answer,
                Fate::Refused | Fate::LostReply | Fate::Torn => Err(unavailable("delete", name)),
            }
        }
        .boxed()
    }
}
