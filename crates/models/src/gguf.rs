//! GGUF files, versions 2 and 3, little-endian; [`write`] makes them.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Everything is little-endian; a *string* is a
//! `u64` length and that many bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `GGUF` |
//! | 4 | version, 2 or 3 |
//! | 8 | number of tensors |
//! | 8 | number of metadata entries |
//! | … | entries: key (string), type (`u32`), value; an array is element type (`u32`), count (`u64`), elements |
//! | … | tensors: name (string), dimensions (`u32`), sizes (`u64`, innermost first), type (`u32`), offset (`u64`) |
//! | … | zeros up to the alignment (`general.alignment`, else 32) |
//! | … | data; offsets count from here |
//!
//! Every count is checked against the bytes that are left before anything is allocated for it.

pub(crate) mod names;
mod reader;
pub(crate) mod write;

use std::collections::BTreeMap;

use kernels::Format;

use crate::weights::{Tensor, Weights, size_bytes};
use crate::{Error, FileBytes, Result, Texts};
use reader::Reader;

/// Metadata entries in one file; published files have under 100.
const ENTRIES_MAX: u64 = 100_000;
/// Tensors in one file; a 94-layer model with unfused experts would have 40,000.
const TENSORS_MAX: u64 = 1_000_000;
/// Dimensions of a tensor.
const DIMENSIONS_MAX: u32 = 4;
/// Depth of arrays in arrays.
const ARRAY_DEPTH_MAX: u32 = 4;
/// The type of texts among values.
const STRING: u32 = 8;
const ALIGNMENT_DEFAULT: u64 = 32;
/// Largest alignment that makes sense: a huge page.
const ALIGNMENT_MAX: u64 = 1 << 30;

/// A metadata value. Integers are widened, so that a reader need not care how a writer stored them.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Either float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text; bytes that are not UTF-8 were replaced.
    String(String),
    /// A list of one type.
    Array(Array),
}

/// A list of one type, which stays where it is in the file: a vocabulary is as long as all other entries together are
/// short. All of it was looked at when the file was read.
#[derive(Clone)]
pub struct Array {
    file: FileBytes,
    start: usize,
    element: u32,
    len: usize,
}

impl Array {
    /// How many items it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its items, if they are texts.
    #[must_use]
    pub fn strings(&self) -> Option<Texts> {
        let mut reader = Reader::new("", &self.file).at(self.start);
        let texts = (0..self.len).map_while(|_| reader.string_bytes("").ok());
        (self.element == STRING || self.is_empty()).then(|| texts.map(String::from_utf8_lossy).collect())
    }

