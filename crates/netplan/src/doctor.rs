//! What ails a real cluster, from the output of nccl-tests.
//!
//! For each thing that goes wrong in practice the curve of bandwidth over size is computed as if it had gone wrong,
//! and held against what was measured. The cause whose curve lies nearest is named first, with how far it is off and
//! how far the next one is: two causes with the same curve cannot be told apart by bandwidth, and then both are named.

mod causes;

#[cfg(test)]
mod tests;

use crate::collective::nccl_tests::Output;
use crate::collective::{Group, Kind, Machine, best};
use crate::error::{Error, Result};

pub use causes::Cause;

/// Sizes from here on tell of bandwidth, those below of latency.
const LARGE_BYTES: f64 = 33_554_432.0;
/// Within this share of what is expected a cluster is healthy.
const HEALTHY: f64 = 0.12;
/// Causes whose curves differ by less cannot be told apart.
const SAME: f64 = 0.04;

/// The machine that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Patient {
    /// What its parts should do.
    pub machine: Machine,
    /// Who took part.
    pub group: Group,
    /// The collective.
    pub kind: Kind,
}

/// One size.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Message size.
    pub bytes: f64,
    /// Expected bus bandwidth, bytes a second, and by which algorithm.
    pub expected: f64,
    /// The algorithm that should be fastest.
    pub algorithm: &'static str,
    /// Measured bus bandwidth.
    pub measured: f64,
    /// Bus bandwidth under the first cause.
    pub explained: f64,
}

/// A cause with how well it explains what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What is probably wrong.
    pub cause: Cause,
    /// Mean relative distance of its curve from the measurements at large sizes.
    pub off: f64,
    /// Whether something besides the curve says so, for example a line of `NCCL_DEBUG`.
    pub evidence: Vec<String>,
}

/// The diagnosis.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// Whether the large sizes are within a healthy distance.
    pub healthy: bool,
    /// Each size.
    pub rows: Vec<Compared>,
    /// The most likely first; those that cannot be told from the first follow, then the next best.
    pub findings: Vec<Finding>,
    /// What a reader has to know.
    pub notes: Vec<String>,
}

impl Patient {
    /// Works out what was measured from the output's own header where the caller does not say.
    ///
    /// # Errors
    /// If the output does not say how many ranks there were, or the GPU is unknown, and the caller does not either.
    pub fn from_output(output: &Output, gpu: Option<&str>, card_gbps: f64, hosts: Option<u32>) -> Result<Self> {
        let named = gpu.unwrap_or(&output.gpu);
        let known = ["GB200", "B200", "H100", "H200", "H800", "H20", "A100", "A800"];
        let found = known.into_iter().find(|known| named.to_ascii_uppercase().contains(known));
        let found =
            found.ok_or_else(|| Error::Unknown { what: "GPU", name: named.to_owned(), known: known.join(", ") })?;
        let machine = Machine::named(found, card_gbps)?;
        let hosts = hosts.unwrap_or(output.hosts).max(1);
        if output.ranks < 2 {
            return Err(Error::invalid("nccl-tests output", "the header with one line a rank is missing"));
        }
        let group = Group { hosts, per_host: (output.ranks / hosts).max(1) };
        Ok(Self { machine, group, kind: output.kind.unwrap_or(Kind::AllReduce) })
    }
}

/// Compares, and names the likely causes.
///
/// # Errors
/// If no size is large enough to tell anything.
pub fn diagnose(patient: &Patient, output: &Output) -> Result<Diagnosis> {
    let Patient { group, kind, .. } = *patient;
    let bus = |machine: &Machine, bytes: f64| {
        let cost = best(machine, kind, group, bytes);
        (cost.bus_bytes_per_s(kind, group.ranks(), bytes), cost.algorithm.word())
    };
    let rows = output.rows.iter().filter(|row| row.bytes > 0.0 && row.bus_bytes_per_s > 0.0);
    let large: Vec<_> = rows.clone().filter(|row| row.bytes >= LARGE_BYTES).collect();
    if large.is_empty() {
        return Err(Error::invalid("nccl-tests output", "no size of 32 MiB or more: run with -e 4G or larger"));
    }
    let off = |machine: &Machine| {
        let one = |bytes: f64, measured: f64| (measured / bus(machine, bytes).0).ln().abs();
        large.iter().map(|row| one(row.bytes, row.bus_bytes_per_s)).sum::<f64>() / large.len() as f64
    };
    let mut findings: Vec<Finding> = Cause::ALL
        .into_iter()
        .filter(|cause| cause.is_possible(patient))
        .map(|cause| Finding { cause, off: off(&cause.machine(patient)), evidence: cause.evidence(output) })
        .collect();
    // What a log line proves comes before what a curve suggests.
    findings.sort_by(|a, b| a.evidence.is_empty().cmp(&b.evidence.is_empty()).then(a.off.total_cmp(&b.off)));
    let expected_off = off(&patient.machine);
    let mean = |share: fn(f64, f64) -> f64| {
        large.iter().map(|row| share(row.bus_bytes_per_s, bus(&patient.machine, row.bytes).0)).sum::<f64>()
            / large.len() as f64
    };
    let healthy = expected_off <= HEALTHY || mean(|measured, expected| measured / expected) >= 1.0 - HEALTHY;
    let explained = if healthy { patient.machine.clone() } else { findings[0].cause.machine(patient) };
    let rows = rows
        .map(|row| {
            let (expected, algorithm) = bus(&patient.machine, row.bytes);
            let explained = bus(&explained, row.bytes).0;
            Compared { bytes: row.bytes, expected, algorithm, measured: row.bus_bytes_per_s, explained }
        })
        .collect();
    let best_off = findings.first().map_or(0.0, |finding| finding.off);
    findings.retain(|finding| !finding.evidence.is_empty() || finding.off <= best_off + SAME || finding.off < 0.15);
    findings.truncate(3);
    if healthy {
        findings.retain(|finding| !finding.evidence.is_empty());
    }
    Ok(Diagnosis { healthy, rows, notes: notes(patient, output, &findings, expected_off), findings })
}

fn notes(patient: &Patient, output: &Output, findings: &[Finding], expected_off: f64) -> Vec<String> {
    let mut notes = vec![format!(
        "expected: {} on {} hosts of {} {}, cards of {:.0} Gbps; measured is {:.0} % away at large sizes",
        patient.kind.word(),
        patient.group.hosts,
        patient.group.per_host,
        patient.machine.name,
        patient.machine.card_line * 8e-9,
        100.0 * (expected_off.exp() - 1.0)
    )];
    if output.wrong > 0 {
        notes.push(format!(
            "{} rows have wrong results: find the faulty GPU or link before anything else",
            output.wrong
        ));
    }
    if let [first, second, ..] = findings
        && second.off <= first.off + SAME
    {
        notes.push("the first causes have nearly the same curve: bandwidth alone cannot tell them apart".to_owned());
    }
    notes
}
