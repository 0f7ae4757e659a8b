//! Which experts stay in memory: those that are used often and were used lately. A pure state machine; what an expert
//! is made of is the caller's.

use std::collections::HashMap;

/// An expert: which mixture, and which of its experts.
pub(super) type Key = (usize, usize);

/// After so many steps through all mixtures a use counts half.
const HALF_LIFE_STEPS: f64 = 64.0;
/// Beyond this heats are brought down, all by the same factor.
const WEIGHT_MAX: f64 = 1e100;

/// The experts in memory.
pub(super) struct Kept<T> {
    slots: Vec<Slot<T>>,
    by_key: HashMap<Key, usize>,
    /// Slots of no expert.
    free: Vec<usize>,
    bytes: usize,
    limit_bytes: usize,
    /// What a use counts now. It grows, so that what was used before counts less.
    weight: f64,
    growth: f64,
}

/// The place of an expert.
pub(super) struct Slot<T> {
    key: Option<Key>,
    bytes: usize,
    heat: f64,
    /// Orders that were made for it, and those that are not yet carried out.
    pub(super) orders: usize,
    pub(super) missing: usize,
    /// It may not go now.
    pub(super) is_pinned: bool,
    is_used: bool,
    pub(super) what: Option<T>,
}

impl<T> Slot<T> {
    /// Whose place it is.
    pub(super) fn key(&self) -> Key {
        self.key.expect("a slot that is looked at is an expert's")
    }

    /// Whether a step chose it since it was read.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }
}

/// What went to make room.
pub(super) struct Evicted<T> {
    pub(super) what: Vec<T>,
    /// Bytes of experts that were read and never used.
    pub(super) unused_bytes: usize,
}

impl<T> Kept<T> {
    /// An empty one for so many mixtures.
    pub(super) fn new(limit_bytes: usize, mixtures: usize) -> Self {
        let growth = (1.0 / (HALF_LIFE_STEPS * mixtures.max(1) as f64)).exp2();
        Self { slots: Vec::new(), by_key: HashMap::new(), free: Vec::new(), bytes: 0, limit_bytes, weight: 1.0, growth }
    }

    pub(super) fn find(&self, key: Key) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    pub(super) fn slot(&self, slot: usize) -> &Slot<T> {
        &self.slots[slot]
    }

    pub(super) fn slot_mut(&mut self, slot: usize) -> &mut Slot<T> {
        &mut self.slots[slot]
    }

    /// A step of one mixture begins: nothing is pinned, and what was used before counts a little less.
    pub(super) fn begin(&mut self) {
        self.weight *= self.growth;
        let factor = if self.weight > WEIGHT_MAX { 1.0 / self.weight } else { 1.0 };
        self.weight *= factor;
        for slot in &mut self.slots {
            slot.is_pinned = false;
            slot.heat *= factor;
        }
    }

    /// An expert is used in this step.
    pub(super) fn use_now(&mut self, slot: usize) {
        let weight = self.weight;
        let slot = &mut self.slots[slot];
        slot.heat += weight;
        slot.is_used = true;
        slot.is_pinned = true;
    }

    /// Has the coldest experts go until so many bytes fit; `None`, and nobody goes, if they cannot: what is pinned or
    /// not yet whole stays.
    pub(super) fn make_room(&mut self, bytes: usize) -> Option<Evicted<T>> {
        let may_go = |slot: &Slot<T>| slot.key.is_some() && slot.missing == 0 && !slot.is_pinned;
        let most: usize = self.slots.iter().filter(|slot| may_go(slot)).map(|slot| slot.bytes).sum();
        if self.bytes - most + bytes > self.limit_bytes {
            return None;
        }
        let mut evicted = Evicted { what: Vec::new(), unused_bytes: 0 };
        // Ends: every round removes one, and those that may go are enough.
        while self.bytes + bytes > self.limit_bytes {
            let candidates = self.slots.iter().enumerate().filter(|(_, slot)| may_go(slot));
            let coldest = candidates.min_by(|(_, a), (_, b)| a.heat.total_cmp(&b.heat)).map(|(index, _)| index)?;
            if !self.slots[coldest].is_used {
                evicted.unused_bytes += self.slots[coldest].bytes;
            }
            evicted.what.extend(self.remove(coldest));
        }
        Some(evicted)
    }

