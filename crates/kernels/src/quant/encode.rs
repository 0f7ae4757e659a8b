//! From numbers to the blocks of a file: the other direction of the layouts in [`blocks`](super::blocks) and
//! [`super_blocks`](super::super_blocks).
//!
//! What a block can hold is a lattice: scales (and minima) in few bits, and small integers. The integers nearest to the
//! numbers are best for given scales, so a block is a search for scales, by the sum of `importance · error²`. Every
//! search contains the plain choice (the largest number at the end of the range), so it is never worse than that one.

use half::{bf16, f16};

use super::fit::{LANES, Pair, errors, errors_with_minimum, fit_scale, fit_with_minimum, nearest};
use crate::{Error, Format, Result};

/// Columns of a super-block.
const SUPER: usize = 256;
/// Passes over the scales of a super-block after the first choice; a third changed under 0.1 % of the error.
const PASSES: usize = 2;

/// Writes the numbers as blocks of the format.
///
/// `importance` is how much an error in each number counts, as long as `numbers` or empty for all alike. The numbers
/// are whole rows, so whole blocks; `out` takes `numbers.len() / block_elements * block_bytes` bytes.
/// Numbers beyond the range of F16 become infinite there; the caller looks for that.
/// Cost: a search over some twenty scales for each group in Q4_0 and the K formats; one pass in the others.
///
/// # Errors
/// [`Error::Length`] if a length does not fit, [`Error::NoEncoder`] for formats that are only read.
pub fn quantize(format: Format, numbers: &[f32], importance: &[f32], out: &mut [u8]) -> Result<()> {
    let block = format.block_elements();
    let count = numbers.len() / block;
    let length = |what, expected, found| Err(Error::Length { what, expected, found });
    if !numbers.len().is_multiple_of(block) {
        return length("the numbers", count * block, numbers.len());
    }
    if out.len() != count * format.block_bytes() {
        return length("the output", count * format.block_bytes(), out.len());
    }
    if !importance.is_empty() && importance.len() != numbers.len() {
        return length("the importance", numbers.len(), importance.len());
    }
    let body: fn(&[f32], &mut [u8]) = match format {
        Format::F32 => |numbers, out| out.copy_from_slice(&numbers[0].to_le_bytes()),
        Format::F16 => |numbers, out| out.copy_from_slice(&f16::from_f32(numbers[0]).to_le_bytes()),
        Format::Bf16 => |numbers, out| out.copy_from_slice(&bf16::from_f32(numbers[0]).to_le_bytes()),
        Format::Q8_0 => q8_0,
        Format::Q4_0 | Format::Q4K | Format::Q6K => {
            search(format, numbers, importance, out);
            return Ok(());
        }
        _ => return Err(Error::NoEncoder { format }),
    };
    for (numbers, out) in numbers.chunks_exact(block).zip(out.chunks_exact_mut(format.block_bytes())) {
        body(numbers, out);
    }
    Ok(())
}

/// The formats whose scales are searched for.
fn search(format: Format, numbers: &[f32], importance: &[f32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions.
        unsafe { search_avx2(format, numbers, importance, out) };
        return;
    }
    search_blocks(format, numbers, importance, out);
}

/// The same operations, eight at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn search_avx2(format: Format, numbers: &[f32], importance: &[f32], out: &mut [u8]) {
    search_blocks(format, numbers, importance, out);
}

/// No function is handed over here: it would not be compiled for the instructions of its caller.
#[inline(always)]
fn search_blocks(format: Format, numbers: &[f32], importance: &[f32], out: &mut [u8]) {
    let (block, alike) = (format.block_elements(), [1.0; SUPER]);
    let blocks = numbers.chunks_exact(block).zip(out.chunks_exact_mut(format.block_bytes()));
    for (index, (numbers, out)) in blocks.enumerate() {
        let importance = importance.get(index * block..(index + 1) * block).unwrap_or(&alike[..block]);
        match format {
            Format::Q4_0 => q4_0(numbers, importance, out),
            Format::Q4K => q4_k(numbers, importance, out),
            _ => q6_k(numbers, importance, out),
        }
    }
}

/// The f16 that is written for a scale, as f32.
fn stored(scale: f32) -> f32 {
    f16::from_f32(scale).to_f32()
}

