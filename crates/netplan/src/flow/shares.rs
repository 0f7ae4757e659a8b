//! Max-min fair rates: progressive filling of everything, and local repair after arrivals and departures.
//!
//! A link's *level* is the rate at which it filled: the rate of the flows that it holds back. The repair relies on one
//! fact: in progressive filling, what happens below a level does not depend on flows that freeze at or above it. So a
//! change is carried outward from the touched links in the order of their levels, and each link is settled once:
//!
//! * a link that would now fill later than it did **releases** its flows at its old level: they rise;
//! * a link that fills **freezes** what still rises on it, and lowers flows that were frozen above its new level.
//!
//! Everything else keeps its rate. Keys in the heap are lower bounds: a link whose flows changed is marked stale and
//! looked at again when its turn comes, so many changes cost one look.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::reduce::Problem;

/// Rates closer than this, relatively, are one rate.
const SAME: f64 = 1e-12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not started.
    Waiting,
    /// Running at `rate`, held back by `bottleneck`.
    Settled,
    /// In a repair: released, its new rate not known yet.
    Rising,
    /// In a repair: got its new rate.
    Fixed,
    /// Finished.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Released,
    Closed,
}

/// What a repair knows of a link; valid only if `epoch` is the current one.
#[derive(Debug, Clone, Copy)]
struct Touch {
    epoch: u64,
    phase: Phase,
    stale: bool,
    key: f64,
    fills_at: f64,
}

/// The running flows and their rates.
pub(super) struct Shares<'a> {
    problem: &'a Problem,
    /// Flows of each link: `[first[l], first[l] + len[l])` of `members`; finished ones linger until the next look.
    first: Vec<u32>,
    len: Vec<u32>,
    members: Vec<Member>,
    level: Vec<f64>,
    rate: Vec<f64>,
    bottleneck: Vec<u32>,
    state: Vec<State>,
    epoch: u64,
    touches: Vec<Touch>,
    touched: Vec<u32>,
    queue: BinaryHeap<Turn>,
    limits: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    weight: f64,
    flow: u32,
}

/// A flow whose rate a repair changed, with the rate before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) flow: u32,
    pub(super) rate_before: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Turn {
    key: f64,
    link: u32,
}

impl Eq for Turn {}

