//! The worker pool: one parallel region after the other, each over in microseconds.
//!
//! A forward pass is some hundred short regions (a matrix, a norm, an attention), each a few microseconds to
//! milliseconds, so handing out work must cost less than a microsecond: the caller opens a region, workers that spin
//! on it join, and all take the next index of the region's work until none is left. Nobody is waited for who has not
//! joined: on a machine that is busy with other things the caller does by itself what no worker comes for, and only a
//! thread that was stopped in the middle of an index holds it up. A worker that has spun in vain for a while sleeps,
//! so an idle server uses no processor.
//!
//! Every thread begins with neighbouring indexes of its own, so that it reads memory in one stream and what it asks for
//! ahead is what it reads; who has none left takes over from the others' ends.

mod queue;
mod region;

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use queue::{Part, Queue};
use region::{Found, Region};

use crate::{Error, Result};

/// What [`region`] is compiled with.
mod atomics {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

/// Pauses of a waiting thread before it begins to give its core to others between pauses: some microseconds, as long
/// as the pause between two regions of a step.
const SPINS_ALONE: u32 = 200;
/// Pauses between two offers of the core.
const SPINS_BETWEEN: u32 = 32;
/// Offers before a worker sleeps: about a third of a millisecond, longer than what an engine does between two steps.
const OFFERS_BEFORE_SLEEP: u32 = 300;

/// A region's closure; its life is stretched to `'static`, and `Pool::for_each` does not return before the last use.
type Job = &'static (dyn Fn(usize) + Sync);

/// What the caller and the workers share.
struct Shared {
    region: Region,
    /// Each thread's indexes of the current region: filled before it is opened.
    queues: Box<[Queue]>,
    /// The closure of the current region: written before it is opened, read by those who joined it.
    job: UnsafeCell<Option<Job>>,
    stop: AtomicBool,
    /// The first panic of the current region.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Workers that sleep or are about to; changed with `gate` held.
    sleeping: AtomicUsize,
    gate: Mutex<()>,
    wake: Condvar,
    /// With more threads than cores nobody spins without offering its core.
    spins: u32,
}

// SAFETY: `job` is written by the one caller that holds the pool, while no worker is in a region and so none reads it.
unsafe impl Sync for Shared {}
// SAFETY: the closure behind `job` is `Sync`, so a reference to it may be used from any thread.
unsafe impl Send for Shared {}

/// A fixed number of threads, the caller's being the first.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller of a region.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads: `threads - 1` workers and whoever calls [`Pool::for_each`].
    pub(crate) fn new(threads: usize, is_pinned: bool) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let shared = Arc::new(Shared {
            region: Region::new(),
            queues: (0..threads.max(1)).map(|_| Queue::default()).collect(),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            sleeping: AtomicUsize::new(0),
            gate: Mutex::new(()),
            wake: Condvar::new(),
            spins: if threads <= cores { SPINS_ALONE } else { 0 },
        });
        let mut pool = Self { shared, workers: Vec::new(), turn: Mutex::new(()) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let body = move || {
                if is_pinned {
                    pin(index);
                }
                work(&shared, index);
            };
            let name = format!("kernels-{index}");
            let worker = std::thread::Builder::new().name(name).spawn(body).map_err(Error::Thread)?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(thread, index)` for every index below `count`, each once; returns when all are done. Each thread has
    /// a share of neighbouring indexes, in order, and afterwards those that others have not come to. `thread` is below
    /// [`Pool::threads`] and differs between calls that run at the same time. Callers on several threads wait for each
    /// other. A panic of any thread is raised again here, after all have finished.
    ///
    /// A region must not start another one.
    pub(crate) fn for_each(&self, count: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        self.divide(count, Part::MAX, &|thread, indexes| indexes.for_each(|index| body(thread, index)));
    }

    /// As [`Self::for_each`], where many small pieces of even work are done with few calls: a thread takes half of
    /// what is left at once, so that the last ones are the smallest, and threads end together.
    pub(crate) fn for_ranges(&self, count: usize, body: &(dyn Fn(usize, Range<usize>) + Sync)) {
        self.divide(count, const { Part::new(2).unwrap() }, body);
    }

    fn divide(&self, count: usize, part: Part, body: &(dyn Fn(usize, Range<usize>) + Sync)) {
        let Some(count) = u32::try_from(count).ok().filter(|count| *count > 1 && !self.workers.is_empty()) else {
            return body(0, 0..count);
        };
        let turn = lock(&self.turn);
        let threads = self.threads() as u64;
        let bound = |thread: usize| (u64::from(count) * thread as u64 / threads) as u32;
        for (thread, queue) in self.shared.queues.iter().enumerate() {
            queue.fill(bound(thread)..bound(thread + 1));
        }
        self.run(turn, &|thread| {
            while let Some(Range { start, end }) = self.next(thread, part) {
                body(thread, start as usize..end as usize);
            }
        });
    }

    /// The next indexes of a thread, or some that another has not come to.
    fn next(&self, thread: usize, part: Part) -> Option<Range<u32>> {
        let (before, own) = self.shared.queues.split_at(thread);
        own[0].first(part).or_else(|| own[1..].iter().chain(before).find_map(|queue| queue.last(part)))
    }

    /// Calls `body` on the caller's thread and on every worker that comes before the caller's call returns.
    fn run(&self, turn: MutexGuard<'_, ()>, body: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes; this function waits until no worker can use the reference any more.
        let job: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(body) };
        // SAFETY: it is our turn and the region is closed and left, so nobody else touches `job`.
        unsafe { *self.shared.job.get() = Some(job) };
        self.shared.region.open();
        self.wake_sleepers();
        let own = catch_unwind(AssertUnwindSafe(|| body(0)));
        let joined = self.shared.region.close();
        let mut patience = Patience::new(self.shared.spins);
        // Ends when the workers end: each that joined leaves exactly once, also when it panics.
        while !self.shared.region.is_left(joined) {
            patience.wait();
        }
        let theirs = lock(&self.shared.panic).take();
        drop(turn);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if let Some(panic) = theirs {
            resume_unwind(panic);
        }
    }

    fn wake_sleepers(&self) {
        // A worker adds itself to `sleeping` before it looks at the region for the last time, both sequentially
        // consistent: either we see it here, or it sees the open region.
        if self.shared.sleeping.load(Ordering::SeqCst) > 0 {
            let _gate = lock(&self.shared.gate);
            self.shared.wake.notify_all();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake_sleepers();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a job, so joining cannot fail.
            let _ = worker.join();
        }
    }
}

/// A thread that waits for another: it spins, then offers its core to others between spins.
struct Patience {
    spins: u32,
    offers: u32,
}

impl Patience {
    fn new(spins: u32) -> Self {
        Self { spins, offers: 0 }
    }

    /// Waits for a moment.
    fn wait(&mut self) {
        if self.spins > 0 {
            self.spins -= 1;
            return std::hint::spin_loop();
        }
        if self.offers.is_multiple_of(SPINS_BETWEEN) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
        self.offers = self.offers.saturating_add(1);
    }

    fn is_at_end(&self) -> bool {
        self.offers >= OFFERS_BEFORE_SLEEP * SPINS_BETWEEN
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    // Ends when the pool is dropped.
    while let Some(epoch) = wait_for_work(shared, seen) {
        seen = epoch;
        // SAFETY: the caller wrote `job` before it opened the region, and waits for us before it writes again.
        let job = unsafe { *shared.job.get() };
        let job = job.expect("a region is opened after its job was set");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(index))) {
            lock(&shared.panic).get_or_insert(panic);
        }
        shared.region.leave();
    }
}

/// Joins the next region; `None` when the pool ends.
fn wait_for_work(shared: &Shared, seen: u64) -> Option<u64> {
    let mut patience = Patience::new(shared.spins);
    while !patience.is_at_end() {
        if let Found::Joined { epoch } = shared.region.join(seen) {
            return Some(epoch);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        patience.wait();
    }
    let mut gate = lock(&shared.gate);
    shared.sleeping.fetch_add(1, Ordering::SeqCst);
    let found = loop {
        if let Found::Joined { epoch } = shared.region.join(seen) {
            break Some(epoch);
        }
        if shared.stop.load(Ordering::SeqCst) {
            break None;
        }
        gate = shared.wake.wait(gate).unwrap_or_else(PoisonError::into_inner);
    };
    shared.sleeping.fetch_sub(1, Ordering::SeqCst);
    drop(gate);
    found
}

/// A panic is carried on by the region that it belongs to; the state behind these locks is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the calling thread on the `index`-th core that it may use. Best effort: a container may forbid it.
#[cfg(target_os = "linux")]
fn pin(index: usize) {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as large as we say.
    if unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) } != 0 {
        return;
    }
    let bits = 8 * size;
    // SAFETY: the loop stays below the number of bits.
    let core = (0..bits).filter(|core| unsafe { libc::CPU_ISSET(*core, &allowed) }).nth(index);
    let Some(core) = core else { return };
    // SAFETY: as above.
    let mut wanted: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is below the number of bits.
    unsafe { libc::CPU_SET(core, &mut wanted) };
    // SAFETY: the set is as large as we say.
    unsafe { libc::sched_setaffinity(0, size, &raw const wanted) };
}

#[cfg(not(target_os = "linux"))]
fn pin(_index: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_each_covers_every_index_once() {
        let pool = Pool::new(3, false).unwrap();
        for count in [0, 1, 2, 100] {
            let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each(count, &|_, index| {
                seen[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            pool.for_ranges(count, &|_, indexes| {
                seen[indexes].iter().for_each(|seen| _ = seen.fetch_add(1, Ordering::Relaxed));
            });
            assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 2));
        }
    }

    #[test]
    fn threads_of_one_moment_have_different_numbers() {
        let pool = Pool::new(3, false).unwrap();
        let busy = [const { AtomicBool::new(false) }; 3];
        for _ in 0..200 {
            pool.for_each(50, &|thread, _| {
                assert!(!busy[thread].swap(true, Ordering::SeqCst), "two threads call themselves {thread}");
                busy[thread].store(false, Ordering::SeqCst);
            });
        }
    }

    #[test]
    fn workers_take_part_and_nobody_waits_for_one_that_is_late() {
        let pool = Pool::new(2, false).unwrap();
        // The caller holds index 0 until somebody else has taken index 1: a worker does come.
        let taken = AtomicBool::new(false);
        pool.for_each(2, &|_, index| match index {
            0 => {
                while !taken.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            }
            _ => taken.store(true, Ordering::SeqCst),
        });
        // A worker whose lock on the gate is held back cannot wake up; the caller does all the work.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let gate = lock(&pool.shared.gate);
        let sleeping = pool.shared.sleeping.swap(0, Ordering::SeqCst);
        let sum = AtomicUsize::new(0);
        pool.for_each(10, &|_, index| {
            sum.fetch_add(index, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
        pool.shared.sleeping.store(sleeping, Ordering::SeqCst);
        drop(gate);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2, true).unwrap();
        for guilty in 0..20 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.for_each(20, &|_, index| assert!(index != guilty, "index {guilty} fails"));
            }));
            assert!(outcome.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.for_each(3, &|_, index| {
            sum.fetch_add(index, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 3);
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(2, false).unwrap();
        let (callers, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.for_each(4, &|thread, _| {
                            let others = if thread == 0 { callers.fetch_add(1, Ordering::SeqCst) } else { 0 };
                            assert_eq!(others, 0, "two regions at once");
                            total.fetch_add(1, Ordering::Relaxed);
                            if thread == 0 {
                                callers.fetch_sub(1, Ordering::SeqCst);
                            }
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 1200);
    }
}
