//! One query over the codes of 100,000 rows of 384 dimensions, on each instruction set.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use kernels::Isa;
use kernels::codes::{CodeKernels, CodeScan};

const ROWS: usize = 100_000;
const WORDS: usize = 6;

fn main() {
    divan::main();
}

fn isas() -> Vec<Isa> {
    Isa::available().filter(|isa| CodeKernels::of(*isa).is_some()).collect()
}

#[divan::bench(args = isas())]
fn scan(bencher: Bencher<'_, '_>, isa: Isa) {
    let kernels = CodeKernels::of(isa).expect("the instruction set is there");
    let blocks = ROWS / 8;
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 29
    };
    let codes: Vec<[u64; 8]> = (0..blocks * WORDS).map(|_| std::array::from_fn(|_| next())).collect();
    let planes: Vec<[u64; 4]> = (0..WORDS).map(|_| std::array::from_fn(|_| next())).collect();
    let (factors, chosen) = (vec![[[1.0; 8], [0.1; 8]]; blocks], vec![u8::MAX; blocks]);
    let scan = CodeScan {
        codes: &codes,
        factors: &factors,
        chosen: &chosen,
        first_row: 0,
        planes: &planes,
        per_sum: 0.01,
        offset: 0.0,
        base: 1.0,
    };
    let mut found = Vec::new();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        found.clear();
        kernels.scan(black_box(&scan), 0.0, &mut found);
    });
}

#[divan::bench(args = isas())]
fn dot_f32_i8(bencher: Bencher<'_, '_>, isa: Isa) {
    let kernels = CodeKernels::of(isa).expect("the instruction set is there");
    let (left, right) = ([0.5; 384], [3; 384]);
    bencher.bench_local(|| kernels.dot_f32_i8(black_box(&left), black_box(&right)));
}
