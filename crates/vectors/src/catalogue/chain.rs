//! Numbered documents in a folder; the greatest number counts.
//!
//! Documents below the newest are removed. A process that does not know the newest may then create a document below it;
//! so after it has created one, it looks for greater numbers, and if there are any, its own does not count.

use bytes::Bytes;
use store::{Name, Store};

use super::place;
use crate::error::tried;
use crate::{Error, Result};

/// The longest document. A policy of 20 KB and 50 tags are far below.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 256 << 10;
/// Names that one listing asks for.
const PAGE: usize = 1_000;
/// How often a read begins again because what it found was removed.
const TRIES_MAX: u32 = 16;
/// Sorts behind every number.
const LAST: &str = "99999999999999999999";

fn document_name(folder: &Name, number: u64) -> Result<Name> {
    place(&[folder.as_str(), &format!("{number:020}")])
}

fn number_of(name: &Name) -> Result<u64> {
    let corrupt = || Error::Corrupt { object: name.as_str().to_owned(), what: "its name is no number" };
    name.last_part().parse().map_err(|_| corrupt())
}

/// The number and the bytes of the newest document.
pub(super) async fn newest(store: &dyn Store, folder: &Name) -> Result<Option<(u64, Bytes)>> {
    let mut after = None;
    let mut tries = 0;
    // Ends: each round moves forward in the listing or counts a try.
    loop {
        let page = store.list_after(folder, after.as_ref(), PAGE).await.map_err(tried("list documents"))?;
        let full = page.len() == PAGE;
        let Some(last) = page.into_iter().next_back().map(|entry| entry.name).or_else(|| after.take()) else {
            return Ok(None);
        };
        if full {
            after = Some(last);
            continue;
        }
        match store.get(&last, DOCUMENT_BYTES_MAX).await {
            Ok(bytes) => return Ok(Some((number_of(&last)?, bytes))),
            Err(error) if error.is_not_found() && tries < TRIES_MAX => {
                tries += 1;
                after = None;
            }
            Err(error) => return Err(tried("read a document")(error)),
        }
    }
}

/// Whether the document with this number, which was the newest once, still is: one round trip.
///
/// The newest is never removed while its chain is in use, so a number that is still the greatest names the same bytes.
pub(super) async fn is_newest(store: &dyn Store, folder: &Name, number: u64) -> Result<bool> {
    let before = document_name(folder, number.saturating_sub(1))?;
    let found = store.list_after(folder, Some(&before), 2).await.map_err(tried("list documents"))?;
    Ok(matches!(&found[..], [only] if number_of(&only.name)? == number))
}

/// Creates the document with this number. `false` if another has it, or if greater ones exist.
pub(super) async fn append(store: &dyn Store, folder: &Name, number: u64, bytes: Bytes) -> Result<bool> {
    let name = document_name(folder, number)?;
    match store.put_create(&name, bytes.clone()).await {
        Ok(()) => {}
        Err(error) if error.is_exists() => return Ok(false),
        Err(store::Error::Unavailable { .. } | store::Error::Io { .. }) => {
            // It may have happened. No two documents are the same bytes: each holds a random number.
            match store.get(&name, DOCUMENT_BYTES_MAX).await {
                Ok(stored) if stored == bytes => {}
                Ok(_) => return Ok(false),
                Err(_) => return Err(Error::Unknown),
            }
        }
        Err(error) => return Err(tried("write a document")(error)),
    }
    let greater = store.list_after(folder, Some(&name), 1).await.map_err(|_| Error::Unknown)?;
    if !greater.is_empty() {
        // What is left behind by an error is removed with the next document.
        let _ = store.delete(&name).await;
        return Ok(false);
    }
    let older = store.list_after(folder, None, PAGE).await.unwrap_or_default();
    for entry in older.into_iter().filter(|entry| entry.name < name) {
        let _ = store.delete(&entry.name).await;
    }
    Ok(true)
}

/// The names of all chains below a folder, in no particular order.
pub(super) async fn names(store: &dyn Store, folder: &Name) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut after: Option<Name> = None;
    // Ends: each round moves forward in the listing.
    loop {
        let page = store.list_after(folder, after.as_ref(), PAGE).await.map_err(tried("list documents"))?;
        let full = page.len() == PAGE;
        for entry in &page {
            let inside = entry.name.as_str().get(folder.as_str().len() + 1..).unwrap_or_default();
            let Some((name, _)) = inside.split_once('/') else { continue };
            if names.last().is_none_or(|last| last != name) {
                names.push(name.to_owned());
            }
        }
        if !full {
            return Ok(names);
        }
        after = names.last().map(|last| place(&[folder.as_str(), last, LAST])).transpose()?;
    }
}

/// Removes every object of a folder.
pub(super) async fn remove_all(store: &dyn Store, folder: &Name) -> Result<()> {
    // Ends: each round removes what it found; writers have been told that the folder is gone.
    loop {
        let page = store.list_after(folder, None, PAGE).await.map_err(tried("list objects"))?;
        if page.is_empty() {
            return Ok(());
        }
        for entry in page {
            store.delete(&entry.name).await.map_err(tried("remove an object"))?;
        }
    }
}
