//! Vector buckets of this machine: their folder, the key pair that signs requests to them, the thread that compacts.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::buckets::{Access, Buckets, Identity};
use api::signature::{KeyPair, KeyPairs};
use base::Clock;
use clap::Args;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use meta::{Scopes, Vault};
use store::{CacheSettings, Cached, Credentials, Folder, Location, Remote, Service, Store};
use tokio::sync::oneshot;
use vectors::{Catalogue, Config, MetadataLimits};

use crate::machine;

/// Indexes that stay open between requests.
const OPEN_MAX: usize = 256;
/// A start opens indexes ahead until they have so many rows together: 40 MB in memory, of 384 dimensions.
const OPEN_AHEAD_ROWS: u64 = 500_000;
/// How often it is seen which indexes rest.
const REST: Duration = Duration::from_secs(5);
/// Who signs with the pair that is made here, in policies.
const USER: &str = "local";

/// Where the buckets lie if not in the data folder, and what of them is kept here.
#[derive(Args, Clone)]
pub(crate) struct StoreOptions {
    /// Keep vector buckets in object storage: s3://BUCKET/PREFIX?endpoint=URL&region=NAME or oss://…?endpoint=URL. Key
    /// pairs come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or
    /// from the machine's role.
    #[arg(long, global = true, value_name = "URL", env = "SAMPAN_VECTORS_STORE")]
    pub(crate) vectors_store: Option<String>,
    /// Memory for blocks of that storage, in MiB.
    #[arg(long, global = true, value_name = "MIB", env = "SAMPAN_VECTORS_CACHE_MIB", default_value_t = 64)]
    pub(crate) vectors_cache_mib: u64,
    /// Disk for blocks of that storage, in MiB, in DIR/vectors/cache; 0 uses none.
    #[arg(long, global = true, value_name = "MIB", env = "SAMPAN_VECTORS_DISK_MIB", default_value_t = 4096)]
    pub(crate) vectors_disk_mib: u64,
}

/// How vector buckets are served.
#[derive(Args)]
pub(crate) struct VectorOptions {
    #[command(flatten)]
    pub(crate) store: StoreOptions,
    /// Refuse requests to vector buckets that are not signed with the key pair in DIR/vectors/access-key.json, also
    /// with --open.
    #[arg(long, env = "SAMPAN_VECTORS_SIGNED")]
    pub(crate) vectors_signed: bool,
    /// Bytes of one vector's metadata that filters may use; Amazon's limit is 2048.
    #[arg(long, value_name = "BYTES", env = "SAMPAN_FILTERABLE_BYTES", default_value_t = 2048)]
    pub(crate) filterable_bytes: usize,
}

/// A key pair as it lies on disk.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct LocalPair {
    /// Names the pair.
    pub(crate) access_key: String,
    /// The other half of it.
    pub(crate) secret: String,
}

/// Where vector buckets lie.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("vectors")
}

/// Opens the catalogue; blocks on the file system.
pub(crate) fn catalogue(
    folder: &Path,
    options: &StoreOptions,
    clock: Arc<dyn Clock>,
    limits: MetadataLimits,
) -> anyhow::Result<Catalogue> {
    let store: Arc<dyn Store> = match &options.vectors_store {
        None => {
            let store = Folder::open(folder);
            Arc::new(store.with_context(|| format!("open the vector buckets in {}", folder.display()))?)
        }
        Some(place) => {
            let location = Location::parse(place).context("--vectors-store")?;
            let remote = Remote::open(&location, credentials(location.service).as_ref())?;
            let disk = (options.vectors_disk_mib > 0).then(|| (folder.join("cache"), options.vectors_disk_mib << 20));
            let settings = CacheSettings { memory_bytes: options.vectors_cache_mib << 20, disk };
            let cached = Cached::open(Arc::new(remote), &settings, vectors::is_fixed);
            Arc::new(cached.with_context(|| format!("open the cache of {location}"))?)
        }
    };
    let config = Config { metadata: limits, ..Config::default() };
    Ok(Catalogue::new(store, clock, config, OPEN_MAX, machine::random_seed()?))
}

/// The key pair of the environment; the vendors' names for it.
fn credentials(service: Service) -> Option<Credentials> {
    let [key, secret, token] = match service {
        Service::S3 => ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"],
        Service::Oss => ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"],
    };
    let (access_key, secret) = (machine::variable(key)?, machine::variable(secret)?);
    Some(Credentials { access_key, secret, session_token: machine::variable(token) })
}

/// Limits of metadata, with a larger share for filters.
pub(crate) fn limits(filterable_bytes: usize) -> anyhow::Result<MetadataLimits> {
    let most = MetadataLimits::CEILING.filterable_bytes_max;
    anyhow::ensure!(
        (1..=most).contains(&filterable_bytes),
        "--filterable-bytes {filterable_bytes}: 1 to {most} are possible"
    );
    let limits = MetadataLimits::default();
    let bytes_max = limits.bytes_max.max(filterable_bytes);
    Ok(MetadataLimits { bytes_max, filterable_bytes_max: filterable_bytes, ..limits })
}

