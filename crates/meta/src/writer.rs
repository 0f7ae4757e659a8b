//! The task that writes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::any::AnyConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{mpsc, oneshot};

use crate::database::{Faults, Flavour, LOCK, Moment};
use crate::flush::{Flush, Mark, Tell};
use crate::schema::begin;
use crate::turn::End;
use crate::{Connection, Error, Result, Turn};

/// Writes that share a commit.
const BATCH_MAX: usize = 128;

/// A write that waits for its turn.
pub(crate) struct Order {
    is_durable: bool,
    /// It begins its transaction with its first statements, if it has one of its own.
    begins: bool,
    work: Box<dyn Work>,
}

/// A write that was made, and can be told how the commit ended.
pub(crate) struct Made {
    /// False: what it wrote is undone.
    pub(crate) is_kept: bool,
    pub(crate) end: End,
    pub(crate) tell: Tell,
}

/// What a write does when it is its turn.
pub(crate) trait Work: Send {
    fn run<'c>(self: Box<Self>, turn: Turn<'c>) -> BoxFuture<'c, Made>;

    /// It is not run at all.
    fn refuse(self: Box<Self>, error: Error);
}

struct Closure<F, T, E> {
    work: F,
    answer: oneshot::Sender<std::result::Result<T, E>>,
}

/// A closure that takes the turn itself.
struct InOneTurn<F, T, E>(Closure<F, T, E>);

impl<F, T, E> Work for Closure<F, T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, std::result::Result<T, E>> + Send + 'static,
{
    fn run<'c>(self: Box<Self>, mut turn: Turn<'c>) -> BoxFuture<'c, Made> {
        let Self { work, answer } = *self;
        async move {
            let done = match turn.connection().await {
                Ok(connection) => work(connection).await,
                Err(error) => Err(error.into()),
            };
            Made { is_kept: done.is_ok(), end: turn.end(), tell: teller(answer, done) }
        }
        .boxed()
    }

    fn refuse(self: Box<Self>, error: Error) {
        let _ = self.answer.send(Err(error.into()));
    }
}

impl<F, T, E> Work for InOneTurn<F, T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: for<'t, 'c> FnOnce(&'t mut Turn<'c>) -> BoxFuture<'t, std::result::Result<T, E>> + Send + 'static,
{
    fn run<'c>(self: Box<Self>, mut turn: Turn<'c>) -> BoxFuture<'c, Made> {
        let Closure { work, answer } = self.0;
        async move {
            let done = work(&mut turn).await;
            Made { is_kept: done.is_ok(), end: turn.end(), tell: teller(answer, done) }
        }
        .boxed()
    }

    fn refuse(self: Box<Self>, error: Error) {
        let _ = self.0.answer.send(Err(error.into()));
    }
}

fn teller<T, E>(answer: oneshot::Sender<std::result::Result<T, E>>, done: std::result::Result<T, E>) -> Tell
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    Box::new(move |committed: Result<()>| {
        // Whoever asked may have gone.
        let _ = answer.send(committed.map_err(E::from).and(done));
    })
}

impl Order {
    /// Work of several who asked.
    pub(crate) fn together(work: impl Work + 'static) -> Self {
        Self { is_durable: false, begins: true, work: Box::new(work) }
    }

    /// Work that does not wait for the disk, and begins and ends its transaction itself where it has one of its own.
    pub(crate) fn in_one_turn<T, E, F>(work: F) -> (Self, oneshot::Receiver<std::result::Result<T, E>>)
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'t, 'c> FnOnce(&'t mut Turn<'c>) -> BoxFuture<'t, std::result::Result<T, E>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(InOneTurn(Closure { work, answer }));
        (Self { is_durable: false, begins: true, work }, answered)
    }

    pub(crate) fn new<T, E, F>(is_durable: bool, work: F) -> (Self, oneshot::Receiver<std::result::Result<T, E>>)
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, std::result::Result<T, E>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        (Self { is_durable, begins: false, work: Box::new(Closure { work, answer }) }, answered)
    }
}

/// A connection that is ready for use.
pub(crate) async fn connect(flavour: Flavour, options: &AnyConnectOptions) -> sqlx::Result<Connection> {
    let mut connection = options.connect().await?;
    prepare(flavour, &mut connection).await?;
    Ok(connection)
}

/// Settings of a session.
pub(crate) async fn prepare(flavour: Flavour, connection: &mut Connection) -> sqlx::Result<()> {
    let settings: &[&str] = match flavour {
        Flavour::Sqlite => &[
            "PRAGMA busy_timeout = 10000",
            "PRAGMA journal_mode = WAL",
            // The writer's own thread brings commits to the disk, so that nobody waits for it who need not.
            "PRAGMA synchronous = NORMAL",
            "PRAGMA foreign_keys = ON",
            "PRAGMA cache_size = -16384",
            "PRAGMA temp_store = MEMORY",
        ],
        Flavour::Postgres => &["SET statement_timeout = '30s'", "SET lock_timeout = '20s'"],
    };
    for &setting in settings {
        sqlx::query(setting).execute(&mut *connection).await?;
    }
    Ok(())
}

/// From now on commits do not wait for the disk: [`Flush`] does.
pub(crate) async fn hasten(flavour: Flavour, connection: &mut Connection) -> sqlx::Result<()> {
    if let Flavour::Postgres = flavour {
        sqlx::query("SET synchronous_commit = off").execute(connection).await?;
    }
    Ok(())
}

