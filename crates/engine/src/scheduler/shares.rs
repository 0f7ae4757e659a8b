//! How much of the machine each project has had: fair queueing by virtual time.
//!
//! Every row that is computed for a project moves its clock; whoever's clock is behind comes first. A project that was
//! away joins at the clock of whoever is furthest behind, so that nobody saves up rows by asking for nothing, and
//! nobody who takes part waits for it to catch up.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The clocks of the projects. Only those are kept that are ahead of [`Self::floor`] or take part.
#[derive(Debug, Default)]
pub(super) struct Shares {
    clocks: BTreeMap<Arc<str>, u64>,
    /// Where new ones join: the clock of whoever is furthest behind. It never goes back.
    floor: u64,
}

impl Shares {
    /// Rows that a project has had, as far as they count.
    pub(super) fn of(&self, project: &str) -> u64 {
        self.clocks.get(project).copied().unwrap_or(self.floor).max(self.floor)
    }

    pub(super) fn charge(&mut self, project: &Arc<str>, rows: usize) {
        let clock = self.of(project) + rows as u64;
        self.clocks.insert(Arc::clone(project), clock);
    }

    /// Takes note of who takes part: has anything to compute.
    pub(super) fn settle<'a>(&mut self, active: impl Iterator<Item = &'a Arc<str>>) {
        match active.map(|project| self.of(project)).min() {
            Some(behind) => self.floor = behind,
            // Nobody is there to be fair to.
            None => self.clocks.clear(),
        }
        let floor = self.floor;
        self.clocks.retain(|_, clock| *clock > floor);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Shares;

    #[test]
    fn whoever_was_away_has_saved_up_nothing_and_owes_what_it_had() {
        let (a, b, c): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "b".into(), "c".into());
        let mut shares = Shares::default();
        shares.charge(&a, 100);
        shares.charge(&b, 70);
        shares.settle([&a, &b].into_iter());
        assert_eq!(shares.of("c"), 70, "it joins where the one furthest behind is");
        shares.charge(&c, 5);
        shares.settle([&b, &c].into_iter());
        assert_eq!(shares.of("a"), 100, "it went away for a moment");
        shares.charge(&b, 50);
        shares.settle([&b].into_iter());
        assert_eq!(shares.of("a"), 120, "the others have caught up");
        shares.settle(std::iter::empty());
        assert!(shares.clocks.is_empty());
    }
}
