//! The proof that rates are max-min fair (Bertsekas and Gallager, section 6.5): no link carries more than it can, and
//! every flow crosses a full link on which no flow is faster. Checked after every change of rates in debug builds.

use super::reduce::Problem;

/// What rounding may cost, relatively.
const TOLERANCE: f64 = 1e-8;

/// Panics if the rates of the running flows are not max-min fair.
pub(super) fn assert_fair(problem: &Problem, running: impl Fn(u32) -> bool, rate: impl Fn(u32) -> f64) {
    let mut load = vec![0.0_f64; problem.links()];
    let mut fastest = vec![0.0_f64; problem.links()];
    let flows = 0..problem.flows() as u32;
    for flow in flows.clone().filter(|&flow| running(flow)) {
        for entry in problem.entries(flow) {
            let link = problem.link[entry] as usize;
            load[link] += problem.weight[entry] * rate(flow);
            fastest[link] = fastest[link].max(rate(flow));
        }
    }
    for (link, (&load, &capacity)) in load.iter().zip(&problem.capacity).enumerate() {
        assert!(load <= capacity * (1.0 + TOLERANCE), "link {link} carries {load} of {capacity}");
    }
    for flow in flows.filter(|&flow| running(flow) && !problem.entries(flow).is_empty()) {
        let held_back = problem.entries(flow).any(|entry| {
            let link = problem.link[entry] as usize;
            load[link] >= problem.capacity[link] * (1.0 - TOLERANCE) && rate(flow) >= fastest[link] * (1.0 - TOLERANCE)
        });
        assert!(held_back, "flow {flow} at {} could be faster without hurting a slower one", rate(flow));
    }
}
