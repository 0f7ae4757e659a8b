use proptest::prelude::*;

use super::{Component, Incident, down, every_switch, strike, sweep};
use crate::flow::{Options, simulate};
use crate::route::{Policy, Wire, route};
use crate::topology::{Hpn, NodeKind, Topology};
use crate::traffic::{host_permutation, rail_rings};

fn fabric(single_tor: bool) -> Topology {
    Hpn {
        segments_per_pod: 3,
        hosts_per_segment: 8,
        spare_hosts_per_segment: 0,
        aggregations_per_plane: 4,
        single_tor,
        ..Hpn::hpn7()
    }
    .build("small")
    .unwrap()
}

fn first(topology: &Topology, kind: NodeKind) -> Component {
    Component::Switch(topology.nodes_of_kind(kind).next().unwrap())
}

#[test]
fn a_lost_tor_halves_the_rate_with_two_and_stops_the_job_with_one() {
    let policy = Policy::Planned;
    for (single_tor, expected) in [(false, 2.0), (true, f64::INFINITY)] {
        let topology = fabric(single_tor);
        let demands = rail_rings(&topology, 24, 1e9).unwrap();
        let tor = first(&topology, NodeKind::Tor);
        let (_, impacts) = sweep(&topology, &demands, &[], policy, &Wire::IDEAL, &[tor]).unwrap();
        let found = impacts[0].slowdown;
        assert!((found - expected).abs() < 1e-6 || found.to_bits() == expected.to_bits(), "{impacts:?}");
        assert_eq!((impacts[0].stranded > 0, impacts[0].jobs_hit), (single_tor, 1));
    }
}

#[test]
fn rings_do_not_notice_an_aggregation_switch() {
    let topology = fabric(false);
    let demands = rail_rings(&topology, 24, 1e9).unwrap();
    let lost = first(&topology, NodeKind::Aggregation);
    let (_, impacts) = sweep(&topology, &demands, &[], Policy::Planned, &Wire::IDEAL, &[lost]).unwrap();
    assert!((impacts[0].slowdown - 1.0).abs() < 1e-9 && impacts[0].stranded == 0, "{impacts:?}");
}

#[test]
fn the_delay_of_a_re_route_is_paid_once() {
    let topology = fabric(false);
    let demands = rail_rings(&topology, 24, 16e9).unwrap();
    let run = |reroute_delay_s: f64| {
        let components = vec![first(&topology, NodeKind::Aggregation)];
        let incident = Incident { at_s: 0.01, components, reroute_delay_s };
        strike(&topology, &demands, Policy::Planned, &Wire::IDEAL, &incident).unwrap()
    };
    let (at_once, late) = (run(0.0), run(0.5));
    assert!(at_once.moved > 0 && at_once.stranded == 0);
    assert!((at_once.makespan_s / at_once.healthy_s - 1.0).abs() < 1e-6, "{at_once:?}");
    assert!((late.makespan_s - at_once.makespan_s - 0.5).abs() < 1e-6, "{} {}", late.makespan_s, at_once.makespan_s);
}

#[test]
fn a_whole_plane_can_go() {
    let topology = fabric(false);
    let demands = rail_rings(&topology, 24, 16e9).unwrap();
    let incident = Incident { at_s: 0.0, components: vec![Component::Plane(1)], reroute_delay_s: 0.0 };
    let struck = strike(&topology, &demands, Policy::Planned, &Wire::IDEAL, &incident).unwrap();
    assert!((struck.makespan_s / struck.healthy_s - 2.0).abs() < 1e-6, "{} {}", struck.makespan_s, struck.healthy_s);
    assert_eq!(struck.moved as usize, demands.len() / 2);
}

#[test]
fn what_does_not_exist_cannot_fail() {
    let topology = fabric(false);
    for component in [
        Component::Cable(u32::MAX),
        Component::Switch(0),
        Component::Switch(u32::MAX),
        Component::Plane(9),
        Component::Port { endpoint: 0, port: 2 },
    ] {
        assert!(down(&topology, &[component]).is_err(), "{component:?}");
    }
    assert!(down(&topology, &[Component::Port { endpoint: 0, port: 1 }]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The sweep leaves out what cannot change; a whole simulation says the same.
    #[test]
    fn a_sweep_is_what_whole_simulations_say(seed in any::<u64>(), planned in any::<bool>()) {
        let topology = fabric(false);
        let demands = host_permutation(&topology, seed, 1e8);
        let policy = if planned { Policy::Sprayed } else { Policy::Hashed { seed } };
        let mut components = every_switch(&topology);
        components.truncate(6);
        components.extend(every_switch(&topology).pop());
        let (healthy_s, impacts) = sweep(&topology, &demands, &[], policy, &Wire::IDEAL, &components).unwrap();
        for impact in impacts {
            let marks = down(&topology, &[impact.component]).unwrap();
            let healthy = route(&topology, &[], &demands, policy, &Wire::IDEAL).unwrap().flows;
            let mut hit = Vec::new();
            let mut flows = crate::flow::Flows::default();
            for (flow, demand) in demands.iter().enumerate() {
                if healthy.path(flow).iter().any(|&link| marks[link as usize]) {
                    hit.push(*demand);
                } else {
                    healthy.copy_to(flow, healthy.bytes(flow), 0.0, &mut flows);
                }
            }
            let moved = route(&topology, &marks, &hit, policy, &Wire::IDEAL).unwrap().flows;
            for flow in 0..moved.len() {
                moved.copy_to(flow, moved.bytes(flow), 0.0, &mut flows);
            }
            let whole = simulate(topology.capacities(), &flows, &Options::default()).unwrap().makespan_s / healthy_s;
            prop_assert!((whole / impact.slowdown - 1.0).abs() < 1e-6, "{impact:?}: {whole}");
        }
    }
}
