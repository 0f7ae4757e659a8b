//! Collectives as they run: rank by rank, step by step, on real paths.
//!
//! A rank of a ring starts step `s` when the message of step `s - 1` has reached it and was acknowledged. When every
//! path is as fast as every other all ranks stay in step, and a step costs what one round of messages costs. The
//! general case, where some flows share a link, is run step by step with the starts that the step before left.

use super::{Demand, Policy, Wire, route};
use crate::error::{Result, at_most};
use crate::flow::Options;
use crate::topology::Topology;

/// The most messages that one simulated collective may have.
const MESSAGES_MAX: u64 = 50_000_000;

/// One ring: who is in it, in order, and what each passes on at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ring<'a> {
    /// Endpoints in the order of the ring.
    pub ranks: &'a [u32],
    /// Bytes of one message: the whole over the number of ranks for an all-reduce.
    pub message_bytes: f64,
}

/// The finish of every message of ring all-reduces that start together, in seconds: `2 (k - 1)` steps a ring.
///
/// Steps are taken one after another over all rings: flows of step `s` share links with each other, not with those of
/// step `s + 1`. That is exact while ranks stay in step, which they do unless a ring is slower than its neighbour on
/// a link that both use.
///
/// # Errors
/// If a rank does not exist or cannot be reached, or the messages are too many.
pub fn ring_all_reduce(topology: &Topology, rings: &[Ring<'_>], policy: Policy, wire: &Wire) -> Result<Vec<f64>> {
    let messages = rings.iter().map(|ring| 2 * (ring.ranks.len() as u64).pow(2)).sum();
    at_most("messages of a collective", messages, MESSAGES_MAX)?;
    let mut demands: Vec<Demand> = Vec::new();
    let mut before: Vec<usize> = Vec::new();
    let mut steps_left: Vec<usize> = Vec::new();
    for ring in rings {
        let (first, count) = (demands.len(), ring.ranks.len());
        for (place, &from) in ring.ranks.iter().enumerate().filter(|_| count > 1) {
            demands.push(Demand::new(from, ring.ranks[(place + 1) % count], ring.message_bytes));
            before.push(first + (place + count - 1) % count);
            steps_left.push(2 * (count - 1));
        }
    }
    let routed = route(topology, &[], &demands, policy, wire)?;
    let mut start_s = vec![0.0; demands.len()];
    let mut finishes = Vec::new();
    let mut last: Option<(Vec<f64>, Vec<f64>)> = None;
    let rounds = steps_left.iter().copied().max().unwrap_or(0);
    for step in 0..rounds {
        let active: Vec<usize> = (0..demands.len()).filter(|&flow| steps_left[flow] > step).collect();
        // Where every start is as much later as the whole step took, the step repeats itself.
        let repeated = last.as_ref().and_then(|(starts, ends)| repeat(starts, ends, &start_s, &active));
        let end_s = if let Some(end_s) = repeated {
            end_s
        } else {
            let mut round = routed.clone();
            let offset_s = active.iter().map(|&flow| start_s[flow]).fold(f64::INFINITY, f64::min);
            round.flows.restart(|flow| if steps_left[flow] > step { start_s[flow] - offset_s } else { 0.0 });
            round.flows.drop_bytes(|flow| steps_left[flow] <= step);
            let outcome = round.simulate(topology.capacities(), wire, &Options::default())?;
            outcome.finish_s.iter().map(|time| time + offset_s).collect()
        };
        finishes.extend(active.iter().map(|&flow| end_s[flow]));
        last = Some((start_s.clone(), end_s.clone()));
        for &flow in &active {
            // A rank sends on when it has what the one before it sent, and its own message is out.
            start_s[flow] = end_s[before[flow]].max(end_s[flow]);
        }
    }
    Ok(finishes)
}

/// The ends of this step if all starts moved by one and the same time since the last.
fn repeat(starts: &[f64], ends: &[f64], now: &[f64], active: &[usize]) -> Option<Vec<f64>> {
    let shift = now[*active.first()?] - starts[*active.first()?];
    let same = active.len() == now.len()
        && active.iter().all(|&flow| (now[flow] - starts[flow] - shift).abs() <= 1e-12 * now[flow].abs().max(1e-9));
    same.then(|| ends.iter().map(|end| end + shift).collect())
}
