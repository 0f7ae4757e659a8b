//! The durable log of a batch: which lines were answered, and how.
//!
//! A run writes segments of its own, named after it, so that whatever an earlier run may still have on its way to the
//! store cannot take anything back. The segment that is being filled is replaced by a longer one with every flush, and
//! left behind when it is large enough: few objects, and never more than a segment written again.
//!
//! An entry that cannot be read is one that was never acknowledged; its line counts as unanswered.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{Name, OBJECT_BYTES_MAX, Store};

/// A segment of so many bytes is left behind. Sketch: at 100 answers of 2 KB a second, one segment a second.
const SEGMENT_BYTES: usize = 256 << 10;
/// Segments of one listing.
const PAGE: usize = 1000;

/// An answer to a line.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    /// Which line of the input.
    pub(super) number: u64,
    pub(super) is_success: bool,
    /// Its line of the output.
    pub(super) line: Box<RawValue>,
}

pub(super) struct Log {
    objects: Arc<dyn Store>,
    folder: Name,
    run: String,
    segment: u32,
    /// Entries that are in no finished segment.
    buffer: Vec<u8>,
    /// Segments that were filled and not yet written.
    full: Vec<(u32, Vec<u8>)>,
    is_dirty: bool,
    answered: HashSet<u64>,
    succeeded: u64,
}

impl Log {
    /// Reads what earlier runs left. `run` must be a name that no run had before.
    pub(super) async fn open(objects: &Arc<dyn Store>, folder: Name, run: String) -> store::Result<Self> {
        let mut log = Self {
            objects: Arc::clone(objects),
            folder,
            run,
            segment: 0,
            buffer: Vec::new(),
            full: Vec::new(),
            is_dirty: false,
            answered: HashSet::new(),
            succeeded: 0,
        };
        let mut segments = log.segments();
        while let Some(entries) = segments.next().await? {
            entries.iter().for_each(|entry| log.note(entry.number, entry.is_success));
        }
        Ok(log)
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.answered.contains(&number)
    }

    /// Lines that went well, and lines that did not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.succeeded, self.answered.len() as u64 - self.succeeded)
    }

    fn note(&mut self, number: u64, is_success: bool) {
        if self.answered.insert(number) && is_success {
            self.succeeded += 1;
        }
    }

    /// Adds an answer, which counts after the next [`Self::flush`].
    pub(super) fn add(&mut self, entry: &Entry) {
        if self.buffer.len() >= SEGMENT_BYTES {
            self.full.push((self.segment, std::mem::take(&mut self.buffer)));
            self.segment += 1;
        }
        serde_json::to_writer(&mut self.buffer, entry).expect("numbers and text become JSON");
        self.buffer.push(b'\n');
        self.is_dirty = true;
        self.note(entry.number, entry.is_success);
    }

    /// Makes everything that was added durable.
    pub(super) async fn flush(&mut self) -> store::Result<()> {
        while let Some((segment, bytes)) = self.full.last() {
            self.write(*segment, bytes.clone()).await?;
            self.full.pop();
        }
        if self.is_dirty {
            self.write(self.segment, self.buffer.clone()).await?;
            self.is_dirty = false;
        }
        Ok(())
    }

    async fn write(&self, segment: u32, bytes: Vec<u8>) -> store::Result<()> {
        let name = self.folder.join(&format!("{}.{segment:06}", self.run))?;
        self.objects.put(&name, Bytes::from(bytes)).await
    }

    /// Everything that is durable, segment by segment.
    pub(super) fn segments(&self) -> Segments {
        Segments {
            objects: Arc::clone(&self.objects),
            folder: self.folder.clone(),
            names: Vec::new(),
            after: None,
            is_last_page: false,
        }
    }
}

/// Reads a log.
pub(super) struct Segments {
    objects: Arc<dyn Store>,
    folder: Name,
    /// Names of a page, the next one last.
    names: Vec<Name>,
    after: Option<Name>,
    is_last_page: bool,
}

impl Segments {
    /// The entries of the next segment.
    pub(super) async fn next(&mut self) -> store::Result<Option<Vec<Entry>>> {
        if self.names.is_empty() && !self.is_last_page {
            let page = self.objects.list_after(&self.folder, self.after.as_ref(), PAGE).await?;
            self.is_last_page = page.len() < PAGE;
            self.after = page.last().map(|entry| entry.name.clone());
            self.names = page.into_iter().rev().map(|entry| entry.name).collect();
        }
        let Some(name) = self.names.pop() else { return Ok(None) };
        let bytes = self.objects.get(&name, OBJECT_BYTES_MAX).await?;
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        Ok(Some(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()))
    }
}
