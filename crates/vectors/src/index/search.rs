//! Queries: estimates by codes, small rows for the best of them, whole rows for the best of those.
//!
//! A filter becomes a set of rows before the search, so the best matches are looked for among the matches and nowhere
//! else: recall does not depend on how few they are. When no more rows fit than would be reranked, all are scored.
//!
//! Lists are scanned in the order of how near their rows can be expected to lie. Up to
//! [`exhaustive_rows`](super::Config::exhaustive_rows) living rows every list is; of more, those are passed over that
//! cannot be expected to hold a nearer row than those found. Less effort ends the scan after a part of the rows.

use std::cmp::Ordering;
use std::sync::atomic;

use futures::join;

use super::Index;
use super::effort::{Depth, Effort};
use super::opening::Since;
use super::scratch::Scratch;
use crate::bits::Bits;
use crate::codec::f32s;
use crate::distance::{distance, kernels, prepare};
use crate::filter::Filter;
use crate::metadata::Metadata;
use crate::segment::{Of, Wanted, read_kept_rows};
use crate::state::{Known, Live, View};
use crate::types::{Key, NEIGHBOURS_MAX};
use crate::{Error, Result};

/// With fewer dimensions many rows have the same code, so more of them have to be looked at.
pub(super) const FEW_DIMENSIONS: u32 = 32;
/// How many rows are read as small rows then, at least.
pub(super) const FEW_DIMENSIONS_SMALL_MIN: usize = 32 << 10;
/// How many whole rows are read beyond the neighbours asked for: small rows are rounded, near ones may be swapped.
const WHOLE_EXTRA: usize = 10;
/// Up to so many rows are read whole at once, without small rows before them, where that spares a round trip.
const AT_ONCE_MAX: usize = 256;
/// How much nearer than its centre says a list may hold a row: of the product of the query's and the rows' distances
/// from the centre, twice of which is the most that geometry allows.
const REACH: f32 = 0.7;
/// The same of where a list's nearest rows probably lie: it says which lists come first. Of 100,000 sentence embeddings
/// in 195 lists the ten nearest lie in the first 30 lists to 0.953 by this, and to 0.942 by the centres alone.
const LIKELY_REACH: f32 = 0.4;

/// How often a query begins again because a compaction removed a segment under it.
const TRIES_MAX: u32 = 5;

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Query {
    /// Neighbours of this vector.
    pub vector: Vec<f32>,
    /// How many, 1 to [`NEIGHBOURS_MAX`].
    pub neighbours: usize,
    /// Among which rows.
    pub filter: Option<Filter>,
    /// What of them is wanted.
    pub want: Want,
    /// How hard to look.
    pub effort: Effort,
}

/// What of a row is wanted besides its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Want {
    /// The vector as it was sent.
    pub vector: bool,
    /// The metadata.
    pub metadata: bool,
}

/// A row that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// Its key.
    pub key: Key,
    /// How far it is, by the index's metric.
    pub distance: f32,
    /// Its vector, if it was wanted.
    pub vector: Option<Box<[f32]>>,
    /// Its metadata, if it was wanted.
    pub metadata: Option<Metadata>,
}

/// A row of a segment that may be among the nearest. The greatest is the farthest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    order: f32,
    /// How far `order` may be off.
    error: f32,
    segment: u32,
    row: u32,
}

/// A list that may be scanned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    /// Nearer than this, as a squared distance, none of its rows is expected.
    bound: f32,
    /// The same of its nearest rows, more probably.
    likely: f32,
    segment: u32,
    list: u32,
}

/// The least estimates of a scan: room for twice as many as are wanted, of which the greater half is thrown away
/// whenever it is full. That costs a few comparisons a row; a heap costs as many as its depth.
#[derive(Debug, Default)]
pub(super) struct Least {
    wanted: usize,
    /// `error` is the squared distance of the query to the centre of the row's list, until [`Self::take`].
    rows: Vec<Candidate>,
    /// What is not nearer is not among the wanted.
    below: f32,
}

