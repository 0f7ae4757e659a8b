//! Quantised Hugging Face checkpoints: FP8 in blocks, GPTQ and AWQ in four bits.
//!
//! Such a checkpoint stores a matrix `X` as several tensors, which become one tensor in a format that `kernels` packs:
//!
//! | method | tensors | number `[r][k]` of the matrix |
//! |---|---|---|
//! | FP8 | `X.weight` E4M3 `[rows, cols]`, `X.weight_scale_inv` `[⌈rows/b⌉, ⌈cols/b⌉]` | `e4m3 · scale` |
//! | GPTQ | `X.qweight` i32 `[cols/8, rows]`, `X.qzeros` i32 `[groups, rows/8]`, and | `scale · (q − (z + 1))` |
//! | | `X.scales` `[groups, rows]`, `X.g_idx` `[cols]` | |
//! | AWQ | `X.qweight` i32 `[cols, rows/8]`, `X.qzeros` i32 `[groups, rows/8]`, and | `scale · (q − z)` |
//! | | `X.scales` `[groups, rows]` | |
//!
//! Four-bit numbers whose groups are whole blocks of 32 columns fit blocks of Q4_0 (all zero points 8) or Q8_0 (any)
//! without rounding, so the fast kernels compute with exactly these weights. Groups that are scattered over the columns
//! (`desc_act`) and FP8 numbers are computed to F32. Activations are not quantised in FP8, as the
//! format's makers define its truth.

use half::f16;
use kernels::Format;

use crate::config::Quantisation;
use crate::weights::{Packed, PackedKind, Tensor, Weights};
use crate::{Error, FileBytes, Result};

