//! The speed targets of the planner. `cargo bench -p netplan`; compare rows of one run only.

use std::hint::black_box;

use base::Rng;
use divan::Bencher;
use netplan::check::check;
use netplan::failure::{every_switch, sweep};
use netplan::flow::{Flows, Options, simulate};
use netplan::import::aicb::aicb;
use netplan::route::steps::{Ring, ring_all_reduce};
use netplan::route::{Demand, Policy, Wire, route};
use netplan::simai;
use netplan::topology::{Topology, preset};
use netplan::traffic::{all_to_all, groups, host_permutation, rail_rings};

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() {
    divan::main();
    // The target of all of them together: 4 GB.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map_or("unknown here", str::trim);
    println!("the most memory of all that ran: {most}");
}

/// The shape of SimGrid's fixture, larger: six links a GPU, random permutation of hosts, one random uplink a flow.
fn permutation(hosts_per_segment: u32) -> (Vec<f64>, Flows) {
    let mut rng = Rng::seeded(1);
    let (rails, planes, aggregations) = (8, 2, 60);
    let hosts = 2 * hosts_per_segment;
    let gpus = hosts * rails;
    let port = |gpu: u32, plane: u32, down: u32| 6 * gpu + 2 + 2 * plane + down;
    let uplink = |segment: u32, rail: u32, plane: u32, aggregation: u32, down: u32| {
        6 * gpus + (((segment * rails + rail) * planes + plane) * aggregations + aggregation) * 2 + down
    };
    let mut capacities = Vec::new();
    for _ in 0..gpus {
        capacities.extend([360e9, 360e9, 25e9, 25e9, 25e9, 25e9]);
    }
    capacities.resize(capacities.len() + (2 * rails * planes * aggregations * 2) as usize, 50e9);
    let mut to: Vec<u32> = (0..hosts).collect();
    for index in (1..to.len()).rev() {
        to.swap(index, rng.below(index as u64 + 1) as usize);
    }
    let mut flows = Flows::default();
    for from in 0..hosts {
        for rail in 0..rails {
            for plane in 0..planes {
                let (source, target) = (from * rails + rail, to[from as usize] * rails + rail);
                let segments = (from / hosts_per_segment, to[from as usize] / hosts_per_segment);
                let mut path = vec![port(source, plane, 0)];
                if segments.0 != segments.1 {
                    let up = rng.below(u64::from(aggregations)) as u32;
                    path.push(uplink(segments.0, rail, plane, up, 0));
                    path.push(uplink(segments.1, rail, plane, up, 1));
                }
                path.push(port(target, plane, 1));
                flows.push(32e6, 0.0, &path);
            }
        }
    }
    (capacities, flows)
}

#[divan::bench]
fn permutation_of_1024_gpus(bencher: Bencher<'_, '_>) {
    let (capacities, flows) = permutation(64);
    assert_eq!(flows.len(), 2_048);
    bencher.bench(|| simulate(black_box(&capacities), &flows, &Options::default()));
}

/// Sizes of 1 to 64 MB that start at random within 2 ms times the share of flows.
#[divan::bench]
fn mixed_arrivals_2500(bencher: Bencher<'_, '_>) {
    let (capacities, paths) = permutation(64);
    let mut rng = Rng::seeded(2);
    let mut flows = Flows::default();
    for _ in 0..2_500 {
        let like = rng.below(paths.len() as u64) as usize;
        let bytes = 1e6 * (1_u64 << (2 * rng.below(4))) as f64;
        flows.push(bytes, 0.008 * rng.unit_f64(), paths.path(like));
    }
    bencher.bench(|| simulate(black_box(&capacities), &flows, &Options::default()));
}

#[divan::bench(sample_count = 5)]
fn hpn7_pod_is_built() -> u32 {
    preset("hpn7", None).expect("the preset builds").link_count()
}

/// Routes and runs on the whole pod of 15,360 GPUs.
fn pod(bencher: Bencher<'_, '_>, policy: Policy, demands: impl Fn(&Topology) -> Vec<Demand>) {
    let fabric = preset("hpn7", None).expect("the preset builds");
    let demands = demands(&fabric);
    bencher.bench(|| {
        let routed = route(&fabric, &[], black_box(&demands), policy, &Wire::IDEAL).expect("all are connected");
        routed.simulate(fabric.capacities(), &Wire::IDEAL, &Options::default())
    });
}

#[divan::bench(sample_count = 5)]
fn pod_all_reduce_step(bencher: Bencher<'_, '_>) {
    pod(bencher, Policy::Hashed { seed: 1 }, |fabric| rail_rings(fabric, 1_920, 1e9).expect("1,920 hosts"));
}

