//! Which batches are open, and whose turn it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{Clock, RequestId, Rng};
use chat::Caller;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use store::{Name, Store};
use tokio::sync::watch;

use super::run::{self, Outcome};
use super::{Counts, KEPT_MS, Lines, OPEN_MAX, Owner, RECORD_BYTES_MAX, Record, Status};
use crate::{files, kept};

/// Batches that are worked on at once. The others wait, so that one owner's thousand do not hold up another's first.
const RUNNING_MAX: usize = 4;
/// Batches of one owner that are listed.
const LISTED_MAX: usize = 10_000;
/// So many old batches are looked at when a new one is made.
const SWEPT: usize = 8;
/// Keeps the names of runs apart from those of requests.
const SALT: u64 = 0x0062_6174_6368;
/// Bytes of a marker.
const MARKER_BYTES_MAX: u64 = 4 << 10;

/// What runs work with.
pub(super) struct Bench {
    pub(super) objects: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    /// Lets so many milliseconds pass.
    pub(super) rest: fn(u64) -> BoxFuture<'static, ()>,
    random: Mutex<Rng>,
    stopped: watch::Sender<bool>,
}

impl Bench {
    pub(super) fn new(
        objects: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rest: fn(u64) -> BoxFuture<'static, ()>,
        seed: u64,
    ) -> Self {
        let random = Mutex::new(Rng::seeded(seed ^ SALT));
        Self { objects, clock, rest, random, stopped: watch::Sender::new(false) }
    }