impl Ord for Turn {
    /// The heap of the standard library gives the greatest first, so least key is greatest here.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.total_cmp(&self.key).then_with(|| other.link.cmp(&self.link))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> Shares<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let mut first = vec![0_u32; problem.links() + 1];
        for &link in &problem.link {
            first[link as usize + 1] += 1;
        }
        for link in 0..problem.links() {
            first[link + 1] += first[link];
        }
        let untouched = Touch { epoch: 0, phase: Phase::Open, stale: false, key: 0.0, fills_at: 0.0 };
        Self {
            problem,
            first,
            len: vec![0; problem.links()],
            members: vec![Member::default(); problem.link.len()],
            level: vec![f64::INFINITY; problem.links()],
            rate: vec![0.0; problem.flows()],
            bottleneck: vec![u32::MAX; problem.flows()],
            state: vec![State::Waiting; problem.flows()],
            epoch: 0,
            touches: vec![untouched; problem.links()],
            touched: Vec::new(),
            queue: BinaryHeap::new(),
            limits: Vec::new(),
        }
    }

    pub(super) fn rate(&self, flow: u32) -> f64 {
        self.rate[flow as usize]
    }

    /// Adds flows without giving them rates; [`Self::fill`] or the repair that adds them has to follow.
    fn enter(&mut self, flow: u32) {
        debug_assert_eq!(self.state[flow as usize], State::Waiting, "flow {flow} starts once");
        self.state[flow as usize] = State::Rising;
        for entry in self.problem.entries(flow) {
            let link = self.problem.link[entry] as usize;
            let slot = self.first[link] + self.len[link];
            self.members[slot as usize] = Member { weight: self.problem.weight[entry], flow };
            self.len[link] += 1;
        }
    }

    /// Forgets finished flows of a link.
    fn compact(&mut self, link: usize) {
        let first = self.first[link] as usize;
        let mut kept = first;
        for slot in first..first + self.len[link] as usize {
            let member = self.members[slot];
            if self.state[member.flow as usize] != State::Gone {
                self.members[kept] = member;
                kept += 1;
            }
        }
        self.len[link] = (kept - first) as u32;
    }

    fn slots(&self, link: u32) -> std::ops::Range<usize> {
        let first = self.first[link as usize] as usize;
        first..first + self.len[link as usize] as usize
    }

    /// Rates of all running flows from nothing, after these arrivals and departures.
    pub(super) fn fill(&mut self, arrived: &[u32], departed: &[u32]) {
        for &flow in departed {
            self.state[flow as usize] = State::Gone;
        }
        for &flow in arrived {
            self.enter(flow);
        }
        let links = self.problem.links();
        let mut room = self.problem.capacity.clone();
        let mut weight = vec![0.0; links];
        let mut rising = vec![0_u32; links];
        self.queue.clear();
        for link in 0..links {
            self.compact(link);
            self.level[link] = f64::INFINITY;
            for slot in self.slots(link as u32) {
                weight[link] += self.members[slot].weight;
                self.state[self.members[slot].flow as usize] = State::Rising;
            }
            rising[link] = self.len[link];
            if rising[link] > 0 {
                self.queue.push(Turn { key: room[link] / weight[link], link: link as u32 });
            }
        }
        while let Some(turn) = self.queue.pop() {
            let at = turn.link as usize;
            if rising[at] == 0 {
                continue;
            }
            let level = room[at].max(0.0) / weight[at];
            if level > turn.key * (1.0 + SAME) {
                self.queue.push(Turn { key: level, link: turn.link });
                continue;
            }
            self.level[at] = level;
            for slot in self.slots(turn.link) {
                let flow = self.members[slot].flow;
                if self.state[flow as usize] != State::Rising {
                    continue;
                }
                self.state[flow as usize] = State::Settled;
                self.rate[flow as usize] = level;
                self.bottleneck[flow as usize] = turn.link;
                for entry in self.problem.entries(flow) {
                    let other = self.problem.link[entry] as usize;
                    room[other] -= self.problem.weight[entry] * level;
                    weight[other] -= self.problem.weight[entry];
                    rising[other] -= 1;
                }
            }
        }
    }

    /// Repairs the rates after arrivals and departures; writes which flows changed into `changes`.
    pub(super) fn repair(&mut self, arrived: &[u32], departed: &[u32], changes: &mut Vec<Change>) {
        self.epoch += 1;
        self.queue.clear();
        self.touched.clear();
        for &flow in departed {
            self.state[flow as usize] = State::Gone;
            for entry in self.problem.entries(flow) {
                let link = self.problem.link[entry];
                if self.level[link as usize].is_finite() {
                    self.touch(link, self.level[link as usize]);
                }
            }
        }
        for &flow in arrived {
            self.enter(flow);
            changes.push(Change { flow, rate_before: 0.0 });
            for entry in self.problem.entries(flow) {
                self.touch(self.problem.link[entry], 0.0);
            }
        }
        while let Some(turn) = self.queue.pop() {
            self.take_turn(turn, changes);
        }
        for index in 0..self.touched.len() {
            let link = self.touched[index] as usize;
            if self.touches[link].phase != Phase::Closed {
                self.level[link] = f64::INFINITY;
            }
        }
        for change in changes.iter() {
            debug_assert_eq!(self.state[change.flow as usize], State::Fixed, "flow {} has a rate", change.flow);
            self.state[change.flow as usize] = State::Settled;
        }
    }

    /// Marks a link for another look, not later than at `key`.
    fn touch(&mut self, link: u32, key: f64) {
        let touch = &mut self.touches[link as usize];
        if touch.epoch != self.epoch {
            *touch = Touch { epoch: self.epoch, phase: Phase::Open, stale: true, key, fills_at: f64::INFINITY };
            self.touched.push(link);
            self.queue.push(Turn { key, link });
            return;
        }
        if touch.phase == Phase::Closed {
            return;
        }
        touch.stale = true;
        if key < touch.key {
            touch.key = key;
            self.queue.push(Turn { key, link });
        }
    }

    fn take_turn(&mut self, turn: Turn, changes: &mut Vec<Change>) {
        let at = turn.link as usize;
        let touch = self.touches[at];
        // An entry that a later one replaced.
        if touch.phase == Phase::Closed || touch.key.to_bits() != turn.key.to_bits() {
            return;
        }
        if touch.stale {
            let fills_at = self.fills_at(turn.link, touch.phase);
            let due = if touch.phase == Phase::Open { fills_at.min(self.level[at]) } else { fills_at };
            self.touches[at].stale = false;
            self.touches[at].fills_at = fills_at;
            if due > turn.key {
                self.touches[at].key = due;
                if due.is_finite() {
                    self.queue.push(Turn { key: due, link: turn.link });
                }
                return;
            }
        }
        let fills_at = self.touches[at].fills_at;
        if self.touches[at].phase == Phase::Open && fills_at > self.level[at] * (1.0 + SAME) {
            self.release(turn.link, turn.key, changes);
        } else {
            self.freeze(turn.link, fills_at, changes);
        }
    }

    /// At what rate a link fills, given what its flows do elsewhere; infinite if it does not.
    fn fills_at(&mut self, link: u32, phase: Phase) -> f64 {
        self.compact(link as usize);
        let capacity = self.problem.capacity[link as usize];
        let (mut free, mut total) = (0.0, 0.0);
        let mut limits = std::mem::take(&mut self.limits);
        limits.clear();
        for slot in self.slots(link) {
            let Member { weight, flow } = self.members[slot];
            total += weight;
            let own = phase == Phase::Open && self.bottleneck[flow as usize] == link;
            let limited = match self.state[flow as usize] {
                State::Fixed => true,
                State::Settled => !own,
                State::Rising | State::Waiting | State::Gone => false,
            };
            if limited {
                limits.push((self.rate[flow as usize], weight));
            } else {
                free += weight;
            }
        }
        let level = level_of(capacity, free, total, &mut limits);
        self.limits = limits;
        level
    }

    fn release(&mut self, link: u32, at_level: f64, changes: &mut Vec<Change>) {
        for slot in self.slots(link) {
            let flow = self.members[slot].flow;
            if self.state[flow as usize] != State::Settled || self.bottleneck[flow as usize] != link {
                continue;
            }
            self.state[flow as usize] = State::Rising;
            changes.push(Change { flow, rate_before: self.rate[flow as usize] });
            for entry in self.problem.entries(flow) {
                let other = self.problem.link[entry];
                if other != link {
                    self.touch(other, at_level);
                }
            }
        }
        let touch = &mut self.touches[link as usize];
        touch.phase = Phase::Released;
        touch.key = touch.fills_at;
        if touch.key.is_finite() {
            self.queue.push(Turn { key: touch.key, link });
        }
    }

    fn freeze(&mut self, link: u32, level: f64, changes: &mut Vec<Change>) {
        self.level[link as usize] = level;
        self.touches[link as usize].phase = Phase::Closed;
        for slot in self.slots(link) {
            let flow = self.members[slot].flow;
            let index = flow as usize;
            match self.state[index] {
                State::Rising => {}
                State::Settled if self.rate[index] > level * (1.0 + SAME) => {
                    changes.push(Change { flow, rate_before: self.rate[index] });
                }
                State::Settled if self.rate[index] >= level * (1.0 - SAME) => {
                    // Of one level, but held back elsewhere. From now on it is this link, which is settled: if the
                    // other one released the flow later at this very level, it would overfill this one.
                    self.rehome(flow, link);
                    continue;
                }
                State::Settled | State::Fixed | State::Waiting | State::Gone => continue,
            }
            let rising = self.state[index] == State::Rising;
            self.state[index] = State::Fixed;
            self.rate[index] = level;
            self.bottleneck[index] = link;
            for entry in self.problem.entries(flow) {
                let other = self.problem.link[entry];
                if other == link {
                    continue;
                }
                let known = self.touches[other as usize].epoch == self.epoch;
                // A lowered flow leaves room: that can only move a link that was full, and not before its old level.
                if known {
                    self.touches[other as usize].stale = true;
                } else if !rising && self.level[other as usize].is_finite() {
                    self.touch(other, self.level[other as usize]);
                }
            }
        }
    }

    fn rehome(&mut self, flow: u32, link: u32) {
        let before = std::mem::replace(&mut self.bottleneck[flow as usize], link);
        if before != link && self.touches[before as usize].epoch == self.epoch {
            self.touches[before as usize].stale = true;
        }
    }

    /// Panics unless the rates of all running flows are max-min fair. Costs a look at every entry.
    pub(super) fn assert_fair(&self) {
        let running = |flow: u32| self.state[flow as usize] == State::Settled;
        super::certificate::assert_fair(self.problem, running, |flow| self.rate[flow as usize]);
    }
}

/// The level at which `free` weight and limited flows together take `capacity`.
///
/// `limits` holds (rate, weight) of flows that rise no further than their rate. Newton's method on a concave
/// piecewise linear function from below: the level rises in every round but the last.
fn level_of(capacity: f64, free: f64, total: f64, limits: &mut [(f64, f64)]) -> f64 {
    let (mut room, mut weight) = (capacity, total);
    let mut open = limits.len();
    loop {
        if open == 0 {
            // The sum of many weights is not exact; what is left is the free weight itself.
            return if free > 0.0 { room.max(0.0) / free } else { f64::INFINITY };
        }
        let level = room / weight;
        let before = open;
        let mut index = 0;
        while index < open {
            let (rate, share) = limits[index];
            if rate <= level * (1.0 + SAME) {
                room -= rate * share;
                weight -= share;
                open -= 1;
                limits.swap(index, open);
            } else {
                index += 1;
            }
        }
        if open == before {
            return level;
        }
    }
}
