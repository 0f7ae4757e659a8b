//! Budgets: what a project or a key may spend in a day or a month (UTC).
//!
//! A request counts in the period in which it was reserved, with what was reserved for it until it is settled.

use std::fmt;

use crate::calendar::{day_start, month_start};
use crate::money::dollars;
use crate::{Error, Result};

/// Whose spending is limited: `project:ID` or `key:ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(String);

impl Scope {
    /// A project's.
    #[must_use]
    pub fn project(id: &str) -> Self {
        Self(format!("project:{id}"))
    }

    /// A key's.
    #[must_use]
    pub fn key(id: &str) -> Self {
        Self(format!("key:{id}"))
    }

    /// Reads a name back.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("project" | "key", id)) if !id.is_empty() => Ok(Self(text.to_owned())),
            _ => {
                let allowed = "project:ID or key:ID".to_owned();
                Err(Error::Wrong { field: "scope", value: text.to_owned(), allowed })
            }
        }
    }

    /// The name as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// How long a budget lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// A day.
    Day,
    /// A month.
    Month,
}

impl Period {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The period of this name.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|period| period.name() == name).ok_or_else(|| Error::Wrong {
            field: "period",
            value: name.to_owned(),
            allowed: "day or month".to_owned(),
        })
    }

    /// When the period of this moment began.
    #[must_use]
    pub fn start(self, now_ms: u64) -> u64 {
        match self {
            Self::Day => day_start(now_ms),
            Self::Month => month_start(now_ms),
        }
    }
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Whose.
    pub scope: Scope,
    /// How long.
    pub period: Period,
    /// Micro-dollars.
    pub limit_micro: i64,
}

/// One day or month of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// Whose.
    pub scope: Scope,
    /// How long.
    pub period: Period,
    /// When it began.
    pub start_ms: u64,
}

impl Budget {
    /// The window of this moment.
    #[must_use]
    pub fn window(&self, now_ms: u64) -> Window {
        Window { scope: self.scope.clone(), period: self.period, start_ms: self.period.start(now_ms) }
    }

    /// Refuses what does not fit any more.
    pub(crate) fn check(&self, spent_micro: i64, asked_micro: i64) -> Result<()> {
        if spent_micro.saturating_add(asked_micro) <= self.limit_micro {
            return Ok(());
        }
        Err(Error::OverBudget {
            scope: self.scope.to_string(),
            period: match self.period {
                Period::Day => "daily",
                Period::Month => "monthly",
            },
            limit: format!("{} dollars", dollars(self.limit_micro)),
            spent: dollars(spent_micro),
            asked: dollars(asked_micro),
        })
    }
}
