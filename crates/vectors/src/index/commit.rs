//! Writes: many requests, one entry of the log, one durable object.
//!
//! Whoever gets hold of the applier commits for all that wait. While a commit is under way, requests gather; there is
//! no timer, so a lonely request waits for nothing but its own object. A future that is dropped leaves its commit in
//! `Applier::inflight`, and the next one to come finishes it.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Index;
use super::apply::log_name;
use crate::log::{ENTRY_BYTES_MAX, Entry, op_bytes, own_checksum};
use crate::state::Logged;
use crate::types::{BATCH_ROWS_MAX, CHANGES_MAX, Key, Op, Row};
use crate::{Error, Result};

/// How many requests one entry carries at most, so that it stays within memory on every reader.
const COMMIT_BYTES: u64 = 32 << 20;
/// How often a commit is tried when the store is not available.
const TRIES_MAX: u32 = 4;
/// How many races a commit loses before it gives up.
const RACES_MAX: u32 = 1_000;

const _: () = assert!(COMMIT_BYTES + (16 << 20) <= ENTRY_BYTES_MAX);

/// A write that waits.
#[derive(Debug)]
pub(super) struct Request {
    ops: Vec<Op>,
    bytes: u64,
    answer: oneshot::Sender<Result<()>>,
}

/// The right to change the state, and the commit that is under way.
#[derive(Debug, Default)]
pub(super) struct Applier {
    inflight: Option<Inflight>,
    serial: u64,
}

/// A commit whose outcome is not known yet.
#[derive(Debug)]
struct Inflight {
    serial: u64,
    number: u64,
    previous: u32,
    bytes: Bytes,
    ops: Vec<Op>,
    answers: Vec<oneshot::Sender<Result<()>>>,
    /// Whether the state remembered this writer when the commit began.
    was_remembered: bool,
}

impl Index {
    /// Adds or replaces rows: all of them or, on an error other than [`Error::Unknown`], none. When it answers `Ok`,
    /// the rows are durable and every read that begins later sees them, in any process.
    ///
    /// Dropping the future leaves it open whether the rows are written.
    ///
    /// # Errors
    /// If a row does not fit the index, more than [`BATCH_ROWS_MAX`] are given, or one key twice; [`Error::Busy`] if
    /// compaction lags; [`Error::Unknown`] and errors of the store.
    pub async fn put(&self, rows: Vec<Row>) -> Result<()> {
        let keys: Vec<&Key> = rows.iter().map(|row| &row.key).collect();
        check_batch(&keys, BATCH_ROWS_MAX)?;
        for row in &rows {
            self.shape.check_vector(&row.vector)?;
        }
        self.write(rows.into_iter().map(|row| Op::Put(Arc::new(row))).collect()).await
    }

