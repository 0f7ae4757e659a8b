//! Vector buckets as every dialect sees them: the catalogue, who may do what, and the work that is done off the threads
//! that serve requests.

pub(crate) mod counts;
pub(crate) mod wire;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::{Kind, RequestId};
use chat::{Caller, Priority};
use ledger::Tally;
use ledger::usage::Activity;
use meta::Scopes;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use vectors::{Bucket, BucketName, Catalogue, Select};

use crate::App;
use crate::policy::{Policy, Verdict, Wish};
use crate::signature::{KeyPair, KeyPairs};

/// Puts, gets and queries that are computed at once. Each holds a blocking thread, and the local folder needs some too.
const COMPUTING_MAX: usize = 64;
/// Puts, gets and queries that wait for their turn; beyond, callers are told to come again.
const WAITING_MAX: usize = 4096;

/// Readers that follow indexes; beyond, they are told to come again.
pub const SUBSCRIPTIONS_MAX: usize = 256;

/// Whether a bucket may be kept and searched on this machine for a caller; otherwise the settings that say no.
pub type Border = Arc<dyn Fn(Option<&Caller>, &str) -> Result<(), String> + Send + Sync>;

/// Vector buckets and those who may use them.
pub struct Buckets {
    pub(crate) border: Option<Border>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) keys: Arc<dyn KeyPairs>,
    pub(crate) access: Access,
    pub(crate) identity: Identity,
    owners: Option<Owners>,
    computing: Arc<Semaphore>,
    waiting: AtomicUsize,
    subscriptions: Arc<AtomicUsize>,
}

/// Who pays for buckets.
pub struct Owners {
    /// What was written, read and kept.
    pub tally: Arc<Tally>,
    /// The project of buckets that no project has made; `None`: there are no accounts.
    pub first_project: Option<Arc<str>>,
}

/// Why a bucket may not be used.
pub(crate) enum Barred {
    /// It is another project's.
    Foreign,
    /// Its project cannot pay for it.
    NoCredit(String),
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

/// Who asks; nobody in particular where everybody is let in.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    known: Option<Known>,
}

/// The owner of a key pair, or a member who signed in.
#[derive(Debug, Clone)]
struct Known {
    /// The name in policies.
    user: String,
    /// The name in logs and accounts.
    key: Arc<str>,
    project: Option<Arc<str>>,
    /// Whoever runs the place sees every project's.
    sees_all: bool,
    scopes: Scopes,
}

impl Asker {
    pub(crate) const ANYBODY: Self = Self { known: None };

    /// The owner of a pair, unless it is not good for this dialect.
    pub(crate) fn of(pair: KeyPair, dialect: &str) -> Result<Self, String> {
        let KeyPair { secret: _, access_key: key, user, project, scopes } = pair;
        match scopes.allows_dialect(dialect) {
            true => Ok(Self { known: Some(Known { user, key, project, sees_all: false, scopes }) }),
            false => Err(format!("the key pair is not good for the API {dialect}")),
        }
    }

    /// Whoever came through the gate with a session of the console, if anybody did.
    pub(crate) fn signed_in() -> Option<Self> {
        let principal = crate::auth::principal()?;
        let (key, scopes) = (Arc::clone(&principal.key), principal.scopes.clone());
        let project = Some(Arc::clone(&principal.project));
        let sees_all = principal.runs_place && principal.role.sees_all();
        Some(Self { known: Some(Known { user: key.to_string(), key, project, sees_all, scopes }) })
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.known.as_ref().map(|known| known.user.as_str())
    }

    /// The project that is worked for, where there is one.
    pub(crate) fn caller(&self) -> Option<Caller> {
        let known = self.known.as_ref()?;
        let (project, key) = (Arc::clone(known.project.as_ref()?), Arc::clone(&known.key));
        Some(Caller { project, key, priority: Priority::Normal })
    }

    /// The project that a bucket belongs to if this one makes it.
    pub(crate) fn project(&self) -> Option<String> {
        self.known.as_ref()?.project.as_deref().map(str::to_owned)
    }

    /// Whether the key is good for this bucket.
    pub(crate) fn may_use(&self, bucket: &BucketName) -> bool {
        self.known.as_ref().is_none_or(|known| known.scopes.allows_bucket(bucket.as_str()))
    }
}

