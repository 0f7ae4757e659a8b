//! RaBitQ: one bit for each dimension, and an unbiased estimate of the distance.
//!
//! Source: Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
//! Nearest Neighbor Search", SIGMOD 2024. With `r` the rotated row less its centre and `s` the signs of `r`, the
//! product `<r, q>` is estimated by `<s, q> * |r|^2 / sum|r_i|`. A row keeps its signs and two factors, `|r|^2` and
//! `|r|^2 / sum|r_i|`; the estimate of the squared distance is
//! `|r|^2 + |q|^2 - 2 <s, q> |r|^2 / sum|r_i|`, where `q` is the rotated query less the centre.
//!
//! The query is rounded to 4 bits a number, so `<s, q>` is a few ANDs and bit counts.
//!
//! Cost of a scan: `5 * padded / 64` bit counts a row and `padded / 8 + 8` bytes read: 56 bytes at 384 dimensions, so
//! 100,000 rows are 5.6 MB and lie in the cache of a server's processor.

use crate::bits::Bits;
use crate::distance::{BLOCK_ROWS, KERNELS, QUERY_BITS};
use crate::rotate::Rotation;

/// The codes of the rows of a segment.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    /// Words of 64 bits a row has.
    pub(crate) words: usize,
    /// `[blocks, words]` of one word for each of the block's rows.
    pub(crate) bits: Vec<[u64; BLOCK_ROWS]>,
    /// `[rows]`: `|r|^2` and `|r|^2 / sum|r_i|`.
    pub(crate) factors: Vec<[f32; 2]>,
}

impl Codes {
    pub(crate) fn new(padded: usize) -> Self {
        Self { words: padded / 64, bits: Vec::new(), factors: Vec::new() }
    }

    /// Appends the code of a row, given rotated and less the centre. `[padded]`
    pub(crate) fn push(&mut self, rotated: &[f32]) {
        assert_eq!(rotated.len(), self.words * 64, "another length than the codes'");
        let lane = self.factors.len() % BLOCK_ROWS;
        if lane == 0 {
            self.bits.resize(self.bits.len() + self.words, [0; BLOCK_ROWS]);
        }
        let start = self.bits.len() - self.words;
        for (word, numbers) in self.bits[start..].iter_mut().zip(rotated.as_chunks::<64>().0) {
            for (place, &number) in numbers.iter().enumerate() {
                word[lane] |= u64::from(number > 0.0) << place;
            }
        }
        let squared: f32 = rotated.iter().map(|number| number * number).sum();
        let sum: f32 = rotated.iter().map(|number| number.abs()).sum();
        self.factors.push([squared, if sum > 0.0 { squared / sum } else { 0.0 }]);
    }

    /// Calls `found` with each chosen row and its estimated squared distance, in the order of rows.
    pub(crate) fn scan(&self, query: &CodeQuery, chosen: &Bits, mut found: impl FnMut(u32, f32)) {
        let kernel = KERNELS.block_sums;
        for (group, codes) in self.bits.chunks_exact(self.words).enumerate() {
            let members = chosen.byte(group);
            if members == 0 {
                continue;
            }
            let (sums, ones) = kernel(codes, &query.planes);
            for lane in 0..BLOCK_ROWS {
                if members & (1 << lane) == 0 {
                    continue;
                }
                let row = group * BLOCK_ROWS + lane;
                let [squared, slope] = self.factors[row];
                let product = query.per_sum * sums[lane] as f32 + query.per_one * ones[lane] as f32 + query.offset;
                found(row as u32, squared + query.squared - slope * product);
            }
        }
    }
}

/// A query as a segment's codes see it.
#[derive(Debug)]
pub(crate) struct CodeQuery {
    /// `[words]`, bit `j` of each of 64 numbers.
    planes: Vec<[u64; QUERY_BITS]>,
    /// `2 <s, q>` is `per_sum * sum + per_one * ones + offset`.
    per_sum: f32,
    per_one: f32,
    offset: f32,
    /// `|q|^2`
    squared: f32,
}

