//! The speed targets of the planner. `cargo bench -p netplan`; compare rows of one run only.

use std::hint::black_box;

use base::Rng;
use divan::Bencher;
use netplan::flow::{Flows, Options, simulate};

fn main() {
    divan::main();
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
