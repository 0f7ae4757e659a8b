//! The text's own shape. Unknown names are refused, so that a slip of the pen is no setting that is never read.

use serde::Deserialize;

use crate::{CARBON_G_PER_KWH_UNKNOWN, Form, Places, Server, TimeLimits};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    #[serde(default)]
    pub(super) version: u64,
    pub(super) home: Option<String>,
    #[serde(default)]
    pub(super) retry: RawRetry,
    #[serde(default)]
    pub(super) region: Vec<RawRegion>,
    #[serde(default)]
    pub(super) pool: Vec<RawPool>,
    #[serde(default)]
    pub(super) route: Vec<RawRoute>,
    #[serde(default)]
    pub(super) residency: Vec<RawResidency>,
    #[serde(default)]
    pub(super) link: Vec<RawLink>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLink {
    pub(super) between: [String; 2],
    pub(super) round_trip_ms: f64,
    pub(super) mbps: f64,
    #[serde(default)]
    pub(super) loss_percent: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetry {
    pub(super) tries_max: u32,
    pub(super) budget_percent: u32,
}

impl Default for RawRetry {
    fn default() -> Self {
        let retry = crate::Retry::default();
        Self { tries_max: retry.tries_max, budget_percent: retry.budget_percent }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRegion {
    pub(super) name: String,
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    pub(super) jurisdictions: Vec<String>,
    #[serde(default = "thousand")]
    pub(super) price_permille: u32,
    #[serde(default = "carbon")]
    pub(super) carbon_g_per_kwh: u32,
}

fn thousand() -> u32 {
    1_000
}

fn carbon() -> u32 {
    CARBON_G_PER_KWH_UNKNOWN
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPool {
    pub(super) name: String,
    pub(super) form: Option<Form>,
    #[serde(default)]
    pub(super) server: Server,
    pub(super) url: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) region: Option<String>,
    pub(super) keeps_data_in: Option<String>,
    pub(super) running_max: Option<u32>,
    #[serde(default)]
    pub(super) limits: RawLimits,
    #[serde(default)]
    pub(super) health: RawHealth,
    #[serde(default)]
    pub(super) model: Vec<RawModel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) connect_ms: u64,
    pub(super) first_byte_ms: u64,
    pub(super) between_ms: u64,
    pub(super) whole_ms: u64,
}

impl Default for RawLimits {
    fn default() -> Self {
        let TimeLimits { connect_ms, first_byte_ms, between_ms, whole_ms } = TimeLimits::default();
        Self { connect_ms, first_byte_ms, between_ms, whole_ms }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHealth {
    pub(super) path: Option<String>,
    pub(super) every_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) name: String,
    pub(super) upstream: Option<String>,
    #[serde(default)]
    pub(super) context_tokens: u32,
    pub(super) output_tokens_max: Option<u32>,
    #[serde(default)]
    pub(super) input_micro_per_million: u64,
    #[serde(default)]
    pub(super) output_micro_per_million: u64,
    #[serde(default = "half")]
    pub(super) quality: f64,
}

fn half() -> f64 {
    0.5
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    pub(super) model: String,
    #[serde(default)]
    pub(super) fallback: Vec<String>,
    #[serde(default)]
    pub(super) score: RawScore,
    #[serde(default = "yes")]
    pub(super) affinity: bool,
    pub(super) hedge_ms: Option<u64>,
    pub(super) group: Vec<RawGroup>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawScore {
    pub(super) cost: f64,
    pub(super) latency: f64,
    pub(super) quality: f64,
    pub(super) carbon: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGroup {
    pub(super) name: String,
    #[serde(default = "one")]
    pub(super) weight: u32,
    pub(super) targets: Vec<RawTarget>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTarget {
    pub(super) pool: String,
    pub(super) model: Option<String>,
    #[serde(default = "one")]
    pub(super) weight: u32,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawResidency {
    pub(super) organisation: Option<String>,
    pub(super) project: Option<String>,
    pub(super) key: Option<String>,
    pub(super) bucket: Option<String>,
    pub(super) model: Option<String>,
    pub(super) data_region: Option<Places>,
    pub(super) compute_scope: Option<Places>,
}
