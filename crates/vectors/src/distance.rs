//! The inner loops, behind one table of functions, so that bodies for AVX2 and AVX-512 can come from `kernels`.
//!
//! Plain Rust, written so that the compiler can use vector registers: fixed blocks, no branches, no bounds checks
//! inside.

/// How many rows a block of codes interleaves: lane `i` of every word belongs to row `i` of the block.
pub(crate) const BLOCK_ROWS: usize = 8;
/// How many bits a rotated query keeps of each number.
pub(crate) const QUERY_BITS: usize = 4;

/// One word of the code of each row of a block.
type CodeWords = [u64; BLOCK_ROWS];
/// The bits of 64 of the query's numbers.
type QueryPlanes = [u64; QUERY_BITS];

/// Per row of a block: the sum of the query's numbers where the code has a one, and how many ones the code has.
pub(crate) type BlockSums = ([u32; BLOCK_ROWS], [u32; BLOCK_ROWS]);

/// One function per kernel.
pub(crate) struct Kernels {
    /// `codes` `[words, BLOCK_ROWS]`, `planes` `[words]` with bit `j` of 64 query numbers in `planes[_][j]`.
    pub(crate) block_sums: fn(codes: &[CodeWords], planes: &[QueryPlanes]) -> BlockSums,
    /// Sum of the products. Both `[n]`.
    pub(crate) dot_f32: fn(left: &[f32], right: &[f32]) -> f32,
    /// Sum of the products. Both `[n]`.
    pub(crate) dot_f32_i8: fn(left: &[f32], right: &[i8]) -> f32,
    /// Sum of the squared differences. Both `[n]`.
    pub(crate) squared_f32: fn(left: &[f32], right: &[f32]) -> f32,
}

/// The bodies in use.
pub(crate) static KERNELS: Kernels = Kernels { block_sums, dot_f32, dot_f32_i8, squared_f32 };

fn block_sums(codes: &[[u64; BLOCK_ROWS]], planes: &[[u64; QUERY_BITS]]) -> BlockSums {
    assert_eq!(codes.len(), planes.len(), "a code and a query of different lengths");
    let mut sums = [0_u32; BLOCK_ROWS];
    let mut ones = [0_u32; BLOCK_ROWS];
    for (rows, plane) in codes.iter().zip(planes) {
        for lane in 0..BLOCK_ROWS {
            let row = rows[lane];
            ones[lane] += row.count_ones();
            for (bit, plane) in plane.iter().enumerate() {
                sums[lane] += (row & plane).count_ones() << bit;
            }
        }
    }
    (sums, ones)
}

/// Independent partial sums: without them the compiler must add in order, one number at a time.
const LANES: usize = 16;

fn lanes<R: Copy>(left: &[f32], right: &[R], term: impl Fn(f32, R) -> f32) -> f32 {
    assert_eq!(left.len(), right.len(), "vectors of different lengths");
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

fn dot_f32(left: &[f32], right: &[f32]) -> f32 {
    lanes(left, right, |l, r| l * r)
}

fn dot_f32_i8(left: &[f32], right: &[i8]) -> f32 {
    lanes(left, right, |l, r| l * f32::from(r))
}

fn squared_f32(left: &[f32], right: &[f32]) -> f32 {
    lanes(left, right, |l, r| (l - r) * (l - r))
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::{BLOCK_ROWS, KERNELS, QUERY_BITS};

    #[test]
    fn sums_agree_with_the_obvious_loops() {
        let mut rng = Rng::seeded(3);
        for n in [0, 1, 15, 16, 17, 100, 384] {
            let left: Vec<f32> = (0..n).map(|_| rng.unit_f64() as f32 - 0.5).collect();
            let right: Vec<f32> = (0..n).map(|_| rng.unit_f64() as f32 - 0.5).collect();
            let small: Vec<i8> = (0..n).map(|_| rng.next_u64() as i8).collect();
            let dot: f32 = left.iter().zip(&right).map(|(l, r)| l * r).sum();
            let squared: f32 = left.iter().zip(&right).map(|(l, r)| (l - r) * (l - r)).sum();
            let mixed: f32 = left.iter().zip(&small).map(|(l, &r)| l * f32::from(r)).sum();
            assert!(((KERNELS.dot_f32)(&left, &right) - dot).abs() < 1e-4);
            assert!(((KERNELS.squared_f32)(&left, &right) - squared).abs() < 1e-4);
            assert!(((KERNELS.dot_f32_i8)(&left, &small) - mixed).abs() < 1e-2);
        }
    }

    #[test]
    fn a_block_s_sums_are_those_of_its_bits() {
        let mut rng = Rng::seeded(4);
        let words = 3;
        let codes: Vec<[u64; BLOCK_ROWS]> = (0..words).map(|_| std::array::from_fn(|_| rng.next_u64())).collect();
        let numbers: Vec<u32> = (0..words * 64).map(|_| rng.below(16) as u32).collect();
        let planes: Vec<[u64; QUERY_BITS]> = (0..words)
            .map(|word| {
                std::array::from_fn(|bit| {
                    (0..64).map(|place| u64::from((numbers[word * 64 + place] >> bit) & 1) << place).sum()
                })
            })
            .collect();
        let (sums, ones) = (KERNELS.block_sums)(&codes, &planes);
        for lane in 0..BLOCK_ROWS {
            let bits = (0..words * 64).filter(|&place| (codes[place / 64][lane] >> (place % 64)) & 1 == 1);
            assert_eq!(ones[lane] as usize, bits.clone().count());
            assert_eq!(sums[lane], bits.map(|place| numbers[place]).sum::<u32>());
        }
    }
}
