//! A random rotation that costs `O(n log n)`.
//!
//! Four rounds of: flip signs by a seeded draw; a normalised Walsh-Hadamard transform of the largest power of two that
//! fits, at the front and at the back in turn; where that is not the whole vector, one step of Kac's walk, which turns
//! each pair (i, i + n/2) by 45 degrees. Each step is orthogonal, so lengths and angles are kept. This is the "FhtKac"
//! rotator of the RaBitQ library (Gao et al., SIGMOD 2024/2025), which replaces a dense n by n matrix: at 4,096
//! dimensions 64 MiB and 17 million multiplications less a query.

use base::Rng;

const ROUNDS: usize = 4;
/// The seed is part of the segment format: codes are useless under another rotation.
const SEED: u64 = 0x7361_6d70_616e_0001;

/// Turns vectors of one length, always the same way.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    dimension: usize,
    padded: usize,
    /// `[ROUNDS, padded]`, each 1 or -1.
    signs: Vec<f32>,
}

impl Rotation {
    pub(crate) fn new(dimension: usize) -> Self {
        let padded = dimension.div_ceil(64) * 64;
        let mut rng = Rng::seeded(SEED);
        let signs = (0..ROUNDS * padded).map(|_| if rng.next_u64() >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        Self { dimension, padded, signs }
    }

    /// The length of a rotated vector: the dimension, rounded up to a multiple of 64.
    pub(crate) fn padded(&self) -> usize {
        self.padded
    }

    /// Rotates `vector` (`[dimension]`) into `out` (`[padded]`).
    pub(crate) fn apply(&self, vector: &[f32], out: &mut [f32]) {
        assert_eq!((vector.len(), out.len()), (self.dimension, self.padded), "another length than the rotation's");
        out[..self.dimension].copy_from_slice(vector);
        out[self.dimension..].fill(0.0);
        let power = 1 << self.padded.ilog2();
        for (round, signs) in self.signs.chunks_exact(self.padded).enumerate() {
            for (value, sign) in out.iter_mut().zip(signs) {
                *value *= sign;
            }
            let start = if round % 2 == 0 { 0 } else { self.padded - power };
            hadamard(&mut out[start..start + power]);
            if power < self.padded {
                kac(out);
            }
        }
    }
}

/// The normalised Walsh-Hadamard transform. The length is a power of two.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (left, right) = block.split_at_mut(half);
            for (l, r) in left.iter_mut().zip(right) {
                (*l, *r) = (*l + *r, *l - *r);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f32).sqrt();
    for value in values {
        *value *= scale;
    }
}

fn kac(values: &mut [f32]) {
    let (left, right) = values.split_at_mut(values.len() / 2);
    for (l, r) in left.iter_mut().zip(right) {
        let (sum, difference) = (*l + *r, *l - *r);
        (*l, *r) = (sum * std::f32::consts::FRAC_1_SQRT_2, difference * std::f32::consts::FRAC_1_SQRT_2);
    }
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::Rotation;

    fn dot(left: &[f32], right: &[f32]) -> f32 {
        left.iter().zip(right).map(|(l, r)| l * r).sum()
    }

    #[test]
    fn lengths_and_angles_are_kept() {
        let mut rng = Rng::seeded(1);
        for dimension in [1, 2, 63, 64, 65, 100, 384, 768, 1000, 4096] {
            let rotation = Rotation::new(dimension);
            let mut draw = || (0..dimension).map(|_| rng.unit_f64() as f32 - 0.5).collect::<Vec<f32>>();
            let (left, right) = (draw(), draw());
            let turned = |vector: &[f32]| {
                let mut out = vec![0.0; rotation.padded()];
                rotation.apply(vector, &mut out);
                out
            };
            let (a, b) = (turned(&left), turned(&right));
            for (kept, before) in [(dot(&a, &a), dot(&left, &left)), (dot(&a, &b), dot(&left, &right))] {
                assert!((kept - before).abs() < 1e-4 * dimension as f32, "{dimension}: {kept} {before}");
            }
        }
    }

    #[test]
    fn one_number_is_spread_over_all() {
        let rotation = Rotation::new(384);
        let mut vector = vec![0.0; 384];
        vector[17] = 1.0;
        let mut out = vec![0.0; 384];
        rotation.apply(&vector, &mut out);
        let largest = out.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        assert!(largest < 0.35, "{largest}");
    }

    #[test]
    fn the_rotation_never_changes() {
        let mut out = vec![0.0; 64];
        Rotation::new(3).apply(&[1.0, 2.0, 3.0], &mut out);
        let bits: Vec<u32> = out[..4].iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, GOLDEN);
    }

    const GOLDEN: [u32; 4] = [1_054_867_456, 3_211_526_144, 3_196_583_936, 1_063_256_064];
}
