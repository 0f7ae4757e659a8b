//! One piece of a tensor as a form wants it, whichever way the checkpoint stores it.
//!
//! What only stands elsewhere is taken as it is; what is another number (a norm's weights less one, a logarithm) is
//! computed in f32.

use kernels::{Format, HeadOrder};

use super::Container;
use super::layout::{Kind, Slot, head_order, norm_offset};
use crate::loader::{finite, stored, transposed};
use crate::weights::{Tensor, Weights};
use crate::{Checkpoint, Error, FileBytes, Result};

/// Where a model's tensors come from, and which form they are for.
#[derive(Clone, Copy)]
pub(super) struct Pieces<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) container: Container,
}

impl Pieces<'_> {
    /// The tensor of the file that holds a piece as it is, alone or beside others.
    pub(super) fn in_file(&self, slot: &Slot, index: usize) -> Option<Tensor> {
        let found = self.named(slot.stem()).or_else(|| self.weights().find(&slot.name));
        if found.is_some() || slot.experts.is_none() {
            return found;
        }
        let (mixture, part) = slot.stem().rsplit_once('.')?;
        let fused = self.named(&format!("{mixture}.gate_up_proj")).filter(|_| slot.kind != Kind::Down);
        let part = if slot.kind == Kind::GateUp { "gate_proj" } else { part };
        fused
            .or_else(|| self.named(&format!("{mixture}.{part}")))
            .or_else(|| self.named(&format!("{mixture}.{index}.{part}")))
    }

    /// One piece of a slot.
    ///
    /// # Errors
    /// What reading a tensor can say.
    pub(super) fn piece(&self, slot: &Slot, index: usize) -> Result<Tensor> {
        let shape = slot.shape.as_slice();
        match slot.kind {
            _ if slot.experts.is_some() => self.expert(slot, index),
            Kind::Norm => self.norm(slot),
            Kind::Opening => {
                let tensor = self.weights().get(&slot.name)?;
                let stored: &[usize] =
                    if tensor.shape().len() == 1 { &shape[shape.len() - 1..] } else { &[1, slot.columns()] };
                finite(tensor.expect_shape(stored)?)?.reshaped(shape)
            }
            Kind::Mixed | Kind::MixedGate | Kind::MixedGrouped => self.mixed(slot),
            Kind::HeadGate => self.heads(&self.matrix(slot.stem(), shape)?, 1, 0),
            Kind::HeadBias => self.vector_of_heads(&slot.name, |number| number),
            Kind::Rates => self.rates(slot, "A_log", |logarithm| -logarithm.exp()),
            Kind::Logarithms => self.rates(slot, "rates", logarithm),
            Kind::Taps => self.taps(slot),
            Kind::MixedOutput => self.output(slot),
            Kind::Patch | Kind::PatchFrame => self.patch(slot),
            Kind::Tower => {
                let (stem, shape) = (slot.stem(), slot.shape.as_slice());
                self.matrix(stem, shape)
            }
            Kind::Router | Kind::PlainNorm | Kind::TowerPlain | Kind::HeadGates => {
                finite(self.weights().get(&slot.name)?.expect_shape(shape)?)
            }
            _ => self.matrix(slot.stem(), shape),
        }
    }

    fn weights(&self) -> &Weights {
        &self.checkpoint.weights
    }

    fn named(&self, stem: &str) -> Option<Tensor> {
        self.weights().find(&format!("{stem}.weight")).or_else(|| self.weights().find(stem))
    }

    fn matrix(&self, stem: &str, shape: &[usize]) -> Result<Tensor> {
        stored(self.checkpoint, stem, shape[0], shape[1])
    }

    fn norm(&self, slot: &Slot) -> Result<Tensor> {
        let config = &self.checkpoint.config;
        let tensor = finite(self.weights().get(&slot.name)?.expect_shape(&slot.shape)?)?;
        let less = config.norm_offset - norm_offset(config, self.container);
        if less == 0.0 {
            return Ok(tensor);
        }
        Ok(computed(&slot.name, &slot.shape, tensor.to_f32()?.into_iter().map(|weight| weight + less)))
    }
}

