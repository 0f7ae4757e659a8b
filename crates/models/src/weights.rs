//! Tensors by one canonical name, whatever file they came from.
//!
//! The canonical name is that of the published Hugging Face files without the prefix `model.`, for example
//! `layers.3.self_attn.q_proj.weight`. GGUF names are translated when the file is opened.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kernels::Format;

use crate::mmap::MappedFile;
use crate::{Error, FileBytes, Result};

/// A tensor inside a file. Cheap to clone; the bytes stay where they are.
#[derive(Debug, Clone)]
pub struct Tensor {
    name: Arc<str>,
    format: Format,
    shape: Vec<u64>,
    file: FileBytes,
    range: Range<usize>,
}

impl Tensor {
    /// A tensor whose bytes are `file[range]`.
    ///
    /// `shape` lists the outermost dimension first.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] if the shape needs another number of bytes, or the range lies outside the file.
    pub fn new(name: &str, format: Format, shape: Vec<u64>, file: FileBytes, range: Range<usize>) -> Result<Self> {
        let expected = size_bytes(format, &shape);
        let found = range.end.checked_sub(range.start);
        if found.is_none() || expected != found || range.end > file.len() {
            return Err(Error::corrupt(
                name,
                format!(
                    "shape {shape:?} of {format:?} needs {expected:?} bytes, the file says {range:?} of {}",
                    file.len()
                ),
            ));
        }
        Ok(Self { name: name.into(), format, shape, file, range })
    }

    /// The canonical name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How numbers are stored.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The stored bytes, row by row.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }

    /// The file that holds the stored bytes, and where in it they begin; `None` if they lie in no file.
    pub(crate) fn in_file(&self) -> Option<(&Arc<MappedFile>, u64)> {
        match &self.file {
            FileBytes::Mapped(file) => Some((file, self.range.start as u64)),
            FileBytes::Static(_) | FileBytes::Owned(_) => None,
        }
    }

    /// Lets the system take the stored bytes out of memory: they were packed, and come from the file if they are asked
    /// for again.
    pub(crate) fn release(&self) {
        self.file.release(self.range.clone());
    }

    /// As [`Self::release`], for some of the bytes.
    pub(crate) fn release_part(&self, part: Range<usize>) {
        self.file.release(self.range.start + part.start..self.range.start + part.end);
    }

    /// The same tensor, if it has this shape.
    ///
    /// # Errors
    /// [`Error::WrongShape`].
    pub fn expect_shape(self, expected: &[usize]) -> Result<Self> {
        if self.shape.len() == expected.len() && self.shape.iter().zip(expected).all(|(&a, &b)| a == b as u64) {
            return Ok(self);
        }
        let expected = expected.iter().map(|&size| size as u64).collect();
        Err(Error::WrongShape { name: self.name.to_string(), found: self.shape, expected })
    }

    /// Some rows of a matrix.
    ///
    /// # Errors
    /// [`Error::WrongShape`] if it is no matrix or has no such rows.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        self.part(&[], rows)
    }

    /// The same numbers as a tensor of another shape.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] if that shape has another size.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Self> {
        let shape = shape.iter().map(|&size| size as u64).collect();
        Self::new(&self.name, self.format, shape, self.file.clone(), self.range.clone())
    }

    /// The rows of these numbers in this order, as a matrix of its own.
    ///
    /// # Errors
    /// [`Error::WrongShape`] if it is no matrix or has no such row.
    pub fn gather_rows(&self, rows: impl Iterator<Item = usize>) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut count = 0;
        for row in rows {
            bytes.extend_from_slice(self.rows(row..row + 1)?.bytes());
            count += 1;
        }
        let (range, width) = (0..bytes.len(), self.shape.last().copied().unwrap_or(0));
        Self::new(&self.name, self.format, vec![count, width], FileBytes::Owned(bytes.into()), range)
    }

    /// Some rows of entry `index` of a three-dimensional tensor, as a matrix.
    ///
    /// # Errors
    /// [`Error::WrongShape`] if the tensor has no such part.
    pub fn slice(&self, index: usize, rows: Range<usize>) -> Result<Self> {
        self.part(&[index], rows)
    }

    fn part(&self, entry: &[usize], rows: Range<usize>) -> Result<Self> {
        let wrong = || {
            let mut expected: Vec<u64> = entry.iter().map(|&index| index as u64 + 1).collect();
            expected.extend([rows.end as u64, self.shape.last().copied().unwrap_or(0)]);
            Error::WrongShape { name: self.name.to_string(), found: self.shape.clone(), expected }
        };
        let (before, height, width) = match (entry, self.shape.as_slice()) {
            ([], &[height, width]) => (0, height, width),
            (&[index], &[outer, height, width]) if (index as u64) < outer => (index, height, width),
            _ => return Err(wrong()),
        };
        if rows.start > rows.end || rows.end as u64 > height {
            return Err(wrong());
        }
        let row_bytes = size_bytes(self.format, &[width]).ok_or_else(wrong)?;
        let first = self.range.start + (before * height as usize + rows.start) * row_bytes;
        let range = first..first + rows.len() * row_bytes;
        Self::new(&self.name, self.format, vec![rows.len() as u64, width], self.file.clone(), range)
    }

    /// All numbers as `f32`.
    ///
    /// # Errors
    /// [`Error::Pack`] if the bytes are not whole blocks.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let count = self.shape.iter().product::<u64>() as usize;
        let mut numbers = vec![0.0; count];
        kernels::dequantize(self.format, self.bytes(), &mut numbers)
            .map_err(|source| Error::Pack { name: self.name.to_string(), source })?;
        Ok(numbers)
    }
}

