use proptest::prelude::*;

use super::calibrate::{Sample, fit, line};
use super::{Algorithm, Group, Kind, Machine, best, cost, measured, nccl_tests};

fn h100() -> Machine {
    Machine::named("H100", 400.0).unwrap()
}

#[test]
fn small_messages_take_trees_and_large_ones_what_is_fastest() {
    let machine = h100();
    let group = Group { hosts: 16, per_host: 8 };
    let small = best(&machine, Kind::AllReduce, group, 1e4);
    assert!(matches!(small.algorithm, Algorithm::DoubleBinaryTree | Algorithm::NvlsTree), "{small:?}");
    let ring = cost(&machine, Kind::AllReduce, Algorithm::Ring, group, 1e4).unwrap();
    assert!(ring.seconds > 3.0 * small.seconds);
    let inside = best(&machine, Kind::AllReduce, Group { hosts: 1, per_host: 8 }, 4e9);
    assert_eq!(inside.algorithm, Algorithm::Nvls);
}

#[test]
fn pxn_sends_fewer_messages_and_no_fewer_bytes() {
    let machine = h100();
    let group = Group { hosts: 8, per_host: 8 };
    let direct = cost(&machine, Kind::AllToAll, Algorithm::Direct, group, 1e5).unwrap();
    let pxn = cost(&machine, Kind::AllToAll, Algorithm::Pxn, group, 1e5).unwrap();
    assert!(pxn.latency_s < direct.latency_s && pxn.seconds < direct.seconds);
    let large = |algorithm| cost(&machine, Kind::AllToAll, algorithm, group, 1e10).unwrap().seconds;
    assert!((large(Algorithm::Pxn) / large(Algorithm::Direct) - 1.0).abs() < 0.01);
}

#[test]
fn two_trees_are_twice_as_fast_as_one() {
    let machine = h100();
    let group = Group { hosts: 8, per_host: 8 };
    let of = |algorithm| cost(&machine, Kind::AllReduce, algorithm, group, 1e10).unwrap().seconds;
    assert!((of(Algorithm::Tree) / of(Algorithm::DoubleBinaryTree) - 2.0).abs() < 0.01);
}

#[test]
fn a_law_is_found_again() {
    let law = |bytes: f64, hosts: f64| 0.9 / (1.0 + 0.3 * hosts.powf(1.2) * (16_777_216.0 / bytes).powf(0.8));
    let mut samples = Vec::new();
    for hosts in [2.0, 4.0, 8.0, 16.0] {
        for power in 24..34 {
            let bytes = f64::from(power).exp2();
            samples.push(Sample { bytes, hosts, efficiency: law(bytes, hosts) });
        }
    }
    let found = fit(&samples).unwrap();
    assert!(found.fit_error < 1e-6 && found.foretelling_error < 1e-6, "{found:?}");
    assert!((found.efficiency(1e9, 64.0) / law(1e9, 64.0) - 1.0).abs() < 1e-5);
    assert!(fit(&samples[..2]).is_err());
    assert!(fit(&[Sample { bytes: 0.0, hosts: 1.0, efficiency: 1.0 }; 5]).is_err());
}

#[test]
fn latency_and_rate_are_told_apart() {
    let points: Vec<(f64, f64)> = [1e3, 1e6, 1e9].iter().map(|&bytes| (bytes, 20e-6 + bytes / 300e9)).collect();
    let (latency_s, rate) = line(&points).unwrap();
    assert!((latency_s / 20e-6 - 1.0).abs() < 1e-9 && (rate / 300e9 - 1.0).abs() < 1e-9);
    assert!(line(&points[..1]).is_err() && line(&[(1.0, 2.0), (2.0, 1.0)]).is_err());
}

