//! Centres for rows that lie near each other: Lloyd's algorithm, with clusters that grow too large split and those that
//! stay too small dissolved. Pure, and the same for the same rows.
//!
//! In the manner of LIRE (Xu et al., "SPFresh: Incremental In-Place Update for Billion-Scale Vector Search", SOSP 2023)
//! a merge starts from the centres that its sources have, so rows that lay together mostly stay together, and only
//! what changed is split, merged and assigned anew. A segment is rewritten alone; there is no global rebuild.
//!
//! Cost: rows times centres times dimension, on the caller's thread.

use base::Rng;

use crate::distance::kernels;

/// Rows of a list, about.
pub(crate) const LIST_ROWS: usize = 512;
/// A list with more is split.
pub(crate) const LIST_ROWS_MAX: usize = 1_024;
/// A list with fewer is dissolved, if there is another.
pub(crate) const LIST_ROWS_MIN: usize = 128;
/// Below this, one list is enough: a scan of it costs microseconds.
pub(crate) const ROWS_MIN: usize = 2_048;
/// Rows of a sample for each centre.
pub(crate) const SAMPLE_PER_CENTRE: usize = 40;
/// Rounds of Lloyd's algorithm.
const ROUNDS: usize = 5;
/// A cluster with this many times its share of the sample is given another centre.
const SPLIT_AT: usize = 2;
/// A cluster with less than this part (1/4) of its share is dissolved.
const DISSOLVE_BELOW: usize = 4;
const SEED: u64 = 0x6c69_7374;

/// Centres, and what makes finding the nearest quick.
#[derive(Debug, Clone, Default)]
pub(crate) struct Centres {
    dimension: usize,
    /// `[count, dimension]`
    values: Vec<f32>,
    /// Half of each one's squared length.
    halves: Vec<f32>,
}

impl Centres {
    pub(crate) fn new(values: Vec<f32>, dimension: usize) -> Self {
        let halves = values.chunks_exact(dimension).map(|centre| kernels().dot_f32(centre, centre) / 2.0).collect();
        Self { dimension, values, halves }
    }

    pub(crate) fn count(&self) -> usize {
        self.halves.len()
    }

    #[cfg(test)]
    fn get(&self, number: usize) -> &[f32] {
        &self.values[number * self.dimension..(number + 1) * self.dimension]
    }

    /// The nearest centre; of equal ones the first.
    pub(crate) fn nearest(&self, row: &[f32]) -> usize {
        let (mut best, mut least) = (0, f32::INFINITY);
        for (number, (centre, half)) in self.values.chunks_exact(self.dimension).zip(&self.halves).enumerate() {
            // Half the squared distance, less what all have in common.
            let order = half - kernels().dot_f32(row, centre);
            if order < least {
                (best, least) = (number, order);
            }
        }
        best
    }
}

/// Sums of the rows of each cluster.
#[derive(Debug)]
pub(crate) struct Means {
    dimension: usize,
    sums: Vec<f32>,
    counts: Vec<u32>,
}

impl Means {
    pub(crate) fn new(count: usize, dimension: usize) -> Self {
        Self { dimension, sums: vec![0.0; count * dimension], counts: vec![0; count] }
    }

    pub(crate) fn add(&mut self, cluster: usize, row: &[f32]) {
        self.counts[cluster] += 1;
        let sums = &mut self.sums[cluster * self.dimension..(cluster + 1) * self.dimension];
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }

    /// The mean of a cluster, if it has rows.
    pub(crate) fn mean(&self, cluster: usize) -> Option<Vec<f32>> {
        let scale = 1.0 / self.counts[cluster] as f32;
        let sums = &self.sums[cluster * self.dimension..(cluster + 1) * self.dimension];
        (self.counts[cluster] > 0).then(|| sums.iter().map(|sum| sum * scale).collect())
    }
}

/// About `count` centres for the rows of `sample` (`[rows, dimension]`), beginning with `seeds` (`[any, dimension]`).
pub(crate) fn centres(sample: &[f32], dimension: usize, count: usize, seeds: Vec<f32>) -> Centres {
    let rows = sample.len() / dimension;
    assert!(rows > 0 && count > 0, "a sample without rows, or no centre asked for");
    let row = |number: usize| &sample[number * dimension..(number + 1) * dimension];
    let mut rng = Rng::seeded(SEED);
    let mut values = seeds;
    while values.len() < count * dimension {
        values.extend_from_slice(row(rng.below(rows as u64) as usize));
    }
    let mut found = Centres::new(values, dimension);
    for round in 0..ROUNDS {
        let assigned: Vec<usize> = sample.chunks_exact(dimension).map(|row| found.nearest(row)).collect();
        let mut means = Means::new(found.count(), dimension);
        assigned.iter().enumerate().for_each(|(number, &cluster)| means.add(cluster, row(number)));
        let share = rows.div_ceil(count);
        let mut values = Vec::with_capacity(found.values.len());
        let is_last = round + 1 == ROUNDS;
        for cluster in 0..found.count() {
            let size = means.counts[cluster] as usize;
            if let Some(mean) = means.mean(cluster).filter(|_| is_last || size * DISSOLVE_BELOW >= share) {
                values.extend_from_slice(&mean);
            }
            if !is_last && size > share * SPLIT_AT {
                // One of its rows becomes a centre, and the next round divides the others between the two.
                let nth = rng.below(size as u64) as usize;
                let member = assigned.iter().enumerate().filter(|&(_, &other)| other == cluster).nth(nth);
                values.extend_from_slice(row(member.map_or(0, |(number, _)| number)));
            }
        }
        if values.is_empty() {
            break;
        }
        found = Centres::new(values, dimension);
    }
    found
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::centres;

    #[test]
    fn heaps_are_found_whatever_the_seeds() {
        let (mut rng, dimension) = (Rng::seeded(3), 16);
        let heaps: Vec<Vec<f32>> =
            (0..8).map(|_| (0..dimension).map(|_| rng.unit_f64() as f32 * 10.0).collect()).collect();
        let mut sample = Vec::new();
        for number in 0..640 {
            sample.extend(heaps[number % 8].iter().map(|value| value + rng.unit_f64() as f32 * 0.1));
        }
        for seeds in [Vec::new(), sample[..16 * dimension].to_vec(), vec![100.0; 3 * dimension]] {
            let found = centres(&sample, dimension, 8, seeds);
            assert!((6..=16).contains(&found.count()), "{}", found.count());
            let off: f32 = sample
                .chunks_exact(dimension)
                .map(|row| {
                    let centre = found.get(found.nearest(row));
                    row.iter().zip(centre).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
                })
                .sum();
            assert!(off / 640.0 < 40.0, "{off}");
        }
    }

    #[test]
    fn equal_rows_are_no_trouble() {
        let found = centres(&vec![1.0; 100 * 4], 4, 5, Vec::new());
        assert!(found.count() >= 1 && found.nearest(&[1.0; 4]) == 0);
    }
}
