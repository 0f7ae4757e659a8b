//! Ways between sites: how far, how fast, and when a message of so many bytes is answered.
//!
//! Sites are the endpoints of a [`Topology`]; links between them carry latency and loss. A message takes the way of
//! least latency, as routing protocols with such a metric do.
//!
//! A connection that is open already carries a message in one round trip and what its bytes need beyond the first
//! window: slow start doubles a window of ten segments (RFC 6928) every round trip until the rate of the way is full.
//! That rate is the least of its links' and of what loss leaves to one TCP connection, `MSS / RTT * sqrt(3 / 2p)`
//! (Mathis, Semke, Mahdavi, Ott: The macroscopic behavior of the TCP congestion avoidance algorithm, 1997).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::topology::Topology;

/// Payload of a TCP segment on Ethernet: 1,500 bytes less 20 for IP and 20 for TCP.
const SEGMENT_BYTES: f64 = 1_460.0;
/// Segments that a connection may send before it hears anything (RFC 6928).
const FIRST_WINDOW_SEGMENTS: f64 = 10.0;

/// How one site is reached from another.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The sites on it, both ends included.
    pub sites: Vec<u32>,
    /// There and back, in seconds.
    pub round_trip_s: f64,
    /// Of the narrowest link.
    pub bytes_per_s: f64,
    /// Share of packets that is lost one way.
    pub loss: f64,
}

impl Way {
    /// What one connection gets, in bytes a second.
    #[must_use]
    pub fn connection_bytes_per_s(&self) -> f64 {
        if self.loss <= 0.0 || self.round_trip_s <= 0.0 {
            return self.bytes_per_s;
        }
        let mathis = SEGMENT_BYTES / self.round_trip_s * (1.5 / self.loss).sqrt();
        mathis.min(self.bytes_per_s)
    }

    /// From the first byte sent on an open connection until the first byte of an answer to all of them, in seconds,
    /// without what the other side needs to think.
    #[must_use]
    pub fn message_s(&self, bytes: u64) -> f64 {
        let rate = self.connection_bytes_per_s();
        let full_window = rate * self.round_trip_s;
        let (mut window, mut left, mut waited_s) = (FIRST_WINDOW_SEGMENTS * SEGMENT_BYTES, bytes as f64, 0.0);
        // Ends because the window doubles.
        while left > window && window < full_window {
            left -= window;
            waited_s += self.round_trip_s;
            window *= 2.0;
        }
        waited_s + left / rate + self.round_trip_s
    }
}

/// The ways from one site to every other, by their numbers; `None` where there is none. O(links log sites).
#[must_use]
pub fn ways(topology: &Topology, from: u32) -> Vec<Option<Way>> {
    let count = topology.node_count() as usize;
    let mut latency_ns = vec![u64::MAX; count];
    let mut last_link = vec![None; count];
    let mut next = BinaryHeap::new();
    if let Some(start) = latency_ns.get_mut(from as usize) {
        *start = 0;
        next.push(Reverse((0, from)));
    }
    while let Some(Reverse((so_far_ns, node))) = next.pop() {
        if so_far_ns > latency_ns[node as usize] {
            continue;
        }
        for link in topology.links_of(node) {
            let (to, there_ns) = (topology.target(link), so_far_ns + u64::from(topology.latency_ns(link)));
            if there_ns < latency_ns[to as usize] {
                latency_ns[to as usize] = there_ns;
                last_link[to as usize] = Some(link);
                next.push(Reverse((there_ns, to)));
            }
        }
    }
    let way = |to: u32| (latency_ns[to as usize] < u64::MAX).then(|| followed(topology, &last_link, to));
    (0..topology.node_count()).map(way).collect()
}

