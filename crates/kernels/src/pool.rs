//! The threads that run a step.
//!
//! A step is some hundred short regions (a matrix, a norm, an attention), each a few microseconds to milliseconds, so
//! handing out work must cost less than a microsecond: the caller raises a counter, workers that spin on it see it,
//! everybody runs the same closure with its own index, and the caller spins until the last one is done. A worker that
//! has spun in vain for a while sleeps, so an idle server uses no processor. With more threads than cores nobody spins
//! without yielding.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::{Error, Result};

/// Pauses before a waiting thread yields or sleeps: about 0.3 ms, longer than the pause between two regions of a step.
const SPINS_BEFORE_SLEEP: u32 = 20_000;
/// Yields before a worker sleeps when threads share cores.
const YIELDS_BEFORE_SLEEP: u32 = 50;

/// A region's closure; its life is stretched to `'static`, and `Pool::run` does not return before the last use.
type Job = &'static (dyn Fn(usize) + Sync);

/// What the caller and the workers share.
struct Shared {
    /// Raised by one for every region.
    epoch: AtomicU32,
    /// The closure of the current region: written before `epoch` is raised, read after it was seen raised.
    job: UnsafeCell<Option<Job>>,
    /// Workers that have not finished the current region.
    pending: AtomicUsize,
    stop: AtomicBool,
    /// The first panic of the current region.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Workers that sleep or are about to; changed with `gate` held.
    sleeping: AtomicUsize,
    gate: Mutex<()>,
    wake: Condvar,
    spins: u32,
}

// SAFETY: `job` is written by the one caller that holds the region, while `pending` is zero and so no worker reads it.
unsafe impl Sync for Shared {}
// SAFETY: the closure behind `job` is `Sync`, so a reference to it may be used from any thread.
unsafe impl Send for Shared {}

/// A fixed number of threads, the caller's being the first.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    region: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads: `threads - 1` workers and whoever calls [`Pool::run`].
    pub(crate) fn new(threads: usize, is_pinned: bool) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let shared = Arc::new(Shared {
            epoch: AtomicU32::new(0),
            job: UnsafeCell::new(None),
            pending: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            sleeping: AtomicUsize::new(0),
            gate: Mutex::new(()),
            wake: Condvar::new(),
            spins: if threads <= cores { SPINS_BEFORE_SLEEP } else { 0 },
        });
        let mut pool = Self { shared, workers: Vec::new(), region: Mutex::new(()) };
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

    /// Calls `body` once on every thread, with indexes `0..threads()`; returns when all are done. Callers on several
    /// threads wait for each other. A panic of any thread is raised again here, after all have finished.
    ///
    /// A region must not start another one.
    pub(crate) fn run(&self, body: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return body(0);
        }
        let region = lock(&self.region);
        // SAFETY: only the lifetime changes; this function waits until no worker can use the reference any more.
        let job: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(body) };
        // SAFETY: `pending` is zero and the region is locked, so nobody else touches `job`.
        unsafe { *self.shared.job.get() = Some(job) };
        self.shared.pending.store(self.workers.len(), Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.wake_sleepers();
        let own = catch_unwind(AssertUnwindSafe(|| body(0)));
        self.wait();
        let theirs = lock(&self.shared.panic).take();
        drop(region);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if let Some(panic) = theirs {
            resume_unwind(panic);
        }
    }

    /// Calls `body(thread, index)` for every index below `count`; each thread takes the next index that nobody has.
    pub(crate) fn for_each(&self, count: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        if count <= 1 || self.workers.is_empty() {
            return (0..count).for_each(|index| body(0, index));
        }
        let next = AtomicUsize::new(0);
        self.run(&|thread| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                body(thread, index);
            }
        });
    }

    fn wake_sleepers(&self) {
        // A worker adds itself to `sleeping` before it looks at the epoch for the last time, both sequentially
        // consistent: either we see it here, or it sees the new epoch.
        if self.shared.sleeping.load(Ordering::SeqCst) > 0 {
            let _gate = lock(&self.shared.gate);
            self.shared.wake.notify_all();
        }
    }

    fn wait(&self) {
        let mut spins = 0;
        while self.shared.pending.load(Ordering::Acquire) > 0 {
            // Ends when the workers end: each counts down exactly once a region, also when it panics.
            if spins < self.shared.spins {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.wake_sleepers();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a job, so joining cannot fail.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        wait_for_work(shared, seen);
        seen = seen.wrapping_add(1);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: the caller wrote `job` before it raised the epoch, and waits for `pending` before it writes again.
        let job = unsafe { *shared.job.get() };
        let job = job.expect("the epoch is raised after the job was set");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(index))) {
            lock(&shared.panic).get_or_insert(panic);
        }
        shared.pending.fetch_sub(1, Ordering::Release);
    }
}

/// Returns when the epoch is no longer `seen`. It is then exactly one higher: the next region waits for this worker.
fn wait_for_work(shared: &Shared, seen: u32) {
    for _ in 0..shared.spins {
        if shared.epoch.load(Ordering::Acquire) != seen {
            return;
        }
        std::hint::spin_loop();
    }
    for _ in 0..YIELDS_BEFORE_SLEEP {
        if shared.epoch.load(Ordering::Acquire) != seen {
            return;
        }
        std::thread::yield_now();
    }
    let mut gate = lock(&shared.gate);
    shared.sleeping.fetch_add(1, Ordering::SeqCst);
    while shared.epoch.load(Ordering::SeqCst) == seen {
        gate = shared.wake.wait(gate).unwrap_or_else(PoisonError::into_inner);
    }
    shared.sleeping.fetch_sub(1, Ordering::SeqCst);
    drop(gate);
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
    fn every_thread_runs_every_region_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads, false).unwrap();
            for _ in 0..300 {
                let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
                pool.run(&|index| {
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn for_each_covers_every_index_once() {
        let pool = Pool::new(3, false).unwrap();
        for count in [0, 1, 2, 100] {
            let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each(count, &|_, index| {
                seen[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2, true).unwrap();
        for guilty in 0..2 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|index| assert!(index != guilty, "thread {guilty} fails"));
            }));
            assert!(outcome.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.run(&|index| {
            sum.fetch_add(index + 1, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 3);
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(2, false).unwrap();
        let (running, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(&|_| {
                            let others = running.fetch_add(1, Ordering::SeqCst);
                            assert!(others < 2, "two regions at once");
                            total.fetch_add(1, Ordering::Relaxed);
                            running.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 600);
    }
}
