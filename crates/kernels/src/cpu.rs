//! The processor as the kernels see it: an instruction set and a pool of threads.

use std::num::NonZeroUsize;

use crate::memory::Arena;
use crate::pool::Pool;
use crate::table::Table;
use crate::{Error, Isa, Result};

/// Threads beyond this are refused by clamping: no machine has more, and a typing error should not start a million.
const THREADS_MAX: usize = 1024;

/// How to make a [`Cpu`].
#[derive(Clone, Copy, Debug)]
pub struct CpuOptions {
    /// The instruction set; `None` takes the best that the processor has.
    pub isa: Option<Isa>,
    /// Threads that work on a region, the caller's included.
    pub threads: NonZeroUsize,
    /// Whether worker `i` stays on the `i`-th core that the process may use (best effort). The caller's thread is
    /// never moved.
    pub is_pinned: bool,
}

impl Default for CpuOptions {
    /// The best instruction set, a thread for every core that the process may use, not pinned.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { isa: None, threads, is_pinned: false }
    }
}

/// An instruction set and the threads that use it. One is enough for a process: several callers take turns, region by
/// region.
pub struct Cpu {
    pub(crate) pool: Pool,
    pub(crate) table: &'static Table,
    /// Whether one column reads panels side by side, where the table has kernels for it.
    pub(crate) is_side_by_side: bool,
    /// Where weights lie.
    pub(crate) arena: Arena,
}

impl Cpu {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::IsaUnavailable`] if the processor lacks the instruction set asked for, [`Error::Thread`] if the system
    /// gives no thread.
    pub fn new(options: CpuOptions) -> Result<Self> {
        let isa = options.isa.unwrap_or_else(Isa::detect);
        if !isa.is_available() {
            return Err(Error::IsaUnavailable { isa });
        }
        let pool = Pool::new(options.threads.get().min(THREADS_MAX), options.is_pinned)?;
        Ok(Self { pool, table: Table::of(isa), is_side_by_side: isa.is_read_side_by_side(), arena: Arena::default() })
    }

    /// The instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.table.isa
    }

    /// Threads that work on a region.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Cpu({}, {} threads)", self.isa(), self.threads())
    }
}
