//! Listings in the order of the keys' hashes, so that a page costs what it holds, wherever the rows lie, and so that
//! parallel listings divide the keys evenly.

use std::ops::Range;

use super::Index;
use crate::state::{Live, View};
use crate::types::Key;
use crate::{Error, Result};

/// The longest page; the limit of Amazon S3 Vectors.
pub const PAGE_KEYS_MAX: usize = 1_000;

/// One of `of` equal parts of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which, from 0.
    pub part: u32,
    /// Of how many, 1 to 16.
    pub of: u32,
}

impl Span {
    /// All keys.
    pub const ALL: Self = Self { part: 0, of: 1 };

    fn hashes(self) -> Result<Range<u64>> {
        if !(1..=16).contains(&self.of) || self.part >= self.of {
            let why = format!("part {} of {}, at most 16 parts from 0 allowed", self.part, self.of);
            return Err(Error::Invalid { field: "span", why });
        }
        let bound = |part: u32| (u64::from(part) << 32) / u64::from(self.of);
        Ok(bound(self.part)..bound(self.part + 1))
    }
}

/// Where a listing goes on: after this key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    hash: u32,
    key: Key,
}

impl Position {
    /// The place of a key in a listing.
    #[must_use]
    pub fn of(key: Key) -> Self {
        Self { hash: key.hash32(), key }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// Some keys of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<Key>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Position>,
}

impl Index {
    /// The next keys of a listing, at most `limit` (1 to [`PAGE_KEYS_MAX`]). A key that is there from the first page to
    /// the last is listed once; one that is written or deleted meanwhile may be.
    ///
    /// # Errors
    /// If a number is out of range; errors of the store.
    pub async fn list(&self, span: Span, after: Option<&Position>, limit: usize) -> Result<Page> {
        let hashes = span.hashes()?;
        if !(1..=PAGE_KEYS_MAX).contains(&limit) {
            let why = format!("{limit}, 1 to {PAGE_KEYS_MAX} allowed");
            return Err(Error::Invalid { field: "limit", why });
        }
        self.refresh().await?;
        let view = self.view();
        let mut found = positions(&view, hashes, after, limit).await?;
        found.sort_unstable();
        let next = if found.len() > limit { found.get(limit - 1).cloned() } else { None };
        found.truncate(limit);
        Ok(Page { keys: found.into_iter().map(|position| position.key).collect(), next })
    }
}

/// The first keys after a position: at least `limit + 1` of them if there are so many.
async fn positions(view: &View, hashes: Range<u64>, after: Option<&Position>, limit: usize) -> Result<Vec<Position>> {
    let start = after.map_or(hashes.start, |after| u64::from(after.hash).max(hashes.start));
    let inside = |position: &Position| {
        let hash = u64::from(position.hash);
        (start..hashes.end).contains(&hash) && after.is_none_or(|after| position > after)
    };
    let mut found: Vec<Position> = view.tail.live().map(|row| Position::of(row.key.clone())).filter(inside).collect();
    for live in &view.segments {
        // Two keys of one hash lie in the order of rows: those of the position's own hash must all be read.
        let rows = first_rows(live, start..hashes.end, after.map(|after| after.hash), limit + 1);
        found.extend(live.segment.keys(&rows).await?.into_iter().map(Position::of).filter(inside));
    }
    Ok(found)
}

/// Living rows in the order of hashes: those of the hash `whole`, and `count` more with all of the last one's hash.
fn first_rows(live: &Live, hashes: Range<u64>, whole: Option<u32>, count: usize) -> Vec<u32> {
    let keys = &live.segment.head.keys;
    let start = keys.partition_point(|&entry| entry >> 32 < hashes.start);
    let mut rows = Vec::new();
    let (mut counted, mut last) = (0, None);
    for &entry in keys[start..].iter().take_while(|&&entry| entry >> 32 < hashes.end) {
        let hash = (entry >> 32) as u32;
        if counted >= count && last != Some(hash) {
            break;
        }
        if live.dead.contains(entry as u32) {
            continue;
        }
        if whole != Some(hash) {
            counted += 1;
            last = Some(hash);
        }
        rows.push(entry as u32);
    }
    rows
}
