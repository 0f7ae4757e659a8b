//! Constants from measurements: how efficient a collective is by its size and the number of hosts.
//!
//! The law is `e = limit / (1 + cost * hosts^p * (16 MiB / bytes)^q)`: at large sizes the limit, at small ones the
//! latency of steps whose number grows with the hosts. `p = q = 1` is a ring in theory. Three forms are fitted to the
//! logarithm of what was measured (Levenberg and Marquardt) and the one is kept that foretells best the largest
//! number of hosts from the smaller ones: more freedom fits better and foretells worse. That error is what
//! [`Law::foretelling_error`] states as confidence.

use crate::error::{Error, Result};

/// The size at which `cost` is stated.
const REFERENCE_BYTES: f64 = 16_777_216.0;
/// Rounds of the fit; it converges in ten to thirty.
const ROUNDS: usize = 200;

/// One measurement: a share of the peak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Message size.
    pub bytes: f64,
    /// Hosts that took part.
    pub hosts: f64,
    /// Measured over peak bandwidth.
    pub efficiency: f64,
}

/// A fitted law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Law {
    /// Efficiency of very large messages.
    pub limit: f64,
    /// Relative cost of latency for one host and 16 MiB.
    pub cost: f64,
    /// How it grows with hosts.
    pub hosts_power: f64,
    /// How it falls with size.
    pub bytes_power: f64,
    /// Mean relative error on what it was fitted to.
    pub fit_error: f64,
    /// Mean relative error on the largest number of hosts when only the smaller ones were known; NaN if there was
    /// only one.
    pub foretelling_error: f64,
}

impl Law {
    /// The efficiency that the law foretells.
    #[must_use]
    pub fn efficiency(&self, bytes: f64, hosts: f64) -> f64 {
        let latency = self.cost * hosts.powf(self.hosts_power) * (REFERENCE_BYTES / bytes).powf(self.bytes_power);
        self.limit / (1.0 + latency)
    }

    fn error(&self, samples: &[Sample]) -> f64 {
        let relative = |sample: &Sample| (self.efficiency(sample.bytes, sample.hosts) / sample.efficiency - 1.0).abs();
        samples.iter().map(relative).sum::<f64>() / samples.len() as f64
    }
}

/// Fits a law.
///
/// # Errors
/// If there are fewer than three samples, or one is not positive.
pub fn fit(samples: &[Sample]) -> Result<Law> {
    if samples.len() < 3 {
        return Err(Error::invalid("calibration", format!("{} measurements, at least 3 are needed", samples.len())));
    }
    let sound = |number: f64| number.is_finite() && number > 0.0;
    if let Some(wrong) = samples.iter().find(|one| !(sound(one.bytes) && sound(one.hosts) && sound(one.efficiency))) {
        return Err(Error::invalid("calibration", format!("{wrong:?} is not positive")));
    }
    let largest = samples.iter().map(|sample| sample.hosts).fold(0.0, f64::max);
    let (held, known): (Vec<Sample>, Vec<Sample>) = samples.iter().partition(|sample| sample.hosts >= largest);
    let several = known.len() >= 3;
    let freedom: &[usize] = if several { &[2, 3, 4] } else { &[2] };
    let foretell = |&free: &usize| if several { fit_form(&known, free).error(&held) } else { f64::NAN };
    let best = freedom.iter().map(|free| (*free, foretell(free))).min_by(|left, right| left.1.total_cmp(&right.1));
    let (free, foretelling_error) = best.unwrap_or((2, f64::NAN));
    let law = fit_form(samples, free);
    Ok(Law { fit_error: law.error(samples), foretelling_error, ..law })
}

