//! From tensors to vectors and packed matrices, whatever form the checkpoint stores them in.

use kernels::{Cpu, Matrix, Precision};

use crate::config::Quantisation;
use crate::weights::{Tensor, Weights};
use crate::{Checkpoint, Error, FileBytes, Result, finite, quantised};

/// Reads the tensors of one checkpoint for one processor.
pub(crate) struct Loader<'a> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) weights: &'a Weights,
    pub(crate) precision: Precision,
    quantisation: Option<Quantisation>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(cpu: &'a Cpu, checkpoint: &'a Checkpoint, precision: Precision) -> Self {
        let quantisation = checkpoint.config.quantisation;
        Self { cpu, weights: &checkpoint.weights, precision, quantisation }
    }

    /// A tensor of this shape whose numbers are finite.
    pub(crate) fn checked(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        finite(self.weights.get(name)?.expect_shape(shape)?)
    }

    pub(crate) fn vector(&self, name: &str, size: usize) -> Result<Vec<f32>> {
        self.checked(name, &[size])?.to_f32()
    }

    /// Whether there is a matrix `stem.weight`, in whichever form.
    pub(crate) fn has(&self, stem: &str) -> bool {
        ["weight", "qweight"].iter().any(|part| self.weights.contains(&format!("{stem}.{part}")))
    }

    /// The matrix `stem.weight`, as [`stored`].
    pub(crate) fn tensor(&self, stem: &str, rows: usize, cols: usize) -> Result<Tensor> {
        stored_in(self.weights, self.quantisation.as_ref(), stem, rows, cols)
    }

    pub(crate) fn matrix(&self, stem: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.pack(&self.tensor(stem, rows, cols)?)
    }

    pub(crate) fn pack(&self, tensor: &Tensor) -> Result<Matrix> {
        self.pack_as(tensor, self.precision)
    }

    pub(crate) fn pack_as(&self, tensor: &Tensor, precision: Precision) -> Result<Matrix> {
        let [rows, cols] = [0, 1].map(|axis| tensor.shape()[axis] as usize);
        let packed = Matrix::pack(self.cpu, tensor.format(), rows, cols, tensor.bytes(), precision)
            .map_err(|source| Error::Pack { name: tensor.name().to_owned(), source })?;
        // Otherwise file and packed copy both count as the process's memory, twice the weights.
        tensor.release();
        Ok(packed)
    }
}

/// The matrix `stem.weight`, in numbers, in blocks, or quantised with its scales beside it; its numbers are finite.
pub(crate) fn stored(checkpoint: &Checkpoint, stem: &str, rows: usize, cols: usize) -> Result<Tensor> {
    stored_in(&checkpoint.weights, checkpoint.config.quantisation.as_ref(), stem, rows, cols)
}

fn stored_in(
    weights: &Weights,
    quantisation: Option<&Quantisation>,
    stem: &str,
    rows: usize,
    cols: usize,
) -> Result<Tensor> {
    match quantised::find(weights, quantisation, stem, rows, cols)? {
        Some(tensor) => Ok(tensor),
        None => finite(weights.get(&format!("{stem}.weight"))?.expect_shape(&[rows, cols])?),
    }
}

/// The transpose, in the same format: some files store experts with the input outermost.
pub(crate) fn transposed(matrix: &Tensor) -> Result<Tensor> {
    let format = matrix.format();
    if format.block_elements() != 1 {
        let found = format!("{format:?} with the input outermost");
        return Err(Error::UnsupportedType { name: matrix.name().to_owned(), found });
    }
    let size = format.block_bytes();
    let [rows, cols] = [0, 1].map(|axis| matrix.shape()[axis] as usize);
    let stored = matrix.bytes(); // [rows, cols] elements of `size` bytes
    let mut bytes = Vec::with_capacity(stored.len());
    for col in 0..cols {
        for row in 0..rows {
            let start = (row * cols + col) * size;
            bytes.extend_from_slice(&stored[start..start + size]);
        }
    }
    let range = 0..bytes.len();
    Tensor::new(matrix.name(), format, vec![cols as u64, rows as u64], FileBytes::Owned(bytes.into()), range)
}

/// The same tensor, if every number in it is finite.
pub(crate) fn finite(tensor: Tensor) -> Result<Tensor> {
    match finite::first_fault(tensor.format(), tensor.bytes()) {
        None => Ok(tensor),
        Some(element) => {
            let cols = tensor.shape().last().copied().unwrap_or(1).max(1) as usize;
            Err(Error::NotFinite { name: tensor.name().to_owned(), row: element / cols })
        }
    }
}