/// Owns the connection that writes.
pub(crate) struct Writer {
    flavour: Flavour,
    options: AnyConnectOptions,
    /// `None` after it broke; the next batch makes a new one.
    connection: Option<Connection>,
    flush: Flush,
    faults: Option<Arc<dyn Faults>>,
}

impl Writer {
    pub(crate) fn new(
        flavour: Flavour,
        options: AnyConnectOptions,
        connection: Connection,
        flush: Flush,
        faults: Option<Arc<dyn Faults>>,
    ) -> Self {
        Self { flavour, options, connection: Some(connection), flush, faults }
    }

    /// Until the last sender is gone.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while orders.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let taken = std::mem::take(&mut batch);
            // A panic in somebody's work: those who wait see their channel close, the transaction dies unfinished.
            if AssertUnwindSafe(self.commit_together(taken)).catch_unwind().await.is_err() {
                tracing::error!("a write panicked");
                self.connection = None;
            }
        }
        if let Some(connection) = self.connection.take() {
            // Closing is polite; the database is whole without it.
            let _ = connection.close().await;
        }
    }

    async fn commit_together(&mut self, batch: Vec<Order>) {
        let mark = self.flush.mark();
        let mut connection = match self.take_connection().await {
            Ok(connection) => connection,
            Err(error) => {
                let why = crate::chain(&error);
                tracing::error!(error = why, "the database cannot be reached");
                batch.into_iter().for_each(|order| order.work.refuse(Error::Interrupted { why: why.clone() }));
                return;
            }
        };
        let mut made = Vec::with_capacity(batch.len());
        match self.transaction(&mut connection, batch, &mut made).await {
            Ok(()) => {
                self.connection = Some(connection);
                self.tell(made, mark);
            }
            Err(error) => {
                // Dropping the connection undoes what was not committed.
                drop(connection);
                let why = crate::chain(&error);
                tracing::warn!(error = why, "a transaction broke off");
                made.into_iter().for_each(|(_, tell)| tell(Err(Error::Interrupted { why: why.clone() })));
            }
        }
    }

    async fn take_connection(&mut self) -> Result<Connection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => {
                let mut connection = connect(self.flavour, &self.options).await?;
                hasten(self.flavour, &mut connection).await?;
                Ok(connection)
            }
        }
    }

    /// Runs the batch and commits. Whoever was run is in `made`, also after an error; who was not is refused.
    async fn transaction(
        &mut self,
        connection: &mut Connection,
        batch: Vec<Order>,
        made: &mut Vec<(bool, Tell)>,
    ) -> Result<()> {
        let mut waiting = batch.into_iter();
        let done = self.run_all(connection, &mut waiting, made).await;
        if let Err(error) = &done {
            let why = crate::chain(error);
            waiting.for_each(|order| order.work.refuse(Error::Interrupted { why: why.clone() }));
        }
        done
    }

    async fn run_all(
        &mut self,
        connection: &mut Connection,
        waiting: &mut std::vec::IntoIter<Order>,
        made: &mut Vec<(bool, Tell)>,
    ) -> Result<()> {
        let is_shared = waiting.len() > 1;
        let begins = !is_shared && self.flavour == Flavour::Sqlite && waiting.as_slice()[0].begins;
        if !begins {
            begin_shared(self.flavour, connection).await?;
        }
        let (mut is_kept, mut end) = (true, End::Open);
        // Whoever is taken out is run: an error before that leaves them to be refused.
        while !waiting.as_slice().is_empty() {
            self.strike(Moment::BetweenWrites)?;
            if is_shared {
                sqlx::query("SAVEPOINT work").execute(&mut *connection).await?;
            }
            let Some(Order { is_durable, work, .. }) = waiting.next() else { break };
            let turn = match begins {
                true => Turn::alone(connection, begin(self.flavour), self.faults.as_deref()),
                false => Turn::within(connection),
            };
            let done = work.run(turn).await;
            made.push((is_durable, done.tell));
            (is_kept, end) = (done.is_kept, done.end);
            if is_shared {
                if !is_kept {
                    sqlx::query("ROLLBACK TO SAVEPOINT work").execute(&mut *connection).await?;
                }
                sqlx::query("RELEASE SAVEPOINT work").execute(&mut *connection).await?;
            }
        }
        if end == End::Open {
            self.strike(Moment::BeforeCommit)?;
            let end = if is_shared || is_kept { "COMMIT" } else { "ROLLBACK" };
            sqlx::query(end).execute(&mut *connection).await?;
        }
        self.strike(Moment::AfterCommit)
    }

    fn strike(&self, moment: Moment) -> Result<()> {
        match &self.faults {
            Some(faults) if faults.strikes(moment) => Err(Error::Interrupted { why: "simulated".to_owned() }),
            _ => Ok(()),
        }
    }

    /// Answers those who do not wait for the disk; the others are told when it is there.
    fn tell(&self, made: Vec<(bool, Tell)>, mark: Mark) {
        let mut wait = Vec::new();
        for (is_durable, tell) in made {
            if is_durable { wait.push(tell) } else { tell(Ok(())) }
        }
        self.flush.soon(mark, wait);
    }
}

/// Begins a transaction around whatever writes in it.
async fn begin_shared(flavour: Flavour, connection: &mut Connection) -> Result<()> {
    match flavour {
        Flavour::Sqlite => sqlx::query(begin(flavour)).execute(&mut *connection).await?,
        // Both in one way there and back.
        Flavour::Postgres => {
            let both = format!("{}; {LOCK}", begin(flavour));
            sqlx::raw_sql(sqlx::AssertSqlSafe(both)).execute(&mut *connection).await?
        }
    };
    Ok(())
}