/// A piece of a mixture.
impl Pieces<'_> {
    fn expert(&self, slot: &Slot, index: usize) -> Result<Tensor> {
        let (mixture, _) = slot.stem().rsplit_once('.').ok_or(Error::MissingTensor { name: slot.name.clone() })?;
        let count = slot.experts.unwrap_or(1);
        let [mut rows, mut columns] = [0, 1].map(|axis| slot.shape[axis]);
        if slot.is_transposed {
            (rows, columns) = (columns, rows);
        }
        let part = |kind, rows| self.part(mixture, kind, index, [count, rows, columns]);
        let tensor = match slot.kind {
            Kind::GateUp => joined(&[part(Kind::Gate, rows / 2)?, part(Kind::Up, rows / 2)?])?,
            kind => part(kind, rows)?,
        };
        if slot.is_transposed { transposed(&plain(&tensor)?) } else { Ok(tensor) }
    }

    /// One matrix of one expert, from whichever layout: a tensor each, all of a projection, gate and up fused as well,
    /// or all of that with the input outermost.
    fn part(&self, mixture: &str, kind: Kind, index: usize, [count, rows, columns]: [usize; 3]) -> Result<Tensor> {
        let part = match kind {
            Kind::Gate => "gate_proj",
            Kind::Up => "up_proj",
            _ => "down_proj",
        };
        let fused = self.named(&format!("{mixture}.gate_up_proj"));
        if let (Some(both), Kind::Gate | Kind::Up) = (&fused, kind) {
            let first = if kind == Kind::Gate { 0 } else { rows };
            return match self.is_input_major(both, rows, columns) {
                true => {
                    let both = both.clone().expect_shape(&[count, columns, 2 * rows])?.slice(index, 0..columns)?;
                    finite(transposed(&both)?.rows(first..first + rows)?)
                }
                false => {
                    let both = both.clone().expect_shape(&[count, 2 * rows, columns])?;
                    finite(both.slice(index, first..first + rows)?)
                }
            };
        }
        let Some(all) = self.named(&format!("{mixture}.{part}")) else {
            return stored(self.checkpoint, &format!("{mixture}.{index}.{part}"), rows, columns);
        };
        // `down` is stored as gate and up beside it are.
        if fused.is_some_and(|both| self.is_input_major(&both, columns, rows)) {
            return finite(transposed(&all.expect_shape(&[count, columns, rows])?.slice(index, 0..columns)?)?);
        }
        finite(all.expect_shape(&[count, rows, columns])?.slice(index, 0..rows)?)
    }

    /// Whether fused experts, whose gate has this shape, keep the input outermost: see `Qwen3::load`.
    fn is_input_major(&self, both: &Tensor, rows: usize, columns: usize) -> bool {
        let is_vl = self.checkpoint.config.architecture == crate::config::Architecture::Qwen3VlMoe;
        let fits = both.shape()[1..] == [2 * rows as u64, columns as u64];
        !fits || 2 * rows == columns && is_vl
    }
}

