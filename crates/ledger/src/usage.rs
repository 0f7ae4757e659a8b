//! What was used: one record a request, summed up by hours. Never what was said.

mod columns;
mod export;
mod query;

use meta::Value;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::books::{Charge, Used};
use crate::calendar::HOUR_MS;
use crate::money::TOKENS_MAX;
use crate::price::{Direction, Quantities, Tariff};
use crate::{Error, rows::Kept};

pub use columns::{parquet_of_records, parquet_of_totals};
pub use export::{csv_of_records, csv_of_totals};
pub use query::{By, Filter, RECORDS_MAX, Record, Total, records, totals};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// An answer of a model.
    Generate,
    /// Embeddings.
    Embed,
    /// A ranking.
    Rerank,
    /// Vectors were written.
    VectorWrite,
    /// Vectors were asked for.
    VectorRead,
    /// Bytes of vectors were kept for an hour.
    VectorKeep,
}

impl Activity {
    /// Its name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Embed => "embed",
            Self::Rerank => "rerank",
            Self::VectorWrite => "vector_write",
            Self::VectorRead => "vector_read",
            Self::VectorKeep => "vector_keep",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// As a whole.
    Finished,
    /// With an error in the middle.
    Failed,
    /// Because nobody read on.
    Left,
    /// With the process that served it.
    Interrupted,
}

impl Outcome {
    /// Its name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Left => "left",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a request is for: what its usage record says of it before it has used anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The model, or the bucket.
    pub model: String,
    /// Where.
    pub region: String,
    /// What.
    pub activity: Activity,
    /// Half price.
    pub is_batch: bool,
    /// The request's name in logs and traces.
    pub trace: String,
    /// The version of the price list.
    pub prices: String,
}

impl Subject {
    /// How it is charged.
    #[must_use]
    pub fn tariff(&self) -> Tariff {
        if self.is_batch { Tariff::Batch } else { Tariff::Full }
    }
}

/// What a request used, and what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// How much of what.
    pub quantities: Quantities,
    /// Micro-dollars.
    pub cost_micro: i64,
}

/// As it is kept with a reservation.
#[derive(Serialize, Deserialize)]
struct Noted(Vec<(usize, u64)>, i64);

impl Spent {
    /// The same for the books.
    #[must_use]
    pub fn used(&self) -> Used {
        let tokens = i64::try_from(self.quantities.tokens()).unwrap_or(TOKENS_MAX).min(TOKENS_MAX);
        Used { tokens, cost_micro: self.cost_micro }
    }

    pub(crate) fn write(&self) -> String {
        let kept = Direction::ALL.into_iter().map(|direction| (direction as usize, self.quantities.get(direction)));
        let noted = Noted(kept.filter(|&(_, units)| units > 0).collect(), self.cost_micro);
        serde_json::to_string(&noted).expect("numbers become JSON")
    }

    pub(crate) fn read(text: &str) -> Result<Self> {
        let Noted(kept, cost_micro) = serde_json::from_str(text).map_err(|error| Error::row("a reservation", error))?;
        let mut quantities = Quantities::default();
        for (index, units) in kept {
            let direction = Direction::ALL.get(index).ok_or_else(|| Error::row("a reservation", "a direction"))?;
            quantities = quantities.with(*direction, units);
        }
        Ok(Self { quantities, cost_micro })
    }
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// What it used.
    pub spent: Spent,
    /// How it ended.
    pub outcome: Outcome,
    /// From the reservation to the end.
    pub latency_ms: u64,
}

/// A request's record as it is written.
pub(crate) struct Recorded {
    pub(crate) record: [Value; 19],
    pub(crate) hour: Hour,
    /// Requests, tokens in, cached and out, units, price: what it adds to its hour.
    pub(crate) sums: [i64; 6],
}

/// Whose hour it is, of what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hour {
    pub(crate) hour_ms: i64,
    pub(crate) project: String,
    pub(crate) key: String,
    pub(crate) model: String,
    pub(crate) region: String,
    pub(crate) activity: &'static str,
}

impl Recorded {
    pub(crate) fn new(kept: &Kept, ended: &Ended, charge: &Charge, now_ms: u64) -> Result<Self> {
        let subject: Subject =
            serde_json::from_str(&kept.subject).map_err(|error| Error::row("a reservation", error))?;
        let amounts = Amounts::of(&ended.spent.quantities);
        let project = kept.reservation.project.as_str();
        let record: [Value; 19] = [
            kept.reservation.id.as_str().into(),
            (now_ms as i64).into(),
            project.into(),
            kept.key.as_str().into(),
            subject.model.as_str().into(),
            subject.region.as_str().into(),
            subject.activity.name().into(),
            ended.outcome.name().into(),
            if subject.is_batch { "batch" } else { "full" }.into(),
            amounts.tokens_in.into(),
            amounts.tokens_cached.into(),
            amounts.tokens_out.into(),
            amounts.units.into(),
            charge.value_micro.into(),
            charge.paid_micro.into(),
            charge.paid_tokens.into(),
            i64::try_from(ended.latency_ms).unwrap_or(i64::MAX).into(),
            subject.trace.into(),
            subject.prices.into(),
        ];
        let hour = Hour {
            hour_ms: (now_ms / HOUR_MS * HOUR_MS) as i64,
            project: project.to_owned(),
            key: kept.key.clone(),
            model: subject.model,
            region: subject.region,
            activity: subject.activity.name(),
        };
        let Amounts { tokens_in, tokens_cached, tokens_out, units } = amounts;
        Ok(Self { record, hour, sums: [1, tokens_in, tokens_cached, tokens_out, units, charge.value_micro] })
    }
}

/// Quantities as records count them.
struct Amounts {
    /// Of a prompt, cached ones too, or embedded.
    tokens_in: i64,
    tokens_cached: i64,
    tokens_out: i64,
    /// Whatever is no token.
    units: i64,
}

impl Amounts {
    fn of(quantities: &Quantities) -> Self {
        let sum = |directions: &[Direction]| {
            let units = directions.iter().fold(0_u64, |sum, &direction| sum.saturating_add(quantities.get(direction)));
            i64::try_from(units).unwrap_or(i64::MAX)
        };
        Self {
            tokens_in: sum(&[Direction::Input, Direction::CachedInput, Direction::Embedding]),
            tokens_cached: sum(&[Direction::CachedInput]),
            tokens_out: sum(&[Direction::Output]),
            units: sum(&[
                Direction::Image,
                Direction::VideoSecond,
                Direction::VectorWrite,
                Direction::VectorRead,
                Direction::VectorByteHour,
                Direction::JobCoreSecond,
            ]),
        }
    }
}
