use super::*;

use safetensors::SafeTensors;

const BLOCKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/gguf/blocks.safetensors");

fn name(format: Format) -> &'static str {
    match format {
        Format::F32 => "F32",
        Format::F16 => "F16",
        Format::Bf16 => "BF16",
        Format::Q4_0 => "Q4_0",
        Format::Q4_1 => "Q4_1",
        Format::Q5_0 => "Q5_0",
        Format::Q5_1 => "Q5_1",
        Format::Q8_0 => "Q8_0",
        Format::Q2K => "Q2_K",
        Format::Q3K => "Q3_K",
        Format::Q4K => "Q4_K",
        Format::Q5K => "Q5_K",
        Format::Q6K => "Q6_K",
        Format::Iq4Nl => "IQ4_NL",
        Format::Iq4Xs => "IQ4_XS",
        Format::Iq1S => "IQ1_S",
        Format::Iq1M => "IQ1_M",
        Format::Iq2Xxs => "IQ2_XXS",
        Format::Iq2Xs => "IQ2_XS",
        Format::Iq2S => "IQ2_S",
        Format::Iq3Xxs => "IQ3_XXS",
        Format::Iq3S => "IQ3_S",
        Format::Tq1_0 => "TQ1_0",
        Format::Tq2_0 => "TQ2_0",
        Format::Mxfp4 => "MXFP4",
    }
}

#[test]
fn every_block_type_equals_the_reference_exactly() {
    let file = std::fs::read(BLOCKS).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    for format in Format::ALL.into_iter().filter(|format| format.block_elements() > 1) {
        let blocks = tensors.tensor(&format!("blocks.{}", name(format))).unwrap();
        let values = tensors.tensor(&format!("values.{}", name(format))).unwrap();
        let expected: Vec<f32> =
            values.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let mut found = vec![0.0; expected.len()];
        dequantize(format, blocks.data(), &mut found).unwrap();
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // Adding zero makes one of both zeros.
            assert!(
                (found + 0.0).to_bits() == (expected + 0.0).to_bits(),
                "{format:?}[{i}]: {found} instead of {expected}"
            );
        }
    }
}

#[test]
fn plain_formats_are_widened() {
    let mut out = [0.0; 2];
    dequantize(Format::F32, &[0, 0, 128, 63, 0, 0, 0, 192], &mut out).unwrap();
    assert_eq!(out.map(f32::to_bits), [1.0_f32, -2.0].map(f32::to_bits));
    dequantize(Format::F16, &[0, 60, 0, 192], &mut out).unwrap();
    assert_eq!(out.map(f32::to_bits), [1.0_f32, -2.0].map(f32::to_bits));
    dequantize(Format::Bf16, &[128, 63, 0, 192], &mut out).unwrap();
    assert_eq!(out.map(f32::to_bits), [1.0_f32, -2.0].map(f32::to_bits));
}

#[test]
fn broken_lengths_are_refused() {
    assert!(matches!(dequantize(Format::Q8_0, &[0; 33], &mut [0.0; 32]), Err(Error::Length { .. })));
    assert!(matches!(dequantize(Format::Q8_0, &[0; 34], &mut [0.0; 31]), Err(Error::Length { .. })));
    assert!(dequantize(Format::Q8_0, &[], &mut []).is_ok());
}

/// Numbers that are normally distributed, nearly.
fn bell(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 0.03).collect()
}

/// Root mean square of the error over that of the numbers.
fn relative_error(format: Format, numbers: &[f32], importance: &[f32], counted: &[f32]) -> f64 {
    let mut bytes = vec![0; numbers.len() / format.block_elements() * format.block_bytes()];
    quantize(format, numbers, importance, &mut bytes).unwrap();
    let mut back = vec![0.0; numbers.len()];
    dequantize(format, &bytes, &mut back).unwrap();
    let weighted = |of: &dyn Fn(usize) -> f32| -> f64 {
        (0..numbers.len()).map(|i| f64::from(counted[i]) * f64::from(of(i)).powi(2)).sum()
    };
    (weighted(&|i| numbers[i] - back[i]) / weighted(&|i| numbers[i])).sqrt()
}

