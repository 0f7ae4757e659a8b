//! Zeroed memory for weights and caches: aligned to a cache line, on huge pages where the system has them.
//!
//! A stream over 4 KiB pages spends a tenth to a fifth of its time in page walks; 2 MiB pages remove that. Pages are
//! given by the system when they are first touched, so a large empty cache costs nothing.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Result};

/// A cache line, and the width of the widest register.
pub(crate) const ALIGNMENT: usize = 64;
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// What an [`Arena`] takes from the system at once: many matrices of a small model, so that they share huge pages.
const ARENA_BYTES: usize = 64 << 20;

/// A fixed number of bytes, zero at first, aligned to a cache line. From 2 MiB on they lie on huge pages, so that
/// touching them for the first time costs one page fault in 2 MiB and not 512.
pub struct Memory {
    /// Where they lie; others may own the bytes beside them.
    region: Arc<Region>,
    start: usize,
    length: usize,
}

/// Gives out memory that stays for long, without holes between huge pages: a matrix of a megabyte would otherwise lie
/// on small pages, which slows its reading (`docs/decisions/0013-reading-weights.md`). A region goes back to the system
/// when all that lies in it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    current: Mutex<Option<(Arc<Region>, usize)>>,
}

impl Arena {
    /// `length` zero bytes.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system has none.
    pub(crate) fn zeroed(&self, length: usize) -> Result<Memory> {
        if length >= ARENA_BYTES / 2 {
            return Memory::zeroed(length);
        }
        // A panic while the lock was held left the place whole: it is written at once.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (region, start) = match current.take() {
            Some((region, used)) if region.length - used >= length => (region, used),
            Some(_) | None => (Arc::new(Region::zeroed(ARENA_BYTES)?), 0),
        };
        let end = (start + length).next_multiple_of(ALIGNMENT).min(region.length);
        *current = Some((Arc::clone(&region), end));
        Ok(Memory { region, start, length })
    }
}

impl Memory {
    /// `length` zero bytes in a region of their own.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system has none.
    pub fn zeroed(length: usize) -> Result<Self> {
        Ok(Self { region: Arc::new(Region::zeroed(length)?), start: 0, length })
    }
}

/// Processors that share a heap, as long as there are no more heaps than [`HEAPS_MAX`].
const PROCESSORS_PER_HEAP: usize = 8;
/// Each heap keeps holes of its own: a server that saw 64 processors kept 94 MB after 100,000 vectors with eight heaps,
/// and 27 MB with two (`bench/README.md`).
const HEAPS_MAX: usize = 2;

/// Has threads share few heaps: one up to eight processors, two beyond. To be called before there are other threads.
///
/// glibc gives every thread a heap of its own, up to eight a processor. What is freed at the end of such a heap stays
/// with the process, whatever is done with it later: [`give_back_memory`] reaches the end of the first only. After
/// 100,000 vectors had come over HTTP, 66 of the 79 MB that the process held were empty (`bench/README.md`). Threads
/// wait for each other only for blocks above 1 KiB, of which requests take few.
pub fn share_heaps(processors: usize) {
    let heaps = i32::try_from(processors.div_ceil(PROCESSORS_PER_HEAP).min(HEAPS_MAX)).unwrap_or(1);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call stores a number that the allocator reads when a thread asks for its first block.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, heaps)
    };
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = heaps;
}

/// Gives memory that was freed back to the system, as far as the allocator keeps any: glibc's keeps what lies between
/// blocks that are in use, which after large work in small pieces is nearly all of it. See also [`share_heaps`].
///
/// Cost: milliseconds for each gigabyte, during which other threads wait to allocate.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call touches nothing but pages that hold no block in use.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Bytes from the system.
#[derive(Debug)]
struct Region {
    pointer: NonNull<u8>,
    length: usize,
    is_mapped: bool,
}

