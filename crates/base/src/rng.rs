//! Chance with a seed.

use rand_core::{Rng as _, SeedableRng};
use rand_pcg::Pcg64;

/// A seeded random number generator (PCG XSL RR 128/64). Fast and well distributed; **not** for secrets.
///
/// The sequence of a seed is part of the public behaviour: a request that names a seed gets the same answer in every
/// later version, so the generator is fixed here and its first numbers are held by a test.
#[derive(Debug, Clone)]
pub struct Rng(Pcg64);

impl Rng {
    /// The generator of this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Pcg64::seed_from_u64(seed))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn unit_f64(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * SCALE
    }

    /// A number in `0..bound`, without bias worth speaking of (the error is below `bound / 2^64`).
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a number below 0 was asked for");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn a_seed_names_one_sequence_for_ever() {
        let mut rng = Rng::seeded(42);
        let drawn = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        assert_eq!(drawn, SEQUENCE_OF_42);
    }

    const SEQUENCE_OF_42: [u64; 3] = [4_178_418_447_715_145_737, 4_410_739_922_618_931_473, 14_034_899_209_665_866_285];

    #[test]
    fn numbers_stay_in_their_range_and_fill_it() {
        let mut rng = Rng::seeded(1);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            seen[rng.below(7) as usize] += 1;
            let unit = rng.unit_f64();
            assert!((0.0..1.0).contains(&unit), "{unit}");
        }
        assert!(seen.iter().all(|&count| (800..1_200).contains(&count)), "{seen:?}");
    }
}
