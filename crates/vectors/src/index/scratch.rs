//! Room that queries work in, kept from one query to the next.

use std::sync::{Mutex, PoisonError};

use super::search::{Least, Probe};
use crate::rabitq::CodeQuery;

/// How many are kept: more queries than this at once allocate.
const KEPT_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) query: CodeQuery,
    pub(super) probes: Vec<Probe>,
    pub(super) least: Least,
}

#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Scratch>>);

impl Pool {
    pub(super) fn take(&self) -> Scratch {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, scratch: Scratch) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(scratch);
        }
    }
}
