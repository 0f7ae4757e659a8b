//! Finding numbers that are infinite or not a number, without computing them.
//!
//! A float is not finite if all bits of its exponent are set. Quantised blocks hold integers, for which every value is
//! good, and scales; only the scales are looked at.

use kernels::Format;

const F16_EXPONENT: u16 = 0x7C00;
const BF16_EXPONENT: u16 = 0x7F80;
const F32_EXPONENT: u32 = 0x7F80_0000;

/// Numbers that are looked at before the loop may stop; inside, it has no branch and is as fast as the memory.
const STRIDE: usize = 4096;

/// Index of an element that is, or lies in a block whose scale is, not finite.
///
/// The bytes are whole blocks. Cost: one pass over floats; two to four bytes a block of quantised weights.
pub(crate) fn first_fault(format: Format, bytes: &[u8]) -> Option<usize> {
    let in_blocks = |offsets: &[usize]| {
        let fault = |block: &[u8]| offsets.iter().any(|&at| is_wild_f16(&block[at..at + 2]));
        let block = bytes.chunks_exact(format.block_bytes()).position(fault)?;
        Some(block * format.block_elements())
    };
    match format {
        Format::F32 => first_in(bytes, 4, |word| {
            u32::from_le_bytes([word[0], word[1], word[2], word[3]]) & F32_EXPONENT == F32_EXPONENT
        }),
        Format::Bf16 => {
            first_in(bytes, 2, |word| u16::from_le_bytes([word[0], word[1]]) & BF16_EXPONENT == BF16_EXPONENT)
        }
        Format::F16 => first_in(bytes, 2, is_wild_f16),
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 | Format::Iq4Nl | Format::Iq4Xs => in_blocks(&[0]),
        Format::Iq1S | Format::Iq2Xxs | Format::Iq2Xs | Format::Iq2S | Format::Iq3Xxs | Format::Iq3S => in_blocks(&[0]),
        Format::Q4K | Format::Q5K => in_blocks(&[0, 2]),
        Format::Q3K => in_blocks(&[108]),
        Format::Q6K => in_blocks(&[208]),
        _ => first_by_value(format, bytes),
    }
}

fn is_wild_f16(word: &[u8]) -> bool {
    u16::from_le_bytes([word[0], word[1]]) & F16_EXPONENT == F16_EXPONENT
}

fn first_in(bytes: &[u8], size: usize, is_wild: impl Fn(&[u8]) -> bool) -> Option<usize> {
    bytes.chunks(STRIDE * size).enumerate().find_map(|(index, chunk)| {
        let wild = chunk.chunks_exact(size).fold(false, |found, word| found | is_wild(word));
        let position = || chunk.chunks_exact(size).position(&is_wild).map(|at| index * STRIDE + at);
        if wild { position() } else { None }
    })
}

/// The formats without a rule of their own: every number is computed.
fn first_by_value(format: Format, bytes: &[u8]) -> Option<usize> {
    let mut numbers = vec![0.0_f32; format.block_elements()];
    bytes.chunks_exact(format.block_bytes()).enumerate().find_map(|(index, block)| {
        kernels::dequantize(format, block, &mut numbers).ok()?;
        let at = numbers.iter().position(|number| !number.is_finite())?;
        Some(index * format.block_elements() + at)
    })
}

#[cfg(test)]
mod tests {
    use super::{STRIDE, first_fault};
    use kernels::Format;

    #[test]
    fn a_wild_float_is_found_wherever_it_is() {
        for at in [0, 1, STRIDE - 1, STRIDE, STRIDE + 7] {
            let mut bytes = vec![0_u8; (STRIDE + 8) * 4];
            assert_eq!(first_fault(Format::F32, &bytes), None);
            bytes[at * 4..at * 4 + 4].copy_from_slice(&f32::NAN.to_le_bytes());
            assert_eq!(first_fault(Format::F32, &bytes), Some(at));
        }
        assert_eq!(first_fault(Format::Bf16, &[0x80, 0x7F]), Some(0));
        assert_eq!(first_fault(Format::Bf16, &[0x7F, 0x7F]), None, "the largest finite one");
        assert_eq!(first_fault(Format::F16, &[0x00, 0xFC]), Some(0), "minus infinity");
        assert_eq!(first_fault(Format::F16, &[0xFF, 0x7B]), None, "the largest finite one");
    }

    #[test]
    fn only_the_scales_of_blocks_count() {
        let mut bytes = vec![0xFF_u8; 34 * 3];
        for block in bytes.chunks_exact_mut(34) {
            block[..2].copy_from_slice(&[0x00, 0x3C]);
        }
        assert_eq!(first_fault(Format::Q8_0, &bytes), None);
        bytes[34..36].copy_from_slice(&[0x01, 0x7C]);
        assert_eq!(first_fault(Format::Q8_0, &bytes), Some(32));
    }
}
