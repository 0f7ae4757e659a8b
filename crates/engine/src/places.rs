//! How many requests may be open at once: in all, and of one project.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat::{Caller, Error, Result};

/// The places of one model.
#[derive(Debug)]
pub(crate) struct Places {
    limit: usize,
    /// What one project may have of them. Who has no project is on his own machine and may have them all.
    project_limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_project: HashMap<Arc<str>, usize>,
}

impl Places {
    pub(crate) fn new(limit: usize, project_limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, project_limit, taken: Mutex::default() })
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.lock().all
    }

    /// Takes a place until it is dropped.
    ///
    /// # Errors
    /// [`Error::Overloaded`] and [`Error::ProjectBusy`] if this would be one too many.
    pub(crate) fn take(self: &Arc<Self>, caller: Option<&Caller>) -> Result<Place> {
        let mut taken = self.lock();
        if taken.all >= self.limit {
            return Err(Error::Overloaded { waiting: taken.all, limit: self.limit });
        }
        let project = caller.map(|caller| Arc::clone(&caller.project));
        if let Some(project) = &project {
            let open = taken.by_project.entry(Arc::clone(project)).or_default();
            if *open >= self.project_limit {
                return Err(Error::ProjectBusy { open: *open, limit: self.project_limit });
            }
            *open += 1;
        }
        taken.all += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(self), project })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // The counts are whole between any two statements that hold the lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a request as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    project: Option<Arc<str>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        let Some(project) = &self.project else { return };
        let Some(open) = taken.by_project.get_mut(project) else { return };
        *open -= 1;
        if *open == 0 {
            taken.by_project.remove(project);
        }
    }
}

#[cfg(test)]
mod tests {
    use chat::{Caller, Error, Priority};

    use super::Places;

    fn of(project: &str) -> Caller {
        Caller { project: project.into(), key: "k".into(), priority: Priority::Normal }
    }

    #[test]
    fn a_project_has_its_share_and_all_together_have_theirs() {
        let places = Places::new(4, 2);
        let mut held: Vec<_> = (0..2).map(|_| places.take(Some(&of("a"))).unwrap()).collect();
        let refused = places.take(Some(&of("a"))).unwrap_err();
        assert!(matches!(refused, Error::ProjectBusy { open: 2, limit: 2 }), "{refused}");
        held.push(places.take(Some(&of("b"))).unwrap());
        held.push(places.take(None).unwrap());
        let refused = places.take(Some(&of("c"))).unwrap_err();
        assert!(matches!(refused, Error::Overloaded { waiting: 4, limit: 4 }), "{refused}");
        held.remove(0);
        assert_eq!(places.taken(), 3);
        held.push(places.take(Some(&of("a"))).unwrap());
        held.clear();
        assert_eq!(places.taken(), 0);
        assert!(places.lock().by_project.is_empty(), "who has nothing open is not remembered");
        let alone: Vec<_> = (0..4).map(|_| places.take(None).unwrap()).collect();
        assert_eq!(alone.len(), 4, "without projects there is nothing to share");
    }
}