impl Buckets {
    /// Buckets of a catalogue.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, keys: Arc<dyn KeyPairs>, access: Access, identity: Identity) -> Self {
        let computing = Arc::new(Semaphore::new(COMPUTING_MAX));
        Self {
            border: None,
            catalogue,
            keys,
            access,
            identity,
            owners: None,
            computing,
            waiting: AtomicUsize::new(0),
            subscriptions: Arc::default(),
        }
    }

    /// The same where buckets belong to projects, which pay for them.
    #[must_use]
    pub fn with_owners(self, owners: Owners) -> Self {
        Self { owners: Some(owners), ..self }
    }

    /// The project of a bucket, where there are accounts.
    fn owner(&self, bucket: &Bucket) -> Option<Arc<str>> {
        let owners = self.owners.as_ref()?;
        // Without accounts nobody's request has a project, and whose bucket it was does not matter.
        let first = owners.first_project.as_ref()?;
        Some(bucket.settings.project.as_deref().map_or_else(|| Arc::clone(first), Arc::from))
    }

    /// Whether a bucket is another project's than the one that asks.
    pub(crate) fn is_foreign(&self, asker: &Asker, bucket: &Bucket) -> bool {
        let own = asker.known.as_ref().filter(|known| !known.sees_all).and_then(|known| known.project.as_ref());
        own.zip(self.owner(bucket)).is_some_and(|(own, owner)| *own != owner)
    }

    /// Refuses a bucket of another project, and one that its project cannot pay for; that may be emptied and deleted.
    pub(crate) fn admit(&self, asker: &Asker, bucket: &Bucket, operation: &str) -> Result<(), Barred> {
        if self.is_foreign(asker, bucket) {
            return Err(Barred::Foreign);
        }
        match &self.owners {
            Some(owners) if !operation.starts_with("Delete") => {
                let payer = self.payer(asker, self.owner(bucket));
                owners.tally.check(payer.as_ref()).map_err(Barred::NoCredit)
            }
            _ => Ok(()),
        }
    }

    /// Counts vectors that were written or read.
    pub(crate) fn count(&self, asker: &Asker, bucket: &Bucket, activity: Activity, vectors: usize) {
        if let Some(owners) = &self.owners {
            let payer = self.payer(asker, self.owner(bucket));
            owners.tally.add(payer.as_ref(), bucket.name.as_str(), activity, vectors as u64);
        }
    }

    /// The bucket's project pays, and the record names who asked.
    fn payer(&self, asker: &Asker, owner: Option<Arc<str>>) -> Option<Caller> {
        let key = asker.known.as_ref().map_or_else(|| Arc::from("local"), |known| Arc::clone(&known.key));
        owner.map(|project| Caller { project, key, priority: Priority::Normal })
    }

    /// Counts what every bucket keeps in this hour: vectors, keys and metadata.
    ///
    /// # Errors
    /// If the store cannot be read; what was counted until then counts.
    pub async fn count_kept(&self) -> vectors::Result<()> {
        let Some(owners) = &self.owners else { return Ok(()) };
        let all = Select { prefix: "", after: "", limit: vectors::BUCKETS_MAX };
        for bucket in self.catalogue.list_buckets(all).await?.found {
            let mut bytes = 0_u64;
            let all = Select { prefix: "", after: "", limit: vectors::INDEXES_MAX };
            for entry in self.catalogue.list_indexes(&bucket, all).await?.found {
                let index = self.catalogue.open(&entry).await?;
                index.refresh().await?;
                bytes = bytes.saturating_add(index.kept_bytes());
            }
            let payer = self.payer(&Asker::ANYBODY, self.owner(&bucket));
            owners.tally.keep(payer.as_ref(), bucket.name.as_str(), bytes);
        }
        Ok(())
    }

    /// The same where settings of residency hold.
    #[must_use]
    pub fn with_border(self, border: Border) -> Self {
        Self { border: Some(border), ..self }
    }

    /// Refuses what may not be computed or kept here, in words. Whatever is deleted may go.
    pub(crate) fn confine(&self, asker: &Asker, bucket: &BucketName, operation: &str) -> Result<(), String> {
        match &self.border {
            Some(border) if !operation.starts_with("Delete") => border(asker.caller().as_ref(), bucket.as_str()),
            _ => Ok(()),
        }
    }

    /// Does work that takes more than a moment where it disturbs no other request. `None` if too much waits already.
    pub(crate) async fn compute<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let waiting = Waiting::begin(&self.waiting)?;
        let permit = Arc::clone(&self.computing).acquire_owned().await.ok()?;
        drop(waiting);
        let (handle, work) = (Handle::current(), crate::auth::carried(work));
        if handle.runtime_flavor() == RuntimeFlavor::MultiThread {
            // Another thread serves the others meanwhile. To have another compute means to wake it and to be woken by
            // it, which takes as long as a short search.
            let value = tokio::task::block_in_place(|| handle.block_on(work));
            drop(permit);
            return Some(value);
        }
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

/// One of those who follow an index, until dropped.
pub(crate) struct Subscription(Arc<AtomicUsize>);

impl Subscription {
    /// `None` if there are too many already.
    pub(crate) fn begin(buckets: &Buckets) -> Option<Self> {
        let one = Self(Arc::clone(&buckets.subscriptions));
        (one.0.fetch_add(1, Ordering::SeqCst) < SUBSCRIPTIONS_MAX).then_some(one)
    }
}

impl Drop for Subscription {
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
