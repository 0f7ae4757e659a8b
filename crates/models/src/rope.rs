//! Rotary position embeddings: frequencies once, cosines and sines for each step.
//!
//! Half-split layout: dimension `i` is paired with `i + head_dim / 2`. YaRN as in arXiv 2309.00071, with the rounding
//! of Hugging Face transformers: angles are products in `f32`.

use std::f64::consts::PI;

use crate::config::{Rope, Yarn};

/// Frequencies of one model.
#[derive(Debug, Clone)]
pub(crate) struct Frequencies {
    /// Radians per position, `[dims / 2]`.
    inverse: Vec<f32>,
    /// What cosines and sines are multiplied by.
    scale: f32,
    /// Which of a token's three positions (time, row, column) a frequency follows, `[dims / 2]`.
    axes: Vec<usize>,
}

impl Frequencies {
    pub(crate) fn new(rope: &Rope) -> Self {
        let head_dim = rope.dims;
        let plain = |i: usize| rope.theta.powf(-2.0 * i as f64 / head_dim as f64);
        let half = head_dim / 2;
        let axes = (0..half).map(|i| axis(rope.sections, i)).collect();
        match &rope.yarn {
            None => Self { inverse: (0..half).map(|i| plain(i) as f32).collect(), scale: 1.0, axes },
            Some(yarn) => {
                let ramp = Ramp::new(yarn, rope.theta, head_dim);
                let stretched = |i: usize| {
                    let share = ramp.at(i);
                    (plain(i) / yarn.factor * share + plain(i) * (1.0 - share)) as f32
                };
                let scale = yarn.attention_factor.unwrap_or(0.1 * yarn.factor.ln() + 1.0);
                Self { inverse: (0..half).map(stretched).collect(), scale: scale as f32, axes }
            }
        }
    }

    /// Appends cosines and sines of the positions, `[positions, dims / 2]` each.
    pub(crate) fn extend(&self, positions: std::ops::Range<usize>, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        for position in positions {
            for &inverse in &self.inverse {
                let (s, c) = (position as f32 * inverse).sin_cos();
                cos.push(c * self.scale);
                sin.push(s * self.scale);
            }
        }
    }
}

impl Frequencies {
    /// As [`Self::extend`] for tokens that stand in time, row and column.
    pub(crate) fn extend_placed(&self, positions: &[[u32; 3]], cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        for position in positions {
            for (&inverse, &axis) in self.inverse.iter().zip(&self.axes) {
                let (s, c) = (position[axis] as f32 * inverse).sin_cos();
                cos.push(c * self.scale);
                sin.push(s * self.scale);
            }
        }
    }
}

/// Frequencies take turns: every second of three follows the row and every third the column, as long as there are any.
fn axis(sections: Option<[usize; 3]>, i: usize) -> usize {
    match (sections, i % 3) {
        (Some([_, rows, _]), 1) if i < 3 * rows => 1,
        (Some([_, _, columns]), 2) if i < 3 * columns => 2,
        _ => 0,
    }
}

/// How much of a dimension is interpolated: 0 below `low`, 1 above `high`.
struct Ramp {
    low: f64,
    high: f64,
}

impl Ramp {
    fn new(yarn: &Yarn, theta: f64, head_dim: usize) -> Self {
        let dimension_of = |rotations: f64| {
            head_dim as f64 * (yarn.original_context / (2.0 * PI * rotations)).ln() / (2.0 * theta.ln())
        };
        Self {
            low: dimension_of(yarn.beta_fast).floor().max(0.0),
            high: dimension_of(yarn.beta_slow).ceil().min(head_dim as f64 - 1.0),
        }
    }

    fn at(&self, i: usize) -> f64 {
        // The reference widens an empty ramp by 0.001, so that it is a step.
        let width = if self.high > self.low { self.high - self.low } else { 0.001 };
        ((i as f64 - self.low) / width).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Frequencies;
    use crate::config::{Rope, Yarn};

    /// `rope_inv_freq` and `rope_attention_scaling` of `fixtures/tiny/<family>/golden.json`.
    fn check(family: &str, rope: &Rope) {
        let path = format!("{}/../../fixtures/tiny/{family}/golden.json", env!("CARGO_MANIFEST_DIR"));
        let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let frequencies = Frequencies::new(rope);
        let expected: Vec<f64> =
            golden["rope_inv_freq"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        assert_eq!(expected.len(), frequencies.inverse.len());
        for (index, (&found, expected)) in frequencies.inverse.iter().zip(expected).enumerate() {
            let off = (f64::from(found) - expected).abs() / expected;
            assert!(off < 2e-7, "{family}: frequency {index} is {found}, expected {expected}");
        }
        let scale = golden["rope_attention_scaling"].as_f64().unwrap();
        assert!((f64::from(frequencies.scale) - scale).abs() < 1e-6, "{} against {scale}", frequencies.scale);
    }

    #[test]
    fn positions_beyond_32_768_turn_as_in_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/yarn_far/golden.safetensors");
        let file = std::fs::read(path).unwrap();
        let golden = safetensors::SafeTensors::deserialize(&file).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            let view = golden.tensor(name).unwrap();
            view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
        };
        let yarn =
            Yarn { factor: 4.0, original_context: 32_768.0, beta_fast: 32.0, beta_slow: 1.0, attention_factor: None };
        let found = Frequencies::new(&Rope { theta: 1e6, yarn: Some(yarn), dims: 32, sections: None });
        let off = |a: f32, b: f32| ((a - b) / b).abs();
        let expected = floats("inverse_frequencies");
        assert!(found.inverse.iter().zip(&expected).all(|(&a, &b)| off(a, b) < 2e-7), "{expected:?}");
        assert!(off(found.scale, floats("scale")[0]) < 1e-6, "{}", found.scale);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        found.extend(131_071..131_072, &mut cos, &mut sin);
        // The angle is rounded to f32 there as here: half a unit of 131,071 is 0.004.
        for (i, &inverse) in expected.iter().enumerate() {
            let angle = 131_071.0 * f64::from(inverse);
            assert!((f64::from(cos[i] / found.scale) - angle.cos()).abs() < 0.017, "cosine {i}");
            assert!((f64::from(sin[i] / found.scale) - angle.sin()).abs() < 0.017, "sine {i}");
        }
    }

    #[test]
    fn frequencies_equal_the_reference() {
        check("qwen3_dense", &Rope { theta: 1e6, yarn: None, dims: 32, sections: None });
        let yarn =
            Yarn { factor: 4.0, original_context: 64.0, beta_fast: 32.0, beta_slow: 1.0, attention_factor: None };
        check("qwen3_yarn", &Rope { theta: 1e6, yarn: Some(yarn), dims: 32, sections: None });
    }
}
