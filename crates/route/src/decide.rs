//! Who answers: a pure function of the time, the request and the fleet.
//!
//! In this order: the chain of routes (the model's own, then its fallbacks); for each target of a route the hard limits
//! (residency first, then whether it was tried, is up and has room); of the groups with somebody left, one by weight;
//! in the group the target by prefix, by score or by weight. Every target that was looked at is in the decision, with
//! what spoke against it or for it.

mod explain;
mod pick;

pub(crate) use pick::mixed;

use std::sync::Arc;

use base::Kind;
use chat::Caller;

use crate::{Bound, Policy, PoolState, Residency, Route};

/// Routes in a chain of fallbacks.
pub const CHAIN_MAX: usize = 8;

/// What a decision needs to know of a request.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The name that it uses.
    pub model: &'a str,
    /// The settings of residency that hold for it.
    pub bounds: &'a [Arc<Bound>],
    /// All settings: a fallback, or a model that a route calls by another name, is held to its own as well.
    pub residency: &'a Residency,
    /// A digest of how its prompt begins, by which prompts that begin alike stay together.
    pub prefix: u64,
    /// Chance.
    pub draw: u64,
    /// About how long its prompt is.
    pub prompt_tokens: u32,
    /// About how long its answer will be.
    pub output_tokens: u32,
    /// Bytes that have to reach a pool before it can answer.
    pub bytes: u64,
    /// Pools and their models that were tried for it already.
    pub tried: &'a [(usize, String)],
}

/// What somebody wants to know: who would answer a request like this.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question<'a> {
    /// The name that it uses.
    pub model: &'a str,
    /// On whose behalf.
    pub caller: Option<&'a Caller>,
    /// The vector bucket whose content is worked on.
    pub bucket: Option<&'a str>,
    /// Bytes that have to reach a pool.
    pub bytes: u64,
}

/// The pools as they are now.
#[derive(Debug, Clone, Copy)]
pub struct Fleet<'a> {
    /// Who may answer what.
    pub policy: &'a Policy,
    /// By the index of the pool.
    pub states: &'a [PoolState],
}

/// What speaks against a target.
#[derive(Debug, Clone, PartialEq)]
pub enum Against {
    /// It is outside of where the request may go; a sentence for each setting.
    Scope(Vec<String>),
    /// It was tried for this request.
    Tried,
    /// It has no share.
    NoWeight,
    /// Its breaker is open until then.
    BreakerOpen {
        /// `None`: one request is trying it.
        until_ms: Option<u64>,
    },
    /// Its checks fail.
    Unhealthy {
        /// Why the last one did.
        why: String,
    },
    /// It said that it is busy until then.
    Busy {
        /// Milliseconds since the Unix epoch.
        until_ms: u64,
    },
    /// It has as many requests as it may have.
    Full {
        /// So many.
        running: u32,
    },
}

/// How good a target is; each figure is a part of the worst one's, so smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Marks {
    /// Of the cost.
    pub cost: f64,
    /// Of the time to the first byte.
    pub latency: f64,
    /// Of what it lacks in quality.
    pub quality: f64,
    /// Of the carbon dioxide.
    pub carbon: f64,
    /// All of it, weighed.
    pub sum: f64,
}

/// A target that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The route it stands in.
    pub route: String,
    /// The group it stands in.
    pub group: usize,
    /// Which pool.
    pub pool: usize,
    /// The model's name there.
    pub model: String,
    /// What speaks against it, or how good it is.
    pub outcome: Result<Marks, Against>,
}

/// By what the target was picked within its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// It was the only one.
    Alone,
    /// Prompts that begin like this one go there.
    Prefix,
    /// It has the best score.
    Score,
    /// By weight, so that all targets are heard of.
    Exploring,
    /// By weight.
    Weight,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Which pool.
    pub pool: usize,
    /// The model's name there.
    pub model: String,
    /// The route whose group it is; differs from what was asked for after a fallback.
    pub route: String,
    /// The group.
    pub group: usize,
    /// By what it was picked.
    pub by: By,
}

/// A decision and its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Of the policy.
    pub version: u64,
    /// What was asked for.
    pub asked: String,
    /// Who answers; `None`: nobody can or may.
    pub choice: Option<Choice>,
    /// Everybody that was looked at, in order. Routes behind the one that answers were not.
    pub verdicts: Vec<Verdict>,
    /// The settings of residency that held.
    pub bounds: Vec<Arc<Bound>>,
    /// Bytes that have to reach a pool.
    pub bytes: u64,
}