impl Least {
    fn begin(&mut self, wanted: usize) {
        self.wanted = wanted;
        self.below = f32::INFINITY;
        self.rows.clear();
    }

    fn push(&mut self, candidate: Candidate) {
        self.rows.push(candidate);
        if self.rows.len() == 2 * self.wanted {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let (_, last, _) = self.rows.select_nth_unstable_by(self.wanted - 1, nearer);
        self.below = last.order;
        self.rows.truncate(self.wanted);
    }

    /// The least of all that came, in no order.
    fn take(&mut self, segments: &[Live]) -> Vec<Candidate> {
        if self.rows.len() > self.wanted {
            self.cut();
        }
        let codes = |candidate: &Candidate| &segments[candidate.segment as usize].segment.head.codes;
        let all = self.rows.iter();
        all.map(|found| Candidate { error: codes(found).error(found.row, found.error), ..*found }).collect()
    }
}

/// By estimate; of equal ones, by place.
fn nearer(left: &Candidate, right: &Candidate) -> Ordering {
    left.order.total_cmp(&right.order).then_with(|| (left.segment, left.row).cmp(&(right.segment, right.row)))
}

impl Index {
    /// The nearest rows, nearest first; rows of one distance in the order of their keys. Sees every write that was
    /// acknowledged before the call.
    ///
    /// Cost: a scan of codes on the caller's thread and two round trips to the store, each for rows and, beside them,
    /// to be sure that nothing is new; `bench/README.md` has the times for 100,000 rows of 384 dimensions in a
    /// local folder.
    ///
    /// # Errors
    /// If the query does not fit the index; errors of the store; [`Error::Corrupt`] names a damaged object.
    pub async fn query(&self, query: &Query) -> Result<Vec<Match>> {
        self.query_since(query, Since::default()).await
    }

    /// The same by whoever opened the index for it: sees every write that was acknowledged before
    /// [`Self::open_for_query`] was called. One round trip, unless more was written since or many are wanted.
    ///
    /// # Errors
    /// Those of [`Self::query`].
    pub async fn query_since(&self, query: &Query, since: Since) -> Result<Vec<Match>> {
        self.shape.check_vector(&query.vector)?;
        if !(1..=NEIGHBOURS_MAX).contains(&query.neighbours) {
            let why = format!("{}, 1 to {NEIGHBOURS_MAX} allowed", query.neighbours);
            return Err(Error::Invalid { field: "neighbours", why });
        }
        self.counters[2].fetch_add(1, atomic::Ordering::Relaxed);
        let prepared = prepare(&query.vector, self.shape.metric);
        let at_once = match since.0 {
            Some(ended) => self.search_at_once(query, &prepared, ended).await?,
            None => None,
        };
        if let Some(found) = at_once {
            return Ok(found);
        }
        if let Some(found) = self.search_while_asking(query, &prepared).await? {
            return Ok(found);
        }
        let mut tries = 0;
        // Ends: each round counts a try.
        loop {
            self.follow().await?;
            let view = self.view();
            match self.search(&view, query, &prepared).await {
                Err(Error::Store { source, .. }) if source.is_not_found() && tries < TRIES_MAX => tries += 1,
                answer => return answer,
            }
        }
    }