/// The way that the last links describe, read from its end.
fn followed(topology: &Topology, last_link: &[Option<u32>], to: u32) -> Way {
    let mut way = Way { sites: vec![to], round_trip_s: 0.0, bytes_per_s: f64::INFINITY, loss: 0.0 };
    let mut at = to;
    // A tree of shortest ways has no circle.
    while let Some(link) = last_link[at as usize] {
        let both_ns = f64::from(topology.latency_ns(link)) + f64::from(topology.latency_ns(topology.reverse(link)));
        way.round_trip_s += both_ns / 1e9;
        way.bytes_per_s = way.bytes_per_s.min(topology.capacities()[link as usize]);
        way.loss = 1.0 - (1.0 - way.loss) * (1.0 - f64::from(topology.loss(link)));
        at = topology.source(link);
        way.sites.push(at);
    }
    way.sites.reverse();
    way
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::{Way, ways};
    use crate::topology::{Builder, CableSpec, NodeKind, Place, Topology};

    fn sites(count: u32, links: &[(u32, u32, f64, u32, f32)]) -> Topology {
        let mut builder = Builder::named("sites", 1);
        (0..count).for_each(|_| _ = builder.node(NodeKind::Endpoint, Place::default()));
        for &(left, right, gbps, latency_ns, loss) in links {
            builder.cable(left, right, CableSpec { loss, ..CableSpec::gbps(gbps, latency_ns) });
        }
        builder.finish().unwrap()
    }

    #[test]
    fn the_nearest_way_is_as_narrow_as_its_narrowest_link() {
        let links = [(0, 1, 10.0, 5_000_000, 0.0), (1, 2, 1.0, 5_000_000, 0.001), (0, 2, 100.0, 20_000_000, 0.0)];
        let found = ways(&sites(4, &links), 0);
        let two = found[2].as_ref().unwrap();
        assert_eq!(two.sites, [0, 1, 2]);
        assert!((two.round_trip_s - 0.02).abs() < 1e-12 && (two.bytes_per_s - 125e6).abs() < 1e-3, "{two:?}");
        assert!((two.loss - 0.001).abs() < 1e-9, "{two:?}");
        // 1460 B / 20 ms * sqrt(1.5 / 0.001): 2.83 MB/s, far below the link's 125.
        assert!((two.connection_bytes_per_s() / 2.827e6 - 1.0).abs() < 1e-3, "{}", two.connection_bytes_per_s());
        assert_eq!(found[0].as_ref().unwrap().sites, [0]);
        assert!(found[3].is_none(), "no link leads there");
        assert!(ways(&sites(2, &[]), 7).iter().all(Option::is_none), "a site that does not exist reaches nobody");
    }

    #[test]
    fn messages_pay_round_trips_until_the_window_is_full() {
        let way = Way { sites: vec![0, 1], round_trip_s: 0.1, bytes_per_s: 1e9, loss: 0.0 };
        let is = |bytes: u64, seconds: f64| assert!((way.message_s(bytes) - seconds).abs() < 1e-3, "{bytes}");
        is(0, 0.1);
        is(14_600, 0.1);
        // 14.6 + 29.2 + 58.4 = 102.2 kB go in the first three windows, the rest in the fourth.
        is(150_000, 0.4);
        let slow = Way { bytes_per_s: 1e4, ..way };
        assert!((slow.message_s(100_000) - 10.1).abs() < 1e-9, "a narrow link is full from the start");
    }

    /// Against the distances of Floyd and Warshall; and more bytes never take less time.
    #[test]
    fn ways_are_shortest_and_times_grow_with_bytes() {
        for seed in 0..200 {
            let mut rng = Rng::seeded(seed);
            let count = 2 + rng.below(8) as u32;
            let mut one = || {
                let (left, step) = (rng.below(u64::from(count)) as u32, 1 + rng.below(u64::from(count) - 1) as u32);
                let loss = rng.below(100) as f32 / 1e4;
                (
                    left,
                    (left + step) % count,
                    0.001 + rng.below(1_000) as f64 / 100.0,
                    rng.below(50_000_000) as u32,
                    loss,
                )
            };
            let links: Vec<_> = (0..12).map(|_| one()).collect();
            let mut least = vec![vec![u64::MAX / 4; count as usize]; count as usize];
            for &(left, right, _, latency_ns, _) in &links {
                for (a, b) in [(left, right), (right, left)] {
                    let cell = &mut least[a as usize][b as usize];
                    *cell = (*cell).min(u64::from(latency_ns));
                }
            }
            for middle in 0..count as usize {
                for a in 0..count as usize {
                    for b in 0..count as usize {
                        least[a][b] = least[a][b].min(least[a][middle] + least[middle][b]);
                    }
                }
            }
            for (to, way) in ways(&sites(count, &links), 0).into_iter().enumerate().skip(1) {
                assert_eq!(way.is_some(), least[0][to] < u64::MAX / 4, "seed {seed}, site {to}");
                let Some(way) = way else { continue };
                assert!((way.round_trip_s - 2.0 * least[0][to] as f64 / 1e9).abs() < 1e-9, "seed {seed}, site {to}");
                let times: Vec<f64> = (0..40).map(|power| way.message_s(1 << power)).collect();
                assert!(times.is_sorted() && times[0] >= way.round_trip_s, "seed {seed}, site {to}: {times:?}");
            }
        }
    }
}
