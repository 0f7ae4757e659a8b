//! What single failures do to a serving plan.
//!
//! The traffic of a plan is simulated on the fabric, once as it is and once for each switch that may fail; how much
//! longer the communication takes lengthens the steps. A lost host takes its replicas with it.

use super::{Cluster, ServePlan, ServeRequest};
use crate::error::Result;
use crate::failure::{Component, every_switch, sweep};
use crate::model::Model;
use crate::route::{Demand, Policy, Wire};
use crate::topology::{NodeKind, Topology};
use crate::traffic::{all_to_all, ports};

/// The most GPUs whose traffic is simulated; larger clusters repeat themselves.
const SIMULATED_MAX: u32 = 2_048;

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What fails, in words.
    pub what: String,
    /// How many such components there are.
    pub count: u32,
    /// The slowdown of the communication; infinite if somebody is cut off.
    pub slowdown: f64,
    /// Replicas that feel it.
    pub replicas_hit: u32,
    /// Tokens a second that remain.
    pub tokens_per_s: f64,
}

/// The table, the worst first.
#[derive(Debug, Clone, PartialEq)]
pub struct Failures {
    /// Rows, the worst first; empty if the plan does not fit.
    pub rows: Vec<Failure>,
    /// What the rows assume.
    pub notes: Vec<String>,
}

/// Every switch, port and host of `topology` failed alone under the plan's traffic.
///
/// # Errors
/// If the fabric cannot carry the traffic even when healthy.
pub fn failures(
    model: &Model,
    cluster: &Cluster,
    request: &ServeRequest,
    plan: &ServePlan,
    topology: &Topology,
) -> Result<Failures> {
    let mut table = Failures { rows: Vec::new(), notes: Vec::new() };
    let Some(decode) = &plan.decode else { return Ok(table) };
    let replicas = plan.replicas.max(1);
    let replica_tokens = plan.tokens_per_s / f64::from(replicas);
    let per_host = cluster.gpus_per_host;
    let lost_with_host = (per_host / decode.gpus.max(1)).max(1).min(replicas);
    let spanned = decode.gpus.div_ceil(per_host);
    table.rows.push(Failure {
        what: format!("host (its {per_host} GPUs)"),
        count: cluster.hosts,
        slowdown: f64::INFINITY,
        replicas_hit: lost_with_host,
        tokens_per_s: plan.tokens_per_s - f64::from(lost_with_host) * replica_tokens,
    });
    if spanned > 1 {
        table.notes.push(format!("a replica spans {spanned} hosts: one lost host stops all of it"));
    }
    let (demands, job) = traffic(model, request, plan, topology)?;
    if demands.is_empty() {
        table.notes.push("no traffic between hosts: the network's failures do not slow the answers".to_owned());
        return Ok(table);
    }
    let mut components = every_switch(topology);
    components.push(Component::Port { endpoint: demands[0].from, port: 0 });
    let (_, impacts) = sweep(topology, &demands, &job, Policy::Planned, &Wire::ROCE, &components)?;
    let network_s = if group_of(plan) > per_host { decode.expert_s } else { 0.0 } + decode.hand_over_s;
    let others_s = decode.token_s - network_s;
    for (kind, word) in [
        (Some(NodeKind::Tor), "ToR"),
        (Some(NodeKind::Aggregation), "aggregation switch"),
        (Some(NodeKind::Core), "core switch"),
        (None, "port of a card or its cable"),
    ] {
        let of_kind = impacts.iter().filter(|impact| match impact.component {
            Component::Switch(node) => Some(topology.kind(node)) == kind,
            Component::Port { .. } | Component::Cable(_) | Component::Plane(_) => kind.is_none(),
        });
        let count = if let Some(kind) = kind {
            topology.nodes_of_kind(kind).count() as u32
        } else {
            cluster.gpus() * u32::from(ports(topology))
        };
        if let Some(worst) = of_kind.max_by(|a, b| a.slowdown.total_cmp(&b.slowdown)) {
            let step_s = others_s + network_s * worst.slowdown;
            let left = if worst.slowdown.is_finite() { decode.token_s / step_s } else { 0.0 };
            let hit = worst.jobs_hit.min(replicas);
            table.rows.push(Failure {
                what: word.to_owned(),
                count,
                slowdown: worst.slowdown,
                replicas_hit: hit,
                tokens_per_s: plan.tokens_per_s - f64::from(hit) * replica_tokens * (1.0 - left),
            });
        }
    }
    table.rows.sort_by(|a, b| a.tokens_per_s.total_cmp(&b.tokens_per_s));
    Ok(table)
}

/// GPUs that share experts.
fn group_of(plan: &ServePlan) -> u32 {
    plan.decode.as_ref().map_or(1, |decode| decode.tensor * decode.attention_replicas)
}

/// What the replicas send between hosts in a step: tokens to experts of one layer and hand-overs between stages; where
/// there are none, caches from prefill to decode.
fn traffic(
    model: &Model,
    request: &ServeRequest,
    plan: &ServePlan,
    topology: &Topology,
) -> Result<(Vec<Demand>, Vec<u32>)> {
    let (mut demands, mut job) = (Vec::new(), Vec::new());
    let Some(decode) = &plan.decode else { return Ok((demands, job)) };
    let gpus = topology.endpoint_count().min(SIMULATED_MAX);
    let group = group_of(plan);
    let replicas = (gpus / decode.gpus.max(1)).min(plan.replicas);
    let per_host = topology.endpoints_per_host();
    let ports = ports(topology);
    let activation = f64::from(decode.batch) * model.hidden as f64 * 2.0;
    for replica in 0..replicas {
        let first = replica * decode.gpus;
        if let Some(experts) = model.experts.filter(|_| decode.attention_replicas > 1 && group > per_host) {
            let bytes = activation * experts.per_token as f64 / f64::from(decode.tensor) / f64::from(group);
            for stage in 0..decode.pipeline {
                let ranks: Vec<u32> = (first + stage * group..first + (stage + 1) * group).collect();
                demands.extend(all_to_all(topology, &[ranks], bytes)?);
            }
        }
        for rank in 0..if decode.pipeline > 1 { decode.gpus } else { 0 } {
            let (from, to) = (first + rank, first + (rank + group) % decode.gpus);
            if from / per_host != to / per_host {
                let demand = Demand::new(from, to, activation / f64::from(decode.tensor) / f64::from(ports));
                demands.extend((0..ports).map(|port| demand.on_port(port)));
            }
        }
        job.resize(demands.len(), replica);
    }
    if !demands.is_empty() {
        return Ok((demands, job));
    }
    let cache = model.kv_bytes_per_token(request.kv_bytes) * request.prompt_tokens;
    let share = cache / f64::from(decode.tensor * decode.pipeline) / f64::from(ports);
    for reader in 0..plan.split.0.min(replicas) {
        let writer = plan.split.0 + reader % plan.split.1.max(1);
        for rank in 0..decode.gpus {
            let (from, to) = (reader * decode.gpus + rank, writer * decode.gpus + rank);
            if to < gpus && from / per_host != to / per_host {
                demands.extend((0..ports).map(|port| Demand::new(from, to, share).on_port(port)));
                job.extend((0..ports).map(|_| reader));
            }
        }
    }
    Ok((demands, job))
}
