//! Flow level against packet level (`packet_htsim.json`).
//!
//! The transport decides the policy: spraying and switch-adaptive routing are even sharing over all shortest paths, a
//! hashed path is one path. A flow model cannot know which flows meet on a hash, only how often: such cases are
//! compared as averages over seeds of our own.

use base::Rng;
use serde::Deserialize;
use serde_json::Value;

use super::{Line, Report, typed};
use crate::error::{Error, Result, at_most};
use crate::flow::Options;
use crate::route::{Demand, Policy, Wire, route, steps};
use crate::topology::{FatTree, LeafSpine, Topology};

/// Our own draws for a case that is compared as a distribution, as the file asks.
const SEEDS: u64 = 20;
/// The most pairs that one case may have.
const DEMANDS_MAX: u64 = 4_000_000;

#[derive(Deserialize)]
struct File {
    what: String,
    #[serde(default)]
    topology_note: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    topology: Fabric,
    traffic: Traffic,
    transport: String,
    gate: String,
    tolerance: String,
    avg_mean_us: f64,
    avg_max_us: f64,
    #[serde(default)]
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    #[serde(default)]
    finish_us: Vec<f64>,
}

#[derive(Deserialize)]
struct Fabric {
    kind: String,
    hosts: Option<u32>,
    k: Option<u32>,
    tor_down: Option<u32>,
    tors: Option<u32>,
    spines: Option<u32>,
    link_gbps: f64,
    link_latency_ns: u32,
    oversub: Option<u32>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Traffic {
    Permutation { bytes: f64, dst_of_host: Vec<u32> },
    Shift { bytes: f64, shift: u32 },
    Incast { bytes: f64, src: Vec<u32>, dst: u32 },
    AllToAll { bytes: f64, members: Vec<u32> },
    RingAllReduce { groups: Vec<Vec<u32>>, message_bytes: f64 },
}

/// Mean and greatest finish of a run, µs.
#[derive(Debug, Clone, Copy, Default)]
struct Finish {
    mean_us: f64,
    max_us: f64,
}

pub(super) fn check(value: Value) -> Result<Report> {
    let file: File = typed("packet-level cases", value)?;
    let mut report = Report { what: file.what, ..Report::default() };
    if !file.topology_note.is_empty() {
        report.notes.push(file.topology_note);
    }
    for case in &file.cases {
        let topology = case.topology.build(&case.name)?;
        let hashed = case.transport.contains("single_path") || case.transport.contains("ecmp");
        let found = if hashed {
            let mut rng = Rng::seeded(7);
            let mut sum = Finish::default();
            for _ in 0..SEEDS {
                let one = run(&topology, &case.traffic, Policy::Hashed { seed: rng.next_u64() })?;
                sum.mean_us += one.mean_us / SEEDS as f64;
                sum.max_us += one.max_us / SEEDS as f64;
            }
            sum
        } else {
            run(&topology, &case.traffic, Policy::Sprayed)?
        };
        let expected = Finish { mean_us: case.avg_mean_us, max_us: case.avg_max_us };
        compare(&mut report, case, found, expected);
    }
    Ok(report)
}

fn compare(report: &mut Report, case: &Case, found: Finish, expected: Finish) {
    let informational = case.gate == "informational";
    let tolerance = |word: &str| if informational { None } else { tolerance_of(&case.tolerance, word) };
    let [mean, max] = ["mean", "max"].map(tolerance);
    let mean_line = Line::relative(&case.name, "mean finish, us", found.mean_us, expected.mean_us, mean);
    let max_line = Line::relative(&case.name, "last finish, us", found.max_us, expected.max_us, max);
    report.lines.extend([mean_line, max_line]);
    if informational {
        report.notes.push(format!("{}: {}", case.name, case.tolerance));
        let finish = case.runs.first().map_or(&[][..], |run| &run.finish_us[..]);
        if let (Some(first), Some(last)) = (finish.first(), finish.last()) {
            let spread = format!("packets finish between {first} and {last} us where we say {:.1}", found.max_us);
            report.notes.push(format!("{}: {spread}", case.name));
        }
    }
}

/// From `mean ±8 %, max (= completion) ±15 %` the share after the word.
fn tolerance_of(text: &str, word: &str) -> Option<f64> {
    let rest = &text[text.find(word)?..];
    let rest = &rest[rest.find('±')? + '±'.len_utf8()..];
    let number = rest.split_whitespace().next()?.trim_end_matches('%');
    number.parse::<f64>().ok().map(|percent| percent / 100.0)
}

impl Fabric {
    fn build(&self, name: &str) -> Result<Topology> {
        let Self { link_gbps, link_latency_ns, .. } = *self;
        let missing = |field: &str| Error::invalid("packet-level case", format!("{name} has no {field}"));
        match self.kind.as_str() {
            "leaf_spine" => {
                let tors = self.tors.ok_or_else(|| missing("tors"))?;
                let down = self.tor_down.ok_or_else(|| missing("tor_down"))?;
                let spines = self.spines.ok_or_else(|| missing("spines"))?;
                LeafSpine { tors, down, spines, link_gbps, link_latency_ns }.build(name)
            }
            "fat_tree_3tier" => {
                // The smallest tree that holds the hosts, where the file names no k.
                let fits = |k: &u32| self.hosts.is_some_and(|hosts| u64::from(*k).pow(3) / 4 >= u64::from(hosts));
                let k = self.k.or_else(|| (2..=128).map(|half| 2 * half).find(fits)).unwrap_or(16);
                let oversubscription = self.oversub.unwrap_or(1);
                FatTree { k, tiers: 3, oversubscription, link_gbps, link_latency_ns }.build(name)
            }
            other => Err(Error::Unknown {
                what: "kind of fabric",
                name: other.to_owned(),
                known: "leaf_spine, fat_tree_3tier".to_owned(),
            }),
        }
    }
}

fn run(topology: &Topology, traffic: &Traffic, policy: Policy) -> Result<Finish> {
    let hosts = topology.endpoint_count();
    let demands: Vec<Demand> = match traffic {
        Traffic::Permutation { bytes, dst_of_host } => {
            let pairs = (0..).zip(dst_of_host).filter(|(from, to)| from != *to);
            pairs.map(|(from, &to)| Demand::new(from, to, *bytes)).collect()
        }
        Traffic::Shift { bytes, shift } => {
            (0..hosts).map(|from| Demand::new(from, (from + shift) % hosts, *bytes)).collect()
        }
        Traffic::Incast { bytes, src, dst } => src.iter().map(|&from| Demand::new(from, *dst, *bytes)).collect(),
        Traffic::AllToAll { bytes, members } => {
            at_most("pairs of an all-to-all", (members.len() as u64).pow(2), DEMANDS_MAX)?;
            let pairs = members.iter().flat_map(|&from| members.iter().map(move |&to| (from, to)));
            pairs.filter(|(from, to)| from != to).map(|(from, to)| Demand::new(from, to, *bytes)).collect()
        }
        Traffic::RingAllReduce { groups, message_bytes } => {
            let rings: Vec<steps::Ring<'_>> = groups
                .iter()
                .map(|ranks| steps::Ring { ranks, message_bytes: *message_bytes / ranks.len().max(1) as f64 })
                .collect();
            return Ok(summary(&steps::ring_all_reduce(topology, &rings, policy, &Wire::ROCE)?));
        }
    };
    let routed = route(topology, &[], &demands, policy, &Wire::ROCE)?;
    let outcome = routed.simulate(topology.capacities(), &Wire::ROCE, &Options::default())?;
    Ok(summary(&outcome.finish_s))
}

fn summary(finish_s: &[f64]) -> Finish {
    let count = finish_s.len().max(1) as f64;
    Finish {
        mean_us: 1e6 * finish_s.iter().sum::<f64>() / count,
        max_us: 1e6 * finish_s.iter().copied().fold(0.0, f64::max),
    }
}