/// Decides who answers.
#[must_use]
pub fn decide(now_ms: u64, ask: &Ask<'_>, fleet: Fleet<'_>) -> Decision {
    let mut decision = Decision {
        version: fleet.policy.version,
        asked: ask.model.to_owned(),
        choice: None,
        verdicts: Vec::new(),
        bounds: ask.bounds.to_vec(),
        bytes: ask.bytes,
    };
    for route in chain(fleet.policy, ask.model) {
        let first = decision.verdicts.len();
        for (group, members) in route.groups.iter().enumerate() {
            for target in &members.targets {
                let outcome = match against(now_ms, ask, fleet, (&route.model, members.weight), target) {
                    Some(why) => Err(why),
                    None => Ok(Marks::default()),
                };
                let (model, route) = (target.model.clone(), route.model.clone());
                decision.verdicts.push(Verdict { route, group, pool: target.pool, model, outcome });
            }
        }
        decision.choice = pick::pick(ask, fleet, route, &mut decision.verdicts[first..]);
        if decision.choice.is_some() {
            break;
        }
    }
    decision
}

/// The route of a name and its fallbacks, each once.
fn chain<'a>(policy: &'a Policy, model: &str) -> Vec<&'a Route> {
    let mut found: Vec<&Route> = policy.route(model).into_iter().collect();
    let mut next = 0;
    while let Some(route) = found.get(next).copied() {
        next += 1;
        for name in &route.fallback {
            let new = policy.route(name).filter(|route| !found.iter().any(|known| known.model == route.model));
            if found.len() < CHAIN_MAX {
                found.extend(new);
            }
        }
    }
    found
}

/// What speaks against a target of a route, in a group of this weight.
fn against(
    now_ms: u64,
    ask: &Ask<'_>,
    fleet: Fleet<'_>,
    (route, group_weight): (&str, u32),
    target: &crate::Target,
) -> Option<Against> {
    let (pool, state) = (&fleet.policy.pools[target.pool], &fleet.states[target.pool]);
    let of_models = [route, target.model.as_str()].into_iter().flat_map(|model| ask.residency.of_model(model));
    let bounds = ask.bounds.iter().chain(of_models);
    let mut outside: Vec<String> = bounds.filter_map(|bound| bound.admits(&pool.place).err()).collect();
    outside.sort_unstable();
    outside.dedup();
    if !outside.is_empty() {
        return Some(Against::Scope(outside));
    }
    if ask.tried.iter().any(|(tried, model)| *tried == target.pool && *model == target.model) {
        return Some(Against::Tried);
    }
    if group_weight == 0 || target.weight == 0 {
        return Some(Against::NoWeight);
    }
    if !state.is_healthy() {
        return Some(Against::Unhealthy { why: state.complaint.clone().unwrap_or_default() });
    }
    if !state.breaker.admits(now_ms) {
        let until_ms = match state.breaker.state() {
            crate::BreakerState::Open { until_ms } => Some(until_ms),
            crate::BreakerState::Trial { .. } | crate::BreakerState::Closed => None,
        };
        return Some(Against::BreakerOpen { until_ms });
    }
    if now_ms < state.busy_until_ms {
        return Some(Against::Busy { until_ms: state.busy_until_ms });
    }
    (state.running >= pool.running_max).then_some(Against::Full { running: state.running })
}

impl Decision {
    /// Why nobody answers: what the caller can do about it, and the reason in words.
    #[must_use]
    pub fn refusal(&self) -> (Kind, String) {
        let reasons = || self.verdicts.iter().filter_map(|verdict| verdict.outcome.as_ref().err());
        let mut scopes: Vec<&str> = Vec::new();
        for against in reasons() {
            let Against::Scope(words) = against else { continue };
            scopes.extend(words.iter().map(String::as_str));
        }
        scopes.sort_unstable();
        scopes.dedup();
        let all_outside = !scopes.is_empty() && reasons().all(|against| matches!(against, Against::Scope(_)));
        if all_outside {
            return (Kind::Forbidden, scopes.join("; "));
        }
        let full = reasons().any(|against| matches!(against, Against::Full { .. } | Against::Busy { .. }));
        let kind = if full { Kind::Exhausted } else { Kind::Unavailable };
        let words: Vec<String> = self
            .verdicts
            .iter()
            .filter_map(|verdict| match &verdict.outcome {
                Err(Against::Scope(_)) | Ok(_) => None,
                Err(against) => Some(explain::words(against)),
            })
            .collect();
        let outside = if scopes.is_empty() { String::new() } else { format!("; outside: {}", scopes.join("; ")) };
        match words.is_empty() {
            true => (kind, format!("no pool serves it{outside}")),
            false => (kind, format!("{}{outside}", words.join("; "))),
        }
    }
}
