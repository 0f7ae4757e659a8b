//! From a list of cables to CSR.

use super::{LINKS_MAX, NODES_MAX, NodeKind, Place, Topology};
use crate::error::{Error, Result, at_most};

/// Collects nodes and cables; [`Builder::finish`] sorts them into a [`Topology`].
///
/// Endpoints have to come first, spares right after them.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    notes: Vec<String>,
    kinds: Vec<NodeKind>,
    places: Vec<Place>,
    cables: Vec<Cable>,
    spare_count: u32,
    endpoints_per_host: u32,
}

#[derive(Debug, Clone, Copy)]
struct Cable {
    ends: [u32; 2],
    spec: CableSpec,
}

/// What a cable can carry, each way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CableSpec {
    /// Bytes a second, each way.
    pub bytes_per_s: f64,
    /// One-way latency.
    pub latency_ns: u32,
    /// Share of packets lost.
    pub loss: f32,
}

impl CableSpec {
    /// A cable of so many gigabits a second, without loss.
    #[must_use]
    pub fn gbps(gbps: f64, latency_ns: u32) -> Self {
        Self { bytes_per_s: gbps * 1e9 / 8.0, latency_ns, loss: 0.0 }
    }
}

impl Builder {
    /// An empty network of hosts with so many endpoints each.
    #[must_use]
    pub fn named(name: impl Into<String>, endpoints_per_host: u32) -> Self {
        Self {
            name: name.into(),
            notes: Vec::new(),
            kinds: Vec::new(),
            places: Vec::new(),
            cables: Vec::new(),
            spare_count: 0,
            endpoints_per_host: endpoints_per_host.max(1),
        }
    }

    /// Adds a sentence that a reader of results must know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Says that the last `count` endpoints are spares.
    pub fn spares(&mut self, count: u32) {
        self.spare_count = count;
    }

    /// Adds a node and returns its number.
    pub fn node(&mut self, kind: NodeKind, place: Place) -> u32 {
        self.kinds.push(kind);
        self.places.push(place);
        self.kinds.len() as u32 - 1
    }

    /// Adds a cable between two nodes.
    pub fn cable(&mut self, left: u32, right: u32, spec: CableSpec) {
        self.cables.push(Cable { ends: [left, right], spec });
    }

    /// The finished network.
    ///
    /// # Errors
    /// If it is too large, a cable has no capacity or an end that does not exist, or an endpoint follows a switch.
    pub fn finish(self) -> Result<Topology> {
        at_most("nodes", self.kinds.len() as u64, NODES_MAX)?;
        at_most("directed links", 2 * self.cables.len() as u64, LINKS_MAX)?;
        let endpoints = self.kinds.iter().take_while(|&&kind| kind == NodeKind::Endpoint).count() as u32;
        if self.kinds.iter().filter(|&&kind| kind == NodeKind::Endpoint).count() as u32 != endpoints {
            return Err(Error::invalid("topology", "an endpoint comes after a switch"));
        }
        if endpoints == 0 || self.spare_count >= endpoints {
            return Err(Error::invalid("topology", "there is no endpoint in use"));
        }
        for cable in &self.cables {
            self.check(cable)?;
        }
        Ok(self.sorted(endpoints))
    }

    fn check(&self, cable: &Cable) -> Result<()> {
        let nodes = self.kinds.len() as u32;
        let [left, right] = cable.ends;
        if left >= nodes || right >= nodes || left == right {
            return Err(Error::invalid("cable", format!("{left} to {right} in a network of {nodes} nodes")));
        }
        let CableSpec { bytes_per_s, loss, .. } = cable.spec;
        if !(bytes_per_s.is_finite() && bytes_per_s > 0.0 && (0.0..1.0).contains(&loss)) {
            return Err(Error::invalid(
                "cable",
                format!("{left} to {right} carries {bytes_per_s} bytes/s, loss {loss}"),
            ));
        }
        Ok(())
    }

    fn sorted(self, endpoints: u32) -> Topology {
        let nodes = self.kinds.len();
        let mut first_link = vec![0_u32; nodes + 1];
        for cable in &self.cables {
            for end in cable.ends {
                first_link[end as usize + 1] += 1;
            }
        }
        for node in 0..nodes {
            first_link[node + 1] += first_link[node];
        }
        let links = 2 * self.cables.len();
        let mut next = first_link.clone();
        let mut out = Topology {
            name: self.name,
            notes: self.notes,
            kinds: self.kinds,
            places: self.places,
            first_link,
            from: vec![0; links],
            to: vec![0; links],
            reverse: vec![0; links],
            capacity_bytes_per_s: vec![0.0; links],
            latency_ns: vec![0; links],
            loss: if self.cables.iter().any(|cable| cable.spec.loss > 0.0) { vec![0.0; links] } else { Vec::new() },
            endpoint_count: endpoints - self.spare_count,
            spare_count: self.spare_count,
            endpoints_per_host: self.endpoints_per_host,
        };
        for cable in &self.cables {
            let [left, right] = cable.ends;
            let there = take_slot(&mut next[left as usize]);
            let back = take_slot(&mut next[right as usize]);
            for (link, source, target, other) in [(there, left, right, back), (back, right, left, there)] {
                let link = link as usize;
                out.from[link] = source;
                out.to[link] = target;
                out.reverse[link] = other;
                out.capacity_bytes_per_s[link] = cable.spec.bytes_per_s;
                out.latency_ns[link] = cable.spec.latency_ns;
                if !out.loss.is_empty() {
                    out.loss[link] = cable.spec.loss;
                }
            }
        }
        out
    }
}

fn take_slot(next: &mut u32) -> u32 {
    *next += 1;
    *next - 1
}
