use base::Rng;
use proptest::prelude::*;

use super::{Flows, Options, Outcome, fair_rates, simulate};

/// Finish times have to agree with SimGrid, and with ourselves, this closely.
const TOLERANCE: f64 = 1e-6;

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() <= TOLERANCE * right.abs().max(1e-12)
}

/// Progressive filling in its plainest form: raise all, freeze what is on the fullest link, again.
fn naive_rates(capacities: &[f64], flows: &Flows, running: &[usize]) -> Vec<f64> {
    let mut rate = vec![f64::INFINITY; flows.len()];
    let mut rising: Vec<usize> = running.iter().copied().filter(|&flow| !flows.path(flow).is_empty()).collect();
    let mut room = capacities.to_vec();
    while !rising.is_empty() {
        let mut weight = vec![0.0; capacities.len()];
        for &flow in &rising {
            for entry in flows.range(flow) {
                weight[flows.links[entry] as usize] += flows.share(entry);
            }
        }
        let level = |link: usize| if weight[link] > 0.0 { room[link] / weight[link] } else { f64::INFINITY };
        let full = (0..capacities.len()).min_by(|&a, &b| level(a).total_cmp(&level(b))).unwrap();
        let level = level(full);
        let (frozen, rest): (Vec<usize>, Vec<usize>) =
            rising.iter().partition(|&&flow| flows.path(flow).contains(&(full as u32)));
        for &flow in &frozen {
            rate[flow] = level;
            for entry in flows.range(flow) {
                room[flows.links[entry] as usize] -= level * flows.share(entry);
            }
        }
        rising = rest;
    }
    rate
}

fn naive_finish(capacities: &[f64], flows: &Flows) -> Vec<f64> {
    let mut left: Vec<f64> = (0..flows.len()).map(|flow| flows.bytes(flow)).collect();
    let mut finish = vec![f64::INFINITY; flows.len()];
    let mut now = 0.0;
    while finish.iter().any(|time| time.is_infinite()) {
        let unfinished: Vec<usize> = (0..flows.len()).filter(|&flow| finish[flow].is_infinite()).collect();
        let running: Vec<usize> = unfinished.iter().copied().filter(|&flow| flows.start_s(flow) <= now).collect();
        let rate = naive_rates(capacities, flows, &running);
        let arrival = unfinished.iter().map(|&flow| flows.start_s(flow)).filter(|&start| start > now);
        let done = running.iter().map(|&flow| now + left[flow] / rate[flow]);
        let next = arrival.chain(done).fold(f64::INFINITY, f64::min);
        for &flow in &running {
            if now + left[flow] / rate[flow] <= next * (1.0 + 1e-12) {
                finish[flow] = next;
            }
            left[flow] -= if rate[flow].is_finite() { rate[flow] * (next - now) } else { left[flow] };
        }
        now = next;
    }
    finish
}

#[derive(Debug, Clone)]
struct Case {
    capacities: Vec<f64>,
    flows: Flows,
}

/// Few capacities, sizes and starts, so that ties and symmetry happen often.
fn case() -> impl Strategy<Value = Case> {
    (2..12_usize, 1..40_usize, any::<u64>(), any::<bool>()).prop_map(|(links, count, seed, spread)| {
        let mut rng = Rng::seeded(seed);
        let capacities = (0..links).map(|_| [10.0, 20.0, 25.0, 7.0][rng.below(4) as usize]).collect();
        let mut flows = Flows::default();
        for _ in 0..count {
            let mut path: Vec<u32> = (0..links as u32).filter(|_| rng.below(3) == 0).collect();
            path.truncate(6);
            let bytes = [0.0, 100.0, 200.0, 350.0][rng.below(4) as usize];
            let start_s = [0.0, 0.0, 1.0, 2.5, 20.0][rng.below(5) as usize];
            if spread && rng.below(2) == 0 {
                let shares: Vec<(u32, f64)> = path.iter().map(|&link| (link, [0.5, 0.25][link as usize % 2])).collect();
                flows.push_spread(bytes, start_s, &shares);
            } else {
                flows.push(bytes, start_s, &path);
            }
        }
        Case { capacities, flows }
    })
}

fn run(case: &Case, options: &Options) -> Outcome {
    simulate(&case.capacities, &case.flows, options).unwrap()
}

