//! What a compaction writes: segments whose rows lie in lists around centres.
//!
//! Three passes over the rows' vectors: a sample finds the centres, every row is assigned to the nearest, and rows are
//! written list by list. Lists that came out too large are split, those too small are dissolved.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Index;
use crate::Result;
use crate::cluster::{self, Centres, Means};
use crate::distance::prepare;
use crate::manifest::SegmentEntry;
use crate::segment::{Builder, rows_max};
use crate::state::Live;
use crate::types::Row;

/// How many rows are read at once.
const READ_ROWS: usize = 1_024;

/// Where a row comes from: a segment, or the tail if there is none of this number.
#[derive(Debug, Clone, Copy)]
struct Origin {
    source: u32,
    row: u32,
}

/// What is merged.
struct Sources<'a> {
    index: &'a Index,
    segments: &'a [&'a Live],
    tail: &'a [&'a Arc<Row>],
}

/// The rows of a list, by their places among the origins, and its centre.
type ListRows = (Vec<f32>, Vec<u32>);

impl Index {
    /// Writes the living rows of the segments and of the tail to as few segments as hold them.
    pub(super) async fn build(&self, number: u64, segments: &[&Live], tail: &[&Arc<Row>]) -> Result<Vec<SegmentEntry>> {
        let sources = Sources { index: self, segments, tail };
        let origins = sources.origins();
        let mut done = Vec::new();
        for origins in origins.chunks(rows_max(self.shape.dimension) as usize) {
            let lists = sources.lists(origins).await?;
            let build = self.builds.fetch_add(1, Ordering::Relaxed);
            let id = format!("{number:020}-{:016x}-{build}", self.writer);
            let mut builder = Builder::new(&self.store, &self.folder, &id, &self.shape, &self.rotation)?;
            for (centre, places) in &lists {
                builder.begin_list(centre);
                for places in places.chunks(READ_ROWS) {
                    let members: Vec<Origin> = places.iter().map(|&place| origins[place as usize]).collect();
                    for row in sources.rows(&members).await? {
                        builder.push(&row).await?;
                    }
                }
            }
            done.push(builder.finish().await?);
        }
        Ok(done)
    }
}