/// With 2 free numbers limit and cost, with 3 the power of hosts too, with 4 also that of size.
fn fit_form(samples: &[Sample], free: usize) -> Law {
    // Logarithms of limit and cost keep both positive.
    let mut at = [-0.05_f64, -2.0, 1.0, 1.0];
    let law = |at: &[f64; 4]| Law {
        limit: at[0].exp(),
        cost: at[1].exp(),
        hosts_power: at[2],
        bytes_power: at[3],
        fit_error: f64::NAN,
        foretelling_error: f64::NAN,
    };
    let residual = |at: &[f64; 4], sample: &Sample| {
        (law(at).efficiency(sample.bytes, sample.hosts) / sample.efficiency).max(1e-12).ln()
    };
    let sum = |at: &[f64; 4]| samples.iter().map(|sample| residual(at, sample).powi(2)).sum::<f64>();
    let (mut damping, mut now) = (1e-3, sum(&at));
    for _ in 0..ROUNDS {
        let mut normal = [[0.0; 5]; 4];
        for sample in samples {
            let here = residual(&at, sample);
            let mut slope = [0.0; 4];
            for (index, slope) in slope.iter_mut().enumerate().take(free) {
                let mut beside = at;
                beside[index] += 1e-6;
                *slope = (residual(&beside, sample) - here) / 1e-6;
            }
            for row in 0..free {
                for column in 0..free {
                    normal[row][column] += slope[row] * slope[column];
                }
                normal[row][4] -= slope[row] * here;
            }
        }
        for (row, line) in normal.iter_mut().enumerate().take(free) {
            line[row] *= 1.0 + damping;
        }
        let Some(step) = solve(normal, free) else { break };
        let mut next = at;
        for index in 0..free {
            next[index] += step[index];
        }
        let then = sum(&next);
        if then < now {
            let done = now - then < 1e-14 * now.max(1e-300);
            (at, now, damping) = (next, then, damping * 0.3);
            if done {
                break;
            }
        } else {
            damping *= 4.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    law(&at)
}

/// Gauss with pivots on a system of up to four unknowns; the right side is column 4.
fn solve(mut system: [[f64; 5]; 4], unknowns: usize) -> Option<[f64; 4]> {
    for column in 0..unknowns {
        let pivot = (column..unknowns).max_by(|&a, &b| system[a][column].abs().total_cmp(&system[b][column].abs()))?;
        if system[pivot][column].abs() < 1e-300 {
            return None;
        }
        system.swap(column, pivot);
        for row in 0..unknowns {
            if row != column {
                let factor = system[row][column] / system[column][column];
                let from = system[column];
                system[row].iter_mut().zip(from).for_each(|(cell, above)| *cell -= factor * above);
            }
        }
    }
    let mut out = [0.0; 4];
    for (row, out) in out.iter_mut().enumerate().take(unknowns) {
        *out = system[row][4] / system[row][row];
    }
    Some(out)
}

/// Latency and rate through measured times of one collective: `seconds = latency + bytes / rate`, by least relative
/// squares.
///
/// # Errors
/// If there are fewer than two different sizes, or a number is not positive.
pub fn line(points: &[(f64, f64)]) -> Result<(f64, f64)> {
    let (mut sums, mut distinct) = ([0.0; 5], Vec::new());
    for &(bytes, seconds) in points {
        if !(bytes.is_finite() && bytes > 0.0 && seconds.is_finite() && seconds > 0.0) {
            return Err(Error::invalid("calibration", format!("{bytes} bytes in {seconds} s")));
        }
        // Weights of 1/seconds^2 make errors relative.
        let weight = 1.0 / (seconds * seconds);
        for (sum, term) in sums.iter_mut().zip([1.0, bytes, bytes * bytes, seconds, bytes * seconds]) {
            *sum += weight * term;
        }
        if !distinct.contains(&bytes.to_bits()) {
            distinct.push(bytes.to_bits());
        }
    }
    let [one, x, xx, y, xy] = sums;
    let determinant = one * xx - x * x;
    if distinct.len() < 2 || determinant <= 0.0 {
        return Err(Error::invalid("calibration", "at least two sizes are needed"));
    }
    let (latency_s, slope) = ((xx * y - x * xy) / determinant, (one * xy - x * y) / determinant);
    if slope <= 0.0 {
        return Err(Error::invalid("calibration", "larger messages took no longer: no rate can be told"));
    }
    if latency_s < 0.0 {
        // No latency is below nothing: then it is all rate.
        return Ok((0.0, xx / xy));
    }
    Ok((latency_s, 1.0 / slope))
}
