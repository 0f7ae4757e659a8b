//! The sending end.
//!
//! Each stream has two threads: one pushes chunks, one listens. A stream whose connection ends connects again, to the
//! same plane, for as long as somebody makes progress or the patience lasts.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::hearing::Hearing;
use crate::manifest::{Manifest, STREAMS_MAX};
use crate::pace::Pace;
use crate::progress::Progress;
use crate::schedule::{Count, Schedule};
use crate::source::{Source, survey, survey_files};
use crate::wire::Hash;
use crate::{Machine, Token};

mod stream;

/// The longest rest between two attempts to connect.
const BACKOFF_MS_MAX: u64 = 1_000;

/// How to send.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// Addresses of the receiver, one a plane.
    pub planes: Vec<SocketAddr>,
    /// TCP streams on each plane.
    pub streams_per_plane: u32,
    /// Bytes of a chunk: what a kill may cost a stream.
    pub chunk_bytes: u32,
    /// The most bytes a second of all streams together.
    pub rate_bytes_per_s: Option<u64>,
    /// How long to try without any progress.
    pub patience_ms: u64,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            planes: Vec::new(),
            streams_per_plane: 2,
            chunk_bytes: 4 << 20,
            rate_bytes_per_s: None,
            patience_ms: 60_000,
        }
    }
}

/// What was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// How many files.
    pub files: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that the receiver had before.
    pub had_bytes: u64,
    /// Bytes that were handed to streams.
    pub sent_bytes: u64,
    /// Of these, bytes that had been handed to a stream before.
    pub resent_bytes: u64,
    /// From the first connection to the last name given.
    pub elapsed_us: u64,
    /// The longest time between two chunks received.
    pub stall_us_max: u64,
    /// BLAKE3 of all chunk hashes, from the receiver.
    pub root: Hash,
}

/// Sends a file or a folder, and returns when it is whole, checked and on the receiver's disk.
///
/// # Errors
/// If the source cannot be read or changes, the receiver refuses, or no plane leads anywhere for as long as the
/// patience lasts. What has arrived stays with the receiver: sending the same again goes on from there.
pub fn send(path: &Path, options: &SendOptions, token: &Token, machine: &Machine, progress: &Progress) -> Result<Sent> {
    push(survey(path, options.chunk_bytes)?, options, token, machine, progress)
}

/// Sends some files of a folder under the names that they have there.
///
/// # Errors
/// As [`send`], and if a name leads out of the folder.
pub fn send_files(
    folder: &Path,
    names: &[String],
    options: &SendOptions,
    token: &Token,
    machine: &Machine,
    progress: &Progress,
) -> Result<Sent> {
    push(survey_files(folder, names, options.chunk_bytes)?, options, token, machine, progress)
}

fn push(
    (manifest, source): (Manifest, Source),
    options: &SendOptions,
    token: &Token,
    machine: &Machine,
    progress: &Progress,
) -> Result<Sent> {
    let streams = options.planes.len() as u64 * u64::from(options.streams_per_plane);
    if streams == 0 || streams > u64::from(STREAMS_MAX) {
        let detail = "from 1 to 64 over all planes are possible";
        return Err(Error::Option { what: "streams", value: streams.to_string(), detail });
    }
    let manifest = Arc::new(manifest);
    let encoded = manifest.encode();
    let shared = Shared {
        transfer: Manifest::transfer(&encoded),
        source,
        encoded,
        options,
        token,
        machine,
        progress,
        state: Mutex::new(State {
            schedule: Schedule::new(Arc::clone(&manifest), streams as usize),
            hearing: Hearing::new(streams as usize, options.planes.len()),
            sockets: (0..streams).map(|_| None).collect(),
            outcome: None,
            finisher: None,
            gained_us: machine.clock.monotonic_us(),
            has_gained: false,
            stall_us_max: 0,
            had_bytes: None,
        }),
        pace: options.rate_bytes_per_s.map(|rate| Mutex::new(Pace::new(rate))),
        manifest,
        changed: Condvar::new(),
    };
    let start_us = machine.clock.monotonic_us();
    std::thread::scope(|scope| {
        for stream in 0..streams as usize {
            let shared = &shared;
            scope.spawn(move || keep_connected(shared, stream));
        }
    });
    let elapsed_us = machine.clock.monotonic_us() - start_us;
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let root = state.outcome.unwrap_or(Err(Error::Stopped))?;
    let Count { sent, resent, .. } = state.schedule.count();
    Ok(Sent {
        files: shared.manifest.entries().len() as u32,
        bytes: shared.manifest.bytes(),
        had_bytes: state.had_bytes.unwrap_or(0),
        sent_bytes: sent,
        resent_bytes: resent,
        elapsed_us,
        stall_us_max: state.stall_us_max,
        root,
    })
}

