//! How long a collective takes: a formula an algorithm, the fastest one chosen, constants from measurements.
//!
//! Every formula is `latency + bytes / rate`. Rates are those of the narrowest place that the algorithm crosses, with
//! the share of the line rate that NCCL reaches ([`Machine`]); [`calibrate`] fits both to results of nccl-tests. The
//! flow simulator answers what a formula cannot: which links are shared, and what a failure does.
//!
//! Sources: bus bandwidth as in nccl-tests' PERFORMANCE.md; double binary trees of Sanders, Speck and Träff (2009);
//! the in-switch sum (NVLS) counted by what crosses a GPU's links: `S + S/n` each way for a message of `S`.

pub mod calibrate;
mod machine;
mod measured;
pub mod nccl_tests;

#[cfg(test)]
mod tests;

pub use crate::import::aicb::Kind;
pub use machine::Machine;
pub use measured::{Measured, measured};

/// The way a collective is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Neighbour to neighbour, each byte once around (twice for an all-reduce).
    Ring,
    /// Up one binary tree of hosts and down again; chains inside hosts. Inner nodes limit it to half the rate.
    Tree,
    /// Two trees, each with half of the bytes; a leaf of one is an inner node of the other.
    DoubleBinaryTree,
    /// The switch inside the host adds up.
    Nvls,
    /// The switch adds up inside hosts, two trees among them.
    NvlsTree,
    /// Inside the hosts, then among them over all rails at once, then inside again.
    Hierarchical,
    /// Everybody to everybody, each over its own card.
    Direct,
    /// First to the GPU on the right rail inside the host, then over the rail: one message a host and rail.
    Pxn,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ring,
        Self::Tree,
        Self::DoubleBinaryTree,
        Self::Nvls,
        Self::NvlsTree,
        Self::Hierarchical,
        Self::Direct,
        Self::Pxn,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Tree => "tree",
            Self::DoubleBinaryTree => "double binary tree",
            Self::Nvls => "NVLS",
            Self::NvlsTree => "NVLSTree",
            Self::Hierarchical => "hierarchical",
            Self::Direct => "direct",
            Self::Pxn => "PXN",
        }
    }
}

/// Who takes part: `hosts` hosts with `per_host` ranks each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group {
    /// Hosts.
    pub hosts: u32,
    /// Ranks in each.
    pub per_host: u32,
}

impl Group {
    /// `ranks` consecutive ranks on hosts of `gpus_per_host`, every `stride`th GPU.
    #[must_use]
    pub fn strided(ranks: u32, stride: u32, gpus_per_host: u32) -> Self {
        let per_host = (gpus_per_host / stride.max(1)).clamp(1, ranks.max(1));
        Self { hosts: ranks.div_ceil(per_host).max(1), per_host }
    }

    /// All ranks.
    #[must_use]
    pub fn ranks(self) -> u32 {
        self.hosts.saturating_mul(self.per_host)
    }
}

/// What one algorithm costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Start to end.
    pub seconds: f64,
    /// The part that does not depend on the bytes.
    pub latency_s: f64,
}

impl Cost {
    /// Bus bandwidth in bytes a second, as nccl-tests prints it.
    #[must_use]
    pub fn bus_bytes_per_s(&self, kind: Kind, ranks: u32, bytes: f64) -> f64 {
        kind.bus_factor(ranks) * bytes / self.seconds
    }
}

