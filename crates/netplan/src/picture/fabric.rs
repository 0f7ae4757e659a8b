//! The fabric as tiers. Large ones are folded: a box stands for many switches and says how many.

use std::fmt::Write as _;

use super::escape;
use crate::topology::{NodeKind, Topology};

/// The most boxes of a row.
const BOXES_MAX: usize = 16;

struct Tier {
    boxes: Vec<Box>,
    folded: bool,
}

struct Box {
    label: String,
    nodes: Vec<u32>,
}

/// Draws cores, aggregation switches, ToRs and hosts, with the cables between boxes; `broken` nodes are marked.
#[must_use]
pub fn topology(topology: &Topology, broken: &[u32]) -> String {
    let kinds = [NodeKind::Core, NodeKind::Aggregation, NodeKind::Site, NodeKind::Tor];
    let mut tiers: Vec<(NodeKind, Tier)> = kinds
        .into_iter()
        .map(|kind| (kind, switches(topology, kind)))
        .filter(|(_, tier)| !tier.boxes.is_empty())
        .collect();
    tiers.push((NodeKind::Endpoint, hosts(topology)));
    let mut place = vec![usize::MAX; topology.node_count() as usize];
    let mut spots: Vec<(f64, f64)> = Vec::new();
    for (row, (_, tier)) in tiers.iter().enumerate() {
        let step = 880.0 / tier.boxes.len() as f64;
        for (column, one) in tier.boxes.iter().enumerate() {
            one.nodes.iter().for_each(|&node| place[node as usize] = spots.len());
            spots.push((110.0 + step * (column as f64 + 0.5), 30.0 + 92.0 * row as f64));
        }
    }
    let mut svg = format!("<svg viewBox=\"0 0 1000 {}\" role=img>", 92 * tiers.len() - 20);
    svg.push_str(&cables(topology, &place, &spots));
    let mut spot = 0;
    for (row, (kind, tier)) in tiers.iter().enumerate() {
        let word = if *kind == NodeKind::Endpoint { "hosts" } else { kind.word() };
        let folded = if tier.folded { ", folded" } else { "" };
        let _ = write!(svg, "<text class=soft x=0 y={}>{word}{folded}</text>", 34 + 92 * row);
        let width = (880.0 / tier.boxes.len() as f64 - 6.0).clamp(14.0, 120.0);
        for one in &tier.boxes {
            let (x, y) = spots[spot];
            spot += 1;
            let lost = one.nodes.iter().filter(|node| broken.contains(node)).count();
            let colour = if lost > 0 { "var(--c6)" } else { "var(--card)" };
            let _ = write!(
                svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=30 rx=4 fill=\"{colour}\" \
                 stroke=\"var(--c1)\"><title>{} nodes</title></rect><text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=middle>{}</text>",
                x - width / 2.0,
                y - 15.0,
                one.nodes.len(),
                y + 4.0,
                escape(&one.label)
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn switches(topology: &Topology, kind: NodeKind) -> Tier {
    let mut nodes: Vec<u32> = topology.nodes_of_kind(kind).collect();
    nodes.sort_by_key(|&node| (topology.place(node).plane, topology.place(node).group, node));
    if nodes.len() <= BOXES_MAX {
        let boxes = nodes.iter().map(|&node| Box { label: short(topology, node), nodes: vec![node] }).collect();
        return Tier { boxes, folded: false };
    }
    let planes = nodes.iter().map(|&node| usize::from(topology.place(node).plane) + 1).max().unwrap_or(1);
    let per_plane = (BOXES_MAX / planes).max(1);
    let mut boxes = Vec::new();
    for plane in 0..planes {
        let own: Vec<u32> =
            nodes.iter().copied().filter(|&node| usize::from(topology.place(node).plane) == plane).collect();
        for part in own.chunks(own.len().div_ceil(per_plane).max(1)) {
            boxes.push(Box { label: format!("{}×", part.len()), nodes: part.to_vec() });
        }
    }
    Tier { boxes, folded: true }
}

fn short(topology: &Topology, node: u32) -> String {
    let place = topology.place(node);
    match topology.kind(node) {
        NodeKind::Tor => format!("{}.{}.{}", place.group, place.rail, place.plane),
        NodeKind::Aggregation => format!("{}.{}", place.rail.max(place.group as u16), place.plane),
        _ => place.group.to_string(),
    }
}

fn hosts(topology: &Topology) -> Tier {
    let per_host = topology.endpoints_per_host();
    let count = (topology.endpoint_count() / per_host).max(1);
    let part = count.div_ceil(BOXES_MAX as u32).max(1);
    let boxes = (0..count.div_ceil(part))
        .map(|index| {
            let last = ((index + 1) * part).min(count);
            let nodes: Vec<u32> = (index * part * per_host..last * per_host).collect();
            let hosts = last - index * part;
            let label = if part == 1 { format!("host {index}") } else { format!("{hosts}×{per_host}") };
            Box { label, nodes }
        })
        .collect();
    Tier { boxes, folded: part > 1 }
}

/// A line for each pair of boxes with a cable between them, the thicker the more it can carry.
fn cables(topology: &Topology, place: &[usize], spots: &[(f64, f64)]) -> String {
    let mut sums: std::collections::BTreeMap<(usize, usize), (u32, f64)> = std::collections::BTreeMap::new();
    for link in 0..topology.link_count() {
        let ends = [topology.source(link), topology.target(link)].map(|node| place[node as usize]);
        if ends[0] < ends[1] && ends[1] != usize::MAX {
            let sum = sums.entry((ends[0], ends[1])).or_default();
            sum.0 += 1;
            sum.1 += topology.capacities()[link as usize];
        }
    }
    let most = sums.values().map(|sum| sum.1).fold(0.0, f64::max);
    let mut out = String::new();
    for ((upper, lower), (count, rate)) in &sums {
        let ((x1, y1), (x2, y2)) = (spots[*upper], spots[*lower]);
        let width = 0.5 + 2.5 * rate / most.max(f64::MIN_POSITIVE);
        let _ = write!(
            out,
            "<line x1=\"{x1:.1}\" y1=\"{:.1}\" x2=\"{x2:.1}\" y2=\"{:.1}\" stroke=\"var(--c5)\" \
             stroke-width=\"{width:.2}\"><title>{count} cables, {:.0} Gbps</title></line>",
            y1 + 15.0,
            y2 - 15.0,
            rate * 8e-9
        );
    }
    out
}
