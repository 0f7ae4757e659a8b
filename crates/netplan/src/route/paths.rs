//! Shortest paths over what is up.

use crate::error::{Error, Result};
use crate::topology::{NodeKind, Topology};

use super::Demand;

/// No way to the destination.
const FAR: u8 = u8::MAX;

/// The most bytes that all tables of distances take together.
const TABLES_BYTES_MAX: usize = 1 << 30;

/// Finds paths; keeps the distances to every destination switch that it has met.
#[derive(Debug)]
pub struct Router<'a> {
    pub(super) topology: &'a Topology,
    down: &'a [bool],
    /// Place of a switch in the tables; `u32::MAX` for other nodes.
    number: Vec<u32>,
    switches: Vec<u32>,
    /// Links between switches, by switch: `near[first[s]..first[s + 1]]`, sorted by the number of the target.
    first: Vec<u32>,
    near: Vec<Near>,
    /// For each switch as destination, its table, empty until needed.
    tables: Vec<Vec<u8>>,
    table_bytes: usize,
    queue: Vec<u32>,
    scratch: Scratch,
}

/// Lists that every search needs for a moment, kept to save their allocation.
#[derive(Debug, Default)]
struct Scratch {
    from: Vec<Port>,
    to: Vec<Port>,
    pairs: Vec<(Port, Port, u8)>,
    choices: Vec<u32>,
}

/// A link to another switch.
#[derive(Debug, Clone, Copy)]
struct Near {
    target: u32,
    link: u32,
}

/// A port of an endpoint: the link into the network and the switch behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Port {
    pub(super) link: u32,
    pub(super) switch: u32,
    pub(super) index: u16,
}

impl<'a> Router<'a> {
    /// A router over the links that are not `down` (by link number; empty if all are up).
    ///
    /// # Errors
    /// If `down` is neither empty nor as long as the links.
    pub fn new(topology: &'a Topology, down: &'a [bool]) -> Result<Self> {
        if !down.is_empty() && down.len() != topology.link_count() as usize {
            let detail = format!("{} marks for {} links", down.len(), topology.link_count());
            return Err(Error::invalid("failures", detail));
        }
        let mut number = vec![u32::MAX; topology.node_count() as usize];
        let mut switches = Vec::new();
        for node in (0..topology.node_count()).filter(|&node| topology.kind(node).is_switch()) {
            number[node as usize] = switches.len() as u32;
            switches.push(node);
        }
        let (mut first, mut near) = (vec![0_u32], Vec::new());
        for &switch in &switches {
            let begin = near.len();
            for link in topology.links_of(switch) {
                let target = number[topology.target(link) as usize];
                if target != u32::MAX {
                    near.push(Near { target, link });
                }
            }
            near[begin..].sort_unstable_by_key(|entry| (entry.target, entry.link));
            first.push(near.len() as u32);
        }
        let tables = vec![Vec::new(); switches.len()];
        Ok(Self {
            topology,
            down,
            number,
            switches,
            first,
            near,
            tables,
            table_bytes: 0,
            queue: Vec::new(),
            scratch: Scratch::default(),
        })
    }

    pub(super) fn is_up(&self, link: u32) -> bool {
        self.down.is_empty() || !self.down[link as usize]
    }

