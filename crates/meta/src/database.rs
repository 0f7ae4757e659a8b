//! One database, many readers, one writer.
//!
//! All writes go through one task, which takes what is waiting, runs it in one transaction and commits once. So a
//! write never meets another one half done, on SQLite as on PostgreSQL (where writers of several processes take turns
//! by an advisory lock), and the price of a commit is shared.
//!
//! A commit is safe from the end of this process at once. Safe from the end of the machine it is when it lies on the
//! disk, which takes milliseconds: [`Database::write`] waits for that, [`Database::write_soon`] does not, and is on
//! the disk within [`FLUSHED_WITHIN`].

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyPool, ConnectOptions as _};
use tokio::sync::{mpsc, oneshot};

use crate::flush::{Flush, Mark};
use crate::together::{Together, Undone};
use crate::writer::{self, Order, Writer};
use crate::{Error, Result, Schema, Turn};

/// A connection to whichever database it is.
pub type Connection = sqlx::AnyConnection;

/// What a write may lose when the machine (not the process) ends: the last so many milliseconds of
/// [`Database::write_soon`].
pub const FLUSHED_WITHIN: Duration = Duration::from_millis(50);
/// Writes that wait; who comes later waits to be let in.
const WRITES_WAITING_MAX: usize = 4096;
/// Connections that read.
const READERS_MAX: u32 = 8;
/// Writers of several processes take turns: any number that nobody else uses.
pub(crate) const LOCK: &str = "SELECT pg_advisory_xact_lock(8420001)";

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of our own, made if it is not there.
    File(PathBuf),
    /// `postgres://user:password@host/database`.
    Postgres(String),
}

impl Place {
    /// Reads an address: `postgres://…` or the path of a file.
    ///
    /// # Errors
    /// If it names another kind of database.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(Error::Wrong {
                field: "the database's scheme",
                value: scheme.to_owned(),
                allowed: "postgres://… or the path of a file".to_owned(),
            }),
            None => Ok(Self::File(PathBuf::from(text))),
        }
    }

    /// The place without a password, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Postgres(url) => match url.split_once('@') {
                Some((_, host)) => format!("postgres://…@{host}"),
                None => url.clone(),
            },
        }
    }
}

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

/// Where a simulated crash may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Between two writes of one transaction.
    BetweenWrites,
    /// All is written, nothing committed.
    BeforeCommit,
    /// It is committed, and nobody was told.
    AfterCommit,
}

/// For simulations: says at which moments the database breaks off. All who wait are told that it did.
pub trait Faults: Send + Sync {
    /// True: now.
    fn strikes(&self, moment: Moment) -> bool;
}

/// The database. Clones share it.
#[derive(Clone)]
pub struct Database {
    flavour: Flavour,
    place: Arc<Place>,
    schemas: Arc<[Schema]>,
    readers: AnyPool,
    writes: mpsc::Sender<Order>,
    flush: Flush,
}

impl Database {
    /// Opens or makes the database and brings its tables up to date. Must be called inside a tokio runtime, where its
    /// writer lives until the last clone is gone.
    ///
    /// # Errors
    /// If it cannot be reached, or was used by a newer program.
    pub async fn open(place: Place, schemas: &[Schema]) -> Result<Self> {
        Self::open_with(place, schemas, None).await
    }

