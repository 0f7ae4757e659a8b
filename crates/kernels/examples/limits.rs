//! What this machine can do at most: what `bench/compare` holds every engine against.
//!
//!     cargo run --release -p kernels --example limits -- [THREADS] [SECONDS]
//!
//! Prints one line of JSON: gigabytes a second that the threads read from memory together (huge pages, the best of one
//! and of four streams a thread), and operations a second (a product and a sum are two) of each kind of dot product,
//! out of registers. A kind that the processor lacks is missing.

#![expect(unsafe_code, reason = "instructions are measured, and memory on huge pages is mapped by hand")]
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement prints and reads the clock")]

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Bytes that each thread reads: far more than any cache holds.
const REGION_BYTES: usize = 512 << 20;
/// Products between two looks at the clock.
const ROUNDS: usize = 20_000;
/// Independent sums, enough to hide the latency of any of the instructions.
const CHAINS: usize = 12;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads: usize = arguments.next().map_or(Ok(2), |text| text.parse()).expect("THREADS is a number");
    let seconds: f64 = arguments.next().map_or(Ok(0.7), |text| text.parse()).expect("SECONDS is a number");
    let span = Duration::from_secs_f64(seconds);
    let mut fields = vec![format!("\"threads\":{threads}")];
    let read = [1, 4].map(|streams| measure(threads, span, &|| reader(streams)));
    fields.push(format!("\"read_gb_s\":{:.1}", read[0].max(read[1]) / 1e9));
    for (name, dots) in kinds() {
        let rate = measure(threads, span, &|| Box::new(move || dots() as f64));
        fields.push(format!("\"{name}_gop_s\":{:.1}", rate / 1e9));
    }
    println!("{{{}}}", fields.join(","));
}

/// One unit of work; says how much it was.
type Work = Box<dyn FnMut() -> f64>;

/// Work a second of all threads together, each with its own `make()`, for about `span`.
fn measure(threads: usize, span: Duration, make: &(dyn Fn() -> Work + Sync)) -> f64 {
    let barrier = Barrier::new(threads);
    let one = || {
        let mut work = make();
        work();
        barrier.wait();
        let (start, mut done) = (Instant::now(), 0.0);
        while start.elapsed() < span {
            done += work();
        }
        done / start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        others.into_iter().map(|thread| thread.join().expect("a measurement does not fail")).sum()
    })
}

/// Reads a region of its own, in so many streams side by side.
fn reader(streams: usize) -> Work {
    let region = map();
    let mut sum = 0_u64;
    // A quarter of the region at a time, so that the clock is looked at often enough.
    let mut quarter = 0;
    Box::new(move || {
        let words = &region[quarter * region.len() / 4..(quarter + 1) * region.len() / 4];
        quarter = (quarter + 1) % 4;
        sum = sum.wrapping_add(read(words, streams));
        std::hint::black_box(sum);
        size_of_val(words) as f64
    })
}

fn read(words: &[u64], streams: usize) -> u64 {
    let stream = words.len() / streams;
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512F.
        return unsafe { x86::read_512(words, streams) };
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { x86::read_256(words, streams) };
    }
    (0..stream).fold(0, |sum: u64, i| (0..streams).fold(sum, |sum, s| sum.wrapping_add(words[s * stream + i])))
}

/// A region on huge pages, touched once.
fn map() -> &'static [u64] {
    const HUGE_PAGE: usize = 2 << 20;
    let words = (REGION_BYTES + HUGE_PAGE) / 8;
    let whole = Vec::leak(vec![0_u64; words]);
    let before = whole.as_ptr().addr().next_multiple_of(HUGE_PAGE) - whole.as_ptr().addr();
    let region = &mut whole[before / 8..][..REGION_BYTES / 8];
    #[cfg(target_os = "linux")]
    // SAFETY: the range is ours; the advice changes no content.
    unsafe {
        libc::madvise(region.as_mut_ptr().cast(), REGION_BYTES, libc::MADV_HUGEPAGE);
    }
    region.fill(1);
    region
}

/// Dot products of a kind out of registers; returns the operations done.
type Dots = fn() -> usize;

