//! What a buyer counts: switches, cables, ports.

use super::{NodeKind, Topology};

/// Counts of a topology, taken from the finished arrays and not from the formula that built them.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// Endpoints in use.
    pub endpoints: u32,
    /// Endpoints that stand by.
    pub spare_endpoints: u32,
    /// ToRs, aggregation, core switches and sites.
    pub switches: u32,
    /// Of these, switches that endpoints are plugged into.
    pub tors: u32,
    /// Of these, aggregation switches.
    pub aggregations: u32,
    /// Of these, core switches.
    pub cores: u32,
    /// Cables between switches.
    pub switch_cables: u32,
    /// Cables from endpoints to switches of the network.
    pub endpoint_cables: u32,
    /// Planes, at least 1.
    pub planes: u32,
    /// The largest number of endpoint cables on a ToR.
    pub tor_down_ports: u32,
    /// The largest number of cables from a ToR to switches.
    pub tor_up_ports: u32,
    /// Bytes a second into a ToR from its endpoints in use over bytes a second out of it, the largest of all ToRs.
    pub tor_oversubscription: f64,
}

impl Topology {
    /// Counts everything once.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |kind| self.nodes_of_kind(kind).count() as u32;
        let mut counts = Counts {
            endpoints: self.endpoint_count,
            spare_endpoints: self.spare_count,
            switches: self.kinds.iter().filter(|kind| kind.is_switch()).count() as u32,
            tors: of(NodeKind::Tor),
            aggregations: of(NodeKind::Aggregation),
            cores: of(NodeKind::Core),
            switch_cables: 0,
            endpoint_cables: 0,
            planes: 1,
            tor_down_ports: 0,
            tor_up_ports: 0,
            tor_oversubscription: 0.0,
        };
        for link in 0..self.link_count() {
            let ends = [self.kind(self.source(link)), self.kind(self.target(link))];
            if self.source(link) < self.target(link) && ends.iter().all(|kind| kind.is_switch()) {
                counts.switch_cables += 1;
            }
            if ends[0] == NodeKind::Endpoint && ends[1].is_switch() {
                counts.endpoint_cables += 1;
            }
        }
        for tor in self.nodes_of_kind(NodeKind::Tor) {
            self.count_tor(tor, &mut counts);
        }
        counts
    }

    fn count_tor(&self, tor: u32, counts: &mut Counts) {
        counts.planes = counts.planes.max(u32::from(self.place(tor).plane) + 1);
        let (mut down, mut up, mut bytes_down, mut bytes_up) = (0, 0, 0.0, 0.0);
        for link in self.links_of(tor) {
            let capacity = self.capacity_bytes_per_s[link as usize];
            if self.kind(self.target(link)) == NodeKind::Endpoint {
                down += 1;
                bytes_down += if self.target(link) < self.endpoint_count { capacity } else { 0.0 };
            } else {
                up += 1;
                bytes_up += capacity;
            }
        }
        counts.tor_down_ports = counts.tor_down_ports.max(down);
        counts.tor_up_ports = counts.tor_up_ports.max(up);
        if bytes_up > 0.0 {
            counts.tor_oversubscription = counts.tor_oversubscription.max(bytes_down / bytes_up);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EdgeRing, FatTree, Hpn, LeafSpine, MultiPlane, PRESETS, preset};
    use super::Counts;
    use crate::topology::NodeKind;

    fn counts(name: &str) -> Counts {
        preset(name, None).unwrap().counts()
    }

    #[test]
    fn one_segment_of_hpn7_is_1024_gpus_on_16_tors() {
        let found = preset("hpn7", Some(1_024)).unwrap().counts();
        assert_eq!((found.endpoints, found.spare_endpoints, found.tors), (1_024, 64, 16));
        assert_eq!((found.tor_down_ports, found.tor_up_ports, found.planes), (136, 60, 2));
        assert!((found.tor_oversubscription - 128.0 * 200.0 / (60.0 * 400.0)).abs() < 1e-12);
    }

    #[test]
    fn a_pod_of_hpn7_is_15360_gpus_under_120_aggregation_switches() {
        let topology = preset("hpn7", None).unwrap();
        let found = topology.counts();
        assert_eq!((found.endpoints, found.tors, found.aggregations, found.cores), (15_360, 240, 120, 0));
        let one = topology.nodes_of_kind(NodeKind::Aggregation).next().unwrap();
        assert_eq!(topology.links_of(one).len(), 120);
        assert_eq!(topology.links_of(one).len() as u32 / Hpn::hpn7().core_uplinks, 15);
    }

    #[test]
    fn several_pods_meet_in_a_core_that_keeps_the_planes_apart() {
        let topology = preset("hpn7", Some(20_000)).unwrap();
        let found = topology.counts();
        assert_eq!((found.endpoints, found.tors, found.aggregations, found.cores), (30_720, 480, 240, 16));
        for core in topology.nodes_of_kind(NodeKind::Core) {
            let plane = topology.place(core).plane;
            assert!(topology.links_of(core).all(|link| topology.place(topology.target(link)).plane == plane));
        }
    }

    #[test]
    fn fat_trees_have_the_published_sizes() {
        let two = counts("fat-tree-2");
        assert_eq!((two.endpoints, two.switches, two.switch_cables), (2_048, 96, 2_048));
        let three = counts("fat-tree-3");
        assert_eq!((three.endpoints, three.switches, three.switch_cables), (65_536, 5_120, 131_072));
        let planes = counts("multi-plane");
        assert_eq!((planes.endpoints, planes.switches, planes.switch_cables), (16_384, 768, 16_384));
    }

    #[test]
    fn a_dragonfly_uses_every_port_once() {
        let found = preset("dragonfly", None).unwrap();
        for router in found.nodes_of_kind(NodeKind::Tor) {
            assert_eq!(found.links_of(router).len(), 8 + 15 + 8);
        }
    }

    #[test]
    fn every_preset_builds_and_says_what_it_guessed() {
        for (name, _) in PRESETS {
            let found = preset(name, None).unwrap();
            assert!(found.endpoint_count() > 0, "{name}");
        }
        assert!(preset("hpn8", Some(8)).unwrap().notes()[0].contains("inferred"));
        assert!(preset("hpn9", None).is_err());
    }

    #[test]
    fn hostile_sizes_are_refused_with_a_limit() {
        let leaf = LeafSpine { tors: u32::MAX, down: 2, spines: 1, link_gbps: 1.0, link_latency_ns: 1 };
        let fat = FatTree { k: 1 << 20, tiers: 3, oversubscription: 1, link_gbps: 1.0, link_latency_ns: 1 };
        let hpn = Hpn { segments_per_pod: 60_000, ..Hpn::hpn7() };
        let planes = MultiPlane { planes: 8, k: u32::MAX - 1, link_gbps: 1.0, scale_up_bytes_per_s: 1.0 };
        let ring = EdgeRing {
            sites: u32::MAX,
            hosts_per_site: u32::MAX,
            host_gbps: 1.0,
            wan_gbps: 1.0,
            wan_latency_us: u32::MAX,
            wan_loss: 0.0,
        };
        assert!(leaf.build("").is_err() && fat.build("").is_err() && hpn.build("").is_err());
        assert!(planes.build("").is_err() && ring.build("").is_err());
    }
}
