//! Bodies in AVX-512 with VPOPCNTDQ: a block's word is one register.

#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "the instructions carry their own prefix, and there are dozens")
)]

use std::arch::x86_64::*;

use super::{CODE_BLOCK_ROWS, CodeEstimate, CodeKernels, CodeLevels, CodePlanes, CodeScan, CodeWord};
use super::{push, scalar, steps};
use crate::Isa;

/// Makes a safe function of the table out of a body that needs AVX-512.
macro_rules! entry {
    ($name:ident, $body:path, ($($argument:ident: $type:ty),*) $(-> $result:ty)?) => {
        fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: `CodeKernels::of` hands this table out only if the processor has the instructions.
            unsafe { $body($($argument),*) }
        }
    };
}

entry!(scan, scan_body, (scan: &CodeScan<'_>, below: f32, found: &mut Vec<CodeEstimate>));
entry!(
    levels,
    levels_body,
    (query: &[f32], centre: &[f32], residual: &mut [f32], planes: &mut [CodePlanes]) -> CodeLevels
);
entry!(dot_f32, dot_f32_body, (left: &[f32], right: &[f32]) -> f32);
entry!(dot_f32_i8, dot_f32_i8_body, (left: &[f32], right: &[u8]) -> f32);
entry!(squared_f32, squared_f32_body, (left: &[f32], right: &[f32]) -> f32);

pub(super) static KERNELS: CodeKernels =
    CodeKernels { isa: Isa::Avx512, scan, levels, dot_f32, dot_f32_i8, squared_f32 };

#[target_feature(enable = "avx512f")]
#[inline]
fn load_word(word: &CodeWord) -> __m512i {
    // SAFETY: eight words are there, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(word.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(floats: &[f32; 16]) -> __m512 {
    // SAFETY: sixteen floats are there, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(floats.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_bytes(bytes: &[u8; 16]) -> __m512 {
    // SAFETY: sixteen bytes are there, and the load needs no alignment.
    let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_eight(floats: &[f32; CODE_BLOCK_ROWS]) -> __m256 {
    // SAFETY: eight floats are there, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

/// The sums of the levels under the ones of each row of a block.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
#[inline]
fn level_sums(codes: &[CodeWord], planes: &[CodePlanes]) -> __m512i {
    let mut counts = [_mm512_setzero_si512(); 4];
    for (word, plane) in codes.iter().zip(planes) {
        let rows = load_word(word);
        for (count, plane) in counts.iter_mut().zip(plane) {
            let ones = _mm512_and_si512(rows, _mm512_set1_epi64(plane.cast_signed()));
            *count = _mm512_add_epi64(*count, _mm512_popcnt_epi64(ones));
        }
    }
    let high = _mm512_sub_epi64(counts[2], _mm512_slli_epi64::<1>(counts[3]));
    let low = _mm512_add_epi64(counts[0], _mm512_slli_epi64::<1>(counts[1]));
    _mm512_add_epi64(low, _mm512_slli_epi64::<2>(high))
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512vpopcntdq,avx2,fma")]
fn scan_body(scan: &CodeScan<'_>, below: f32, found: &mut Vec<CodeEstimate>) {
    let words = scan.planes.len();
    let (per_sum, offset) = (_mm256_set1_ps(scan.per_sum), _mm256_set1_ps(scan.offset));
    let (base, below) = (_mm256_set1_ps(scan.base), _mm256_set1_ps(below));
    let mut estimates = [0.0; CODE_BLOCK_ROWS];
    let mut codes = scan.codes;
    for (block, (&chosen, factors)) in scan.chosen.iter().zip(scan.factors).enumerate() {
        let (own, rest) = codes.split_at(words);
        codes = rest;
        if chosen == 0 {
            continue;
        }
        let sums = _mm512_cvtepi64_ps(level_sums(own, scan.planes));
        let product = _mm256_fmadd_ps(per_sum, sums, offset);
        let far = _mm256_add_ps(load_eight(&factors[0]), base);
        let estimate = _mm256_fnmadd_ps(load_eight(&factors[1]), product, far);
        let members = _mm256_cmp_ps_mask::<_CMP_LT_OQ>(estimate, below) & chosen;
        if members != 0 {
            // SAFETY: eight floats fit, and the store needs no alignment.
            unsafe { _mm256_storeu_ps(estimates.as_mut_ptr(), estimate) };
            push(scan.first_row + (block * CODE_BLOCK_ROWS) as u32, members, &estimates, found);
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn levels_body(query: &[f32], centre: &[f32], residual: &mut [f32], planes: &mut [CodePlanes]) -> CodeLevels {
    let (mut largest, mut total, mut squared) = (_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps());
    let pairs = query.as_chunks::<16>().0.iter().zip(centre.as_chunks::<16>().0);
    for (out, (query, centre)) in residual.as_chunks_mut::<16>().0.iter_mut().zip(pairs) {
        let number = _mm512_sub_ps(load(query), load(centre));
        largest = _mm512_max_ps(largest, _mm512_abs_ps(number));
        total = _mm512_add_ps(total, number);
        squared = _mm512_fmadd_ps(number, number, squared);
        // SAFETY: sixteen floats fit, and the store needs no alignment.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), number) };
    }
    let (step, per_step) = steps(_mm512_reduce_max_ps(largest));
    let per_step = _mm512_set1_ps(per_step);
    let limit = _mm512_set1_epi32(7);
    for (plane, numbers) in planes.iter_mut().zip(residual.as_chunks::<64>().0) {
        *plane = [0; 4];
        for (place, numbers) in numbers.as_chunks::<16>().0.iter().enumerate() {
            // The default rounding of the processor: to the nearest, ties to even.
            let level = _mm512_cvtps_epi32(_mm512_mul_ps(load(numbers), per_step));
            let level = _mm512_max_epi32(_mm512_min_epi32(level, limit), _mm512_set1_epi32(-7));
            for (bit, word) in plane.iter_mut().enumerate() {
                let ones = _mm512_test_epi32_mask(level, _mm512_set1_epi32(1 << bit));
                *word |= u64::from(ones) << (16 * place);
            }
        }
    }
    CodeLevels { step, total: _mm512_reduce_add_ps(total), squared: _mm512_reduce_add_ps(squared) }
}

/// Sums a term over pairs of vectors, four registers at a time, and the rest by the scalar body.
macro_rules! sum_over {
    ($left:ident, $right:ident, $load_right:ident, $rest:path, |$l:ident, $r:ident, $acc:ident| $term:expr) => {{
        let mut sums = [_mm512_setzero_ps(); 4];
        let (left_wide, left_rest) = $left.as_chunks::<64>();
        let (right_wide, right_rest) = $right.as_chunks::<64>();
        for (left, right) in left_wide.iter().zip(right_wide) {
            let pairs = left.as_chunks::<16>().0.iter().zip(right.as_chunks::<16>().0);
            for (sum, (left, right)) in sums.iter_mut().zip(pairs) {
                let ($l, $r, $acc) = (load(left), $load_right(right), *sum);
                *sum = $term;
            }
        }
        let sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
        _mm512_reduce_add_ps(sum) + $rest(left_rest, right_rest)
    }};
}

#[target_feature(enable = "avx512f")]
fn dot_f32_body(left: &[f32], right: &[f32]) -> f32 {
    sum_over!(left, right, load, scalar::dot_f32, |l, r, acc| _mm512_fmadd_ps(l, r, acc))
}

#[target_feature(enable = "avx512f")]
fn dot_f32_i8_body(left: &[f32], right: &[u8]) -> f32 {
    sum_over!(left, right, load_bytes, scalar::dot_f32_i8, |l, r, acc| _mm512_fmadd_ps(l, r, acc))
}

#[target_feature(enable = "avx512f")]
fn squared_f32_body(left: &[f32], right: &[f32]) -> f32 {
    sum_over!(left, right, load, scalar::squared_f32, |l, r, acc| {
        let difference = _mm512_sub_ps(l, r);
        _mm512_fmadd_ps(difference, difference, acc)
    })
}