fn kinds() -> Vec<(&'static str, Dots)> {
    let mut kinds: Vec<(&'static str, Dots)> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            kinds.push(("f32_avx512", || unsafe { x86::f32_512() }));
        }
        if is_x86_feature_detected!("avx512vnni") {
            // SAFETY: the processor has VNNI.
            kinds.push(("vnni", || unsafe { x86::vnni_512() }));
        }
        if is_x86_feature_detected!("avx512bf16") {
            // SAFETY: the processor has BF16.
            kinds.push(("bf16", || unsafe { x86::bf16_512() }));
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            kinds.push(("f32_avx2", || unsafe { x86::f32_256() }));
            // SAFETY: the processor has AVX2.
            kinds.push(("int8_avx2", || unsafe { x86::int8_256() }));
        }
    }
    kinds
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![expect(clippy::wildcard_imports, reason = "the instructions carry their own prefix")]

    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{CHAINS, ROUNDS};

    #[target_feature(enable = "avx512f")]
    pub(super) fn read_512(words: &[u64], streams: usize) -> u64 {
        let stream = words.len() / streams;
        let mut sums = [_mm512_setzero_si512(); 4];
        for i in (0..stream / 8 * 8).step_by(8 * 4 / streams) {
            for (s, sum) in sums.iter_mut().enumerate() {
                let at = if streams == 1 { i + 8 * s } else { s * stream + i };
                let line: &[u64; 8] = words[at..].first_chunk().expect("streams are whole lines");
                // SAFETY: eight words are there, and the load needs no alignment.
                let line = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
                *sum = _mm512_add_epi64(*sum, line);
            }
        }
        sums.iter().map(|sum| _mm512_reduce_add_epi64(*sum) as u64).fold(0, u64::wrapping_add)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn read_256(words: &[u64], streams: usize) -> u64 {
        let stream = words.len() / streams;
        let mut sums = [_mm256_setzero_si256(); 8];
        for i in (0..stream / 8 * 8).step_by(8 * 4 / streams) {
            for (s, sums) in sums.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let at = if streams == 1 { i + 8 * s } else { s * stream + i };
                let line: &[u64; 8] = words[at..].first_chunk().expect("streams are whole lines");
                for (sum, half) in sums.iter_mut().zip(line.as_chunks::<4>().0) {
                    // SAFETY: four words are there, and the load needs no alignment.
                    let half = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
                    *sum = _mm256_add_epi64(*sum, half);
                }
            }
        }
        let sum = sums.into_iter().fold(_mm256_setzero_si256(), |sum, of| _mm256_add_epi64(sum, of));
        // SAFETY: both are 32 bytes, and any bits are valid for either.
        let parts = unsafe { std::mem::transmute::<__m256i, [u64; 4]>(sum) };
        parts.into_iter().fold(0, u64::wrapping_add)
    }

    /// A function that repeats one instruction on independent sums.
    macro_rules! dots {
        ($name:ident, $features:literal, $zero:expr, $operand:expr, $ops:expr, |$sum:ident, $w:ident| $step:expr) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name() -> usize {
                let $w = black_box($operand);
                let mut sums = [$zero; CHAINS];
                for _ in 0..ROUNDS {
                    for sum in &mut sums {
                        let $sum = *sum;
                        *sum = $step;
                    }
                }
                black_box(sums);
                ROUNDS * CHAINS * $ops
            }
        };
    }

    dots!(f32_512, "avx512f", _mm512_setzero_ps(), _mm512_set1_ps(1.0), 32, |sum, w| _mm512_fmadd_ps(w, w, sum));
    dots!(vnni_512, "avx512f,avx512vnni", _mm512_setzero_si512(), _mm512_set1_epi8(1), 128, |sum, w| {
        _mm512_dpbusd_epi32(sum, w, w)
    });
    dots!(bf16_512, "avx512f,avx512bf16", _mm512_setzero_ps(), _mm512_set1_epi16(0x3f80), 64, |sum, w| {
        // SAFETY: both are 64 bytes, and any bits are valid for either.
        let w = unsafe { std::mem::transmute::<__m512i, __m512bh>(w) };
        _mm512_dpbf16_ps(sum, w, w)
    });
    dots!(f32_256, "avx2,fma", _mm256_setzero_ps(), _mm256_set1_ps(1.0), 16, |sum, w| _mm256_fmadd_ps(w, w, sum));
    dots!(int8_256, "avx2", _mm256_setzero_si256(), _mm256_set1_epi8(1), 64, |sum, w| {
        // Without VNNI a product of bytes is two instructions and a sum.
        _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, sum), w))
    });
}
