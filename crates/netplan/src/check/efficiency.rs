//! Measured efficiency by size and hosts (`simai_measured_efficiency.json`): a law calibrated on each table.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Line, Report, typed};
use crate::collective::calibrate::{Law, Sample, fit};
use crate::error::Result;
use crate::simai::{Table, shipped_ratios};

/// Mean relative error that a calibrated table may have.
const TOLERANCE: f64 = 0.10;

#[derive(Deserialize)]
struct File {
    what: String,
    tables: BTreeMap<String, Raw>,
}

#[derive(Deserialize)]
struct Raw {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

pub(super) fn check(value: Value) -> Result<Report> {
    let file: File = typed("tables of efficiency", value)?;
    let mut report = Report { what: file.what, ..Report::default() };
    for (name, raw) in &file.tables {
        let table = Table::from_cells(&raw.header, &raw.rows)?;
        let known = match name.as_str() {
            "nic_ratio" => shipped_ratios()?.nic,
            "nvlink_ratio" => shipped_ratios()?.nvlink,
            "ata_ratio" => shipped_ratios()?.all_to_all,
            _ => table.clone(),
        };
        compare(&mut report, name, &known, &table)?;
    }
    Ok(report)
}

/// Calibrates on `known`, and holds the law against every column of `table`, also those that it never saw.
fn compare(report: &mut Report, name: &str, known: &Table, table: &Table) -> Result<()> {
    // Inside one host there is no step between hosts: a law of its own.
    let inside = fit(&samples(known, |hosts| hosts == 1))?;
    let several = fit(&samples(known, |hosts| hosts > 1))?;
    let law = |hosts: f64| if hosts > 1.0 { &several } else { &inside };
    let relative = |one: &Sample| (law(one.hosts).efficiency(one.bytes, one.hosts) / one.efficiency - 1.0).abs();
    let seen: Vec<u32> = (0..known.columns.len()).filter_map(|column| known.hosts(column)).collect();
    let mut every = Vec::new();
    for column in 0..table.columns.len() {
        let Some(hosts) = table.hosts(column) else { continue };
        let errors: Vec<f64> = samples(table, |own| own == hosts).iter().map(relative).collect();
        if errors.is_empty() {
            continue;
        }
        let unseen =
            if seen.contains(&hosts) && !samples(known, |own| own == hosts).is_empty() { "" } else { ", unseen" };
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let quantity = format!("mean relative error, {hosts} hosts{unseen}");
        report.lines.push(Line { tolerance: None, ..Line::absolute(name, &quantity, mean, 0.0, TOLERANCE) });
        every.extend(errors);
    }
    let mean = every.iter().sum::<f64>() / every.len().max(1) as f64;
    report.lines.push(Line::absolute(name, "mean relative error of the table", mean, 0.0, TOLERANCE));
    report.notes.push(describe(name, "several hosts", &several));
    report.notes.push(describe(name, "one host", &inside));
    Ok(())
}

fn samples(table: &Table, wanted: impl Fn(u32) -> bool) -> Vec<Sample> {
    let columns = (0..table.columns.len()).filter_map(|column| Some((column, table.hosts(column)?)));
    let mut samples = Vec::new();
    for (column, hosts) in columns.filter(|(_, hosts)| wanted(*hosts)) {
        for (bytes, shares) in table.bytes.iter().zip(&table.share) {
            if let Some(efficiency) = shares[column] {
                samples.push(Sample { bytes: *bytes, hosts: f64::from(hosts), efficiency });
            }
        }
    }
    samples
}

fn describe(name: &str, which: &str, law: &Law) -> String {
    let Law { limit, cost, hosts_power, bytes_power, fit_error, foretelling_error } = law;
    let confidence = if foretelling_error.is_nan() {
        String::new()
    } else {
        format!(", foretells the largest column from the others within {:.1} %", 100.0 * foretelling_error)
    };
    format!(
        "{name}, {which}: {limit:.3} / (1 + {cost:.4} hosts^{hosts_power:.2} (16 MiB/size)^{bytes_power:.2}), fits \
         within {:.1} %{confidence}",
        100.0 * fit_error
    )
}
