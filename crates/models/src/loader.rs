//! From tensors to vectors and packed matrices, whatever form the checkpoint stores them in.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use kernels::{Cpu, Format, Matrix, Precision, Stored};

use crate::config::Quantisation;
use crate::quantised::Quantised;
use crate::weight_cache::{Keeping, Part, Session};
use crate::weights::{Tensor, Weights};
use crate::{Checkpoint, Error, FileBytes, Result, finite, quantised, weight_cache};

/// Reads the tensors of one checkpoint for one processor.
pub(crate) struct Loader<'a> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) weights: &'a Weights,
    pub(crate) precision: Precision,
    quantisation: Option<Quantisation>,
    cache: Option<RefCell<Session>>,
}

impl<'a> Loader<'a> {
    /// Of a part always the same matrices are packed.
    pub(crate) fn new(cpu: &'a Cpu, checkpoint: &'a Checkpoint, precision: Precision, part: Part) -> Self {
        let quantisation = checkpoint.config.quantisation;
        let cache = checkpoint.weight_cache.as_ref().and_then(|cache| cache.open(checkpoint, precision, part));
        Self { cpu, weights: &checkpoint.weights, precision, quantisation, cache: cache.map(RefCell::new) }
    }

    /// Everything was packed, and may be kept.
    pub(crate) fn finish(self) -> Keeping {
        match self.cache.map(RefCell::into_inner) {
            Some(Session::New(writer)) => writer.finish(),
            Some(Session::Found(_)) | None => Keeping::default(),
        }
    }

    /// A tensor of this shape whose numbers are finite.
    pub(crate) fn checked(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        finite(self.weights.get(name)?.expect_shape(shape)?)
    }

    pub(crate) fn vector(&self, name: &str, size: usize) -> Result<Vec<f32>> {
        numbers(&self.checked(name, &[size])?)
    }

    /// Whether there is a matrix `stem.weight`, in whichever form.
    pub(crate) fn has(&self, stem: &str) -> bool {
        ["weight", "qweight"].iter().any(|part| self.weights.contains(&format!("{stem}.{part}")))
    }

    /// The matrix `stem.weight`, as [`stored`].
    pub(crate) fn tensor(&self, stem: &str, rows: usize, cols: usize) -> Result<Tensor> {
        stored_in(self.weights, self.quantisation.as_ref(), stem, rows, cols)
    }

    /// The matrix `stem.weight`, if it is stored with its scales in other tensors.
    pub(crate) fn quantised(&self, stem: &str, rows: usize, cols: usize) -> Result<Option<Quantised>> {
        quantised::find(self.weights, self.quantisation.as_ref(), stem, rows, cols)
    }

    /// The matrix `stem.weight`, packed.
    pub(crate) fn matrix(&self, stem: &str, rows: usize, cols: usize) -> Result<Matrix> {
        match self.quantised(stem, rows, cols)? {
            Some(matrix) => {
                let format = matrix.format()?;
                self.kept(stem, 0, [rows, cols], format, self.precision, || {
                    self.packed(&matrix.tensor()?, self.precision)
                })
            }
            None => self.pack(&self.weights.get(&format!("{stem}.weight"))?.expect_shape(&[rows, cols])?),
        }
    }

    /// As [`Self::pack_as`], for the precision of this loader.
    pub(crate) fn pack(&self, tensor: &Tensor) -> Result<Matrix> {
        self.pack_as(tensor, self.precision)
    }

    /// Packs a matrix, or finds it packed.
    ///
    /// # Errors
    /// [`Error::NotFinite`] and [`Error::Pack`].
    pub(crate) fn pack_as(&self, tensor: &Tensor, precision: Precision) -> Result<Matrix> {
        let shape = [0, 1].map(|axis| tensor.shape()[axis] as usize);
        let pack = || self.packed(tensor, precision);
        match tensor.in_file() {
            Some((_, at)) => self.kept(tensor.name(), at, shape, tensor.format(), precision, pack),
            None => pack(),
        }
    }

    /// The matrix whose numbers lie `at` this place, from the cache or else by `pack`.
    fn kept(
        &self,
        name: &str,
        at: u64,
        shape: [usize; 2],
        format: Format,
        precision: Precision,
        pack: impl FnOnce() -> Result<Matrix>,
    ) -> Result<Matrix> {
        let Some(cache) = &self.cache else { return pack() };
        let name = weight_cache::matrix_name(name, at, shape, format, precision);
        match &mut *cache.borrow_mut() {
            Session::Found(found) => match found.matrix(&name, shape, format, precision) {
                Some(matrix) => Ok(matrix),
                None => pack(),
            },
            Session::New(writer) => {
                let matrix = pack()?;
                writer.keep(name, matrix.packed());
                Ok(matrix)
            }
        }
    }

    fn packed(&self, tensor: &Tensor, precision: Precision) -> Result<Matrix> {
        let [rows, columns] = [0, 1].map(|axis| tensor.shape()[axis] as usize);
        let format = tensor.format();
        let stored = Stored { format, rows, columns, bytes: tensor.bytes() };
        let fault = AtomicUsize::new(usize::MAX);
        let look = |at: usize, bytes: &[u8]| {
            if let Some(element) = finite::first_fault(format, bytes) {
                fault.fetch_min(at / format.block_bytes() * format.block_elements() + element, Ordering::Relaxed);
            }
        };
        // Otherwise file and packed copy both count as the process's memory, twice the weights.
        let packed = |part| tensor.release_part(part);
        let matrix = Matrix::pack_in_pieces(self.cpu, stored, precision, look, packed)
            .map_err(|source| Error::Pack { name: tensor.name().to_owned(), source })?;
        match fault.into_inner() {
            usize::MAX => Ok(matrix),
            element => Err(Error::NotFinite { name: tensor.name().to_owned(), row: element / columns }),
        }
    }
}

