//! The receiver's memory of one transfer: which chunks it has, and where they lie.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::manifest::Manifest;
use crate::parts::Parts;
use crate::progress::Progress;
use crate::wire::{DURABLE_MAX, Frame, Hash};

/// Bytes that may be received before they are on the disk; then a stream puts them there before it takes more.
const UNSYNCED_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    /// A stream writes it now; what another brings is dropped.
    Writing,
    Received,
    Durable,
}

struct Chunks {
    states: Vec<State>,
    hashes: Vec<Hash>,
    unsynced: Vec<u32>,
    unsynced_bytes: u64,
    received_bytes: u64,
    durable_bytes: u64,
    /// Chunks in the order in which they became durable; connections read on from where they were.
    durable: Vec<u32>,
    root: Option<Hash>,
    /// Why the disk took nothing more.
    fault: Option<String>,
}

/// One transfer. Every connection that carries it shares it.
pub(crate) struct Transfer {
    manifest: Arc<Manifest>,
    /// Tells a sender whether it speaks with the memory that it knows.
    memory: u64,
    /// `None`: checked and thrown away, to measure a path.
    disk: Option<(Parts, Mutex<Journal>)>,
    chunks: Mutex<Chunks>,
    changed: Condvar,
    /// Held while bytes are synced or files named.
    syncing: Mutex<()>,
    progress: Arc<Progress>,
}

impl Transfer {
    /// A transfer that keeps nothing.
    pub(crate) fn discarding(manifest: Manifest, memory: u64) -> Self {
        Self::with(Arc::new(manifest), memory, None)
    }

    /// Opens the state of a transfer, or begins it. What the journal is not sure of is read and checked.
    pub(crate) fn open(target: &Path, id: &Hash, manifest: Manifest, encoded: &[u8], memory: u64) -> Result<Self> {
        let manifest = Arc::new(manifest);
        let parts = Parts::open(target, id, Arc::clone(&manifest), encoded)?;
        let (journal, remembered) = Journal::open(&parts.journal_path())?;
        let there: Vec<u32> = (0_u32..)
            .zip(manifest.entries())
            .filter(|(_, entry)| parts.is_there(entry))
            .flat_map(|(file, _)| manifest.chunks_of(file))
            .collect();
        let transfer = Self::with(manifest, memory, Some((parts, Mutex::new(journal))));
        let mut chunks = transfer.lock();
        for number in there {
            transfer.settle(&mut chunks, number, State::Durable);
        }
        let Some((parts, _)) = &transfer.disk else { return Err(Error::Stopped) };
        for chunk in remembered {
            let Some(place) = transfer.manifest.place(chunk.number) else { continue };
            chunks.hashes[chunk.number as usize] = chunk.hash;
            let is_known = chunks.states[chunk.number as usize] == State::Durable;
            if is_known || !(chunk.durable || parts.holds(place, &chunk.hash)?) {
                continue;
            }
            transfer.settle(&mut chunks, chunk.number, if chunk.durable { State::Durable } else { State::Received });
        }
        drop(chunks);
        transfer.sync()?;
        Ok(transfer)
    }