/// Columns that share a scale in Q4_0 and Q8_0.
const BLOCK: usize = 32;
/// Four-bit numbers in a word.
const PER_WORD: usize = 8;
/// Where AWQ keeps output `8 c + i` of a word: nibble `AWQ_NIBBLE[i]`.
const AWQ_NIBBLE: [u32; PER_WORD] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The matrix `stem` `[rows, cols]`, if the checkpoint stores it quantised.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::WrongShape`], or [`Error::NotFinite`] for a scale or number that is not finite.
pub(crate) fn find(
    weights: &Weights,
    quantisation: Option<&Quantisation>,
    stem: &str,
    rows: usize,
    cols: usize,
) -> Result<Option<Tensor>> {
    let matrix = Quantised { weights, stem, rows, cols };
    match quantisation {
        Some(&Quantisation::Fp8 { block }) => match weights.packed(&format!("{stem}.weight")) {
            Some(numbers) => matrix.fp8(&numbers, block).map(Some),
            None => Ok(None),
        },
        Some(&Quantisation::Gptq { group, zeros_less_one }) => match weights.packed(&format!("{stem}.qweight")) {
            Some(numbers) => matrix.gptq(&numbers, group, zeros_less_one).map(Some),
            None => Ok(None),
        },
        Some(&Quantisation::Awq { group }) => match weights.packed(&format!("{stem}.qweight")) {
            Some(numbers) => matrix.awq(&numbers, group).map(Some),
            None => Ok(None),
        },
        None => Ok(None),
    }
}

/// The value of an FP8 number of the kind E4M3FN: no infinities, NaN is `S.1111.111`.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2.0_f32.powi(-9),
        _ => (8.0 + mantissa) * 2.0_f32.powi(exponent - 10),
    };
    if byte >> 7 == 1 { -size } else { size }
}

/// Four-bit numbers with everything that makes them values.
struct FourBits<'a> {
    /// Number `(row, column)`, 0 to 15.
    q: &'a dyn Fn(usize, usize) -> u8,
    /// Zero point of `(group, row)`, 0 to 15.
    zero: &'a dyn Fn(usize, usize) -> u8,
    scales: Vec<f32>,   // [groups, rows]
    group_of: Vec<u32>, // [cols]
}

struct Quantised<'a> {
    weights: &'a Weights,
    stem: &'a str,
    rows: usize,
    cols: usize,
}

impl Quantised<'_> {
    fn fp8(&self, numbers: &Packed, block: [usize; 2]) -> Result<Tensor> {
        let bytes = numbers.expect(PackedKind::F8E4m3, &[self.rows, self.cols])?;
        let across = self.cols.div_ceil(block[1]);
        let scales = self.scales("weight_scale_inv", &[self.rows.div_ceil(block[0]), across])?;
        let table: [f32; 256] = std::array::from_fn(|byte| e4m3(byte as u8));
        let mut values = Vec::with_capacity(4 * bytes.len());
        for (row, bytes) in bytes.chunks_exact(self.cols).enumerate() {
            let scales = &scales[row / block[0] * across..][..across];
            for (bytes, scale) in bytes.chunks(block[1]).zip(scales) {
                for &byte in bytes {
                    let value = table[usize::from(byte)] * scale;
                    if !value.is_finite() {
                        return Err(Error::NotFinite { name: self.name("weight"), row });
                    }
                    values.extend(value.to_le_bytes());
                }
            }
        }
        self.tensor(Format::F32, values)
    }

    fn gptq(&self, numbers: &Packed, group: usize, zeros_less_one: bool) -> Result<Tensor> {
        let (rows, cols) = (self.rows, self.cols);
        self.expect_whole_words("columns", cols)?;
        self.expect_whole_words("rows", rows)?;
        let words = words(numbers.expect(PackedKind::I32, &[cols / PER_WORD, rows])?);
        let group_of = self.groups_of_columns(group)?;
        let groups = group_of.iter().max().map_or(1, |&last| last as usize + 1).max(cols.div_ceil(group));
        let zeros = self.packed("qzeros")?;
        let zeros = self::words(zeros.expect(PackedKind::I32, &[groups, rows / PER_WORD])?);
        let added = u8::from(zeros_less_one);
        self.four_bits(&FourBits {
            q: &|row, column| nibble(words[column / PER_WORD * rows + row], column % PER_WORD),
            zero: &|group, row| {
                let stored = nibble(zeros[group * (rows / PER_WORD) + row / PER_WORD], row % PER_WORD);
                (stored + added) & 15
            },
            scales: self.scales("scales", &[groups, rows])?,
            group_of,
        })
    }

    fn awq(&self, numbers: &Packed, group: usize) -> Result<Tensor> {
        let (rows, cols) = (self.rows, self.cols);
        self.expect_whole_words("rows", rows)?;
        let across = rows / PER_WORD;
        let groups = cols.div_ceil(group);
        let words = words(numbers.expect(PackedKind::I32, &[cols, across])?);
        let zeros = self.packed("qzeros")?;
        let zeros = self::words(zeros.expect(PackedKind::I32, &[groups, across])?);
        let of_row = |word: u32, row: usize| nibble(word, AWQ_NIBBLE[row % PER_WORD] as usize);
        self.four_bits(&FourBits {
            q: &|row, column| of_row(words[column * across + row / PER_WORD], row),
            zero: &|group, row| of_row(zeros[group * across + row / PER_WORD], row),
            scales: self.scales("scales", &[groups, rows])?,
            group_of: (0..cols).map(|column| (column / group) as u32).collect(),
        })
    }

    /// The group of each column: `g_idx`, or in order where a file leaves it out.
    fn groups_of_columns(&self, group: usize) -> Result<Vec<u32>> {
        let Some(indexes) = self.weights.packed(&self.name("g_idx")) else {
            return Ok((0..self.cols).map(|column| (column / group) as u32).collect());
        };
        let groups = words(indexes.expect(PackedKind::I32, &[self.cols])?);
        match groups.iter().find(|&&index| index as usize >= self.cols.div_ceil(group)) {
            None => Ok(groups),
            Some(&index) => {
                let why = format!("it names group {index} of {}", self.cols.div_ceil(group));
                Err(Error::corrupt(&self.name("g_idx"), why))
            }
        }
    }

    fn four_bits(&self, numbers: &FourBits<'_>) -> Result<Tensor> {
        let is_aligned = self.cols.is_multiple_of(BLOCK)
            && numbers.group_of.chunks_exact(BLOCK).all(|block| block.iter().all(|group| *group == block[0]));
        if !is_aligned {
            return self.tensor(Format::F32, self.floats(numbers));
        }
        let groups = numbers.scales.len() / self.rows;
        let is_centred = (0..groups).all(|group| (0..self.rows).all(|row| (numbers.zero)(group, row) == 8));
        let mut bytes = Vec::new();
        for row in 0..self.rows {
            for first in (0..self.cols).step_by(BLOCK) {
                let group = numbers.group_of[first] as usize;
                // The scales of such files are F16, or came from it: this is exact.
                let scale = numbers.scales[group * self.rows + row];
                if f16::from_f32(scale).to_f32().to_bits() != scale.to_bits() {
                    return self.tensor(Format::F32, self.floats(numbers));
                }
                bytes.extend(f16::from_f32(scale).to_le_bytes());
                let q = |i: usize| (numbers.q)(row, first + i);
                if is_centred {
                    bytes.extend((0..BLOCK / 2).map(|i| q(i) | q(i + BLOCK / 2) << 4));
                } else {
                    let zero = (numbers.zero)(group, row);
                    bytes.extend((0..BLOCK).map(|i| q(i).wrapping_sub(zero)));
                }
            }
        }
        self.tensor(if is_centred { Format::Q4_0 } else { Format::Q8_0 }, bytes)
    }

    fn floats(&self, numbers: &FourBits<'_>) -> Vec<u8> {
        let mut values = Vec::with_capacity(4 * self.rows * self.cols);
        for row in 0..self.rows {
            for (column, &group) in numbers.group_of.iter().enumerate() {
                let group = group as usize;
                let q = i16::from((numbers.q)(row, column)) - i16::from((numbers.zero)(group, row));
                values.extend((numbers.scales[group * self.rows + row] * f32::from(q)).to_le_bytes());
            }
        }
        values
    }

    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.stem)
    }

    fn packed(&self, part: &str) -> Result<Packed> {
        let name = self.name(part);
        self.weights.packed(&name).ok_or(Error::MissingTensor { name })
    }

    fn scales(&self, part: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let scales = self.weights.get(&self.name(part))?.expect_shape(shape)?.to_f32()?;
        match scales.iter().position(|scale| !scale.is_finite()) {
            None => Ok(scales),
            Some(at) => Err(Error::NotFinite { name: self.name(part), row: at / shape[1].max(1) }),
        }
    }

    fn expect_whole_words(&self, what: &str, count: usize) -> Result<()> {
        if count.is_multiple_of(PER_WORD) {
            return Ok(());
        }
        Err(Error::corrupt(&self.name("qweight"), format!("{count} {what} are no multiple of {PER_WORD}")))
    }

    fn tensor(&self, format: Format, bytes: Vec<u8>) -> Result<Tensor> {
        let range = 0..bytes.len();
        let shape = vec![self.rows as u64, self.cols as u64];
        Tensor::new(&self.name("weight"), format, shape, FileBytes::Owned(bytes.into()), range)
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

fn nibble(word: u32, index: usize) -> u8 {
    (word >> (4 * index) & 15) as u8
}

#[cfg(test)]
mod tests {
    use super::e4m3;

    #[test]
    fn e4m3_is_the_kind_without_infinities() {
        let expected = [(0x00, 0.0), (0x01, 1.0 / 512.0), (0x08, 1.0 / 64.0), (0x38, 1.0), (0x7E, 448.0), (0xB8, -1.0)];
        for (byte, value) in expected {
            assert_eq!(e4m3(byte).to_bits(), f32::to_bits(value), "{byte:#x}");
        }
        assert!(e4m3(0x7F).is_nan() && e4m3(0xFF).is_nan());
    }
}
