//! Tensors from safetensors files: one, or shards with an index.
//!
//! Format: <https://huggingface.co/docs/safetensors>. The crate `safetensors` checks the header: its size, that every
//! range lies inside the file, that ranges neither overlap nor leave holes, and that shapes fit ranges.

use std::collections::BTreeSet;
use std::path::Path;

use kernels::Format;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::weights::{Packed, PackedKind, Tensor, Weights};
use crate::{Error, FileBytes, Result};

/// Shards in one index. The largest published checkpoints have under 300.
const SHARDS_MAX: usize = 10_000;
/// Bytes of an index file.
const INDEX_BYTES_MAX: u64 = 256 << 20;

/// Adds the tensors of one file.
///
/// # Errors
/// [`Error::CorruptFile`] if the header does not fit the file.
pub fn read(file_name: &str, file: &FileBytes, weights: &mut Weights) -> Result<()> {
    let (header_bytes, metadata) =
        SafeTensors::read_metadata(file).map_err(|why| Error::corrupt(file_name, why.to_string()))?;
    // The header is preceded by its length, eight bytes.
    let data_start = header_bytes + 8;
    let data_bytes = file.len().saturating_sub(data_start);
    for (raw_name, info) in metadata.tensors() {
        let name = canonical(&raw_name);
        let (start, end) = info.data_offsets;
        if start > end || end > data_bytes {
            return Err(Error::corrupt(
                file_name,
                format!("tensor {raw_name} lies at {start}..{end}, the file has {data_bytes} bytes of data"),
            ));
        }
        let mut shape: Vec<u64> = info.shape.iter().map(|&size| size as u64).collect();
        if shape.is_empty() {
            shape.push(1);
        }
        let range = data_start + start..data_start + end;
        if let Some(format) = format_of(info.dtype) {
            weights.insert(Tensor::new(name, format, shape, file.clone(), range)?)?;
        } else if let Some(kind) = packed_kind_of(info.dtype) {
            weights.insert_packed(Packed::new(name, kind, shape, file.clone(), range)?)?;
        } else {
            weights.insert_unsupported(name.to_owned(), format!("{:?}", info.dtype));
        }
    }
    Ok(())
}

/// The name without the prefixes that some families write and others do not.
fn canonical(raw: &str) -> &str {
    let name = raw.strip_prefix("model.").unwrap_or(raw);
    name.strip_prefix("language_model.").unwrap_or(name)
}

fn packed_kind_of(dtype: Dtype) -> Option<PackedKind> {
    if dtype == Dtype::I32 {
        Some(PackedKind::I32)
    } else if dtype == Dtype::F8_E4M3 {
        Some(PackedKind::F8E4m3)
    } else {
        None
    }
}

fn format_of(dtype: Dtype) -> Option<Format> {
    if dtype == Dtype::F32 {
        Some(Format::F32)
    } else if dtype == Dtype::F16 {
        Some(Format::F16)
    } else if dtype == Dtype::BF16 {
        Some(Format::Bf16)
    } else {
        None
    }
}

/// Opens all safetensors of a folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
///
/// # Errors
/// If there is neither, a shard is missing, a tensor is in no shard, or a file is corrupt.
pub fn open_folder(folder: &Path) -> Result<Weights> {
    let index_path = folder.join("model.safetensors.index.json");
    if index_path.is_file() {
        return open_shards(folder, &index_path);
    }
    let single = folder.join("model.safetensors");
    if !single.is_file() {
        let why = "neither model.safetensors nor model.safetensors.index.json is there".to_owned();
        return Err(Error::NotAModel { path: folder.to_owned(), why });
    }
    let mut weights = Weights::default();
    read(&single.display().to_string(), &FileBytes::map(&single)?, &mut weights)?;
    Ok(weights)
}

fn open_shards(folder: &Path, index_path: &Path) -> Result<Weights> {
    let name = index_path.display().to_string();
    let index: Value = read_json(index_path, INDEX_BYTES_MAX)?;
    let Some(map) = index.get("weight_map").and_then(Value::as_object) else {
        return Err(Error::corrupt(&name, "it has no object weight_map"));
    };
    let mut shards = BTreeSet::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().ok_or_else(|| Error::corrupt(&name, format!("{tensor} names no file")))?;
        if Path::new(shard).components().count() != 1 || shard == ".." {
            return Err(Error::corrupt(&name, format!("{tensor} lies in {shard:?}, which is not a plain file name")));
        }
        shards.insert(shard);
    }
    if shards.len() > SHARDS_MAX {
        return Err(Error::corrupt(&name, format!("{} shards, {SHARDS_MAX} allowed", shards.len())));
    }
    let mut weights = Weights::default();
    for shard in shards {
        let path = folder.join(shard);
        read(&path.display().to_string(), &FileBytes::map(&path)?, &mut weights)?;
    }
    for tensor in map.keys() {
        if !weights.contains(canonical(tensor)) {
            return Err(Error::corrupt(&name, format!("no shard holds tensor {tensor}")));
        }
    }
    Ok(weights)
}

/// Reads a JSON file that is at most `bytes_max` long.
///
/// # Errors
/// [`Error::Read`] or [`Error::CorruptFile`].
pub fn read_json(path: &Path, bytes_max: u64) -> Result<Value> {
    let text = read_limited(path, bytes_max)?;
    serde_json::from_slice(&text).map_err(|why| Error::corrupt(&path.display().to_string(), why.to_string()))
}

/// Reads a whole file that is at most `bytes_max` long.
///
/// # Errors
/// [`Error::Read`] or [`Error::CorruptFile`].
pub fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let wrap = |source| Error::Read { path: path.to_owned(), source };
    let size_bytes = std::fs::metadata(path).map_err(wrap)?.len();
    if size_bytes > bytes_max {
        let why = format!("it has {size_bytes} bytes, {bytes_max} allowed");
        return Err(Error::corrupt(&path.display().to_string(), why));
    }
    std::fs::read(path).map_err(wrap)
}
