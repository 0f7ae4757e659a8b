//! RaBitQ: one bit for each dimension, and an unbiased estimate of the distance.
//!
//! Source: Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
//! Nearest Neighbor Search", SIGMOD 2024. With `r` the rotated row less its list's centre and `s` the signs of `r`, the
//! product `<r, q>` is estimated by `<s, q> * |r|^2 / sum|r_i|`. A row keeps its signs and two factors, `|r|^2` and
//! `|r|^2 / sum|r_i|`; the estimate of the squared distance is
//! `|r|^2 + |q|^2 - 2 <s, q> |r|^2 / sum|r_i|`, where `q` is the rotated query less the centre.
//!
//! The query is rounded to 4 bits a number, so `<s, q>` is a few ANDs and bit counts: see `kernels::codes`.
//!
//! Cost of a scan: `padded / 8 + 8` bytes read a row: 56 bytes at 384 dimensions, so 100,000 rows are 5.6 MB and lie
//! in the cache of a server's processor.

use std::ops::{Deref, Range};

use kernels::codes::{CODE_BLOCK_ROWS, CodeEstimate, CodeLevels, CodeMemory, CodePlanes, CodeScan, CodeWord};

use crate::bits::Bits;
use crate::distance::kernels;
use crate::rotate::Rotation;

/// Blocks that are scanned before the bound is looked at again.
const GROUP_BLOCKS: usize = 64;
/// Errors of estimates lie within this many standard deviations; the constant of the paper's section 3.2.2.
const DEVIATIONS: f32 = 1.9;

/// The two factors of each row of a block.
pub(crate) type Factors = [[f32; CODE_BLOCK_ROWS]; 2];

/// The codes of the rows of a segment.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    /// Words of 64 bits a row has.
    pub(crate) words: usize,
    pub(crate) rows: u32,
    /// `[blocks, words]`.
    pub(crate) bits: Words,
    /// `[blocks]`: `|r|^2` and `|r|^2 / sum|r_i|` of each row.
    pub(crate) factors: Vec<Factors>,
}

/// The words of codes.
#[derive(Debug)]
pub(crate) enum Words {
    /// To which more may come.
    Built(Vec<CodeWord>),
    /// That were read.
    Read(CodeMemory),
}

impl Default for Words {
    fn default() -> Self {
        Self::Built(Vec::new())
    }
}

impl Words {
    /// Words as they lie in a head: little-endian.
    pub(crate) fn of_bytes(bytes: &[[u8; 64]]) -> Self {
        let word = |bytes: &[u8; 64]| -> CodeWord {
            let (lanes, _) = bytes.as_chunks();
            std::array::from_fn(|lane| u64::from_le_bytes(lanes[lane]))
        };
        match CodeMemory::zeroed(bytes.len()) {
            Ok(mut memory) => {
                memory.iter_mut().zip(bytes).for_each(|(out, bytes)| *out = word(bytes));
                Self::Read(memory)
            }
            // The system has no pages of its own for it; perhaps the allocator has room.
            Err(_) => Self::Built(bytes.iter().map(word).collect()),
        }
    }
}

impl Deref for Words {
    type Target = [CodeWord];

    fn deref(&self) -> &[CodeWord] {
        match self {
            Self::Built(words) => words,
            Self::Read(memory) => memory,
        }
    }
}

impl Codes {
    pub(crate) fn new(padded: usize) -> Self {
        Self { words: padded / 64, ..Self::default() }
    }