/// Vector buckets that are served, with the thread that compacts them.
pub(crate) struct Served {
    pub(crate) buckets: Buckets,
    pub(crate) compactor: Compactor,
}

/// Opens what is served.
pub(crate) fn serve(
    data: &Path,
    options: &VectorOptions,
    asks_for_keys: bool,
    vault: Vault,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Served> {
    let folder = folder(data);
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let catalogue = Arc::new(catalogue(&folder, &options.store, Arc::clone(clock), limits(options.filterable_bytes)?)?);
    let keys = Arc::new(AllPairs { own: OnePair(pair(&folder)?), vault });
    let access = if options.vectors_signed || asks_for_keys { Access::Signed } else { Access::Open };
    let compactor = Compactor::start(Arc::clone(&catalogue))?;
    Ok(Served { buckets: Buckets::new(catalogue, keys, access, Identity::default()), compactor })
}

/// The key pair of a folder; made when there is none.
pub(crate) fn pair(folder: &Path) -> anyhow::Result<LocalPair> {
    let path = folder.join("access-key.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = LocalPair { access_key: format!("SAMPAN{}", random(7)?), secret: random(20)?.to_lowercase() };
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .with_context(|| format!("write {}", path.display()))?;
            file.write_all(&serde_json::to_vec_pretty(&made)?).and_then(|()| file.sync_all())?;
            Ok(made)
        }
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// So many random bytes, in hexadecimal.
fn random(bytes: usize) -> anyhow::Result<String> {
    let mut drawn = vec![0_u8; bytes];
    getrandom::fill(&mut drawn).context("read randomness from the operating system")?;
    Ok(drawn.iter().map(|byte| format!("{byte:02X}")).collect())
}

/// The machine's own pair.
struct OnePair(LocalPair);

impl KeyPairs for OnePair {
    fn find<'a>(&'a self, access_key: &'a str) -> BoxFuture<'a, Option<KeyPair>> {
        let known = access_key == self.0.access_key;
        let pair = known.then(|| KeyPair {
            secret: self.0.secret.clone(),
            access_key: access_key.into(),
            user: USER.to_owned(),
            project: None,
            scopes: Scopes::default(),
        });
        futures::future::ready(pair).boxed()
    }
}

/// That one, and those of projects.
struct AllPairs {
    own: OnePair,
    vault: Vault,
}

impl KeyPairs for AllPairs {
    fn find<'a>(&'a self, access_key: &'a str) -> BoxFuture<'a, Option<KeyPair>> {
        async move {
            if let Some(own) = self.own.find(access_key).await {
                return Some(own);
            }
            let found = self.vault.pair(access_key).await.unwrap_or_else(|error| {
                tracing::error!(access_key, %error, "a key pair cannot be read");
                None
            })?;
            let [project, name] = &found.names;
            Some(KeyPair {
                secret: found.secret,
                access_key: access_key.into(),
                user: format!("{project}/{name}"),
                project: Some(found.project.into()),
                scopes: found.scopes,
            })
        }
        .boxed()
    }
}

/// A thread of its own for compaction, which computes for seconds. It ends when this is dropped.
pub(crate) struct Compactor {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Compactor {
    fn start(catalogue: Arc<Catalogue>) -> anyhow::Result<Self> {
        // The server's runtime: a connection that a runtime of this thread's own had opened would stand still for
        // everybody who shares it while the thread computes.
        let runtime = tokio::runtime::Handle::current();
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(async move {
                match catalogue.sweep().await {
                    Ok(0) => {}
                    Ok(swept) => tracing::info!(swept, "deletions that were cut short were finished"),
                    Err(error) => tracing::warn!(%error, "finishing deletions failed"),
                }
                let failed = |index: &store::Name, error: &vectors::Error| {
                    tracing::warn!(%index, %error, "compaction failed and is tried again after the next request");
                };
                let resting = async {
                    if let Err(error) = catalogue.open_ahead(OPEN_AHEAD_ROWS).await {
                        tracing::warn!(%error, "opening indexes ahead failed; they are opened when they are asked for");
                    }
                    // Runs as long as the process: the other branches end it.
                    loop {
                        tokio::time::sleep(REST).await;
                        catalogue.compact_resting(failed).await;
                    }
                };
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    () = catalogue.keep_compacted(failed) => {}
                    () = resting => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("compactor".to_owned()).spawn(work);
        Ok(Self { stop: Some(stop), thread: Some(thread.context("start the compactor's thread")?) })
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        // The receiver is gone if the thread has ended already.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