    /// Its items; fewer if somebody has written to the file since.
    pub fn iter(&self) -> impl Iterator<Item = Value> {
        let mut reader = Reader::new("", &self.file).at(self.start);
        (0..self.len).map_while(move |_| read_value(&mut reader, self.element, "", 0).ok())
    }
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Array {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

/// The metadata of a file, by key.
#[derive(Debug, Clone, Default)]
pub struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    /// The entry of this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The entry as text.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entry as a count.
    #[must_use]
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The entry as a number.
    #[must_use]
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(number) => Some(*number),
            Value::Unsigned(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// The entry as a truth value.
    #[must_use]
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The entry as a list.
    #[must_use]
    pub fn array(&self, key: &str) -> Option<&Array> {
        match self.get(key)? {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The items of a list; none if there is no such entry.
    #[must_use]
    pub fn items(&self, key: &str) -> Vec<Value> {
        self.array(key).into_iter().flat_map(Array::iter).collect()
    }

    /// The entry as a list of texts; `None` if it is something else.
    #[must_use]
    pub fn strings(&self, key: &str) -> Option<Texts> {
        self.array(key)?.strings()
    }

    /// All keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

struct TensorInfo {
    raw_name: String,
    shape: Vec<u64>,
    type_code: u32,
    offset: u64,
}

/// Reads metadata and the places of all tensors. `file_name` is for messages.
///
/// # Errors
/// [`Error::CorruptFile`] for anything that does not fit the format or the file.
pub fn read(file_name: &str, file: &FileBytes) -> Result<(Metadata, Weights)> {
    let mut reader = Reader::new(file_name, file);
    if reader.take(4, "the magic number")? != b"GGUF" {
        return Err(Error::corrupt(file_name, "it does not begin with GGUF"));
    }
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(Error::corrupt(file_name, format!("its version is {version}, supported are 2 and 3")));
    }
    let tensors = reader.count("tensors", TENSORS_MAX)?;
    let entries = reader.count("metadata entries", ENTRIES_MAX)?;
    let mut metadata = Metadata::default();
    for _ in 0..entries {
        let key = reader.string("a metadata key")?;
        let type_code = reader.u32(&key)?;
        let value = read_value(&mut reader, type_code, &key, 0)?;
        if metadata.0.insert(key.clone(), value).is_some() {
            return Err(Error::corrupt(file_name, format!("two metadata entries are called {key}")));
        }
    }
    let infos = (0..tensors).map(|_| read_info(&mut reader)).collect::<Result<Vec<_>>>()?;
    let alignment = metadata.unsigned("general.alignment").unwrap_or(ALIGNMENT_DEFAULT);
    if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
        return Err(Error::corrupt(file_name, format!("general.alignment is {alignment}")));
    }
    let data_start = (reader.position() as u64).next_multiple_of(alignment);
    let weights = place(file_name, file, &infos, data_start)?;
    Ok((metadata, weights))
}

fn read_value(reader: &mut Reader<'_>, type_code: u32, key: &str, depth: u32) -> Result<Value> {
    Ok(match type_code {
        0 => Value::Unsigned(u64::from(reader.array::<1>(key)?[0])),
        1 => Value::Signed(i64::from(i8::from_le_bytes(reader.array(key)?))),
        2 => Value::Unsigned(u64::from(u16::from_le_bytes(reader.array(key)?))),
        3 => Value::Signed(i64::from(i16::from_le_bytes(reader.array(key)?))),
        4 => Value::Unsigned(u64::from(u32::from_le_bytes(reader.array(key)?))),
        5 => Value::Signed(i64::from(i32::from_le_bytes(reader.array(key)?))),
        6 => Value::Float(f64::from(f32::from_le_bytes(reader.array(key)?))),
        7 => Value::Bool(reader.array::<1>(key)?[0] != 0),
        STRING => Value::String(reader.string(key)?),
        9 => {
            if depth == ARRAY_DEPTH_MAX {
                return Err(reader.corrupt(&format!("{key} nests arrays deeper than {ARRAY_DEPTH_MAX}")));
            }
            let element = reader.u32(key)?;
            // Every element takes at least one byte.
            let len = usize::try_from(reader.count(key, reader.left() as u64)?).expect("no more than bytes");
            let start = reader.position();
            skip(reader, element, len, key, depth + 1)?;
            Value::Array(Array { file: reader.file().clone(), start, element, len })
        }
        10 => Value::Unsigned(u64::from_le_bytes(reader.array(key)?)),
        11 => Value::Signed(i64::from_le_bytes(reader.array(key)?)),
        12 => Value::Float(f64::from_le_bytes(reader.array(key)?)),
        other => return Err(reader.corrupt(&format!("{key} has the unknown value type {other}"))),
    })
}

/// Looks at some values of one type.
fn skip(reader: &mut Reader<'_>, type_code: u32, count: usize, key: &str, depth: u32) -> Result<()> {
    let size_bytes = match type_code {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        STRING => return (0..count).try_for_each(|_| reader.string_bytes(key).map(drop)),
        // Lists, and what is refused.
        _ => return (0..count).try_for_each(|_| read_value(reader, type_code, key, depth).map(drop)),
    };
    reader.take(count.saturating_mul(size_bytes), key).map(drop)
}

fn read_info(reader: &mut Reader<'_>) -> Result<TensorInfo> {
    let raw_name = reader.string("a tensor name")?;
    let dimensions = reader.u32(&raw_name)?;
    if dimensions == 0 || dimensions > DIMENSIONS_MAX {
        let why = format!("tensor {raw_name} has {dimensions} dimensions, 1 to {DIMENSIONS_MAX} allowed");
        return Err(reader.corrupt(&why));
    }
    let mut shape = (0..dimensions).map(|_| reader.u64(&raw_name)).collect::<Result<Vec<_>>>()?;
    shape.reverse();
    let type_code = reader.u32(&raw_name)?;
    let offset = reader.u64(&raw_name)?;
    Ok(TensorInfo { raw_name, shape, type_code, offset })
}

/// Turns tensor entries into tensors, and refuses those that overlap or lie outside the file.
fn place(file_name: &str, file: &FileBytes, infos: &[TensorInfo], data_start: u64) -> Result<Weights> {
    let mut weights = Weights::default();
    let mut ranges = Vec::with_capacity(infos.len());
    for info in infos {
        let name = names::canonical(&info.raw_name);
        let Some(format) = format_of(info.type_code) else {
            weights.insert_unsupported(name, format!("GGML type {}", info.type_code));
            continue;
        };
        let outside = || {
            let why = format!("tensor {} ({format:?}, {:?}) does not lie inside the file", info.raw_name, info.shape);
            Error::corrupt(file_name, why)
        };
        let size = size_bytes(format, &info.shape).ok_or_else(outside)?;
        let start = data_start.checked_add(info.offset).and_then(|start| usize::try_from(start).ok());
        let start = start.ok_or_else(outside)?;
        let end = start.checked_add(size).filter(|&end| end <= file.len()).ok_or_else(outside)?;
        ranges.push((start, end, &info.raw_name));
        weights.insert(Tensor::new(&name, format, info.shape.clone(), file.clone(), start..end)?)?;
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if pair[0].1 > pair[1].0 {
            return Err(Error::corrupt(file_name, format!("tensors {} and {} overlap", pair[0].2, pair[1].2)));
        }
    }
    Ok(weights)
}

/// The formats by their number in `ggml.h`.
const CODES: [(u32, Format); 25] = [
    (0, Format::F32),
    (1, Format::F16),
    (2, Format::Q4_0),
    (3, Format::Q4_1),
    (6, Format::Q5_0),
    (7, Format::Q5_1),
    (8, Format::Q8_0),
    (10, Format::Q2K),
    (11, Format::Q3K),
    (12, Format::Q4K),
    (13, Format::Q5K),
    (14, Format::Q6K),
    (16, Format::Iq2Xxs),
    (17, Format::Iq2Xs),
    (18, Format::Iq3Xxs),
    (19, Format::Iq1S),
    (20, Format::Iq4Nl),
    (21, Format::Iq3S),
    (22, Format::Iq2S),
    (23, Format::Iq4Xs),
    (29, Format::Iq1M),
    (30, Format::Bf16),
    (34, Format::Tq1_0),
    (35, Format::Tq2_0),
    (39, Format::Mxfp4),
];

fn format_of(type_code: u32) -> Option<Format> {
    CODES.iter().find(|(code, _)| *code == type_code).map(|(_, format)| *format)
}

fn code_of(format: Format) -> u32 {
    let known = CODES.iter().find(|(_, known)| *known == format);
    known.expect("every format is one of GGUF's").0
}

#[cfg(test)]
mod tests;