/// A piece of gated DeltaNet.
impl Pieces<'_> {
    fn shape(&self) -> kernels::DeltaShape {
        let linear = self.checkpoint.config.linear.as_ref();
        linear.expect("only hybrids have such tensors").shape
    }

    /// Where the heads of the wanted order stand in the checkpoint, each `size` rows long, behind `before` rows that
    /// stay.
    fn order(&self, size: usize, before: usize) -> Option<Vec<usize>> {
        let shape = self.shape();
        let wanted = head_order(&self.checkpoint.config, self.container);
        if wanted == shape.order || shape.value_heads == shape.key_heads {
            return None;
        }
        let (keys, shared) = (shape.key_heads, shape.value_heads / shape.key_heads);
        let source = |head: usize| match wanted {
            // Of the tiled order `head` is the `head / keys`-th of its key head.
            HeadOrder::Tiled => head % keys * shared + head / keys,
            HeadOrder::Grouped => head % shared * keys + head / shared,
        };
        let moved = (0..shape.value_heads).flat_map(|head| {
            let first = before + source(head) * size;
            first..first + size
        });
        Some((0..before).chain(moved).collect())
    }

    /// The rows of a matrix in the wanted order of heads.
    fn heads(&self, tensor: &Tensor, size: usize, before: usize) -> Result<Tensor> {
        match self.order(size, before) {
            Some(rows) => tensor.gather_rows(rows.into_iter()),
            None => Ok(tensor.clone()),
        }
    }

    fn vector_of_heads(&self, name: &str, change: impl Fn(f32) -> f32) -> Result<Tensor> {
        let heads = self.shape().value_heads;
        let tensor = finite(self.weights().get(name)?.expect_shape(&[heads])?)?;
        let numbers = tensor.to_f32()?;
        let order = self.order(1, 0).unwrap_or_else(|| (0..heads).collect());
        Ok(computed(name, &[heads], order.into_iter().map(|head| change(numbers[head]))))
    }

    /// How fast heads forget, in the form that is stored or, by `change`, from the other one.
    fn rates(&self, slot: &Slot, other: &str, change: fn(f32) -> f32) -> Result<Tensor> {
        if self.weights().contains(&slot.name) {
            return self.vector_of_heads(&slot.name, |number| number);
        }
        let stem = slot.name.rsplit_once('.').map_or("", |(stem, _)| stem);
        self.vector_of_heads(&format!("{stem}.{other}"), change)
    }

    fn taps(&self, slot: &Slot) -> Result<Tensor> {
        let shape = self.shape();
        let (channels, taps) = (shape.channels(), shape.taps);
        let tensor = self.weights().get(&slot.name)?;
        let stored: &[usize] = if tensor.shape().len() == 2 { &[channels, taps] } else { &[channels, 1, taps] };
        let tensor = finite(tensor.expect_shape(stored)?)?.reshaped(&[channels, taps])?;
        let before = 2 * shape.key_heads * shape.key_dim;
        self.heads(&tensor, shape.value_dim, before)?.reshaped(&slot.shape)
    }

    /// A number for each column as the checkpoint has them, in the order in which they are written.
    pub(super) fn in_order_of_columns(&self, slot: &Slot, numbers: Vec<f32>) -> Vec<f32> {
        let order = (slot.kind == Kind::MixedOutput).then(|| self.order(self.shape().value_dim, 0)).flatten();
        match order {
            Some(order) => order.into_iter().map(|at| numbers[at]).collect(),
            None => numbers,
        }
    }

    /// The last projection, whose columns are heads.
    fn output(&self, slot: &Slot) -> Result<Tensor> {
        let tensor = self.matrix(slot.stem(), &slot.shape)?;
        let Some(order) = self.order(self.shape().value_dim, 0) else { return Ok(tensor) };
        let numbers = plain(&tensor)?;
        let size = numbers.format().block_bytes();
        let row_bytes = slot.columns() * size;
        let rows = numbers.bytes().chunks_exact(row_bytes);
        let bytes: Vec<u8> =
            rows.flat_map(|row| order.iter().flat_map(|&at| row[at * size..(at + 1) * size].iter().copied())).collect();
        let (range, shape) = (0..bytes.len(), slot.whole_shape());
        Tensor::new(&slot.name, numbers.format(), shape, FileBytes::Owned(bytes.into()), range)
    }

    /// Queries, keys, values and gate, apart or by key head.
    fn mixed(&self, slot: &Slot) -> Result<Tensor> {
        let (shape, h) = (self.shape(), slot.columns());
        let (dk, keys) = (shape.key_dim, shape.key_heads);
        let dv = shape.value_heads / keys * shape.value_dim;
        let stem = slot.stem().rsplit_once('.').map_or("", |(stem, _)| stem);
        let grouped = format!("{stem}.in_proj_qkvz");
        let group = 2 * dk + 2 * dv;
        if self.named(&grouped).is_some() {
            let all = self.matrix(&grouped, &[keys * group, h])?;
            let of_groups = |first: usize, count: usize| {
                (0..keys).flat_map(move |key| key * group + first..key * group + first + count)
            };
            return match slot.kind {
                Kind::MixedGrouped => Ok(all),
                Kind::MixedGate => all.gather_rows(of_groups(2 * dk + dv, dv)),
                _ => all.gather_rows(of_groups(0, dk).chain(of_groups(dk, dk)).chain(of_groups(2 * dk, dv))),
            };
        }
        let qkv = || {
            let tensor = self.matrix(&format!("{stem}.in_proj_qkv"), &[2 * keys * dk + keys * dv, h])?;
            self.heads(&tensor, shape.value_dim, 2 * keys * dk)
        };
        let z = || self.heads(&self.matrix(&format!("{stem}.in_proj_z"), &[keys * dv, h])?, shape.value_dim, 0);
        match slot.kind {
            Kind::Mixed => qkv(),
            Kind::MixedGate => z(),
            _ => {
                let both = joined(&[qkv()?, z()?])?;
                let key = |key: usize| {
                    let of_values = |first: usize| first + key * dv..first + (key + 1) * dv;
                    let queries = key * dk..(key + 1) * dk;
                    let own = keys * dk + key * dk..keys * dk + (key + 1) * dk;
                    let values = of_values(2 * keys * dk);
                    queries.chain(own).chain(values).chain(of_values(2 * keys * dk + keys * dv))
                };
                both.gather_rows((0..keys).flat_map(key))
            }
        }
    }
}