    /// Searches what is known while it asks whether that is all. `None` if there is more to know.
    ///
    /// Two round trips to the store: small rows beside the log's next entry, then whole rows beside the manifests. The
    /// order is the one that [`Self::refresh`] asks in.
    async fn search_while_asking(&self, query: &Query, prepared: &[f32]) -> Result<Option<Vec<Match>>> {
        let (view, known) = {
            let state = self.state();
            (state.view(), state.known())
        };
        let view = self.without_expired(view);
        let (log_ended, candidates) = join!(self.log_ended(known), self.candidates(&view, query, prepared));
        if !log_ended? {
            return Ok(None);
        }
        let candidates = match candidates {
            Ok(candidates) => candidates,
            // A segment that is gone is one that a newer manifest does without.
            Err(Error::Store { source, .. }) if source.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        self.matches_if_newest(known, &view, query, prepared, &candidates).await
    }

    /// Searches what is known, of which the log has been asked already: one round trip, in which whole rows are read of
    /// all that may be near. `None` if there is more to know, or if those are too many.
    async fn search_at_once(&self, query: &Query, prepared: &[f32], ended: Known) -> Result<Option<Vec<Match>>> {
        let (view, known) = {
            let state = self.state();
            (state.view(), state.known())
        };
        if known != ended {
            return Ok(None);
        }
        let view = self.without_expired(view);
        let candidates = self.estimate(&view.segments, query, prepared);
        if candidates.len() > AT_ONCE_MAX {
            return Ok(None);
        }
        self.matches_if_newest(known, &view, query, prepared, &candidates).await
    }

    /// The nearest of what is known, unless a manifest is newer: whole rows beside the manifests.
    async fn matches_if_newest(
        &self,
        known: Known,
        view: &View,
        query: &Query,
        prepared: &[f32],
        candidates: &[Candidate],
    ) -> Result<Option<Vec<Match>>> {
        let (no_newer, found) = join!(self.no_newer_manifest(known), self.matches(view, query, prepared, candidates));
        match found {
            _ if !no_newer? => Ok(None),
            // A segment that is gone is one that a newer manifest does without.
            Err(Error::Store { source, .. }) if source.is_not_found() => Ok(None),
            found => found.map(Some),
        }
    }

    pub(super) async fn search(&self, view: &View, query: &Query, prepared: &[f32]) -> Result<Vec<Match>> {
        let candidates = self.candidates(view, query, prepared).await?;
        self.matches(view, query, prepared, &candidates).await
    }

    /// The rows of segments that are read whole.
    async fn candidates(&self, view: &View, query: &Query, prepared: &[f32]) -> Result<Vec<Candidate>> {
        let mut candidates = self.estimate(&view.segments, query, prepared);
        self.reorder(&view.segments, &mut candidates, prepared).await?;
        keep_possible(&mut candidates, query.neighbours);
        candidates.sort_unstable_by(nearer);
        candidates.truncate(query.neighbours + WHOLE_EXTRA + query.neighbours / 4);
        Ok(candidates)
    }

    /// The nearest among the candidates and the rows in memory.
    async fn matches(
        &self,
        view: &View,
        query: &Query,
        prepared: &[f32],
        candidates: &[Candidate],
    ) -> Result<Vec<Match>> {
        let mut found = self.read_whole(&view.segments, candidates, query, prepared).await?;
        let count = query.neighbours + WHOLE_EXTRA + query.neighbours / 4;
        let mut near = view.tail.nearest(prepared, self.shape.metric, query.filter.as_ref(), count);
        near.sort_unstable_by(|left, right| left.0.total_cmp(&right.0).then_with(|| left.1.key.cmp(&right.1.key)));
        found.extend(near.into_iter().take(query.neighbours).map(|(distance, row)| Match {
            key: row.key.clone(),
            distance,
            vector: query.want.vector.then(|| row.vector.clone()),
            metadata: query.want.metadata.then(|| row.metadata.clone()),
        }));
        found.sort_unstable_by(|left, right| {
            left.distance.total_cmp(&right.distance).then_with(|| left.key.cmp(&right.key))
        });
        found.truncate(query.neighbours);
        Ok(found)
    }

    /// The rows of the segments that fit and whose estimated distances are the least; all that fit, if they are few.
    fn estimate(&self, segments: &[Live], query: &Query, prepared: &[f32]) -> Vec<Candidate> {
        let living: u64 = segments.iter().map(|live| u64::from(live.rows())).sum();
        let depth = query.effort.depth(query.neighbours, self.shape.dimension, living, self.config.exhaustive_rows);
        let chosen: Vec<Bits> = segments.iter().map(|live| chosen_rows(live, query.filter.as_ref())).collect();
        let total: u64 = chosen.iter().map(|rows| u64::from(rows.count())).sum();
        if total <= depth.small as u64 {
            let all = chosen.iter().zip(0..);
            let candidate = |segment, row| Candidate { order: 0.0, error: 0.0, segment, row };
            return all.flat_map(|(rows, segment)| rows.iter().map(move |row| candidate(segment, row))).collect();
        }
        let mut scratch = self.scratch.take();
        scratch.query.set(prepared, &self.rotation);
        list_probes(segments, prepared, &mut scratch.probes);
        scan(segments, &chosen, depth, total, &mut scratch);
        let mut candidates = scratch.least.take(segments);
        self.scratch.give_back(scratch);
        keep_possible(&mut candidates, query.neighbours);
        candidates
    }

    /// Replaces the estimates by distances to the small rows.
    async fn reorder(&self, segments: &[Live], candidates: &mut [Candidate], prepared: &[f32]) -> Result<()> {
        let rows = read_kept_rows(&self.kept, &wanted(segments, candidates, Of::Small)).await?;
        for (candidate, bytes) in candidates.iter_mut().zip(&rows) {
            let small = segments[candidate.segment as usize].segment.small(candidate.row, bytes)?;
            (candidate.order, candidate.error) = small.order(prepared, self.shape.metric);
        }
        Ok(())
    }

    /// Reads the candidates' vectors and documents.
    async fn read_whole(
        &self,
        segments: &[Live],
        candidates: &[Candidate],
        query: &Query,
        prepared: &[f32],
    ) -> Result<Vec<Match>> {
        let mut both = wanted(segments, candidates, Of::Whole);
        both.append(&mut wanted(segments, candidates, Of::Document));
        let rows = read_kept_rows(&self.kept, &both).await?;
        let (vectors, documents) = rows.split_at(candidates.len());
        let mut found = Vec::with_capacity(candidates.len());
        for (candidate, (vector, document)) in candidates.iter().zip(vectors.iter().zip(documents)) {
            let segment = &segments[candidate.segment as usize].segment;
            let mut metadata = None;
            let key = if query.filter.is_none() && !query.want.metadata {
                segment.key(candidate.row, document)?
            } else {
                let (key, read) = segment.document(candidate.row, document)?;
                // The filter index knows texts by their hashes; the metadata has the last word.
                if query.filter.as_ref().is_some_and(|filter| !filter.matches(&read)) {
                    continue;
                }
                metadata = query.want.metadata.then_some(read);
                key
            };
            let numbers = f32s(vector);
            let distance = distance(prepared, &numbers, self.shape.metric);
            found.push(Match { key, distance, vector: query.want.vector.then(|| numbers.into()), metadata });
        }
        Ok(found)
    }
}

pub(super) fn chosen_rows(live: &Live, filter: Option<&Filter>) -> Bits {
    let mut rows = match filter {
        Some(filter) => live.segment.filter_index.rows(filter),
        None => Bits::all(live.segment.head.rows),
    };
    rows.and_not(&live.dead);
    rows
}

fn wanted<'a>(segments: &'a [Live], candidates: &[Candidate], of: Of) -> Vec<Wanted<'a>> {
    let of_one = |candidate: &Candidate| Wanted {
        segment: &segments[candidate.segment as usize].segment,
        row: candidate.row,
        of,
    };
    candidates.iter().map(of_one).collect()
}

