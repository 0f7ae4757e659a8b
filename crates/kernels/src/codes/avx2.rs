//! Bodies in AVX2: a block's word is two registers, and bits are counted by a table of sixteen nibbles.

#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "the instructions carry their own prefix, and there are dozens")
)]

use std::arch::x86_64::*;

use super::{CODE_BLOCK_ROWS, CodeEstimate, CodeKernels, CodeLevels, CodePlanes, CodeScan, CodeWord};
use super::{push, scalar, steps};
use crate::Isa;

/// Makes a safe function of the table out of a body that needs AVX2.
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

pub(super) static KERNELS: CodeKernels = CodeKernels { isa: Isa::Avx2, scan, levels, dot_f32, dot_f32_i8, squared_f32 };

#[target_feature(enable = "avx2")]
#[inline]
fn load(floats: &[f32; 8]) -> __m256 {
    // SAFETY: eight floats are there, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_bytes(bytes: &[u8; 8]) -> __m256 {
    // SAFETY: eight bytes are there, and the load needs no alignment.
    let bytes = unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_half(words: &[u64; 4]) -> __m256i {
    // SAFETY: four words are there, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// How many bits each byte has.
#[target_feature(enable = "avx2")]
#[inline]
fn count_bits(bytes: __m256i) -> __m256i {
    let nibble = _mm256_set1_epi8(0x0f);
    let table = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let low = _mm256_shuffle_epi8(table, _mm256_and_si256(bytes, nibble));
    let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble));
    _mm256_add_epi8(low, high)
}

/// The sums of the levels under the ones of four rows of a block: the first four or the last.
#[target_feature(enable = "avx2")]
#[inline]
fn level_sums<const FIRST: usize>(codes: &[CodeWord], planes: &[CodePlanes]) -> [i64; 4] {
    let zero = _mm256_setzero_si256();
    let (mut above, mut below) = (zero, zero);
    for (word, plane) in codes.iter().zip(planes) {
        let rows = load_half(word[FIRST..].first_chunk().expect("a word has eight rows"));
        let counts = plane.map(|plane| count_bits(_mm256_and_si256(rows, _mm256_set1_epi64x(plane.cast_signed()))));
        // At most 7 times 8 a byte.
        let high = _mm256_add_epi8(_mm256_add_epi8(counts[2], counts[2]), counts[1]);
        let positive = _mm256_add_epi8(_mm256_add_epi8(high, high), counts[0]);
        above = _mm256_add_epi64(above, _mm256_sad_epu8(positive, zero));
        below = _mm256_add_epi64(below, _mm256_sad_epu8(counts[3], zero));
    }
    let sums = _mm256_sub_epi64(above, _mm256_slli_epi64::<3>(below));
    let mut out = [0; 4];
    // SAFETY: four words fit, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
    out
}

