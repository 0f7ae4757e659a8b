//! The question that decides how a fabric is run: what do independently hashed uplinks cost against planned ones?

use base::Rng;

use crate::error::{Error, Result};
use crate::flow::{Options, fair_rates};
use crate::route::{Demand, Policy, Wire, route};
use crate::topology::Topology;
use crate::traffic::{host_permutation, ports as ports_of_a_card, split};

/// What to compare.
#[derive(Debug, Clone, PartialEq)]
pub struct UplinksRequest {
    /// Chooses the permutation and the hashes.
    pub seed: u64,
    /// Bytes of one GPU.
    pub bytes: f64,
    /// How many times hashes are drawn.
    pub draws: u32,
    /// Queue pairs of one port, each of which a plan may lay elsewhere.
    pub ways: u32,
    /// Rails that the plan is made for; they do not share links, so one stands for all.
    pub rails_planned: u32,
}

impl Default for UplinksRequest {
    fn default() -> Self {
        Self { seed: 1, bytes: 64e6, draws: 5, ways: 8, rails_planned: 1 }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Uplinks {
    /// Flows of the permutation: one a GPU and port.
    pub flows: u32,
    /// What a port alone would need.
    pub ideal_s: f64,
    /// The last finish of each draw of hashes.
    pub hashed_s: Vec<f64>,
    /// The last finish with one planned path a port.
    pub planned_s: f64,
    /// The last finish with `ways` planned paths a port.
    pub planned_ways_s: f64,
    /// Finish times of the first draw, rising.
    pub hashed_finish_s: Vec<f64>,
    /// Finish times of the flows with `ways` planned paths, rising.
    pub planned_finish_s: Vec<f64>,
    /// Bytes on each link, first draw.
    pub hashed_load: Vec<f64>,
    /// Bytes on each link with `ways` planned paths.
    pub planned_load: Vec<f64>,
}

impl Uplinks {
    /// The mean of the last finishes over all draws.
    #[must_use]
    pub fn hashed_mean_s(&self) -> f64 {
        self.hashed_s.iter().sum::<f64>() / self.hashed_s.len().max(1) as f64
    }

    /// How much longer hashing takes than a plan.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.hashed_mean_s() / self.planned_ways_s
    }
}

/// What two hosts get from each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Between {
    /// Ports of cards that were counted.
    pub ports: u32,
    /// Payload a second of all of them together, nothing else on the way.
    pub bytes_per_s: f64,
    /// There and back without waiting.
    pub round_trip_s: f64,
    /// Share of the packets that is lost on the way there.
    pub loss: f64,
}

/// What the first host gets to the last one over its first `ports` ports, with headers paid for: how fast to send.
///
/// # Errors
/// If the fabric has fewer than two hosts, or `ports` is 0 or more than a host has.
pub fn between(topology: &Topology, ports: u32) -> Result<Between> {
    let (per_host, per_card) = (topology.endpoints_per_host(), ports_of_a_card(topology));
    let hosts = topology.endpoint_count() / per_host;
    let most = per_host * u32::from(per_card);
    if hosts < 2 || ports == 0 || ports > most {
        let detail = format!("{ports} ports of {most} between two of {hosts} hosts of {}", topology.name());
        return Err(Error::invalid("path", detail));
    }
    let last = (hosts - 1) * per_host;
    let demand = |port: u32| {
        let card = port / u32::from(per_card);
        Demand::new(card, last + card, 1.0).on_port((port % u32::from(per_card)) as u16)
    };
    let demands: Vec<Demand> = (0..ports).map(demand).collect();
    let routed = route(topology, &[], &demands, Policy::Planned, &Wire::IDEAL)?;
    let rates = fair_rates(topology.capacities(), &routed.flows)?;
    let arrives = |flow: usize| -> f64 {
        routed.flows.path(flow).iter().map(|&link| 1.0 - f64::from(topology.loss(link))).product()
    };
    Ok(Between {
        ports,
        bytes_per_s: rates.iter().sum::<f64>() / Wire::ROCE.header_factor,
        round_trip_s: routed.round_trip_s.iter().copied().fold(0.0, f64::max),
        loss: (0..demands.len()).map(|flow| 1.0 - arrives(flow)).fold(0.0, f64::max),
    })
}