/// The numbers of a tensor, whose bytes are not needed any more.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    let numbers = tensor.to_f32()?;
    tensor.release();
    Ok(numbers)
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
        Some(matrix) => matrix.tensor(),
        None => finite(weights.get(&format!("{stem}.weight"))?.expect_shape(&[rows, cols])?),
    }
}

/// The transpose, in the same format: some files store experts with the input outermost.
///
/// # Errors
/// As [`expect_single`].
pub(crate) fn transposed(matrix: &Tensor) -> Result<Tensor> {
    let matrix = expect_single(matrix.clone())?;
    let [rows, cols] = [0, 1].map(|axis| matrix.shape()[axis]);
    let bytes = transpose(matrix.format(), matrix.bytes(), rows as usize);
    let range = 0..bytes.len();
    Tensor::new(matrix.name(), matrix.format(), vec![cols, rows], FileBytes::Owned(bytes.into()), range)
}

/// The same matrix, if its numbers can be moved one by one.
///
/// # Errors
/// [`Error::UnsupportedType`] for blocks of several numbers.
pub(crate) fn expect_single(matrix: Tensor) -> Result<Tensor> {
    let format = matrix.format();
    if format.block_elements() == 1 {
        return Ok(matrix);
    }
    let found = format!("{format:?} with the input outermost");
    Err(Error::UnsupportedType { name: matrix.name().to_owned(), found })
}

/// The transpose of `rows` rows of single numbers.
pub(crate) fn transpose(format: Format, stored: &[u8], rows: usize) -> Vec<u8> {
    debug_assert_eq!(format.block_elements(), 1, "a number by itself can be moved");
    let mut bytes = vec![0; stored.len()];
    match format.block_bytes() {
        2 => transpose_into(stored.as_chunks::<2>().0, bytes.as_chunks_mut().0, rows),
        _ => transpose_into(stored.as_chunks::<4>().0, bytes.as_chunks_mut().0, rows),
    }
    bytes
}

/// Tile by tile, so that what is read and what is written stays in the nearest cache.
fn transpose_into<const N: usize>(from: &[[u8; N]], to: &mut [[u8; N]], rows: usize) {
    const TILE: usize = 32;
    let cols = from.len() / rows.max(1);
    for first_row in (0..rows).step_by(TILE) {
        let end = rows.min(first_row + TILE);
        for first_col in (0..cols).step_by(TILE) {
            for col in first_col..cols.min(first_col + TILE) {
                for (row, to) in (first_row..end).zip(&mut to[col * rows + first_row..]) {
                    *to = from[row * cols + col];
                }
            }
        }
    }
}

/// Bytes of a tensor that a thread looks at before it asks for more, and lets go.
const PIECE_BYTES: usize = 4 << 20;
/// Threads that look at one tensor: a few read as fast as memory gives.
const THREADS_MAX: usize = 8;

/// The same tensor, if every number in it is finite. What was looked at may leave memory again.
pub(crate) fn finite(tensor: Tensor) -> Result<Tensor> {
    let (format, bytes) = (tensor.format(), tensor.bytes());
    let piece_bytes = (PIECE_BYTES / format.block_bytes()).max(1) * format.block_bytes();
    let pieces = bytes.len().div_ceil(piece_bytes);
    let (next, first) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let look = || {
        loop {
            let start = piece_bytes * next.fetch_add(1, Ordering::Relaxed);
            if start >= bytes.len() {
                return;
            }
            let part = start..bytes.len().min(start + piece_bytes);
            if let Some(element) = finite::first_fault(format, &bytes[part.clone()]) {
                first.fetch_min(start / format.block_bytes() * format.block_elements() + element, Ordering::Relaxed);
            }
            if pieces > 1 {
                tensor.release_part(part);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(pieces);
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(look)));
        look();
    });
    match first.into_inner() {
        usize::MAX => Ok(tensor),
        element => {
            let cols = tensor.shape().last().copied().unwrap_or(1).max(1) as usize;
            Err(Error::NotFinite { name: tensor.name().to_owned(), row: element / cols })
        }
    }
}

#[cfg(test)]
mod tests {
    use kernels::Format;

    use super::{PIECE_BYTES, finite};
    use crate::weights::Tensor;
    use crate::{Error, FileBytes};

    #[test]
    fn the_first_of_several_faults_in_a_large_tensor_is_named() {
        let (rows, columns) = (3 * PIECE_BYTES / 4000 + 1, 1000);
        let mut bytes = vec![0; 4 * rows * columns];
        let tensor = |bytes: &[u8]| {
            let shape = vec![rows as u64, columns as u64];
            Tensor::new("t", Format::F32, shape, FileBytes::Owned(bytes.into()), 0..bytes.len()).unwrap()
        };
        assert!(finite(tensor(&bytes)).is_ok());
        for row in [rows - 1, rows / 2] {
            bytes[4 * row * columns..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
            let error = finite(tensor(&bytes)).unwrap_err();
            assert!(matches!(error, Error::NotFinite { row: found, .. } if found == row), "{error}");
        }
    }
}
