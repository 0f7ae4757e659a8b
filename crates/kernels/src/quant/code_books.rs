//! Blocks of 256 numbers whose groups of four or eight are points of a code book ([`super::grids`]) with signs.
//!
//! | format | bytes | layout |
//! |---|---|---|
//! | IQ2_XXS | 66 | d f16, for each 32 numbers: points u8 \[4\], signs 4 × 7 bits and scale 4 bits u32 |
//! | IQ2_XS | 74 | d f16, point (9 bits) and signs (7 bits) u16 \[32\], scales of 16 numbers 4 bits \[8\] |
//! | IQ2_S | 82 | d f16, low bits of points \[32\], signs \[32\], high bits of points \[8\], scales 4 bits \[8\] |
//! | IQ3_XXS | 98 | d f16, points u8 \[64\], for each 32: signs 4 × 7 bits and scale 4 bits u32 |
//! | IQ3_S | 110 | d f16, low bits of points \[64\], ninth bits \[8\], signs \[32\], scales 4 bits \[4\] |
//! | IQ1_S | 50 | d f16, low bits of points \[32\], for each 32: high bits 4 × 3, scale 3, shift 1 u16 |
//! | IQ1_M | 56 | low bits of points \[32\], high bits 3 and shift 1 \[16\], scales 4 × 3 and 4 bits of d u16 \[4\] |
//!
//! Seven bits of signs stand for eight: the last makes their number even.

use half::f16;

use super::grids;
use super::half_at;

/// The values of a coordinate in the IQ2 books.
const IQ2_VALUES: [f32; 3] = [8.0, 25.0, 43.0];
const IQ3_XXS_VALUES: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];
const IQ3_S_VALUES: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];
/// By how much the ternary points of the IQ1 formats are shifted, up or down.
const IQ1_SHIFT: f32 = 0.125;

/// Coordinate `i` of a point of eight.
fn of_eight(book: &[u8], point: usize, i: usize) -> usize {
    usize::from(book[2 * point + i / 4] >> (2 * (i % 4)) & 3)
}

/// Coordinate `i` of a point of four.
fn of_four(book: &[u8], point: usize, i: usize) -> usize {
    usize::from(book[2 * point + i / 2] >> (4 * (i % 2)) & 15)
}

/// Eight signs of seven bits.
fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() & 1) as u8) << 7
}

fn sign(signs: u8, i: usize) -> f32 {
    if signs >> i & 1 == 1 { -1.0 } else { 1.0 }
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from(u16_at(bytes, offset)) | u32::from(u16_at(bytes, offset + 2)) << 16
}

/// Four bits of a list, low half first.
fn nibble(bytes: &[u8], index: usize) -> u8 {
    bytes[index / 2] >> (4 * (index % 2)) & 15
}

/// Eight numbers of an IQ2 format.
fn put_eight(out: &mut [f32], scale: f32, book: &[u8], point: usize, signs: u8) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * IQ2_VALUES[of_eight(book, point, i)] * sign(signs, i);
    }
}

/// Eight numbers of an IQ3 format: two points.
fn put_two_fours(out: &mut [f32], scale: f32, book: &[u8], values: &[f32; 8], points: [usize; 2], signs: u8) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * values[of_four(book, points[i / 4], i % 4)] * sign(signs, i);
    }
}

pub(super) fn iq2_xxs(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (group, out) in out.chunks_exact_mut(8).enumerate() {
        let words = &bytes[2 + 8 * (group / 4)..][..8];
        let high = u32_at(words, 4);
        let scale = d * (0.5 + (high >> 28) as f32) * 0.25;
        let signs = even_signs(high >> (7 * (group % 4)));
        put_eight(out, scale, &grids::IQ2_XXS, usize::from(words[group % 4]), signs);
    }
}

pub(super) fn iq2_xs(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (group, out) in out.chunks_exact_mut(8).enumerate() {
        let word = u16_at(bytes, 2 + 2 * group);
        let scale = d * (0.5 + f32::from(nibble(&bytes[66..], group / 2))) * 0.25;
        put_eight(out, scale, &grids::IQ2_XS, usize::from(word & 511), even_signs(u32::from(word >> 9)));
    }
}

pub(super) fn iq2_s(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (group, out) in out.chunks_exact_mut(8).enumerate() {
        let scale = d * (0.5 + f32::from(nibble(&bytes[74..], group / 2))) * 0.25;
        let high = usize::from(bytes[66 + group / 4] >> (2 * (group % 4)) & 3);
        put_eight(out, scale, &grids::IQ2_S, usize::from(bytes[2 + group]) | high << 8, bytes[34 + group]);
    }
}

pub(super) fn iq3_xxs(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (group, out) in out.chunks_exact_mut(8).enumerate() {
        let word = u32_at(bytes, 66 + 4 * (group / 4));
        let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
        let points = [0, 1].map(|i| usize::from(bytes[2 + 2 * group + i]));
        let signs = even_signs(word >> (7 * (group % 4)));
        put_two_fours(out, scale, &grids::IQ3_XXS, &IQ3_XXS_VALUES, points, signs);
    }
}

pub(super) fn iq3_s(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (group, out) in out.chunks_exact_mut(8).enumerate() {
        let scale = d * (1.0 + 2.0 * f32::from(nibble(&bytes[106..], group / 4)));
        let point = |index: usize| {
            let ninth = usize::from(bytes[66 + index / 8] >> (index % 8) & 1);
            usize::from(bytes[2 + index]) | ninth << 8
        };
        let points = [point(2 * group), point(2 * group + 1)];
        put_two_fours(out, scale, &grids::IQ3_S, &IQ3_S_VALUES, points, bytes[74 + group]);
    }
}

/// Eight numbers of an IQ1 format.
fn put_shifted(out: &mut [f32], scale: f32, point: usize, is_down: bool) {
    let shift = if is_down { -IQ1_SHIFT } else { IQ1_SHIFT };
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * (of_eight(&grids::IQ1_S, point, i) as f32 - 1.0 + shift);
    }
}

pub(super) fn iq1_s(bytes: &[u8], out: &mut [f32]) {
    let d = half_at(bytes, 0);
    for (group, out) in out.chunks_exact_mut(8).enumerate() {
        let word = u16_at(bytes, 34 + 2 * (group / 4));
        let scale = d * f32::from(2 * (word >> 12 & 7) + 1);
        let high = usize::from(word >> (3 * (group % 4)) & 7);
        put_shifted(out, scale, usize::from(bytes[2 + group]) | high << 8, word >> 15 == 1);
    }
}

/// The scale of an IQ1_M block lies in the upper bits of its four words of scales.
pub(crate) fn iq1_m_scale(bytes: &[u8]) -> f16 {
    let bits = (0..4).fold(0, |bits, i| bits | (u16_at(bytes, 48 + 2 * i) >> 12) << (4 * i));
    f16::from_bits(bits)
}

pub(super) fn iq1_m(bytes: &[u8], out: &mut [f32]) {
    let d = iq1_m_scale(bytes).to_f32();
    for (group, out) in out.chunks_exact_mut(8).enumerate() {
        let sixteen = group / 2;
        let scale = d * f32::from(2 * (u16_at(bytes, 48 + 2 * (sixteen / 4)) >> (3 * (sixteen % 4)) & 7) + 1);
        let high = nibble(&bytes[32..], group);
        put_shifted(out, scale, usize::from(bytes[group]) | usize::from(high & 7) << 8, high & 8 != 0);
    }
}
