//! Weights, packed once into the order in which steps read them.

mod pack;

use std::ops::Range;
use std::sync::Arc;

use crate::layout::{LANES, Layout};
use crate::memory::{ALIGNMENT, Memory};
use crate::parts::Parts;
use crate::{Cpu, Error, Format, Result};

/// What a matrix may cost in exactness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 activations against exactly dequantised weights, summed in f32. Quantised and F16 weights are kept as f32,
    /// BF16 as BF16.
    Exact,
    /// The fastest way: BF16 activations against BF16 weights where the processor multiplies them (otherwise f32),
    /// int8 activations with a scale for 32 columns against quantised weights (where the processor has tiles for BF16,
    /// rows of a prompt are BF16 and so are the dequantised weights, see [`crate::Role`]). F32 and F16 weights are
    /// rounded to BF16, and so are the formats that have no kernel of their own (Q4_1, Q5_1, Q2_K, Q3_K, IQ1 to IQ3,
    /// IQ4_XS, TQ1_0, TQ2_0, MXFP4).
    Fast,
}

/// Bytes of a file that are packed before they may be let go.
const PIECE_BYTES: usize = 8 << 20;

/// Rows of a panel.
pub const PANEL_ROWS: usize = LANES;

/// Which order panels have their bytes in. It changes with any of them, so that what was kept of another order is not
/// taken for this one ([`Matrix::from_packed`]).
pub const PACKED_VERSION: u32 = 2;

/// Bytes that many may read, for example those of a file that is mapped into memory.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A matrix of weights `[rows, columns]`, packed in panels of sixteen rows.
#[derive(Debug)]
pub struct Matrix {
    pub(crate) layout: Layout,
    pub(crate) precision: Precision,
    rows: usize,
    columns: usize,
    panel_bytes: usize,
    panels: Panels,
}

/// A matrix as a file has it.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// The format of its numbers.
    pub format: Format,
    /// Its rows, which are the outputs of a product.
    pub rows: usize,
    /// Its columns, which are the inputs of a product.
    pub columns: usize,
    /// Row after row.
    pub bytes: &'a [u8],
}

/// Where panels lie.
enum Panels {
    Own(Memory),
    Shared(SharedBytes, Range<usize>),
}

impl Matrix {
    /// Packs `rows` rows of `columns` numbers, stored one after the other in `format`. All threads of `cpu` take part.
    ///
    /// # Errors
    /// [`Error::Columns`] if a row is not a whole number of blocks, [`Error::Length`] if `bytes` is not
    /// `rows * format.row_bytes(columns)` long, [`Error::Shape`] if the matrix is empty or too large for an address,
    /// [`Error::Memory`] if there is no memory for it.
    pub fn pack(
        cpu: &Cpu,
        format: Format,
        rows: usize,
        columns: usize,
        bytes: &[u8],
        precision: Precision,
    ) -> Result<Self> {
        Self::pack_in_pieces(cpu, Stored { format, rows, columns, bytes }, precision, |_, _| {}, |_| {})
    }

    /// As [`Self::pack`]. `look` is called with the bytes of sixteen rows before they are packed, and where among all
    /// bytes they begin, by whichever thread packs them; `packed` after every few megabytes with the bytes that are not
    /// needed any more.
    ///
    /// # Errors
    /// As [`Self::pack`].
    pub fn pack_in_pieces(
        cpu: &Cpu,
        stored: Stored<'_>,
        precision: Precision,
        look: impl Fn(usize, &[u8]) + Sync,
        mut packed: impl FnMut(Range<usize>),
    ) -> Result<Self> {
        let Stored { format, rows, columns, bytes } = stored;
        let shape = Error::Shape { what: "a matrix", rows, columns };
        let row_bytes = format.row_bytes(columns)?;
        let Some(expected) = rows.checked_mul(row_bytes) else { return Err(shape) };
        if bytes.len() != expected {
            return Err(Error::Length { what: "the matrix", expected, found: bytes.len() });
        }
        if rows == 0 || columns == 0 {
            return Err(shape);
        }
        let mut matrix = Self::zeroed(format, rows, columns, precision, |size| cpu.arena.zeroed(size))?;
        let panels = (PIECE_BYTES / (LANES * row_bytes)).max(1);
        let piece_bytes = panels * LANES * row_bytes;
        for (index, piece) in bytes.chunks(piece_bytes).enumerate() {
            let first = index * piece_bytes;
            matrix.write(cpu, format, index * panels, piece, false, |at, rows| look(first + at, rows));
            packed(first..first + piece.len());
        }
        Ok(matrix)
    }