    /// Appends the code of a row, given rotated and less the centre. `[padded]`
    pub(crate) fn push(&mut self, rotated: &[f32]) {
        assert_eq!(rotated.len(), self.words * 64, "another length than the codes'");
        let Words::Built(bits) = &mut self.bits else { panic!("codes that were read are complete") };
        let lane = self.rows as usize % CODE_BLOCK_ROWS;
        if lane == 0 {
            bits.resize(bits.len() + self.words, [0; CODE_BLOCK_ROWS]);
            self.factors.push(Factors::default());
        }
        self.rows += 1;
        let start = bits.len() - self.words;
        for (word, numbers) in bits[start..].iter_mut().zip(rotated.as_chunks::<64>().0) {
            for (place, &number) in numbers.iter().enumerate() {
                word[lane] |= u64::from(number > 0.0) << place;
            }
        }
        let squared: f32 = rotated.iter().map(|number| number * number).sum();
        let sum: f32 = rotated.iter().map(|number| number.abs()).sum();
        let last = self.factors.last_mut().expect("a block was begun");
        last[0][lane] = squared;
        last[1][lane] = if sum > 0.0 { squared / sum } else { 0.0 };
    }

    /// Hands the chosen rows among `rows` whose estimated squared distances are below a bound to `found`, in order;
    /// `found` answers the bound for the rows that follow.
    pub(crate) fn scan(
        &self,
        query: &mut CodeQuery,
        rows: Range<u32>,
        chosen: &Bits,
        mut below: f32,
        mut found: impl FnMut(&[CodeEstimate]) -> f32,
    ) {
        let (first, last) = (rows.start as usize / CODE_BLOCK_ROWS, (rows.end as usize).div_ceil(CODE_BLOCK_ROWS));
        let mut start = first;
        while start < last {
            let end = last.min(start + GROUP_BLOCKS);
            let own = chosen.bytes(start..end, &mut query.chosen);
            // Only the first block and the last hold rows of other lists.
            for block in [start, end - 1] {
                own[block - start] &= block_mask(block, &rows);
            }
            query.found.clear();
            let scan = CodeScan {
                codes: &self.bits[start * self.words..end * self.words],
                factors: &self.factors[start..end],
                chosen: own,
                first_row: (start * CODE_BLOCK_ROWS) as u32,
                planes: &query.planes,
                // Twice <s, q> is four times the sum over the ones less twice the sum over all.
                per_sum: 4.0 * query.levels.step,
                offset: -2.0 * query.levels.total,
                base: query.levels.squared,
            };
            kernels().scan(&scan, below, &mut query.found);
            if !query.found.is_empty() {
                below = found(&query.found);
            }
            start = end;
        }
    }

    /// How far a row's estimate may be off, for a query whose squared distance to the centre is `squared`.
    pub(crate) fn error(&self, row: u32, squared: f32) -> f32 {
        let (block, lane) = (row as usize / CODE_BLOCK_ROWS, row as usize % CODE_BLOCK_ROWS);
        let [length, slope] = self.factors[block].map(|factors| factors[lane]);
        let d = self.words as f32 * 64.0;
        2.0 * DEVIATIONS * (squared * (slope * slope * d - length).max(0.0) / (d - 1.0)).sqrt()
    }
}

/// The rows of a block that lie in the range.
fn block_mask(block: usize, rows: &Range<u32>) -> u8 {
    let start = (block * CODE_BLOCK_ROWS) as u32;
    let before = rows.start.saturating_sub(start).min(8);
    let after = (start + 8).saturating_sub(rows.end).min(8);
    ((0xff_u32 << before) & (0xff_u32 >> after)) as u8
}

/// A query as codes see it, and room to work in. It is aimed at one centre after the other.
#[derive(Debug, Default)]
pub(crate) struct CodeQuery {
    /// `[padded]`
    rotated: Vec<f32>,
    residual: Vec<f32>,
    /// `[words]`
    planes: Vec<CodePlanes>,
    levels: CodeLevels,
    chosen: Vec<u8>,
    found: Vec<CodeEstimate>,
}

impl CodeQuery {
    /// Takes another query. `[dimension]`
    pub(crate) fn set(&mut self, query: &[f32], rotation: &Rotation) {
        let padded = rotation.padded();
        self.rotated.resize(padded, 0.0);
        self.residual.resize(padded, 0.0);
        self.planes.resize(padded / 64, CodePlanes::default());
        rotation.apply(query, &mut self.rotated);
    }

