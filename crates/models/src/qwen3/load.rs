//! From tensors to packed matrices.

use std::cell::RefCell;
use std::ops::Range;

use kernels::{Cpu, DeltaShape, Matrix, Precision};

use super::attention::Attention;
use super::delta_net::DeltaNet;
use super::feed_forward::{self, FeedForward, Mixture, Network, Shared};
use super::{Layer, Mixer, Qwen3};
use crate::config::{Architecture, Config, Experts};
use crate::loader::{Loader, expect_single, finite, numbers, transposed};
use crate::rope::Frequencies;
use crate::streaming::{Finder, Source};
use crate::weight_cache::Part;
use crate::weights::Tensor;
use crate::{Checkpoint, Error, Result};

impl Qwen3 {
    /// Packs the weights of a checkpoint for this processor.
    ///
    /// `progress` is called with the layers done and all layers. A checkpoint without a vocabulary head, as embedding
    /// models are published, gives a model that has hidden states and no logits.
    /// Cost: every weight is read and written once.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::UnsupportedType`] or [`Error::NotFinite`].
    pub fn load(
        cpu: &Cpu,
        checkpoint: &Checkpoint,
        precision: Precision,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        Self::load_all(cpu, checkpoint, precision, None, progress)
    }

    /// The same with experts that are read from the files when they are chosen and of which `expert_bytes` stay in
    /// memory. The files must stay what they are as long as the model lives.
    ///
    /// Cost: every other weight is read and written once.
    ///
    /// # Errors
    /// As [`Self::load`]; [`Error::ExpertMemory`] if that is too little for a token; [`Error::UnsupportedConfig`] for a
    /// model without experts.
    pub fn load_streaming(
        cpu: &Cpu,
        checkpoint: &Checkpoint,
        precision: Precision,
        expert_bytes: usize,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let config = &checkpoint.config;
        if config.experts.is_none() {
            let why = "only experts are read while a model runs, and it has none";
            return Err(Error::unsupported("the model", config.architecture.model_type(), why));
        }
        Self::load_all(cpu, checkpoint, precision, Some(expert_bytes), progress)
    }

    fn load_all(
        cpu: &Cpu,
        checkpoint: &Checkpoint,
        precision: Precision,
        expert_bytes: Option<usize>,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let config = checkpoint.config.clone();
        let part = if expert_bytes.is_some() { Part::DecoderWithoutExperts } else { Part::Decoder };
        let loader = Loader::new(cpu, checkpoint, precision, part);
        let embedding = loader.weights.get("embed_tokens.weight")?.expect_shape(&[config.vocabulary, config.hidden])?;
        let head = if config.tied {
            Some(loader.pack(&embedding)?)
        } else if checkpoint.has_head() {
            Some(loader.matrix("lm_head", config.vocabulary, config.hidden)?)
        } else {
            None
        };
        // A tied head that has the file's numbers is the embedding too, and the file's need not stay in memory.
        let is_kept = config.tied && Matrix::keeps(embedding.format(), precision);
        let embedding = if is_kept { None } else { Some(finite(embedding)?) };
        let finder = RefCell::new(expert_bytes.map(|_| Finder::default()));
        let reader = Layers { loader: &loader, config: &config, finder: &finder };
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            layers.push(reader.layer(layer)?);
            progress(layer + 1, config.layers);
        }
        let final_norm = reader.norm("norm", config.hidden)?;
        let frequencies = Frequencies::new(&config.rope);
        let per_token = config.experts.as_ref().map_or(0, |experts| experts.per_token);
        let finder = finder.into_inner().zip(expert_bytes);
        let streamer = finder.map(|(finder, bytes)| finder.finish(precision, bytes, per_token)).transpose()?;
        Ok(Self { frequencies, embedding, layers, final_norm, head, streamer, config, _keeping: loader.finish() })
    }
}

