//! The event loop: next finish or next arrival, repair the rates, go on.

use super::heap::Schedule;
use super::reduce::Problem;
use super::shares::{Change, Shares};
use super::{COALESCE_EXACT, Flows, Options, Outcome, parts};

/// A batch of more than one in this many of the running flows is filled from nothing instead of repaired. The tests
/// of this module repair always, so that small cases meet the harder code; those in `tests/` use what ships.
const REFILL_SHARE: usize = if cfg!(test) { 0 } else { 16 };
/// Debug builds prove every solution of problems up to this size, and one in a hundred of larger ones.
const PROVE_ENTRIES: usize = 4_000;

pub(super) fn rates(capacities: &[f64], flows: &Flows) -> Vec<f64> {
    let problem = Problem::reduced(capacities, flows);
    let mut shares = Shares::new(&problem);
    let arrived: Vec<u32> = (0..problem.flows() as u32).filter(|&flow| !problem.entries(flow).is_empty()).collect();
    shares.fill(&arrived, &[]);
    if cfg!(debug_assertions) {
        shares.assert_fair();
    }
    let rate_of = |class: u32| if problem.entries(class).is_empty() { f64::INFINITY } else { shares.rate(class) };
    problem.class_of_flow.iter().map(|&class| rate_of(class)).collect()
}

pub(super) fn run(capacities: &[f64], flows: &Flows, options: &Options) -> Outcome {
    let problem = if options.reduce { Problem::reduced(capacities, flows) } else { Problem::direct(capacities, flows) };
    let Solved { finish_s: finish, left_bytes: left, repairs } = parts::solve(&problem, options);
    let finish_s: Vec<f64> = problem.class_of_flow.iter().map(|&class| finish[class as usize]).collect();
    let unfinished = left.iter().any(|&bytes| bytes > 0.0);
    let left_bytes = if unfinished {
        problem.class_of_flow.iter().map(|&class| left[class as usize].max(0.0)).collect()
    } else {
        Vec::new()
    };
    let makespan_s = finish.iter().copied().fold(0.0, f64::max);
    Outcome { finish_s, left_bytes, makespan_s, classes: problem.flows(), repairs }
}

/// What became of the flow classes of a problem.
pub(super) struct Solved {
    pub(super) finish_s: Vec<f64>,
    pub(super) left_bytes: Vec<f64>,
    pub(super) repairs: u64,
}

/// Runs a problem as one.
pub(super) fn alone(problem: &Problem, options: &Options) -> Solved {
    let mut run = Run::new(problem, options);
    run.finish_all();
    Solved { finish_s: run.finish_s, left_bytes: run.left_bytes, repairs: run.repairs }
}

struct Run<'a> {
    problem: &'a Problem,
    options: &'a Options,
    shares: Shares<'a>,
    schedule: Schedule,
    /// Flow classes by start, the next one last.
    waiting: Vec<u32>,
    running: usize,
    left_bytes: Vec<f64>,
    updated_s: Vec<f64>,
    finish_s: Vec<f64>,
    first_start_s: f64,
    repairs: u64,
}

impl<'a> Run<'a> {
    fn new(problem: &'a Problem, options: &'a Options) -> Self {
        let mut waiting: Vec<u32> = (0..problem.flows() as u32).collect();
        waiting.sort_by(|&left, &right| {
            problem.start_s[right as usize].total_cmp(&problem.start_s[left as usize]).then(right.cmp(&left))
        });
        let first_start_s = waiting.last().map_or(0.0, |&flow| problem.start_s[flow as usize]);
        Self {
            problem,
            options,
            shares: Shares::new(problem),
            schedule: Schedule::new(problem.flows()),
            waiting,
            running: 0,
            left_bytes: problem.bytes.clone(),
            updated_s: problem.start_s.clone(),
            finish_s: vec![f64::INFINITY; problem.flows()],
            first_start_s,
            repairs: 0,
        }
    }

