//! What a sequence of a model with a recurrent state keeps of it, and where.
//!
//! A state cannot be taken back to where another sequence began to differ. So it is kept behind some of the blocks that
//! a sequence computes: behind the system prompt, behind the last block that an earlier prompt had in common with this
//! one (the next one that parts there begins behind it), behind the prompt, and behind the last whole block of all,
//! wherever that is. The last moves on with the sequence: for whoever continues the conversation, and for the sequence
//! itself, if it is put back.

use kernels::DeltaCopy;

use super::Slice;
use crate::blocks::Blocks;
use crate::snapshots::Snapshots;

/// A state that the step just planned keeps.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// Behind which of the sequence's blocks.
    index: usize,
    slot: u32,
    is_mark: bool,
}

/// The recurrent side of a sequence.
#[derive(Debug, Default)]
pub(super) struct Recurrent {
    pub(super) slot: u32,
    /// So many tokens were guessed in the last step, and right: the state takes them in with the next one.
    pub(super) confirmed: usize,
    /// Behind so many blocks the state is kept for good: system prompt, parting, prompt.
    marks: [usize; 3],
    pending: Vec<Pending>,
    copies: Vec<DeltaCopy>,
    /// The block with the snapshot that moves on.
    moving: Option<u32>,
}

impl Recurrent {
    pub(super) fn new(slot: u32, marks: [usize; 3]) -> Self {
        Self { slot, marks, ..Self::default() }
    }

    pub(super) fn state(&self) -> (u32, &[DeltaCopy]) {
        (self.slot, &self.copies)
    }

    /// Decides what is kept of the state in this step.
    pub(super) fn plan(&mut self, slice: &Slice, block_tokens: usize, snapshots: &mut Snapshots) {
        debug_assert!(self.pending.is_empty(), "what was kept in the last step belongs to its blocks");
        self.copies.clear();
        let (known, end) = (slice.first - slice.confirmed, slice.first + slice.count);
        let last = end / block_tokens;
        for behind in known / block_tokens + 1..=last {
            let is_mark = self.marks.contains(&behind);
            if !is_mark && behind != last {
                continue;
            }
            let Some(slot) = snapshots.take() else { return };
            self.copies.push(DeltaCopy { rows: behind * block_tokens - known, slot });
            self.pending.push(Pending { index: behind - 1, slot, is_mark });
        }
    }

    /// The last step was computed, and its whole blocks are kept.
    pub(super) fn attach(&mut self, held: &[u32], blocks: &mut Blocks) {
        for pending in self.pending.drain(..) {
            let block = held[pending.index];
            let is_pinned = pending.index + 1 == self.marks[0];
            let is_own = blocks.snapshots.attach(block, pending.slot, is_pinned);
            if let Some(before) = self.moving.take().filter(|&before| before != block) {
                blocks.snapshots.supersede(before);
            }
            self.moving = (is_own && !pending.is_mark).then_some(block);
        }
    }

    /// The sequence runs no more: what was not attached never is.
    pub(super) fn give_up(&mut self, snapshots: &mut Snapshots) {
        self.pending.drain(..).for_each(|pending| snapshots.give_back(pending.slot));
        (self.confirmed, self.moving) = (0, None);
        self.copies.clear();
    }
}
