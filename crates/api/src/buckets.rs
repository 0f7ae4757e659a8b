//! Vector buckets as every dialect sees them: the catalogue, who may do what, and the work that is done off the threads
//! that serve requests.

pub(crate) mod counts;
pub(crate) mod wire;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::{Kind, RequestId};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use vectors::{Bucket, Catalogue};

use crate::App;
use crate::policy::{Policy, Verdict, Wish};
use crate::signature::{KeyPair, KeyPairs};

/// Puts, gets and queries that are computed at once. Each holds a blocking thread, and the local folder needs some too.
const COMPUTING_MAX: usize = 64;
/// Puts, gets and queries that wait for their turn; beyond, callers are told to come again.
const WAITING_MAX: usize = 4096;

/// Vector buckets and those who may use them.
pub struct Buckets {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) keys: Arc<dyn KeyPairs>,
    pub(crate) access: Access,
    pub(crate) identity: Identity,
    computing: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody. A signature with a pair that is known must still be right.
    Open,
    /// Whoever signs with a pair that is known.
    Signed,
}

/// What stands in the names of resources.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The region.
    pub region: String,
    /// Twelve digits.
    pub account: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self { region: "us-east-1".to_owned(), account: "000000000000".to_owned() }
    }
}

/// Who asks: the owner of a key pair, or nobody in particular where everybody is let in.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    user: Option<String>,
}

impl Asker {
    pub(crate) const ANYBODY: Self = Self { user: None };

    pub(crate) fn of(pair: &KeyPair) -> Self {
        Self { user: Some(pair.user.clone()) }
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

impl Buckets {
    /// Buckets of a catalogue.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, keys: Arc<dyn KeyPairs>, access: Access, identity: Identity) -> Self {
        let computing = Arc::new(Semaphore::new(COMPUTING_MAX));
        Self { catalogue, keys, access, identity, computing, waiting: AtomicUsize::new(0) }
    }

    /// Does work that takes more than a moment where it disturbs no other request. `None` if too much waits already.
    pub(crate) async fn compute<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let waiting = Waiting::begin(&self.waiting)?;
        let permit = Arc::clone(&self.computing).acquire_owned().await.ok()?;
        drop(waiting);
        let handle = Handle::current();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            handle.block_on(work)
        });
        match done.await {
            Ok(value) => Some(value),
            Err(joined) => match joined.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only when the runtime stops: nobody waits for an answer any more.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// One of those who wait, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Option<Self> {
        let one = Self(count);
        (count.fetch_add(1, Ordering::SeqCst) < WAITING_MAX).then_some(one)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether the owner's people may do it: unless the bucket's policy denies it.
pub(crate) fn is_allowed(bucket: &Bucket, wish: Wish<'_>) -> bool {
    let Some(text) = &bucket.settings.policy else { return true };
    // A policy that cannot be read is one that an older version let in: nobody gets past it.
    Policy::parse(text).is_ok_and(|policy| policy.verdict(wish) != Verdict::Denied)
}

/// What becomes of an error of the engine: its kind, and what may be said about it.
pub(crate) fn told(error: &vectors::Error, id: RequestId) -> (Kind, String) {
    let kind = error.kind();
    if kind.is_public() {
        return (kind, crate::error::chain(error));
    }
    tracing::error!(request.id = %id, error = crate::error::chain(error), "a vector bucket failed");
    (kind, format!("an internal error; request {id}"))
}

/// Embeds texts with the first embedding model; the error is a sentence.
pub(crate) async fn embed(app: &App, id: RequestId, texts: Vec<String>) -> Result<Vec<Vec<f32>>, String> {
    let Some(embed) = &app.embed else {
        return Err("text needs an embedding model, and this server has none; send float32".to_owned());
    };
    let Some(model) = embed.embedding_models().into_iter().next() else {
        return Err("text needs an embedding model, and this server has none; send float32".to_owned());
    };
    let request = chat::EmbedRequest {
        id,
        caller: None,
        model: model.id,
        inputs: texts.into_iter().map(chat::EmbedInput::Text).collect(),
        instruction: None,
        dimensions: None,
        truncate: false,
    };
    embed.embed(request).await.map(|embeddings| embeddings.vectors).map_err(|error| error.to_string())
}
