//! Blocks of 256 numbers: groups of 16 or 32 with small integer scales under one or two f16 scales.
//!
//! | format | bytes | layout |
//! |---|---|---|
//! | Q2_K | 84 | scales and minima (4 + 4 bits) \[16\], 2-bit numbers \[64\], d f16, dmin f16 |
//! | Q3_K | 110 | third bits \[32\], 2-bit numbers \[64\], 6-bit scales \[12\], d f16 |
//! | Q4_K | 144 | d f16, dmin f16, 6-bit scales and minima \[12\], nibbles \[128\] |
//! | Q5_K | 176 | d f16, dmin f16, 6-bit scales and minima \[12\], fifth bits \[32\], nibbles \[128\] |
//! | Q6_K | 210 | nibbles \[128\], upper 2 bits \[64\], i8 scales \[16\], d f16 |
//! | IQ4_XS | 136 | d f16, upper scale bits u16, lower scale bits \[4\], indexes \[128\] |
//! | TQ1_0 | 54 | five ternary digits a byte \[48\], four \[4\], d f16 |
//! | TQ2_0 | 66 | 2-bit numbers \[64\], d f16 |

use super::blocks::{IQ4_VALUES, nibbles};
use super::half_at;

/// A block of Q4_K or Q5_K: number `i` is `d * scales[i / 32] * q[i] - dmin * minima[i / 32]`.
struct WithMinima {
    scales: [u8; 8],
    minima: [u8; 8],
    q: [u8; 256],
}

/// A block of Q6_K: number `i` is `d * scales[i / 16] * (q[i] - 32)`.
struct SixBits {
    scales: [i8; 16],
    q: [u8; 256],
}

fn unpack_q4_k(bytes: &[u8]) -> WithMinima {
    let (scales, minima) = six_bit_pairs(&bytes[4..16]);
    WithMinima { scales, minima, q: paired_nibbles(&bytes[16..]) }
}

fn unpack_q5_k(bytes: &[u8]) -> WithMinima {
    let (scales, minima) = six_bit_pairs(&bytes[4..16]);
    let mut q = paired_nibbles(&bytes[48..]);
    for (i, q) in q.iter_mut().enumerate() {
        *q |= (bytes[16 + i % 32] >> (i / 32) & 1) << 4;
    }
    WithMinima { scales, minima, q }
}

fn unpack_q6_k(bytes: &[u8]) -> SixBits {
    let (low, high) = (&bytes[..128], &bytes[128..192]);
    let mut q = [0; 256];
    for (i, q) in q.iter_mut().enumerate() {
        let (part, quarter, l) = (i / 128, i % 128 / 32, i % 32);
        let nibble = low[64 * part + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
        *q = nibble | (high[32 * part + l] >> (2 * quarter) & 3) << 4;
    }
    SixBits { scales: std::array::from_fn(|i| bytes[192 + i].cast_signed()), q }
}

/// Eight scales and eight minima of six bits in twelve bytes.
pub(crate) fn six_bit_pairs(bytes: &[u8]) -> ([u8; 8], [u8; 8]) {
    let scale = |j: usize| if j < 4 { bytes[j] & 63 } else { bytes[j + 4] & 15 | bytes[j - 4] >> 6 << 4 };
    let minimum = |j: usize| if j < 4 { bytes[j + 4] & 63 } else { bytes[j + 4] >> 4 | bytes[j] >> 6 << 4 };
    (std::array::from_fn(scale), std::array::from_fn(minimum))
}

/// Two groups of 32 share 32 bytes: the even one lies in the low halves.
fn paired_nibbles(bytes: &[u8]) -> [u8; 256] {
    std::array::from_fn(|i| bytes[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15)
}

/// Number `i` of the formats that keep four 2-bit numbers a byte, 32 apart.
fn two_bits(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3
}

pub(super) fn q2_k(bytes: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(bytes, 80), half_at(bytes, 82));
    for (i, out) in out.iter_mut().enumerate() {
        let scale = bytes[i / 16];
        let (scale, minimum) = (d * f32::from(scale & 15), dmin * f32::from(scale >> 4));
        *out = scale * f32::from(two_bits(&bytes[16..80], i)) - minimum;
    }
}

pub(super) fn q3_k(bytes: &[u8], out: &mut [f32]) {
    let (third_bits, scales, d) = (&bytes[..32], &bytes[96..108], half_at(bytes, 108));
    for (i, out) in out.iter_mut().enumerate() {
        let group = i / 16;
        let low = scales[group % 8] >> (4 * (group / 8)) & 15;
        let high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let missing = if third_bits[i % 32] >> (i / 32) & 1 == 1 { 0.0 } else { 4.0 };
        *out = scale * (f32::from(two_bits(&bytes[32..96], i)) - missing);
    }
}

fn with_minima(bytes: &[u8], block: &WithMinima, out: &mut [f32]) {
    let (d, dmin) = (half_at(bytes, 0), half_at(bytes, 2));
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, minimum) = (d * f32::from(block.scales[i / 32]), dmin * f32::from(block.minima[i / 32]));
        *out = scale * f32::from(block.q[i]) - minimum;
    }
}

pub(super) fn q4_k(bytes: &[u8], out: &mut [f32]) {
    with_minima(bytes, &unpack_q4_k(bytes), out);
}

pub(super) fn q5_k(bytes: &[u8], out: &mut [f32]) {
    with_minima(bytes, &unpack_q5_k(bytes), out);
}

pub(super) fn q6_k(bytes: &[u8], out: &mut [f32]) {
    let (block, d) = (unpack_q6_k(bytes), half_at(bytes, 208));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(block.scales[i / 16]) * (f32::from(block.q[i]) - 32.0);
    }
}

pub(super) fn iq4_xs(bytes: &[u8], out: &mut [f32]) {
    let (d, high) = (half_at(bytes, 0), u16::from_le_bytes([bytes[2], bytes[3]]));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let low = bytes[4 + group / 2] >> (4 * (group % 2)) & 15;
        let scale = d * (f32::from(u16::from(low) | (high >> (2 * group) & 3) << 4) - 32.0);
        for (out, q) in out.iter_mut().zip(nibbles(&bytes[8 + 16 * group..])) {
            *out = scale * f32::from(IQ4_VALUES[usize::from(q)]);
        }
    }
}

pub(super) fn tq1_0(bytes: &[u8], out: &mut [f32]) {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let d = half_at(bytes, 52);
    // Bytes 0..32 hold five digits each, then 32..48 five, then 48..52 four; a digit's place is the outer loop.
    let places = [(0..32, 5), (32..48, 5), (48..52, 4)];
    let digits = places.into_iter().flat_map(|(range, digits)| {
        POWERS[..digits].iter().flat_map(move |power| range.clone().map(move |byte| (byte, *power)))
    });
    for (out, (byte, power)) in out.iter_mut().zip(digits) {
        // A byte is a fixed-point fraction in base 3: the product's upper part is the digit.
        let digit = (u16::from(bytes[byte].wrapping_mul(power)) * 3) >> 8;
        *out = d * (f32::from(digit) - 1.0);
    }
}

pub(super) fn tq2_0(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 64);
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (f32::from(two_bits(bytes, i)) - 1.0);
    }
}
