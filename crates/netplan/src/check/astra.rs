//! Rings of the ASTRA-sim analytical backends (`astra_analytical.json`), in a mode that keeps their model.
//!
//! A message is cut into splits; `active-chunks` of them run at a time, so each step pays the latency of its waves,
//! and the bytes pass once. What is received is added to what is there: two reads and a write at the local memory's
//! rate. GB/s are 2^30 bytes a second there.

use serde::Deserialize;
use serde_json::Value;

use super::{Line, Report, typed};
use crate::error::{Error, Result};

/// 2^30, ASTRA-sim's giga.
const GIBI: f64 = 1_073_741_824.0;

#[derive(Deserialize)]
struct File {
    what: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    collective: String,
    bytes: f64,
    network: Network,
    system: System,
    time_ns: f64,
    gate: String,
}

#[derive(Deserialize)]
struct Network {
    topology: Vec<String>,
    npus_count: Vec<u32>,
    bandwidth: Vec<f64>,
    latency: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct System {
    endpoint_delay: f64,
    active_chunks_per_dimension: f64,
    preferred_dataset_splits: f64,
    local_mem_bw: f64,
}

pub(super) fn check(value: Value) -> Result<Report> {
    let file: File = typed("ASTRA-sim cases", value)?;
    let mut report = Report { what: file.what, ..Report::default() };
    for case in &file.cases {
        let found = time_ns(case)?;
        let tolerance = case.gate.trim_start_matches('±').trim_end_matches('%').trim().parse::<f64>().ok();
        let tolerance = tolerance.map(|percent| percent / 100.0);
        report.lines.push(Line::relative(&case.name, &case.collective, found / 1e3, case.time_ns / 1e3, tolerance));
    }
    report.notes.push("times are in us; a GB/s is 2^30 bytes a second, as in ASTRA-sim".to_owned());
    let shortcut = "several dimensions are added up here, where ASTRA-sim's LIFO queue lets chunks overlap";
    report.notes.push(shortcut.to_owned());
    Ok(report)
}

/// The sum over dimensions; what reaches the next dimension of an all-reduce is a share of it.
fn time_ns(case: &Case) -> Result<f64> {
    let Network { topology, npus_count, bandwidth, latency } = &case.network;
    let same = [npus_count.len(), bandwidth.len(), latency.len()].iter().all(|&count| count == topology.len());
    let system = &case.system;
    let positive =
        bandwidth.iter().chain([&system.active_chunks_per_dimension, &system.local_mem_bw]).all(|&n| n > 0.0);
    if !same || !positive || npus_count.contains(&0) {
        return Err(Error::invalid("ASTRA-sim case", format!("{}: dimensions or rates", case.name)));
    }
    let mut bytes = case.bytes;
    let mut sum_ns = 0.0;
    for (dimension, kind) in topology.iter().enumerate() {
        let ranks = f64::from(npus_count[dimension]);
        let hops = if kind == "Switch" { 2.0 } else { 1.0 };
        let rate = bandwidth[dimension] * GIBI / 1e9;
        let waves = (system.preferred_dataset_splits / system.active_chunks_per_dimension).ceil().max(1.0);
        let step_ns = waves * (hops * latency[dimension] + system.endpoint_delay);
        let others = ranks - 1.0;
        let add_ns = 3.0 * (bytes / ranks) / (system.local_mem_bw * GIBI / 1e9);
        sum_ns += match case.collective.as_str() {
            "all_reduce" => 2.0 * others * (step_ns + bytes / ranks / rate) + others * add_ns,
            "reduce_scatter" => others * (step_ns + bytes / ranks / rate + add_ns),
            "all_gather" => others * (step_ns + bytes / rate),
            // Everybody has a link to everybody when fully connected, and one for all on a ring or switch.
            "all_to_all" if kind == "FullyConnected" => step_ns + bytes / ranks / rate,
            "all_to_all" if kind == "Ring" => {
                // One direction: a byte travels half way round on average.
                let steps = others * ranks / 2.0;
                others * step_ns + steps * bytes / ranks / rate
            }
            "all_to_all" => step_ns + others * bytes / ranks / rate,
            other => {
                let known = "all_reduce, reduce_scatter, all_gather, all_to_all".to_owned();
                return Err(Error::Unknown { what: "collective", name: other.to_owned(), known });
            }
        };
        bytes /= ranks;
    }
    Ok(sum_ns)
}
