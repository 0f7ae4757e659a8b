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