/// Sends every host's bytes to one other host, GPU to GPU on the same rail, once with hashed and once with planned
/// uplinks.
///
/// # Errors
/// If the fabric has fewer than two hosts, or a number is 0.
pub fn uplinks(topology: &Topology, request: &UplinksRequest) -> Result<Uplinks> {
    let sound = request.bytes.is_finite() && request.bytes > 0.0;
    if !sound || request.draws == 0 || !(1..=64).contains(&request.ways) || request.rails_planned == 0 {
        return Err(Error::invalid("study", format!("{request:?}: a number is 0 or too large")));
    }
    let demands = host_permutation(topology, request.seed, request.bytes);
    let capacities = topology.capacities();
    let Some(first) = demands.first() else { return Err(Error::invalid("study", "fewer than two hosts")) };
    let into = topology.links_of(first.from).find(|&link| topology.kind(topology.target(link)).is_switch());
    let port = into.map_or(f64::INFINITY, |link| capacities[link as usize]);
    let run = |demands: &[Demand], policy: Policy| -> Result<(Vec<f64>, Vec<f64>, f64)> {
        let routed = route(topology, &[], demands, policy, &Wire::IDEAL)?;
        let outcome = routed.simulate(capacities, &Wire::IDEAL, &Options::default())?;
        let mut finish_s = outcome.finish_s;
        finish_s.sort_by(f64::total_cmp);
        Ok((finish_s, routed.flows.load(capacities.len()), outcome.makespan_s))
    };
    let mut rng = Rng::seeded(request.seed);
    let (hashed_finish_s, hashed_load, first_s) = run(&demands, Policy::Hashed { seed: rng.next_u64() })?;
    let mut hashed_s = vec![first_s];
    for _ in 1..request.draws {
        hashed_s.push(run(&demands, Policy::Hashed { seed: rng.next_u64() })?.2);
    }
    let rails = topology.endpoints_per_host();
    let planned: Vec<Demand> =
        demands.iter().copied().filter(|demand| demand.from % rails < request.rails_planned).collect();
    let planned_s = run(&planned, Policy::Planned)?.2;
    let (planned_finish_s, planned_load, planned_ways_s) = run(&split(&planned, request.ways), Policy::Planned)?;
    Ok(Uplinks {
        flows: demands.len() as u32,
        ideal_s: request.bytes / f64::from(ports_of_a_card(topology)) / port,
        hashed_s,
        planned_s,
        planned_ways_s,
        hashed_finish_s,
        planned_finish_s,
        hashed_load,
        planned_load,
    })
}

#[cfg(test)]
mod tests {
    use super::between;
    use crate::topology::preset;

    #[test]
    fn two_hosts_get_what_their_ports_and_the_way_allow() {
        let pod = preset("hpn7", Some(2_048)).unwrap();
        let one = between(&pod, 1).unwrap();
        let two = between(&pod, 2).unwrap();
        let port = 25e9 / crate::route::Wire::ROCE.header_factor;
        assert!((one.bytes_per_s / port - 1.0).abs() < 1e-9, "{one:?}");
        assert!((two.bytes_per_s / one.bytes_per_s - 2.0).abs() < 1e-9, "{two:?}");
        assert!(one.loss.abs() < 1e-12 && one.round_trip_s < 1e-4, "{one:?}");
        let sites = between(&preset("edge-ring", None).unwrap(), 1).unwrap();
        assert!(sites.bytes_per_s < 1.25e9 && sites.round_trip_s > 0.016 && sites.loss > 0.5e-4, "{sites:?}");
        for wrong in [0, 17] {
            assert!(between(&pod, wrong).unwrap_err().to_string().contains(&format!("{wrong} ports of 16")), "{wrong}");
        }
    }
}