#[test]
fn what_is_written_comes_back_as_near_as_the_format_allows() {
    let numbers = bell(256 * 64, 1);
    let alike = vec![1.0; numbers.len()];
    // Steps of the lattice for a normal distribution: a format that is packed wrongly is off by a whole number.
    for (format, most) in [
        (Format::F32, 0.0),
        (Format::F16, 3e-4),
        (Format::Bf16, 2.5e-3),
        (Format::Q8_0, 6e-3),
        (Format::Q6K, 2.1e-2),
        (Format::Q4K, 7.5e-2),
        (Format::Q4_0, 9.5e-2),
    ] {
        let found = relative_error(format, &numbers, &[], &alike);
        assert!(found <= most, "{format:?}: {found}");
    }
}

#[test]
fn what_lies_on_the_lattice_comes_back_exactly() {
    let file = std::fs::read(BLOCKS).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4K, Format::Q6K] {
        let values = tensors.tensor(&format!("values.{}", name(format))).unwrap();
        let numbers: Vec<f32> =
            values.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let found = relative_error(format, &numbers, &[], &vec![1.0; numbers.len()]);
        // Random blocks need not use their range whole, so another lattice may be found that is as near.
        let most = if format == Format::Q8_0 { 6e-3 } else { 7e-2 };
        assert!(found < most, "{format:?}: {found}");
    }
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4K, Format::Q6K] {
        let zeros = [0.0; 256];
        let mut bytes = vec![1; 256 / format.block_elements() * format.block_bytes()];
        quantize(format, &zeros, &[], &mut bytes).unwrap();
        let mut back = [1.0; 256];
        dequantize(format, &bytes, &mut back).unwrap();
        assert!(back.iter().all(|back| back.abs() < f32::MIN_POSITIVE), "{format:?}");
    }
}

#[test]
fn never_worse_than_the_plain_choice_of_the_reference() {
    let file = std::fs::read(BLOCKS).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let view = tensors.tensor(name).unwrap();
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let numbers = floats("quantise.input");
    for format in [Format::Q8_0, Format::Q4_0] {
        let theirs = tensors.tensor(&format!("quantise.{}", name(format))).unwrap();
        let mut back = vec![0.0; numbers.len()];
        dequantize(format, theirs.data(), &mut back).unwrap();
        let squares = |of: &dyn Fn(usize) -> f32| -> f64 { (0..back.len()).map(|i| f64::from(of(i)).powi(2)).sum() };
        let plain = (squares(&|i| numbers[i] - back[i]) / squares(&|i| numbers[i])).sqrt();
        let ours = relative_error(format, &numbers, &[], &vec![1.0; numbers.len()]);
        assert!(ours <= plain, "{format:?}: {ours} for {plain}");
    }
}

