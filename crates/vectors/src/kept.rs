//! Parts of rows that queries read lately, in memory: those who ask what others asked about read nothing.
//!
//! A query of ten neighbours at a low effort reads 64 rounded rows, up to 22 whole ones and their documents. Out of the
//! system's cache those are about a hundred system calls and as many checksums; here each is a look into a table.
//! What is kept was checked when it was read, and segments never change, so nothing here ever becomes wrong; what a
//! segment that is closed leaves behind is pushed out by what others read.
//!
//! Who was used since the hand came by last stays (a clock). When there is no room, only one of [`ADMITTED_ONE_IN`] new
//! parts comes in: were it every one, queries in turn about a little more than fits would push out each other's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::segment::Wanted;

/// What a process keeps: of 384 dimensions 48,000 rounded rows, or 15,000 whole ones.
pub(crate) const KEPT_BYTES: usize = 24 << 20;
/// What a part takes beside its bytes: its entry in the table, its place in line, what counts its readers.
const PART_BYTES: usize = 128;
/// See above.
const ADMITTED_ONE_IN: u32 = 8;

/// Parts of rows, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes_max: usize,
    parts: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    known: HashMap<u64, Part>,
    /// Whom the hand comes to next.
    line: VecDeque<u64>,
    bytes: usize,
    /// How many came when there was no room.
    late: u32,
}

#[derive(Debug)]
struct Part {
    bytes: Bytes,
    was_used: bool,
}

impl Kept {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, parts: Mutex::default() }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // A panic while the lock was held left a part out, or its bytes counted: neither makes an answer wrong.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of `wanted`, in their order; the others are empty, which no part is, and their places are put into
    /// `missing`.
    pub(crate) fn find(&self, wanted: &[Wanted<'_>], missing: &mut Vec<usize>) -> Vec<Bytes> {
        let mut parts = self.parts();
        let look = |(place, wanted): (usize, &Wanted<'_>)| match parts.known.get_mut(&wanted.number()) {
            Some(part) => {
                part.was_used = true;
                part.bytes.clone()
            }
            None => {
                missing.push(place);
                Bytes::new()
            }
        };
        wanted.iter().enumerate().map(look).collect()
    }

    /// Keeps copies of parts that were read.
    pub(crate) fn add(&self, wanted: &[Wanted<'_>], read: &[Bytes]) {
        let mut parts = self.parts();
        for (wanted, bytes) in wanted.iter().zip(read) {
            let (number, weight) = (wanted.number(), bytes.len() + PART_BYTES);
            // Known already: another query read it meanwhile.
            let is_wanted = weight <= self.bytes_max / 2 && !parts.known.contains_key(&number);
            if is_wanted && parts.admits(weight, self.bytes_max) {
                // A copy, since what was read shares its memory with all that was read beside it.
                parts.known.insert(number, Part { bytes: Bytes::copy_from_slice(bytes), was_used: false });
                parts.line.push_back(number);
                parts.bytes += weight;
            }
        }
    }
}

impl Parts {
    /// Makes room for a part that comes in.
    fn admits(&mut self, weight: usize, bytes_max: usize) -> bool {
        if self.bytes + weight <= bytes_max {
            return true;
        }
        self.late = (self.late + 1) % ADMITTED_ONE_IN;
        if self.late != 0 {
            return false;
        }
        // Ends: each round forgets a part or takes its mark, and nobody is used meanwhile.
        while self.bytes + weight > bytes_max {
            let Some(next) = self.line.pop_front() else { return false };
            let part = self.known.get_mut(&next).expect("who stands in line is known");
            if std::mem::take(&mut part.was_used) {
                self.line.push_back(next);
                continue;
            }
            self.bytes -= part.bytes.len() + PART_BYTES;
            self.known.remove(&next);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{ADMITTED_ONE_IN, Kept, PART_BYTES};
    use crate::segment::{Of, Segment, Wanted};

    /// A part of every row, told apart by its bytes.
    fn part(row: u32) -> Bytes {
        Bytes::from(row.to_le_bytes().to_vec())
    }

    fn wanted(segment: &Arc<Segment>, rows: std::ops::Range<u32>) -> Vec<Wanted<'_>> {
        rows.map(|row| Wanted { segment, row, of: Of::Small }).collect()
    }

    /// Looks for rows, adds those that are missing, and answers how many were known.
    fn ask(kept: &Kept, segment: &Arc<Segment>, rows: std::ops::Range<u32>) -> usize {
        let wanted = wanted(segment, rows);
        let mut missing = Vec::new();
        let found = kept.find(&wanted, &mut missing);
        for (place, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            assert!(if missing.contains(&place) { found.is_empty() } else { *found == part(wanted.row) });
        }
        let others: Vec<Wanted<'_>> = missing.iter().map(|&place| wanted[place]).collect();
        let read: Vec<Bytes> = others.iter().map(|wanted| part(wanted.row)).collect();
        kept.add(&others, &read);
        wanted.len() - missing.len()
    }

    #[test]
    fn what_fits_stays_and_is_told_apart() {
        let (one, two) = (Segment::testing(), Segment::testing());
        let kept = Kept::new(100 * (4 + PART_BYTES));
        assert_eq!((ask(&kept, &one, 0..50), ask(&kept, &two, 0..50)), (0, 0));
        assert_eq!((ask(&kept, &one, 0..50), ask(&kept, &two, 0..50)), (50, 50));
        let documents: Vec<Wanted<'_>> = vec![Wanted { segment: &one, row: 3, of: Of::Document }];
        let mut missing = Vec::new();
        kept.find(&documents, &mut missing);
        assert_eq!(missing, [0], "another part of the same row");
    }

    #[test]
    fn a_little_more_than_fits_does_not_push_itself_out() {
        let segment = Segment::testing();
        let kept = Kept::new(100 * (4 + PART_BYTES));
        for _ in 0..10 {
            ask(&kept, &segment, 0..120);
        }
        let known: usize = (0..10).map(|_| ask(&kept, &segment, 0..120)).sum();
        assert!(known > 10 * 80, "{known} of 1,200");
        let parts = kept.parts();
        assert!(parts.bytes <= 100 * (4 + PART_BYTES) && parts.line.len() == parts.known.len());
    }

    #[test]
    fn what_nobody_asks_for_any_more_makes_room() {
        let segment = Segment::testing();
        let kept = Kept::new(100 * (4 + PART_BYTES));
        ask(&kept, &segment, 0..100);
        for _ in 0..10 * ADMITTED_ONE_IN {
            ask(&kept, &segment, 1_000..1_100);
        }
        assert_eq!(ask(&kept, &segment, 1_000..1_100), 100);
        assert_eq!(ask(&kept, &segment, 0..1), 0);
    }

    #[test]
    fn what_is_too_large_and_what_comes_again_is_no_trouble() {
        let segment = Segment::testing();
        let kept = Kept::new(4 * PART_BYTES);
        let one = wanted(&segment, 0..1);
        kept.add(&one, &[Bytes::from(vec![1; 4 * PART_BYTES])]);
        assert_eq!(kept.parts().known.len(), 0);
        for _ in 0..5 {
            kept.add(&one, &[part(0)]);
        }
        let parts = kept.parts();
        assert_eq!((parts.known.len(), parts.line.len(), parts.bytes), (1, 1, 4 + PART_BYTES));
    }
}