/// What all streams share.
struct Shared<'a> {
    transfer: Hash,
    manifest: Arc<Manifest>,
    encoded: Vec<u8>,
    source: Source,
    options: &'a SendOptions,
    token: &'a Token,
    machine: &'a Machine,
    progress: &'a Progress,
    pace: Option<Mutex<Pace>>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    schedule: Schedule,
    hearing: Hearing,
    sockets: Vec<Option<TcpStream>>,
    outcome: Option<Result<Hash>>,
    /// The stream that asks the receiver to finish.
    finisher: Option<usize>,
    gained_us: u64,
    has_gained: bool,
    stall_us_max: u64,
    had_bytes: Option<u64>,
}

/// What a stream does next.
enum Work {
    Chunk(u32),
    Finish,
    /// Nothing to do for a while: say that we are here.
    Greet,
    End,
}

/// Ends when the transfer does: by success, by an error that will not pass, or out of patience.
fn keep_connected(shared: &Shared<'_>, stream: usize) {
    let mut backoff_ms = 25;
    while !shared.is_over() {
        let before = shared.lock().schedule.count().received;
        let Err(error) = stream::run(shared, stream) else { return };
        let mut state = shared.lock();
        state.schedule.lost(stream);
        state.hearing.lost(stream);
        state.sockets[stream] = None;
        if state.finisher == Some(stream) {
            state.finisher = None;
        }
        let waited_ms = (shared.machine.clock.monotonic_us() - state.gained_us) / 1_000;
        let gained = state.schedule.count().received > before;
        drop(state);
        shared.changed.notify_all();
        if !error.may_pass() {
            return shared.end(Err(error));
        }
        if waited_ms > shared.options.patience_ms {
            let planes: Vec<String> = shared.options.planes.iter().map(ToString::to_string).collect();
            let source = Some(Box::new(error));
            return shared.end(Err(Error::Unreachable { waited_ms, planes: planes.join(", "), source }));
        }
        tracing::info!(stream, error = &error as &dyn std::error::Error, "a stream connects again");
        backoff_ms = if gained { 25 } else { (backoff_ms * 2).min(BACKOFF_MS_MAX) };
        shared.rest(backoff_ms);
    }
}

impl Shared<'_> {
    fn plane(&self, stream: usize) -> SocketAddr {
        self.options.planes[stream % self.options.planes.len()]
    }

    fn is_over(&self) -> bool {
        self.lock().outcome.is_some()
    }

    /// Ends the transfer once, and every stream with it.
    fn end(&self, outcome: Result<Hash>) {
        let mut state = self.lock();
        if state.outcome.is_none() {
            state.outcome = Some(outcome);
        }
        for socket in state.sockets.iter().flatten() {
            // A socket that is closed already is what we want.
            let _ = socket.shutdown(Shutdown::Both);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Keeps a stream's socket, so that the end of the transfer ends whatever waits for it.
    fn keep(&self, stream: usize, socket: TcpStream) -> Result<()> {
        let mut state = self.lock();
        if state.outcome.is_some() {
            return Err(Error::Stopped);
        }
        state.sockets[stream] = Some(socket);
        Ok(())
    }

    /// Rests, or less if the transfer ends.
    fn rest(&self, rest_ms: u64) {
        let over = |state: &mut State| state.outcome.is_none();
        drop(self.changed.wait_timeout_while(self.lock(), Duration::from_millis(rest_ms), over));
    }

    /// What a stream is to do next; waits for it. Ends with an error when its connection broke.
    fn next(&self, stream: usize, broken: &AtomicBool) -> Result<Work> {
        let mut state = self.lock();
        loop {
            if state.outcome.is_some() {
                return Ok(Work::End);
            }
            if broken.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            if let Some(number) = state.schedule.take(stream) {
                return Ok(Work::Chunk(number));
            }
            let may_finish = state.schedule.all_received() && !state.schedule.is_silent(stream);
            if may_finish && state.finisher.is_none() {
                state.finisher = Some(stream);
                return Ok(Work::Finish);
            }
            let waited = self.changed.wait_timeout(state, Duration::from_millis(1_000));
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            if timeout.timed_out() {
                return Ok(Work::Greet);
            }
        }
    }

    /// A change of the schedule, after which others may have work.
    fn update<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.lock();
        let before = state.schedule.count().received;
        let changed = change(&mut state)?;
        let count = state.schedule.count();
        if count.received > before {
            let now_us = self.machine.clock.monotonic_us();
            if state.has_gained {
                state.stall_us_max = state.stall_us_max.max(now_us.saturating_sub(state.gained_us));
            }
            state.gained_us = now_us;
            state.has_gained = true;
        }
        self.progress.show(self.manifest.bytes(), count.received, count.durable);
        drop(state);
        self.changed.notify_all();
        Ok(changed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