/// Bytes of a tensor, `None` if the shape overflows or its rows are not whole blocks.
#[must_use]
pub fn size_bytes(format: Format, shape: &[u64]) -> Option<usize> {
    let columns = usize::try_from(*shape.last()?).ok()?;
    let row_bytes = format.row_bytes(columns).ok()?;
    let rows = shape[..shape.len() - 1].iter().try_fold(1_u64, |rows, &size| rows.checked_mul(size))?;
    row_bytes.checked_mul(usize::try_from(rows).ok()?)
}

/// What a [`Packed`] tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedKind {
    /// 32-bit words, as a rule of eight four-bit numbers each.
    I32,
    /// FP8 numbers whose scales lie in another tensor.
    F8E4m3,
}

/// A tensor that means something only together with others: a part of a quantised matrix.
#[derive(Debug, Clone)]
pub struct Packed {
    name: Arc<str>,
    kind: PackedKind,
    shape: Vec<u64>,
    file: FileBytes,
    range: Range<usize>,
}

impl Packed {
    /// A tensor whose bytes are `file[range]`.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] if the shape needs another number of bytes, or the range lies outside the file.
    pub fn new(name: &str, kind: PackedKind, shape: Vec<u64>, file: FileBytes, range: Range<usize>) -> Result<Self> {
        let element = if kind == PackedKind::I32 { 4_u64 } else { 1 };
        let expected = shape.iter().try_fold(element, |size, &dimension| size.checked_mul(dimension));
        let found = range.end.checked_sub(range.start).filter(|_| range.end <= file.len());
        if found.is_none() || expected != found.map(|found| found as u64) {
            let why = format!("shape {shape:?} of {kind:?} does not fit {range:?} of {} bytes", file.len());
            return Err(Error::corrupt(name, why));
        }
        Ok(Self { name: name.into(), kind, shape, file, range })
    }

    /// The stored bytes, if kind and shape are these.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] or [`Error::WrongShape`].
    pub fn expect(&self, kind: PackedKind, shape: &[usize]) -> Result<&[u8]> {
        if self.kind != kind {
            return Err(Error::UnsupportedType { name: self.name.to_string(), found: format!("{:?}", self.kind) });
        }
        let expected: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        if self.shape != expected {
            return Err(Error::WrongShape { name: self.name.to_string(), found: self.shape.clone(), expected });
        }
        Ok(&self.file[self.range.clone()])
    }

    /// Dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// As [`Tensor::in_file`].
    pub(crate) fn in_file(&self) -> Option<(&Arc<MappedFile>, u64)> {
        match &self.file {
            FileBytes::Mapped(file) => Some((file, self.range.start as u64)),
            FileBytes::Static(_) | FileBytes::Owned(_) => None,
        }
    }
}

/// Every tensor of a checkpoint by canonical name.
#[derive(Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    packed: BTreeMap<String, Packed>,
    unsupported: BTreeMap<String, String>,
}

