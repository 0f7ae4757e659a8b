//! Who takes which way through a fabric: shortest paths, chosen by hashing, by a plan, or all of them at once.
//!
//! * **Hashed**: every switch picks one of its equal-cost links by a hash of the flow, as ECMP does. One path a flow.
//! * **Planned**: one path a flow, chosen so that the fullest link is as empty as a local search can make it.
//! * **Sprayed**: packets use every shortest path evenly, and every port of the card.
//!
//! An endpoint's *ports* are its cables into the scale-out network, in the order of their planes; GPUs of one host
//! talk through the switch inside it. A port whose cable or ToR is down is replaced by the next one that is up: this
//! is what dual-ToR means. Without one there is no way, and the demand is [`Error::Disconnected`].
//!
//! Distances are kept per destination switch, one byte a switch: 90 kB for the HPN 7 pod of 15,360 GPUs.

mod paths;
mod planned;
pub mod steps;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::flow::{Flows, Options, Outcome, simulate, threads};
use crate::topology::Topology;

pub use paths::Router;

/// From so many demands on, hashes are computed on several threads.
const HASHED_APART_MIN: usize = if cfg!(test) { 100 } else { 1 << 16 };

/// How paths are chosen among those of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Each switch hashes the flow with its own salt; another seed is another draw.
    Hashed {
        /// The seed of the hash.
        seed: u64,
    },
    /// Chosen with knowledge of all flows.
    Planned,
    /// All of them, evenly.
    Sprayed,
}

/// Bytes that one endpoint wants another to have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Sender.
    pub from: u32,
    /// Receiver.
    pub to: u32,
    /// Payload.
    pub bytes: f64,
    /// When the sender begins.
    pub start_s: f64,
    /// The port it leaves through while that one is up; `None` leaves the choice to the policy.
    pub port: Option<u16>,
}

impl Demand {
    /// A demand that starts at zero on any port.
    #[must_use]
    pub fn new(from: u32, to: u32, bytes: f64) -> Self {
        Self { from, to, bytes, start_s: 0.0, port: None }
    }

    /// The same through one port.
    #[must_use]
    pub fn on_port(self, port: u16) -> Self {
        Self { port: Some(port), ..self }
    }
}

/// What a packet network adds to the payload, and how long a message waits for its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wire {
    /// Bytes on the wire for a byte of payload.
    pub header_factor: f64,
    /// Bytes of a packet on the wire; each hop stores and forwards one.
    pub packet_bytes: f64,
    /// How many round trips a message pays besides its transfer.
    pub round_trips: f64,
}

impl Wire {
    /// Only the bytes count.
    pub const IDEAL: Self = Self { header_factor: 1.0, packet_bytes: 0.0, round_trips: 0.0 };
    /// Packets of 4,150 bytes that carry 4,086, and the last acknowledgement has to arrive: htsim's `RoCE` and EQDS.
    pub const ROCE: Self = Self { header_factor: 4_150.0 / 4_086.0, packet_bytes: 4_150.0, round_trips: 1.0 };
}

/// Demands with their paths.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Routed {
    /// One flow a demand, in the same order.
    pub flows: Flows,
    /// Time from the first bit sent to the last acknowledgement received for an empty message.
    pub round_trip_s: Vec<f64>,
}

impl Routed {
    fn with_capacity(demands: usize) -> Self {
        Self { flows: Flows::with_capacity(demands, 4 * demands), round_trip_s: Vec::with_capacity(demands) }
    }

    fn push(&mut self, topology: &Topology, demand: &Demand, path: &[u32], wire: &Wire) {
        self.flows.push(demand.bytes, demand.start_s, path);
        self.round_trip_s.push(round_trip_s(topology, path, wire));
    }

