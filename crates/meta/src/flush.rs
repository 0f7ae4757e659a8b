//! Brings what was committed to the disk, for all who wait at once.
//!
//! No commit waits for the disk by itself. In SQLite a thread syncs the write-ahead log. A server is asked to commit
//! without waiting (`synchronous_commit = off`), and a connection of its own writes an empty message into the server's
//! log with a commit that does wait: it answers when the log lies on the disk as far as that, and so does everything
//! that was committed before. Either way somebody who waits is served at once, nobody else for [`FLUSHED_WITHIN`], and
//! while it lasts later commits gather and share the next one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self as blocking, RecvTimeoutError};

use sqlx::any::AnyConnectOptions;
use tokio::sync::mpsc;

use crate::database::{FLUSHED_WITHIN, Flavour};
use crate::{Connection, Error, Result, writer};

/// Commits, or hundredths of [`FLUSHED_WITHIN`], that go by before the thread syncs what nobody waits for.
const GATHERING_STEPS: u32 = 100;
/// Writes nothing but a place in the server's log, which its commit waits for.
const EMPTY_MESSAGE: &str = "SELECT CAST(pg_logical_emit_message(true, 'sampan', '') AS TEXT)";

/// Answers whoever waits for a write.
pub(crate) type Tell = Box<dyn FnOnce(Result<()>) + Send>;

/// A moment since which the way to the disk is whole, as far as is known. See [`crate::Database::flushed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// A commit that may not be on the disk yet.
struct Committed {
    mark: Mark,
    /// Who waits for it to be there.
    tells: Vec<Tell>,
}

/// Hands commits over to whoever brings them to the disk. It ends with the last clone of this. The queues hold no more
/// than the writes that wait for an answer.
#[derive(Clone)]
pub(crate) struct Flush {
    to: To,
    /// How many connections to a server have brought commits to the disk. What was committed before the present one
    /// was made may have been lost between the two.
    connections: Arc<AtomicU64>,
}

#[derive(Clone)]
enum To {
    Thread(blocking::Sender<Committed>),
    Task(mpsc::UnboundedSender<Committed>),
    /// The machine gives no thread.
    System,
}

impl Flush {
    /// For a file whose log is this.
    pub(crate) fn of_file(log: PathBuf) -> Self {
        let (send, receive) = blocking::channel();
        let thread = std::thread::Builder::new().name("meta-flush".to_owned());
        let to = match thread.spawn(move || sync_until_closed(&receive, &log)) {
            Ok(_) => To::Thread(send),
            Err(error) => {
                tracing::error!(%error, "no thread: commits are brought to the disk by the operating system only");
                To::System
            }
        };
        Self { to, connections: Arc::default() }
    }

    /// For a server. Must be called inside a tokio runtime.
    pub(crate) fn of_server(options: AnyConnectOptions, connection: Connection) -> Self {
        let (send, receive) = mpsc::unbounded_channel();
        let connections = Arc::default();
        tokio::spawn(ask_until_closed(options, connection, receive, Arc::clone(&connections)));
        Self { to: To::Task(send), connections }
    }

    /// Now. It must be taken before the transaction begins.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.connections.load(Ordering::SeqCst))
    }

    /// What was committed since the mark goes to the disk, and then these are told.
    pub(crate) fn soon(&self, mark: Mark, tells: Vec<Tell>) {
        let committed = Committed { mark, tells };
        // Whoever brings it to the disk ends after us.
        match &self.to {
            To::Thread(send) => drop(send.send(committed)),
            To::Task(send) => drop(send.send(committed)),
            To::System => committed.tell(|| None),
        }
    }
}

impl Committed {
    /// Tells everybody that it is on the disk, or why nobody knows.
    fn tell(self, failed: impl Fn() -> Option<String>) {
        for tell in self.tells {
            tell(failed().map_or(Ok(()), |why| Err(Error::Interrupted { why })));
        }
    }
}

fn sync_until_closed(receive: &blocking::Receiver<Committed>, log: &Path) {
    let mut failed = false;
    while let Ok(first) = receive.recv() {
        let mut waiting = vec![first];
        // Nobody waits: gather for a while, or until somebody comes who does.
        for _ in 0..GATHERING_STEPS {
            if waiting.iter().any(|committed| !committed.tells.is_empty()) {
                break;
            }
            match receive.recv_timeout(FLUSHED_WITHIN / GATHERING_STEPS) {
                Ok(more) => waiting = vec![more],
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        waiting.extend(std::iter::from_fn(|| receive.try_recv().ok()));
        if let Err(error) = synced(log) {
            // After a failed sync nobody knows which pages are on the disk, so no later sync is believed either.
            tracing::error!(%error, "the database's log cannot be brought to the disk");
            failed = true;
        }
        for committed in waiting {
            committed.tell(|| failed.then(|| "the disk refused to keep it".to_owned()));
        }
    }
}

/// Brings the log to the disk. Where there is none, the last connection closed, which moved everything into the
/// database file and synced that: it happens between a transaction that broke off and the next connection.
fn synced(log: &Path) -> std::io::Result<()> {
    match File::open(log) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn ask_until_closed(
    options: AnyConnectOptions,
    connection: Connection,
    mut receive: mpsc::UnboundedReceiver<Committed>,
    connections: Arc<AtomicU64>,
) {
    let mut connection = Some(connection);
    while let Some(first) = receive.recv().await {
        let waiting = gathered(first, &mut receive).await;
        let done = match &mut connection {
            Some(connection) => sqlx::query(EMPTY_MESSAGE).execute(connection).await.map(drop),
            None => Ok(()),
        };
        let mut failed = None;
        if connection.is_none() || done.is_err() {
            let why = done.err().map_or_else(|| "the server was away".to_owned(), |error| crate::chain(&error));
            tracing::error!(error = why, "nobody knows what of the last commits the server has kept");
            failed = Some(why);
            connection = writer::connect(Flavour::Postgres, &options).await.ok();
            // From here on a mark says that it was taken while this connection was there.
            connections.fetch_add(1, Ordering::SeqCst);
        }
        let now = Mark(connections.load(Ordering::SeqCst));
        for committed in waiting {
            let is_older = committed.mark != now;
            let lost = || is_older.then(|| "the server was away since".to_owned());
            committed.tell(|| failed.clone().or_else(lost));
        }
    }
}

/// This one, and whoever comes until somebody waits or [`FLUSHED_WITHIN`] is over.
async fn gathered(first: Committed, receive: &mut mpsc::UnboundedReceiver<Committed>) -> Vec<Committed> {
    let mut waiting = vec![first];
    let mut pause = std::pin::pin!(tokio::time::sleep(FLUSHED_WITHIN));
    while waiting.iter().all(|committed| committed.tells.is_empty()) {
        tokio::select! {
            biased;
            more = receive.recv() => match more {
                Some(more) => waiting = vec![more],
                None => break,
            },
            () = &mut pause => break,
        }
    }
    waiting.extend(std::iter::from_fn(|| receive.try_recv().ok()));
    waiting
}
