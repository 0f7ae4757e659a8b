use kernels::Isa;
use kernels::codes::{CODE_BLOCK_ROWS, CodeEstimate, CodeKernels, CodePlanes, CodeScan, CodeWord};
use proptest::prelude::*;

use crate::random::Random;

fn all() -> impl Iterator<Item = &'static CodeKernels> {
    Isa::available().filter_map(CodeKernels::of)
}

struct Case {
    codes: Vec<CodeWord>,
    factors: Vec<[[f32; CODE_BLOCK_ROWS]; 2]>,
    chosen: Vec<u8>,
    query: Vec<f32>,
    centre: Vec<f32>,
}

fn case(random: &mut Random, blocks: usize, words: usize) -> Case {
    Case {
        codes: (0..blocks * words).map(|_| std::array::from_fn(|_| random.next())).collect(),
        factors: (0..blocks)
            .map(|_| [std::array::from_fn(|_| random.float() + 1.0), std::array::from_fn(|_| random.float() + 1.0)])
            .collect(),
        chosen: (0..blocks).map(|_| random.next() as u8).collect(),
        query: random.floats(words * 64),
        centre: random.floats(words * 64),
    }
}

fn level(planes: &[CodePlanes], place: usize) -> i32 {
    let bit = |plane: usize| (planes[place / 64][plane] >> (place % 64) & 1) as i32;
    bit(0) + 2 * bit(1) + 4 * bit(2) - 8 * bit(3)
}

/// The estimates of all chosen rows, in the words of the documentation.
fn expected(case: &Case, planes: &[CodePlanes], scan: &CodeScan<'_>) -> Vec<CodeEstimate> {
    let words = planes.len();
    let rows = (0..case.chosen.len() * CODE_BLOCK_ROWS).filter(|row| case.chosen[row / 8] >> (row % 8) & 1 == 1);
    rows.map(|row| {
        let (block, lane) = (row / CODE_BLOCK_ROWS, row % CODE_BLOCK_ROWS);
        let is_one = |place: usize| case.codes[block * words + place / 64][lane] >> (place % 64) & 1 == 1;
        let sum: i32 = (0..words * 64).filter(|&place| is_one(place)).map(|place| level(planes, place)).sum();
        let [squared, slope] = case.factors[block].map(|factors| factors[lane]);
        let estimate = squared + scan.base - slope * (scan.per_sum * sum as f32 + scan.offset);
        CodeEstimate { row: scan.first_row + row as u32, estimate }
    })
    .collect()
}

proptest! {
    #[test]
    fn every_isa_finds_what_the_formula_says(blocks in 0_usize..40, words in 1_usize..13, seed in any::<u64>()) {
        let mut random = Random(seed);
        let case = case(&mut random, blocks, words);
        let mut oracle: Option<(Vec<CodePlanes>, Vec<f32>)> = None;
        for kernels in all() {
            let mut planes = vec![[7; 4]; words];
            let mut residual = vec![0.0; words * 64];
            let levels = kernels.levels(&case.query, &case.centre, &mut residual, &mut planes);
            for (place, number) in residual.iter().enumerate() {
                let near = level(&planes, place) as f32 * levels.step;
                prop_assert!((number - near).abs() <= levels.step * 0.501, "{number} {near}");
            }
            let total: f32 = residual.iter().sum();
            let squared: f32 = residual.iter().map(|x| x * x).sum();
            prop_assert!((levels.total - total).abs() < 1e-3 && (levels.squared - squared).abs() < 1e-2);
            let (first, _) = oracle.get_or_insert_with(|| (planes.clone(), residual.clone()));
            prop_assert_eq!(&*first, &planes);
            let scan = CodeScan {
                codes: &case.codes,
                factors: &case.factors,
                chosen: &case.chosen,
                first_row: 80,
                planes: &planes,
                per_sum: levels.step,
                offset: levels.total * 0.5,
                base: levels.squared,
            };
            let expected = expected(&case, &planes, &scan);
            let mut found = Vec::new();
            kernels.scan(&scan, f32::INFINITY, &mut found);
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert_eq!(found.row, expected.row);
                let allowed = 1e-4 * (1.0 + expected.estimate.abs());
                prop_assert!((found.estimate - expected.estimate).abs() < allowed, "{found:?} {expected:?}");
            }
            let below = found.get(found.len() / 2).map_or(0.0, |middle| middle.estimate);
            let mut nearer = Vec::new();
            kernels.scan(&scan, below, &mut nearer);
            found.retain(|found| found.estimate < below);
            prop_assert_eq!(nearer, found);
        }
    }

    #[test]
    fn products_are_the_sums_that_they_say(n in 0_usize..400, seed in any::<u64>()) {
        let mut random = Random(seed);
        let (left, right) = (random.floats(n), random.floats(n));
        let small: Vec<u8> = (0..n).map(|_| random.next() as u8).collect();
        let wide = |pairs: &dyn Fn(usize) -> f64| (0..n).map(pairs).sum::<f64>();
        let dot = wide(&|i| f64::from(left[i]) * f64::from(right[i]));
        let mixed = wide(&|i| f64::from(left[i]) * f64::from(small[i].cast_signed()));
        let squared = wide(&|i| (f64::from(left[i]) - f64::from(right[i])).powi(2));
        for kernels in all() {
            prop_assert!((f64::from(kernels.dot_f32(&left, &right)) - dot).abs() < 1e-4);
            prop_assert!((f64::from(kernels.dot_f32_i8(&left, &small)) - mixed).abs() < 1e-2);
            prop_assert!((f64::from(kernels.squared_f32(&left, &right)) - squared).abs() < 1e-3);
        }
    }
}

#[test]
fn a_query_at_its_centre_has_no_levels() {
    for kernels in all() {
        let (mut residual, mut planes) = ([1.0; 64], [[1; 4]; 1]);
        let levels = kernels.levels(&[0.5; 64], &[0.5; 64], &mut residual, &mut planes);
        assert_eq!((levels.step, levels.total, levels.squared, planes), (0.0, 0.0, 0.0, [[0; 4]]));
    }
}