// SAFETY: a `Region` owns its bytes; each is reached through the one `Memory` that it was given to.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn zeroed(length: usize) -> Result<Self> {
        #[cfg(target_os = "linux")]
        if length >= HUGE_PAGE {
            return Self::map(length);
        }
        let bytes = length.max(1);
        let layout = std::alloc::Layout::from_size_align(bytes, ALIGNMENT).map_err(|_| Error::Memory { bytes })?;
        // SAFETY: the layout has at least one byte.
        let pointer = unsafe { std::alloc::alloc_zeroed(layout) };
        let pointer = NonNull::new(pointer).ok_or(Error::Memory { bytes })?;
        Ok(Self { pointer, length, is_mapped: false })
    }

    /// Maps a region that begins on a huge page; what lies before and behind it is given back at once.
    #[cfg(target_os = "linux")]
    fn map(length: usize) -> Result<Self> {
        let failed = Error::Memory { bytes: length };
        let Some(reserved) = length.checked_next_multiple_of(HUGE_PAGE).and_then(|size| size.checked_add(HUGE_PAGE))
        else {
            return Err(failed);
        };
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), reserved, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(failed);
        }
        let start: *mut u8 = start.cast();
        let before = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
        let pointer = start.wrapping_add(before);
        let size = length.next_multiple_of(HUGE_PAGE);
        let behind = reserved - before - size;
        if before > 0 {
            // SAFETY: the pages before the first huge page are ours and nobody has seen them.
            unsafe { libc::munmap(start.cast(), before) };
        }
        if behind > 0 {
            // SAFETY: as above, for the pages behind the last one.
            unsafe { libc::munmap(pointer.wrapping_add(size).cast(), behind) };
        }
        // SAFETY: the range is ours. The advice may be refused; then the pages are small.
        unsafe { libc::madvise(pointer.cast(), size, libc::MADV_HUGEPAGE) };
        let pointer = NonNull::new(pointer).ok_or(failed)?;
        Ok(Self { pointer, length, is_mapped: true })
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the part lies within the region.
        let start = unsafe { self.region.pointer.add(self.start) };
        // SAFETY: `length` initialised bytes that live as long as `self` and were given to nobody else.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.length) }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        let start = unsafe { self.region.pointer.add(self.start) };
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.length) }
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if self.is_mapped {
            // SAFETY: `map` left exactly this range mapped.
            unsafe { libc::munmap(self.pointer.as_ptr().cast(), self.length.next_multiple_of(HUGE_PAGE)) };
            return;
        }
        debug_assert!(!self.is_mapped);
        // SAFETY: the layout that `zeroed` allocated with.
        let layout = unsafe { std::alloc::Layout::from_size_align_unchecked(self.length.max(1), ALIGNMENT) };
        // SAFETY: `zeroed` allocated the pointer with this layout.
        unsafe { std::alloc::dealloc(self.pointer.as_ptr(), layout) };
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Memory({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zero_aligned_and_writable_at_both_sizes() {
        for length in [0, 1, 100, 3 << 20] {
            let mut memory = Memory::zeroed(length).unwrap();
            assert_eq!(memory.len(), length);
            assert!(memory.as_ptr().addr().is_multiple_of(ALIGNMENT));
            assert!(memory.iter().all(|byte| *byte == 0));
            if let Some(last) = memory.last_mut() {
                *last = 7;
                assert_eq!(memory[length - 1], 7);
            }
        }
    }

    #[test]
    fn an_arena_packs_parts_that_do_not_overlap() {
        let arena = Arena::default();
        let lengths = [1, 64, 1000, 0, 30 << 20, 30 << 20, 5 << 20, 40 << 20];
        let mut parts = lengths.map(|length| arena.zeroed(length).unwrap());
        for (index, part) in parts.iter_mut().enumerate() {
            assert!(part.as_ptr().addr().is_multiple_of(ALIGNMENT) && part.len() == lengths[index]);
            assert!(part.iter().all(|byte| *byte == 0), "part {index} is new");
            part.fill(index as u8 + 1);
        }
        assert!(Arc::ptr_eq(&parts[0].region, &parts[4].region) && !Arc::ptr_eq(&parts[0].region, &parts[7].region));
        for (index, part) in parts.iter().enumerate() {
            assert!(part.iter().all(|byte| *byte == index as u8 + 1), "part {index} is its own");
        }
    }

    #[test]
    fn refuses_more_than_there_is() {
        assert!(matches!(Memory::zeroed(usize::MAX / 2), Err(Error::Memory { .. })));
    }
}
