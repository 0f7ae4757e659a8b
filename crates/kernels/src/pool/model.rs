//! The region and its queues under a model checker, which runs a caller and its workers in every order.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

mod atomics {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "region.rs"]
#[expect(clippy::duplicate_mod, reason = "it is compiled once more, with the checker's atomics")]
mod region;

#[path = "queue.rs"]
#[expect(clippy::duplicate_mod, reason = "as above")]
mod queue;

use queue::{Part, Queue};
use region::{Found, Region};

/// Regions of the caller, and attempts of each worker to join one.
const REGIONS: u64 = 2;
const ATTEMPTS: u64 = 2;
/// Switches away from a thread that could have gone on, in one execution. Two or three show nearly every fault of a
/// protocol (Musuvathi and Qadeer, 2007), and the executions stay countable.
const PREEMPTIONS_MAX: usize = 2;

struct Shared {
    region: Region,
    /// Stands for the job and for all that it reads.
    job: UnsafeCell<u64>,
    /// What each worker wrote last.
    written: Vec<UnsafeCell<u64>>,
}

fn check(workers: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(move || {
        let written = (0..workers).map(|_| UnsafeCell::new(0)).collect();
        let shared = Arc::new(Shared { region: Region::new(), job: UnsafeCell::new(0), written });
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || work(&shared, worker))
            })
            .collect();
        for number in 1..=REGIONS {
            // SAFETY: what is checked here; the checker reports a race if a worker may still read.
            shared.job.with_mut(|job| unsafe { *job = number });
            shared.region.open();
            let joined = shared.region.close();
            while !shared.region.is_left(joined) {
                thread::yield_now();
            }
            // SAFETY: what is checked here; the checker reports a race if a worker may still write.
            let current = |cell: &UnsafeCell<u64>| cell.with(|value| unsafe { *value }) == number;
            let seen = shared.written.iter().filter(|cell| current(cell)).count();
            assert_eq!(seen as u64, joined, "each that joined has done this region's work");
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

fn work(shared: &Shared, worker: usize) {
    let mut seen = 0;
    for _ in 0..ATTEMPTS {
        if let Found::Joined { epoch } = shared.region.join(seen) {
            assert!(epoch > seen, "no region is joined twice");
            seen = epoch;
            // SAFETY: what is checked here; the caller does not write before we have left.
            let job = shared.job.with(|job| unsafe { *job });
            assert_eq!(job, epoch, "the job is that of the region");
            // SAFETY: as above, and each worker has its own.
            shared.written[worker].with_mut(|value| unsafe { *value = job });
            shared.region.leave();
        }
        thread::yield_now();
    }
}

#[test]
fn one_worker_joins_in_every_order() {
    check(1);
}

#[test]
fn two_workers_join_in_every_order() {
    check(2);
}

#[test]
fn an_index_is_taken_once_in_every_order() {
    take(3, Part::MAX);
}

#[test]
fn halves_are_taken_once_in_every_order() {
    take(5, Part::new(2).unwrap());
}

fn take(count: u32, part: Part) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(move || {
        let queue = Arc::new(Queue::default());
        queue.fill(3..3 + count);
        let other = Arc::clone(&queue);
        let thief = thread::spawn(move || std::iter::from_fn(|| other.last(part)).collect::<Vec<_>>());
        let mut taken: Vec<u32> = std::iter::from_fn(|| queue.first(part)).flatten().collect();
        assert!(taken.is_sorted(), "the owner takes them in order");
        taken.extend(thief.join().unwrap().into_iter().rev().flatten());
        assert!(taken.into_iter().eq(3..3 + count), "each is taken once");
    });
}
