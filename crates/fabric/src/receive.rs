//! The receiving end: listens on every plane, and takes any number of transfers at once, within limits.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Result, at_most};
use crate::manifest::{BYTES_MAX, Manifest, STATE_FOLDER};
use crate::progress::Progress;
use crate::transfer::Transfer;
use crate::wire::Hash;
use crate::{Machine, Token};

mod connection;

/// The most connections at once, of all transfers and strangers together.
pub const CONNECTIONS_MAX: usize = 256;
/// The most transfers that one receiver knows at once.
pub const TRANSFERS_MAX: usize = 64;
/// How often the acceptor looks whether to stop.
const ACCEPT_TICK_MS: i64 = 50;
/// How long the disk rests between two syncs of what was received. Short, so that little is left to sync when the last
/// chunk has come: measured on a virtual disk, 1.2 GB/s with 25 ms where 50 to 1,000 ms gave 0.6.
const SYNC_REST_MS: u64 = 25;
/// How long connections may go on after a stop, so that senders hear the last word.
const LINGER_MS: u64 = 1_000;

/// How to receive.
#[derive(Debug, Clone, Default)]
pub struct ReceiverOptions {
    /// Check what arrives and throw it away, to measure a path.
    pub discard: bool,
    /// The most bytes of one transfer; default: what is free on the disk.
    pub bytes_max: Option<u64>,
}

/// What happened at a receiver.
#[derive(Debug)]
pub enum Event {
    /// A transfer began, or goes on.
    Began {
        /// Its files and bytes are counted here.
        transfer: Summary,
        /// How far it is.
        progress: Arc<Progress>,
    },
    /// A transfer is whole and under its names.
    Done {
        /// What it was.
        transfer: Summary,
        /// BLAKE3 of all chunk hashes.
        root: Hash,
    },
    /// A connection ended by an error; a sender may come back.
    Failed {
        /// Whose.
        peer: SocketAddr,
        /// Why.
        error: Error,
    },
}

/// A transfer in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The first part of its names.
    pub name: String,
    /// How many files.
    pub files: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// Listens, and owns a folder.
pub struct Receiver {
    listeners: Vec<TcpListener>,
    hub: Hub,
    /// Keeps other receivers out of the folder.
    _lock: Option<File>,
}

/// What all connections share.
struct Hub {
    target: PathBuf,
    options: ReceiverOptions,
    token: Token,
    machine: Machine,
    transfers: Mutex<HashMap<Hash, Arc<Transfer>>>,
    /// Held while a transfer is opened, which may read a lot.
    opening: Mutex<()>,
    stopped: AtomicBool,
    connections: AtomicUsize,
}

impl Receiver {
    /// Listens on these addresses, for files that go into `target`, which is made if it does not exist.
    ///
    /// # Errors
    /// If an address cannot be taken, or the folder not be written or is in use.
    pub fn bind(
        target: &Path,
        listen: &[SocketAddr],
        options: ReceiverOptions,
        token: Token,
        machine: Machine,
    ) -> Result<Self> {
        let state = target.join(STATE_FOLDER);
        let lock = if options.discard { None } else { Some(lock(&state)?) };
        let mut listeners = Vec::new();
        for &address in listen {
            let failed = |source| Error::Socket { what: "listen on", address, source };
            let listener = TcpListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            listeners.push(listener);
        }
        let hub = Hub {
            target: target.to_path_buf(),
            options,
            token,
            machine,
            transfers: Mutex::default(),
            opening: Mutex::default(),
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        };
        Ok(Self { listeners, hub, _lock: lock })
    }

    /// Where it listens, with the ports that the system chose.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let address = |listener: &TcpListener| {
            listener.local_addr().map_err(|source| Error::Transport { what: "ask for the own address", source })
        };
        self.listeners.iter().map(address).collect()
    }

    /// Takes what comes, until [`Self::stop`]. `report` is called from several threads.
    ///
    /// # Errors
    /// If listening itself fails.
    pub fn run(&self, report: &(dyn Fn(Event) + Sync)) -> Result<()> {
        std::thread::scope(|scope| {
            // Whichever ends first ends the other too, also by a panic, which then reaches the caller.
            let _stop = Stop(&self.hub);
            let syncing = std::thread::Builder::new().name("fabric-sync".to_owned());
            let spawned = syncing.spawn_scoped(scope, || {
                let _stop = Stop(&self.hub);
                self.hub.keep_syncing();
            });
            spawned.map_err(|source| Error::Transport { what: "start a thread", source })?;
            self.accept(|socket, peer| {
                let counted = Counted::new(&self.hub);
                let serving = std::thread::Builder::new().name("fabric-receive".to_owned());
                let spawned = serving.spawn_scoped(scope, move || {
                    let _counted = counted;
                    if let Err(error) = connection::serve(&self.hub, &socket, report) {
                        report(Event::Failed { peer, error });
                    }
                });
                if let Err(error) = spawned {
                    tracing::warn!(%peer, %error, "no thread for a connection, it is turned away");
                }
            })
        })
    }

    /// Ends [`Self::run`] soon; connections get a moment to say their last words.
    pub fn stop(&self) {
        self.hub.stopped.store(true, Ordering::Release);
    }

    fn accept(&self, mut take: impl FnMut(TcpStream, SocketAddr)) -> Result<()> {
        let tick = Timespec { tv_sec: 0, tv_nsec: ACCEPT_TICK_MS * 1_000_000 };
        while !self.hub.is_stopped() {
            let mut ready: Vec<PollFd<'_>> =
                self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
            match poll(&mut ready, Some(&tick)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::Transport { what: "wait for a connection", source: errno.into() }),
            }
            for listener in &self.listeners {
                // One that went away before it was accepted is nobody's error, and the rest come with the next turn.
                let Ok((socket, peer)) = listener.accept() else { continue };
                if self.hub.connections.load(Ordering::Acquire) < CONNECTIONS_MAX {
                    take(socket, peer);
                } else {
                    tracing::warn!(%peer, limit = CONNECTIONS_MAX, "too many connections, one is turned away");
                }
            }
        }
        Ok(())
    }
}

