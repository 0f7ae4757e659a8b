//! Letting waiting sequences in: who gives way, what they begin with.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::recurrent::Recurrent;
use super::{Scheduler, Sequence, SequenceId, Slice};

impl Scheduler {
    /// Lets a waiting sequence in and plans its prompt. False if there is no room for it.
    pub(super) fn admit(&mut self, id: SequenceId, rows: &mut usize, planned: &mut Vec<Slice>) -> bool {
        let Some(victims) = self.victims(id) else { return false };
        for victim in victims {
            self.put_back(victim, planned);
        }
        assert!(self.blocks_missing(id) <= self.blocks.available(), "what was given back is less than was counted");
        let mut sequence = self.waiting.remove(&id).expect("only waiting sequences are let in");
        self.promised = self.promised.filter(|&promised| promised != id);
        let (reused, parts_at) = self.reusable(&sequence);
        reused.iter().for_each(|&block| self.blocks.hold(block));
        self.take_state(&mut sequence, &reused, parts_at);
        let pinned = sequence.pinned / self.limits.block_tokens;
        reused.iter().take(pinned).for_each(|&block| self.blocks.pin(block));
        sequence.computed = reused.len() * self.limits.block_tokens;
        sequence.kept = reused.len();
        sequence.blocks = reused;
        let rests = sequence.resting;
        self.running.insert(id, sequence);
        if !rests {
            self.plan(id, usize::MAX, rows, planned);
        }
        true
    }

    /// Blocks that a waiting sequence has to find besides those that it begins with. Of these, those that others hold
    /// cost nothing; those that are only kept are room that is lost.
    fn blocks_missing(&self, id: SequenceId) -> usize {
        let sequence = &self.waiting[&id];
        let shared = self.reusable(sequence).0.iter().filter(|&&block| !self.blocks.is_idle(block)).count();
        self.blocks_for(sequence.tokens.len()) - shared
    }

    /// Who has to go so that a waiting sequence can come in; `None` if it has to wait.
    fn victims(&self, id: SequenceId) -> Option<Vec<SequenceId>> {
        let (next, needed) = (&self.waiting[&id], self.blocks_missing(id));
        let (mut places, mut room) = (self.limits.sequences_max - self.running.len(), self.blocks.available());
        let mut victims = Vec::new();
        if places > 0 && room >= needed {
            return Some(victims);
        }
        let (reused, _) = self.reusable(next);
        let mut lower: Vec<SequenceId> = self.running.keys().copied().collect();
        lower.retain(|id| self.running[id].class() < next.priority);
        lower.sort_by_key(|&id| (self.running[&id].class(), Reverse(id)));
        let equals = self.running.values().filter(|sequence| sequence.class() >= next.priority);
        let mut held: BTreeMap<&str, usize> = BTreeMap::new();
        equals.for_each(|sequence| *held.entry(&sequence.project).or_default() += 1);
        let own = held.get(&*next.project).copied().unwrap_or(0);
        let mut lower = lower.into_iter();
        // Ends: every round adds a victim, and no sequence is one twice.
        while places == 0 || room < needed {
            let richest = || {
                let equals = self.running.iter().filter(|(id, sequence)| {
                    sequence.class() == next.priority && held[&*sequence.project] >= own + 2 && !victims.contains(*id)
                });
                equals.max_by_key(|&(&id, sequence)| (held[&*sequence.project], id)).map(|(&id, _)| id)
            };
            let victim = lower.next().or_else(richest)?;
            let sequence = &self.running[&victim];
            if sequence.class() >= next.priority {
                held.entry(&sequence.project).and_modify(|count| *count -= 1);
            }
            places += 1;
            // What it shares with the one that waits is not gained.
            let own = sequence.blocks.iter().filter(|&block| self.blocks.is_single(*block) && !reused.contains(block));
            room += own.count();
            victims.push(victim);
        }
        Some(victims)
    }

    /// The blocks behind which a waiting sequence can begin, and how many of its blocks were computed before; its last
    /// token is always computed.
    fn reusable(&self, sequence: &Sequence) -> (Vec<u32>, usize) {
        if !sequence.reuses {
            return (Vec::new(), 0);
        }
        let mut found = self.blocks.beginning(&sequence.realm, &sequence.tokens[..sequence.tokens.len() - 1]);
        let parts_at = found.len();
        if self.limits.snapshots.is_some() {
            let known = found.iter().rposition(|&block| self.blocks.snapshots.has(block));
            found.truncate(known.map_or(0, |last| last + 1));
        }
        (found, parts_at)
    }

    /// Gives a sequence a slot of recurrent state, and what was kept there behind the blocks that it begins with.
    fn take_state(&mut self, sequence: &mut Sequence, reused: &[u32], parts_at: usize) {
        let slot = self.free_states.pop().expect("there is a state for every running sequence");
        if let Some(snapshot) = reused.last().and_then(|&block| self.blocks.snapshots.used(block)) {
            self.restored.push((snapshot, slot));
        }
        let block_tokens = self.limits.block_tokens;
        let prompt = (sequence.tokens.len() - 1) / block_tokens;
        sequence.recurrent = Recurrent::new(slot, [sequence.pinned / block_tokens, parts_at, prompt]);
    }
}
