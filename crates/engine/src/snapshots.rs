//! Recurrent states that are kept with blocks of the cache, so that others can go on from there.
//!
//! A snapshot belongs to a kept block and is the state behind the block's last token. There are few of them, each as
//! large as the keys and values of a thousand tokens, so they are kept where prompts are known to part, and the one
//! that nobody has used for longest makes room for the next; those behind system prompts leave after all others.

use std::collections::BTreeMap;

/// Where a snapshot stands among those that leave, whoever has the least first: it is behind a system prompt, and when
/// it was used last.
type Rank = (bool, u64);

#[derive(Debug)]
struct Snapshot {
    slot: u32,
    rank: Rank,
    /// Somebody went on from it.
    is_proven: bool,
}

/// The slots of one model's snapshots.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    free: Vec<u32>,
    of_block: BTreeMap<u32, Snapshot>,
    /// All of them, in the order in which they leave.
    order: BTreeMap<Rank, u32>,
    uses: u64,
}

impl Snapshots {
    pub(crate) fn new(slots: std::ops::Range<u32>) -> Self {
        Self { free: slots.rev().collect(), ..Self::default() }
    }

    /// A slot to write a state into: a free one, or the one that nobody has used for longest. `None` if all are being
    /// written.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let (_, block) = self.order.pop_first()?;
        self.of_block.remove(&block).map(|snapshot| snapshot.slot)
    }

    /// Gives back a slot that was taken and not attached.
    pub(crate) fn give_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Keeps the state of a slot that was taken with this block, unless the block has one. Says whether it did.
    pub(crate) fn attach(&mut self, block: u32, slot: u32, is_pinned: bool) -> bool {
        if self.of_block.contains_key(&block) {
            self.free.push(slot);
            return false;
        }
        let rank = (is_pinned, self.uses);
        self.uses += 1;
        self.order.insert(rank, block);
        self.of_block.insert(block, Snapshot { slot, rank, is_proven: false });
        true
    }

    /// Whether there is a snapshot behind this block.
    pub(crate) fn has(&self, block: u32) -> bool {
        self.of_block.contains_key(&block)
    }

    /// The slot of a block's snapshot, for somebody who goes on from it now.
    pub(crate) fn used(&mut self, block: u32) -> Option<u32> {
        let snapshot = self.of_block.get_mut(&block)?;
        self.order.remove(&snapshot.rank);
        snapshot.rank.1 = self.uses;
        snapshot.is_proven = true;
        self.uses += 1;
        self.order.insert(snapshot.rank, block);
        Some(snapshot.slot)
    }

    /// Lets go of a snapshot that a later one of the same sequence makes needless, unless others went on from it.
    pub(crate) fn supersede(&mut self, block: u32) {
        if self.of_block.get(&block).is_some_and(|snapshot| !snapshot.is_proven) {
            self.forget(block);
        }
    }

    /// All slots but those that are being written.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.free.len() + self.of_block.len()
    }

    /// The block is no longer kept.
    pub(crate) fn forget(&mut self, block: u32) {
        if let Some(snapshot) = self.of_block.remove(&block) {
            self.order.remove(&snapshot.rank);
            self.free.push(snapshot.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Snapshots;

    /// Keeps a state with each of these blocks.
    fn filled(count: u32, blocks: &[u32]) -> Snapshots {
        let mut snapshots = Snapshots::new(10..10 + count);
        for &block in blocks {
            let slot = snapshots.take().unwrap();
            assert!(snapshots.attach(block, slot, false));
        }
        snapshots
    }

    #[test]
    fn the_one_that_nobody_used_for_longest_makes_room() {
        let mut snapshots = filled(3, &[1, 2, 3]);
        assert_eq!(snapshots.used(1), Some(10));
        let slot = snapshots.take().unwrap();
        assert!(!snapshots.has(2) && snapshots.has(1) && snapshots.has(3));
        assert!(snapshots.attach(4, slot, true));
        assert_eq!(snapshots.used(4), Some(slot));
        let taken = [snapshots.take().unwrap(), snapshots.take().unwrap()];
        assert!(snapshots.has(4), "what stands behind a system prompt leaves last");
        assert!(snapshots.take().is_some() && snapshots.take().is_none(), "all are being written");
        taken.into_iter().for_each(|slot| snapshots.give_back(slot));
        assert!(snapshots.take().is_some());
    }

    #[test]
    fn one_block_has_one_snapshot() {
        let mut snapshots = filled(2, &[1]);
        let slot = snapshots.take().unwrap();
        assert!(!snapshots.attach(1, slot, false), "it has one");
        assert_eq!(snapshots.take(), Some(slot));
    }

    #[test]
    fn what_others_went_on_from_is_not_superseded() {
        let mut snapshots = filled(2, &[1, 2]);
        snapshots.used(1);
        [1, 2, 3].into_iter().for_each(|block| snapshots.supersede(block));
        assert!(snapshots.has(1) && !snapshots.has(2));
        snapshots.forget(1);
        assert!(!snapshots.has(1) && snapshots.take().is_some() && snapshots.take().is_some());
    }
}