#[divan::bench(sample_count = 5)]
fn pod_hashed_permutation(bencher: Bencher<'_, '_>) {
    pod(bencher, Policy::Hashed { seed: 1 }, |fabric| host_permutation(fabric, 1, 64e6));
}

/// 1,827,840 flows.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn pod_all_to_all_packed(bencher: Bencher<'_, '_>) {
    let packed = |fabric: &Topology| all_to_all(fabric, &groups(fabric, 64, None), 1e6).expect("few enough");
    pod(bencher, Policy::Hashed { seed: 1 }, packed);
}

/// 1,934,956 flows, exact.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn pod_all_to_all_scattered(bencher: Bencher<'_, '_>) {
    let scattered = |fabric: &Topology| all_to_all(fabric, &groups(fabric, 64, Some(7)), 1e6).expect("few enough");
    pod(bencher, Policy::Hashed { seed: 1 }, scattered);
}

#[divan::bench(sample_count = 1, sample_size = 1)]
fn pod_every_switch_fails_once(bencher: Bencher<'_, '_>) {
    let fabric = preset("hpn7", None).expect("the preset builds");
    let demands = rail_rings(&fabric, 1_920, 1e9).expect("1,920 hosts");
    let switches = every_switch(&fabric);
    assert_eq!(switches.len(), 360);
    bencher.bench(|| sweep(&fabric, &demands, &[], Policy::Planned, &Wire::IDEAL, &switches));
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn hpn8_of_100000_gpus_all_reduce_step(bencher: Bencher<'_, '_>) {
    let fabric = preset("hpn8", Some(100_000)).expect("the preset builds");
    let demands = rail_rings(&fabric, 12_500, 1e9).expect("12,500 hosts");
    bencher.bench(|| {
        let routed = route(&fabric, &[], &demands, Policy::Hashed { seed: 1 }, &Wire::IDEAL).expect("connected");
        routed.simulate(fabric.capacities(), &Wire::IDEAL, &Options::default())
    });
}

/// Cases of `fixtures/hpn/packet_htsim.json`, each in a file of its own, as `sampan net check` runs them.
#[divan::bench(sample_count = 5, args = 0..6)]
fn htsim_case(bencher: Bencher<'_, '_>, case: usize) {
    let path = format!("{}/../../fixtures/hpn/packet_htsim.json", env!("CARGO_MANIFEST_DIR"));
    let mut file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture is there")).expect("it is JSON");
    let one = file["cases"][case].take();
    file["cases"] = serde_json::Value::Array(vec![one]);
    let text = file.to_string();
    bencher.bench(|| check(black_box(&text)));
}

/// A workload of the size of SimAI's example: 1,789 layers on 9,216 GPUs, read and put into its table.
#[divan::bench(sample_count = 5)]
fn simai_9216_gpus(bencher: Bencher<'_, '_>) {
    let mut text = String::from(
        "HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 2 ep: 16 pp: 12 vpp: 8 ga: 24 all_gpus: 9216 \
         checkpoints: 0 checkpoint_initiates: 0 pp_comm 50331648\n1789\n",
    );
    for layer in 0..1_789_u64 {
        let bytes = 4_096 * (1 + layer % 97);
        let line = format!(
            "layer{layer}\t-1\t{}\tALLGATHER\t{bytes}\t9\tREDUCESCATTER\t{bytes}\t9\tALLTOALL_EP\t{bytes}\t100\n",
            1_000 + layer
        );
        text += &line;
    }
    let ratios = simai::shipped_ratios().expect("they are in the program");
    bencher.bench(|| {
        let workload = aicb(black_box(&text)).expect("it is a workload");
        simai::table(&workload, &simai::Machine::default(), 9_216, &ratios).expect("the GPUs suffice").to_csv()
    });
}

/// An all-reduce on one ring of 1,024 ranks, step by step: 2,046 steps, 2.1 million messages.
#[divan::bench(sample_count = 5)]
fn ring_of_1024_ranks(bencher: Bencher<'_, '_>) {
    let fabric = preset("fat-tree-3", Some(1_024)).expect("the preset builds");
    let ranks: Vec<u32> = (0..1_024).collect();
    let ring = Ring { ranks: &ranks, message_bytes: 1e9 / 1_024.0 };
    bencher.bench(|| ring_all_reduce(&fabric, black_box(&[ring]), Policy::Sprayed, &Wire::ROCE));
}
