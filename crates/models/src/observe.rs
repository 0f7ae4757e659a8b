//! What matrices are multiplied with while a model reads a text: the mean square of every column.
//!
//! An error in a weight of a column moves the output by the error times the number in that column, so its expected
//! square is the error's square times this mean, if errors of columns have nothing to do with each other. They have,
//! and a text is not all texts: `kernels::quantize` weighs errors with the square root. On the built-in model the mean
//! itself made Q6_K and Q4_0 worse than no weights at all (`bench/README.md`).

use std::collections::BTreeMap;

/// What unobserved columns count for, of the mean of all: what a short text did not say must not be free.
const FLOOR: f32 = 0.01;

/// Where rows meet matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Site {
    /// The projections before attention or gated DeltaNet.
    Mixer,
    /// The one behind it.
    Attended,
    /// Gates and up projections.
    FeedForward,
    /// Down projections.
    Inner,
    /// The vocabulary head.
    Head,
}

#[derive(Debug, Clone, Default)]
struct Squares {
    sums: Vec<f64>, // [columns]
    rows: u64,
}

/// Mean squares of the columns of every matrix, by what was read so far.
#[derive(Debug, Clone, Default)]
pub struct Importance {
    squares: BTreeMap<(usize, Site, Option<usize>), Squares>,
}

impl Importance {
    /// Matrices that met at least one row.
    #[must_use]
    pub fn observed(&self) -> usize {
        self.squares.len()
    }

    /// Adds rows `[n, columns]` that a matrix of this layer, or of its expert, was multiplied with.
    pub(crate) fn add(&mut self, layer: usize, site: Site, expert: Option<usize>, columns: usize, rows: &[f32]) {
        let squares = self.squares.entry((layer, site, expert)).or_default();
        squares.sums.resize(columns, 0.0);
        for row in rows.chunks_exact(columns) {
            squares.rows += 1;
            for (sum, number) in squares.sums.iter_mut().zip(row) {
                *sum += f64::from(*number) * f64::from(*number);
            }
        }
    }

    /// How much errors count in each column, the mean being about 1; `None` if nothing was observed.
    pub(crate) fn of(&self, layer: usize, site: Site, expert: Option<usize>) -> Option<Vec<f32>> {
        let squares = self.squares.get(&(layer, site, expert))?;
        let mean = squares.sums.iter().sum::<f64>() / squares.sums.len().max(1) as f64;
        let is_known = squares.rows > 0 && mean.is_finite() && mean > 0.0;
        is_known.then(|| squares.sums.iter().map(|sum| ((sum / mean) as f32).sqrt() + FLOOR).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{FLOOR, Importance, Site};

    #[test]
    fn columns_that_carry_more_count_more() {
        let mut importance = Importance::default();
        importance.add(0, Site::Mixer, None, 2, &[1.0, 0.0, 1.0, 2.0]);
        let of = importance.of(0, Site::Mixer, None).unwrap();
        let expected = [(2.0_f32 / 3.0).sqrt() + FLOOR, (4.0_f32 / 3.0).sqrt() + FLOOR];
        assert!(of.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{of:?}");
        assert_eq!(importance.of(1, Site::Mixer, None), None);
        importance.add(0, Site::Inner, Some(3), 2, &[0.0, 0.0]);
        assert_eq!(importance.of(0, Site::Inner, Some(3)), None, "nothing but zeros says nothing");
        assert_eq!(importance.observed(), 2);
    }
}
