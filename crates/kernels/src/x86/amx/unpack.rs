//! Quantised panels become panels of BF16: once for all columns of a prompt.

use std::arch::x86_64::*;

use super::super::avx512::load;
use super::super::avx512::quantised;
use super::super::blocks::{Q4, Q4K, Q5K, Q6K, Q8};
use crate::layout::{LANES, Layout};

/// Bytes that a block of 32 columns has in BF16: sixteen words of sixteen rows.
const BLOCK_BYTES: usize = 16 * 4 * LANES;

/// Each value is rounded once, to the nearest, from what the scalar layout says that it is.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512bf16,f16c")]
pub(super) fn panel(layout: Layout, panel: &[u8], out: &mut [u8]) {
    match layout {
        Layout::Q8 => blocks::<Q8>(panel, out),
        Layout::Q4 => blocks::<Q4>(panel, out),
        Layout::Q4K => blocks::<Q4K>(panel, out),
        Layout::Q5K => blocks::<Q5K>(panel, out),
        Layout::Q6K => blocks::<Q6K>(panel, out),
        Layout::F32 | Layout::Bf16 => unreachable!("the layout is not quantised"),
    }
}

/// From four columns of each row, side by side, to two columns of each row and then the other two.
const ORDER: [u8; 64] = {
    let mut order = [0; 64];
    let mut to = 0;
    while to < 64 {
        let (half, row, column) = (to / 32, to % 32 / 2, to % 2);
        order[to] = (4 * row + 2 * half + column) as u8;
        to += 1;
    }
    order
};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512bf16,f16c")]
fn blocks<const L: u8>(panel: &[u8], out: &mut [u8]) {
    let order = load(&ORDER);
    let offset = match L {
        Q4 => _mm512_set1_epi8(8),
        Q6K => _mm512_set1_epi8(32),
        _ => _mm512_setzero_si512(),
    };
    for (b, out) in out.chunks_exact_mut(BLOCK_BYTES).enumerate() {
        let (q, scale, minimum) = quantised::numbers::<L>(panel, b);
        let (scale, minimum) = ([twice(scale[0]), twice(scale[1])], twice(minimum));
        for (j, (q, out)) in q.into_iter().zip(out.as_chunks_mut::<128>().0).enumerate() {
            let q = if L == Q4 || L == Q6K { _mm512_sub_epi8(q, offset) } else { q };
            let q = _mm512_permutexvar_epi8(order, q);
            let bytes = [
                _mm512_castsi512_si128(q),
                _mm512_extracti32x4_epi32::<1>(q),
                _mm512_extracti32x4_epi32::<2>(q),
                _mm512_extracti32x4_epi32::<3>(q),
            ];
            let scale = if L == Q6K { scale[j / 4] } else { scale[0] };
            let mut values = [_mm512_setzero_ps(); 4];
            for (i, (value, bytes)) in values.iter_mut().zip(bytes).enumerate() {
                let number = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
                *value = if L == Q4K || L == Q5K {
                    _mm512_fmsub_ps(number, scale[i % 2], minimum[i % 2])
                } else {
                    _mm512_mul_ps(number, scale[i % 2])
                };
            }
            let (first, second) = out.split_at_mut(64);
            store(first, _mm512_cvtne2ps_pbh(values[1], values[0]));
            store(second, _mm512_cvtne2ps_pbh(values[3], values[2]));
        }
    }
}

/// Each of sixteen numbers twice, side by side.
#[target_feature(enable = "avx512f")]
#[inline]
fn twice(x: __m512) -> [__m512; 2] {
    let low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    [_mm512_permutexvar_ps(low, x), _mm512_permutexvar_ps(high, x)]
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn store(out: &mut [u8], value: __m512bh) {
    let out: &mut [u8; 64] = out.first_chunk_mut().expect("a register's bytes");
    // SAFETY: both are 64 bytes, and any bits are valid for either.
    let value = unsafe { std::mem::transmute::<__m512bh, __m512i>(value) };
    // SAFETY: 64 bytes are there, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), value) };
}
