//! Plain Rust: the oracle of the others.

use super::{CODE_BLOCK_ROWS, CODE_QUERY_BITS, CodeEstimate, CodeKernels, CodeLevels, CodePlanes, CodeScan};
use super::{LEVEL_MAX, push, steps};
use crate::Isa;

pub(super) static KERNELS: CodeKernels =
    CodeKernels { isa: Isa::Scalar, scan, levels, dot_f32, dot_f32_i8, squared_f32 };

fn scan(scan: &CodeScan<'_>, below: f32, found: &mut Vec<CodeEstimate>) {
    let words = scan.planes.len();
    for (block, &chosen) in scan.chosen.iter().enumerate() {
        let mut sums = [0_i32; CODE_BLOCK_ROWS];
        for (rows, plane) in scan.codes[block * words..][..words].iter().zip(scan.planes) {
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum += level_sum(*row, plane);
            }
        }
        let [squared, slope] = &scan.factors[block];
        let estimates = std::array::from_fn(|lane| {
            let product = scan.per_sum * sums[lane] as f32 + scan.offset;
            squared[lane] + scan.base - slope[lane] * product
        });
        let mut members = 0;
        for (lane, estimate) in estimates.iter().enumerate() {
            members |= u8::from(*estimate < below) << lane;
        }
        push(scan.first_row + (block * CODE_BLOCK_ROWS) as u32, members & chosen, &estimates, found);
    }
}

/// The sum of the levels under the ones of a row's word.
fn level_sum(row: u64, plane: &CodePlanes) -> i32 {
    let counts = plane.map(|plane| (row & plane).count_ones() as i32);
    counts[0] + 2 * counts[1] + 4 * counts[2] - 8 * counts[3]
}

fn levels(query: &[f32], centre: &[f32], residual: &mut [f32], planes: &mut [CodePlanes]) -> CodeLevels {
    let (mut largest, mut total, mut squared) = (0.0_f32, 0.0, 0.0);
    for ((out, query), centre) in residual.iter_mut().zip(query).zip(centre) {
        *out = query - centre;
        largest = largest.max(out.abs());
        total += *out;
        squared += *out * *out;
    }
    let (step, per_step) = steps(largest);
    for (plane, numbers) in planes.iter_mut().zip(residual.as_chunks::<64>().0) {
        *plane = [0; CODE_QUERY_BITS];
        for (place, number) in numbers.iter().enumerate() {
            let level = (number * per_step).round_ties_even().clamp(-LEVEL_MAX, LEVEL_MAX) as i8;
            for (bit, word) in plane.iter_mut().enumerate() {
                *word |= u64::from((level >> bit) as u8 & 1) << place;
            }
        }
    }
    CodeLevels { step, total, squared }
}

/// Independent partial sums: without them the compiler must add in order, one number at a time.
const LANES: usize = 16;

fn lanes<R: Copy>(left: &[f32], right: &[R], term: impl Fn(f32, R) -> f32) -> f32 {
    let (left_lanes, left_tail) = left.as_chunks::<LANES>();
    let (right_lanes, right_tail) = right.as_chunks::<LANES>();
    let mut acc = [0.0_f32; LANES];
    for (l, r) in left_lanes.iter().zip(right_lanes) {
        for lane in 0..LANES {
            acc[lane] += term(l[lane], r[lane]);
        }
    }
    let tail: f32 = left_tail.iter().zip(right_tail).map(|(&l, &r)| term(l, r)).sum();
    acc.iter().sum::<f32>() + tail
}

pub(super) fn dot_f32(left: &[f32], right: &[f32]) -> f32 {
    lanes(left, right, |l, r| l * r)
}

pub(super) fn dot_f32_i8(left: &[f32], right: &[u8]) -> f32 {
    lanes(left, right, |l, r: u8| l * f32::from(r.cast_signed()))
}

pub(super) fn squared_f32(left: &[f32], right: &[f32]) -> f32 {
    lanes(left, right, |l, r| (l - r) * (l - r))
}