impl Sources<'_> {
    fn origins(&self) -> Vec<Origin> {
        let of_segments = self.segments.iter().zip(0..).flat_map(|(live, source)| {
            let alive: Vec<u32> = (*live.dead).clone().not().iter().collect();
            alive.into_iter().map(move |row| Origin { source, row })
        });
        let tail = self.segments.len() as u32;
        of_segments.chain((0..self.tail.len() as u32).map(|row| Origin { source: tail, row })).collect()
    }

    /// Places and rows of the origins that lie in one segment.
    fn of_segment(origins: &[Origin], source: usize) -> (Vec<usize>, Vec<u32>) {
        let own = origins.iter().enumerate().filter(|(_, origin)| origin.source as usize == source);
        own.map(|(place, origin)| (place, origin.row)).unzip()
    }

    /// The prepared vectors of the origins, in their order. `[origins, dimension]`
    async fn vectors(&self, origins: &[Origin]) -> Result<Vec<f32>> {
        let (d, metric) = (self.index.shape.dimension as usize, self.index.shape.metric);
        let mut out = vec![0.0; origins.len() * d];
        for (source, live) in self.segments.iter().enumerate() {
            let (places, rows) = Self::of_segment(origins, source);
            for (place, vector) in places.into_iter().zip(live.segment.whole(&rows).await?) {
                out[place * d..(place + 1) * d].copy_from_slice(&prepare(&vector, metric));
            }
        }
        let (places, rows) = Self::of_segment(origins, self.segments.len());
        for (place, row) in places.into_iter().zip(rows) {
            out[place * d..(place + 1) * d].copy_from_slice(&prepare(&self.tail[row as usize].vector, metric));
        }
        Ok(out)
    }

    /// The rows of the origins, those of one source together.
    async fn rows(&self, origins: &[Origin]) -> Result<Vec<Arc<Row>>> {
        let mut found = Vec::with_capacity(origins.len());
        for (source, live) in self.segments.iter().enumerate() {
            let (_, rows) = Self::of_segment(origins, source);
            found.extend(live.segment.rows(&rows).await?.into_iter().map(Arc::new));
        }
        let (_, rows) = Self::of_segment(origins, self.segments.len());
        found.extend(rows.into_iter().map(|row| Arc::clone(self.tail[row as usize])));
        Ok(found)
    }

    /// Divides the rows into lists.
    async fn lists(&self, origins: &[Origin]) -> Result<Vec<ListRows>> {
        let d = self.index.shape.dimension as usize;
        let all: Vec<u32> = (0..origins.len() as u32).collect();
        if origins.len() < cluster::ROWS_MIN {
            let zero = Centres::new(vec![0.0; d], d);
            return self.assign(origins, &all, &zero).await;
        }
        let count = origins.len() / cluster::LIST_ROWS;
        let step = (origins.len() / (count * cluster::SAMPLE_PER_CENTRE)).max(1);
        let sample: Vec<Origin> = origins.iter().step_by(step).copied().collect();
        let mut vectors = Vec::with_capacity(sample.len() * d);
        for sample in sample.chunks(READ_ROWS) {
            vectors.append(&mut self.vectors(sample).await?);
        }
        let centres = cluster::centres(&vectors, d, count, self.seeds(count));
        drop(vectors);
        let lists = self.assign(origins, &all, &centres).await?;
        let lists = self.dissolve_small(origins, lists).await?;
        self.split_large(origins, lists).await
    }

    /// Centres that the sources have already, evenly among them, not more than are needed.
    fn seeds(&self, count: usize) -> Vec<f32> {
        let known: usize = self.segments.iter().map(|live| live.segment.head.lists.len()).sum();
        let lists = self.segments.iter().flat_map(|live| {
            let head = &live.segment.head;
            (0..head.lists.len()).map(|list| head.centre(list))
        });
        lists.step_by(known.div_ceil(count).max(1)).flatten().copied().collect()
    }

    /// The lists that rows fall into by the nearest centre, with the means of their rows as their centres.
    async fn assign(&self, origins: &[Origin], places: &[u32], centres: &Centres) -> Result<Vec<ListRows>> {
        let d = self.index.shape.dimension as usize;
        let mut means = Means::new(centres.count(), d);
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); centres.count()];
        for places in places.chunks(READ_ROWS) {
            let chosen: Vec<Origin> = places.iter().map(|&place| origins[place as usize]).collect();
            let vectors = self.vectors(&chosen).await?;
            for (&place, vector) in places.iter().zip(vectors.chunks_exact(d)) {
                let nearest = centres.nearest(vector);
                means.add(nearest, vector);
                members[nearest].push(place);
            }
        }
        let lists = members.into_iter().enumerate();
        Ok(lists.filter_map(|(list, members)| Some((means.mean(list)?, members))).collect())
    }

    /// Gives the rows of lists that are too small to the nearest others.
    async fn dissolve_small(&self, origins: &[Origin], lists: Vec<ListRows>) -> Result<Vec<ListRows>> {
        let d = self.index.shape.dimension as usize;
        let (mut kept, small): (Vec<ListRows>, Vec<ListRows>) =
            lists.into_iter().partition(|(_, members)| members.len() >= cluster::LIST_ROWS_MIN);
        if kept.is_empty() {
            return Ok(small);
        }
        let centres = Centres::new(kept.iter().flat_map(|(centre, _)| centre).copied().collect(), d);
        for (_, places) in small {
            let chosen: Vec<Origin> = places.iter().map(|&place| origins[place as usize]).collect();
            let vectors = self.vectors(&chosen).await?;
            for (place, vector) in places.into_iter().zip(vectors.chunks_exact(d)) {
                kept[centres.nearest(vector)].1.push(place);
            }
        }
        Ok(kept)
    }

    /// Divides lists that are too large.
    async fn split_large(&self, origins: &[Origin], lists: Vec<ListRows>) -> Result<Vec<ListRows>> {
        let d = self.index.shape.dimension as usize;
        let mut done = Vec::with_capacity(lists.len());
        for (centre, places) in lists {
            if places.len() <= cluster::LIST_ROWS_MAX {
                done.push((centre, places));
                continue;
            }
            let count = places.len().div_ceil(cluster::LIST_ROWS);
            let step = (places.len() / (count * cluster::SAMPLE_PER_CENTRE)).max(1);
            let sample: Vec<Origin> = places.iter().step_by(step).map(|&place| origins[place as usize]).collect();
            let centres = cluster::centres(&self.vectors(&sample).await?, d, count, Vec::new());
            for (centre, places) in self.assign(origins, &places, &centres).await? {
                // Rows that are all alike cannot be told apart: they are cut by number.
                done.extend(places.chunks(cluster::LIST_ROWS_MAX).map(|places| (centre.clone(), places.to_vec())));
            }
        }
        Ok(done)
    }
}
