//! From tensors to packed matrices.

use kernels::{Cpu, Matrix, Precision};

use super::feed_forward::{FeedForward, Mixture, Network};
use super::{Layer, Qwen3};
use crate::config::{Config, Experts};
use crate::rope::Frequencies;
use crate::weights::{Tensor, Weights};
use crate::{Checkpoint, Error, FileBytes, Result, finite};

impl Qwen3 {
    /// Packs the weights of a checkpoint for this processor.
    ///
    /// `progress` is called with the layers done and all layers.
    /// Cost: every weight is read and written once.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::UnsupportedType`] or [`Error::NotFinite`].
    pub fn load(
        cpu: &Cpu,
        checkpoint: &Checkpoint,
        precision: Precision,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let config = checkpoint.config.clone();
        let loader = Loader { cpu, weights: &checkpoint.weights, config: &config, precision };
        let embedding = loader.checked("embed_tokens.weight", &[config.vocabulary, config.hidden])?;
        let head = match config.tied {
            true => loader.pack(&embedding)?,
            false => loader.matrix("lm_head.weight", config.vocabulary, config.hidden)?,
        };
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            layers.push(loader.layer(layer)?);
            progress(layer + 1, config.layers);
        }
        let final_norm = loader.vector("norm.weight", config.hidden)?;
        let frequencies = Frequencies::new(&config.rope, config.head_dim);
        Ok(Self { frequencies, embedding, layers, final_norm, head, config })
    }
}

struct Loader<'a> {
    cpu: &'a Cpu,
    weights: &'a Weights,
    config: &'a Config,
    precision: Precision,
}