    pub(super) fn random(&self) -> RequestId {
        RequestId::random(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the server stops.
    pub(super) async fn stopped(&self) {
        // The sender lives as long as this.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }
}

/// A batch that is not over.
pub(super) struct Handle {
    /// As it stands; counts are ahead of what is stored.
    live: watch::Sender<Record>,
    writing: tokio::sync::Mutex<()>,
    turn: watch::Sender<bool>,
}

impl Handle {
    pub(super) fn new(record: Record) -> Self {
        let (live, turn) = (watch::Sender::new(record), watch::Sender::new(false));
        Self { live, writing: tokio::sync::Mutex::default(), turn }
    }

    pub(super) fn id(&self) -> String {
        self.live.borrow().id.clone()
    }

    pub(super) fn record(&self) -> Record {
        self.live.borrow().clone()
    }

    /// Changes the record; durable when it has answered, and shown only then.
    pub(super) async fn update(&self, bench: &Bench, change: impl FnOnce(&mut Record)) -> store::Result<()> {
        let _writing = self.writing.lock().await;
        let mut record = self.record();
        change(&mut record);
        kept::write(&*bench.objects, &record.name()?, &record, RECORD_BYTES_MAX).await?;
        self.live.send_replace(record);
        Ok(())
    }

    /// Shows how far it is.
    pub(super) fn count(&self, (succeeded, errored): (u64, u64)) {
        self.live.send_modify(|record| record.counts = Counts { succeeded, errored, ..record.counts });
    }

    /// Waits until somebody wants the batch cancelled.
    pub(super) async fn cancelled(&self) {
        // The sender lives as long as this.
        let _ = self.live.subscribe().wait_for(|record| record.status == Status::Cancelling).await;
    }
}

struct Seat {
    handle: Arc<Handle>,
    project: Option<String>,
    input: String,
    is_running: bool,
}

/// All open batches.
pub(crate) struct Desk {
    bench: Arc<Bench>,
    /// In the order in which they were made.
    seats: Mutex<Vec<Seat>>,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    owner: Option<Owner>,
}

impl Desk {
    pub(crate) fn new(objects: Arc<dyn Store>, clock: Arc<dyn Clock>, seed: u64) -> Self {
        let rest =
            |ms| -> BoxFuture<'static, ()> { Box::pin(tokio::time::sleep(std::time::Duration::from_millis(ms))) };
        Self { bench: Arc::new(Bench::new(objects, clock, rest, seed)), seats: Mutex::default() }
    }

    /// No further line is begun; what is on its way is left to the next server.
    pub(crate) fn stop(&self) {
        self.bench.stopped.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seat>> {
        // The list is whole between any two statements that hold the lock.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Option<Arc<Handle>> {
        self.lock().iter().find(|seat| seat.handle.live.borrow().id == id).map(|seat| Arc::clone(&seat.handle))
    }

    /// The open batch whose input this file is.
    pub(crate) fn using(&self, file: &str) -> Option<String> {
        self.lock().iter().find(|seat| seat.input == file).map(|seat| seat.handle.id())
    }

    /// What is said where no more batches are taken.
    pub(crate) fn overloaded(&self) -> chat::Error {
        chat::Error::Overloaded { waiting: self.lock().len(), limit: OPEN_MAX }
    }

    /// Whether no more batches are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().len() >= OPEN_MAX
    }

    /// Accepts a batch: it will be worked on whatever happens to this process.
    pub(crate) async fn accept(self: &Arc<Self>, record: Record, lines: Arc<dyn Lines>) -> store::Result<()> {
        let objects = &*self.bench.objects;
        self.sweep(&record).await?;
        let marker = Marker { owner: record.owner.clone() };
        kept::write(objects, &record.marker()?, &marker, MARKER_BYTES_MAX).await?;
        kept::write(objects, &record.name()?, &record, RECORD_BYTES_MAX).await?;
        self.start(record, lines);
        Ok(())
    }

    /// Takes up what an earlier process left.
    pub(crate) async fn resume(self: &Arc<Self>, lines: impl Fn(&Record) -> Arc<dyn Lines>) -> store::Result<usize> {
        let objects = &*self.bench.objects;
        files::remove_unfinished(objects).await?;
        let markers = objects.list_after(&Name::parse("open-batches")?, None, OPEN_MAX).await?;
        let mut resumed = 0;
        for entry in markers {
            let Some(Marker { owner }) = kept::read(objects, &entry.name, MARKER_BYTES_MAX).await? else { continue };
            let owner = owner.map(|Owner { project, key, .. }| Caller {
                project: project.into(),
                key: key.into(),
                priority: chat::Priority::Background,
            });
            match self.stored(owner.as_ref(), entry.name.last_part()).await? {
                Some(record) => {
                    let lines = lines(&record);
                    self.start(record, lines);
                    resumed += 1;
                }
                // It was never accepted: whoever asked for it was not answered.
                None => objects.delete(&entry.name).await?,
            }
        }
        Ok(resumed)
    }

    fn start(self: &Arc<Self>, record: Record, lines: Arc<dyn Lines>) {
        let (id, input) = (record.id.clone(), record.input.clone());
        let project = record.owner.as_ref().map(|owner| owner.project.clone());
        let handle = Arc::new(Handle::new(record));
        self.lock().push(Seat { handle: Arc::clone(&handle), project, input, is_running: false });
        self.give_turns();
        let desk = Arc::clone(self);
        // It ends with the batch or with the server; a run that dies with the process is taken up by the next one.
        tokio::spawn(async move {
            let mut turn = handle.turn.subscribe();
            tokio::select! {
                biased;
                () = desk.bench.stopped() => return,
                () = handle.cancelled() => {}
                // The sender is in the handle.
                _ = turn.wait_for(|turn| *turn) => {}
            }
            match run::run(&desk.bench, &handle, &*lines).await {
                Outcome::Over => {
                    let Record { status, counts, .. } = handle.record();
                    let (succeeded, errored) = (counts.succeeded, counts.errored);
                    tracing::info!(batch.id = id, ?status, succeeded, errored, "a batch is over");
                }
                Outcome::Stopped => tracing::info!(batch.id = id, "a batch waits for the next start"),
            }
            desk.lock().retain(|seat| !Arc::ptr_eq(&seat.handle, &handle));
            desk.give_turns();
        });
    }

    /// Lets batches begin: first those of whom least is running, then the oldest.
    fn give_turns(&self) {
        let mut seats = self.lock();
        while seats.iter().filter(|seat| seat.is_running).count() < RUNNING_MAX {
            let mut running: HashMap<Option<&String>, usize> = HashMap::new();
            for seat in seats.iter().filter(|seat| seat.is_running) {
                *running.entry(seat.project.as_ref()).or_default() += 1;
            }
            let waiting = seats.iter().enumerate().filter(|(_, seat)| !seat.is_running);
            let of_owner = |seat: &Seat| running.get(&seat.project.as_ref()).copied().unwrap_or(0);
            let Some(next) = waiting.min_by_key(|(_, seat)| of_owner(seat)).map(|(index, _)| index) else { return };
            seats[next].is_running = true;
            seats[next].handle.turn.send_replace(true);
        }
    }

    async fn stored(&self, owner: Option<&Caller>, id: &str) -> store::Result<Option<Record>> {
        kept::read(&*self.bench.objects, &kept::folder("batches", owner).join(id)?, RECORD_BYTES_MAX).await
    }

    /// A batch of an owner. `prefix` is that of the dialect's ids.
    pub(crate) async fn get(&self, owner: Option<&Caller>, prefix: &str, id: &str) -> store::Result<Option<Record>> {
        if !files::is_id(prefix, id) {
            return Ok(None);
        }
        let Some(stored) = self.stored(owner, id).await? else { return Ok(None) };
        Ok(Some(self.find(id).map_or(stored, |handle| handle.record())))
    }

    /// Ids of an owner's batches in a dialect, newest first.
    pub(crate) async fn ids(&self, owner: Option<&Caller>, prefix: &str) -> store::Result<Vec<String>> {
        let entries = self.bench.objects.list_after(&kept::folder("batches", owner), None, LISTED_MAX).await?;
        let ids = entries.iter().rev().map(|entry| entry.name.last_part().to_owned());
        Ok(ids.filter(|id| files::is_id(prefix, id)).collect())
    }

    /// Asks for a batch to be cancelled; durable when it has answered. False: it is over already.
    pub(crate) async fn cancel(&self, id: &str) -> store::Result<bool> {
        let Some(handle) = self.find(id) else { return Ok(false) };
        let now_ms = self.bench.clock.now_ms();
        let cancelling = |record: &mut Record| {
            if matches!(record.status, Status::Validating | Status::InProgress) {
                (record.status, record.cancelling_at_ms) = (Status::Cancelling, Some(now_ms));
            }
        };
        handle.update(&self.bench, cancelling).await?;
        Ok(!handle.record().status.is_over() || handle.record().status == Status::Cancelled)
    }

    /// Forgets a batch that is over.
    pub(crate) async fn delete(&self, owner: Option<&Caller>, id: &str) -> store::Result<()> {
        self.bench.objects.delete(&kept::folder("batches", owner).join(id)?).await
    }

    /// Throws away some of those whose time is over.
    async fn sweep(&self, of: &Record) -> store::Result<()> {
        let owner = of.owner_caller();
        let folder = kept::folder("batches", owner.as_ref());
        for entry in self.bench.objects.list_after(&folder, None, SWEPT).await? {
            let record = self.stored(owner.as_ref(), entry.name.last_part()).await?;
            let over_at_ms = record.and_then(|record| record.over_at_ms);
            if over_at_ms.is_some_and(|over_at_ms| over_at_ms + KEPT_MS <= self.bench.clock.now_ms()) {
                self.bench.objects.delete(&entry.name).await?;
            }
        }
        files::Files::of(&self.bench.objects, owner.as_ref()).sweep(self.bench.clock.now_ms()).await
    }
}
