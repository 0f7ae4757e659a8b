//! One failure at a time over one traffic, without simulating again what cannot have changed.
//!
//! A failure moves a few flows. Only flows that share links with those, directly or through others, can get another
//! rate; all the rest keep the finish they had. For the rings of a pod that is a handful of flows out of 30,720.

use super::{Component, links_of};
use crate::error::Result;
use crate::flow::{Flows, Options, simulate};
use crate::route::{Demand, Policy, Router, Wire, route};
use crate::topology::Topology;

/// What a single failure does.
#[derive(Debug, Clone, PartialEq)]
pub struct Impact {
    /// What failed.
    pub component: Component,
    /// The last finish over that of the healthy fabric; infinite if something is stranded.
    pub slowdown: f64,
    /// Demands that take another path.
    pub moved: u32,
    /// Demands without a path.
    pub stranded: u32,
    /// Different jobs among the demands that finish later than before or not at all.
    pub jobs_hit: u32,
}

/// The impact of each component alone. `job[demand]` says whose a demand is (empty: all are one job's).
///
/// # Errors
/// If a component or endpoint does not exist, or a demand has no path in the healthy fabric.
pub fn sweep(
    topology: &Topology,
    demands: &[Demand],
    job: &[u32],
    policy: Policy,
    wire: &Wire,
    components: &[Component],
) -> Result<(f64, Vec<Impact>)> {
    let healthy = route(topology, &[], demands, policy, wire)?;
    let mut flows = healthy.flows;
    flows.scale_bytes(wire.header_factor);
    let outcome = simulate(topology.capacities(), &flows, &Options::default())?;
    let links = topology.link_count() as usize;
    let mut users: Vec<Vec<u32>> = vec![Vec::new(); links];
    for flow in 0..flows.len() {
        for &link in flows.path(flow) {
            users[link as usize].push(flow as u32);
        }
    }
    let mut by_finish: Vec<u32> = (0..flows.len() as u32).collect();
    by_finish.sort_by(|&a, &b| outcome.finish_s[b as usize].total_cmp(&outcome.finish_s[a as usize]));
    let mut state = Sweep {
        topology,
        demands,
        job,
        policy,
        wire,
        flows: &flows,
        healthy_s: &outcome.finish_s,
        users: &users,
        by_finish: &by_finish,
        marks: vec![false; links],
        seen_flow: vec![0; flows.len()],
        seen_link: vec![0; links],
        epoch: 0,
    };
    let impacts = components.iter().map(|component| state.one(*component)).collect::<Result<Vec<Impact>>>()?;
    Ok((outcome.makespan_s, impacts))
}

struct Sweep<'a> {
    topology: &'a Topology,
    demands: &'a [Demand],
    job: &'a [u32],
    policy: Policy,
    wire: &'a Wire,
    flows: &'a Flows,
    healthy_s: &'a [f64],
    users: &'a [Vec<u32>],
    /// Latest finish first.
    by_finish: &'a [u32],
    marks: Vec<bool>,
    seen_flow: Vec<u32>,
    seen_link: Vec<u32>,
    epoch: u32,
}

impl Sweep<'_> {
    fn one(&mut self, component: Component) -> Result<Impact> {
        let mut dead = Vec::new();
        links_of(self.topology, component, |link| dead.extend([link, self.topology.reverse(link)]))?;
        dead.iter().for_each(|&link| self.marks[link as usize] = true);
        let impact = self.impact(component, &dead);
        dead.iter().for_each(|&link| self.marks[link as usize] = false);
        impact
    }

    fn impact(&mut self, component: Component, dead: &[u32]) -> Result<Impact> {
        let mut hit: Vec<u32> = dead.iter().flat_map(|&link| self.users[link as usize].iter().copied()).collect();
        hit.sort_unstable();
        hit.dedup();
        let mut jobs: Vec<u32> = Vec::new();
        let job_of = |flow: u32| self.job.get(flow as usize).copied().unwrap_or(0);
        let (mut moving, mut stranded) = (Vec::new(), 0);
        let mut router = Router::new(self.topology, &self.marks)?;
        let mut path = Vec::new();
        for &flow in &hit {
            if router.hashed(&self.demands[flow as usize], 0, &mut path).is_ok() {
                moving.push(flow);
            } else {
                stranded += 1;
                jobs.push(job_of(flow));
            }
        }
        let demands: Vec<Demand> = moving.iter().map(|&flow| self.demands[flow as usize]).collect();
        let mut moved = route(self.topology, &self.marks, &demands, self.policy, self.wire)?.flows;
        moved.scale_bytes(self.wire.header_factor);
        let touched = self.touched(&hit, &moved);
        let mut again = Flows::with_capacity(touched.len() + moving.len(), 4 * (touched.len() + moving.len()));
        for &flow in &touched {
            let flow = flow as usize;
            self.flows.copy_to(flow, self.flows.bytes(flow), self.flows.start_s(flow), &mut again);
        }
        for flow in 0..moved.len() {
            moved.copy_to(flow, moved.bytes(flow), moved.start_s(flow), &mut again);
        }
        let outcome = simulate(self.topology.capacities(), &again, &Options::default())?;
        for (&flow, after_s) in touched.iter().chain(&moving).zip(&outcome.finish_s) {
            if *after_s > self.healthy_s[flow as usize] * (1.0 + 1e-9) {
                jobs.push(job_of(flow));
            }
        }
        jobs.sort_unstable();
        jobs.dedup();
        let same = |flow: &&u32| self.seen_flow[**flow as usize] != self.epoch;
        let untouched_s = self.by_finish.iter().find(same).map_or(0.0, |&flow| self.healthy_s[flow as usize]);
        let last_s = self.by_finish.first().map_or(0.0, |&flow| self.healthy_s[flow as usize]);
        let after_s = outcome.makespan_s.max(untouched_s);
        let slowdown = if stranded > 0 { f64::INFINITY } else { after_s / last_s.max(f64::MIN_POSITIVE) };
        Ok(Impact { component, slowdown, moved: moving.len() as u32, stranded, jobs_hit: jobs.len() as u32 })
    }

    /// The flows, besides those that were hit, whose rate may change: all that are connected by links to where a flow
    /// left or came.
    fn touched(&mut self, hit: &[u32], moved: &Flows) -> Vec<u32> {
        self.epoch += 1;
        let mut links: Vec<u32> = Vec::new();
        let mut touched = Vec::new();
        for &flow in hit {
            self.seen_flow[flow as usize] = self.epoch;
            links.extend(self.flows.path(flow as usize));
        }
        (0..moved.len()).for_each(|flow| links.extend(moved.path(flow)));
        // Ends because a link is looked at once.
        while let Some(link) = links.pop() {
            if std::mem::replace(&mut self.seen_link[link as usize], self.epoch) == self.epoch {
                continue;
            }
            for &flow in &self.users[link as usize] {
                if self.seen_flow[flow as usize] != self.epoch {
                    self.seen_flow[flow as usize] = self.epoch;
                    touched.push(flow);
                    links.extend(self.flows.path(flow as usize));
                }
            }
        }
        touched
    }
}
