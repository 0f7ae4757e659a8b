//! Symmetry: colour refinement of flows and links.
//!
//! Two flows get one colour if they are of one size and start and cross links of the same colours; two links if they
//! are of one capacity and carry flows of the same colours. Refined until nothing splits, the classes are equitable:
//! every link of a class carries the same weight of each flow class. Progressive filling then fills links of a class
//! together and freezes flows of a class together, at every instant, so one of each class gives the exact answer.
//!
//! Colours are 64-bit hashes; with a million of them a false merge has a chance below 1e-7 a run.

use super::Flows;

/// Flow classes on link classes: what is simulated.
pub(super) struct Problem {
    /// Capacity of one link of each class.
    pub(super) capacity: Vec<f64>,
    /// CSR over flow classes.
    pub(super) first: Vec<u32>,
    /// The link class of an entry.
    pub(super) link: Vec<u32>,
    /// What one unit of the class's rate takes of each link of that class.
    pub(super) weight: Vec<f64>,
    /// Bytes of each flow of the class.
    pub(super) bytes: Vec<f64>,
    /// Start of each flow of the class.
    pub(super) start_s: Vec<f64>,
    /// The class of every flow.
    pub(super) class_of_flow: Vec<u32>,
}

impl Problem {
    pub(super) fn flows(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn links(&self) -> usize {
        self.capacity.len()
    }

    pub(super) fn entries(&self, flow: u32) -> std::ops::Range<usize> {
        self.first[flow as usize] as usize..self.first[flow as usize + 1] as usize
    }

    /// Every flow and every link its own class.
    pub(super) fn direct(capacities: &[f64], flows: &Flows) -> Self {
        Self {
            capacity: capacities.to_vec(),
            first: if flows.first.is_empty() { vec![0] } else { flows.first.clone() },
            link: flows.links.clone(),
            weight: (0..flows.links.len()).map(|entry| flows.share(entry)).collect(),
            bytes: flows.bytes.clone(),
            start_s: flows.start_s.clone(),
            class_of_flow: (0..flows.len() as u32).collect(),
        }
    }

    /// Classes by colour refinement.
    pub(super) fn reduced(capacities: &[f64], flows: &Flows) -> Self {
        let colours = refine(capacities, flows);
        let (link_class, link_members) = number(&colours.link);
        let (class_of_flow, flow_members) = number(&colours.flow);
        let mut capacity = vec![0.0; link_members.len()];
        for (link, &class) in link_class.iter().enumerate() {
            capacity[class as usize] = capacities[link];
        }
        let mut problem = Self {
            capacity,
            first: vec![0],
            link: Vec::new(),
            weight: Vec::new(),
            bytes: Vec::with_capacity(flow_members.len()),
            start_s: Vec::with_capacity(flow_members.len()),
            class_of_flow,
        };
        let mut path: Vec<(u32, f64)> = Vec::new();
        for flow in 0..flows.len() {
            // Classes are numbered in the order of their first flow, which stands for them.
            if problem.class_of_flow[flow] as usize != problem.bytes.len() {
                continue;
            }
            let members = f64::from(flow_members[problem.bytes.len()]);
            path.clear();
            path.extend(flows.range(flow).map(|entry| (link_class[flows.links[entry] as usize], flows.share(entry))));
            path.sort_unstable_by_key(|entry| entry.0);
            for &(class, share) in &path {
                let weight = share * members / f64::from(link_members[class as usize]);
                let own = problem.first[problem.bytes.len()] as usize;
                if problem.link.len() > own && problem.link.last() == Some(&class) {
                    *problem.weight.last_mut().expect("as long as `link`") += weight;
                } else {
                    problem.link.push(class);
                    problem.weight.push(weight);
                }
            }
            problem.first.push(problem.link.len() as u32);
            problem.bytes.push(flows.bytes[flow]);
            problem.start_s.push(flows.start_s[flow]);
        }
        problem
    }
}

struct Colours {
    flow: Vec<u64>,
    link: Vec<u64>,
}

fn refine(capacities: &[f64], flows: &Flows) -> Colours {
    let mut flow: Vec<u64> =
        flows.bytes.iter().zip(&flows.start_s).map(|(bytes, start)| mix(bytes.to_bits(), start.to_bits())).collect();
    let mut link: Vec<u64> = capacities.iter().map(|capacity| mix(capacity.to_bits(), 0)).collect();
    let mut classes = distinct(&link);
    let mut sums = vec![0_u64; capacities.len()];
    // Ends because the number of link classes grows in every round but the last, and cannot pass the links.
    loop {
        sums.fill(0);
        for (index, colour) in flow.iter_mut().enumerate() {
            let range = flows.range(index);
            let path = &flows.links[range.clone()];
            if flows.shares.is_empty() {
                let sum = path.iter().fold(0_u64, |sum, &link_at| sum.wrapping_add(scramble(link[link_at as usize])));
                *colour = mix(*colour, sum);
                let contribution = scramble(*colour);
                for &link_at in path {
                    sums[link_at as usize] = sums[link_at as usize].wrapping_add(contribution);
                }
            } else {
                let shares = &flows.shares[range];
                let sum = path.iter().zip(shares).fold(0_u64, |sum, (&link_at, share)| {
                    sum.wrapping_add(mix(link[link_at as usize], share.to_bits()))
                });
                *colour = mix(*colour, sum);
                for (&link_at, share) in path.iter().zip(shares) {
                    let slot = &mut sums[link_at as usize];
                    *slot = slot.wrapping_add(mix(*colour, share.to_bits()));
                }
            }
        }
        for (colour, &sum) in link.iter_mut().zip(&sums) {
            *colour = mix(*colour, sum);
        }
        let now = distinct(&link);
        if now == classes {
            return Colours { flow, link };
        }
        classes = now;
    }
}

fn mix(left: u64, right: u64) -> u64 {
    scramble(left.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ right.rotate_left(32))
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
fn scramble(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn distinct(colours: &[u64]) -> usize {
    let mut sorted = colours.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len()
}

/// Gives every colour a number in the order of first appearance; returns the numbers and how many share each.
fn number(colours: &[u64]) -> (Vec<u32>, Vec<u32>) {
    const EMPTY: u32 = u32::MAX;
    let slots = (colours.len() * 2).next_power_of_two().max(16);
    let mut table: Vec<(u64, u32)> = vec![(0, EMPTY); slots];
    let mut members: Vec<u32> = Vec::new();
    let numbers = colours
        .iter()
        .map(|&colour| {
            // Linear probing ends because the table is at most half full.
            let mut slot = (colour as usize) & (slots - 1);
            while table[slot].1 != EMPTY && table[slot].0 != colour {
                slot = (slot + 1) & (slots - 1);
            }
            if table[slot].1 == EMPTY {
                table[slot] = (colour, members.len() as u32);
                members.push(0);
            }
            members[table[slot].1 as usize] += 1;
            table[slot].1
        })
        .collect();
    (numbers, members)
}