proptest! {
    #[test]
    fn finishes_are_those_of_the_plain_algorithm(case in case()) {
        let expected = naive_finish(&case.capacities, &case.flows);
        for reduce in [false, true] {
            let found = run(&case, &Options { reduce, ..Options::default() }).finish_s;
            for (flow, (found, expected)) in found.iter().zip(&expected).enumerate() {
                prop_assert!(close(*found, *expected), "reduce {reduce}, flow {flow}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn rates_are_those_of_the_plain_algorithm(case in case()) {
        let all: Vec<usize> = (0..case.flows.len()).collect();
        let expected = naive_rates(&case.capacities, &case.flows, &all);
        let found = fair_rates(&case.capacities, &case.flows).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            let both_unbounded = found.is_infinite() && expected.is_infinite();
            prop_assert!(both_unbounded || close(*found, *expected), "{found}, expected {expected}");
        }
    }

    #[test]
    fn a_stopped_run_goes_on_where_it_was(case in case(), until_s in 0.1..30.0_f64) {
        let whole = run(&case, &Options::default());
        let stopped = run(&case, &Options { until_s: Some(until_s), ..Options::default() });
        let mut rest = Case { capacities: case.capacities.clone(), flows: Flows::default() };
        for flow in 0..case.flows.len() {
            let left = stopped.left_bytes.get(flow).copied().unwrap_or(0.0);
            let shares: Vec<(u32, f64)> =
                case.flows.range(flow).map(|entry| (case.flows.links[entry], case.flows.share(entry))).collect();
            rest.flows.push_spread(left, case.flows.start_s(flow).max(until_s), &shares);
        }
        let rest = run(&rest, &Options::default());
        for flow in 0..case.flows.len() {
            let joined = if stopped.finish_s[flow].is_finite() { stopped.finish_s[flow] } else { rest.finish_s[flow] };
            let expected = whole.finish_s[flow];
            prop_assert!((joined - expected).abs() < 1e-5 * expected.max(1.0), "flow {flow}: {joined}, {expected}");
        }
    }

    /// Cases side by side on links of their own, some of them on several threads.
    #[test]
    fn what_is_independent_finishes_as_if_it_were_alone(cases in proptest::collection::vec(case(), 2..6)) {
        let mut all = Case { capacities: Vec::new(), flows: Flows::default() };
        let mut expected = Vec::new();
        for case in &cases {
            let mut moved = case.flows.clone();
            let before = all.capacities.len() as u32;
            moved.links.iter_mut().for_each(|link| *link += before);
            all.capacities.extend_from_slice(&case.capacities);
            all.flows.append(&moved);
            expected.extend(naive_finish(&case.capacities, &case.flows));
        }
        prop_assert_eq!(all.flows.len(), expected.len());
        for reduce in [false, true] {
            let found = run(&all, &Options { reduce, ..Options::default() });
            for (flow, (found, expected)) in found.finish_s.iter().zip(&expected).enumerate() {
                prop_assert!(close(*found, *expected), "reduce {reduce}, flow {flow}: {found}, expected {expected}");
            }
        }
    }

    /// On one link more room is never worse; on several it can be (a flow that finishes earlier elsewhere may then
    /// compete here), so it is promised only there.
    #[test]
    fn more_room_on_the_only_link_delays_nobody(case in case(), more in 1.0..3.0_f64) {
        let mut flows = Flows::default();
        for flow in 0..case.flows.len() {
            flows.push(case.flows.bytes(flow), case.flows.start_s(flow), &[0]);
        }
        let narrow = Case { capacities: vec![10.0], flows: flows.clone() };
        let wide = Case { capacities: vec![10.0 * more], flows };
        let (slow, fast) = (run(&narrow, &Options::default()), run(&wide, &Options::default()));
        for (fast, slow) in fast.finish_s.iter().zip(&slow.finish_s) {
            prop_assert!(*fast <= slow * (1.0 + TOLERANCE), "{fast} with more room, {slow} with less");
        }
    }

    /// What every flow got while it ran adds up to its bytes, and all of it to what crossed the links.
    #[test]
    fn work_is_conserved(case in case(), until_s in 0.1..30.0_f64) {
        let stopped = run(&case, &Options { until_s: Some(until_s), ..Options::default() });
        let mut crossed = vec![0.0; case.capacities.len()];
        for flow in 0..case.flows.len() {
            let left = stopped.left_bytes.get(flow).copied().unwrap_or(0.0);
            prop_assert!(left <= case.flows.bytes(flow) * (1.0 + TOLERANCE), "flow {flow} has {left} bytes left");
            let finished = stopped.finish_s[flow] < until_s * (1.0 - TOLERANCE);
            prop_assert!(!finished || left <= TOLERANCE * case.flows.bytes(flow), "flow {flow} has {left} left");
            for (link, share) in case.flows.entries(flow) {
                crossed[link as usize] += share * (case.flows.bytes(flow) - left);
            }
        }
        for (link, (crossed, capacity)) in crossed.iter().zip(&case.capacities).enumerate() {
            prop_assert!(*crossed <= capacity * until_s * (1.0 + TOLERANCE), "link {link} carried {crossed} bytes");
        }
    }

    #[test]
    fn doubling_every_capacity_halves_every_time(case in case()) {
        let mut flows = case.flows.clone();
        flows.start_s.fill(0.0);
        let slow = run(&Case { flows: flows.clone(), ..case.clone() }, &Options::default());
        let capacities = case.capacities.iter().map(|capacity| 2.0 * capacity).collect();
        let fast = run(&Case { capacities, flows }, &Options::default());
        for (fast, slow) in fast.finish_s.iter().zip(&slow.finish_s) {
            prop_assert!(close(2.0 * fast, *slow) || (slow.abs() + fast.abs() < 1e-12), "{fast}, {slow}");
        }
    }

    #[test]
    fn no_link_is_faster_than_itself(case in case()) {
        let mut flows = case.flows.clone();
        flows.start_s.fill(0.0);
        let load = flows.load(case.capacities.len());
        let outcome = run(&Case { flows, ..case.clone() }, &Options::default());
        for (load, capacity) in load.iter().zip(&case.capacities) {
            prop_assert!(outcome.makespan_s >= load / capacity * (1.0 - TOLERANCE));
        }
    }
}

#[test]
fn the_hand_checked_case_finishes_when_it_must() {
    let mut flows = Flows::default();
    flows.push(1000.0, 0.0, &[0, 1]);
    flows.push(1000.0, 0.0, &[0]);
    flows.push(500.0, 2.0, &[1, 2]);
    flows.push(2000.0, 5.0, &[2]);
    let outcome = simulate(&[100.0, 50.0, 80.0], &flows, &Options::default()).unwrap();
    for (found, expected) in outcome.finish_s.iter().zip([30.0, 14.0, 22.0, 35.3125]) {
        assert!(close(*found, expected), "{found}, expected {expected}");
    }
}

#[test]
fn symmetry_is_found() {
    // 32 hosts, each sends to each over its own two ports: one class.
    let mut flows = Flows::default();
    for from in 0..32 {
        for to in (0..32).filter(|&to| to != from) {
            flows.push(1e6, 0.0, &[from, 32 + to]);
        }
    }
    let outcome = simulate(&vec![25e9; 64], &flows, &Options::default()).unwrap();
    assert_eq!(outcome.classes, 1);
    assert!(close(outcome.makespan_s, 31.0 * 1e6 / 25e9));
}

#[test]
fn a_random_permutation_is_repaired_and_not_refilled() {
    let mut rng = Rng::seeded(11);
    let mut flows = Flows::default();
    for _ in 0..3_000 {
        let path = [rng.below(800) as u32, 800 + rng.below(300) as u32, 1_100 + rng.below(300) as u32];
        flows.push(1e6 * (1.0 + rng.unit_f64()), 0.01 * rng.unit_f64(), &path);
    }
    let capacities = vec![1e9; 1_400];
    let exact = simulate(&capacities, &flows, &Options::default()).unwrap();
    let expected = naive_makespan_bound(&capacities, &flows);
    assert!(exact.makespan_s >= expected * (1.0 - TOLERANCE));
    let rough = simulate(&capacities, &flows, &Options { coalesce: 0.01, ..Options::default() }).unwrap();
    let error = rough.makespan_s / exact.makespan_s - 1.0;
    assert!((-0.01..0.02).contains(&error), "coalesced makespan is off by {error}");
    assert!(rough.repairs < 4_000 && exact.repairs > 5_900, "{} repairs, {} exact", rough.repairs, exact.repairs);
}

fn naive_makespan_bound(capacities: &[f64], flows: &Flows) -> f64 {
    flows.load(capacities.len()).iter().zip(capacities).map(|(load, capacity)| load / capacity).fold(0.0, f64::max)
}

#[test]
fn impossible_input_is_refused() {
    let refused = |bytes: f64, start_s: f64, link: u32, capacity: f64| {
        let mut flows = Flows::default();
        flows.push(bytes, start_s, &[link]);
        assert!(simulate(&[capacity], &flows, &Options::default()).is_err(), "{bytes} {start_s} {link} {capacity}");
    };
    refused(-1.0, 0.0, 0, 1.0);
    refused(f64::NAN, 0.0, 0, 1.0);
    refused(1.0, f64::INFINITY, 0, 1.0);
    refused(1.0, 0.0, 1, 1.0);
    refused(1.0, 0.0, 0, 0.0);
    refused(1.0, 0.0, 0, f64::NAN);
}
