//! Max-min finish times on explicit links and paths (`maxmin_simgrid.json`).

use serde::Deserialize;
use serde_json::Value;

use super::{Line, Report, typed};
use crate::error::Result;
use crate::flow::{Flows, Options, simulate};

/// The file's own tolerance: relative 1e-6 on every finish time.
const TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct File {
    what: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(rename = "capacities_Bps")]
    capacities: Vec<f64>,
    flows: Vec<Flow>,
    finish_s: Vec<f64>,
    makespan_s: f64,
}

#[derive(Deserialize)]
struct Flow {
    bytes: f64,
    start_s: f64,
    links: Vec<u32>,
}

pub(super) fn check(value: Value) -> Result<Report> {
    let file: File = typed("max-min cases", value)?;
    let mut report = Report { what: file.what, ..Report::default() };
    for case in &file.cases {
        let mut flows = Flows::default();
        for flow in &case.flows {
            flows.push(flow.bytes, flow.start_s, &flow.links);
        }
        let outcome = simulate(&case.capacities, &flows, &Options::default())?;
        let each = outcome.finish_s.iter().zip(&case.finish_s);
        let line = |found: &f64, expected: &f64| {
            Line::relative(&case.name, "finish of a flow, s", *found, *expected, Some(TOLERANCE))
        };
        report.push_worst(each.map(|(found, expected)| line(found, expected)).collect());
        let makespan = Line::relative(&case.name, "makespan, s", outcome.makespan_s, case.makespan_s, Some(TOLERANCE));
        report.lines.push(makespan);
    }
    Ok(report)
}
