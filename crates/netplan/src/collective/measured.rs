//! A machine as it was measured: shares of the line rates and steps of latency fitted to the output of nccl-tests.
//!
//! Two numbers are searched: a factor on what links reach and one on what a step costs. They are found on every
//! second size and held against the others; that error is the confidence, stated beside what is foretold.

use super::nccl_tests::{Output, Row};
use super::{Group, Kind, Machine, best};
use crate::error::{Error, Result};

/// Sizes that a calibration needs at least.
const ROWS_MIN: usize = 4;
/// Below this size times are noise of the start of kernels.
const BYTES_MIN: f64 = 65_536.0;

/// A machine with constants from a measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The machine.
    pub machine: Machine,
    /// Factor on the shares of the line rates that were assumed before.
    pub rate_factor: f64,
    /// Factor on the latency of a step that was assumed before.
    pub step_factor: f64,
    /// Mean relative error of the assumed machine on all sizes.
    pub error_before: f64,
    /// The same of the measured machine.
    pub error_after: f64,
    /// Mean relative error on the sizes that were not used to find the factors.
    pub foretelling_error: f64,
}

/// Fits a machine to the output of nccl-tests.
///
/// # Errors
/// If there are fewer than four sizes of 64 KiB or more.
pub fn measured(machine: &Machine, kind: Kind, group: Group, output: &Output) -> Result<Measured> {
    let sound = |row: &&Row| row.bytes >= BYTES_MIN && row.bus_bytes_per_s > 0.0;
    let rows: Vec<Row> = output.rows.iter().filter(sound).copied().collect();
    if rows.len() < ROWS_MIN {
        let detail = format!("{} sizes of 64 KiB or more, at least {ROWS_MIN} are needed", rows.len());
        return Err(Error::invalid("calibration", detail));
    }
    let error = |machine: &Machine, rows: &[Row]| {
        let one = |row: &Row| {
            let found = best(machine, kind, group, row.bytes).bus_bytes_per_s(kind, group.ranks(), row.bytes);
            (found / row.bus_bytes_per_s - 1.0).abs()
        };
        rows.iter().map(one).sum::<f64>() / rows.len() as f64
    };
    let search = |rows: &[Row]| {
        let steps = (0..=60).flat_map(|rate| (0..=24).map(move |step| (rate, step)));
        // From 0.25 to 1.3 on rates and from 1/8 to 8 on steps, evenly by their logarithm.
        let factors = steps.map(|(rate, step)| {
            let rate = 0.25 * (1.3_f64 / 0.25).powf(f64::from(rate) / 60.0);
            (rate, 2.0_f64.powf(f64::from(step) / 4.0 - 3.0))
        });
        let scored = factors.map(|(rate, step)| (rate, step, error(&scaled(machine, rate, step), rows)));
        scored.min_by(|left, right| left.2.total_cmp(&right.2)).map_or((1.0, 1.0), |(rate, step, _)| (rate, step))
    };
    let every_second = |first: usize| -> Vec<Row> { rows.iter().copied().skip(first).step_by(2).collect() };
    let (rate, step) = search(&every_second(0));
    let foretelling_error = error(&scaled(machine, rate, step), &every_second(1));
    let (rate_factor, step_factor) = search(&rows);
    let fitted = scaled(machine, rate_factor, step_factor);
    Ok(Measured {
        rate_factor,
        step_factor,
        error_before: error(machine, &rows),
        error_after: error(&fitted, &rows),
        foretelling_error,
        machine: fitted,
    })
}

fn scaled(machine: &Machine, rate: f64, step: f64) -> Machine {
    Machine {
        inside_share: machine.inside_share * rate,
        card_share: machine.card_share * rate,
        in_switch_share: machine.in_switch_share * rate,
        in_switch_s: machine.in_switch_s * step,
        inside_hop_s: machine.inside_hop_s * step,
        outside_hop_s: machine.outside_hop_s * step,
        message_s: machine.message_s * step,
        ..machine.clone()
    }
}
