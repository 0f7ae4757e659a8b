//! How hard a query looks.

use super::search::{FEW_DIMENSIONS, FEW_DIMENSIONS_SMALL_MIN};
use crate::{Error, Result};

/// How many rows are read as small rows, at least. Estimates order 100,000 sentence embeddings of 384 dimensions well
/// enough for recall 0.998 at 10 neighbours then (`bench/README.md`).
const SMALL_MIN: usize = 128;
/// The same of the least effort.
const SMALL_LEAST: usize = 64;
/// How many small rows are read for each neighbour asked for.
const SMALL_PER_NEIGHBOUR: usize = 4;
/// How hard a query looks: how many percent of the rows that fit are looked at, nearest lists first.
///
/// Less than [`Effort::FULL`] passes over the lists that are less likely to hold a near row, and reads fewer rows:
/// quicker, and with less recall. `examples/measure.rs` prints both for vectors of one's own. Rows in memory are all
/// looked at, and so are those that fit a filter if they are few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Effort(u8);

/// What an effort comes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// How many rows are read as small rows.
    pub(super) small: usize,
    /// Whether no list is passed over because it is not expected to hold a near row.
    pub(super) is_exhaustive: bool,
    effort: Effort,
}

impl Effort {
    /// What every query does unless it says something else.
    pub const FULL: Self = Self(100);

    /// An effort in percent.
    ///
    /// # Errors
    /// If it is not 1 to 100.
    pub fn percent(percent: i64) -> Result<Self> {
        let small = u8::try_from(percent).ok().filter(|percent| (1..=Self::FULL.0).contains(percent));
        let why = || format!("{percent}, 1 to {} allowed", Self::FULL.0);
        small.map(Self).ok_or_else(|| Error::Invalid { field: "effort", why: why() })
    }

    /// That part of so many.
    pub(super) fn part_of(self, rows: u64) -> u64 {
        (rows * u64::from(self.0)).div_ceil(u64::from(Self::FULL.0))
    }

    /// What it comes to for so many neighbours among so many living rows.
    pub(super) fn depth(self, neighbours: usize, dimension: u32, living: u64, exhaustive_rows: u64) -> Depth {
        let mut small = SMALL_MIN * usize::from(self.0) / usize::from(Self::FULL.0);
        small = small.max(SMALL_LEAST).max(neighbours * SMALL_PER_NEIGHBOUR);
        if dimension < FEW_DIMENSIONS {
            small = small.max(FEW_DIMENSIONS_SMALL_MIN);
        }
        Depth { small, is_exhaustive: living <= exhaustive_rows, effort: self }
    }
}

impl Depth {
    /// How many of so many rows that fit are looked at.
    pub(super) fn rows(&self, fitting: u64) -> u64 {
        self.effort.part_of(fitting).max(self.small as u64)
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self::FULL
    }
}
