//! Published nccl-tests figures (`published_measurements.json`) beside the formulas of [`crate::collective`].

use serde_json::Value;

use super::{Line, Report};
use crate::collective::{Algorithm, Group, Kind, Machine, best, calibrate, cost};
use crate::error::{Error, Result};

/// Where a row names none. The mean over all rows is held against what ASTRA-sim publishes for 8 x H100.
const TOLERANCE: f64 = 0.10;
const ASTRA_MEAN: f64 = 0.0969;
/// Where a row names no size: large enough for the plateau.
const BYTES: f64 = 4_294_967_296.0;

struct Row<'a> {
    value: &'a Value,
    id: String,
    machine: Machine,
    hosts: u32,
    gpus_per_host: u32,
    tolerance: f64,
}

pub(super) fn check(value: &Value) -> Result<Report> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut report = Report { what: text(&value["what"]), ..Report::default() };
    let rows = value["rows"].as_array().ok_or_else(|| Error::invalid("measurements", "no rows"))?;
    for value in rows {
        let (id, coll, hw) = (text(&value["id"]), text(&value["coll"]), text(&value["hw"]));
        let Some(machine) = machine(&hw) else {
            report.notes.push(format!("{id}: no measurement of a known machine: {hw}"));
            continue;
        };
        let (hosts, gpus_per_host) = shape(&hw);
        let tolerance = value["tolerance"].as_str().and_then(percent).unwrap_or(TOLERANCE);
        let row = Row { value, id, machine, hosts, gpus_per_host, tolerance };
        if coll.starts_with("point") {
            row.point_to_point(&mut report);
        } else if let Some(kind) = Kind::from_word(&coll) {
            row.collective(&mut report, kind)?;
        } else {
            report.notes.push(format!("{}: unknown collective {coll:?}", row.id));
        }
    }
    let errors: Vec<f64> = report.lines.iter().map(|line| line.error.abs()).collect();
    let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    let quantity = "mean relative error of all rows (ASTRA-sim publishes 9.69 %)";
    report.lines.push(Line::absolute("8xH100 class", quantity, mean, 0.0, ASTRA_MEAN));
    Ok(report)
}

impl Row<'_> {
    fn point_to_point(&self, report: &mut Report) {
        let found = self.machine.card_line * self.machine.card_share * 1e-9;
        let range = numbers(&self.value["busbw_GBps"]);
        let middle = range.iter().sum::<f64>() / range.len().max(1) as f64;
        report.lines.push(Line::relative(&self.id, "GB/s of one card", found, middle, Some(self.tolerance)));
    }

    fn collective(&self, report: &mut Report, kind: Kind) -> Result<()> {
        let sizes = numbers(&self.value["bytes"]);
        let times = numbers(&self.value["time_us"]);
        if times.len() >= 3 && times.len() == sizes.len() {
            return self.both_ends(report, kind, &sizes, &times);
        }
        let measured = numbers(&self.value["busbw_GBps"]);
        let gpus = numbers(&self.value["gpus"]);
        for (index, &expected) in measured.iter().enumerate() {
            let per_host = gpus.get(index).map_or(self.gpus_per_host, |&gpus| gpus as u32);
            let bytes = if gpus.is_empty() { sizes.get(index) } else { sizes.last() }.copied().unwrap_or(BYTES);
            self.bandwidth(report, kind, Group { hosts: self.hosts, per_host }, bytes, expected);
        }
        if let Some(expected) = self.value["single_node"].as_f64() {
            let group = Group { hosts: 1, per_host: self.gpus_per_host };
            self.bandwidth(report, kind, group, BYTES, expected);
        }
        Ok(())
    }

    fn bandwidth(&self, report: &mut Report, kind: Kind, group: Group, bytes: f64, expected: f64) {
        let named = self.value["algo"].as_str().unwrap_or_default();
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.word().eq_ignore_ascii_case(named));
        let forced = algorithm.and_then(|algorithm| cost(&self.machine, kind, algorithm, group, bytes));
        let cost = forced.unwrap_or_else(|| best(&self.machine, kind, group, bytes));
        let found = cost.bus_bytes_per_s(kind, group.ranks(), bytes) * 1e-9;
        let ranks = format!("{} x {}", group.hosts, group.per_host);
        let quantity =
            format!("busbw, GB/s, {} by {} on {ranks}, {bytes:.0} bytes", kind.word(), cost.algorithm.word());
        report.lines.push(Line::relative(&self.id, &quantity, found, expected, Some(self.tolerance)));
    }

    /// A machine of its own kind: calibrated on the smallest and the largest size, held against those in between.
    fn both_ends(&self, report: &mut Report, kind: Kind, sizes: &[f64], times: &[f64]) -> Result<()> {
        let last = sizes.len() - 1;
        let ends = [(sizes[0], times[0] * 1e-6), (sizes[last], times[last] * 1e-6)];
        let (latency_s, rate) = calibrate::line(&ends)?;
        for index in 1..last {
            let found = 1e6 * (latency_s + sizes[index] / rate);
            let quantity = format!("us, {} of {:.0} bytes, from both ends", kind.word(), sizes[index]);
            report.lines.push(Line::relative(&self.id, &quantity, found, times[index], Some(self.tolerance)));
        }
        Ok(())
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_f64).collect(),
        other => other.as_f64().into_iter().collect(),
    }
}

/// From `±5 %`.
fn percent(text: &str) -> Option<f64> {
    let rest = &text[text.find('±')? + '±'.len_utf8()..];
    rest.split_whitespace().next()?.trim_end_matches('%').parse::<f64>().ok().map(|percent| percent / 100.0)
}

/// `4 nodes x 8 H100, 8x400G InfiniBand`, `8x H100 SXM`, `H100 + CX7 NDR`.
fn machine(hw: &str) -> Option<Machine> {
    if hw.starts_with("SimAI") {
        return None;
    }
    let letter = |letter: char| !letter.is_ascii_alphanumeric();
    let gpu = hw.split(letter).find_map(|word| Machine::named(word, 400.0).ok())?;
    let rate = hw.split(letter).find_map(|word| word.split('x').nth(1)?.strip_suffix('G')?.parse::<f64>().ok());
    rate.map_or(Some(gpu.clone()), |rate| Machine::named(&gpu.name, rate).ok())
}

fn shape(hw: &str) -> (u32, u32) {
    let words: Vec<&str> = hw.split_whitespace().collect();
    let number = |word: &str| word.trim_end_matches('x').parse::<u32>().ok();
    let first = words.first().and_then(|word| number(word));
    let nodes = words.get(1).is_some_and(|word| word.starts_with("node"));
    match (first, nodes) {
        (Some(hosts), true) => (hosts, words.get(3).and_then(|word| number(word)).unwrap_or(8)),
        (Some(gpus), false) => (1, gpus),
        (None, _) => (1, 8),
    }
}
