//! Pulls for those who do not wait for them: one after another on an own thread, each with how far it is and how it
//! ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use base::{Clock, chain};
use serde::Serialize;

use crate::depot::Depot;
use crate::error::{Error, Result};
use crate::name::Wanted;
use crate::pull::{Event, Options, Pulled, pull};
use crate::source::Source;

/// Pulls that may wait.
pub const WAITING_MAX: usize = 32;
/// Pulls that are over and are still told of.
const REMEMBERED: usize = 64;

/// Called with every model that is there, before its pull is said to be done. An error is the pull's.
pub type Arrived = Box<dyn Fn(&Pulled) -> std::result::Result<(), String> + Send + Sync>;

/// A model that somebody wants.
pub struct Order {
    /// Where it comes from.
    pub source: Box<dyn Source>,
    /// Which model.
    pub wanted: Wanted,
    /// How; `now_ms` and `stop` are the queue's.
    pub options: Options,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Others come first.
    Waiting,
    /// It is fetched.
    Fetching,
    /// It is there, whole and checked.
    Done,
    /// It failed; what was fetched stays for the next try.
    Failed,
    /// Somebody stopped it; what was fetched stays for the next try.
    Stopped,
}

/// A pull as it is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Its number; no two of one process have the same.
    pub id: u64,
    /// What was asked for, `OWNER/NAME`.
    pub model: String,
    /// Where from.
    pub source: String,
    /// Its name here, once that is known.
    pub name: Option<String>,
    /// How far it is.
    pub state: Stage,
    /// Files of the model; 0 until it is found.
    pub files: usize,
    /// Files that are whole.
    pub whole_files: usize,
    /// Their bytes; 0 until it is found.
    pub size_bytes: u64,
    /// Bytes that are here.
    pub here_bytes: u64,
    /// What happened last that was not as it should be: a connection that is tried again, or why it failed.
    pub why: Option<String>,
    /// When it was asked for, milliseconds since the Unix epoch.
    pub asked_ms: u64,
    /// When it began.
    pub began_ms: Option<u64>,
    /// When it was over.
    pub over_ms: Option<u64>,
}

/// A queue of pulls into one folder of models. Dropped, it stops the one that runs, at its next byte.
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    depot: Depot,
    clock: Arc<dyn Clock>,
    arrived: Arrived,
    state: Mutex<State>,
    /// An order came, or nobody wants any more.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next_id: u64,
    /// Oldest first.
    pulls: VecDeque<Entry>,
    waiting: VecDeque<(u64, Order)>,
    is_closed: bool,
}

struct Entry {
    progress: Progress,
    stop: Arc<AtomicBool>,
}

impl Queue {
    /// An empty queue.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(depot: Depot, clock: Arc<dyn Clock>, arrived: Arrived) -> Result<Self> {
        let shared = Arc::new(Shared { depot, clock, arrived, state: Mutex::default(), changed: Condvar::new() });
        let working = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("pulls".to_owned()).spawn(move || working.run());
        thread.map_err(|why| Error::Client(Box::new(why)))?;
        Ok(Self { shared })
    }

    /// Puts an order at the end. A model that is being pulled or waits already is not ordered twice.
    ///
    /// # Errors
    /// If too many wait.
    pub fn order(&self, order: Order) -> Result<Progress> {
        let mut state = self.shared.lock();
        let (model, source) = (order.wanted.to_string(), order.source.name());
        let is_same = |known: &Progress| {
            let is_open = matches!(known.state, Stage::Waiting | Stage::Fetching);
            is_open && known.model == model && known.source == source
        };
        if let Some(known) = state.pulls.iter().find(|entry| is_same(&entry.progress)) {
            return Ok(known.progress.clone());
        }
        if state.waiting.len() >= WAITING_MAX {
            let found = state.waiting.len() as u64 + 1;
            return Err(Error::TooMuch { what: "pulls that wait", found, most: WAITING_MAX as u64 });
        }
        state.next_id += 1;
        let progress = Progress {
            id: state.next_id,
            model,
            source,
            name: order.options.name.clone(),
            state: Stage::Waiting,
            files: 0,
            whole_files: 0,
            size_bytes: 0,
            here_bytes: 0,
            why: None,
            asked_ms: self.shared.clock.now_ms(),
            began_ms: None,
            over_ms: None,
        };
        state.pulls.push_back(Entry { progress: progress.clone(), stop: Arc::default() });
        state.waiting.push_back((progress.id, order));
        state.forget();
        drop(state);
        self.shared.changed.notify_one();
        Ok(progress)
    }

    /// All pulls that are remembered, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Progress> {
        self.shared.lock().pulls.iter().rev().map(|entry| entry.progress.clone()).collect()
    }

    /// Stops a pull, now or at its next byte; one that is over stays as it is. `None` if there is none of the number.
    #[must_use]
    pub fn stop(&self, id: u64) -> Option<Progress> {
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.shared.lock();
        state.waiting.retain(|(waiting, _)| *waiting != id);
        let entry = state.pulls.iter_mut().find(|entry| entry.progress.id == id)?;
        entry.stop.store(true, Ordering::Release);
        if entry.progress.state == Stage::Waiting {
            (entry.progress.state, entry.progress.over_ms) = (Stage::Stopped, Some(now_ms));
        }
        Some(entry.progress.clone())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        state.waiting.clear();
        for entry in &state.pulls {
            entry.stop.store(true, Ordering::Release);
        }
        drop(state);
        // Nobody waits for the thread: a silent connection would hold it, and what it has fetched is on the disk.
        self.shared.changed.notify_one();
    }
}

