//! How threads join a region and how its caller knows that they are gone. Compiled twice: with the atomics of the
//! standard library, and in tests with those of a model checker, which tries every interleaving (`super::atomics`).

use super::atomics::{AtomicU64, Ordering};

/// Set in the state when nobody may join any more.
const CLOSED: u64 = 1 << 31;
/// How many have joined, from the lowest bit on.
const JOINED: u64 = CLOSED - 1;
/// One region, in the bits above.
const EPOCH: u32 = 32;

/// What a worker finds that looks for work.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It belongs to the region now, and must leave it.
    Joined { epoch: u64 },
    /// No region is open that it has not seen.
    Nothing,
}

/// The one region that a pool has at a time.
///
/// The caller opens it, works, closes it and waits for those who joined. A worker that comes late finds it closed and
/// has nothing to do, so nobody ever waits for a thread that the system does not let run.
#[derive(Debug)]
pub(super) struct Region {
    /// Epoch, [`CLOSED`] and the number of threads that joined.
    state: AtomicU64,
    /// Threads that have left the current region.
    left: AtomicU64,
}

impl Region {
    pub(super) fn new() -> Self {
        Self { state: AtomicU64::new(CLOSED), left: AtomicU64::new(0) }
    }

    /// Opens the next region. What the caller wrote before is seen by all that join. Only one thread may be between
    /// this and the end of [`Region::is_left`].
    pub(super) fn open(&self) {
        self.left.store(0, Ordering::Relaxed);
        let epoch = (self.state.load(Ordering::Relaxed) >> EPOCH) + 1;
        self.state.store(epoch << EPOCH, Ordering::SeqCst);
    }

    /// Lets nobody join any more; answers how many did.
    pub(super) fn close(&self) -> u64 {
        self.state.fetch_or(CLOSED, Ordering::AcqRel) & JOINED
    }

    /// Whether all `joined` threads have left. What they wrote is then seen by the caller.
    pub(super) fn is_left(&self, joined: u64) -> bool {
        self.left.load(Ordering::Acquire) == joined
    }

    /// Joins the open region, if it is another one than `seen`.
    pub(super) fn join(&self, seen: u64) -> Found {
        let mut state = self.state.load(Ordering::SeqCst);
        // Ends when the region closes: only joiners change the state of an open region.
        loop {
            let epoch = state >> EPOCH;
            if epoch == seen || state & CLOSED != 0 {
                return Found::Nothing;
            }
            match self.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Found::Joined { epoch },
                Err(now) => state = now,
            }
        }
    }

    /// Leaves a region that was joined.
    pub(super) fn leave(&self) {
        self.left.fetch_add(1, Ordering::Release);
    }
}
