//! What was used last stays: entries with weights, up to a sum.

use std::collections::BTreeMap;

/// Entries of which those used longest ago are let go when the sum of the weights exceeds a limit.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    limit: u64,
    weight: u64,
    next_tick: u64,
    entries: BTreeMap<K, Held<V>>,
    /// When an entry was used last, oldest first.
    order: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Held<V> {
    tick: u64,
    weight: u64,
    value: V,
}

impl<K: Ord + Clone, V> Lru<K, V> {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, weight: 0, next_tick: 0, entries: BTreeMap::new(), order: BTreeMap::new() }
    }

    /// The sum of the weights.
    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// An entry, which counts as used now.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let held = self.entries.get_mut(key)?;
        self.order.remove(&held.tick);
        self.order.insert(self.next_tick, key.clone());
        held.tick = self.next_tick;
        self.next_tick += 1;
        Some(&held.value)
    }

    /// Adds or replaces an entry; answers those that had to go for it.
    pub(super) fn insert(&mut self, key: K, value: V, weight: u64) -> Vec<(K, V)> {
        self.remove(&key);
        let tick = self.next_tick;
        self.next_tick += 1;
        self.order.insert(tick, key.clone());
        self.entries.insert(key, Held { tick, weight, value });
        self.weight += weight;
        let mut gone = Vec::new();
        while self.weight > self.limit {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            let held = self.entries.remove(&oldest).expect("both maps hold the same entries");
            self.weight -= held.weight;
            gone.push((oldest, held.value));
        }
        gone
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let held = self.entries.remove(key)?;
        self.order.remove(&held.tick);
        self.weight -= held.weight;
        Some(held.value)
    }

    /// Keys from `start` on, in their order, as long as they fit.
    pub(super) fn keys_from(&self, start: &K, fits: impl Fn(&K) -> bool) -> Vec<K> {
        self.entries.range(start..).map(|(key, _)| key).take_while(|key| fits(key)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Lru;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut lru = Lru::new(10);
        assert!(lru.insert("a", 1, 4).is_empty() && lru.insert("b", 2, 4).is_empty());
        assert_eq!(lru.get(&"a"), Some(&1));
        assert_eq!(lru.insert("c", 3, 4), [("b", 2)]);
        assert_eq!(lru.get(&"b"), None);
        assert_eq!(lru.weight(), 8);
        assert!(lru.insert("a", 5, 6).is_empty(), "an entry that is replaced makes room first");
        assert_eq!(lru.remove(&"a"), Some(5));
        assert_eq!(lru.insert("d", 4, 11), [("c", 3), ("d", 4)], "what is too large does not stay");
        assert_eq!(lru.weight(), 0);
    }
}
