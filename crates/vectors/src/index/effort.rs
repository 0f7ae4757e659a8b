//! How hard a query looks.

use super::search::{FEW_DIMENSIONS, FEW_DIMENSIONS_SMALL_MIN};
use crate::{Error, Result};

/// How many rows are read as small rows, at least. Estimates order 100,000 sentence embeddings of 384 dimensions well
/// enough for recall 0.998 at 10 neighbours then (`bench/README.md`).
const SMALL_MIN: usize = 128;
/// How many small rows are read for each neighbour asked for.
const SMALL_PER_NEIGHBOUR: usize = 4;
/// How much nearer than its centre says a list may hold a row: of the product of the query's and the rows' distances
/// from the centre, twice of which is the most that geometry allows.
const REACH: f32 = 0.7;

/// How hard a query looks, in percent of what it does by default.
///
/// Less than [`Effort::FULL`] passes over lists that are less likely to hold a near row, and reads fewer rows: quicker,
/// and with less recall. `examples/measure.rs` prints both for vectors of one's own. Rows in memory are all looked at,
/// and so are those that fit a filter if they are few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Effort(u8);

/// What an effort comes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// How many rows are read as small rows.
    pub(super) small: usize,
    /// See [`REACH`].
    pub(super) reach: f32,
    /// Whether no list is passed over, however unlikely.
    pub(super) is_exhaustive: bool,
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

    /// What it comes to for so many neighbours among so many living rows.
    pub(super) fn depth(self, neighbours: usize, dimension: u32, living: u64, exhaustive_rows: u64) -> Depth {
        let part = f32::from(self.0) / f32::from(Self::FULL.0);
        let mut small = ((SMALL_MIN as f32 * part) as usize).max(neighbours * SMALL_PER_NEIGHBOUR);
        if dimension < FEW_DIMENSIONS {
            small = small.max(FEW_DIMENSIONS_SMALL_MIN);
        }
        let is_exhaustive = self == Self::FULL && living <= exhaustive_rows;
        Depth { small, reach: REACH * part, is_exhaustive }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self::FULL
    }
}
