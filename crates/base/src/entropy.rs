//! Bytes that nobody can guess. They enter the program at its edge, like time.

use std::sync::{Mutex, PoisonError};

use crate::Rng;

/// A source of unguessable bytes, for keys and session names. The binary brings the operating system's.
pub trait Entropy: Send + Sync {
    /// Fills the slice. An operating system that has no randomness leaves nothing to go on with: it panics.
    fn fill(&self, bytes: &mut [u8]);
}

/// Bytes that follow a seed: for tests and simulations only.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<Rng>);

impl SeededEntropy {
    /// The bytes of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Rng::seeded(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // A generator is good after any draw, so a poisoned lock does no harm.
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            *byte = rng.next_u64() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Entropy as _, SeededEntropy};

    #[test]
    fn a_seed_gives_the_same_bytes_again() {
        let draw = |seed| {
            let mut bytes = [0; 32];
            SeededEntropy::new(seed).fill(&mut bytes);
            bytes
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