    /// The links of `endpoint` into the scale-out network that are up (both ways are, or neither).
    pub(super) fn ports(&self, endpoint: u32) -> impl Iterator<Item = Port> + '_ {
        let links = self.topology.links_of(endpoint);
        let into = links.filter(|&link| self.topology.kind(self.topology.target(link)).is_switch());
        let port = |(index, link): (usize, u32)| Port { link, switch: self.topology.target(link), index: index as u16 };
        into.enumerate().map(port).filter(|port| self.is_up(port.link))
    }

    /// The two links through the switch inside the host, if both endpoints are plugged into one.
    pub(super) fn inside_host(&self, from: u32, to: u32) -> Option<[u32; 2]> {
        let scale_up = |endpoint: u32| {
            let links = self.topology.links_of(endpoint);
            links.into_iter().find(|&link| self.topology.kind(self.topology.target(link)) == NodeKind::ScaleUp)
        };
        let (out, back) = (scale_up(from)?, scale_up(to)?);
        let same = self.topology.target(out) == self.topology.target(back);
        (same && self.is_up(out) && self.is_up(back)).then(|| [out, self.topology.reverse(back)])
    }

    fn ensure_table(&mut self, switch: u32) -> Result<()> {
        let at = self.number[switch as usize] as usize;
        if !self.tables[at].is_empty() {
            return Ok(());
        }
        self.table_bytes += self.switches.len();
        if self.table_bytes > TABLES_BYTES_MAX {
            crate::error::at_most("bytes of routes", self.table_bytes as u64, TABLES_BYTES_MAX as u64)?;
        }
        let mut table = vec![FAR; self.switches.len()];
        table[at] = 0;
        self.queue.clear();
        self.queue.push(at as u32);
        let mut head = 0;
        while head < self.queue.len() {
            let node = self.queue[head] as usize;
            head += 1;
            for entry in self.first[node] as usize..self.first[node + 1] as usize {
                let Near { target, link } = self.near[entry];
                // Distances are towards `switch`, so the link that counts is the one that comes back.
                if table[target as usize] == FAR && self.is_up(self.topology.reverse(link)) {
                    table[target as usize] = table[node].saturating_add(1).min(FAR - 1);
                    self.queue.push(target);
                }
            }
        }
        self.tables[at] = table;
        Ok(())
    }

    /// Switches between the two, 0 if they are one; call after [`Self::ensure_table`].
    fn distance(&self, from: u32, to: u32) -> u8 {
        self.tables[self.number[to as usize] as usize][self.number[from as usize] as usize]
    }

    /// The pairs of ports with the shortest way between them.
    pub(super) fn port_pairs(&mut self, demand: &Demand) -> Result<Vec<(Port, Port)>> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let found = self.find_port_pairs(demand, &mut scratch);
        let pairs = scratch.pairs.iter().map(|&(there, back, _)| (there, back)).collect();
        self.scratch = scratch;
        found.map(|()| pairs)
    }

    fn find_port_pairs(&mut self, demand: &Demand, scratch: &mut Scratch) -> Result<()> {
        let Scratch { from, to, pairs, .. } = scratch;
        from.clear();
        from.extend(self.ports(demand.from));
        to.clear();
        to.extend(self.ports(demand.to));
        for port in to.iter() {
            self.ensure_table(port.switch)?;
        }
        pairs.clear();
        for there in from.iter() {
            let pair = |back: &Port| (*there, *back, self.distance(there.switch, back.switch));
            pairs.extend(to.iter().map(pair).filter(|pair| pair.2 != FAR));
        }
        let wanted = |pair: &(Port, Port, u8)| demand.port.is_none_or(|port| pair.0.index == port);
        if pairs.iter().any(wanted) {
            pairs.retain(wanted);
        }
        let Some(shortest) = pairs.iter().map(|pair| pair.2).min() else {
            return Err(Error::Disconnected { from: demand.from, to: demand.to });
        };
        pairs.retain(|pair| pair.2 == shortest);
        // Both cables of a card may end on one ToR: then port 0 talks to port 0, and not to every other.
        if pairs.iter().any(|pair| pair.0.index == pair.1.index) {
            pairs.retain(|pair| pair.0.index == pair.1.index);
        }
        Ok(())
    }

    /// Calls `visit` with every link from `node` that is one step nearer to `to`, always in the same order.
    pub(super) fn nearer(&self, node: u32, to: u32, mut visit: impl FnMut(u32)) {
        let (node, to) = (self.number[node as usize] as usize, self.number[to as usize]);
        let table = &self.tables[to as usize];
        let here = table[node];
        let mut near = &self.near[self.first[node] as usize..self.first[node + 1] as usize];
        if here == 1 {
            // Only the goal itself is nearer: it is found without looking at the others.
            near = &near[near.partition_point(|entry| entry.target < to)..];
            near = &near[..near.partition_point(|entry| entry.target == to)];
        }
        for entry in near {
            if table[entry.target as usize] < here && self.is_up(entry.link) {
                visit(entry.link);
            }
        }
    }

    /// One path, each choice by a hash of `key` and the switch. The empty path leads to oneself.
    ///
    /// # Errors
    /// If there is none.
    pub fn hashed(&mut self, demand: &Demand, key: u64, path: &mut Vec<u32>) -> Result<()> {
        path.clear();
        if demand.from == demand.to {
            return Ok(());
        }
        if let Some(inside) = self.inside_host(demand.from, demand.to) {
            path.extend(inside);
            return Ok(());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let found = self.find_port_pairs(demand, &mut scratch);
        if found.is_ok() {
            self.hash_a_way(demand, key, &mut scratch, path);
        }
        self.scratch = scratch;
        found
    }

    fn hash_a_way(&self, demand: &Demand, key: u64, scratch: &mut Scratch, path: &mut Vec<u32>) {
        let Scratch { pairs, choices, .. } = scratch;
        let (there, back, _) = pairs[(mix(key, u64::from(demand.from)) % pairs.len() as u64) as usize];
        path.push(there.link);
        let mut node = there.switch;
        // Ends because every step is nearer to the destination.
        while node != back.switch {
            choices.clear();
            self.nearer(node, back.switch, |link| choices.push(link));
            let link = choices[(mix(key, u64::from(node)) % choices.len() as u64) as usize];
            path.push(link);
            node = self.topology.target(link);
        }
        path.push(self.topology.reverse(back.link));
    }

    /// Every shortest path at once: the links with the share of the bytes that each carries.
    ///
    /// # Errors
    /// If there is none.
    pub fn sprayed(&mut self, demand: &Demand, shares: &mut Vec<(u32, f64)>) -> Result<()> {
        shares.clear();
        if demand.from == demand.to {
            return Ok(());
        }
        if let Some(inside) = self.inside_host(demand.from, demand.to) {
            shares.extend(inside.map(|link| (link, 1.0)));
            return Ok(());
        }
        let pairs = self.port_pairs(demand)?;
        let part = 1.0 / pairs.len() as f64;
        for (there, back) in pairs {
            add(shares, there.link, part);
            let mut layer = vec![(there.switch, part)];
            // Ends because every layer is nearer to the destination.
            while layer.iter().any(|&(node, _)| node != back.switch) {
                let mut next: Vec<(u32, f64)> = Vec::new();
                for (node, share) in layer {
                    let mut links = Vec::new();
                    self.nearer(node, back.switch, |link| links.push(link));
                    for &link in &links {
                        let part = share / links.len() as f64;
                        add(shares, link, part);
                        add(&mut next, self.topology.target(link), part);
                    }
                }
                layer = next;
            }
            add(shares, self.topology.reverse(back.link), part);
        }
        Ok(())
    }
}

fn add(list: &mut Vec<(u32, f64)>, key: u32, value: f64) {
    match list.iter_mut().find(|entry| entry.0 == key) {
        Some(entry) => entry.1 += value,
        None => list.push((key, value)),
    }
}

/// Two words into one that looks random (the finaliser of `SplitMix64`).
pub(crate) fn mix(left: u64, right: u64) -> u64 {
    let mut value =
        left.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ right.wrapping_add(0xd1b5_4a32_d192_ed03).rotate_left(31);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