impl Pieces<'_> {
    /// The patches of a tower: both frames together, `[D, 3, 2, 16, 16]`, or one of them.
    fn patch(&self, slot: &Slot) -> Result<Tensor> {
        const NAME: &str = "visual.patch_embed.proj.weight";
        const PLANE: usize = crate::picture::PATCH * crate::picture::PATCH;
        let d = slot.shape[0];
        let second = format!("{NAME}.1");
        let is_apart = self.weights().contains(&second);
        let read = |name: &str, shape: &[usize]| finite(self.weights().get(name)?.expect_shape(shape)?)?.to_f32();
        let one_frame = [d, 3, 16, 16];
        if is_apart && slot.kind == Kind::PatchFrame {
            return Ok(computed(&slot.name, &slot.shape, read(&slot.name, &one_frame)?));
        }
        let both: Vec<f32> = if is_apart {
            let (first, second) = (read(NAME, &one_frame)?, read(&second, &one_frame)?);
            let planes = first.chunks_exact(PLANE).zip(second.chunks_exact(PLANE));
            planes.flat_map(|(first, second)| first.iter().chain(second).copied()).collect()
        } else {
            read(NAME, &[d, 3, 2, 16, 16])?
        };
        if slot.kind == Kind::Patch {
            return match is_apart {
                true => Ok(computed(&slot.name, &slot.shape, both)),
                false => finite(self.weights().get(NAME)?.expect_shape(&slot.shape)?),
            };
        }
        let frame = usize::from(slot.name == second);
        let planes = both.chunks_exact(PLANE).skip(frame).step_by(2);
        Ok(computed(&slot.name, &slot.shape, planes.flatten().copied()))
    }
}

/// Numbers that stand in no file.
fn computed(name: &str, shape: &[usize], numbers: impl IntoIterator<Item = f32>) -> Tensor {
    let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
    let (range, shape) = (0..bytes.len(), shape.iter().map(|&size| size as u64).collect());
    Tensor::new(name, Format::F32, shape, FileBytes::Owned(bytes.into()), range).expect("as many numbers as the shape")
}

/// The same numbers, each for itself.
fn plain(tensor: &Tensor) -> Result<Tensor> {
    if tensor.format().block_elements() == 1 {
        return Ok(tensor.clone());
    }
    let shape: Vec<usize> = tensor.shape().iter().map(|&size| size as usize).collect();
    Ok(computed(tensor.name(), &shape, tensor.to_f32()?))
}

/// The rows of matrices one after the other, in their format if they have one.
fn joined(parts: &[Tensor]) -> Result<Tensor> {
    let first = &parts[0];
    let is_one = parts.iter().all(|part| part.format() == first.format());
    let rows = parts.iter().map(|part| part.shape()[0]).sum();
    let shape = vec![rows, first.shape()[1]];
    if !is_one {
        let mut numbers = Vec::new();
        for part in parts {
            numbers.extend(part.to_f32()?);
        }
        return Ok(computed(first.name(), &[rows as usize, shape[1] as usize], numbers));
    }
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes().iter().copied()).collect();
    let range = 0..bytes.len();
    Tensor::new(first.name(), first.format(), shape, FileBytes::Owned(bytes.into()), range)
}

/// The logarithm of what is taken away, such that the reader's exponential is the same number again, or next to it.
fn logarithm(rate: f32) -> f32 {
    let near = f64::from(-rate).ln() as f32;
    let off = |logarithm: f32| (logarithm.exp() + rate).abs();
    let candidates = [near, near.next_down(), near.next_up()];
    candidates.into_iter().min_by(|a, b| off(*a).total_cmp(&off(*b))).unwrap_or(near)
}