/// Stops a receiver when it goes out of scope.
struct Stop<'a>(&'a Hub);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Release);
    }
}

/// One of the connections, for as long as it lives.
struct Counted<'a>(&'a Hub);

impl<'a> Counted<'a> {
    fn new(hub: &'a Hub) -> Self {
        hub.connections.fetch_add(1, Ordering::AcqRel);
        Self(hub)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Hub {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn keep_syncing(&self) {
        while !self.is_stopped() || self.connections.load(Ordering::Acquire) > 0 {
            std::thread::sleep(Duration::from_millis(SYNC_REST_MS));
            let transfers: Vec<Arc<Transfer>> = self.lock().values().cloned().collect();
            for transfer in transfers {
                // The next connection that brings a chunk hears of it, and tells the sender.
                if let Err(error) = transfer.sync() {
                    tracing::error!(error = &error as &dyn std::error::Error, "received bytes do not reach the disk");
                }
            }
        }
    }

    /// A transfer that is known and not stale.
    fn known(&self, id: &Hash) -> Option<Arc<Transfer>> {
        self.lock().get(id).filter(|transfer| transfer.is_fresh()).cloned()
    }

    /// The transfer of a manifest that somebody brought.
    fn open(&self, id: &Hash, encoded: &[u8]) -> Result<Arc<Transfer>> {
        if Manifest::transfer(encoded) != *id {
            return Err(Error::malformed("manifest", "it has another hash than the transfer"));
        }
        let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transfer) = self.known(id) {
            return Ok(transfer);
        }
        let manifest = Manifest::decode(encoded)?;
        let mut transfers = self.lock();
        transfers.retain(|_, transfer| !transfer.is_done());
        if transfers.len() >= TRANSFERS_MAX {
            // What no connection carries can be opened again: the journal knows it.
            transfers.retain(|_, transfer| Arc::strong_count(transfer) > 1);
        }
        at_most("transfers at once", transfers.len() as u64 + 1, TRANSFERS_MAX as u64)?;
        drop(transfers);
        let drawn = self.machine.nonces.draw();
        let memory = u64::from_le_bytes(*drawn.first_chunk().expect("32 bytes hold 8"));
        let transfer = if self.options.discard {
            Transfer::discarding(manifest, memory)
        } else {
            at_most("bytes in a transfer", manifest.bytes(), self.options.bytes_max.unwrap_or(BYTES_MAX))?;
            let transfer = Transfer::open(&self.target, id, manifest, encoded, memory)?;
            check_room(&self.target, transfer.manifest().bytes() - transfer.progress().received())?;
            transfer
        };
        let transfer = Arc::new(transfer);
        self.lock().insert(*id, Arc::clone(&transfer));
        Ok(transfer)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Arc<Transfer>>> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn summary(manifest: &Manifest) -> Summary {
    let first = manifest.entries().first().map_or("", |entry| entry.name.as_str());
    Summary {
        name: first.split('/').next().unwrap_or_default().to_owned(),
        files: manifest.entries().len() as u32,
        bytes: manifest.bytes(),
    }
}

fn lock(state: &Path) -> Result<File> {
    std::fs::create_dir_all(state).map_err(Error::file("make", state))?;
    let path = state.join("lock");
    let file = File::create(&path).map_err(Error::file("make", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: state.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(Error::file("lock", &path)(error)),
    }
}

/// Refuses what the disk cannot hold, before the first byte.
fn check_room(target: &Path, bytes: u64) -> Result<()> {
    let found = rustix::fs::statvfs(target).map_err(|errno| Error::file("look at", target)(errno.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if bytes <= free {
        return Ok(());
    }
    let message = format!("{bytes} bytes are to come, {free} are free");
    Err(Error::Refused { kind: base::Kind::Exhausted, message })
}
