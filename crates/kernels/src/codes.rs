//! Searching among vectors: scans over one-bit codes, and products of whole and of rounded rows.
//!
//! A code is one bit a dimension (RaBitQ, see `vectors::rabitq`). Eight rows lie interleaved: word `w` of a block is
//! `[u64; 8]`, 64 dimensions of each of its rows, one AVX-512 register. The query keeps four bits a number, as two's
//! complement planes, so the sum of the query's numbers under a row's ones is four ANDs and bit counts a word.
//!
//! The sketch, rows of 384 dimensions on a core at 2.6 GHz: 6 words of 4 planes are 72 vector operations a block of
//! eight rows on two ports, 36 cycles, so 100,000 rows should cost 0.17 ms. `benches/codes.rs` measures it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod memory;
mod scalar;

use crate::Isa;

pub use memory::CodeMemory;

/// Rows that lie interleaved in a block of codes.
pub const CODE_BLOCK_ROWS: usize = 8;
/// Bits of each number of a query; the highest counts negative.
pub const CODE_QUERY_BITS: usize = 4;
/// The largest level of a query's number. The range is symmetric: -8 is not used.
const LEVEL_MAX: f32 = 7.0;

/// One word of the code of each row of a block.
pub type CodeWord = [u64; CODE_BLOCK_ROWS];
/// One bit plane after the other of 64 numbers of a query.
pub type CodePlanes = [u64; CODE_QUERY_BITS];

/// Blocks of codes, and the query that they are compared with.
///
/// With `sum` the query's levels under a row's ones, a row's estimate is
/// `factors[0] + base - factors[1] * (per_sum * sum + offset)`.
#[derive(Clone, Copy, Debug)]
pub struct CodeScan<'a> {
    /// `[blocks, words]`.
    pub codes: &'a [CodeWord],
    /// `[blocks]`, the two factors of each row.
    pub factors: &'a [[[f32; CODE_BLOCK_ROWS]; 2]],
    /// `[blocks]`, a bit for each row that may be found; the lowest is the first row.
    pub chosen: &'a [u8],
    /// The number of the first row.
    pub first_row: u32,
    /// `[words]`.
    pub planes: &'a [CodePlanes],
    /// See above.
    pub per_sum: f32,
    /// See above.
    pub offset: f32,
    /// See above.
    pub base: f32,
}

/// A row that a scan found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeEstimate {
    /// Its number.
    pub row: u32,
    /// What [`CodeScan`] says.
    pub estimate: f32,
}

/// What a query less a centre is, besides its planes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CodeLevels {
    /// A number is about `step` times its level.
    pub step: f32,
    /// The sum of the numbers.
    pub total: f32,
    /// The sum of their squares.
    pub squared: f32,
}

type LevelsFn = fn(query: &[f32], centre: &[f32], residual: &mut [f32], planes: &mut [CodePlanes]) -> CodeLevels;

/// The bodies in one instruction set.
pub struct CodeKernels {
    isa: Isa,
    scan: fn(scan: &CodeScan<'_>, below: f32, found: &mut Vec<CodeEstimate>),
    levels: LevelsFn,
    dot_f32: fn(left: &[f32], right: &[f32]) -> f32,
    dot_f32_i8: fn(left: &[f32], right: &[u8]) -> f32,
    squared_f32: fn(left: &[f32], right: &[f32]) -> f32,
}

impl CodeKernels {
    /// The best bodies for this processor.
    #[must_use]
    pub fn best() -> &'static Self {
        Isa::available().filter_map(Self::of).last().unwrap_or(&scalar::KERNELS)
    }

    /// The bodies in an instruction set, if the processor has it. Those in AVX-512 need VPOPCNTDQ besides.
    #[must_use]
    pub fn of(isa: Isa) -> Option<&'static Self> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512 => {
                let is_there = isa.is_available() && is_x86_feature_detected!("avx512vpopcntdq");
                is_there.then_some(&avx512::KERNELS)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => isa.is_available().then_some(&avx2::KERNELS),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512 | Isa::Avx2 => None,
            Isa::Scalar => Some(&scalar::KERNELS),
        }
    }

    /// The instruction set.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Appends the chosen rows whose estimates are below `below`, in the order of rows. Does not allocate if `found`
    /// has room for as many rows as there are.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn scan(&self, scan: &CodeScan<'_>, below: f32, found: &mut Vec<CodeEstimate>) {
        let blocks = scan.chosen.len();
        assert_eq!(scan.factors.len(), blocks, "factors are [blocks]");
        assert_eq!(scan.codes.len(), blocks * scan.planes.len(), "codes are [blocks, words]");
        (self.scan)(scan, below, found);
    }

    /// `residual = query - centre`, and its levels as planes: level = residual / step, rounded to the nearest of
    /// -7 to 7. The planes are the same on every instruction set; the sums differ in their last bits.
    ///
    /// # Panics
    /// If the lengths differ or are not a multiple of 64, or there is not a plane for every 64 numbers.
    pub fn levels(&self, query: &[f32], centre: &[f32], residual: &mut [f32], planes: &mut [CodePlanes]) -> CodeLevels {
        assert_eq!(query.len(), 64 * planes.len(), "a plane holds 64 numbers");
        assert_eq!(query.len(), centre.len(), "query and centre have one length");
        assert_eq!(query.len(), residual.len(), "query and residual have one length");
        (self.levels)(query, centre, residual, planes)
    }

    /// Sum of the products. Both `[n]`, any `n`. The order of the sum, so the last bits, differ between ISAs.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn dot_f32(&self, left: &[f32], right: &[f32]) -> f32 {
        assert_eq!(left.len(), right.len(), "vectors of different lengths");
        (self.dot_f32)(left, right)
    }

    /// Sum of the products with signed bytes, given as they lie in a file. Both `[n]`, any `n`.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn dot_f32_i8(&self, left: &[f32], right: &[u8]) -> f32 {
        assert_eq!(left.len(), right.len(), "vectors of different lengths");
        (self.dot_f32_i8)(left, right)
    }

    /// Sum of the squared differences. Both `[n]`, any `n`.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn squared_f32(&self, left: &[f32], right: &[f32]) -> f32 {
        assert_eq!(left.len(), right.len(), "vectors of different lengths");
        (self.squared_f32)(left, right)
    }
}

impl std::fmt::Debug for CodeKernels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "CodeKernels({})", self.isa)
    }
}

/// Step and its inverse for numbers up to `largest`.
fn steps(largest: f32) -> (f32, f32) {
    let step = largest / LEVEL_MAX;
    (step, if step > 0.0 { 1.0 / step } else { 0.0 })
}

/// Appends the rows of one block whose bits are set.
#[inline]
fn push(first_row: u32, mut members: u8, estimates: &[f32; CODE_BLOCK_ROWS], found: &mut Vec<CodeEstimate>) {
    while members != 0 {
        let lane = members.trailing_zeros();
        found.push(CodeEstimate { row: first_row + lane, estimate: estimates[lane as usize] });
        members &= members - 1;
    }
}