fn put_half(out: &mut [u8], at: usize, value: f32) {
    out[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

fn q8_0(numbers: &[f32], out: &mut [u8]) {
    let largest = numbers.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
    let d = stored(largest / 127.0);
    put_half(out, 0, d);
    for (out, &number) in out[2..].iter_mut().zip(numbers) {
        *out = (nearest(number, d, -127, 127) as i8).cast_unsigned();
    }
}

#[inline(always)]
fn q4_0(numbers: &[f32], importance: &[f32], out: &mut [u8]) {
    let d = stored(fit_scale(numbers, importance, 8, stored));
    put_half(out, 0, d);
    let q = |i: usize| (nearest(numbers[i], d, -8, 7) + 8.0) as u8;
    for i in 0..16 {
        out[2 + i] = q(i) | q(i + 16) << 4;
    }
}

/// Sum of `importance · error²` of numbers that become `scale · q − minimum`, `q` from 0 to 15.
#[inline(always)]
fn error_with_minimum(numbers: &[f32], importance: &[f32], scale: f32, minimum: f32) -> f32 {
    let mut sum = 0.0;
    for (&number, &weight) in numbers.iter().zip(importance) {
        let off = number - (scale * nearest(number + minimum, scale, 0, 15) - minimum);
        sum += weight * off * off;
    }
    sum
}

#[inline(always)]
fn q4_k(numbers: &[f32], importance: &[f32], out: &mut [u8]) {
    let groups = || numbers.chunks_exact(32).zip(importance.chunks_exact(32));
    let mut wanted = [Pair::default(); 8];
    for (wanted, (numbers, importance)) in wanted.iter_mut().zip(groups()) {
        *wanted = fit_with_minimum(numbers, importance);
    }
    let top = |of: fn(&Pair) -> f32| wanted.iter().map(of).fold(0.0_f32, f32::max);
    let (mut d, mut dmin) = (stored(top(|pair| pair.scale) / 63.0), stored(top(|pair| pair.minimum) / 63.0));
    let (mut scales, mut minima) = ([0_i32; 8], [0_i32; 8]);
    for (group, pair) in wanted.iter().enumerate() {
        scales[group] = nearest(pair.scale, d, 0, 63) as i32;
        minima[group] = nearest(pair.minimum, dmin, 0, 63) as i32;
    }
    let total = |d: f32, dmin: f32, scales: &[i32; 8], minima: &[i32; 8]| -> f32 {
        let of = |(group, (numbers, importance)): (usize, (&[f32], &[f32]))| {
            error_with_minimum(numbers, importance, d * scales[group] as f32, dmin * minima[group] as f32)
        };
        groups().enumerate().map(of).sum()
    };
    for _ in 0..PASSES {
        for (group, (numbers, importance)) in groups().enumerate() {
            (scales[group], minima[group]) =
                best_neighbour(numbers, importance, d, dmin, (scales[group], minima[group]));
        }
        let refined = refine_with_minima(numbers, importance, d, dmin, &scales, &minima).map(|pair| {
            let (scale, minimum) = (stored(pair.scale), stored(pair.minimum));
            (scale, minimum, total(scale, minimum, &scales, &minima))
        });
        if let Some((scale, minimum, error)) = refined
            && error < total(d, dmin, &scales, &minima)
        {
            (d, dmin) = (scale, minimum);
        }
    }
    put_half(out, 0, d);
    put_half(out, 2, dmin);
    put_six_bit_pairs(&mut out[4..16], &scales, &minima);
    let q = |i: usize| {
        let (scale, minimum) = (d * scales[i / 32] as f32, dmin * minima[i / 32] as f32);
        nearest(numbers[i] + minimum, scale, 0, 15) as u8
    };
    // Two groups of 32 share 32 bytes: the even one lies in the low halves.
    for (at, byte) in out[16..].iter_mut().enumerate() {
        let low = at / 32 * 64 + at % 32;
        *byte = q(low) | q(low + 32) << 4;
    }
}

/// The pair of whole numbers at most one away from the given that makes the least error.
#[inline(always)]
fn best_neighbour(numbers: &[f32], importance: &[f32], d: f32, dmin: f32, (scale, minimum): (i32, i32)) -> (i32, i32) {
    // Every scale with every minimum, in whole lanes: the last one is there more than once.
    let near = |number: i32| [number - 1, number, number + 1].into_iter().filter(|number| (0..=63).contains(number));
    let mut pairs = near(scale).flat_map(|scale| near(minimum).map(move |minimum| (scale, minimum)));
    let mut best = (f32::INFINITY, (scale, minimum));
    while let Some(first) = pairs.next() {
        let mut last = first;
        let some: [(i32, i32); LANES] = std::array::from_fn(|lane| {
            last = if lane == 0 { first } else { pairs.next().unwrap_or(last) };
            last
        });
        let (scales, minima) = (some.map(|pair| d * pair.0 as f32), some.map(|pair| dmin * pair.1 as f32));
        for (error, pair) in errors_with_minimum(numbers, importance, scales, minima).into_iter().zip(some) {
            if error < best.0 {
                best = (error, pair);
            }
        }
    }
    best.1
}

/// The `d` and `dmin` that fit best (least squares) for these integers; `None` where they are not determined.
#[inline(always)]
fn refine_with_minima(
    numbers: &[f32],
    importance: &[f32],
    d: f32,
    dmin: f32,
    scales: &[i32; 8],
    minima: &[i32; 8],
) -> Option<Pair> {
    // number ≈ d · a − dmin · b, with a = scale · q and b = the minimum.
    let (mut aa, mut ab, mut bb, mut an, mut bn) = (0.0_f64, 0.0, 0.0, 0.0, 0.0);
    for (i, (&number, &weight)) in numbers.iter().zip(importance).enumerate() {
        let (scale, b) = (scales[i / 32] as f32, minima[i / 32] as f32);
        let a = scale * nearest(number + dmin * b, d * scale, 0, 15);
        let (weight, a, b, number) = (f64::from(weight), f64::from(a), f64::from(b), f64::from(number));
        aa += weight * a * a;
        ab += weight * a * b;
        bb += weight * b * b;
        an += weight * a * number;
        bn += weight * b * number;
    }
    let determinant = aa * bb - ab * ab;
    let (scale, minimum) = if determinant > 1e-9 * aa * bb {
        ((an * bb - bn * ab) / determinant, (an * ab - bn * aa) / determinant)
    } else if aa > 0.0 && bb <= 0.0 {
        (an / aa, 0.0)
    } else {
        return None;
    };
    (scale > 0.0 && minimum >= 0.0).then_some(Pair { scale: scale as f32, minimum: minimum as f32 })
}

/// Eight scales and eight minima of six bits in twelve bytes.
fn put_six_bit_pairs(out: &mut [u8], scales: &[i32; 8], minima: &[i32; 8]) {
    for j in 0..4 {
        let [scale, minimum] = [scales, minima].map(|list| list[j] as u8);
        let [later_scale, later_minimum] = [scales, minima].map(|list| list[j + 4] as u8);
        out[j] = scale | later_scale >> 4 << 6;
        out[j + 4] = minimum | later_minimum >> 4 << 6;
        out[j + 8] = later_scale & 15 | (later_minimum & 15) << 4;
    }
}

/// Sum of `importance · error²` of numbers that become `scale · q`, `q` from −32 to 31.
fn error_of_six_bits(numbers: &[f32], importance: &[f32], scale: f32) -> f32 {
    let mut sum = 0.0;
    for (&number, &weight) in numbers.iter().zip(importance) {
        let off = number - scale * nearest(number, scale, -32, 31);
        sum += weight * off * off;
    }
    sum
}

#[inline(always)]
fn q6_k(numbers: &[f32], importance: &[f32], out: &mut [u8]) {
    let groups = || numbers.chunks_exact(16).zip(importance.chunks_exact(16));
    let mut wanted = [0.0_f32; 16];
    for (wanted, (numbers, importance)) in wanted.iter_mut().zip(groups()) {
        *wanted = fit_scale(numbers, importance, 32, |scale| scale);
    }
    // The largest scale becomes −128, so that the range is used whole.
    let largest =
        wanted.iter().copied().fold(0.0_f32, |most, scale| if scale.abs() > most.abs() { scale } else { most });
    let mut d = stored(largest / -128.0);
    let mut scales = wanted.map(|scale| nearest(scale, d, -128, 127) as i32);
    let total = |d: f32, scales: &[i32; 16]| -> f32 {
        let of = |((numbers, importance), &scale): ((&[f32], &[f32]), &i32)| {
            error_of_six_bits(numbers, importance, d * scale as f32)
        };
        groups().zip(scales).map(of).sum()
    };
    for _ in 0..PASSES {
        for (scale, (numbers, importance)) in scales.iter_mut().zip(groups()) {
            let near: [i32; LANES] = std::array::from_fn(|lane| (*scale - 1 + lane.min(2) as i32).clamp(-128, 127));
            let sums = errors(numbers, importance, near.map(|scale| d * scale as f32), [-32, 31]);
            let errors = sums.into_iter().zip(near);
            *scale = errors.fold((f32::INFINITY, *scale), |best, next| if next.0 < best.0 { next } else { best }).1;
        }
        let (mut squares, mut products) = (0.0_f64, 0.0);
        for (i, (&number, &weight)) in numbers.iter().zip(importance).enumerate() {
            let scale = scales[i / 16] as f32;
            let a = f64::from(scale * nearest(number, d * scale, -32, 31));
            squares += f64::from(weight) * a * a;
            products += f64::from(weight) * a * f64::from(number);
        }
        let refined = stored((products / squares) as f32);
        if squares > 0.0 && total(refined, &scales) < total(d, &scales) {
            d = refined;
        }
    }
    put_six_bits(out, numbers, d, &scales);
}

#[inline(always)]
fn put_six_bits(out: &mut [u8], numbers: &[f32], d: f32, scales: &[i32; 16]) {
    out[..192].fill(0);
    for (i, &number) in numbers.iter().enumerate() {
        let q = (nearest(number, d * scales[i / 16] as f32, -32, 31) + 32.0) as u8;
        let (part, quarter, l) = (i / 128, i % 128 / 32, i % 32);
        out[64 * part + 32 * (quarter % 2) + l] |= (q & 15) << (4 * (quarter / 2));
        out[128 + 32 * part + l] |= q >> 4 << (2 * quarter);
    }
    for (out, &scale) in out[192..208].iter_mut().zip(scales) {
        *out = (scale as i8).cast_unsigned();
    }
    put_half(out, 208, d);
}
