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