impl Weights {
    /// Adds a tensor.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] if the name is taken.
    pub fn insert(&mut self, tensor: Tensor) -> Result<()> {
        let name = tensor.name().to_owned();
        if self.tensors.insert(name.clone(), tensor).is_some() {
            return Err(Error::corrupt(&name, "two tensors have this name"));
        }
        Ok(())
    }

    /// Adds a part of a quantised matrix.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] if the name is taken.
    pub fn insert_packed(&mut self, packed: Packed) -> Result<()> {
        let name = packed.name.to_string();
        if self.tensors.contains_key(&name) || self.packed.insert(name.clone(), packed).is_some() {
            return Err(Error::corrupt(&name, "two tensors have this name"));
        }
        Ok(())
    }

    /// The part of a quantised matrix that has this name.
    #[must_use]
    pub fn packed(&self, name: &str) -> Option<Packed> {
        self.packed.get(name).cloned()
    }

    /// Stored bytes by the name of their type, for people.
    #[must_use]
    pub fn bytes_by_type(&self) -> BTreeMap<String, u64> {
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        let plain = self.tensors.values().map(|tensor| (format!("{:?}", tensor.format), tensor.range.len()));
        let packed = self.packed.values().map(|packed| (format!("{:?}", packed.kind), packed.range.len()));
        for (kind, size) in plain.chain(packed) {
            *sizes.entry(kind).or_default() += size as u64;
        }
        sizes
    }

    /// Calls those tensors otherwise for which `change` has another name.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] if the name is taken.
    pub(crate) fn rename(&mut self, change: impl Fn(&str) -> Option<String>) -> Result<()> {
        for (name, mut tensor) in std::mem::take(&mut self.tensors) {
            tensor.name = change(&name).map_or_else(|| name.as_str().into(), Into::into);
            self.insert(tensor)?;
        }
        for (name, type_name) in std::mem::take(&mut self.unsupported) {
            self.unsupported.insert(change(&name).unwrap_or(name), type_name);
        }
        Ok(())
    }

    /// Adds the tensors of another file.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] if both have one of a name.
    pub(crate) fn add(&mut self, others: Self) -> Result<()> {
        others.tensors.into_values().try_for_each(|tensor| self.insert(tensor))?;
        self.unsupported.extend(others.unsupported);
        Ok(())
    }

    /// Bytes in memory of matrices that are quantised with their scales beside them: FP8 becomes BF16, words of four
    /// bits blocks with a scale for 32. Counted are those whose names are wanted.
    pub(crate) fn packed_later_bytes(&self, of: impl Fn(&str) -> bool) -> u64 {
        let of_kind = |packed: &Packed| match packed.kind {
            PackedKind::F8E4m3 => 2 * packed.range.len() as u64,
            PackedKind::I32 => packed.range.len() as u64 / 8 * 9,
        };
        self.packed.values().filter(|packed| of(&packed.name)).map(of_kind).sum()
    }

    /// The files that the tensors lie in, each once.
    pub(crate) fn files(&self) -> Vec<&Arc<MappedFile>> {
        let plain = self.tensors.values().filter_map(Tensor::in_file);
        let mut files: Vec<_> =
            plain.chain(self.packed.values().filter_map(Packed::in_file)).map(|(file, _)| file).collect();
        files.sort_by_key(|file| file.place().0);
        files.dedup_by_key(|file| file.place().0);
        files
    }

    /// Remembers a tensor whose type cannot be read, so that asking for it names the type.
    pub fn insert_unsupported(&mut self, name: String, type_name: String) {
        self.unsupported.insert(name, type_name);
    }

    /// The tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// Names and types of tensors that cannot be read.
    pub fn unsupported(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unsupported.iter().map(|(name, type_name)| (name.as_str(), type_name.as_str()))
    }

    /// The tensor of this name, if there is one that can be read.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).cloned()
    }

    /// Whether a tensor of this name exists, readable or not.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.packed.contains_key(name) || self.unsupported.contains_key(name)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::UnsupportedType`].
    pub fn get(&self, name: &str) -> Result<Tensor> {
        if let Some(found) = self.unsupported.get(name) {
            return Err(Error::UnsupportedType { name: name.to_owned(), found: found.clone() });
        }
        if let Some(packed) = self.packed.get(name) {
            return Err(Error::UnsupportedType { name: name.to_owned(), found: format!("{:?}", packed.kind) });
        }
        self.find(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })
    }
}
