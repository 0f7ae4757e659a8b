//! The blocks of the key/value cache: free, held by sequences, or kept for whoever comes with the same beginning.
//!
//! Whole blocks of computed tokens form a tree: a block is known by the block before it and by its own tokens, so equal
//! beginnings are equal paths from the root (a radix tree whose edges are one block long). A sequence that holds a
//! block holds all blocks before it. What nobody holds any more stays until room is needed; then the block that was
//! let go first leaves first, and of one sequence the last block before the ones that it builds on. Pinned blocks,
//! those of system prompts, leave after all others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::snapshots::Snapshots;

/// What stands before a block.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Parent {
    /// Nothing: it is the first of a sequence of this realm. Projects have no realm in common, so none can tell by
    /// the time that its prompt takes what another one has asked.
    Realm(Arc<str>),
    Block(u32),
}

/// One block of so many may be pinned: the others are for what people say.
const PINNED_SHARE: usize = 2;

/// The place of a block in the tree.
#[derive(Debug)]
struct Kept {
    parent: Parent,
    tokens: Box<[u32]>,
    depth: u32,
    /// When it was let go last; the clock is the number of releases.
    let_go: u64,
    is_pinned: bool,
}

impl Kept {
    /// Its place among those that nobody holds.
    fn rank(&self, block: u32) -> Rank {
        (self.is_pinned, self.let_go, Reverse(self.depth), block)
    }
}

/// Whoever has the least leaves first.
type Rank = (bool, u64, Reverse<u32>, u32);

/// Blocks `0..count`. Finding a beginning costs a look-up for each of its blocks; everything else is logarithmic.
#[derive(Debug)]
pub(crate) struct Blocks {
    block_tokens: usize,
    free: Vec<u32>,
    holders: Vec<u32>,
    kept: Vec<Option<Kept>>,
    children: BTreeMap<(Parent, Box<[u32]>), u32>,
    /// Kept and held by nobody, in the order in which they leave.
    idle: BTreeSet<Rank>,
    releases: u64,
    pinned: usize,
    /// The recurrent states behind kept blocks.
    pub(crate) snapshots: Snapshots,
}

impl Blocks {
    pub(crate) fn new(count: u32, block_tokens: usize, snapshots: Snapshots) -> Self {
        Self {
            block_tokens,
            free: (0..count).rev().collect(),
            holders: vec![0; count as usize],
            kept: (0..count).map(|_| None).collect(),
            children: BTreeMap::new(),
            idle: BTreeSet::new(),
            releases: 0,
            pinned: 0,
            snapshots,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.holders.len()
    }

    /// Blocks with something in them that somebody holds or may come back for.
    pub(crate) fn used(&self) -> usize {
        self.holders.len() - self.free.len()
    }

    /// Blocks that nobody holds.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Whether nobody holds this block.
    pub(crate) fn is_idle(&self, block: u32) -> bool {
        self.holders[block as usize] == 0
    }

    /// A block to write into: a free one, or the one that was kept longest for nobody.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let block = match self.free.pop() {
            Some(block) => block,
            None => {
                let (_, _, _, block) = self.idle.pop_first()?;
                self.forget(block);
                block
            }
        };
        self.holders[block as usize] = 1;
        Some(block)
    }

    fn forget(&mut self, block: u32) {
        let kept = self.kept[block as usize].take().expect("idle blocks are kept");
        self.pinned -= usize::from(kept.is_pinned);
        self.snapshots.forget(block);
        self.children.remove(&(kept.parent, kept.tokens));
    }

    /// The kept blocks of a realm with which `tokens` begin, as many as there are. They are not held yet.
    pub(crate) fn beginning(&self, realm: &Arc<str>, tokens: &[u32]) -> Vec<u32> {
        let (mut found, mut parent) = (Vec::new(), Parent::Realm(Arc::clone(realm)));
        for piece in tokens.chunks_exact(self.block_tokens) {
            let Some(&block) = self.children.get(&(parent, Box::from(piece))) else { break };
            found.push(block);
            parent = Parent::Block(block);
        }
        found
    }

    /// Whether one sequence alone holds this block.
    pub(crate) fn is_single(&self, block: u32) -> bool {
        self.holders[block as usize] == 1
    }

    pub(crate) fn hold(&mut self, block: u32) {
        let holders = &mut self.holders[block as usize];
        if *holders == 0 {
            let kept = self.kept[block as usize].as_ref().expect("a block that nobody holds is kept or free");
            self.idle.remove(&kept.rank(block));
        }
        *holders += 1;
    }

    /// Lets go of a sequence's blocks.
    pub(crate) fn release(&mut self, blocks: &mut Vec<u32>) {
        self.releases += 1;
        for block in blocks.drain(..).rev() {
            self.release_one(block);
        }
    }

    fn release_one(&mut self, block: u32) {
        let holders = &mut self.holders[block as usize];
        *holders = holders.checked_sub(1).expect("a block was given back twice");
        if *holders > 0 {
            return;
        }
        match &mut self.kept[block as usize] {
            Some(kept) => {
                kept.let_go = self.releases;
                self.idle.insert(kept.rank(block));
            }
            None => self.free.push(block),
        }
    }

    /// Keeps block `index` of a sequence, whole and computed, whose blocks before it are kept. If an equal one is kept
    /// already, the sequence goes on with that one.
    pub(crate) fn keep(&mut self, realm: &Arc<str>, blocks: &mut [u32], index: usize, tokens: &[u32]) {
        let parent = match index {
            0 => Parent::Realm(Arc::clone(realm)),
            _ => Parent::Block(blocks[index - 1]),
        };
        let block = blocks[index];
        if self.kept[block as usize].is_some() {
            return;
        }
        let key = (parent, Box::from(tokens));
        if let Some(&equal) = self.children.get(&key) {
            self.hold(equal);
            blocks[index] = equal;
            self.release_one(block);
            return;
        }
        let (parent, tokens) = key.clone();
        self.kept[block as usize] = Some(Kept { parent, tokens, depth: index as u32, let_go: 0, is_pinned: false });
        self.children.insert(key, block);
    }
}

