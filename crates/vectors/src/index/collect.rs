//! Removing what nobody needs any more.
//!
//! What may go follows from numbers alone, never from time: manifests before the last two that were whole; log entries
//! that the older of the two holds, but the newest of them, which followers may ask for; segments that were meant for a
//! manifest whose number is taken and that neither of the two names. Should the newest decay, the one before it and the
//! log still say everything. A reader that still uses such a segment finds it gone, takes the newest manifest, and
//! begins again.

use std::collections::HashSet;

use store::{Entry, Name};

use super::Index;
use super::changes::LOG_KEPT_BYTES;
use crate::Result;
use crate::error::tried;
use crate::manifest::Manifest;

/// How many names are listed at once.
const PAGE: usize = 1_000;

impl Index {
    /// Removes what neither of the last two manifests needs. `newest` must be known to be the newest.
    pub(super) async fn collect(&self, before: &Manifest, newest: &Manifest) -> Result<()> {
        // Manifests first: one that stands may be relied on, so the log that follows it must stand too.
        let is_old = |number: u64| number < newest.number && number != before.number;
        self.remove("manifest", |name| number(name.last_part()).is_some_and(is_old)).await?;
        self.shorten_log(before.log_next).await?;
        let needed: HashSet<&str> =
            before.segments.iter().chain(&newest.segments).map(|segment| segment.id.as_str()).collect();
        self.remove("segments", |name| is_rubbish(name, newest.number, &needed)).await
    }

    /// Removes entries before `next`, but for the newest, which followers may still ask for.
    async fn shorten_log(&self, next: u64) -> Result<()> {
        let old = |name: &Name| number(name.last_part()).is_some_and(|number| number < next);
        let mut entries = self.all("log").await?;
        entries.retain(|entry| old(&entry.name));
        let mut bytes = 0;
        let kept = entries.iter().rev().take(self.config.log_kept_entries).take_while(|entry| {
            bytes += entry.size_bytes;
            bytes <= LOG_KEPT_BYTES
        });
        let removed = entries.len() - kept.count();
        // In the order of numbers: whoever follows the log then meets its end, and not a gap.
        for entry in &entries[..removed] {
            self.store.delete(&entry.name).await.map_err(tried("remove an object"))?;
        }
        Ok(())
    }

    pub(super) async fn all(&self, folder: &str) -> Result<Vec<Entry>> {
        let folder = self.folder.join(folder).map_err(tried("name a folder"))?;
        let mut all: Vec<Entry> = Vec::new();
        // Ends: each page begins after the last.
        loop {
            let after = all.last().map(|entry| entry.name.clone());
            let page = self.store.list_after(&folder, after.as_ref(), PAGE).await.map_err(tried("list an index"))?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    async fn remove(&self, folder: &str, is_rubbish: impl Fn(&Name) -> bool) -> Result<()> {
        for entry in self.all(folder).await?.iter().filter(|entry| is_rubbish(&entry.name)) {
            self.store.delete(&entry.name).await.map_err(tried("remove an object"))?;
        }
        Ok(())
    }
}

/// Whether an object is of a segment that was meant for a manifest up to this one and is not among the needed.
pub(super) fn is_rubbish(name: &Name, newest: u64, needed: &HashSet<&str>) -> bool {
    let id = name.as_str().rsplit('/').nth(1).unwrap_or_default();
    let meant_for = id.split('-').next().and_then(number);
    meant_for.is_some_and(|number| number <= newest) && !needed.contains(id)
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}