impl Loader<'_> {
    fn layer(&self, layer: usize) -> Result<Layer> {
        let config = self.config;
        let (h, q_width, kv_width) = (config.hidden, config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let name = |part: &str| format!("layers.{layer}.{part}.weight");
        Ok(Layer {
            attention_norm: self.vector(&name("input_layernorm"), h)?,
            q: self.matrix(&name("self_attn.q_proj"), q_width, h)?,
            k: self.matrix(&name("self_attn.k_proj"), kv_width, h)?,
            v: self.matrix(&name("self_attn.v_proj"), kv_width, h)?,
            o: self.matrix(&name("self_attn.o_proj"), h, q_width)?,
            q_norm: self.vector(&name("self_attn.q_norm"), config.head_dim)?,
            k_norm: self.vector(&name("self_attn.k_norm"), config.head_dim)?,
            feed_forward_norm: self.vector(&name("post_attention_layernorm"), h)?,
            feed_forward: match &config.experts {
                Some(experts) if experts.sparse[layer] => FeedForward::Mixture(self.mixture(layer, experts)?),
                Some(_) | None => FeedForward::Dense(Network {
                    gate: self.matrix(&name("mlp.gate_proj"), config.intermediate, h)?,
                    up: self.matrix(&name("mlp.up_proj"), config.intermediate, h)?,
                    down: self.matrix(&name("mlp.down_proj"), h, config.intermediate)?,
                }),
            },
            window: config.windows[layer],
        })
    }

    fn mixture(&self, layer: usize, experts: &Experts) -> Result<Mixture> {
        let router = self.checked(&format!("layers.{layer}.mlp.gate.weight"), &[experts.count, self.config.hidden])?;
        let network = |index| self.expert(layer, index, experts);
        Ok(Mixture {
            // The choice of experts is a comparison: it is made exactly in every mode.
            router: self.pack_as(&router, Precision::Exact)?,
            experts: (0..experts.count).map(network).collect::<Result<_>>()?,
            per_token: experts.per_token,
            normalise: experts.normalise,
        })
    }

    /// One expert, from whichever layout the file has: a matrix each, all experts of a projection in one tensor, or
    /// gate and up fused as well.
    fn expert(&self, layer: usize, index: usize, experts: &Experts) -> Result<Network> {
        let (h, i) = (self.config.hidden, experts.intermediate);
        let prefix = format!("layers.{layer}.mlp.experts");
        if let Some(fused) = self.fused(&format!("{prefix}.gate_up_proj")) {
            let down = self.fused(&format!("{prefix}.down_proj"));
            let down = down.ok_or_else(|| Error::MissingTensor { name: format!("{prefix}.down_proj") })?;
            return self.fused_expert(&fused, &down, index, experts);
        }
        let matrix =
            |projection: &str, rows: usize, cols: usize| match self.fused(&format!("{prefix}.{projection}_proj")) {
                Some(all) => {
                    let all = all.expect_shape(&[experts.count, rows, cols])?;
                    self.pack(&finite(all.slice(index, 0..rows)?)?)
                }
                None => self.matrix(&format!("{prefix}.{index}.{projection}_proj.weight"), rows, cols),
            };
        Ok(Network { gate: matrix("gate", i, h)?, up: matrix("up", i, h)?, down: matrix("down", h, i)? })
    }

    fn fused(&self, name: &str) -> Option<Tensor> {
        self.weights.find(&format!("{name}.weight")).or_else(|| self.weights.find(name))
    }

    /// `gate_up` is `[E, 2I, H]` (gate rows first), or `[E, H, 2I]` as some files store it; likewise `down`.
    fn fused_expert(&self, gate_up: &Tensor, down: &Tensor, index: usize, experts: &Experts) -> Result<Network> {
        let (h, i, count) = (self.config.hidden, experts.intermediate, experts.count);
        let output_major = gate_up.clone().expect_shape(&[count, 2 * i, h]).is_ok() && 2 * i != h;
        let (gate_up, down) = if output_major {
            (gate_up.slice(index, 0..2 * i)?, down.clone().expect_shape(&[count, h, i])?.slice(index, 0..h)?)
        } else {
            let gate_up = gate_up.clone().expect_shape(&[count, h, 2 * i])?.slice(index, 0..h)?;
            let down = down.clone().expect_shape(&[count, i, h])?.slice(index, 0..i)?;
            (transposed(&gate_up)?, transposed(&down)?)
        };
        let gate_up = finite(gate_up)?;
        let half = |rows| -> Result<Matrix> { self.pack(&gate_up.rows(rows)?) };
        Ok(Network { gate: half(0..i)?, up: half(i..2 * i)?, down: self.pack(&finite(down)?)? })
    }

    fn checked(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        finite(self.weights.get(name)?.expect_shape(shape)?)
    }

    fn vector(&self, name: &str, size: usize) -> Result<Vec<f32>> {
        self.checked(name, &[size])?.to_f32()
    }

    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.pack(&self.checked(name, &[rows, cols])?)
    }

    fn pack(&self, tensor: &Tensor) -> Result<Matrix> {
        self.pack_as(tensor, self.precision)
    }

    fn pack_as(&self, tensor: &Tensor, precision: Precision) -> Result<Matrix> {
        let [rows, cols] = [0, 1].map(|axis| tensor.shape()[axis] as usize);
        let packed = Matrix::pack(self.cpu, tensor.format(), rows, cols, tensor.bytes(), precision)
            .map_err(|source| Error::Pack { name: tensor.name().to_owned(), source })?;
        // Otherwise file and packed copy both count as the process's memory, twice the weights.
        tensor.release();
        Ok(packed)
    }
}

/// The transpose, in the same format: some files store experts with the input outermost.
fn transposed(matrix: &Tensor) -> Result<Tensor> {
    let format = matrix.format();
    if format.block_elements() != 1 {
        let found = format!("{format:?} with the input outermost");
        return Err(Error::UnsupportedType { name: matrix.name().to_owned(), found });
    }
    let size = format.block_bytes();
    let [rows, cols] = [0, 1].map(|axis| matrix.shape()[axis] as usize);
    let stored = matrix.bytes(); // [rows, cols] elements of `size` bytes
    let mut bytes = Vec::with_capacity(stored.len());
    for col in 0..cols {
        for row in 0..rows {
            let start = (row * cols + col) * size;
            bytes.extend_from_slice(&stored[start..start + size]);
        }
    }
    let range = 0..bytes.len();
    Tensor::new(matrix.name(), format, vec![cols as u64, rows as u64], FileBytes::Owned(bytes.into()), range)
}

/// The same tensor, if every number in it is finite.
fn finite(tensor: Tensor) -> Result<Tensor> {
    match finite::first_fault(tensor.format(), tensor.bytes()) {
        None => Ok(tensor),
        Some(element) => {
            let cols = tensor.shape().last().copied().unwrap_or(1).max(1) as usize;
            Err(Error::NotFinite { name: tensor.name().to_owned(), row: element / cols })
        }
    }
}