    fn with(manifest: Arc<Manifest>, memory: u64, disk: Option<(Parts, Mutex<Journal>)>) -> Self {
        let count = manifest.chunks() as usize;
        let chunks = Chunks {
            states: vec![State::Missing; count],
            hashes: vec![[0; 32]; count],
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            received_bytes: 0,
            durable_bytes: 0,
            durable: Vec::new(),
            root: None,
            fault: None,
        };
        let progress = Arc::new(Progress::default());
        progress.show(manifest.bytes(), 0, 0);
        let (chunks, changed, syncing) = (Mutex::new(chunks), Condvar::new(), Mutex::new(()));
        Self { manifest, memory, disk, chunks, changed, syncing, progress }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Whether its files got their names and still stand there, or it has work to do.
    pub(crate) fn is_fresh(&self) -> bool {
        let is_done = self.lock().root.is_some();
        match &self.disk {
            Some((parts, _)) if is_done => self.manifest.entries().iter().all(|entry| parts.is_there(entry)),
            _ => !is_done,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.lock().root.is_some()
    }

    /// The answer to `join`.
    pub(crate) fn have(&self) -> Frame {
        let chunks = self.lock();
        let mut bits = vec![0; chunks.states.len().div_ceil(8)];
        for (number, state) in chunks.states.iter().enumerate() {
            if matches!(state, State::Received | State::Durable) {
                bits[number / 8] |= 1 << (number % 8);
            }
        }
        Frame::Have { memory: self.memory, chunks: chunks.states.len() as u32, bits }
    }

    /// Takes a chunk whose hash was checked. Returns when it is written and in the journal, by whomever.
    pub(crate) fn receive(&self, number: u32, bytes: &[u8], hash: &Hash) -> Result<()> {
        let Some(place) = self.manifest.place(number) else { return Err(Error::malformed("chunk", "no such number")) };
        let mut chunks = self.lock();
        // Ends because whoever writes ends, and says so.
        loop {
            if let Some(fault) = &chunks.fault {
                return Err(Error::Refused { kind: base::Kind::Exhausted, message: fault.clone() });
            }
            match chunks.states[number as usize] {
                State::Received | State::Durable => return Ok(()),
                State::Missing if chunks.unsynced_bytes < UNSYNCED_BYTES_MAX => break,
                State::Missing => {
                    drop(chunks);
                    self.sync()?;
                    chunks = self.lock();
                }
                State::Writing => chunks = self.changed.wait(chunks).unwrap_or_else(PoisonError::into_inner),
            }
        }
        chunks.states[number as usize] = State::Writing;
        drop(chunks);
        let _writing = Writing { transfer: self, number };
        let written = match &self.disk {
            Some((parts, journal)) => parts
                .write(place, bytes)
                .and_then(|()| journal.lock().unwrap_or_else(PoisonError::into_inner).received(number, hash)),
            None => Ok(()),
        };
        if written.is_ok() {
            let mut chunks = self.lock();
            chunks.hashes[number as usize] = *hash;
            let state = if self.disk.is_some() { State::Received } else { State::Durable };
            self.settle(&mut chunks, number, state);
        }
        written
    }

    /// Puts what was received on the disk. Whether there was anything.
    pub(crate) fn sync(&self) -> Result<bool> {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.sync_alone()
    }

    fn sync_alone(&self) -> Result<bool> {
        let numbers = std::mem::take(&mut self.lock().unsynced);
        let Some((parts, journal)) = &self.disk else { return Ok(false) };
        if numbers.is_empty() {
            return Ok(false);
        }
        let files: BTreeSet<u32> =
            numbers.iter().filter_map(|&number| self.manifest.place(number)).map(|place| place.file).collect();
        let synced = parts.sync(&files).and_then(|()| {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.durable(&numbers)
        });
        let mut chunks = self.lock();
        if let Err(error) = &synced {
            chunks.fault = Some(error.to_string());
        } else {
            for number in numbers {
                self.settle(&mut chunks, number, State::Durable);
            }
        }
        drop(chunks);
        self.changed.notify_all();
        synced.map(|()| true)
    }

    /// Chunks that became durable after the first `seen` of them.
    pub(crate) fn durable_since(&self, seen: usize) -> Vec<u32> {
        let chunks = self.lock();
        chunks.durable[seen..].iter().take(DURABLE_MAX).copied().collect()
    }

    /// Gives all files their names and returns the root; `None` while a chunk is missing.
    pub(crate) fn finish(&self) -> Result<Option<Hash>> {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = self.lock().root {
            return Ok(Some(root));
        }
        self.sync_alone()?;
        if let Some(fault) = &self.lock().fault {
            return Err(Error::Refused { kind: base::Kind::Exhausted, message: fault.clone() });
        }
        if self.lock().durable_bytes != self.manifest.bytes() {
            return Ok(None);
        }
        if let Some((parts, _)) = &self.disk {
            parts.place_all()?;
        }
        let mut chunks = self.lock();
        let root = *blake3::hash(chunks.hashes.as_flattened()).as_bytes();
        chunks.root = Some(root);
        Ok(Some(root))
    }

    /// Moves a chunk to a state and counts its bytes there.
    fn settle(&self, chunks: &mut Chunks, number: u32, state: State) {
        let length = self.manifest.place(number).map_or(0, |place| u64::from(place.length));
        let before = std::mem::replace(&mut chunks.states[number as usize], state);
        if !matches!(before, State::Received | State::Durable) {
            chunks.received_bytes += length;
            if state == State::Received {
                chunks.unsynced.push(number);
                chunks.unsynced_bytes += length;
            }
        }
        if state == State::Durable && before != State::Durable {
            chunks.durable_bytes += length;
            chunks.durable.push(number);
            if before == State::Received {
                chunks.unsynced_bytes -= length;
            }
        }
        self.progress.show(self.manifest.bytes(), chunks.received_bytes, chunks.durable_bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chunk that is being written. However that ends, those who wait for it hear of it.
struct Writing<'a> {
    transfer: &'a Transfer,
    number: u32,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut chunks = self.transfer.lock();
        if chunks.states[self.number as usize] == State::Writing {
            chunks.states[self.number as usize] = State::Missing;
        }
        drop(chunks);
        self.transfer.changed.notify_all();
    }
}
