//! One mutable slice that the threads of a region write, each its own parts.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice that is lent to all threads of one parallel region.
pub(crate) struct Parts<'a, T> {
    pointer: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the only access is `part`, whose caller promises that no two threads hold overlapping ranges.
unsafe impl<T: Send> Sync for Parts<'_, T> {}
// SAFETY: as above; the pointer carries the borrow of a slice that may itself move between threads.
unsafe impl<T: Send> Send for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(whole: &'a mut [T]) -> Self {
        Self { pointer: whole.as_mut_ptr(), length: whole.len(), borrow: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// While the returned slice lives, nobody else asks for a range that overlaps it.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "a part must lie within the slice");
        // SAFETY: the range was checked, so the pointer stays within the slice.
        let start = unsafe { self.pointer.add(range.start) };
        // SAFETY: the range was checked, the slice is borrowed for 'a, and the caller promises disjointness.
        unsafe { std::slice::from_raw_parts_mut(start, range.end - range.start) }
    }
}
