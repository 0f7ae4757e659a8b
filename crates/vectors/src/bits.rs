use roaring::RoaringBitmap;

/// A set of rows of one segment, one bit a row. Dense, because filters are combined in words and a segment has at most
/// 262,144 rows (32 KiB).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
    rows: u32,
}

impl Bits {
    /// No row of `rows`.
    pub(crate) fn none(rows: u32) -> Self {
        Self { words: vec![0; rows.div_ceil(64) as usize], rows }
    }

    /// Every row of `rows`.
    pub(crate) fn all(rows: u32) -> Self {
        let mut bits = Self { words: vec![u64::MAX; rows.div_ceil(64) as usize], rows };
        bits.trim();
        bits
    }

    /// Clears what lies beyond the last row.
    fn trim(&mut self) {
        let used = self.rows % 64;
        if used != 0
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << used) - 1;
        }
    }

    /// Adds a row. Says whether it is new.
    pub(crate) fn insert(&mut self, row: u32) -> bool {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let word = &mut self.words[(row / 64) as usize];
        let bit = 1 << (row % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Whether the row is in the set.
    pub(crate) fn contains(&self, row: u32) -> bool {
        self.words[(row / 64) as usize] & (1 << (row % 64)) != 0
    }

    /// How many rows are in the set.
    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Rows in both.
    pub(crate) fn and(&mut self, other: &Self) {
        self.zip(other, |left, right| left & right);
    }

    /// Rows in either.
    pub(crate) fn or(&mut self, other: &Self) {
        self.zip(other, |left, right| left | right);
    }

    /// Rows in this one and not in the other.
    pub(crate) fn and_not(&mut self, other: &Self) {
        self.zip(other, |left, right| left & !right);
    }

    fn zip(&mut self, other: &Self, combine: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.rows, other.rows, "sets over different rows");
        for (word, &right) in self.words.iter_mut().zip(&other.words) {
            *word = combine(*word, right);
        }
    }

    /// Rows that are not in the set.
    pub(crate) fn not(mut self) -> Self {
        for word in &mut self.words {
            *word = !*word;
        }
        self.trim();
        self
    }

    /// The rows `8 * group ..` of each group as a byte, the lowest bit first, in `room`.
    pub(crate) fn bytes<'a>(&self, groups: std::ops::Range<usize>, room: &'a mut Vec<u8>) -> &'a mut [u8] {
        room.clear();
        for word in &self.words[groups.start / 8..groups.end.div_ceil(8)] {
            room.extend_from_slice(&word.to_le_bytes());
        }
        &mut room[groups.start % 8..][..groups.end - groups.start]
    }

    /// How many of these rows are in the set.
    pub(crate) fn count_in(&self, rows: std::ops::Range<u32>) -> u32 {
        if rows.is_empty() {
            return 0;
        }
        let (first, last) = ((rows.start / 64) as usize, ((rows.end - 1) / 64) as usize);
        let words = self.words[first..=last].iter().enumerate();
        let counts = words.map(|(place, &word)| {
            let start = (first + place) as u32 * 64;
            let before = rows.start.saturating_sub(start);
            let after = (start + 64).saturating_sub(rows.end);
            (word & (u64::MAX << before) & (u64::MAX >> after)).count_ones()
        });
        counts.sum()
    }

    /// The rows of the set, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros();
                left &= left - 1;
                Some(index as u32 * 64 + bit)
            })
        })
    }

    /// The set as it lies on disk.
    pub(crate) fn to_roaring(&self) -> RoaringBitmap {
        RoaringBitmap::from_sorted_iter(self.iter()).expect("the rows come in order")
    }

    /// Adds what lay on disk. `None` if a row is out of range.
    pub(crate) fn add_roaring(&mut self, stored: &RoaringBitmap) -> Option<()> {
        if stored.max().is_some_and(|max| max >= self.rows) {
            return None;
        }
        for row in stored {
            self.insert(row);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Bits;

    fn of(rows: u32, members: &BTreeSet<u32>) -> Bits {
        let mut bits = Bits::none(rows);
        for &row in members {
            assert!(bits.insert(row) && !bits.insert(row));
        }
        bits
    }

    proptest! {
        #[test]
        fn sets_do_what_sets_do(rows in 1_u32..300, left in prop::collection::btree_set(0_u32..300, 0..100),
                                right in prop::collection::btree_set(0_u32..300, 0..100)) {
            let left: BTreeSet<u32> = left.into_iter().filter(|&row| row < rows).collect();
            let right: BTreeSet<u32> = right.into_iter().filter(|&row| row < rows).collect();
            let (a, b) = (of(rows, &left), of(rows, &right));
            let check = |bits: &Bits, expected: BTreeSet<u32>| {
                assert_eq!(bits.iter().collect::<BTreeSet<_>>(), expected);
                assert_eq!(bits.count() as usize, expected.len());
                assert!((0..rows).all(|row| bits.contains(row) == expected.contains(&row)));
                let count = |start: u32, end: u32| (start..end).filter(|row| expected.contains(row)).count();
                assert!((0..rows).step_by(7).all(|end| {
                    (0..=end).step_by(5).all(|start| bits.count_in(start..end) as usize == count(start, end))
                }));
                let (groups, mut room) = (rows.div_ceil(8) as usize, Vec::new());
                for groups in (0..=groups).flat_map(|end| (0..=end).map(move |start| start..end)) {
                    let is_in = |row: usize| row < rows as usize && bits.contains(row as u32);
                    let byte = |group: usize| (0..8).map(|bit| u8::from(is_in(8 * group + bit)) << bit).sum::<u8>();
                    let expected: Vec<u8> = groups.clone().map(byte).collect();
                    assert_eq!(bits.bytes(groups, &mut room), expected);
                }
            };
            let with = |change: fn(&mut Bits, &Bits)| { let mut bits = a.clone(); change(&mut bits, &b); bits };
            check(&with(Bits::and), &left & &right);
            check(&with(Bits::or), &left | &right);
            check(&with(Bits::and_not), &left - &right);
            check(&a.clone().not(), &(0..rows).collect() - &left);
            check(&Bits::all(rows), (0..rows).collect());
            let mut read = Bits::none(rows);
            prop_assert!(read.add_roaring(&a.to_roaring()).is_some());
            prop_assert_eq!(read, a);
        }
    }

    #[test]
    fn rows_from_elsewhere_are_refused() {
        assert!(Bits::none(10).add_roaring(&[3, 10].into_iter().collect()).is_none());
    }
}