    /// Takes in an expert for which there is room and of which so many orders are missing.
    pub(super) fn insert(&mut self, key: Key, bytes: usize, orders: usize, what: T) -> usize {
        let (heat, missing) = (self.weight, orders);
        let slot =
            Slot { key: Some(key), bytes, heat, orders, missing, is_pinned: false, is_used: false, what: Some(what) };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.bytes += bytes;
        self.by_key.insert(key, index);
        index
    }

    /// Lets an expert go.
    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        let slot = &mut self.slots[index];
        let key = slot.key.take()?;
        self.by_key.remove(&key);
        self.bytes -= slot.bytes;
        self.free.push(index);
        slot.what.take()
    }

    /// Bytes of all that are in memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Kept;

    fn whole(kept: &mut Kept<usize>, expert: usize) {
        let slot = kept.insert((0, expert), 10, 1, expert);
        kept.slot_mut(slot).missing = 0;
        kept.use_now(slot);
    }

    #[test]
    fn what_is_used_often_stays_and_what_was_used_long_ago_goes() {
        let mut kept = Kept::new(30, 1);
        for expert in 0..3 {
            whole(&mut kept, expert);
        }
        for _ in 0..5 {
            kept.begin();
            let first = kept.find((0, 0)).unwrap();
            kept.use_now(first);
        }
        kept.begin();
        let last = kept.find((0, 2)).unwrap();
        kept.use_now(last);
        kept.begin();
        assert_eq!(kept.make_room(10).unwrap().what, [1]);
        whole(&mut kept, 3);
        // Use counts half after a while: five uses of long ago are less than one of now.
        for _ in 0..300 {
            kept.begin();
        }
        for expert in [2, 3] {
            let slot = kept.find((0, expert)).unwrap();
            kept.use_now(slot);
        }
        kept.begin();
        assert_eq!(kept.make_room(10).unwrap().what, [0]);
    }

    #[test]
    fn what_is_pinned_or_on_its_way_stays() {
        let mut kept = Kept::new(30, 1);
        for expert in 0..2 {
            whole(&mut kept, expert);
        }
        kept.insert((0, 2), 10, 3, 2);
        assert!(kept.make_room(1).is_none(), "two are pinned, one is on its way");
        kept.begin();
        let first = kept.find((0, 0)).unwrap();
        kept.use_now(first);
        assert!(kept.make_room(11).is_none(), "and nobody went for nothing");
        assert_eq!(kept.bytes(), 30);
        let gone = kept.make_room(10).unwrap();
        assert_eq!((gone.what, gone.unused_bytes), (vec![1], 0));
        assert_eq!(kept.find((0, 1)), None);
    }

    #[test]
    fn what_was_read_for_nothing_is_counted() {
        let mut kept = Kept::new(20, 1);
        let guessed = kept.insert((0, 0), 10, 1, 0);
        kept.slot_mut(guessed).missing = 0;
        kept.begin();
        assert_eq!(kept.make_room(20).unwrap().unused_bytes, 10);
    }

    #[test]
    fn heats_are_brought_down_before_they_are_too_large() {
        let mut kept = Kept::new(20, 1);
        for expert in 0..2 {
            whole(&mut kept, expert);
        }
        // More than 1e308 without it.
        for _ in 0..80_000 {
            kept.begin();
            let slot = kept.find((0, 1)).unwrap();
            kept.use_now(slot);
        }
        kept.begin();
        assert_eq!(kept.make_room(10).unwrap().what, [0]);
    }
}