/// Reads the layers of one configuration.
pub(super) struct Layers<'a> {
    pub(super) loader: &'a Loader<'a>,
    pub(super) config: &'a Config,
    /// Takes down where experts lie, if they are to be read later.
    pub(super) finder: &'a RefCell<Option<Finder>>,
}

impl Layers<'_> {
    fn layer(&self, layer: usize) -> Result<Layer> {
        let h = self.config.hidden;
        let stem = format!("layers.{layer}");
        let mixer = match &self.config.linear {
            Some(linear) if linear.layers[layer] => {
                Mixer::DeltaNet(Box::new(self.delta_net(&format!("{stem}.linear_attn"), &linear.shape)?))
            }
            Some(_) | None => {
                let window = self.config.windows[layer];
                Mixer::Attention(Box::new(self.attention(&format!("{stem}.self_attn"), window)?))
            }
        };
        let feed_forward = match &self.config.experts {
            Some(experts) if experts.sparse[layer] => {
                FeedForward::Mixture(self.mixture(&format!("{stem}.mlp"), experts)?)
            }
            Some(_) | None => FeedForward::Dense(self.network(&format!("{stem}.mlp"), self.config.intermediate)?),
        };
        Ok(Layer {
            mixer_norm: self.norm(&format!("{stem}.input_layernorm"), h)?,
            mixer,
            feed_forward_norm: self.norm(&format!("{stem}.post_attention_layernorm"), h)?,
            feed_forward,
        })
    }

    /// The layer of a predictor: attention, and experts if the file has them.
    pub(super) fn predicting(&self, stem: &str) -> Result<Layer> {
        let h = self.config.hidden;
        let network = format!("{stem}.mlp");
        let has_router = self.loader.weights.contains(&format!("{network}.gate.weight"));
        let feed_forward = match self.config.experts.as_ref().filter(|_| has_router) {
            Some(experts) => FeedForward::Mixture(self.mixture(&network, experts)?),
            None => FeedForward::Dense(self.network(&network, self.config.intermediate)?),
        };
        Ok(Layer {
            mixer_norm: self.norm(&format!("{stem}.input_layernorm"), h)?,
            mixer: Mixer::Attention(Box::new(self.attention(&format!("{stem}.self_attn"), None)?)),
            feed_forward_norm: self.norm(&format!("{stem}.post_attention_layernorm"), h)?,
            feed_forward,
        })
    }

    fn attention(&self, stem: &str, window: Option<usize>) -> Result<Attention> {
        let config = self.config;
        let (h, hd) = (config.hidden, config.head_dim);
        let (q_width, kv_width) = (config.heads * hd, config.kv_heads * hd);
        let matrix = |part: &str, rows, cols| self.loader.matrix(&format!("{stem}.{part}_proj"), rows, cols);
        let (q, gate) = if config.gated_attention {
            // Each head's rows: the query's, then the gate's.
            let both = self.loader.tensor(&format!("{stem}.q_proj"), 2 * q_width, h)?;
            let half = |second: usize| {
                let rows = (0..q_width).map(move |row| row / hd * 2 * hd + second * hd + row % hd);
                self.loader.pack(&both.gather_rows(rows)?)
            };
            (half(0)?, Some(half(1)?))
        } else {
            (matrix("q", q_width, h)?, None)
        };
        Ok(Attention {
            q,
            gate,
            k: matrix("k", kv_width, h)?,
            v: matrix("v", kv_width, h)?,
            o: matrix("o", h, q_width)?,
            q_norm: self.norm(&format!("{stem}.q_norm"), hd)?,
            k_norm: self.norm(&format!("{stem}.k_norm"), hd)?,
            window,
        })
    }

    /// The gates are few rows, and what is wrong in them grows from token to token: they are computed exactly.
    fn delta_net(&self, stem: &str, shape: &DeltaShape) -> Result<DeltaNet> {
        let (h, channels) = (self.config.hidden, shape.channels());
        let values = shape.value_heads * shape.value_dim;
        let matrix = |part: &str, rows| self.loader.matrix(&format!("{stem}.in_proj_{part}"), rows, h);
        let has = |part: &str| self.loader.has(&format!("{stem}.in_proj_{part}"));
        let [qkv, z] = match has("qkvz") {
            true => self.grouped_projections(stem, shape)?,
            false => [matrix("qkv", channels)?, matrix("z", values)?],
        };
        let [b, a] = match has("ba") {
            true => self.grouped_gates(stem, shape)?,
            false => {
                let gate = |part: &str| {
                    let tensor = self.loader.tensor(&format!("{stem}.in_proj_{part}"), shape.value_heads, h)?;
                    self.loader.pack_as(&tensor, Precision::Exact)
                };
                [gate("b")?, gate("a")?]
            }
        };
        let stored = self.taps(&format!("{stem}.conv1d.weight"), channels, shape.taps)?;
        let tap = |tap: usize| (0..channels).map(move |channel| channel * shape.taps + tap);
        Ok(DeltaNet {
            qkv,
            z,
            b,
            a,
            taps: (0..shape.taps).flat_map(tap).map(|at| stored[at]).collect(),
            rates: self.rates(stem, shape.value_heads)?,
            bias: self.loader.vector(&format!("{stem}.dt_bias"), shape.value_heads)?,
            norm: self.loader.vector(&format!("{stem}.norm.weight"), shape.value_dim)?,
            out: self.loader.matrix(&format!("{stem}.out_proj"), h, values)?,
            shape: *shape,
        })
    }

    /// How fast each head forgets: stored as it is, or as the logarithm of what is taken away.
    fn rates(&self, stem: &str, heads: usize) -> Result<Vec<f32>> {
        let stored = format!("{stem}.rates");
        if self.loader.weights.contains(&stored) {
            return self.loader.vector(&stored, heads);
        }
        let logarithms = self.loader.vector(&format!("{stem}.A_log"), heads)?;
        Ok(logarithms.into_iter().map(|rate| -rate.exp()).collect())
    }

    /// The convolution's weights, `[channels, taps]`; some files keep a dimension of one between them.
    fn taps(&self, name: &str, channels: usize, taps: usize) -> Result<Vec<f32>> {
        let tensor = self.loader.weights.get(name)?;
        let shape: &[usize] = if tensor.shape().len() == 2 { &[channels, taps] } else { &[channels, 1, taps] };
        numbers(&finite(tensor.expect_shape(shape)?)?)
    }

    /// Qwen3-Next stores the projections by key head, `q k v z` of each one after the other; here they are put into the
    /// order of the later models: all `q`, all `k`, all `v`; all `z`.
    fn grouped_projections(&self, stem: &str, shape: &DeltaShape) -> Result<[Matrix; 2]> {
        let h = self.config.hidden;
        let (dk, shared) = (shape.key_dim, shape.value_heads / shape.key_heads);
        let dv = shared * shape.value_dim;
        let group = 2 * dk + 2 * dv;
        let qkvz = self.loader.tensor(&format!("{stem}.in_proj_qkvz"), shape.key_heads * group, h)?;
        let of_groups = |first: usize, count: usize| of_groups(shape.key_heads, group, first, count);
        let qkv = of_groups(0, dk).chain(of_groups(dk, dk)).chain(of_groups(2 * dk, dv));
        Ok([
            self.loader.pack(&qkvz.gather_rows(qkv)?)?,
            self.loader.pack(&qkvz.gather_rows(of_groups(2 * dk + dv, dv))?)?,
        ])
    }

    /// The same of the gates: all `b`; all `a`.
    fn grouped_gates(&self, stem: &str, shape: &DeltaShape) -> Result<[Matrix; 2]> {
        let shared = shape.value_heads / shape.key_heads;
        let ba = self.loader.tensor(&format!("{stem}.in_proj_ba"), 2 * shape.value_heads, self.config.hidden)?;
        let half = |first: usize| {
            let rows = of_groups(shape.key_heads, 2 * shared, first, shared);
            self.loader.pack_as(&ba.gather_rows(rows)?, Precision::Exact)
        };
        Ok([half(0)?, half(shared)?])
    }

    /// A norm's weights. Some models store them less one.
    pub(super) fn norm(&self, stem: &str, size: usize) -> Result<Vec<f32>> {
        let stored = self.loader.vector(&format!("{stem}.weight"), size)?;
        Ok(stored.into_iter().map(|weight| weight + self.config.norm_offset).collect())
    }

    fn network(&self, stem: &str, intermediate: usize) -> Result<Network> {
        let h = self.config.hidden;
        let matrix = |part: &str, rows, cols| self.loader.matrix(&format!("{stem}.{part}_proj"), rows, cols);
        Ok(Network {
            gate: matrix("gate", intermediate, h)?,
            up: matrix("up", intermediate, h)?,
            down: matrix("down", h, intermediate)?,
        })
    }

    fn mixture(&self, stem: &str, experts: &Experts) -> Result<Mixture> {
        let h = self.config.hidden;
        let router = self.loader.checked(&format!("{stem}.gate.weight"), &[experts.count, h])?;
        let shared = experts.shared.map(|intermediate| {
            Ok(Shared {
                network: self.network(&format!("{stem}.shared_expert"), intermediate)?,
                gate: self.opening(&format!("{stem}.shared_expert_gate.weight"))?,
            })
        });
        let stem = format!("{stem}.experts");
        let network = |index| self.expert(&stem, index, experts);
        let found = match self.finder.borrow_mut().as_mut() {
            Some(finder) => {
                let in_file = |index| self.expert_in_file(&stem, index, experts);
                feed_forward::Experts::Streamed(finder.add((0..experts.count).map(in_file))?)
            }
            None => feed_forward::Experts::Resident((0..experts.count).map(network).collect::<Result<_>>()?),
        };
        Ok(Mixture {
            // The choice of experts is a comparison: it is made exactly in every mode.
            router: self.loader.pack_as(&router, Precision::Exact)?,
            experts: found,
            intermediate: experts.intermediate,
            shared: shared.transpose()?,
            per_token: experts.per_token,
            normalise: experts.normalise,
        })
    }

    /// The weights that open the shared expert: a row, or a matrix of one row.
    fn opening(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.loader.weights.get(name)?;
        let h = self.config.hidden;
        let shape: &[usize] = if tensor.shape().len() == 1 { &[h] } else { &[1, h] };
        numbers(&finite(tensor.expect_shape(shape)?)?)
    }

    /// One expert, from whichever layout the file has: a matrix each, all experts of a projection in one tensor, or
    /// gate and up fused as well.
    fn expert(&self, stem: &str, index: usize, experts: &Experts) -> Result<Network> {
        let (h, i) = (self.config.hidden, experts.intermediate);
        if let Some(fused) = self.fused(&format!("{stem}.gate_up_proj")) {
            let down = self.fused(&format!("{stem}.down_proj"));
            let down = down.ok_or_else(|| Error::MissingTensor { name: format!("{stem}.down_proj") })?;
            return self.fused_expert(&fused, &down, index, experts, self.is_input_major(stem, experts));
        }
        if self.fused(&format!("{stem}.gate_proj")).is_none() {
            return self.network(&format!("{stem}.{index}"), i);
        }
        let matrix = |part: &str, rows: usize, cols: usize| {
            let name = format!("{stem}.{part}_proj");
            let all = self.fused(&name).ok_or(Error::MissingTensor { name })?;
            self.loader.pack(&all.expect_shape(&[experts.count, rows, cols])?.slice(index, 0..rows)?)
        };
        Ok(Network { gate: matrix("gate", i, h)?, up: matrix("up", i, h)?, down: matrix("down", h, i)? })
    }

    /// The matrices of one expert where they lie in the files, without looking at their numbers.
    fn expert_in_file(&self, stem: &str, index: usize, experts: &Experts) -> Result<Vec<Source>> {
        let (h, i, count) = (self.config.hidden, experts.intermediate, experts.count);
        let entry = |name: &str, all: usize, rows: Range<usize>, cols: usize| {
            let name = format!("{stem}.{name}_proj");
            let tensor = self.fused(&name).ok_or(Error::MissingTensor { name })?;
            tensor.expect_shape(&[count, all, cols])?.slice(index, rows)
        };
        let stored = |tensors: [Tensor; 3]| Ok(tensors.map(Source::Stored).into());
        if self.fused(&format!("{stem}.gate_up_proj")).is_some() {
            if self.is_input_major(stem, experts) {
                let gate_up = expect_single(entry("gate_up", h, 0..h, 2 * i)?)?;
                let down = expect_single(entry("down", i, 0..i, h)?)?;
                return Ok(vec![Source::Transposed(gate_up, 2), Source::Transposed(down, 1)]);
            }
            let [gate, up] = [0..i, i..2 * i].map(|rows| entry("gate_up", 2 * i, rows, h));
            return stored([gate?, up?, entry("down", h, 0..h, i)?]);
        }
        if self.fused(&format!("{stem}.gate_proj")).is_some() {
            return stored([entry("gate", i, 0..i, h)?, entry("up", i, 0..i, h)?, entry("down", h, 0..h, i)?]);
        }
        let own = |part: &str, rows, cols| {
            let name = format!("{stem}.{index}.{part}_proj");
            match self.loader.quantised(&name, rows, cols)? {
                Some(matrix) => Ok(Source::Quantised(Box::new(matrix))),
                None => {
                    let tensor = self.loader.weights.get(&format!("{name}.weight"))?;
                    tensor.expect_shape(&[rows, cols]).map(Source::Stored)
                }
            }
        };
        Ok(vec![own("gate", i, h)?, own("up", i, h)?, own("down", h, i)?])
    }

    /// Whether fused experts keep the input outermost: `gate_up` is `[E, H, 2I]`. Where the shape does not tell, it is
    /// what the family publishes: Qwen3-VL input-major, the others output-major.
    fn is_input_major(&self, stem: &str, experts: &Experts) -> bool {
        let (h, i, count) = (self.config.hidden, experts.intermediate, experts.count);
        let is_vl = self.config.architecture == Architecture::Qwen3VlMoe;
        let gate_up = self.fused(&format!("{stem}.gate_up_proj"));
        let fits = gate_up.is_some_and(|gate_up| gate_up.expect_shape(&[count, 2 * i, h]).is_ok());
        !fits || (2 * i == h && is_vl)
    }

    fn fused(&self, name: &str) -> Option<Tensor> {
        let weights = self.loader.weights;
        weights.find(&format!("{name}.weight")).or_else(|| weights.find(name))
    }

    /// `gate_up` is `[E, 2I, H]` (gate rows first) with `down` `[E, H, I]`, or the transpose of both.
    fn fused_expert(
        &self,
        gate_up: &Tensor,
        down: &Tensor,
        index: usize,
        experts: &Experts,
        is_input_major: bool,
    ) -> Result<Network> {
        let (h, i, count) = (self.config.hidden, experts.intermediate, experts.count);
        let (gate_up, down) = if !is_input_major {
            (gate_up.slice(index, 0..2 * i)?, down.clone().expect_shape(&[count, h, i])?.slice(index, 0..h)?)
        } else {
            let gate_up = gate_up.clone().expect_shape(&[count, h, 2 * i])?.slice(index, 0..h)?;
            let down = down.clone().expect_shape(&[count, i, h])?.slice(index, 0..i)?;
            (transposed(&gate_up)?, transposed(&down)?)
        };
        let half = |rows| -> Result<Matrix> { self.loader.pack(&gate_up.rows(rows)?) };
        Ok(Network { gate: half(0..i)?, up: half(i..2 * i)?, down: self.loader.pack(&down)? })
    }
}

/// `count` rows from `first` on, of every one of so many groups of `size` rows.
fn of_groups(groups: usize, size: usize, first: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..groups).flat_map(move |group| group * size + first..group * size + first + count)
}
