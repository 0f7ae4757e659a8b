//! One path a flow, chosen with knowledge of all of them.
//!
//! Each flow takes in turn the shortest path whose fullest link stays emptiest, then flows on the fullest links are
//! taken up again and laid anew, a few rounds long. Links are compared by seconds (bytes over capacity), so a fast
//! uplink takes more flows than a slow one. The result is not proven optimal: finding the best is NP-hard in general
//! (unsplittable multi-commodity flow), and [`super::Policy::Sprayed`] gives the bound that nothing can beat.

use super::paths::Router;
use super::paths::mix;
use super::{Demand, Routed, Wire};
use crate::error::Result;

/// Rounds of taking up flows from full links.
const ROUNDS: usize = 12;
/// Rounds without any gain before the search ends.
const IDLE_MAX: u32 = 3;
/// The most paths of a demand that are compared; of more, so many are drawn.
const PATHS_MAX: usize = 512;

pub(super) fn route(router: &mut Router<'_>, demands: &[Demand], wire: &Wire) -> Result<Routed> {
    let topology = router.topology;
    let capacities = topology.capacities();
    let mut load_s = vec![0.0_f64; capacities.len()];
    let mut chosen: Vec<Vec<u32>> = Vec::with_capacity(demands.len());
    let mut search = Search::default();
    for (index, demand) in demands.iter().enumerate() {
        let path = search.best(router, demand, index as u64, &load_s)?;
        put(&mut load_s, capacities, &path, demand.bytes);
        chosen.push(path);
    }
    let (mut lowest_s, mut idle) = (f64::INFINITY, 0);
    for round in 1..=ROUNDS {
        let fullest_s = load_s.iter().copied().fold(0.0, f64::max);
        // Moving flows about among equals helps sometimes, but not for ever.
        idle = if fullest_s < 0.999 * lowest_s { 0 } else { idle + 1 };
        lowest_s = lowest_s.min(fullest_s);
        if idle > IDLE_MAX || ends_are_fullest(&load_s, &chosen, fullest_s) {
            break;
        }
        for (index, demand) in demands.iter().enumerate() {
            let own = chosen[index].iter().map(|&link| load_s[link as usize]).fold(0.0, f64::max);
            if own < 0.999 * fullest_s {
                continue;
            }
            put(&mut load_s, capacities, &chosen[index], -demand.bytes);
            let path = search.best(router, demand, mix(round as u64, index as u64), &load_s)?;
            put(&mut load_s, capacities, &path, demand.bytes);
            chosen[index] = path;
        }
    }
    let mut routed = Routed::with_capacity(demands.len());
    for (demand, path) in demands.iter().zip(&chosen) {
        routed.push(topology, demand, path, wire);
    }
    Ok(routed)
}

/// Whether the fullest link is the port of an endpoint: then no other path helps.
fn ends_are_fullest(load_s: &[f64], chosen: &[Vec<u32>], fullest_s: f64) -> bool {
    let mut ends = chosen.iter().flat_map(|path| [path.first(), path.last()]).flatten();
    ends.any(|&link| load_s[link as usize] >= 0.999 * fullest_s)
}

fn put(load_s: &mut [f64], capacities: &[f64], path: &[u32], bytes: f64) {
    for &link in path {
        load_s[link as usize] += bytes / capacities[link as usize];
    }
}

#[derive(Default)]
struct Search {
    path: Vec<u32>,
    best: Vec<u32>,
    best_cost: (f64, f64),
    seen: usize,
}

impl Search {
    /// The path whose fullest link would be emptiest; ties by the sum, then by the order from `key`.
    fn best(&mut self, router: &mut Router<'_>, demand: &Demand, key: u64, load_s: &[f64]) -> Result<Vec<u32>> {
        router.hashed(demand, key, &mut self.path)?;
        if self.path.len() <= 2 && demand.port.is_some() {
            return Ok(self.path.clone());
        }
        if router.inside_host(demand.from, demand.to).is_some() || demand.from == demand.to {
            return Ok(self.path.clone());
        }
        self.best.clone_from(&self.path);
        self.best_cost = (f64::INFINITY, f64::INFINITY);
        self.seen = 0;
        for (there, back) in router.port_pairs(demand)? {
            self.path.clear();
            self.path.push(there.link);
            let end = router.topology.reverse(back.link);
            self.walk(router, there.switch, back.switch, end, key, load_s);
        }
        Ok(self.best.clone())
    }

    /// Walks every shortest path from `node`; the recursion is as deep as the network has tiers.
    fn walk(&mut self, router: &Router<'_>, node: u32, goal: u32, end: u32, key: u64, load_s: &[f64]) {
        if self.seen >= PATHS_MAX {
            return;
        }
        if node == goal {
            self.path.push(end);
            self.judge(load_s);
            self.path.pop();
            return;
        }
        let mut links = Vec::new();
        router.nearer(node, goal, |link| links.push(link));
        let turn = (mix(key, u64::from(node)) % links.len().max(1) as u64) as usize;
        links.rotate_left(turn);
        for link in links {
            self.path.push(link);
            self.walk(router, router.topology.target(link), goal, end, key, load_s);
            self.path.pop();
        }
    }

    fn judge(&mut self, load_s: &[f64]) {
        self.seen += 1;
        // What the flow itself adds is the same on every path of one shape, so the loads decide.
        let (mut fullest, mut sum) = (0.0_f64, 0.0);
        for &link in &self.path[1..self.path.len() - 1] {
            fullest = fullest.max(load_s[link as usize]);
            sum += load_s[link as usize];
        }
        let ends = load_s[self.path[0] as usize].max(load_s[self.path[self.path.len() - 1] as usize]);
        let cost = (fullest.max(ends), sum);
        if cost.0 < self.best_cost.0 - 1e-15 || (cost.0 <= self.best_cost.0 && cost.1 < self.best_cost.1 - 1e-15) {
            self.best_cost = cost;
            self.best.clone_from(&self.path);
        }
    }
}