impl Blocks {
    /// Pins a kept block that somebody holds, unless the one before it is not, or all pinned ones are in use.
    pub(crate) fn pin(&mut self, block: u32) {
        assert!(!self.is_idle(block), "block {block} is pinned by somebody who does not hold it");
        let is_pinned = |block: u32| self.kept[block as usize].as_ref().is_some_and(|kept| kept.is_pinned);
        let follows = match self.kept[block as usize].as_ref().map(|kept| &kept.parent) {
            None => false,
            Some(Parent::Realm(_)) => true,
            Some(Parent::Block(parent)) => is_pinned(*parent),
        };
        let may = self.pinned < self.count() / PINNED_SHARE;
        if is_pinned(block) || !follows || (!may && !self.unpin_oldest()) {
            return;
        }
        if let Some(kept) = &mut self.kept[block as usize] {
            kept.is_pinned = true;
            self.pinned += 1;
        }
    }

    /// Makes the pinned block that nobody has used for longest like the others.
    fn unpin_oldest(&mut self) -> bool {
        let Some(&rank) = self.idle.range((true, 0, Reverse(u32::MAX), 0)..).next() else { return false };
        self.idle.remove(&rank);
        let block = rank.3;
        let kept = self.kept[block as usize].as_mut().expect("idle blocks are kept");
        kept.is_pinned = false;
        self.idle.insert(kept.rank(block));
        self.pinned -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Blocks;
    use crate::snapshots::Snapshots;

    fn blocks_of_two(count: u32) -> Blocks {
        Blocks::new(count, 2, Snapshots::default())
    }

    /// The kept blocks of the project that all but one test are about.
    fn beginning(blocks: &Blocks, tokens: &[u32]) -> Vec<u32> {
        blocks.beginning(&Arc::from("a"), tokens)
    }

    /// Takes blocks for these tokens, computes them all and lets go again.
    fn visit(blocks: &mut Blocks, tokens: &[u32]) -> Vec<u32> {
        let mut held = beginning(blocks, tokens);
        held.iter().for_each(|&block| blocks.hold(block));
        while held.len() < tokens.len().div_ceil(2) {
            held.push(blocks.take().unwrap());
        }
        for (index, piece) in tokens.chunks_exact(2).enumerate() {
            blocks.keep(&Arc::from("a"), &mut held, index, piece);
        }
        let visited = held.clone();
        blocks.release(&mut held);
        visited
    }

    #[test]
    fn equal_beginnings_share_blocks() {
        let mut blocks = blocks_of_two(8);
        let first = visit(&mut blocks, &[1, 2, 3, 4, 5]);
        assert_eq!(beginning(&blocks, &[1, 2, 3, 4, 5, 6]), first[..2]);
        assert_eq!(beginning(&blocks, &[1, 2, 9, 4]), first[..1]);
        assert!(beginning(&blocks, &[3, 4]).is_empty(), "the same tokens elsewhere are not the same");
        assert_eq!(blocks.available(), 8, "nobody holds any");
    }

    #[test]
    fn projects_share_nothing() {
        let mut blocks = blocks_of_two(8);
        visit(&mut blocks, &[1, 2, 3, 4]);
        assert!(blocks.beginning(&Arc::from("b"), &[1, 2, 3, 4]).is_empty());
        let mut held = vec![blocks.take().unwrap()];
        blocks.keep(&Arc::from("b"), &mut held, 0, &[1, 2]);
        assert_ne!(held, beginning(&blocks, &[1, 2]), "equal tokens of two projects lie in two blocks");
        assert_eq!(blocks.beginning(&Arc::from("b"), &[1, 2, 3, 4]), held);
    }

    #[test]
    fn the_oldest_leave_first_and_the_last_before_the_first() {
        let mut blocks = blocks_of_two(4);
        visit(&mut blocks, &[1, 1, 2, 2]);
        visit(&mut blocks, &[3, 3, 4, 4]);
        visit(&mut blocks, &[1, 1]);
        let mut held = vec![blocks.take().unwrap()];
        assert_eq!(beginning(&blocks, &[1, 1, 2, 2]).len(), 1);
        assert_eq!(beginning(&blocks, &[3, 3, 4, 4]).len(), 2);
        held.extend([blocks.take().unwrap(), blocks.take().unwrap()]);
        assert_eq!(beginning(&blocks, &[3, 3, 4, 4]).len(), 0);
        assert_eq!(beginning(&blocks, &[1, 1]).len(), 1, "it was used again");
        blocks.release(&mut held);
        assert_eq!(blocks.available(), 4);
    }

    #[test]
    fn two_that_compute_the_same_end_with_one_copy() {
        let mut blocks = blocks_of_two(4);
        let (mut a, mut b) = (vec![blocks.take().unwrap()], vec![blocks.take().unwrap()]);
        blocks.keep(&Arc::from("a"), &mut a, 0, &[7, 8]);
        blocks.keep(&Arc::from("a"), &mut b, 0, &[7, 8]);
        assert_eq!(a, b);
        assert_eq!(blocks.available(), 3);
        blocks.release(&mut a);
        assert_eq!(blocks.available(), 3);
        blocks.release(&mut b);
        assert_eq!(blocks.available(), 4);
    }

    /// The same as `visit`, with the first blocks pinned.
    fn visit_pinned(blocks: &mut Blocks, tokens: &[u32], pinned: usize) {
        let visited = visit(blocks, tokens);
        let mut held = visited[..pinned].to_vec();
        held.iter().for_each(|&block| blocks.hold(block));
        held.iter().for_each(|&block| blocks.pin(block));
        blocks.release(&mut held);
    }

    #[test]
    fn what_is_pinned_leaves_last_and_is_half_at_most() {
        let mut blocks = blocks_of_two(8);
        visit_pinned(&mut blocks, &[1, 1, 2, 2, 3, 3], 2);
        // Others come and go, of more tokens than there is room for.
        (1..10).for_each(|turn| drop(visit(&mut blocks, &[10 * turn, 0, 0, 0, 0, 0])));
        assert_eq!(beginning(&blocks, &[1, 1, 2, 2, 3, 3]).len(), 2);
        // Other system prompts: the one that was not asked for longest gives way, from its end.
        visit_pinned(&mut blocks, &[4, 4, 5, 5, 6, 6], 3);
        assert_eq!(blocks.pinned, 4);
        (1..10).for_each(|turn| drop(visit(&mut blocks, &[10 * turn, 0, 0, 0, 0, 0])));
        assert_eq!(beginning(&blocks, &[1, 1, 2, 2, 3, 3]).len(), 1);
        assert_eq!(beginning(&blocks, &[4, 4, 5, 5, 6, 6]).len(), 3);
        // Whoever needs all of the room gets it.
        let mut held: Vec<u32> = (0..8).map(|_| blocks.take().unwrap()).collect();
        assert_eq!((blocks.pinned, blocks.available()), (0, 0));
        blocks.release(&mut held);
        assert_eq!(blocks.available(), 8);
    }

    #[test]
    fn nothing_is_pinned_behind_what_is_not() {
        let mut blocks = blocks_of_two(4);
        let mut held = visit(&mut blocks, &[1, 1, 2, 2, 3, 3]);
        held.iter().for_each(|&block| blocks.hold(block));
        blocks.pin(held[1]);
        assert_eq!(blocks.pinned, 0);
        held.iter().for_each(|&block| blocks.pin(block));
        assert_eq!(blocks.pinned, 2, "all that may be pinned are in use");
        blocks.release(&mut held);
    }
}