/// All lists of the segments, the most promising first.
fn list_probes(segments: &[Live], prepared: &[f32], probes: &mut Vec<Probe>) {
    probes.clear();
    for (segment, live) in (0..).zip(segments) {
        let head = &live.segment.head;
        for (list, facts) in (0..).zip(&head.lists) {
            let near = kernels().squared_f32(prepared, head.centre(list as usize));
            // |q-x|^2 = |q-c|^2 + |x-c|^2 - 2 <q-c, x-c>, of which the product is seldom near its largest.
            let (farthest, product) = (near + facts.spread, 2.0 * (near * facts.spread).sqrt());
            let (bound, likely) = (farthest - REACH * product, farthest - LIKELY_REACH * product);
            probes.push(Probe { bound, likely, segment, list });
        }
    }
    probes.sort_unstable_by(|left, right| left.likely.total_cmp(&right.likely));
}

/// Leaves the nearest of the `fitting` rows that are chosen, by their estimates, in `scratch.least`.
fn scan(segments: &[Live], chosen: &[Bits], depth: Depth, fitting: u64, scratch: &mut Scratch) {
    let Scratch { query, probes, least } = scratch;
    least.begin(depth.small);
    let mut left = depth.rows(fitting);
    for probe in probes {
        if left == 0 {
            break;
        }
        if !depth.is_exhaustive && probe.bound > least.below {
            continue;
        }
        let segment = &segments[probe.segment as usize].segment;
        let (rows, chosen) = (segment.head.rows_of_list(probe.list as usize), &chosen[probe.segment as usize]);
        let count = u64::from(chosen.count_in(rows.clone()));
        if count == 0 {
            continue;
        }
        left = left.saturating_sub(count);
        query.aim(segment.rotated_centre(probe.list as usize));
        let squared = query.squared();
        segment.head.codes.scan(query, rows, chosen, least.below, |found| {
            for found in found {
                if found.estimate < least.below {
                    let (order, segment, row) = (found.estimate, probe.segment, found.row);
                    least.push(Candidate { order, error: squared, segment, row });
                }
            }
            least.below
        });
    }
}

