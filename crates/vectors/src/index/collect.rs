//! Removing what nobody needs any more.
//!
//! What may go follows from numbers alone, never from time: manifests before the last two that were whole; log entries
//! that the older of the two holds; segments that were meant for a manifest whose number is taken and that neither of
//! the two names. Should the newest decay, the one before it and the log still say everything. A reader that still uses
//! such a segment finds it gone, takes the newest manifest, and begins again.

use std::collections::HashSet;

use store::{Entry, Name};

use super::Index;
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
        // In the order of numbers: whoever follows the log then meets its end, and not a gap.
        self.remove("log", |name| number(name.last_part()).is_some_and(|number| number < before.log_next)).await?;
        let needed: HashSet<&str> =
            before.segments.iter().chain(&newest.segments).map(|segment| segment.id.as_str()).collect();
        let is_rubbish = |name: &Name| {
            let mut parts = name.as_str().rsplit('/');
            let id = parts.nth(1).unwrap_or_default();
            let meant_for = id.split('-').next().and_then(number);
            meant_for.is_some_and(|number| number <= newest.number) && !needed.contains(id)
        };
        self.remove("segments", is_rubbish).await
    }

    async fn remove(&self, folder: &str, is_rubbish: impl Fn(&Name) -> bool) -> Result<()> {
        let folder = self.folder.join(folder).map_err(tried("name a folder"))?;
        let mut last: Option<Name> = None;
        // Ends: each page begins after the last.
        loop {
            let page: Vec<Entry> =
                self.store.list_after(&folder, last.as_ref(), PAGE).await.map_err(tried("list an index"))?;
            for entry in page.iter().filter(|entry| is_rubbish(&entry.name)) {
                self.store.delete(&entry.name).await.map_err(tried("remove an object"))?;
            }
            match page.last() {
                Some(entry) if page.len() == PAGE => last = Some(entry.name.clone()),
                Some(_) | None => return Ok(()),
            }
        }
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}
