//! Reads every byte of an index and names the objects that are not what was written.

use std::sync::Arc;

use store::{Entry, Name, Store};

use super::apply::{manifests, newest_whole};
use crate::error::tried;
use crate::log::{self, ENTRY_BYTES_MAX, Read};
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest};
use crate::newest;
use crate::rotate::Rotation;
use crate::segment::Segment;
use crate::types::Op;
use crate::{Error, Result};

const PAGE: usize = 1_000;

/// An object that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub what: &'static str,
}

/// What was read, and what was wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Manifests, log entries and segments that were looked at.
    pub checked: u64,
    /// Bytes of rows in segments that were read.
    pub row_bytes: u64,
    /// Puts in the log that no segment holds yet.
    pub log_puts: u64,
    /// What is damaged; nothing if all is well.
    pub damaged: Vec<Damaged>,
}

impl Verified {
    fn add(&mut self, object: &Name, what: &'static str) {
        self.damaged.push(Damaged { object: object.to_string(), what });
    }
}

/// Checks every object of an index that a reader may use, also of one that cannot be opened. Reads all of it; what
/// changes meanwhile may be checked or not.
///
/// # Errors
/// [`Error::NotFound`] if there is no index; errors of the store. Damage is an answer, not an error.
pub async fn verify(store: &Arc<dyn Store>, folder: &Name) -> Result<Verified> {
    let mut found = Verified::default();
    let numbers = manifests(store.as_ref(), folder, None).await?;
    if numbers.is_empty() {
        return Err(Error::NotFound { what: format!("index {folder}") });
    }
    for &number in &numbers {
        let name = super::apply::manifest_name(folder, number)?;
        match store.get(&name, MANIFEST_BYTES_MAX).await {
            Ok(bytes) => {
                found.checked += 1;
                if let Err(what) = Manifest::decode(&bytes, number) {
                    found.add(&name, what);
                }
            }
            // A compaction has just removed it.
            Err(error) if error.is_not_found() => {}
            Err(source) => return Err(tried("read a manifest")(source)),
        }
    }
    if let Some(what) = newest::damage(store, folder).await? {
        found.add(&newest::name(folder)?, what);
    }
    let Some(manifest) = newest_whole(store.as_ref(), folder, &numbers).await? else { return Ok(found) };
    verify_log(store.as_ref(), folder, &manifest, &mut found).await?;
    let rotation = Rotation::new(manifest.shape.dimension as usize);
    for entry in &manifest.segments {
        found.checked += 1;
        match Segment::open(store, folder, entry, &manifest.shape, &rotation).await {
            Ok(segment) => {
                let (bytes, damaged) = Arc::new(segment).verify().await?;
                found.row_bytes += bytes;
                damaged.iter().for_each(|(object, what)| found.add(object, what));
            }
            Err(Error::Corrupt { object, what }) => found.damaged.push(Damaged { object, what }),
            Err(Error::Store { source: store::Error::NotFound { name }, .. }) => found.add(&name, "it is missing"),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn verify_log(store: &dyn Store, folder: &Name, manifest: &Manifest, found: &mut Verified) -> Result<()> {
    let all = folder.join("log").map_err(tried("name the log"))?;
    let (mut last, mut before): (Option<Name>, Option<(u64, u32)>) = (None, None);
    // Ends: each page begins after the last.
    loop {
        let page: Vec<Entry> = store.list_after(&all, last.as_ref(), PAGE).await.map_err(tried("list the log"))?;
        for entry in &page {
            let Ok(number) = entry.name.last_part().parse::<u64>() else { continue };
            let bytes = match store.get(&entry.name, ENTRY_BYTES_MAX).await {
                Ok(bytes) => bytes,
                Err(error) if error.is_not_found() => continue,
                Err(source) => return Err(tried("read the log")(source)),
            };
            found.checked += 1;
            let follows = before.filter(|&(other, _)| other + 1 == number).map(|(_, checksum)| checksum);
            before = Some(match log::read(&bytes, number, manifest.shape.dimension) {
                Read::Whole { entry: logged, checksum } => {
                    // Before what the manifest holds, a slot that was cleared may hold what never counted.
                    let counts = number > manifest.log_next;
                    if counts && follows.is_some_and(|follows| follows != logged.previous) {
                        found.add(&entry.name, "the entry before it is not the one that it names");
                    }
                    if number >= manifest.log_next {
                        found.log_puts += logged.ops.iter().filter(|op| matches!(op, Op::Put(_))).count() as u64;
                    }
                    (number, checksum)
                }
                // Torn in a crash: nobody was told that it is there, and the next one says so.
                Read::Torn => (number, 0),
                Read::Damaged(what) => {
                    found.add(&entry.name, what);
                    // Whatever the next one names cannot be held against it.
                    continue;
                }
            });
        }
        match page.last() {
            Some(entry) if page.len() == PAGE => last = Some(entry.name.clone()),
            Some(_) | None => return Ok(()),
        }
    }
}