const OUTPUT: &str = "\
# nThread 1 nGpus 8 minBytes 8 maxBytes 8589934592 step: 2(factor) warmup iters: 5 iters: 20
# Using devices
#  Rank  0 Group  0 Pid  14 on node-a device  0 [0x1b] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid  15 on node-b device  0 [0x1b] NVIDIA H100 80GB HBM3
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
     8388608       2097152     float     sum      -1    112.3   74.70  130.72      0    110.9   75.64  132.37      0
     1048576        262144     float     sum      -1     40.0   26.21   45.87      0     39.0   26.89   47.05    N/A
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 89.0
";

#[test]
fn results_are_read() {
    let output = nccl_tests::read(&format!("./build/all_reduce_perf -b 8 -e 8G\n{OUTPUT}")).unwrap();
    assert_eq!((output.kind, output.ranks, output.hosts, output.rows.len()), (Some(Kind::AllReduce), 2, 2, 2));
    assert!((output.rows[1].bus_bytes_per_s - 132.37e9).abs() < 1.0 && output.gpu.contains("H100"));
    assert!(nccl_tests::read("").is_err() && nccl_tests::read("# nothing\n").is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,300}", cut in 0..600_usize) {
        let _ = nccl_tests::read(&text);
        let _ = nccl_tests::read(&OUTPUT.chars().take(cut).collect::<String>());
    }

    /// More bytes never take less time, and a faster card never more.
    #[test]
    fn costs_are_monotone(hosts in 1..64_u32, per_host in 1..9_u32, bytes in 1.0..1e10_f64, more in 1.0..10.0_f64) {
        let group = Group { hosts, per_host };
        let (slow, fast) = (h100(), Machine::named("H100", 800.0).unwrap());
        for kind in [Kind::AllReduce, Kind::AllGather, Kind::ReduceScatter, Kind::AllToAll] {
            let one = best(&slow, kind, group, bytes).seconds;
            prop_assert!(best(&slow, kind, group, bytes * more).seconds >= one * (1.0 - 1e-12));
            prop_assert!(best(&fast, kind, group, bytes).seconds <= one * (1.0 + 1e-12));
            prop_assert!(one.is_finite() && one >= 0.0);
        }
    }
}

/// What nccl-tests would print on a machine.
fn printed_by(machine: &Machine, kind: Kind, group: Group) -> nccl_tests::Output {
    let row = |power: i32| {
        let bytes = f64::from(power).exp2();
        let cost = best(machine, kind, group, bytes);
        let bus_bytes_per_s = cost.bus_bytes_per_s(kind, group.ranks(), bytes);
        nccl_tests::Row { bytes, seconds: cost.seconds, bus_bytes_per_s }
    };
    nccl_tests::Output { rows: (16..34).map(row).collect(), ..nccl_tests::Output::default() }
}

#[test]
fn a_machine_is_calibrated_on_what_was_measured_and_says_how_well() {
    let assumed = Machine::named("H100", 400.0).unwrap();
    for (hosts, kind) in [(1, Kind::AllReduce), (4, Kind::AllReduce), (4, Kind::AllToAll)] {
        let group = Group { hosts, per_host: 8 };
        let slow = Machine {
            inside_share: 0.7 * assumed.inside_share,
            card_share: 0.7 * assumed.card_share,
            in_switch_share: 0.7 * assumed.in_switch_share,
            outside_hop_s: 2.0 * assumed.outside_hop_s,
            inside_hop_s: 2.0 * assumed.inside_hop_s,
            in_switch_s: 2.0 * assumed.in_switch_s,
            message_s: 2.0 * assumed.message_s,
            ..assumed.clone()
        };
        let found = measured(&assumed, kind, group, &printed_by(&slow, kind, group)).unwrap();
        assert!(found.error_before > 0.2 && found.error_after < 0.02, "{hosts} {kind:?}: {found:?}");
        assert!(found.foretelling_error < 0.03, "{hosts} {kind:?}: {found:?}");
        assert!((found.rate_factor / 0.7 - 1.0).abs() < 0.05, "{hosts} {kind:?}: {found:?}");
    }
    let few = nccl_tests::Output::default();
    assert!(measured(&assumed, Kind::AllReduce, Group { hosts: 1, per_host: 8 }, &few).is_err());
}
