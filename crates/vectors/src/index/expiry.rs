//! Time to live: rows whose own metadata says when they end.
//!
//! A field holds seconds since 1970. A row is gone for every reader from that moment on, without anybody writing
//! anything; a compaction leaves it out of what it writes. Rows without the field, or with something else than a number
//! in it, stay. Processes read their own clocks: one that is ahead sees a row go sooner, and what it compacts is gone
//! for all.

use std::sync::{Arc, PoisonError};

use base::Clock;

use super::Index;
use crate::filter::number_f64;
use crate::metadata::{Scalar, Value};
use crate::state::View;
use crate::types::Row;

/// The field that says when a row ends, and the clock that says whether it has.
#[derive(Clone)]
pub(super) struct Expiry {
    field: Box<str>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Expiry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Expiry").field("field", &self.field).finish_non_exhaustive()
    }
}

impl Expiry {
    fn now_s(&self) -> f64 {
        self.clock.now_ms() as f64 / 1e3
    }

    /// Whether a row is over. Of several numbers the least counts.
    fn is_over(&self, row: &Row, now_s: f64) -> bool {
        let members = row.metadata.get(&self.field).map(Value::members).unwrap_or_default();
        members.iter().any(|member| matches!(member, Scalar::Number(number) if number_f64(number) <= now_s))
    }
}

impl Index {
    /// Says which metadata field holds the second, since 1970, at which a row ends; `None`: rows stay.
    pub fn set_time_to_live(&self, field: Option<&str>, clock: &Arc<dyn Clock>) {
        let mut own = self.expiry.lock().unwrap_or_else(PoisonError::into_inner);
        if own.as_ref().map(|expiry| expiry.field.as_ref()) != field {
            *own = field.map(|field| Expiry { field: field.into(), clock: Arc::clone(clock) });
        }
    }

    fn expiry(&self) -> Option<Expiry> {
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What readers see now.
    pub(super) fn view(&self) -> View {
        let view = self.state().view();
        self.without_expired(view)
    }

    /// The same without rows that are over.
    pub(super) fn without_expired(&self, mut view: View) -> View {
        let Some(expiry) = self.expiry() else { return view };
        let now_s = expiry.now_s();
        for live in &mut view.segments {
            if let Some(over) = live.segment.filter_index.rows_up_to(&expiry.field, now_s) {
                Arc::make_mut(&mut live.dead).or(&over);
            }
        }
        view.tail.bury(|row| expiry.is_over(row, now_s));
        view
    }

    /// The same rows without those that are over.
    pub(super) fn living(&self, mut rows: Vec<Arc<Row>>) -> Vec<Arc<Row>> {
        if let Some(expiry) = self.expiry() {
            let now_s = expiry.now_s();
            rows.retain(|row| !expiry.is_over(row, now_s));
        }
        rows
    }

    /// Whether a segment holds more rows that are dead or over than others, so that a compaction would rewrite it.
    #[must_use]
    pub fn wants_sweeping(&self) -> bool {
        self.expiry().is_some()
            && self.view().segments.iter().any(|live| live.rows() < live.segment.head.rows / super::LIVING_PER_ROWS)
    }
}