    /// Aims at the rows whose codes were taken less this centre, given rotated. `[padded]`
    pub(crate) fn aim(&mut self, centre: &[f32]) {
        self.levels = kernels().levels(&self.rotated, centre, &mut self.residual, &mut self.planes);
    }

    /// The squared distance to the centre.
    pub(crate) fn squared(&self) -> f32 {
        self.levels.squared
    }
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::{CodeQuery, Codes, block_mask};
    use crate::bits::Bits;
    use crate::rotate::Rotation;

    /// Estimates of random rows against their true squared distances: mean error and mean absolute error, both as
    /// a fraction of the true distance, and how many lie outside of the bound.
    fn errors(dimension: usize, rows: u32) -> (f32, f32, usize) {
        let mut rng = Rng::seeded(9);
        let mut draw = || (0..dimension).map(|_| rng.unit_f64() as f32 - 0.5).collect::<Vec<f32>>();
        let rotation = Rotation::new(dimension);
        // The centre is the rows' mean, as in a segment: off it, all rows share one error.
        let query = draw();
        let mut codes = Codes::new(rotation.padded());
        let mut rotated = vec![0.0; rotation.padded()];
        let mut truth = Vec::new();
        for _ in 0..rows {
            let row = draw();
            rotation.apply(&row, &mut rotated);
            codes.push(&rotated);
            truth.push(row.iter().zip(&query).map(|(r, q)| (r - q) * (r - q)).sum::<f32>());
        }
        let (mut signed, mut absolute, mut seen, mut outside) = (0.0, 0.0, 0, 0);
        let mut coded = CodeQuery::default();
        coded.set(&query, &rotation);
        coded.aim(&vec![0.0; rotation.padded()]);
        let squared = coded.squared();
        codes.scan(&mut coded, 0..rows, &Bits::all(rows), f32::INFINITY, |found| {
            for found in found {
                assert_eq!(found.row, seen);
                seen += 1;
                let off = found.estimate - truth[found.row as usize];
                outside += usize::from(off.abs() > codes.error(found.row, squared));
                signed += off / truth[found.row as usize] / rows as f32;
                absolute += off.abs() / truth[found.row as usize] / rows as f32;
            }
            f32::INFINITY
        });
        assert_eq!(seen, rows);
        (signed, absolute, outside)
    }

    #[test]
    fn estimates_are_unbiased_and_near() {
        // The paper's error is of the order of 1/sqrt(dimension).
        for (dimension, allowed) in [(64, 0.12), (100, 0.12), (384, 0.05), (1024, 0.03)] {
            let (signed, absolute, outside) = errors(dimension, 1_003);
            assert!(signed.abs() < allowed / 4.0, "{dimension}: biased by {signed}");
            assert!(absolute < allowed, "{dimension}: off by {absolute}");
            assert!(outside < 100, "{dimension}: {outside} outside of the bound");
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
        for row in [0, 3, 7, 8, 18, 19] {
            chosen.insert(row);
        }
        let mut query = CodeQuery::default();
        query.set(&[0.0; 8], &rotation);
        query.aim(&[0.0; 64]);
        let mut seen = Vec::new();
        codes.scan(&mut query, 3..19, &chosen, f32::INFINITY, |found| {
            assert!(found.iter().all(|found| found.estimate.abs() < 1e-6));
            seen.extend(found.iter().map(|found| found.row));
            f32::INFINITY
        });
        assert_eq!(seen, [3, 7, 8, 18]);
    }

    #[test]
    fn masks_hold_the_rows_of_a_range() {
        let rows: Vec<u32> = (0..5)
            .flat_map(|block| {
                let mask = block_mask(block, &(5..27));
                (0..8).filter(move |bit| mask >> bit & 1 == 1).map(move |bit| block as u32 * 8 + bit)
            })
            .collect();
        assert_eq!(rows, (5..27).collect::<Vec<_>>());
    }
}