#[target_feature(enable = "avx2,fma")]
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
        let halves = [level_sums::<0>(own, scan.planes), level_sums::<4>(own, scan.planes)];
        let sums: [f32; CODE_BLOCK_ROWS] = std::array::from_fn(|lane| halves[lane / 4][lane % 4] as f32);
        let product = _mm256_fmadd_ps(per_sum, load(&sums), offset);
        let far = _mm256_add_ps(load(&factors[0]), base);
        let estimate = _mm256_fnmadd_ps(load(&factors[1]), product, far);
        let members = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(estimate, below)) as u8 & chosen;
        if members != 0 {
            // SAFETY: eight floats fit, and the store needs no alignment.
            unsafe { _mm256_storeu_ps(estimates.as_mut_ptr(), estimate) };
            push(scan.first_row + (block * CODE_BLOCK_ROWS) as u32, members, &estimates, found);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn levels_body(query: &[f32], centre: &[f32], residual: &mut [f32], planes: &mut [CodePlanes]) -> CodeLevels {
    let (mut largest, mut total, mut squared) = (_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps());
    let sign = _mm256_set1_ps(-0.0);
    let pairs = query.as_chunks::<8>().0.iter().zip(centre.as_chunks::<8>().0);
    for (out, (query, centre)) in residual.as_chunks_mut::<8>().0.iter_mut().zip(pairs) {
        let number = _mm256_sub_ps(load(query), load(centre));
        largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, number));
        total = _mm256_add_ps(total, number);
        squared = _mm256_fmadd_ps(number, number, squared);
        // SAFETY: eight floats fit, and the store needs no alignment.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), number) };
    }
    let (step, per_step) = steps(floats_of(largest).into_iter().fold(0.0, f32::max));
    let per_step = _mm256_set1_ps(per_step);
    let (most, least) = (_mm256_set1_epi32(7), _mm256_set1_epi32(-7));
    for (plane, numbers) in planes.iter_mut().zip(residual.as_chunks::<64>().0) {
        *plane = [0; 4];
        for (place, numbers) in numbers.as_chunks::<8>().0.iter().enumerate() {
            // The default rounding of the processor: to the nearest, ties to even.
            let level = _mm256_cvtps_epi32(_mm256_mul_ps(load(numbers), per_step));
            let level = _mm256_max_epi32(_mm256_min_epi32(level, most), least);
            let shifted = [
                _mm256_slli_epi32::<31>(level),
                _mm256_slli_epi32::<30>(level),
                _mm256_slli_epi32::<29>(level),
                _mm256_slli_epi32::<28>(level),
            ];
            for (word, signs) in plane.iter_mut().zip(shifted) {
                let ones = _mm256_movemask_ps(_mm256_castsi256_ps(signs)) as u8;
                *word |= u64::from(ones) << (8 * place);
            }
        }
    }
    CodeLevels { step, total: floats_of(total).iter().sum(), squared: floats_of(squared).iter().sum() }
}

#[target_feature(enable = "avx2")]
#[inline]
fn floats_of(register: __m256) -> [f32; 8] {
    let mut out = [0.0; 8];
    // SAFETY: eight floats fit, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), register) };
    out
}

/// Sums a term over pairs of vectors, four registers at a time, and the rest by the scalar body.
macro_rules! sum_over {
    ($left:ident, $right:ident, $load_right:ident, $rest:path, |$l:ident, $r:ident, $acc:ident| $term:expr) => {{
        let mut sums = [_mm256_setzero_ps(); 4];
        let (left_wide, left_rest) = $left.as_chunks::<32>();
        let (right_wide, right_rest) = $right.as_chunks::<32>();
        for (left, right) in left_wide.iter().zip(right_wide) {
            let pairs = left.as_chunks::<8>().0.iter().zip(right.as_chunks::<8>().0);
            for (sum, (left, right)) in sums.iter_mut().zip(pairs) {
                let ($l, $r, $acc) = (load(left), $load_right(right), *sum);
                *sum = $term;
            }
        }
        let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
        floats_of(sum).iter().sum::<f32>() + $rest(left_rest, right_rest)
    }};
}

#[target_feature(enable = "avx2,fma")]
fn dot_f32_body(left: &[f32], right: &[f32]) -> f32 {
    sum_over!(left, right, load, scalar::dot_f32, |l, r, acc| _mm256_fmadd_ps(l, r, acc))
}

#[target_feature(enable = "avx2,fma")]
fn dot_f32_i8_body(left: &[f32], right: &[u8]) -> f32 {
    sum_over!(left, right, load_bytes, scalar::dot_f32_i8, |l, r, acc| _mm256_fmadd_ps(l, r, acc))
}

#[target_feature(enable = "avx2,fma")]
fn squared_f32_body(left: &[f32], right: &[f32]) -> f32 {
    sum_over!(left, right, load, scalar::squared_f32, |l, r, acc| {
        let difference = _mm256_sub_ps(l, r);
        _mm256_fmadd_ps(difference, difference, acc)
    })
}
