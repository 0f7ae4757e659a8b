//! A Hugging Face folder: configuration, tokenizer and safetensors, as transformers and its kin read it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use std::ops::Range;

use kernels::Format;
use serde_json::{Map, Value, json};

use super::layout::{Extras, Slot, slots, tower_slots};
use super::numbers::{Sink, write_piece};
use super::pieces::Pieces;
use super::recipe::{format, stored_format};
use super::{Container, Order, Written, at, sync, texts};
use crate::config::Architecture;
use crate::weights::size_bytes;
use crate::{Checkpoint, Error, Predictor, Result};

/// One tensor of the folder: a slot, or one of its experts.
struct Piece<'a> {
    slot: &'a Slot,
    indices: Range<usize>,
    name: String,
    shape: Vec<u64>,
    format: Format,
    size_bytes: u64,
}

pub(super) fn write(
    checkpoint: &Checkpoint,
    order: &Order<'_>,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Written> {
    if !order.recipe.fits(order.container) {
        return Err(Error::unsupported("the format", format!("{:?}", order.recipe), "safetensors hold plain numbers"));
    }
    let config = &checkpoint.config;
    let extras = Extras { head: checkpoint.has_head(), predictor: Predictor::is_in(checkpoint) };
    let mut slots = slots(config, extras, Container::Folder);
    slots.extend(tower_slots(config, Container::Folder));
    let source = Pieces { checkpoint, container: Container::Folder };
    let mut written = Written::default();
    let mut pieces = Vec::new();
    for slot in &slots {
        let format = format(source, order, slot, stored_format(source, slot)?);
        let parts = match slot.is_fused() {
            true => vec![(slot.pieces(), slot.whole_shape())],
            false => {
                let shape: Vec<u64> = slot.shape.iter().map(|&size| size as u64).collect();
                slot.pieces().map(|index| (index..index + 1, shape.clone())).collect()
            }
        };
        for (indices, shape) in parts {
            let size_bytes = size_bytes(format, &shape).expect("plain numbers fill any row") as u64;
            written.count(format, size_bytes, shape.iter().product());
            let name = raw_name(config.architecture, slot, indices.start);
            pieces.push(Piece { slot, indices, name, shape, format, size_bytes });
        }
    }
    std::fs::create_dir(path).map_err(at(path))?;
    texts::write(checkpoint, &written, path)?;
    let shards = shards(&pieces, order.shard_bytes_max);
    let (mut done, all) = (0, written.numbers);
    let mut map = Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        map.extend(shard.iter().map(|piece| (piece.name.clone(), Value::from(file.as_str()))));
        let mut told = |numbers| {
            done += numbers;
            progress(done, all);
        };
        write_shard(source, order, shard, &path.join(file), &mut told)?;
    }
    if shards.len() > 1 {
        let index = json!({"metadata": {"total_size": written.size_bytes}, "weight_map": map});
        texts::put_json(&path.join("model.safetensors.index.json"), &index)?;
    }
    sync(path)?;
    Ok(written)
}

/// As the published files call it.
fn raw_name(architecture: Architecture, slot: &Slot, index: usize) -> String {
    let name = match (slot.experts, slot.stem().rsplit_once('.')) {
        (Some(_), Some((mixture, part))) if !slot.is_fused() => format!("{mixture}.{index}.{part}.weight"),
        _ => slot.name.clone(),
    };
    let is_beside = name.starts_with("lm_head.") || name.starts_with("mtp.");
    match (is_beside, architecture.has_vision() && !name.starts_with("visual.")) {
        (true, _) => name,
        (false, true) => format!("model.language_model.{name}"),
        (false, false) => format!("model.{name}"),
    }
}

/// The pieces of each file.
fn shards<'a, 'b>(pieces: &'b [Piece<'a>], bytes_max: u64) -> Vec<&'b [Piece<'a>]> {
    let mut shards = Vec::new();
    let (mut first, mut size_bytes) = (0, 0);
    for (at, piece) in pieces.iter().enumerate() {
        if at > first && size_bytes + piece.size_bytes > bytes_max {
            shards.push(&pieces[first..at]);
            (first, size_bytes) = (at, 0);
        }
        size_bytes += piece.size_bytes;
    }
    shards.push(&pieces[first..]);
    shards
}

fn write_shard(
    source: Pieces<'_>,
    order: &Order<'_>,
    shard: &[Piece<'_>],
    path: &Path,
    told: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut start = 0;
    for piece in shard {
        let end = start + piece.size_bytes;
        let dtype = match piece.format {
            Format::F16 => "F16",
            Format::Bf16 => "BF16",
            _ => "F32",
        };
        let entry = json!({"dtype": dtype, "shape": piece.shape, "data_offsets": [start, end]});
        header.insert(piece.name.clone(), entry);
        start = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let file = File::create_new(path).map_err(at(path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| out.write_all(&header)).map_err(at(path))?;
    for piece in shard {
        let mut sink = Sink { out: &mut out, path, threads: order.threads, told };
        for index in piece.indices.clone() {
            write_piece(source, piece.slot, index, piece.format, None, &mut sink)?;
        }
    }
    let file = out.into_inner().map_err(|error| at(path)(error.into_error()))?;
    file.sync_all().map_err(at(path))
}