    /// As [`Self::open`], and breaks where `faults` says so.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(place: Place, schemas: &[Schema], faults: Option<Arc<dyn Faults>>) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let flavour = match place {
            Place::File(_) => Flavour::Sqlite,
            Place::Postgres(_) => Flavour::Postgres,
        };
        let unusable = |why: String| Error::Place { place: place.shown(), why };
        let options = options(&place).map_err(|error| unusable(error.to_string()))?;
        let mut connection =
            writer::connect(flavour, &options).await.map_err(|error| unusable(crate::chain(&error)))?;
        for schema in schemas {
            schema.apply(flavour, &mut connection).await?;
        }
        let readers = readers(flavour, &options);
        writer::hasten(flavour, &mut connection).await?;
        let flush = match &place {
            Place::File(path) => Flush::of_file(log_of(path)),
            Place::Postgres(_) => Flush::of_server(options.clone(), writer::connect(flavour, &options).await?),
        };
        let (writes, orders) = mpsc::channel(WRITES_WAITING_MAX);
        tokio::spawn(Writer::new(flavour, options, connection, flush.clone(), faults).run(orders));
        Ok(Self { flavour, place: Arc::new(place), schemas: schemas.into(), readers, writes, flush })
    }

    /// Which database it is.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What its tables were made of.
    pub(crate) fn schemas(&self) -> &[Schema] {
        &self.schemas
    }

    /// A connection for reading. It sees every write that has answered.
    ///
    /// # Errors
    /// If none comes free, or the server is away.
    pub async fn read(&self) -> Result<PoolConnection<Any>> {
        Ok(self.readers.acquire().await?)
    }

    /// Runs `work` in a transaction and answers when it lies on the disk. An error of `work` undoes all it wrote.
    ///
    /// Dropping the future does not stop the work.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Interrupted`] if the database broke off, in which case nobody knows whether it was
    /// made.
    pub async fn write<T, E, F>(&self, work: F) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, std::result::Result<T, E>> + Send + 'static,
    {
        self.order(Order::new(true, work)).await
    }

    /// As [`Self::write`], and does not wait for the disk.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_soon<T, E, F>(&self, work: F) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, std::result::Result<T, E>> + Send + 'static,
    {
        self.order(Order::new(false, work)).await
    }

    /// As [`Self::write_soon`], for work that ends with [`Turn::finish`].
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_in_one_turn<T, E, F>(&self, work: F) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'t, 'c> FnOnce(&'t mut Turn<'c>) -> BoxFuture<'t, std::result::Result<T, E>> + Send + 'static,
    {
        self.order(Order::in_one_turn(work)).await
    }

    /// Writes of one kind that are made in one turn for all who ask while the writer is busy.
    pub fn together<Q, A, F>(&self, doing: F) -> Together<Q, A>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: for<'t, 'c> Fn(&'t mut Turn<'c>, Vec<Q>) -> BoxFuture<'t, std::result::Result<Vec<A>, Undone>>
            + Send
            + Sync
            + 'static,
    {
        Together::new(self.writes.clone(), Box::new(doing))
    }

    /// A moment before a write, for [`Self::flushed`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.flush.mark()
    }

    /// Waits until every write lies on the disk that was asked for after the mark and has answered.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if nobody knows whether they do.
    pub async fn flushed(&self, since: Mark) -> Result<()> {
        let (told, flushed) = oneshot::channel();
        self.flush.soon(since, vec![Box::new(|done| drop(told.send(done)))]);
        flushed.await.unwrap_or(Err(Error::Gone))
    }

    async fn order<T, E>(
        &self,
        (order, answer): (Order, oneshot::Receiver<std::result::Result<T, E>>),
    ) -> std::result::Result<T, E>
    where
        E: From<Error>,
    {
        if self.writes.send(order).await.is_err() {
            return Err(Error::Gone.into());
        }
        answer.await.unwrap_or_else(|_| Err(Error::Gone.into()))
    }
}

pub(crate) fn options(place: &Place) -> sqlx::Result<AnyConnectOptions> {
    let url = match place {
        Place::File(path) => {
            // A path is not a URL: what means something there is written as its bytes.
            let path = std::path::absolute(path).map_err(sqlx::Error::Io)?;
            let encoded: String = path.to_string_lossy().bytes().map(encode).collect();
            format!("sqlite://{encoded}?mode=rwc")
        }
        Place::Postgres(url) => url.clone(),
    };
    // Statements hold no values, but they are noise.
    Ok(AnyConnectOptions::from_str(&url)?.disable_statement_logging())
}

fn encode(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

fn readers(flavour: Flavour, options: &AnyConnectOptions) -> AnyPool {
    let pool = AnyPoolOptions::new().max_connections(READERS_MAX);
    let pool = match flavour {
        // A file does not go away; asking it would cost as much as the query.
        Flavour::Sqlite => pool.test_before_acquire(false).after_connect(|connection, _| {
            Box::pin(async move {
                writer::prepare(Flavour::Sqlite, connection).await?;
                sqlx::query("PRAGMA query_only = ON").execute(&mut *connection).await?;
                Ok(())
            })
        }),
        Flavour::Postgres => pool.after_connect(|connection, _| {
            Box::pin(async move { writer::prepare(Flavour::Postgres, connection).await })
        }),
    };
    pool.connect_lazy_with(options.clone())
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}
