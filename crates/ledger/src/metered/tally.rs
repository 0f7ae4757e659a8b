//! What is too small and too often to be booked one by one: vectors that are written, read and kept.
//!
//! It is counted in memory by project, key and bucket, and booked every second ([`Tally::book`]) as one record for
//! each. A project that cannot pay for what it did is refused from then on, until it can ([`Tally::check`]): so at
//! most a second of work is done on credit. A process that is killed forgets what it has not booked, which is at most
//! a second as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::Kind;
use chat::Caller;

use super::Meter;
use crate::price::{Direction, Quantities};
use crate::usage::{Activity, Ended, Outcome, Spent, Subject};
use crate::{Error, Result, Wanted};

/// Lines that wait to be booked; beyond, whoever would add one is told to come again.
const LINES_MAX: usize = 65_536;
/// What is kept is counted by the hour.
const HOUR_MS: u64 = 3_600_000;

/// Counts of a process.
pub struct Tally {
    meter: Arc<Meter>,
    state: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    lines: HashMap<Line, u64>,
    /// With the name of their reservation, which they keep until they are booked: told twice, they count once.
    waiting: Vec<(String, Line, u64)>,
    /// Projects that cannot pay, with the reason.
    refused: HashMap<Arc<str>, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    project: Arc<str>,
    key: Arc<str>,
    bucket: String,
    activity: Activity,
}

impl Tally {
    /// Counts that are booked in the meter's ledger.
    #[must_use]
    pub fn new(meter: Arc<Meter>) -> Self {
        Self { meter, state: Mutex::default() }
    }

    /// Refuses a project that cannot pay for what it has done.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn check(&self, caller: Option<&Caller>) -> std::result::Result<(), String> {
        let Some(caller) = self.meter.payer(caller) else { return Ok(()) };
        let counted = self.counted();
        match counted.refused.get(&caller.project) {
            Some(reason) => Err(reason.clone()),
            None if counted.lines.len() + counted.waiting.len() >= LINES_MAX => {
                Err(format!("{LINES_MAX} sums wait to be booked: come again in a second"))
            }
            None => Ok(()),
        }
    }

    /// Counts so many vectors of a bucket.
    pub fn add(&self, caller: Option<&Caller>, bucket: &str, activity: Activity, vectors: u64) {
        let Some(Caller { project, key, .. }) = self.meter.payer(caller) else { return };
        if vectors > 0 {
            let line = Line { project, key, bucket: bucket.to_owned(), activity };
            let mut counted = self.counted();
            let units = counted.lines.entry(line).or_default();
            *units = units.saturating_add(vectors);
        }
    }

    /// Counts what a bucket keeps in this hour; however often and by whomever it is told, it counts once an hour.
    pub fn keep(&self, caller: Option<&Caller>, bucket: &str, bytes: u64) {
        let Some(Caller { project, key, .. }) = self.meter.payer(caller) else { return };
        let hour = self.meter.ledger().clock().now_ms() / HOUR_MS;
        let line = Line { project, key, bucket: bucket.to_owned(), activity: Activity::VectorKeep };
        let mut counted = self.counted();
        if bytes > 0 && counted.waiting.len() < LINES_MAX {
            counted.waiting.push((format!("kept_{hour}_{bucket}"), line, bytes));
        }
    }

    /// Books what was counted. What cannot be booked now is tried again with the next call.
    pub async fn book(&self) {
        let waiting = {
            let mut counted = self.counted();
            let mut waiting = std::mem::take(&mut counted.waiting);
            waiting.extend(counted.lines.drain().map(|(line, units)| (self.meter.new_id(), line, units)));
            waiting
        };
        let (mut left, mut refused) = (Vec::new(), HashMap::new());
        for (id, line, units) in waiting {
            let Err(error) = self.book_one(&id, &line, units).await else { continue };
            match error.kind() {
                // The books say no: the project has to do something about it.
                Kind::Exhausted | Kind::Forbidden => {
                    refused.insert(Arc::clone(&line.project), error.to_string());
                }
                Kind::Unavailable => tracing::warn!(%error, "vectors cannot be booked yet"),
                _ => {
                    tracing::error!(%error, bucket = line.bucket, units, "vectors cannot be booked");
                    continue;
                }
            }
            left.push((id, line, units));
        }
        let mut counted = self.counted();
        counted.waiting.extend(left);
        counted.refused = refused;
    }

    async fn book_one(&self, id: &str, line: &Line, units: u64) -> Result<()> {
        let Line { project, key, bucket, activity } = line;
        let direction = match activity {
            Activity::VectorWrite => Direction::VectorWrite,
            Activity::VectorKeep => Direction::VectorByteHour,
            _ => Direction::VectorRead,
        };
        let quantities = Quantities::of(direction, units);
        let subject = Subject {
            model: bucket.clone(),
            region: self.meter.options.region.clone(),
            activity: *activity,
            is_batch: false,
            trace: id.to_owned(),
            prices: self.meter.prices.version().to_owned(),
        };
        let cost_micro = match self.meter.price(bucket)?.cost(&quantities, subject.tariff()) {
            // A list that says nothing of vectors counts them, and stops nobody.
            Err(Error::NoPrice { .. }) if !self.meter.options.is_price_required => 0,
            priced => priced?,
        };
        let spent = Spent { quantities, cost_micro };
        let ledger = self.meter.ledger();
        let (project, key) = (project.to_string(), key.to_string());
        // It is done already: whatever happens to this process now, it is charged.
        ledger.reserve(Wanted { id: id.to_owned(), project, key, subject, most: spent, noted: spent }).await?;
        match ledger.settle(id, Ended { spent, outcome: Outcome::Finished, latency_ms: 0 }).await {
            // Another process counted the same hour.
            Ok(_) | Err(Error::State { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        // Sums are whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
