//! Blocks of 32 numbers with one scale.
//!
//! | format | bytes | layout |
//! |---|---|---|
//! | Q4_0 | 18 | d f16, nibbles \[16\] |
//! | Q4_1 | 20 | d f16, m f16, nibbles \[16\] |
//! | Q5_0 | 22 | d f16, fifth bits u32, nibbles \[16\] |
//! | Q5_1 | 24 | d f16, m f16, fifth bits u32, nibbles \[16\] |
//! | Q8_0 | 34 | d f16, i8 \[32\] |
//! | IQ4_NL | 18 | d f16, indexes into [`IQ4_VALUES`] \[16\] |
//! | MXFP4 | 17 | exponent u8, indexes into [`MXFP4_DOUBLES`] \[16\] |
//!
//! Byte `i` of the nibbles holds number `i` in its low half and number `i + 16` in its high half.

use super::half_at;

/// The sixteen values of the IQ4 formats, in units of the scale.
pub(crate) const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the sixteen values of E2M1.
pub(crate) const MXFP4_DOUBLES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The 32 four-bit numbers of sixteen bytes, in order.
pub(crate) fn nibbles(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// The 32 five-bit numbers of four bytes of fifth bits and sixteen of nibbles, in order.
pub(crate) fn five_bits(high: &[u8], low: &[u8]) -> [u8; 32] {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    let mut out = nibbles(low);
    for (i, q) in out.iter_mut().enumerate() {
        *q |= ((high >> i & 1) as u8) << 4;
    }
    out
}

/// Half of the power of two that an E8M0 byte stands for, since [`MXFP4_DOUBLES`] are doubled.
pub(crate) fn e8m0_half(exponent: u8) -> f32 {
    // 2^-128 and 2^-127 are subnormal.
    let bits = if exponent < 2 { 0x0020_0000 << exponent } else { (u32::from(exponent) - 1) << 23 };
    f32::from_bits(bits)
}

pub(super) fn q4_0(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (out, q) in out.iter_mut().zip(nibbles(&bytes[2..])) {
        *out = d * (f32::from(q) - 8.0);
    }
}

pub(super) fn q4_1(bytes: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    for (out, q) in out.iter_mut().zip(nibbles(&bytes[4..])) {
        *out = d * f32::from(q) + m;
    }
}

pub(super) fn q5_0(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (out, q) in out.iter_mut().zip(five_bits(&bytes[2..6], &bytes[6..])) {
        *out = d * (f32::from(q) - 16.0);
    }
}

pub(super) fn q5_1(bytes: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    for (out, q) in out.iter_mut().zip(five_bits(&bytes[4..8], &bytes[8..])) {
        *out = d * f32::from(q) + m;
    }
}

pub(super) fn q8_0(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (out, q) in out.iter_mut().zip(&bytes[2..]) {
        *out = d * f32::from(q.cast_signed());
    }
}

pub(super) fn iq4_nl(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (out, q) in out.iter_mut().zip(nibbles(&bytes[2..])) {
        *out = d * f32::from(IQ4_VALUES[usize::from(q)]);
    }
}

pub(super) fn mxfp4(bytes: &[u8], out: &mut [f32]) {
    let d = e8m0_half(bytes[0]);
    for (out, q) in out.iter_mut().zip(nibbles(&bytes[1..])) {
        *out = d * f32::from(MXFP4_DOUBLES[usize::from(q)]);
    }
}
