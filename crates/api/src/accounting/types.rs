//! Bodies and queries.

use ledger::programme::Company;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageQuery {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) by: Option<String>,
    pub(super) project: Option<String>,
    pub(super) key: Option<String>,
    pub(super) model: Option<String>,
    pub(super) format: Option<String>,
    pub(super) limit: Option<i64>,
    /// With `after`: the `at_ms` and `id` of the last record that was seen.
    pub(super) after_ms: Option<i64>,
    pub(super) after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountsQuery {
    pub(super) project: Option<String>,
}

/// What a person books.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kindred {
    Deposit,
    Refund,
    CreditLine,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Booking {
    /// The transaction's name: the same again changes nothing.
    pub(super) name: String,
    pub(super) kind: Kindred,
    pub(super) project: String,
    /// For a credit line: absent means that any amount may be owed.
    pub(super) dollars: Option<String>,
    pub(super) memo: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BudgetBody {
    pub(super) scope: String,
    pub(super) period: String,
    /// Absent: no limit any more.
    pub(super) dollars: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvoiceQuery {
    /// `html` or `pdf`.
    pub(super) format: Option<String>,
}

/// A limit that is set; without an amount it is lifted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitBody {
    pub(super) holder: String,
    pub(super) measure: String,
    pub(super) amount: Option<u64>,
    pub(super) burst: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplyBody {
    pub(super) programme: String,
    /// Where there are accounts it is the key's own.
    pub(super) project: Option<String>,
    pub(super) company: Company,
    pub(super) tokens: i64,
    pub(super) dollars: String,
    #[serde(default)]
    pub(super) note: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantBody {
    pub(super) tokens: i64,
    pub(super) dollars: String,
    #[serde(default)]
    pub(super) reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    pub(super) reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseBody {
    pub(super) tranche: i64,
    pub(super) evidence: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DefineBody {
    /// The programme as TOML.
    pub(super) definition: String,
}
