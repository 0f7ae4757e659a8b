//! Which sequence has which slot of recurrent state.

use std::collections::BTreeMap;

use crate::scheduler::SequenceId;

/// Slots `0..count`, one for each running sequence.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Vec<u32>,
    held: BTreeMap<SequenceId, u32>,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self { free: (0..count).rev().collect(), held: BTreeMap::new() }
    }

    /// Gives every planned sequence a slot, and takes back those of sequences that run no more: what they computed is
    /// lost, and they begin anew if they come again.
    ///
    /// # Panics
    /// If more sequences run than there are slots.
    pub(crate) fn assign(
        &mut self,
        planned: impl Iterator<Item = SequenceId>,
        is_running: impl Fn(SequenceId) -> bool,
    ) {
        self.held.retain(|&id, slot| {
            let keeps = is_running(id);
            if !keeps {
                self.free.push(*slot);
            }
            keeps
        });
        for id in planned {
            self.held.entry(id).or_insert_with(|| self.free.pop().expect("there is a slot for every running sequence"));
        }
    }

    /// The slot of a sequence that was planned.
    pub(crate) fn of(&self, id: SequenceId) -> u32 {
        self.held[&id]
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn a_slot_belongs_to_one_sequence_while_it_runs() {
        let mut slots = Slots::new(2);
        slots.assign([7, 8].into_iter(), |_| true);
        assert_ne!(slots.of(7), slots.of(8));
        let of_eight = slots.of(8);
        slots.assign([9].into_iter(), |id| id != 7);
        assert_eq!(slots.of(8), of_eight);
        assert_ne!(slots.of(9), of_eight);
    }
}