    /// Removes rows. Keys that are not there are no error. Durable and visible as [`Self::put`] is.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn delete(&self, keys: Vec<Key>) -> Result<()> {
        check_batch(&keys.iter().collect::<Vec<_>>(), BATCH_ROWS_MAX)?;
        self.write(keys.into_iter().map(Op::Delete).collect()).await
    }

    /// Adds, replaces and removes rows in one step: no reader sees a part of it. Durable and visible as [`Self::put`]
    /// is.
    ///
    /// # Errors
    /// As [`Self::put`], with [`CHANGES_MAX`] for the limit.
    pub async fn change(&self, ops: Vec<Op>) -> Result<()> {
        check_batch(&ops.iter().map(Op::key).collect::<Vec<_>>(), CHANGES_MAX)?;
        for op in &ops {
            if let Op::Put(row) = op {
                self.shape.check_vector(&row.vector)?;
            }
        }
        self.write(ops).await
    }

    async fn write(&self, ops: Vec<Op>) -> Result<()> {
        let rows = u64::from(self.state().tail.rows());
        let limit = u64::from(self.config.tail_rows_max);
        if rows + ops.len() as u64 > limit {
            return Err(Error::Busy { rows, limit });
        }
        let (answer, mut outcome) = oneshot::channel();
        let bytes = ops.iter().map(op_bytes).sum();
        if bytes > COMMIT_BYTES {
            return Err(Error::Invalid { field: "batch", why: format!("{bytes} bytes, {COMMIT_BYTES} allowed") });
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Request { ops, bytes, answer });
        // Ends: each round answers at least the oldest requests, and this one grows old.
        loop {
            let mut applier = self.applier.lock().await;
            match outcome.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Closed) => return Err(Error::Unknown),
                Err(oneshot::error::TryRecvError::Empty) => self.commit_waiting(&mut applier).await,
            }
        }
    }

    /// Commits what waits and tells those who wait.
    async fn commit_waiting(&self, applier: &mut Applier) {
        if applier.inflight.is_none() {
            self.begin(applier);
        }
        let done = self.finish(applier).await;
        if done.is_ok() {
            let answers = applier.inflight.take().map(|inflight| inflight.answers).unwrap_or_default();
            for answer in answers {
                // Whoever asked may have gone.
                let _ = answer.send(Ok(()));
            }
            return;
        }
        // The entry stays in flight, since it may be in the log: the next commit finds out. Those who came after it
        // have certainly not been written.
        for answer in applier.inflight.iter_mut().flat_map(|inflight| inflight.answers.drain(..)) {
            let _ = answer.send(Err(Error::Unknown));
        }
        for request in std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = request.answer.send(Err(Error::Contended { action: "write the log", tries: TRIES_MAX }));
        }
    }

    /// Puts the oldest waiting requests in flight.
    fn begin(&self, applier: &mut Applier) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let fitting = waiting.iter().take_while(|request| {
            bytes += request.bytes;
            bytes <= COMMIT_BYTES
        });
        let count = fitting.count();
        let (mut ops, mut answers) = (Vec::new(), Vec::new());
        for mut request in waiting.drain(..count) {
            ops.append(&mut request.ops);
            answers.push(request.answer);
        }
        drop(waiting);
        applier.serial += 1;
        let was_remembered = self.state().writers.last(self.writer).is_some();
        let (serial, bytes) = (applier.serial, Bytes::new());
        let mut inflight = Inflight { serial, number: 0, previous: 0, bytes, ops, answers, was_remembered };
        self.renumber(&mut inflight);
        applier.inflight = Some(inflight);
    }

    /// Makes the commit the next entry of the log as we know it.
    fn renumber(&self, inflight: &mut Inflight) {
        let state = self.state();
        let entry = Entry {
            number: state.next,
            previous: state.previous,
            writer: self.writer,
            serial: inflight.serial,
            ops: std::mem::take(&mut inflight.ops),
        };
        inflight.number = entry.number;
        inflight.previous = entry.previous;
        inflight.bytes = entry.encode().into();
        inflight.ops = entry.ops;
    }

    /// Brings the commit in flight into the log, once, and applies it.
    async fn finish(&self, applier: &mut Applier) -> Result<()> {
        let (mut tries, mut races) = (0, 0);
        // Ends: each round that does not return counts a try or a race.
        loop {
            let Some(inflight) = &mut applier.inflight else { return Ok(()) };
            match self.is_applied(inflight) {
                Some(true) => return Ok(()),
                Some(false) if self.state().next != inflight.number => {
                    races += 1;
                    self.renumber(inflight);
                }
                Some(false) => {}
                None => {
                    for answer in applier.inflight.take().map(|inflight| inflight.answers).unwrap_or_default() {
                        let _ = answer.send(Err(Error::Unknown));
                    }
                    return Err(Error::Unknown);
                }
            }
            if races > RACES_MAX {
                return Err(Error::Contended { action: "write the log", tries: RACES_MAX });
            }
            let round = match self.create_entry(inflight).await {
                Ok(true) => self.settle(applier).await,
                Ok(false) => self.catch_up(applier).await,
                Err(error) => Err(error),
            };
            if let Err(error) = round {
                tries += 1;
                if tries >= TRIES_MAX || error.kind() != base::Kind::Unavailable {
                    return Err(error);
                }
            }
        }
    }

    /// Whether the state holds our commit. `None` if nobody can say: more writers than a manifest remembers came since.
    fn is_applied(&self, inflight: &Inflight) -> Option<bool> {
        let state = self.state();
        match state.writers.last(self.writer) {
            Some(last) => Some(last >= inflight.serial),
            None if inflight.was_remembered && !state.writers.is_complete() => None,
            None => Some(false),
        }
    }

    /// Creates the object. `false` if another entry stands there.
    async fn create_entry(&self, inflight: &Inflight) -> Result<bool> {
        let name = log_name(&self.folder, inflight.number)?;
        match self.store.put_create(&name, inflight.bytes.clone()).await {
            Ok(()) => return Ok(true),
            Err(store::Error::Exists { .. }) => {}
            Err(source) => return Err(Error::Store { action: "write the log", source }),
        }
        // An earlier try of ours may have been more successful than its answer.
        match self.store.get(&name, ENTRY_BYTES_MAX).await {
            Ok(bytes) => Ok(bytes == inflight.bytes),
            Err(error) if error.is_not_found() => Ok(false),
            Err(source) => Err(Error::Store { action: "read the log", source }),
        }
    }

    /// The object stands at our place: makes sure that the place counts, and applies it.
    async fn settle(&self, applier: &mut Applier) -> Result<()> {
        if self.adopt_newer(applier).await? {
            return self.catch_up(applier).await;
        }
        let Some(inflight) = &applier.inflight else { return Ok(()) };
        let logged = Logged {
            number: inflight.number,
            previous: inflight.previous,
            checksum: own_checksum(&inflight.bytes),
            author: Some((self.writer, inflight.serial)),
            ops: inflight.ops.clone(),
        };
        self.apply(applier, Arc::new(logged)).await
    }
}

fn check_batch(keys: &[&Key], max: usize) -> Result<()> {
    if !(1..=max).contains(&keys.len()) {
        let why = format!("{} keys, 1 to {max} allowed", keys.len());
        return Err(Error::Invalid { field: "batch", why });
    }
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        let shown: String = pair[0].as_str().chars().take(64).collect();
        return Err(Error::Invalid { field: "batch", why: format!("key {shown:?} is given twice") });
    }
    Ok(())
}
