//! What a failure costs: cables, ports, switches and whole planes go down, flows move, some find no way.
//!
//! * [`strike`]: a component fails in the middle of a transfer; flows on it stand still for the re-route delay.
//! * [`sweep`]: each of many components failed from the start, one at a time; how much longer the whole takes.
//!
//! With two ToRs a GPU (dual-ToR) a lost ToR halves what its GPUs can send; with one they are cut off, and the job
//! stops: such demands are counted as stranded, their time is infinite.

mod sweep;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::flow::{Flows, Options, simulate};
use crate::route::{Demand, Policy, Routed, Router, Wire, route};
use crate::topology::{NodeKind, Topology};

pub use sweep::{Impact, sweep};

/// Something that can fail by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    /// A cable, named by one of its links.
    Cable(u32),
    /// A port of an endpoint, counted among its cables into the network.
    Port {
        /// The endpoint.
        endpoint: u32,
        /// Which of its ports.
        port: u16,
    },
    /// A switch with all its cables.
    Switch(u32),
    /// All switches of a plane.
    Plane(u16),
}

impl Component {
    /// How a person would call it.
    #[must_use]
    pub fn label(self, topology: &Topology) -> String {
        match self {
            Self::Cable(link) if link < topology.link_count() => {
                let ends = [topology.source(link), topology.target(link)].map(|node| topology.label(node));
                format!("cable {} to {}", ends[0], ends[1])
            }
            Self::Cable(link) => format!("cable {link}"),
            Self::Port { endpoint, port } => format!("port {port} of gpu {endpoint}"),
            Self::Switch(node) if node < topology.node_count() => topology.label(node),
            Self::Switch(node) => format!("switch {node}"),
            Self::Plane(plane) => format!("plane {plane}"),
        }
    }
}

/// All ToRs, aggregation and core switches, one at a time.
#[must_use]
pub fn every_switch(topology: &Topology) -> Vec<Component> {
    let switches = (0..topology.node_count()).filter(|&node| topology.kind(node).is_switch());
    switches.map(Component::Switch).collect()
}

/// Marks the links that are down.
///
/// # Errors
/// If a component does not exist.
pub fn down(topology: &Topology, components: &[Component]) -> Result<Vec<bool>> {
    let mut marks = vec![false; topology.link_count() as usize];
    for component in components {
        links_of(topology, *component, |link| {
            marks[link as usize] = true;
            marks[topology.reverse(link) as usize] = true;
        })?;
    }
    Ok(marks)
}

fn links_of(topology: &Topology, component: Component, mut visit: impl FnMut(u32)) -> Result<()> {
    let missing = || Error::invalid("failure", format!("there is no {}", component.label(topology)));
    match component {
        Component::Cable(link) if link < topology.link_count() => visit(link),
        Component::Switch(node) if node < topology.node_count() && topology.kind(node) != NodeKind::Endpoint => {
            topology.links_of(node).for_each(visit);
        }
        Component::Port { endpoint, port } if endpoint < topology.node_count() => {
            let into = topology.links_of(endpoint).filter(|&link| topology.kind(topology.target(link)).is_switch());
            visit(into.into_iter().nth(usize::from(port)).ok_or_else(missing)?);
        }
        Component::Plane(plane) => {
            let switches = (0..topology.node_count())
                .filter(|&node| topology.kind(node).is_switch() && topology.place(node).plane == plane);
            let mut found = false;
            for node in switches {
                found = true;
                topology.links_of(node).for_each(&mut visit);
            }
            if !found {
                return Err(missing());
            }
        }
        Component::Cable(_) | Component::Switch(_) | Component::Port { .. } => return Err(missing()),
    }
    Ok(())
}

/// A failure in the middle of things.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// When.
    pub at_s: f64,
    /// What fails.
    pub components: Vec<Component>,
    /// How long flows on it stand still until they are on another path.
    pub reroute_delay_s: f64,
}

/// What an incident did.
#[derive(Debug, Clone, PartialEq)]
pub struct Struck {
    /// The last finish had nothing failed.
    pub healthy_s: f64,
    /// The last finish of those that finish.
    pub makespan_s: f64,
    /// The finish of each demand, infinite for the stranded.
    pub finish_s: Vec<f64>,
    /// Demands that changed their path.
    pub moved: u32,
    /// Demands that have no path any more.
    pub stranded: u32,
}

/// Runs demands through an incident.
///
/// # Errors
/// If a demand or component does not exist, or a demand has no path even before.
pub fn strike(
    topology: &Topology,
    demands: &[Demand],
    policy: Policy,
    wire: &Wire,
    incident: &Incident,
) -> Result<Struck> {
    let marks = down(topology, &incident.components)?;
    if !(incident.at_s >= 0.0 && incident.reroute_delay_s >= 0.0) {
        return Err(Error::invalid("failure", format!("at {} s", incident.at_s)));
    }
    let healthy = route(topology, &[], demands, policy, wire)?;
    let healthy_s = healthy.simulate(topology.capacities(), wire, &Options::default())?.makespan_s;
    let mut flows = healthy.flows.clone();
    flows.scale_bytes(wire.header_factor);
    let until = Options { until_s: Some(incident.at_s), ..Options::default() };
    let before = simulate(topology.capacities(), &flows, &until)?;
    let left = |demand: usize| before.left_bytes.get(demand).copied().unwrap_or(0.0);
    let mut fate = vec![Fate::Stays; demands.len()];
    let mut moving = Vec::new();
    let mut router = Router::new(topology, &marks)?;
    let mut path = Vec::new();
    for (index, demand) in demands.iter().enumerate() {
        if left(index) <= 0.0 || !flows.path(index).iter().any(|&link| marks[link as usize]) {
            continue;
        }
        if router.hashed(demand, 0, &mut path).is_ok() {
            fate[index] = Fate::Moves(moving.len());
            moving.push(*demand);
        } else {
            fate[index] = Fate::Stranded;
        }
    }
    let moved = route(topology, &marks, &moving, policy, wire)?;
    let mut after = Flows::with_capacity(demands.len(), 4 * demands.len());
    for (index, demand) in demands.iter().enumerate() {
        let start_s = demand.start_s.max(incident.at_s);
        match fate[index] {
            Fate::Stays => flows.copy_to(index, left(index), start_s, &mut after),
            Fate::Moves(at) => moved.flows.copy_to(at, left(index), start_s + incident.reroute_delay_s, &mut after),
            Fate::Stranded => after.push(0.0, start_s, &[]),
        };
    }
    let rest = simulate(topology.capacities(), &after, &Options::default())?;
    let trip = |routed: &Routed, at: usize| wire.round_trips * routed.round_trip_s[at];
    let finish_s: Vec<f64> = (0..demands.len())
        .map(|index| match fate[index] {
            Fate::Stranded => f64::INFINITY,
            _ if left(index) <= 0.0 => before.finish_s[index] + trip(&healthy, index),
            Fate::Stays => rest.finish_s[index] + trip(&healthy, index),
            Fate::Moves(at) => rest.finish_s[index] + trip(&moved, at),
        })
        .collect();
    Ok(Struck {
        healthy_s,
        makespan_s: finish_s.iter().copied().filter(|time| time.is_finite()).fold(0.0, f64::max),
        moved: moving.len() as u32,
        stranded: fate.iter().filter(|fate| **fate == Fate::Stranded).count() as u32,
        finish_s,
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Stays,
    Moves(usize),
    Stranded,
}