    /// Runs the flows, and adds to each the round trips of its message.
    ///
    /// # Errors
    /// As [`simulate`].
    pub fn simulate(&self, capacities: &[f64], wire: &Wire, options: &Options) -> Result<Outcome> {
        let mut flows = Cow::Borrowed(&self.flows);
        if wire.header_factor.to_bits() != 1.0_f64.to_bits() {
            flows.to_mut().scale_bytes(wire.header_factor);
        }
        let mut outcome = simulate(capacities, &flows, options)?;
        for (finish_s, round_trip_s) in outcome.finish_s.iter_mut().zip(&self.round_trip_s) {
            *finish_s += round_trip_s * wire.round_trips;
        }
        outcome.makespan_s = outcome.finish_s.iter().copied().filter(|time| time.is_finite()).fold(0.0, f64::max);
        Ok(outcome)
    }
}

/// Finds the way of every demand through what is up; `down[link]` marks links that are not (empty: all are up).
///
/// Costs a search a destination switch; planning adds a few passes over all shortest paths.
///
/// # Errors
/// If an endpoint does not exist or cannot be reached.
pub fn route(topology: &Topology, down: &[bool], demands: &[Demand], policy: Policy, wire: &Wire) -> Result<Routed> {
    let all = topology.endpoint_count() + topology.spare_count();
    if let Some(wrong) = demands.iter().find(|demand| demand.from >= all || demand.to >= all) {
        return Err(Error::invalid("demand", format!("{} to {} of {all} endpoints", wrong.from, wrong.to)));
    }
    let router = || Router::new(topology, down);
    match policy {
        Policy::Hashed { seed } => hashed(&router, demands, seed, wire),
        Policy::Planned => planned::route(&mut router()?, demands, wire),
        Policy::Sprayed => sprayed(&mut router()?, demands, wire),
    }
}

/// Runs of demands, found on several threads where they are many: nothing in a hash depends on other flows.
fn hashed<'a>(
    router: &(impl Fn() -> Result<Router<'a>> + Sync),
    demands: &[Demand],
    seed: u64,
    wire: &Wire,
) -> Result<Routed> {
    let threads = if demands.len() < HASHED_APART_MIN { 1 } else { threads() };
    let length = demands.len().div_ceil(threads).max(1);
    let run = |first: usize, demands: &[Demand]| -> Result<Routed> {
        let (mut router, mut routed, mut path) = (router()?, Routed::with_capacity(demands.len()), Vec::new());
        for (index, demand) in demands.iter().enumerate() {
            router.hashed(demand, paths::mix(seed, (first + index) as u64), &mut path)?;
            routed.push(router.topology, demand, &path, wire);
        }
        Ok(routed)
    };
    let mut runs = demands.chunks(length).enumerate();
    let (_, own) = runs.next().unwrap_or((0, &[]));
    std::thread::scope(|scope| {
        let run = &run;
        let others: Vec<_> = runs.map(|(at, demands)| scope.spawn(move || run(at * length, demands))).collect();
        let mut routed = run(0, own);
        for other in others {
            let next = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if let Ok(routed) = &mut routed {
                let next = next?;
                routed.flows.append(&next.flows);
                routed.round_trip_s.extend_from_slice(&next.round_trip_s);
            }
        }
        routed
    })
}

fn sprayed(router: &mut Router<'_>, demands: &[Demand], wire: &Wire) -> Result<Routed> {
    let (mut path, mut shares) = (Vec::new(), Vec::new());
    let mut routed = Routed::with_capacity(demands.len());
    for demand in demands {
        router.sprayed(demand, &mut shares)?;
        routed.flows.push_spread(demand.bytes, demand.start_s, &shares);
        // The trip is that of any one of the paths: they are equally long.
        router.hashed(demand, 0, &mut path)?;
        routed.round_trip_s.push(round_trip_s(router.topology, &path, wire));
    }
    Ok(routed)
}

/// There and back over `path`, with one packet stored and forwarded at each hop on the way there.
pub(crate) fn round_trip_s(topology: &Topology, path: &[u32], wire: &Wire) -> f64 {
    let hop = |&link: &u32| {
        2e-9 * f64::from(topology.latency_ns(link)) + wire.packet_bytes / topology.capacities()[link as usize]
    };
    path.iter().map(hop).sum()
}
