//! `sampan net doctor`.

use netplan::collective::nccl_tests;
use netplan::doctor::{Diagnosis, Patient, diagnose};
use netplan::picture::doctor_page;
use serde_json::json;

use super::args::Doctor;
use crate::machine::print;

pub(super) fn run(arguments: &Doctor) -> anyhow::Result<()> {
    let output = nccl_tests::read(&super::read_text(&arguments.file)?)?;
    let patient = Patient::from_output(&output, arguments.gpu.as_deref(), arguments.card, arguments.hosts)?;
    let found = diagnose(&patient, &output)?;
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&as_json(&found))?))?;
    } else {
        print(&words(&found))?;
    }
    match &arguments.picture {
        Some(path) => super::write_picture(path, &doctor_page(&found)),
        None => Ok(()),
    }
}

fn words(found: &Diagnosis) -> String {
    use std::fmt::Write as _;
    let mut out = format!("{:>14} {:>10} {:>10} {:>6}  by\n", "bytes", "expected", "measured", "share");
    for row in &found.rows {
        let _ = writeln!(
            out,
            "{:>14} {:>10.1} {:>10.1} {:>4.0} %  {}",
            row.bytes,
            row.expected * 1e-9,
            row.measured * 1e-9,
            100.0 * row.measured / row.expected,
            row.algorithm
        );
    }
    out.push_str(if found.healthy { "healthy: bandwidth is what it should be\n" } else { "not healthy\n" });
    for finding in &found.findings {
        let off = 100.0 * finding.off;
        let _ = writeln!(out, "likely: {} (its curve is {off:.0} % off)", finding.cause.word());
        for line in &finding.evidence {
            let _ = writeln!(out, "  log: {line}");
        }
        let _ = writeln!(out, "  try: {}", finding.cause.advice());
    }
    for note in &found.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

fn as_json(found: &Diagnosis) -> serde_json::Value {
    json!({
        "healthy": found.healthy,
        "rows": found.rows.iter().map(|row| json!({
            "bytes": row.bytes,
            "expected_bytes_per_s": row.expected,
            "algorithm": row.algorithm,
            "measured_bytes_per_s": row.measured,
        })).collect::<Vec<_>>(),
        "findings": found.findings.iter().map(|finding| json!({
            "cause": finding.cause.word(),
            "off": finding.off,
            "evidence": finding.evidence,
            "try": finding.cause.advice(),
        })).collect::<Vec<_>>(),
        "notes": found.notes,
    })
}
