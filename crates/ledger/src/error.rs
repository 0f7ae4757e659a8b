//! What can go wrong with the books.

use base::Kind;

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why nothing was booked.
#[expect(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the credit of project {project} does not pay for this: {lacking} are lacking of {asked}")]
    Insufficient { project: String, asked: String, lacking: String },
    #[error("the {period} budget of {scope} is {limit}, {spent} are spent, {asked} were asked for")]
    OverBudget { scope: String, period: &'static str, limit: String, spent: String, asked: String },
    #[error("the model {model:?} has no price for {direction} in region {region:?}")]
    NoPrice { model: String, direction: &'static str, region: String },
    #[error("{field} is {value:?}, allowed: {allowed}")]
    Wrong { field: &'static str, value: String, allowed: String },
    #[error("{what} {name:?} does not exist")]
    Missing { what: &'static str, name: String },
    #[error("{what} {name:?} exists already")]
    Exists { what: &'static str, name: String },
    #[error("{what} {name:?} is {state} already")]
    State { what: &'static str, name: String, state: String },
    #[error("the account {account} would hold {balance}, which is below its limit {floor}")]
    BelowLimit { account: String, balance: i64, floor: i64 },
    #[error("{what} is more than the books can hold")]
    TooLarge { what: &'static str },
    #[error("the application does not meet the rules of {programme}: {}", reasons.join("; "))]
    NotEligible { programme: String, reasons: Vec<String> },
    #[error("the price list: {why}")]
    Prices { why: String },
    #[error("write usage as Parquet")]
    Export(#[from] parquet::errors::ParquetError),
    #[error("the row of {what} is not what it must be: {why}")]
    Row { what: &'static str, why: String },
    #[error(transparent)]
    Database(#[from] meta::Error),
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Insufficient { .. } | Self::OverBudget { .. } => Kind::Exhausted,
            Self::NoPrice { .. } => Kind::Forbidden,
            Self::Wrong { .. } | Self::TooLarge { .. } | Self::Prices { .. } => Kind::Invalid,
            Self::Missing { .. } => Kind::NotFound,
            Self::Exists { .. } | Self::State { .. } | Self::BelowLimit { .. } | Self::NotEligible { .. } => {
                Kind::Conflict
            }
            Self::Row { .. } => Kind::Corrupt,
            Self::Export(_) => Kind::Internal,
            Self::Database(source) => source.kind(),
        }
    }

    /// Whether nobody knows if it was booked: the same operation with the same name may be sent again.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Database(meta::Error::Interrupted { .. } | meta::Error::Gone))
    }

    pub(crate) fn row(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Row { what, why: why.to_string() }
    }
}

impl From<meta::DatabaseError> for Error {
    fn from(source: meta::DatabaseError) -> Self {
        Self::Database(source.into())
    }
}