    /// Ends because every turn starts or finishes at least one flow.
    fn finish_all(&mut self) {
        let until_s = self.options.until_s.unwrap_or(f64::INFINITY);
        let (mut arrived, mut departed, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let arrival_s = self.waiting.last().map_or(f64::INFINITY, |&flow| self.problem.start_s[flow as usize]);
            let finish_s = self.schedule.first().map_or(f64::INFINITY, |(_, finish_s)| finish_s);
            let now_s = arrival_s.min(finish_s);
            if now_s.is_infinite() {
                return;
            }
            if now_s > until_s {
                return self.settle_until(until_s);
            }
            departed.clear();
            let now_s = self.take_finished(now_s, arrival_s.min(until_s), &mut departed);
            arrived.clear();
            self.take_arrivals(now_s, &mut arrived);
            self.change_rates(now_s, &arrived, &departed, &mut changes);
        }
    }

    /// Takes the flows that finish about now, and returns the time of the last.
    fn take_finished(&mut self, now_s: f64, not_after_s: f64, departed: &mut Vec<u32>) -> f64 {
        let elapsed_s = now_s - self.first_start_s;
        let window_s = (now_s + elapsed_s * self.options.coalesce).min(not_after_s).max(now_s);
        let window_s = window_s.max(now_s * (1.0 + COALESCE_EXACT));
        let mut last_s = now_s;
        while let Some((flow, finish_s)) = self.schedule.first() {
            if finish_s > window_s {
                break;
            }
            self.schedule.pop();
            self.finish_s[flow as usize] = finish_s;
            self.left_bytes[flow as usize] = 0.0;
            departed.push(flow);
            last_s = last_s.max(finish_s);
        }
        self.running -= departed.len();
        last_s
    }

    fn take_arrivals(&mut self, now_s: f64, arrived: &mut Vec<u32>) {
        while let Some(&flow) = self.waiting.last() {
            let start_s = self.problem.start_s[flow as usize];
            if start_s > now_s {
                break;
            }
            self.waiting.pop();
            let instant = self.problem.entries(flow).is_empty() || self.left_bytes[flow as usize] <= 0.0;
            if instant {
                self.finish_s[flow as usize] = start_s;
                self.left_bytes[flow as usize] = 0.0;
            } else {
                self.updated_s[flow as usize] = now_s;
                arrived.push(flow);
            }
        }
        self.running += arrived.len();
    }

    fn change_rates(&mut self, now_s: f64, arrived: &[u32], departed: &[u32], changes: &mut Vec<Change>) {
        if arrived.is_empty() && departed.is_empty() {
            return;
        }
        self.repairs += 1;
        if (arrived.len() + departed.len()) * REFILL_SHARE > self.running {
            self.refill(now_s, arrived, departed);
        } else {
            changes.clear();
            self.shares.repair(arrived, departed, changes);
            for change in changes.iter() {
                self.progress(change.flow, now_s, change.rate_before);
                self.schedule.set(change.flow, self.expected_finish_s(change.flow));
            }
        }
        let small = self.problem.link.len() <= PROVE_ENTRIES || self.repairs.is_multiple_of(100);
        if cfg!(debug_assertions) && small {
            self.shares.assert_fair();
        }
    }

    fn refill(&mut self, now_s: f64, arrived: &[u32], departed: &[u32]) {
        let mut running: Vec<u32> = self.schedule.flows().to_vec();
        for &flow in &running {
            let rate = self.shares.rate(flow);
            self.progress(flow, now_s, rate);
        }
        self.shares.fill(arrived, departed);
        running.extend_from_slice(arrived);
        let (left, updated, shares) = (&self.left_bytes, &self.updated_s, &self.shares);
        self.schedule
            .rebuild(&running, |flow| updated[flow as usize] + left[flow as usize].max(0.0) / shares.rate(flow));
    }

    fn progress(&mut self, flow: u32, now_s: f64, rate: f64) {
        let index = flow as usize;
        self.left_bytes[index] -= rate * (now_s - self.updated_s[index]);
        self.updated_s[index] = now_s;
    }

    fn expected_finish_s(&self, flow: u32) -> f64 {
        self.updated_s[flow as usize] + self.left_bytes[flow as usize].max(0.0) / self.shares.rate(flow)
    }

    fn settle_until(&mut self, until_s: f64) {
        for flow in self.schedule.flows().to_vec() {
            let rate = self.shares.rate(flow);
            self.progress(flow, until_s, rate);
        }
    }
}
