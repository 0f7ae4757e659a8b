//! Writing GGUF files, version 3: metadata and the list of tensors first, then the numbers, tensor by tensor.

use std::io::Write;

use kernels::Format;

use super::{ALIGNMENT_DEFAULT, code_of};
use crate::weights::size_bytes;
use crate::{Error, Result, Texts};

/// A metadata value in just the type that readers expect of its key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Strings(Texts),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Bools(Vec<bool>),
}

impl Entry {
    fn type_code(&self) -> u32 {
        match self {
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Strings(_) | Self::I32s(_) | Self::F32s(_) | Self::Bools(_) => 9,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U32(number) => out.extend(number.to_le_bytes()),
            Self::I32(number) => out.extend(number.to_le_bytes()),
            Self::F32(number) => out.extend(number.to_le_bytes()),
            Self::Bool(truth) => out.push(u8::from(*truth)),
            Self::String(text) => string(out, text),
            Self::Strings(list) => {
                out.extend(8_u32.to_le_bytes());
                out.extend((list.len() as u64).to_le_bytes());
                list.iter().for_each(|text| string(out, text));
            }
            Self::I32s(list) => {
                out.extend(5_u32.to_le_bytes());
                out.extend((list.len() as u64).to_le_bytes());
                list.iter().for_each(|number| out.extend(number.to_le_bytes()));
            }
            Self::F32s(list) => {
                out.extend(6_u32.to_le_bytes());
                out.extend((list.len() as u64).to_le_bytes());
                list.iter().for_each(|number| out.extend(number.to_le_bytes()));
            }
            Self::Bools(list) => {
                out.extend(7_u32.to_le_bytes());
                out.extend((list.len() as u64).to_le_bytes());
                out.extend(list.iter().map(|&truth| u8::from(truth)));
            }
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A tensor that will be written.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// As GGUF calls it.
    pub(crate) name: String,
    pub(crate) format: Format,
    /// Outermost first.
    pub(crate) shape: Vec<u64>,
}

impl Planned {
    /// # Errors
    /// [`Error::UnsupportedType`] if rows are not whole blocks.
    pub(crate) fn size_bytes(&self) -> Result<u64> {
        let size = size_bytes(self.format, &self.shape);
        size.map(|size| size as u64).ok_or_else(|| {
            let found = format!("{:?} in rows of {:?}", self.format, self.shape.last());
            Error::UnsupportedType { name: self.name.clone(), found }
        })
    }
}

/// Everything before the numbers, with the padding.
///
/// # Errors
/// As [`Planned::size_bytes`].
pub(crate) fn head(entries: &[(String, Entry)], tensors: &[Planned]) -> Result<Vec<u8>> {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    for (key, entry) in entries {
        string(&mut out, key);
        out.extend(entry.type_code().to_le_bytes());
        entry.write(&mut out);
    }
    let mut offset = 0_u64;
    for tensor in tensors {
        string(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| out.extend(size.to_le_bytes()));
        out.extend(code_of(tensor.format).to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = (offset + tensor.size_bytes()?).next_multiple_of(ALIGNMENT_DEFAULT);
    }
    let padded = (out.len() as u64).next_multiple_of(ALIGNMENT_DEFAULT);
    out.resize(padded as usize, 0);
    Ok(out)
}

/// The zeros behind a tensor of so many bytes.
///
/// # Errors
/// What the writer says.
pub(crate) fn pad(out: &mut dyn Write, size_bytes: u64) -> std::io::Result<()> {
    let rest = size_bytes.next_multiple_of(ALIGNMENT_DEFAULT) - size_bytes;
    out.write_all(&[0; ALIGNMENT_DEFAULT as usize][..rest as usize])
}