    /// A matrix whose panels were packed before: `bytes` are [`Self::packed`] of one of this format, shape and
    /// precision, by a program of the same [`PACKED_VERSION`]. Nothing is read.
    ///
    /// # Errors
    /// As [`Self::pack`], and [`Error::Alignment`] if the bytes do not begin on a line of the cache.
    pub fn from_packed(
        format: Format,
        rows: usize,
        columns: usize,
        precision: Precision,
        bytes: SharedBytes,
        range: Range<usize>,
    ) -> Result<Self> {
        format.row_bytes(columns)?;
        let layout = layout_for(format, precision);
        let (panel_bytes, size) = sizes(layout, rows, columns)?;
        let part = (*bytes).as_ref().get(range.clone()).unwrap_or_default();
        if part.len() != size {
            return Err(Error::Length { what: "the packed matrix", expected: size, found: part.len() });
        }
        if !part.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return Err(Error::Alignment { what: "the packed matrix", alignment: ALIGNMENT });
        }
        Ok(Self { layout, precision, rows, columns, panel_bytes, panels: Panels::Shared(bytes, range) })
    }

    /// All panels, for [`Self::from_packed`].
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        match &self.panels {
            Panels::Own(memory) => memory,
            Panels::Shared(bytes, range) => &(**bytes).as_ref()[range.clone()],
        }
    }

    /// A matrix of zeros for numbers in `format` that [`Self::fill`] brings, in memory of its own, which goes back to
    /// the system with it.
    ///
    /// # Errors
    /// As [`Self::pack`].
    pub fn empty(format: Format, rows: usize, columns: usize, precision: Precision) -> Result<Self> {
        format.row_bytes(columns)?;
        if rows == 0 || columns == 0 {
            return Err(Error::Shape { what: "a matrix", rows, columns });
        }
        Self::zeroed(format, rows, columns, precision, Memory::zeroed)
    }

    fn zeroed(
        format: Format,
        rows: usize,
        columns: usize,
        precision: Precision,
        memory: impl FnOnce(usize) -> Result<Memory>,
    ) -> Result<Self> {
        let layout = layout_for(format, precision);
        let (panel_bytes, size) = sizes(layout, rows, columns)?;
        Ok(Self { layout, precision, rows, columns, panel_bytes, panels: Panels::Own(memory(size)?) })
    }

    /// Whether numbers of this format and shape can be filled into this matrix.
    #[must_use]
    pub fn holds(&self, format: Format, rows: usize, columns: usize, precision: Precision) -> bool {
        (self.layout, self.precision) == (layout_for(format, precision), precision)
            && (self.rows, self.columns) == (rows, columns)
    }

    /// Packs rows in place of those that were there, from `first_row` on, as many as `bytes` has. All threads of `cpu`
    /// take part.
    ///
    /// # Panics
    /// If the matrix holds no such rows of this format, or they are not whole panels ([`PANEL_ROWS`]): only the last
    /// one of the matrix may have fewer rows.
    pub fn fill(&mut self, cpu: &Cpu, format: Format, first_row: usize, bytes: &[u8]) {
        let row_bytes = format.row_bytes(self.columns).expect("the matrix was made for rows of whole blocks");
        let end = first_row + bytes.len() / row_bytes;
        assert!(self.layout == layout_for(format, self.precision), "{format:?} in a matrix of {:?}", self.layout);
        assert!(
            bytes.len().is_multiple_of(row_bytes) && end <= self.rows,
            "rows {first_row} to {end} of {}",
            self.rows
        );
        assert!(first_row.is_multiple_of(LANES) && (end.is_multiple_of(LANES) || end == self.rows), "whole panels");
        self.write(cpu, format, first_row / LANES, bytes, true, |_, _| {});
    }

    /// Packs whole panels, which are zero, or not (`is_used`). `look` has the rows of each before.
    fn write(
        &mut self,
        cpu: &Cpu,
        format: Format,
        first_panel: usize,
        bytes: &[u8],
        is_used: bool,
        look: impl Fn(usize, &[u8]) + Sync,
    ) {
        let (layout, panel_bytes) = (self.layout, self.panel_bytes);
        let row_bytes = format.row_bytes(self.columns).expect("the matrix was made for rows of whole blocks");
        let panels = bytes.len().div_ceil(LANES * row_bytes);
        let Panels::Own(memory) = &mut self.panels else { panic!("panels that others read are not written") };
        let parts = Parts::new(&mut memory[first_panel * panel_bytes..(first_panel + panels) * panel_bytes]);
        cpu.pool.for_each(panels, &|_, p| {
            // SAFETY: panels do not overlap, and every index is handed out once.
            let panel = unsafe { parts.part(p * panel_bytes..(p + 1) * panel_bytes) };
            let rows = &bytes[p * LANES * row_bytes..bytes.len().min((p + 1) * LANES * row_bytes)];
            look(p * LANES * row_bytes, rows);
            let is_whole = rows.len() == LANES * row_bytes && row_bytes.is_multiple_of(64);
            if (layout, format, is_whole) == (Layout::Bf16, Format::Bf16, true) {
                return pack::lines(rows, row_bytes, panel);
            }
            if is_used {
                panel.fill(0);
            }
            for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
                pack::row(format, layout, row, panel, r);
            }
        });
    }

    /// Bytes that a matrix will have in memory; `None` if it fits no address.
    #[must_use]
    pub fn packed_bytes(format: Format, rows: usize, columns: usize, precision: Precision) -> Option<usize> {
        layout_for(format, precision).panel_bytes(columns)?.checked_mul(rows.div_ceil(LANES))
    }

    /// Rows, which are the outputs of a product.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, which are the inputs of a product.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes in memory.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.packed().len()
    }

    /// Whether a matrix packed from `format` has the very numbers of the file, so that [`Self::row_f32`] is what
    /// [`crate::dequantize`] says of the file's row.
    #[must_use]
    pub fn keeps(format: Format, precision: Precision) -> bool {
        format == Format::Bf16 || layout_for(format, precision) != Layout::Bf16
    }

    /// The values of one row, as the packed matrix has them: an embedding from a tied output head.
    ///
    /// # Panics
    /// If there is no such row or `out` is not `columns` long.
    pub fn row_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.columns, "a row has as many numbers as the matrix has columns");
        self.layout.row(self.panel(row / LANES, 1), row % LANES, out);
    }

    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// `count` neighbouring panels.
    pub(crate) fn panel(&self, index: usize, count: usize) -> &[u8] {
        &self.packed()[index * self.panel_bytes..(index + count) * self.panel_bytes]
    }
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own(memory) => memory.fmt(formatter),
            Self::Shared(_, range) => write!(formatter, "Shared({} bytes)", range.len()),
        }
    }
}

/// Bytes of a panel, and of all.
fn sizes(layout: Layout, rows: usize, columns: usize) -> Result<(usize, usize)> {
    let panel = layout.panel_bytes(columns).filter(|_| rows > 0 && columns > 0);
    let size = panel.and_then(|panel| Some((panel, panel.checked_mul(rows.div_ceil(LANES))?)));
    size.ok_or(Error::Shape { what: "a matrix", rows, columns })
}

fn layout_for(format: Format, precision: Precision) -> Layout {
    match (precision, format) {
        (_, Format::Bf16) => Layout::Bf16,
        (Precision::Exact, _) => Layout::F32,
        (Precision::Fast, Format::Q8_0 | Format::Q5_0 | Format::Iq4Nl) => Layout::Q8,
        (Precision::Fast, Format::Q4_0) => Layout::Q4,
        (Precision::Fast, Format::Q4K) => Layout::Q4K,
        (Precision::Fast, Format::Q5K) => Layout::Q5K,
        (Precision::Fast, Format::Q6K) => Layout::Q6K,
        (Precision::Fast, _) => Layout::Bf16,
    }
}
