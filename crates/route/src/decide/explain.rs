//! A decision as JSON, for people and the console.

use serde_json::{Value, json};

use super::{Against, By, Decision};
use crate::Policy;

impl Decision {
    /// Everything that led to it.
    #[must_use]
    pub fn explain(&self, policy: &Policy) -> Value {
        let group = |route: &str, index: usize| {
            let name = policy.route(route).and_then(|route| route.groups.get(index)).map(|group| group.name.as_str());
            name.unwrap_or_default().to_owned()
        };
        let targets = self.verdicts.iter().map(|verdict| {
            let mut wire = json!({
                "route": verdict.route, "group": group(&verdict.route, verdict.group),
                "pool": policy.pools[verdict.pool].name, "model": verdict.model,
            });
            match &verdict.outcome {
                Ok(marks) => {
                    wire["open"] = true.into();
                    wire["marks"] = json!({
                        "cost": marks.cost, "latency": marks.latency, "quality": marks.quality,
                        "carbon": marks.carbon, "sum": marks.sum,
                    });
                    let region = policy.pools[verdict.pool].place.computes.as_ref();
                    let reach = region.and_then(|there| policy.network.reach(policy.home.as_ref(), there, self.bytes));
                    wire["reach"] = json!(reach);
                }
                Err(against) => {
                    wire["open"] = false.into();
                    wire["against"] = against_json(against);
                }
            }
            wire
        });
        let choice = self.choice.as_ref().map(|choice| {
            json!({
                "pool": policy.pools[choice.pool].name, "model": choice.model, "route": choice.route,
                "group": group(&choice.route, choice.group), "by": by(choice.by),
                "fallback": choice.route != self.asked,
            })
        });
        let refusal = self.choice.is_none().then(|| {
            let (kind, words) = self.refusal();
            json!({"kind": format!("{kind:?}").to_lowercase(), "reason": words})
        });
        json!({
            "policy_version": self.version, "model": self.asked,
            "bytes": self.bytes, "choice": choice, "refusal": refusal,
            "bounds": self.bounds.iter().map(|bound| json!(**bound)).collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }
}

fn by(by: By) -> &'static str {
    match by {
        By::Alone => "only target left in its group",
        By::Prefix => "prompts that begin like this one go there",
        By::Score => "best score",
        By::Exploring => "by weight, to learn how it does",
        By::Weight => "by weight",
    }
}

fn against_json(against: &Against) -> Value {
    let name = match against {
        Against::Scope(sentences) => return json!({"what": "outside", "words": sentences}),
        Against::Tried => "tried",
        Against::NoWeight => "no_weight",
        Against::BreakerOpen { .. } => "breaker_open",
        Against::Unhealthy { .. } => "unhealthy",
        Against::Busy { .. } => "busy",
        Against::Full { .. } => "full",
    };
    json!({"what": name, "words": [words(against)]})
}

/// What speaks against a target, for people.
pub(super) fn words(against: &Against) -> String {
    match against {
        Against::Scope(sentences) => sentences.join("; "),
        Against::Tried => "it was tried".to_owned(),
        Against::NoWeight => "its weight is 0".to_owned(),
        Against::BreakerOpen { until_ms: Some(until_ms) } => {
            format!("it failed too often and is left alone until {until_ms} ms since 1970")
        }
        Against::BreakerOpen { until_ms: None } => "it failed too often and one request is trying it".to_owned(),
        Against::Unhealthy { why } => format!("its checks fail: {why}"),
        Against::Busy { until_ms } => format!("it is busy until {until_ms} ms since 1970"),
        Against::Full { running } => format!("{running} requests are running there"),
    }
}