impl State {
    /// Keeps what is open, and the last that are over.
    fn forget(&mut self) {
        let is_over = |entry: &Entry| entry.progress.over_ms.is_some();
        let mut surplus = self.pulls.iter().filter(|entry| is_over(entry)).count().saturating_sub(REMEMBERED);
        self.pulls.retain(|entry| {
            let goes = surplus > 0 && is_over(entry);
            surplus -= usize::from(goes);
            !goes
        });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is told is whole between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the queue is dropped.
    fn run(&self) {
        while let Some((id, order)) = self.next() {
            let options = Options { now_ms: self.clock.now_ms(), stop: self.begin(id), ..order.options };
            let tell = |event: Event<'_>| self.tell(id, &event);
            let pulled = pull(&self.depot, &*order.source, &order.wanted, &options, &tell);
            let outcome = match pulled {
                Ok(pulled) => (self.arrived)(&pulled).map_err(|why| (Stage::Failed, Some(why))),
                Err(Error::Stopped) => Err((Stage::Stopped, None)),
                Err(error) => Err((Stage::Failed, Some(chain(&error)))),
            };
            let now_ms = self.clock.now_ms();
            self.change(id, |progress| {
                let (state, why) = outcome.map_or_else(|end| end, |()| (Stage::Done, None));
                (progress.state, progress.why, progress.over_ms) = (state, why, Some(now_ms));
            });
        }
    }

    fn next(&self) -> Option<(u64, Order)> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(next) = state.waiting.pop_front() {
                return Some(next);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begin(&self, id: u64) -> Arc<AtomicBool> {
        let now_ms = self.clock.now_ms();
        self.change(id, |progress| (progress.state, progress.began_ms) = (Stage::Fetching, Some(now_ms)));
        let state = self.lock();
        let entry = state.pulls.iter().find(|entry| entry.progress.id == id);
        entry.map(|entry| Arc::clone(&entry.stop)).unwrap_or_default()
    }

    fn tell(&self, id: u64, event: &Event<'_>) {
        self.change(id, |progress| match event {
            Event::Listed { name, files, bytes, .. } => {
                progress.name = Some((*name).to_owned());
                (progress.files, progress.size_bytes) = (*files, *bytes);
            }
            Event::Moved(by) => progress.here_bytes = progress.here_bytes.saturating_add_signed(*by),
            Event::Retry { path, why } | Event::Corrupt { path, why } => {
                progress.why = Some(format!("{path}: {}", chain(*why)));
            }
            Event::Whole { .. } => progress.whole_files += 1,
        });
    }

    fn change(&self, id: u64, how: impl FnOnce(&mut Progress)) {
        let mut state = self.lock();
        if let Some(entry) = state.pulls.iter_mut().find(|entry| entry.progress.id == id) {
            how(&mut entry.progress);
        }
    }
}
