//! From the blocks of a file to numbers, and back ([`encode`]). The layouts are those of GGUF (ggml-quants), and so is
//! every rounding on the way to numbers: each product and sum is one f32 operation, in the order of the reference.

pub(crate) mod blocks;
pub(crate) mod code_books;
mod encode;
mod fit;
mod grids;
pub(crate) mod super_blocks;

use half::{bf16, f16};

use crate::{Error, Format, Result};
pub use encode::quantize;

/// The f32 values of whole blocks, exactly as the reference computes them.
///
/// `out` takes `bytes.len() / block_bytes * block_elements` numbers. NaN and infinite scales come out as they are.
///
/// # Errors
/// [`Error::Length`] if `bytes` is not a whole number of blocks or `out` has another length.
pub fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    let block = format.block_bytes();
    let count = bytes.len() / block;
    if !bytes.len().is_multiple_of(block) {
        return Err(Error::Length { what: "the blocks", expected: count * block, found: bytes.len() });
    }
    let elements = count * format.block_elements();
    if out.len() != elements {
        return Err(Error::Length { what: "the output", expected: elements, found: out.len() });
    }
    let body: fn(&[u8], &mut [f32]) = match format {
        Format::F32 => |bytes, out| out[0] = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        Format::F16 => |bytes, out| out[0] = half_at(bytes, 0),
        Format::Bf16 => |bytes, out| out[0] = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        Format::Q4_0 => blocks::q4_0,
        Format::Q4_1 => blocks::q4_1,
        Format::Q5_0 => blocks::q5_0,
        Format::Q5_1 => blocks::q5_1,
        Format::Q8_0 => blocks::q8_0,
        Format::Iq4Nl => blocks::iq4_nl,
        Format::Mxfp4 => blocks::mxfp4,
        Format::Q2K => super_blocks::q2_k,
        Format::Q3K => super_blocks::q3_k,
        Format::Q4K => super_blocks::q4_k,
        Format::Q5K => super_blocks::q5_k,
        Format::Q6K => super_blocks::q6_k,
        Format::Iq4Xs => super_blocks::iq4_xs,
        Format::Iq1S => code_books::iq1_s,
        Format::Iq1M => code_books::iq1_m,
        Format::Iq2Xxs => code_books::iq2_xxs,
        Format::Iq2Xs => code_books::iq2_xs,
        Format::Iq2S => code_books::iq2_s,
        Format::Iq3Xxs => code_books::iq3_xxs,
        Format::Iq3S => code_books::iq3_s,
        Format::Tq1_0 => super_blocks::tq1_0,
        Format::Tq2_0 => super_blocks::tq2_0,
    };
    for (bytes, out) in bytes.chunks_exact(block).zip(out.chunks_exact_mut(format.block_elements())) {
        body(bytes, out);
    }
    Ok(())
}

/// The f16 at a byte offset, as f32.
pub(crate) fn half_at(bytes: &[u8], offset: usize) -> f32 {
    f16::from_le_bytes([bytes[offset], bytes[offset + 1]]).to_f32()
}

#[cfg(test)]
mod tests;