impl CodeQuery {
    /// Prepares a query for rows that were encoded less this centre. `query` and `centre` are `[dimension]`.
    pub(crate) fn new(query: &[f32], centre: &[f32], rotation: &Rotation) -> Self {
        const LEVEL_MAX: f32 = ((1 << QUERY_BITS) - 1) as f32;
        let residual: Vec<f32> = query.iter().zip(centre).map(|(q, c)| q - c).collect();
        let mut rotated = vec![0.0; rotation.padded()];
        rotation.apply(&residual, &mut rotated);
        let low = rotated.iter().copied().fold(f32::INFINITY, f32::min);
        let high = rotated.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let step = (high - low) / LEVEL_MAX;
        let per_step = if step > 0.0 { 1.0 / step } else { 0.0 };
        let mut planes = vec![[0_u64; QUERY_BITS]; rotated.len() / 64];
        for (plane, numbers) in planes.iter_mut().zip(rotated.as_chunks::<64>().0) {
            for (place, &number) in numbers.iter().enumerate() {
                let level = ((number - low) * per_step).round().clamp(0.0, LEVEL_MAX) as u64;
                for (bit, word) in plane.iter_mut().enumerate() {
                    *word |= ((level >> bit) & 1) << place;
                }
            }
        }
        // <s, q> is twice the sum over the ones less the sum over all; both doubled here, as the distance needs it.
        let total: f32 = rotated.iter().sum();
        let squared = rotated.iter().map(|number| number * number).sum();
        Self { planes, per_sum: 4.0 * step, per_one: 4.0 * low, offset: -2.0 * total, squared }
    }
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::{CodeQuery, Codes};
    use crate::bits::Bits;
    use crate::rotate::Rotation;

    /// Estimates of random rows against their true squared distances: mean error and mean absolute error, both as
    /// a fraction of the true distance.
    fn errors(dimension: usize, rows: usize) -> (f32, f32) {
        let mut rng = Rng::seeded(9);
        let mut draw = || (0..dimension).map(|_| rng.unit_f64() as f32 - 0.5).collect::<Vec<f32>>();
        let rotation = Rotation::new(dimension);
        // The centre is the rows' mean, as in a segment: off it, all rows share one error.
        let (centre, query) = (vec![0.0; dimension], draw());
        let mut codes = Codes::new(rotation.padded());
        let mut rotated = vec![0.0; rotation.padded()];
        let mut truth = Vec::new();
        for _ in 0..rows {
            let row = draw();
            let residual: Vec<f32> = row.iter().zip(&centre).map(|(r, c)| r - c).collect();
            rotation.apply(&residual, &mut rotated);
            codes.push(&rotated);
            truth.push(row.iter().zip(&query).map(|(r, q)| (r - q) * (r - q)).sum::<f32>());
        }
        let (mut signed, mut absolute, mut seen) = (0.0, 0.0, 0);
        codes.scan(&CodeQuery::new(&query, &centre, &rotation), &Bits::all(rows as u32), |row, estimate| {
            assert_eq!(row, seen);
            seen += 1;
            let error = (estimate - truth[row as usize]) / truth[row as usize];
            signed += error / rows as f32;
            absolute += error.abs() / rows as f32;
        });
        assert_eq!(seen as usize, rows);
        (signed, absolute)
    }

    #[test]
    fn estimates_are_unbiased_and_near() {
        // The paper's error is of the order of 1/sqrt(dimension).
        for (dimension, allowed) in [(64, 0.12), (100, 0.12), (384, 0.05), (1024, 0.03)] {
            let (signed, absolute) = errors(dimension, 1_003);
            assert!(signed.abs() < allowed / 4.0, "{dimension}: biased by {signed}");
            assert!(absolute < allowed, "{dimension}: off by {absolute}");
        }
    }

    #[test]
    fn only_chosen_rows_are_answered_and_equal_rows_are_no_trouble() {
        let rotation = Rotation::new(8);
        let mut codes = Codes::new(64);
        for _ in 0..20 {
            codes.push(&[0.0; 64]);
        }
        let mut chosen = Bits::none(20);
        for row in [0, 7, 8, 19] {
            chosen.insert(row);
        }
        let mut found = Vec::new();
        codes.scan(&CodeQuery::new(&[1.0; 8], &[1.0; 8], &rotation), &chosen, |row, estimate| {
            assert!(estimate.abs() < 1e-6);
            found.push(row);
        });
        assert_eq!(found, [0, 7, 8, 19]);
    }
}