#[test]
fn importance_moves_the_error_to_where_it_counts_less() {
    let numbers = bell(256 * 64, 2);
    let importance: Vec<f32> = (0..numbers.len()).map(|i| if i % 7 == 0 { 30.0 } else { 1.0 }).collect();
    for format in [Format::Q4_0, Format::Q4K, Format::Q6K] {
        let blind = relative_error(format, &numbers, &[], &importance);
        let aware = relative_error(format, &numbers, &importance, &importance);
        assert!(aware < blind, "{format:?}: {aware} for {blind}");
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let refused = |format, numbers: &[f32], importance: &[f32], bytes: usize| {
        quantize(format, numbers, importance, &mut vec![0; bytes]).unwrap_err().to_string()
    };
    assert!(refused(Format::Q5K, &[0.0; 256], &[], 176).contains("Q5K"));
    assert!(refused(Format::Q8_0, &[0.0; 33], &[], 34).contains("the numbers"));
    assert!(refused(Format::Q8_0, &[0.0; 32], &[], 33).contains("the output"));
    assert!(refused(Format::Q8_0, &[0.0; 32], &[1.0; 31], 34).contains("the importance"));
}

/// Candidates one after the other, each summed over the numbers in order: what the lanes must find, to the bit.
mod one_by_one {
    use super::super::fit::{Pair, nearest};

    pub(super) fn fit_scale(numbers: &[f32], importance: &[f32], half: i32) -> f32 {
        let largest = numbers.iter().copied().fold(0.0_f32, |most, n| if n.abs() > most.abs() { n } else { most });
        let (low, high) = (-half, half - 1);
        let pairs = || numbers.iter().zip(importance);
        let error = |scale: f32| {
            pairs().fold(0.0, |sum, (&number, &weight)| {
                let off = number - scale * nearest(number, scale, low, high);
                sum + weight * off * off
            })
        };
        let plain = -largest / half as f32;
        let mut best = (error(plain), plain);
        for step in -9..=9 {
            for sign in [1.0, -1.0] {
                let scale = sign * (-largest / (half as f32 + 0.1 * step as f32));
                let (products, squares) = pairs().fold((0.0, 0.0), |(products, squares), (&number, &weight)| {
                    let q = nearest(number, scale, low, high);
                    (products + weight * number * q, squares + weight * q * q)
                });
                let refined = if squares > 0.0 { products / squares } else { scale };
                if error(refined) < best.0 {
                    best = (error(refined), refined);
                }
            }
        }
        best.1
    }

    pub(super) fn fit_with_minimum(numbers: &[f32], importance: &[f32]) -> Pair {
        let lowest = numbers.iter().copied().fold(0.0_f32, f32::min);
        let range = numbers.iter().copied().fold(lowest, f32::max) - lowest;
        let pairs = || numbers.iter().zip(importance);
        let mut best = (f32::INFINITY, Pair { scale: range / 15.0, minimum: -lowest });
        for step in 0..=20 {
            let scale = range / (14.0 + 0.1 * step as f32);
            let [mut w, mut wq, mut wqq, mut wn, mut wnq] = [0.0_f32; 5];
            for (&number, &weight) in pairs() {
                let q = nearest(number - lowest, scale, 0, 15);
                w += weight;
                wq += weight * q;
                wqq += weight * q * q;
                wn += weight * number;
                wnq += weight * number * q;
            }
            let determinant = w * wqq - wq * wq;
            let (scale, minimum) = ((w * wnq - wn * wq) / determinant, (wq * wnq - wn * wqq) / determinant);
            let pair = match minimum >= 0.0 {
                _ if determinant <= 0.0 => continue,
                true => Pair { scale, minimum },
                false => Pair { scale: wnq / wqq, minimum: 0.0 },
            };
            if pair.scale <= 0.0 || !pair.scale.is_finite() {
                continue;
            }
            let error = pairs().fold(0.0, |sum, (&number, &weight)| {
                let off = number - (pair.scale * nearest(number + pair.minimum, pair.scale, 0, 15) - pair.minimum);
                sum + weight * off * off
            });
            if error < best.0 {
                best = (error, pair);
            }
        }
        best.1
    }
}

#[test]
fn candidates_side_by_side_are_those_one_by_one() {
    let numbers = bell(256 * 64, 5);
    let weighed: Vec<f32> = (0..numbers.len()).map(|i| 0.25 + (i % 11) as f32).collect();
    let alike = vec![1.0; numbers.len()];
    for importance in [&alike, &weighed] {
        for (numbers, importance) in numbers.chunks(32).zip(importance.chunks(32)) {
            for half in [8, 32] {
                let found = fit::fit_scale(numbers, importance, half, |scale| scale);
                let expected = one_by_one::fit_scale(numbers, importance, half);
                assert_eq!(found.to_bits(), expected.to_bits(), "{found} for {expected}");
            }
            let found = fit::fit_with_minimum(numbers, importance);
            let expected = one_by_one::fit_with_minimum(numbers, importance);
            assert_eq!(found.scale.to_bits(), expected.scale.to_bits(), "{} for {}", found.scale, expected.scale);
            assert_eq!(found.minimum.to_bits(), expected.minimum.to_bits());
        }
    }
}