/// The time of one algorithm, or `None` where it does not exist for this collective and group.
///
/// `bytes` is the size as nccl-tests has it: the whole buffer of a rank (all-gather: of the output).
#[must_use]
pub fn cost(machine: &Machine, kind: Kind, algorithm: Algorithm, group: Group, bytes: f64) -> Option<Cost> {
    let Group { hosts, per_host } = group;
    let (ranks, g, h) = (f64::from(group.ranks()), f64::from(per_host), f64::from(hosts));
    if group.ranks() <= 1 {
        return Some(Cost { algorithm, seconds: 0.0, latency_s: 0.0 });
    }
    let (inside, card) = (machine.inside_bytes_per_s(), machine.card_bytes_per_s());
    let (hop_in, hop_out) = (machine.inside_hop_s, machine.outside_hop_s);
    // Of a host: all cards of the ranks that take part.
    let cards = card * g;
    let all_reduce = kind == Kind::AllReduce;
    let depth = h.log2().ceil().max(0.0);
    let (latency_s, transfer_s) = match algorithm {
        Algorithm::Ring if kind != Kind::AllToAll => {
            let rounds = match kind {
                Kind::AllReduce => 2.0 * (ranks - 1.0),
                Kind::SendReceive => 1.0,
                _ => ranks - 1.0,
            };
            let outside = rounds * (h / ranks).min(1.0) * f64::from(u8::from(hosts > 1));
            let rate = if hosts == 1 { inside } else { machine.several_hosts_share * inside.min(cards) };
            let latency_s = outside * hop_out + (rounds - outside) * hop_in;
            (latency_s, kind.bus_factor(group.ranks()) * bytes / rate)
        }
        Algorithm::Tree | Algorithm::DoubleBinaryTree if all_reduce && hosts > 1 => {
            // An inner node receives from two children what it sends to one parent.
            let halves = if algorithm == Algorithm::Tree && hosts > 2 { 2.0 } else { 1.0 };
            let narrow = if per_host == 1 { cards } else { cards.min(inside * g / (g - 1.0)) };
            let latency_s = 2.0 * (depth * hop_out + (g - 1.0) * hop_in);
            (latency_s, 2.0 * bytes * halves / (machine.several_hosts_share * narrow) * tree_share(hosts))
        }
        Algorithm::Nvls if all_reduce && hosts == 1 && machine.in_switch && per_host > 2 => {
            (machine.in_switch_s, bytes * (1.0 + 1.0 / g) / machine.in_switch_bytes_per_s())
        }
        Algorithm::NvlsTree if all_reduce && hosts > 1 && machine.in_switch && per_host > 2 => {
            let switch = machine.in_switch_bytes_per_s() * 2.0 * g / (g + 1.0);
            let rate = machine.several_hosts_share * cards.min(switch) / tree_share(hosts);
            (machine.in_switch_s + 2.0 * depth * hop_out, 2.0 * bytes / rate)
        }
        Algorithm::Hierarchical if hosts > 1 && per_host > 1 => hierarchical(machine, kind, group, bytes)?,
        Algorithm::Direct if kind == Kind::AllToAll => {
            let outside = bytes * (ranks - g) / ranks / card;
            let own = bytes * (g - 1.0) / ranks / inside;
            (machine.message_s * (ranks - 1.0) + hop_out.max(hop_in), outside.max(own))
        }
        Algorithm::Pxn if kind == Kind::AllToAll && hosts > 1 && per_host > 1 => {
            let outside = bytes * (ranks - g) / ranks / card;
            // Bytes for other rails cross the host's switch once before they leave.
            let own = bytes * ((g - 1.0) / ranks + (ranks - g) / ranks * (g - 1.0) / g) / inside;
            (machine.message_s * (h + g - 2.0) + hop_in + hop_out, outside.max(own))
        }
        _ => return None,
    };
    Some(Cost { algorithm, seconds: latency_s + transfer_s, latency_s })
}

/// Two hosts exchange halves of a tree directly: the sum crosses the wire once and not twice; three in between.
fn tree_share(hosts: u32) -> f64 {
    match hosts {
        0..=2 => 0.5,
        3 => 0.75,
        _ => 1.0,
    }
}

/// Latency and transfer of the three stages.
fn hierarchical(machine: &Machine, kind: Kind, group: Group, bytes: f64) -> Option<(f64, f64)> {
    let (g, h) = (f64::from(group.per_host), f64::from(group.hosts));
    let (inside, card) = (machine.inside_bytes_per_s(), machine.card_bytes_per_s());
    let one_inside = (g - 1.0) / g * bytes / inside;
    let (hop_in, hop_out) = (machine.inside_hop_s * (g - 1.0), machine.outside_hop_s * (h - 1.0));
    Some(match kind {
        Kind::AllReduce => {
            let rails = 2.0 * (h - 1.0) / h * (bytes / g) / card;
            (2.0 * (hop_in + hop_out), 2.0 * one_inside + rails)
        }
        Kind::AllGather | Kind::ReduceScatter => (hop_in + hop_out, one_inside + (h - 1.0) / h * (bytes / g) / card),
        // Everything for the same place in other hosts is first gathered on that rail, and then sent once.
        Kind::AllToAll => {
            let rails = (h - 1.0) / h * bytes / card;
            (machine.message_s * (h + g - 2.0) + machine.inside_hop_s + machine.outside_hop_s, one_inside + rails)
        }
        Kind::Broadcast | Kind::SendReceive => return None,
    })
}

/// The fastest algorithm.
#[must_use]
pub fn best(machine: &Machine, kind: Kind, group: Group, bytes: f64) -> Cost {
    let costs = Algorithm::ALL.into_iter().filter_map(|algorithm| cost(machine, kind, algorithm, group, bytes));
    let none = Cost { algorithm: Algorithm::Ring, seconds: 0.0, latency_s: 0.0 };
    costs.min_by(|left, right| left.seconds.total_cmp(&right.seconds)).unwrap_or(none)
}
