//! Independence: flows that share no link, not even through others, do not know of each other.
//!
//! Each such part of a problem runs by itself, with arrays that are small enough for the processor's caches, and large
//! problems run several parts at once. The result is the same: nothing in a part depends on another.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Options;
use super::reduce::Problem;
use super::run::{Solved, alone};

/// Parts are put together until they have so many entries: below that, setting one up costs more than it saves. The
/// tests of this module keep every part by itself.
const PART_ENTRIES_MIN: usize = if cfg!(test) { 1 } else { 1 << 14 };
/// From so many entries on, parts run on several threads.
const THREADS_ENTRIES_MIN: usize = if cfg!(test) { 64 } else { 1 << 17 };
/// The most threads.
const THREADS_MAX: usize = 16;

/// Flow classes and link classes of a problem, by part.
struct Parts {
    /// Flows of part `p`: `flows[first_flow[p]..first_flow[p + 1]]`, rising.
    first_flow: Vec<u32>,
    flows: Vec<u32>,
    /// The same for links.
    first_link: Vec<u32>,
    links: Vec<u32>,
    /// The place of a link among those of its part.
    place: Vec<u32>,
}

/// Runs every part of a problem.
pub(super) fn solve(problem: &Problem, options: &Options) -> Solved {
    let Some(parts) = Parts::of(problem) else { return alone(problem, options) };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        // Ends because every turn takes another part.
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts.len() {
                return done;
            }
            done.push((part, alone(&parts.problem(problem, part), options)));
        }
    };
    let threads = if problem.link.len() < THREADS_ENTRIES_MIN { 1 } else { threads().min(parts.len()) };
    let done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    parts.join(problem, &done)
}

/// How many threads a large problem may use.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get).min(THREADS_MAX)
}

impl Parts {
    /// The parts of a problem; `None` if there is only one.
    fn of(problem: &Problem) -> Option<Self> {
        let (part_of_flow, parts) = number(problem);
        if parts < 2 {
            return None;
        }
        let mut part_of_link = vec![u32::MAX; problem.links()];
        for flow in 0..problem.flows() as u32 {
            for entry in problem.entries(flow) {
                part_of_link[problem.link[entry] as usize] = part_of_flow[flow as usize];
            }
        }
        let (first_flow, flows) = members(&part_of_flow, parts);
        let (first_link, links) = members(&part_of_link, parts);
        let mut place = vec![0; problem.links()];
        for part in first_link.windows(2) {
            let own = &links[part[0] as usize..part[1] as usize];
            own.iter().zip(0..).for_each(|(&link, at)| place[link as usize] = at);
        }
        Some(Self { first_flow, flows, first_link, links, place })
    }

    fn len(&self) -> usize {
        self.first_flow.len() - 1
    }

    fn flows(&self, part: usize) -> &[u32] {
        &self.flows[self.first_flow[part] as usize..self.first_flow[part + 1] as usize]
    }

    /// The flows and links of one part, numbered anew.
    fn problem(&self, whole: &Problem, part: usize) -> Problem {
        let links = &self.links[self.first_link[part] as usize..self.first_link[part + 1] as usize];
        let flows = self.flows(part);
        let entries = flows.iter().map(|&flow| whole.entries(flow).len()).sum();
        let mut own = Problem {
            capacity: links.iter().map(|&link| whole.capacity[link as usize]).collect(),
            first: Vec::with_capacity(flows.len() + 1),
            link: Vec::with_capacity(entries),
            weight: Vec::with_capacity(entries),
            bytes: flows.iter().map(|&flow| whole.bytes[flow as usize]).collect(),
            start_s: flows.iter().map(|&flow| whole.start_s[flow as usize]).collect(),
            class_of_flow: Vec::new(),
        };
        own.first.push(0);
        for &flow in flows {
            let entries = whole.entries(flow);
            own.link.extend(whole.link[entries.clone()].iter().map(|&link| self.place[link as usize]));
            own.weight.extend_from_slice(&whole.weight[entries]);
            own.first.push(own.link.len() as u32);
        }
        own
    }

    fn join(&self, problem: &Problem, done: &[(usize, Solved)]) -> Solved {
        let mut whole = Solved {
            finish_s: vec![f64::INFINITY; problem.flows()],
            left_bytes: vec![0.0; problem.flows()],
            repairs: 0,
        };
        for (part, solved) in done {
            for (place, &flow) in self.flows(*part).iter().enumerate() {
                whole.finish_s[flow as usize] = solved.finish_s[place];
                whole.left_bytes[flow as usize] = solved.left_bytes[place];
            }
            whole.repairs += solved.repairs;
        }
        whole
    }
}

/// The part of every flow, and how many there are. Flows without links belong to the first part.
fn number(problem: &Problem) -> (Vec<u32>, usize) {
    const NONE: u32 = u32::MAX;
    let mut above: Vec<u32> = (0..problem.links() as u32).collect();
    let mut entries_below = vec![0_usize; problem.links()];
    for flow in 0..problem.flows() as u32 {
        let path = &problem.link[problem.entries(flow)];
        let Some((&first, rest)) = path.split_first() else { continue };
        let mut root = top(&mut above, first);
        for &link in rest {
            let other = top(&mut above, link);
            // The smaller number stays: the numbering then does not depend on the order of the flows.
            (above[root.max(other) as usize], root) = (root.min(other), root.min(other));
        }
    }
    let root_of: Vec<u32> = (0..problem.flows() as u32)
        .map(|flow| problem.link[problem.entries(flow)].first().map_or(NONE, |&link| top(&mut above, link)))
        .collect();
    for (flow, &root) in root_of.iter().enumerate().filter(|(_, root)| **root != NONE) {
        entries_below[root as usize] += problem.entries(flow as u32).len();
    }
    let mut part_of_root = vec![0_u32; problem.links()];
    let (mut part, mut entries) = (0, 0);
    for root in (0..problem.links()).filter(|&root| entries_below[root] > 0) {
        if entries >= PART_ENTRIES_MIN {
            (part, entries) = (part + 1, 0);
        }
        part_of_root[root] = part;
        entries += entries_below[root];
    }
    let part_of = |root: &u32| if *root == NONE { 0 } else { part_of_root[*root as usize] };
    (root_of.iter().map(part_of).collect(), part as usize + 1)
}

/// The link that stands for all that `link` is joined with. Halves the way there, so the next look is shorter.
fn top(above: &mut [u32], mut link: u32) -> u32 {
    while above[link as usize] != link {
        let next = above[above[link as usize] as usize];
        above[link as usize] = next;
        link = next;
    }
    link
}

/// The members of every part, rising, as rows of one array. Who belongs to no part is left out.
fn members(part_of: &[u32], parts: usize) -> (Vec<u32>, Vec<u32>) {
    let mut first = vec![0_u32; parts + 1];
    for &part in part_of.iter().filter(|part| (**part as usize) < parts) {
        first[part as usize + 1] += 1;
    }
    for part in 0..parts {
        first[part + 1] += first[part];
    }
    let mut next = first.clone();
    let mut rows = vec![0; first[parts] as usize];
    for (member, &part) in part_of.iter().enumerate().filter(|(_, part)| (**part as usize) < parts) {
        rows[next[part as usize] as usize] = member as u32;
        next[part as usize] += 1;
    }
    (first, rows)
}
