//! What a fabric consists of (`topology_counts.json`): every number exact.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Line, Report, typed};
use crate::error::{Error, Result};
use crate::topology::{Counts, NodeKind, Topology, preset};

#[derive(Deserialize)]
struct File {
    what: String,
    rows: Vec<Map<String, Value>>,
}

pub(super) fn check(value: Value) -> Result<Report> {
    let file: File = typed("topology counts", value)?;
    let mut report = Report { what: file.what, ..Report::default() };
    for row in &file.rows {
        let id = row.get("id").and_then(Value::as_str).unwrap_or("?").to_owned();
        let topology = fabric(&id)?;
        for (field, expected) in row.iter().filter(|(field, _)| *field != "id") {
            match (figures(&topology, field, expected), figure_of(expected)) {
                (Some(found), Some(expected)) => compare(&mut report, &id, field, &found, &expected),
                _ => report.notes.push(format!("{id}: {field} is not a figure that is counted here: {expected}")),
            }
        }
    }
    Ok(report)
}

fn compare(report: &mut Report, id: &str, field: &str, found: &[f64], expected: &[f64]) {
    // Published ratios are rounded to four digits.
    let tolerance = if field.contains("oversubscription") { 5e-5 } else { 0.0 };
    for (found, expected) in found.iter().zip(expected) {
        report.lines.push(Line::absolute(id, field, *found, *expected, tolerance));
    }
}

/// `hpn7_segment`, `fat_tree_k64_3tier`, `multi_plane_8x_2tier_k64`: a preset with its sizes in the name.
fn fabric(id: &str) -> Result<Topology> {
    use crate::topology::{FatTree, Hpn, MultiPlane};
    let after = |mark: &str| -> Option<u32> {
        let rest = &id[id.find(mark)? + mark.len()..];
        rest[..rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
    };
    let before = |mark: &str| -> Option<u32> {
        let rest = &id[..id.find(mark)?];
        rest[rest.rfind(|letter: char| !letter.is_ascii_digit()).map_or(0, |at| at + 1)..].parse().ok()
    };
    let hpn = |generation: &str| if generation == "hpn8" { Hpn::hpn8() } else { Hpn::hpn7() };
    if let Some((generation @ ("hpn7" | "hpn8"), part)) = id.split_once('_') {
        return match part {
            "segment" => hpn(generation).for_gpus(1_024).build(id),
            "pod" => hpn(generation).build(id),
            _ => Err(Error::invalid("topology counts", format!("{id:?}: a segment or a pod is known"))),
        };
    }
    let k = after("_k").unwrap_or(64);
    let link_latency_ns = 1_000;
    if id.starts_with("fat_tree") {
        let tiers = before("tier").unwrap_or(3);
        return FatTree { k, tiers, oversubscription: 1, link_gbps: 400.0, link_latency_ns }.build(id);
    }
    if id.starts_with("multi_plane") {
        let planes = before("x_").unwrap_or(8);
        return MultiPlane { planes, k, link_gbps: 400.0, scale_up_bytes_per_s: 360e9 }.build(id);
    }
    preset(&id.replace('_', "-"), None)
}

/// The number or, from `60 x 400G`, count and rate.
fn figure_of(value: &Value) -> Option<Vec<f64>> {
    if let Some(number) = value.as_f64() {
        return Some(vec![number]);
    }
    let mut words = value.as_str()?.split_whitespace();
    let count = words.next()?.parse().ok()?;
    let rate = words.nth(1)?.trim_end_matches('G').parse().ok()?;
    Some(vec![count, rate])
}

/// What the built network has, in the shape of `expected`.
fn figures(topology: &Topology, field: &str, expected: &Value) -> Option<Vec<f64>> {
    let counts: Counts = topology.counts();
    let tor = topology.nodes_of_kind(NodeKind::Tor).next();
    let aggregation = topology.nodes_of_kind(NodeKind::Aggregation).next();
    let segments = f64::from(counts.tors) / f64::from(rails(topology) * counts.planes);
    let per_host = f64::from(topology.endpoints_per_host());
    let one = |number: f64| Some(vec![number]);
    match field {
        "gpus_active" | "endpoints" => one(f64::from(counts.endpoints)),
        "gpus_backup" => one(f64::from(counts.spare_endpoints)),
        "hosts_active" => one(f64::from(counts.endpoints) / per_host),
        "hosts_backup" => one(f64::from(counts.spare_endpoints) / per_host),
        "segments" => one(segments),
        "planes" => one(f64::from(counts.planes)),
        "rails" => one(f64::from(rails(topology))),
        "tors" => one(f64::from(counts.tors)),
        "aggs" => one(f64::from(counts.aggregations)),
        "cores" => one(f64::from(counts.cores)),
        "switches" => one(f64::from(counts.switches)),
        "switch_links" => one(f64::from(counts.switch_cables)),
        "oversubscription" => one(counts.tor_oversubscription),
        "path_choices_per_flow" => one(f64::from(counts.tor_up_ports)),
        "tor_capacity_Tbps" => one(links_of(topology, tor?, |_| true).iter().sum::<f64>() / 1e3),
        "tor_down" => trunk(&links_of(topology, tor?, |kind| kind == NodeKind::Endpoint)),
        "tor_up" => trunk(&links_of(topology, tor?, |kind| kind == NodeKind::Aggregation)),
        "agg_down" => trunk(&links_of(topology, aggregation?, |kind| kind == NodeKind::Tor)),
        // A single pod is built without its core: the uplinks are a property of the published design.
        "agg_up" if expected.is_string() => {
            let hpn = crate::topology::Hpn::hpn7();
            Some(vec![f64::from(hpn.core_uplinks), hpn.uplink_gbps])
        }
        "agg_core_oversubscription" => {
            let down = links_of(topology, aggregation?, |kind| kind == NodeKind::Tor).len();
            one(down as f64 / f64::from(crate::topology::Hpn::hpn7().core_uplinks))
        }
        _ => None,
    }
}

fn rails(topology: &Topology) -> u32 {
    topology.nodes_of_kind(NodeKind::Tor).map(|tor| u32::from(topology.place(tor).rail) + 1).max().unwrap_or(1)
}

/// Rates in Gbps of the links from `switch` to nodes of some kind.
fn links_of(topology: &Topology, switch: u32, wanted: impl Fn(NodeKind) -> bool) -> Vec<f64> {
    let links = topology.links_of(switch).filter(|&link| wanted(topology.kind(topology.target(link))));
    links.map(|link| topology.capacities()[link as usize] * 8e-9).collect()
}

fn trunk(rates: &[f64]) -> Option<Vec<f64>> {
    Some(vec![rates.len() as f64, *rates.first()?])
}