/// Leaves those of the candidates that can be among the nearest `neighbours`, given how far their orders may be off.
fn keep_possible(candidates: &mut Vec<Candidate>, neighbours: usize) {
    if candidates.len() <= neighbours {
        return;
    }
    let mut farthest: Vec<f32> = candidates.iter().map(|candidate| candidate.order + candidate.error).collect();
    let (_, &mut bound, _) = farthest.select_nth_unstable_by(neighbours - 1, f32::total_cmp);
    candidates.retain(|candidate| candidate.order - candidate.error <= bound);
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::{Candidate, Least, keep_possible, nearer};

    fn candidates(count: u32, rng: &mut Rng) -> Vec<Candidate> {
        let candidate = |row| Candidate { order: rng.below(50) as f32, error: rng.below(4) as f32, segment: 0, row };
        (0..count).map(candidate).collect()
    }

    fn places(candidates: &[Candidate]) -> Vec<u32> {
        candidates.iter().map(|candidate| candidate.row).collect()
    }

    #[test]
    fn the_least_are_those_that_sorting_finds() {
        let mut rng = Rng::seeded(1);
        for (count, wanted) in [(0, 1), (3, 5), (5, 5), (10, 5), (1_000, 1), (1_000, 7), (999, 128)] {
            let mut all = candidates(count, &mut rng);
            let mut least = Least::default();
            for _ in 0..2 {
                least.begin(wanted);
                for candidate in &all {
                    if candidate.order < least.below {
                        least.push(*candidate);
                    }
                }
                if least.rows.len() > wanted {
                    least.cut();
                }
            }
            all.sort_unstable_by(nearer);
            all.truncate(wanted);
            least.rows.sort_unstable_by(nearer);
            assert_eq!(places(&least.rows), places(&all), "{wanted} of {count}");
        }
    }

    #[test]
    fn whoever_can_be_among_the_nearest_is_kept() {
        let mut rng = Rng::seeded(2);
        for neighbours in [1, 3, 10, 40, 60] {
            let all = candidates(60, &mut rng);
            let mut kept = all.clone();
            keep_possible(&mut kept, neighbours);
            assert!(kept.len() >= neighbours);
            for candidate in &all {
                // Wherever the others truly lie, fewer than `neighbours` of them are nearer than it can be.
                let nearest = candidate.order - candidate.error;
                let surely_nearer = all.iter().filter(|other| other.order + other.error < nearest).count();
                assert_eq!(kept.iter().any(|kept| kept.row == candidate.row), surely_nearer < neighbours);
            }
        }
    }
}
