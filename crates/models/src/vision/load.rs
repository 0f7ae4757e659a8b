//! From tensors to a tower.

use kernels::{Cpu, Format, Precision};

use super::{Block, Merger, Vision};
use crate::config::Vision as Shape;
use crate::encoder::{Linear, Norm};
use crate::loader::Loader;
use crate::picture::{FRAMES, MERGE, PATCH, PATCH_NUMBERS};
use crate::weight_cache::{Keeping, Part};
use crate::weights::Tensor;
use crate::{Checkpoint, FileBytes, Result};

/// Epsilon of every norm of the tower.
const NORM_EPS: f32 = 1e-6;

impl Vision {
    /// Packs the tower of a checkpoint, `None` if it has none.
    ///
    /// # Errors
    /// [`crate::Error::MissingTensor`], [`crate::Error::WrongShape`] or [`crate::Error::NotFinite`].
    pub fn load(cpu: &Cpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Option<Self>> {
        let Some(shape) = checkpoint.config.vision.clone() else { return Ok(None) };
        let loader = Loader::new(cpu, checkpoint, precision, Part::Tower);
        let reader = Reader { loader: &loader, shape: &shape, out: checkpoint.config.hidden };
        let mut tower = reader.read()?;
        tower._keeping = loader.finish();
        Ok(Some(tower))
    }
}

struct Reader<'a> {
    loader: &'a Loader<'a>,
    shape: &'a Shape,
    out: usize,
}

impl Reader<'_> {
    fn read(&self) -> Result<Vision> {
        let (d, side) = (self.shape.hidden, self.shape.table_side);
        let deep = |index| self.merger(&format!("visual.deepstack_merger_list.{index}"), 4 * d);
        Ok(Vision {
            patch: Linear {
                weight: self.loader.pack(&self.patch_weights(d)?)?,
                bias: self.loader.vector("visual.patch_embed.proj.bias", d)?,
            },
            table: self.loader.checked("visual.pos_embed.weight", &[side * side, d])?.to_f32()?,
            blocks: (0..self.shape.depth).map(|index| self.block(index)).collect::<Result<_>>()?,
            merger: self.merger("visual.merger", d)?,
            deep_mergers: (0..self.shape.deepstack.len()).map(deep).collect::<Result<_>>()?,
            _keeping: Keeping::default(),
            precision: self.loader.precision,
            shape: self.shape.clone(),
        })
    }

    /// Colours, frames, rows and columns of a patch, `[D, PATCH_NUMBERS]`. GGUF keeps the two frames apart.
    fn patch_weights(&self, d: usize) -> Result<Tensor> {
        const NAME: &str = "visual.patch_embed.proj.weight";
        let second = format!("{NAME}.1");
        if !self.loader.weights.contains(&second) {
            return self.loader.checked(NAME, &[d, 3, FRAMES, PATCH, PATCH])?.reshaped(&[d, PATCH_NUMBERS]);
        }
        let frame = |name: &str| self.loader.checked(name, &[d, 3, PATCH, PATCH])?.to_f32();
        let (first, second) = (frame(NAME)?, frame(&second)?);
        let planes = first.chunks_exact(PATCH * PATCH).zip(second.chunks_exact(PATCH * PATCH));
        let numbers = planes.flat_map(|(first, second)| first.iter().chain(second));
        let bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
        let (range, shape) = (0..bytes.len(), vec![d as u64, PATCH_NUMBERS as u64]);
        Tensor::new(NAME, Format::F32, shape, FileBytes::Owned(bytes.into()), range)
    }

    fn block(&self, index: usize) -> Result<Block> {
        let (d, i) = (self.shape.hidden, self.shape.intermediate);
        let stem = format!("visual.blocks.{index}");
        let qkv = self.loader.tensor(&format!("{stem}.attn.qkv"), 3 * d, d)?;
        let bias = self.loader.vector(&format!("{stem}.attn.qkv.bias"), 3 * d)?;
        let third = |part: usize| {
            let rows = part * d..(part + 1) * d;
            Ok(Linear { bias: bias[rows.clone()].to_vec(), weight: self.loader.pack(&qkv.rows(rows)?)? })
        };
        Ok(Block {
            attention_norm: self.norm(&format!("{stem}.norm1"), d)?,
            qkv: [third(0)?, third(1)?, third(2)?],
            out: self.linear(&format!("{stem}.attn.proj"), d, d)?,
            norm: self.norm(&format!("{stem}.norm2"), d)?,
            up: self.linear(&format!("{stem}.mlp.linear_fc1"), i, d)?,
            down: self.linear(&format!("{stem}.mlp.linear_fc2"), d, i)?,
        })
    }

    fn merger(&self, stem: &str, norm_width: usize) -> Result<Merger> {
        let joined = MERGE * MERGE * self.shape.hidden;
        Ok(Merger {
            norm: self.norm(&format!("{stem}.norm"), norm_width)?,
            up: self.linear(&format!("{stem}.linear_fc1"), joined, joined)?,
            down: self.linear(&format!("{stem}.linear_fc2"), self.out, joined)?,
        })
    }

    fn linear(&self, stem: &str, rows: usize, cols: usize) -> Result<Linear> {
        Ok(Linear {
            weight: self.loader.matrix(stem, rows, cols)?,
            bias: self.loader.vector(&format!("{stem}.bias"), rows)?,
        })
    }

    fn norm(&self, stem: &str, size: usize) -> Result<Norm> {
        let vector = |part: &str| self.loader.vector(&format!("{stem}.{part}"), size);
        Ok(Norm { weight: vector("weight")?, bias: vector("bias")?, eps: NORM_EPS })
    }
}
