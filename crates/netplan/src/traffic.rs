//! What jobs send: permutations, rings on every rail, all-to-alls, as lists of demands.
//!
//! A GPU with cards on several planes sends one flow a plane, each with its part of the bytes, as NCCL does with a
//! queue pair a port.

use base::Rng;

use crate::error::{Error, Result, at_most};
use crate::route::Demand;
use crate::topology::{NodeKind, Topology};

/// The most demands that one of these functions makes.
pub const DEMANDS_MAX: u64 = 20_000_000;

/// How many ports of the scale-out network each endpoint has, at least 1.
#[must_use]
pub fn ports(topology: &Topology) -> u16 {
    let into = topology.links_of(0).filter(|&link| topology.kind(topology.target(link)).is_switch());
    (into.count() as u16).max(1)
}

/// Every host sends to one other, GPU to GPU on the same rail, `bytes` a GPU; no host to itself.
#[must_use]
pub fn host_permutation(topology: &Topology, seed: u64, bytes: f64) -> Vec<Demand> {
    let per_host = topology.endpoints_per_host();
    let hosts = topology.endpoint_count() / per_host;
    let mut rng = Rng::seeded(seed);
    let mut to: Vec<u32> = (0..hosts).collect();
    // Sattolo's shuffle: one cycle, so nobody sends to itself.
    for index in (1..to.len()).rev() {
        to.swap(index, rng.below(index as u64) as usize);
    }
    let ports = ports(topology);
    let mut demands = Vec::with_capacity(hosts as usize * per_host as usize * usize::from(ports));
    for (from, &to) in (0..hosts).zip(&to).filter(|(from, to)| from != *to) {
        for gpu in 0..per_host {
            let demand = Demand::new(from * per_host + gpu, to * per_host + gpu, bytes / f64::from(ports));
            demands.extend((0..ports).map(|port| demand.on_port(port)));
        }
    }
    demands
}

/// The bytes that cross the network in an all-reduce of `bytes` over the first `hosts` hosts: inside a host the GPUs
/// share the sum out, then each rail has a ring of its own. Each flow carries what all steps of its ring carry.
///
/// # Errors
/// If there are more hosts than the fabric has, or fewer than two.
pub fn rail_rings(topology: &Topology, hosts: u32, bytes: f64) -> Result<Vec<Demand>> {
    let per_host = topology.endpoints_per_host();
    let all = topology.endpoint_count() / per_host;
    if hosts < 2 || hosts > all {
        return Err(Error::invalid("all-reduce", format!("{hosts} of {all} hosts")));
    }
    let ports = ports(topology);
    let share = 2.0 * f64::from(hosts - 1) / f64::from(hosts) * bytes / f64::from(per_host) / f64::from(ports);
    let mut demands = Vec::with_capacity(hosts as usize * per_host as usize * usize::from(ports));
    for host in 0..hosts {
        let next = (host + 1) % hosts;
        for gpu in 0..per_host {
            let demand = Demand::new(host * per_host + gpu, next * per_host + gpu, share);
            demands.extend((0..ports).map(|port| demand.on_port(port)));
        }
    }
    Ok(demands)
}

/// Every rank of each group sends `bytes` to every other of its group: over all ports to other hosts, inside the host
/// through its switch.
///
/// # Errors
/// If the pairs are too many or a rank does not exist.
pub fn all_to_all(topology: &Topology, groups: &[Vec<u32>], bytes: f64) -> Result<Vec<Demand>> {
    let ports = ports(topology);
    let pairs: u64 = groups.iter().map(|group| (group.len() as u64).pow(2)).sum();
    at_most("flows of an all-to-all", pairs * u64::from(ports), DEMANDS_MAX)?;
    let all = topology.endpoint_count() + topology.spare_count();
    if let Some(rank) = groups.iter().flatten().find(|rank| **rank >= all) {
        return Err(Error::invalid("all-to-all", format!("rank {rank} of {all}")));
    }
    let per_host = topology.endpoints_per_host();
    let shared = topology.nodes_of_kind(NodeKind::ScaleUp).next().is_some();
    let mut demands = Vec::with_capacity((pairs * u64::from(ports)) as usize);
    for group in groups {
        for &from in group {
            for &to in group.iter().filter(|&&to| to != from) {
                if shared && from / per_host == to / per_host {
                    demands.push(Demand::new(from, to, bytes));
                } else {
                    let demand = Demand::new(from, to, bytes / f64::from(ports));
                    demands.extend((0..ports).map(|port| demand.on_port(port)));
                }
            }
        }
    }
    Ok(demands)
}

/// Cuts every demand into `ways` equal ones, so that a plan may lay them on different paths.
#[must_use]
pub fn split(demands: &[Demand], ways: u32) -> Vec<Demand> {
    let ways = ways.max(1);
    let part = |demand: &Demand| Demand { bytes: demand.bytes / f64::from(ways), ..*demand };
    demands.iter().flat_map(|demand| std::iter::repeat_n(part(demand), ways as usize)).collect()
}

/// Groups of `size` ranks out of all: neighbours, or scattered by a seed.
#[must_use]
pub fn groups(topology: &Topology, size: u32, scattered: Option<u64>) -> Vec<Vec<u32>> {
    let mut ranks: Vec<u32> = (0..topology.endpoint_count()).collect();
    if let Some(seed) = scattered {
        let mut rng = Rng::seeded(seed);
        for index in (1..ranks.len()).rev() {
            ranks.swap(index, rng.below(index as u64 + 1) as usize);
        }
    }
    ranks.chunks(size.max(1) as usize).map(<[u32]>::to_vec).collect()
}
