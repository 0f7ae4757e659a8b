use base::Rng;
use proptest::prelude::*;

use super::{Demand, Policy, Router, Wire, route};
use crate::error::Error;
use crate::flow::Options;
use crate::topology::{Hpn, LeafSpine, NodeKind, Topology, preset};

fn small_hpn() -> Topology {
    Hpn {
        segments_per_pod: 3,
        hosts_per_segment: 8,
        spare_hosts_per_segment: 1,
        aggregations_per_plane: 6,
        ..Hpn::hpn7()
    }
    .build("small")
    .unwrap()
}

fn permutation(topology: &Topology, seed: u64) -> Vec<Demand> {
    let mut rng = Rng::seeded(seed);
    let count = topology.endpoint_count();
    let mut to: Vec<u32> = (0..count).collect();
    for index in (1..to.len()).rev() {
        to.swap(index, rng.below(index as u64 + 1) as usize);
    }
    (0..count).zip(to).map(|(from, to)| Demand::new(from, to, 1e6)).collect()
}

fn policies(seed: u64) -> [Policy; 3] {
    [Policy::Hashed { seed }, Policy::Planned, Policy::Sprayed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Every byte that leaves a sender arrives: at each node in between, what enters also leaves.
    #[test]
    fn work_is_conserved(seed in any::<u64>()) {
        for name in ["hpn7", "dcn-plus", "rail-only", "fat-tree-3", "dragonfly", "edge-ring", "nvl72"] {
            let gpus = if name == "hpn7" { 64 } else { 32 };
            let topology = if name == "hpn7" { small_hpn() } else { preset(name, Some(gpus)).unwrap() };
            let demands: Vec<Demand> = permutation(&topology, seed)
                .into_iter()
                .filter(|demand| name != "rail-only" || demand.from % 8 == demand.to % 8)
                .take(64)
                .collect();
            for policy in policies(seed) {
                let routed = route(&topology, &[], &demands, policy, &Wire::IDEAL).unwrap();
                let load = routed.flows.load(topology.link_count() as usize);
                for node in 0..topology.node_count() {
                    let out: f64 = topology.links_of(node).map(|link| load[link as usize]).sum();
                    let back: f64 = topology.links_of(node).map(|link| load[topology.reverse(link) as usize]).sum();
                    let own: f64 = demands.iter().filter(|demand| demand.from != demand.to).map(|demand| {
                        f64::from(u8::from(demand.from == node)) - f64::from(u8::from(demand.to == node))
                    }).sum::<f64>() * 1e6;
                    prop_assert!((out - back - own).abs() < 1.0, "{name} {policy:?} node {node}: {out} {back} {own}");
                }
            }
        }
    }

    #[test]
    fn spraying_is_never_slower_than_one_path(seed in any::<u64>()) {
        let topology = LeafSpine { tors: 4, down: 8, spines: 8, link_gbps: 100.0, link_latency_ns: 1 }
            .build("leaf").unwrap();
        let demands = permutation(&topology, seed);
        let time = |policy| {
            let routed = route(&topology, &[], &demands, policy, &Wire::IDEAL).unwrap();
            routed.simulate(topology.capacities(), &Wire::IDEAL, &Options::default()).unwrap().makespan_s
        };
        let [hashed, planned, sprayed] = policies(seed).map(time);
        prop_assert!(sprayed <= planned * 1.000_001 && planned <= hashed * 1.000_001, "{hashed} {planned} {sprayed}");
    }
}

/// Many demands are shared out among threads: the paths are those that one router finds, in the same order.
#[test]
fn hashes_do_not_depend_on_how_the_work_is_shared_out() {
    let topology = small_hpn();
    let demands: Vec<Demand> = (0..8).flat_map(|seed| permutation(&topology, seed)).collect();
    let routed = route(&topology, &[], &demands, Policy::Hashed { seed: 5 }, &Wire::ROCE).unwrap();
    assert_eq!((routed.flows.len(), routed.round_trip_s.len()), (demands.len(), demands.len()));
    let (mut router, mut path) = (Router::new(&topology, &[]).unwrap(), Vec::new());
    for (index, demand) in demands.iter().enumerate() {
        router.hashed(demand, super::paths::mix(5, index as u64), &mut path).unwrap();
        assert_eq!(routed.flows.path(index), path, "demand {index}");
        assert_eq!(routed.flows.bytes(index).to_bits(), demand.bytes.to_bits());
    }
    let nowhere = [demands, vec![Demand::new(0, u32::MAX, 1.0)]].concat();
    assert!(route(&topology, &[], &nowhere, Policy::Hashed { seed: 5 }, &Wire::ROCE).is_err());
}

#[test]
fn gpus_of_one_host_talk_through_its_switch() {
    let topology = small_hpn();
    let mut path = Vec::new();
    Router::new(&topology, &[]).unwrap().hashed(&Demand::new(0, 7, 1.0), 1, &mut path).unwrap();
    assert_eq!(path.len(), 2);
    assert_eq!(topology.kind(topology.target(path[0])), NodeKind::ScaleUp);
}

#[test]
fn a_plane_is_never_left() {
    let topology = small_hpn();
    let mut router = Router::new(&topology, &[]).unwrap();
    let mut path = Vec::new();
    for port in 0..2 {
        for key in 0..50 {
            router.hashed(&Demand::new(0, 64 + 8, 1.0).on_port(port), key, &mut path).unwrap();
            assert_eq!(path.len(), 4);
            for &link in &path[..3] {
                assert_eq!(topology.place(topology.target(link)).plane, port);
            }
        }
    }
}

#[test]
fn the_other_port_takes_over_and_without_one_there_is_no_way() {
    let topology = small_hpn();
    let tor = topology.nodes_of_kind(NodeKind::Tor).next().unwrap();
    let mut down = vec![false; topology.link_count() as usize];
    for link in topology.links_of(tor) {
        down[link as usize] = true;
        down[topology.reverse(link) as usize] = true;
    }
    let mut path = Vec::new();
    let demand = Demand::new(0, 64, 1.0).on_port(0);
    Router::new(&topology, &down).unwrap().hashed(&demand, 3, &mut path).unwrap();
    assert_eq!(topology.place(topology.target(path[0])).plane, 1);

    let single = Hpn { single_tor: true, ..Hpn::hpn7() }.for_gpus(2_048).build("single").unwrap();
    let tor = single.nodes_of_kind(NodeKind::Tor).next().unwrap();
    let mut down = vec![false; single.link_count() as usize];
    for link in single.links_of(tor) {
        down[link as usize] = true;
        down[single.reverse(link) as usize] = true;
    }
    let lost = Router::new(&single, &down).unwrap().hashed(&Demand::new(0, 1_024, 1.0), 3, &mut path);
    assert!(matches!(lost, Err(Error::Disconnected { from: 0, to: 1_024 })));
}

#[test]
fn a_plan_lays_a_shift_without_conflicts() {
    // 8 hosts a leaf, 8 spines: every host to the one 8 further on can have an uplink to itself.
    let topology =
        LeafSpine { tors: 4, down: 8, spines: 8, link_gbps: 100.0, link_latency_ns: 1 }.build("leaf").unwrap();
    let demands: Vec<Demand> = (0..32).map(|host| Demand::new(host, (host + 8) % 32, 12.5e9)).collect();
    let routed = route(&topology, &[], &demands, Policy::Planned, &Wire::IDEAL).unwrap();
    let outcome = routed.simulate(topology.capacities(), &Wire::IDEAL, &Options::default()).unwrap();
    assert!((outcome.makespan_s - 1.0).abs() < 1e-9, "{}", outcome.makespan_s);
}

#[test]
fn endpoints_that_do_not_exist_are_refused() {
    let topology = small_hpn();
    let demands = [Demand::new(0, 1_000_000, 1.0)];
    assert!(route(&topology, &[], &demands, Policy::Sprayed, &Wire::IDEAL).is_err());
    assert!(route(&topology, &[true], &[], Policy::Sprayed, &Wire::IDEAL).is_err());
}
