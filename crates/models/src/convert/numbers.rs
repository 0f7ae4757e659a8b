//! One tensor, from file to file.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use kernels::Format;

use super::at;
use super::layout::Slot;
use super::pieces::Pieces;
use crate::observe::Importance;
use crate::weights::Tensor;
use crate::{Error, Result, finite};

/// Numbers that are in memory at one time, decoded: 16 MiB of f32.
const NUMBERS_AT_ONCE: usize = 4 << 20;
/// Bytes that are copied before the progress is told.
const BYTES_AT_ONCE: usize = 16 << 20;

/// Where numbers go, and who is told.
pub(super) struct Sink<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) path: &'a Path,
    pub(super) threads: NonZeroUsize,
    /// Called with the numbers that were written since the last call.
    pub(super) told: &'a mut dyn FnMut(u64),
}

/// Writes one piece of a slot.
///
/// # Errors
/// [`Error::Write`], [`Error::Beyond`], and what reading can say.
pub(super) fn write_piece(
    pieces: Pieces<'_>,
    slot: &Slot,
    index: usize,
    format: Format,
    importance: Option<&Importance>,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let tensor = pieces.piece(slot, index)?;
    let site = slot.site();
    let expert = slot.experts.map(|_| index);
    let weights = importance.zip(site).and_then(|(importance, site)| importance.of(slot.layer, site, expert));
    let weights = weights.map(|weights| pieces.in_order_of_columns(slot, weights));
    let written = if tensor.format() == format {
        copy(&tensor, sink)
    } else {
        encode(&tensor, format, weights.as_deref().unwrap_or_default(), sink)
    };
    // Otherwise the whole model counts as this process's memory in the end.
    tensor.release();
    written
}

fn copy(tensor: &Tensor, sink: &mut Sink<'_>) -> Result<()> {
    let format = tensor.format();
    for bytes in tensor.bytes().chunks(BYTES_AT_ONCE / format.block_bytes() * format.block_bytes()) {
        sink.out.write_all(bytes).map_err(at(sink.path))?;
        (sink.told)((bytes.len() / format.block_bytes() * format.block_elements()) as u64);
    }
    Ok(())
}

fn encode(tensor: &Tensor, format: Format, importance: &[f32], sink: &mut Sink<'_>) -> Result<()> {
    let fault = |source| Error::Pack { name: tensor.name().to_owned(), source };
    let columns = tensor.shape().last().copied().unwrap_or(1) as usize;
    let from_bytes = tensor.format().row_bytes(columns).map_err(fault)?;
    let to_bytes = format.row_bytes(columns).map_err(fault)?;
    let rows_at_once = (NUMBERS_AT_ONCE / columns).max(1);
    let (mut numbers, mut encoded) = (Vec::new(), Vec::new());
    for (chunk, bytes) in tensor.bytes().chunks(rows_at_once * from_bytes).enumerate() {
        let rows = bytes.len() / from_bytes;
        numbers.resize(rows * columns, 0.0);
        encoded.resize(rows * to_bytes, 0);
        kernels::dequantize(tensor.format(), bytes, &mut numbers).map_err(fault)?;
        let share = rows.div_ceil(sink.threads.get());
        std::thread::scope(|scope| {
            let parts = numbers.chunks(share * columns).zip(encoded.chunks_mut(share * to_bytes));
            let threads: Vec<_> = parts
                .map(|(numbers, encoded)| scope.spawn(|| encode_rows(format, columns, numbers, importance, encoded)))
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("an encoder does not panic"))
        })
        .map_err(fault)?;
        if let Some(element) = finite::first_fault(format, &encoded) {
            let row = chunk * rows_at_once + element / columns;
            return Err(Error::Beyond { name: tensor.name().to_owned(), row, format });
        }
        sink.out.write_all(&encoded).map_err(at(sink.path))?;
        (sink.told)(numbers.len() as u64);
    }
    Ok(())
}

fn encode_rows(
    format: Format,
    columns: usize,
    numbers: &[f32],
    importance: &[f32],
    out: &mut [u8],
) -> kernels::Result<()> {
    let row_bytes = format.row_bytes(columns)?;
    let rows = numbers.chunks_exact(columns).zip(out.chunks_exact_mut(row_bytes));
    rows.into_iter().try_for_each(|(numbers, out)| kernels::quantize(format, numbers, importance, out))
}
