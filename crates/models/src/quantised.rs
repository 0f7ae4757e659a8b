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

use std::sync::Arc;

use half::f16;
use kernels::Format;

use crate::config::Quantisation;
use crate::mmap::MappedFile;
use crate::weights::{Packed, PackedKind, Tensor, Weights};
use crate::{Error, FileBytes, Result};

/// Columns that share a scale in Q4_0 and Q8_0.
const BLOCK: usize = 32;
/// Four-bit numbers in a word.
const PER_WORD: usize = 8;
/// Where AWQ keeps output `8 c + i` of a word: nibble `AWQ_NIBBLE[i]`.
const AWQ_NIBBLE: [u32; PER_WORD] = [0, 4, 1, 5, 2, 6, 3, 7];

/// A matrix and the tensors that it is stored as.
#[derive(Debug)]
pub(crate) struct Quantised {
    stem: String,
    rows: usize,
    cols: usize,
    method: Quantisation,
    numbers: Packed,
    scales: Tensor,
    zeros: Option<Packed>,
    /// `g_idx`.
    groups: Option<Packed>,
}

/// The matrix `stem` `[rows, cols]`, if the checkpoint stores it quantised. Nothing is read yet.
///
/// # Errors
/// [`Error::MissingTensor`].
pub(crate) fn find(
    weights: &Weights,
    quantisation: Option<&Quantisation>,
    stem: &str,
    rows: usize,
    cols: usize,
) -> Result<Option<Quantised>> {
    let Some(&method) = quantisation else { return Ok(None) };
    let packed = |part: &str| weights.packed(&format!("{stem}.{part}"));
    let (numbers, scales) = match method {
        Quantisation::Fp8 { .. } => ("weight", "weight_scale_inv"),
        Quantisation::Gptq { .. } | Quantisation::Awq { .. } => ("qweight", "scales"),
    };
    let Some(numbers) = packed(numbers) else { return Ok(None) };
    let zeros = match method {
        Quantisation::Fp8 { .. } => None,
        Quantisation::Gptq { .. } | Quantisation::Awq { .. } => {
            Some(packed("qzeros").ok_or_else(|| Error::MissingTensor { name: format!("{stem}.qzeros") })?)
        }
    };
    let groups = if matches!(method, Quantisation::Gptq { .. }) { packed("g_idx") } else { None };
    let scales = weights.get(&format!("{stem}.{scales}"))?;
    Ok(Some(Quantised { stem: stem.to_owned(), rows, cols, method, numbers, scales, zeros, groups }))
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

/// What makes four-bit numbers values.
struct Scaling {
    zeros: Vec<u8>,     // [groups, rows]
    scales: Vec<f32>,   // [groups, rows]
    group_of: Vec<u32>, // [cols]
}

impl Quantised {
    /// The whole matrix.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], or [`Error::NotFinite`] for a scale or number that is not
    /// finite.
    pub(crate) fn tensor(&self) -> Result<Tensor> {
        self.rows_of(self.stored()?, 0)
    }

    /// The numbers as they are stored.
    fn stored(&self) -> Result<&[u8]> {
        let (rows, cols) = (self.rows, self.cols);
        match self.method {
            Quantisation::Fp8 { .. } => self.numbers.expect(PackedKind::F8E4m3, &[rows, cols]),
            Quantisation::Gptq { .. } => {
                self.expect_whole_words("columns", cols)?;
                self.expect_whole_words("rows", rows)?;
                self.numbers.expect(PackedKind::I32, &[cols / PER_WORD, rows])
            }
            Quantisation::Awq { .. } => {
                self.expect_whole_words("rows", rows)?;
                self.numbers.expect(PackedKind::I32, &[cols, rows / PER_WORD])
            }
        }
    }

    /// Where the numbers lie, in which file; `None` if in none.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub(crate) fn in_file(&self) -> Result<Option<(&Arc<MappedFile>, u64)>> {
        self.stored()?;
        Ok(self.numbers.in_file())
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Bytes of a row, where rows lie one after the other; otherwise only the whole matrix means something.
    pub(crate) fn row_bytes(&self) -> Option<usize> {
        matches!(self.method, Quantisation::Fp8 { .. }).then_some(self.cols)
    }

    /// Bytes of all numbers.
    pub(crate) fn size_bytes(&self) -> usize {
        match self.method {
            Quantisation::Fp8 { .. } => self.rows * self.cols,
            Quantisation::Gptq { .. } | Quantisation::Awq { .. } => self.rows * self.cols / 2,
        }
    }

    /// The format that the matrix will have. Only scales, zero points and groups are read.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub(crate) fn format(&self) -> Result<Format> {
        match self.method {
            Quantisation::Fp8 { .. } => Ok(Format::F32),
            Quantisation::Gptq { .. } | Quantisation::Awq { .. } => Ok(self.format_of(&self.scaling()?)),
        }
    }

    /// Rows from `first_row` on, of which these are the stored numbers: any where rows lie one after the other,
    /// otherwise all.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub(crate) fn rows_of(&self, bytes: &[u8], first_row: usize) -> Result<Tensor> {
        let (rows, cols) = (self.rows, self.cols);
        match self.method {
            Quantisation::Fp8 { block } => self.fp8(bytes, block, first_row),
            Quantisation::Gptq { .. } => {
                let words = words(bytes);
                let q = |row: usize, column: usize| nibble(words[column / PER_WORD * rows + row], column % PER_WORD);
                self.four_bits(q)
            }
            Quantisation::Awq { .. } => {
                let (words, across) = (words(bytes), rows / PER_WORD);
                debug_assert_eq!(words.len(), cols * across, "all numbers");
                self.four_bits(|row, column| awq_nibble(words[column * across + row / PER_WORD], row))
            }
        }
    }

    fn fp8(&self, bytes: &[u8], block: [usize; 2], first_row: usize) -> Result<Tensor> {
        let across = self.cols.div_ceil(block[1]);
        let scales = self.scales("weight_scale_inv", &[self.rows.div_ceil(block[0]), across])?;
        let table: [f32; 256] = std::array::from_fn(|byte| e4m3(byte as u8));
        let mut values = Vec::with_capacity(4 * bytes.len());
        for (row, bytes) in (first_row..).zip(bytes.chunks_exact(self.cols)) {
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
        self.made(Format::F32, values)
    }

    fn scaling(&self) -> Result<Scaling> {
        let (rows, cols) = (self.rows, self.cols);
        self.expect_whole_words("rows", rows)?;
        let zeros = self.zeros.as_ref().ok_or_else(|| Error::MissingTensor { name: self.name("qzeros") })?;
        let (group, added) = match self.method {
            Quantisation::Gptq { group, zeros_less_one } => (group, u8::from(zeros_less_one)),
            Quantisation::Awq { group } => (group, 0),
            Quantisation::Fp8 { block } => (block[1], 0),
        };
        let group_of = self.groups_of_columns(group)?;
        let groups = group_of.iter().max().map_or(1, |&last| last as usize + 1).max(cols.div_ceil(group));
        let across = rows / PER_WORD;
        let words = words(zeros.expect(PackedKind::I32, &[groups, across])?);
        let is_awq = matches!(self.method, Quantisation::Awq { .. });
        let zero = |index: usize| {
            let (word, row) = (words[index / rows * across + index % rows / PER_WORD], index % rows);
            if is_awq { awq_nibble(word, row) } else { (nibble(word, row % PER_WORD) + added) & 15 }
        };
        let zeros = (0..groups * rows).map(zero).collect();
        Ok(Scaling { zeros, scales: self.scales("scales", &[groups, rows])?, group_of })
    }

    /// The group of each column: `g_idx`, or in order where a file leaves it out.
    fn groups_of_columns(&self, group: usize) -> Result<Vec<u32>> {
        let Some(indexes) = &self.groups else {
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

    /// Blocks where a block has one group and its scale is an F16, which it is in such files or came from it.
    fn format_of(&self, scaling: &Scaling) -> Format {
        let blocks = scaling.group_of.chunks_exact(BLOCK);
        let is_aligned =
            self.cols.is_multiple_of(BLOCK) && blocks.clone().all(|block| block.iter().all(|group| *group == block[0]));
        let is_exact = |scale: &f32| f16::from_f32(*scale).to_f32().to_bits() == scale.to_bits();
        let of_group = |group: usize| scaling.scales[group * self.rows..][..self.rows].iter().all(is_exact);
        if !is_aligned || !blocks.map(|block| block[0] as usize).all(of_group) {
            Format::F32
        } else if scaling.zeros.iter().all(|&zero| zero == 8) {
            Format::Q4_0
        } else {
            Format::Q8_0
        }
    }

    /// `q` is the number of `(row, column)`, 0 to 15.
    fn four_bits(&self, q: impl Fn(usize, usize) -> u8) -> Result<Tensor> {
        let scaling = self.scaling()?;
        let format = self.format_of(&scaling);
        let mut bytes = Vec::with_capacity(self.rows * format.row_bytes(self.cols).unwrap_or(0));
        for row in 0..self.rows {
            if format == Format::F32 {
                for (column, &group) in scaling.group_of.iter().enumerate() {
                    let at = group as usize * self.rows + row;
                    let q = i16::from(q(row, column)) - i16::from(scaling.zeros[at]);
                    bytes.extend((scaling.scales[at] * f32::from(q)).to_le_bytes());
                }
                continue;
            }
            for first in (0..self.cols).step_by(BLOCK) {
                let at = scaling.group_of[first] as usize * self.rows + row;
                bytes.extend(f16::from_f32(scaling.scales[at]).to_le_bytes());
                let q = |i: usize| q(row, first + i);
                if format == Format::Q4_0 {
                    bytes.extend((0..BLOCK / 2).map(|i| q(i) | q(i + BLOCK / 2) << 4));
                } else {
                    bytes.extend((0..BLOCK).map(|i| q(i).wrapping_sub(scaling.zeros[at])));
                }
            }
        }
        self.made(format, bytes)
    }

    pub(crate) fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.stem)
    }

    fn scales(&self, part: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let scales = self.scales.clone().expect_shape(shape)?.to_f32()?;
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

    /// So many whole rows in a format.
    fn made(&self, format: Format, bytes: Vec<u8>) -> Result<Tensor> {
        let row_bytes =
            format.row_bytes(self.cols).map_err(|source| Error::Pack { name: self.name("weight"), source })?;
        let (range, shape) = (0..bytes.len(), vec![(bytes.len() / row_bytes.max(1)) as u64, self.cols as u64]);
        Tensor::new(&self.name("weight"), format, shape, FileBytes::Owned(bytes.into()), range)
    }
}

/// The number of a row in a word of AWQ.
fn awq_nibble(word: u32, row: usize) -> u8 {
    nibble(word, AWQ_NIBBLE[row % PER_WORD] as usize)
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
