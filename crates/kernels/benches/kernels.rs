//! Products of the shapes of Qwen3-0.6B, on each instruction set: a decoded token streams the matrix once, a prompt of
//! 512 tokens is bound by arithmetic.

use std::num::NonZeroUsize;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kernels::{Cpu, CpuOptions, Format, FullAttention, Isa, Matrix, Precision, Rows, Scratch, full_attention, matmul};

const ROWS: usize = 16_384;
const COLUMNS: usize = 1024;
const FORMATS: [Format; 5] = [Format::Bf16, Format::Q8_0, Format::Q4_0, Format::Q4K, Format::Q6K];

fn main() {
    divan::main();
}

fn cpu(isa: Isa) -> Cpu {
    let threads = NonZeroUsize::new(2).expect("two is not zero");
    Cpu::new(CpuOptions { isa: Some(isa), threads, is_pinned: false }).expect("the instruction set is there")
}

fn matrix(cpu: &Cpu, format: Format, rows: usize) -> Matrix {
    let size = rows * format.row_bytes(COLUMNS).expect("columns are whole blocks");
    // Small positive scales in every format: no number in these bytes is large, infinite or NaN.
    let mut bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 29) as u8).collect();
    if format == Format::Bf16 {
        // As they are, these would be denormals, which no model has and processors multiply slowly.
        bytes.chunks_exact_mut(2).for_each(|number| number[1] = 0x3c | number[1] & 1);
    }
    Matrix::pack(cpu, format, rows, COLUMNS, &bytes, Precision::Fast).expect("the sizes fit")
}

fn product(bencher: Bencher<'_, '_>, isa: Isa, format: Format, n: usize, rows: usize) {
    let cpu = cpu(isa);
    let matrix = matrix(&cpu, format, rows);
    let x = vec![0.5; n * COLUMNS];
    let mut y = vec![0.0; n * rows];
    let mut scratch = Scratch::new();
    bencher
        .counter(BytesCount::new(matrix.size_bytes()))
        .counter(ItemsCount::new(2 * n * rows * COLUMNS))
        .bench_local(|| matmul(&cpu, activations(black_box(&x), n), &matrix, &mut y, &mut scratch));
}

/// Many rows are a prompt, a few are generated together.
fn activations(x: &[f32], n: usize) -> Rows<'_> {
    if n > 16 { Rows::prompt(x) } else { Rows::generated(x) }
}

#[divan::bench(args = FORMATS, sample_count = 20)]
fn one_row_best(bencher: Bencher<'_, '_>, format: Format) {
    product(bencher, Isa::detect(), format, 1, 8 * ROWS);
}

/// Rows that are generated together.
const TOGETHER: [usize; 4] = [4, 8, 12, 16];

#[divan::bench(args = FORMATS, consts = TOGETHER, sample_count = 10)]
fn together_best<const N: usize>(bencher: Bencher<'_, '_>, format: Format) {
    product(bencher, Isa::detect(), format, N, ROWS);
}

/// The same on the next lesser instruction set.
#[divan::bench(args = FORMATS, consts = TOGETHER, sample_count = 10)]
fn together_avx512<const N: usize>(bencher: Bencher<'_, '_>, format: Format) {
    product(bencher, Isa::Avx512, format, N, ROWS);
}

#[divan::bench(args = FORMATS, sample_count = 5)]
fn many_rows_best(bencher: Bencher<'_, '_>, format: Format) {
    product(bencher, Isa::detect(), format, 512, ROWS / 4);
}

#[divan::bench(args = FORMATS, sample_count = 2)]
fn one_row_scalar(bencher: Bencher<'_, '_>, format: Format) {
    product(bencher, Isa::Scalar, format, 1, ROWS / 16);
}

/// What one layer of a vision tower does of a picture of 1024 x 1024, on each instruction set that has BF16.
#[divan::bench(args = [Isa::Avx512, Isa::Amx], sample_count = 5)]
fn full_attention_of_a_picture(bencher: Bencher<'_, '_>, isa: Isa) {
    if !isa.is_available() {
        return;
    }
    let (cpu, rows) = (cpu(isa), 4096);
    let shape = FullAttention { heads: 16, head_dim: 64, precision: Precision::Fast };
    let numbers = |step: usize| -> Vec<f32> { (0..rows * 1024).map(|i| (i * step % 29) as f32 / 29.0 - 0.5).collect() };
    let [q, k, v] = [numbers(7), numbers(11), numbers(13)];
    let mut out = vec![0.0; q.len()];
    let mut scratch = Scratch::new();
    bencher.counter(ItemsCount::new(4 * rows * rows * 1024)).bench_local(|| {
        let segment = 0..rows;
        let segments = std::slice::from_ref(&segment);
        full_attention(&cpu, &shape, [black_box(&q), &k, &v], segments, &mut out, &mut scratch)
            .expect("there is memory");
    });
}
