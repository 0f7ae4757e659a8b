//! LoRA adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! For a projection `W` of a layer an adapter holds `A [r, in]` and `B [out, r]`; with it, `y = x Wᵀ + s (x Aᵀ) Bᵀ`
//! where `s = alpha / r`, or `alpha / √r` where the rank is stabilised
//! (<https://arxiv.org/abs/2106.09685>, <https://arxiv.org/abs/2312.03732>). The base stays as it is, so many adapters
//! share it, and rows of several go through one step.
//!
//! Adapted are the projections of attention and of dense feed-forward networks. Whatever else a file asks for is
//! refused by its name: an adapter that is applied in part is another model.

use std::collections::BTreeMap;
use std::path::Path;

use kernels::{Cpu, Format, Matrix, Precision};
use serde_json::{Map, Value};

use crate::loader::finite;
use crate::weights::{Tensor, Weights};
use crate::{Config, Error, FileBytes, Result, safetensors_files};

/// Bytes of `adapter_config.json`.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Published ranks are 1 to 512.
const RANK_MAX: u64 = 4096;
/// What would change the numbers in ways that are not computed here: absent, null, false, empty or `none`, or refused.
const MUST_BE_UNSET: [&str; 15] = [
    "alora_invocation_tokens",
    "arrow_config",
    "bias",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
];
/// Ways to begin a training that leave the base as it is. Others, like `pissa`, take away from the base what they put
/// into the adapter.
const HARMLESS_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// The projections of a layer that can be adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

const PARTS: [(&str, Part); 7] = [
    ("self_attn.q_proj", Part::Query),
    ("self_attn.k_proj", Part::Key),
    ("self_attn.v_proj", Part::Value),
    ("self_attn.o_proj", Part::Output),
    ("mlp.gate_proj", Part::Gate),
    ("mlp.up_proj", Part::Up),
    ("mlp.down_proj", Part::Down),
];

impl Part {
    /// Rows and columns of the projection.
    fn shape(self, config: &Config) -> (usize, usize) {
        let (hidden, wide) = (config.hidden, config.intermediate);
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        match self {
            Self::Query => (queries, hidden),
            Self::Key | Self::Value => (keys, hidden),
            Self::Output => (hidden, queries),
            Self::Gate | Self::Up => (wide, hidden),
            Self::Down => (hidden, wide),
        }
    }

    fn is_feed_forward(self) -> bool {
        matches!(self, Self::Gate | Self::Up | Self::Down)
    }
}

/// The files of an adapter; the numbers are not packed yet.
#[derive(Debug)]
pub struct AdapterFiles {
    /// What its maker called the model that it belongs to; empty if that is not said.
    pub base: String,
    config: AdapterConfig,
    weights: Weights,
}

#[derive(Debug)]
struct AdapterConfig {
    alpha: f64,
    /// Ends of names of projections that have an alpha of their own.
    alphas: Vec<(String, f64)>,
    is_stabilised: bool,
}

/// An adapter, ready to compute.
#[derive(Debug)]
pub struct Adapter {
    pairs: BTreeMap<(usize, Part), LowRank>,
}

/// `A` and `s B` of one projection.
#[derive(Debug)]
pub(crate) struct LowRank {
    pub(crate) narrow: Matrix, // [r, in]
    pub(crate) wide: Matrix,   // [out, r]
}

impl AdapterFiles {
    /// Whether a folder holds an adapter.
    #[must_use]
    pub fn are_here(folder: &Path) -> bool {
        folder.join("adapter_config.json").is_file()
    }

    /// Opens the folder of an adapter.
    ///
    /// # Errors
    /// If a file is missing or corrupt, or the adapter is of a kind that is not supported, by field and value.
    pub fn open(folder: &Path) -> Result<Self> {
        let json = safetensors_files::read_json(&folder.join("adapter_config.json"), CONFIG_BYTES_MAX)?;
        let Some(fields) = json.as_object() else {
            return Err(Error::MissingField { field: "adapter_config.json: an object".to_owned() });
        };
        let config = AdapterConfig::read(fields)?;
        let base = fields.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default().to_owned();
        let path = folder.join("adapter_model.safetensors");
        if !path.is_file() {
            let why = "adapter_model.safetensors is not there".to_owned();
            return Err(Error::NotAModel { path: folder.to_owned(), why });
        }
        let mut weights = Weights::default();
        safetensors_files::read(&path.display().to_string(), &FileBytes::map(&path)?, &mut weights)?;
        Ok(Self { base, config, weights })
    }

    /// Bytes of its tensors.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.weights.bytes_by_type().values().sum()
    }
}

impl AdapterConfig {
    fn read(fields: &Map<String, Value>) -> Result<Self> {
        match fields.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            other => return Err(Error::unsupported("peft_type", other.unwrap_or("missing"), "only LORA is")),
        }
        for name in MUST_BE_UNSET {
            if let Some(value) = fields.get(name).filter(|value| !is_unset(value)) {
                return Err(Error::unsupported(name, value, "an adapter may only add to projections"));
            }
        }
        match fields.get("init_lora_weights") {
            None | Some(Value::Null | Value::Bool(_)) => {}
            Some(Value::String(start)) if HARMLESS_STARTS.contains(&start.as_str()) => {}
            Some(value) => {
                let why = "it changes the base; convert the adapter to a plain one when it is saved";
                return Err(Error::unsupported("init_lora_weights", value, why));
            }
        }
        let alpha = number("lora_alpha", fields.get("lora_alpha"))?;
        let mut alphas = Vec::new();
        for (name, value) in fields.get("alpha_pattern").and_then(Value::as_object).into_iter().flatten() {
            let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte));
            if !is_plain {
                return Err(Error::unsupported("alpha_pattern", name, "only names are, no patterns"));
            }
            alphas.push((name.clone(), number("alpha_pattern", Some(value))?));
        }
        let is_stabilised = fields.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { alpha, alphas, is_stabilised })
    }

    /// By how much the product of a projection is scaled. `module` is its name in the model.
    fn scale(&self, module: &str, rank: usize) -> Result<f32> {
        let of_module =
            |name: &str| module.strip_suffix(name).is_some_and(|head| head.is_empty() || head.ends_with('.'));
        let mut found = self.alphas.iter().filter(|(name, _)| of_module(name)).map(|(_, alpha)| *alpha);
        let alpha = found.next().unwrap_or(self.alpha);
        if found.any(|other| other.to_bits() != alpha.to_bits()) {
            return Err(Error::unsupported("alpha_pattern", module, "two of its names mean this projection"));
        }
        let rank = rank as f64;
        Ok((alpha / if self.is_stabilised { rank.sqrt() } else { rank }) as f32)
    }
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn number(field: &str, value: Option<&Value>) -> Result<f64> {
    let Some(value) = value else { return Err(Error::MissingField { field: field.to_owned() }) };
    let found = value.as_f64().filter(|number| number.is_finite());
    found.ok_or_else(|| Error::unsupported(field, value, "it must be a number"))
}

impl Adapter {
    /// Packs an adapter for a model of this shape.
    ///
    /// # Errors
    /// If a tensor is none of a projection of this model, has another shape, lacks its other half, or holds a number
    /// that is not finite.
    pub fn load(cpu: &Cpu, files: &AdapterFiles, config: &Config, precision: Precision) -> Result<Self> {
        if config.architecture.is_hybrid() {
            let name = format!("{:?}", config.architecture);
            return Err(Error::unsupported("the base of an adapter", name, "hybrids cannot be adapted yet"));
        }
        let plain = ["F32", "F16", "Bf16"];
        if let Some(found) = files.weights.bytes_by_type().into_keys().find(|kind| !plain.contains(&kind.as_str())) {
            return Err(Error::UnsupportedType { name: "of an adapter".to_owned(), found });
        }
        if let Some((name, found)) = files.weights.unsupported().next() {
            return Err(Error::UnsupportedType { name: name.to_owned(), found: found.to_owned() });
        }
        let mut halves: BTreeMap<(usize, Part), [Option<Tensor>; 2]> = BTreeMap::new();
        for tensor in files.weights.iter() {
            let (layer, part, half) = place(tensor.name(), config)?;
            let slot = &mut halves.entry((layer, part)).or_default()[half];
            if slot.replace(tensor.clone()).is_some() {
                return Err(Error::corrupt(tensor.name(), "two tensors mean this half of a projection"));
            }
        }
        let mut pairs = BTreeMap::new();
        for ((layer, part), halves) in halves {
            let pair = low_rank(cpu, (layer, part), halves, files, config, precision)?;
            pairs.insert((layer, part), pair);
        }
        if pairs.is_empty() {
            return Err(Error::MissingTensor { name: "layers.0.self_attn.q_proj.lora_A.weight".to_owned() });
        }
        Ok(Self { pairs })
    }

    /// Bytes of the packed numbers.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.pairs.values().map(|pair| pair.narrow.size_bytes() + pair.wide.size_bytes()).sum()
    }

    pub(crate) fn pair(&self, layer: usize, part: Part) -> Option<&LowRank> {
        self.pairs.get(&(layer, part))
    }
}

/// Layer, projection, and 0 for `A` or 1 for `B`, of a tensor's name.
fn place(name: &str, config: &Config) -> Result<(usize, Part, usize)> {
    let refused = |why: &str| Error::unsupported("a tensor of the adapter", name, why);
    let parse = || {
        let inner = name.strip_prefix("base_model.model.")?;
        let inner = inner.strip_prefix("model.").unwrap_or(inner);
        let inner = inner.strip_prefix("language_model.").unwrap_or(inner);
        let (layer, rest) = inner.strip_prefix("layers.")?.split_once('.')?;
        let (stem, part) = PARTS.iter().find(|(stem, _)| rest.starts_with(stem))?;
        let half = match rest[stem.len()..].strip_suffix(".weight")? {
            ".lora_A" | ".lora_A.default" => 0,
            ".lora_B" | ".lora_B.default" => 1,
            _ => return None,
        };
        Some((layer.parse::<usize>().ok()?, *part, half))
    };
    let why = "only projections of attention and of dense feed-forward networks are";
    let (layer, part, half) = parse().ok_or_else(|| refused(why))?;
    if layer >= config.layers {
        return Err(refused(&format!("the model has {} layers", config.layers)));
    }
    if part.is_feed_forward() && config.experts.as_ref().is_some_and(|experts| experts.sparse[layer]) {
        return Err(refused("the layer is a mixture of experts"));
    }
    Ok((layer, part, half))
}

fn low_rank(
    cpu: &Cpu,
    (layer, part): (usize, Part),
    halves: [Option<Tensor>; 2],
    files: &AdapterFiles,
    config: &Config,
    precision: Precision,
) -> Result<LowRank> {
    let (stem, _) = PARTS.iter().find(|(_, known)| *known == part).expect("every part has a name");
    let module = format!("layers.{layer}.{stem}");
    let [narrow, wide] = halves;
    let missing = |half: &str| Error::MissingTensor { name: format!("{module}.lora_{half}.weight") };
    let narrow = narrow.ok_or_else(|| missing("A"))?;
    let wide = wide.ok_or_else(|| missing("B"))?;
    let (rows, columns) = part.shape(config);
    let rank = narrow.shape().first().copied().unwrap_or(0);
    if rank == 0 || rank > RANK_MAX {
        return Err(Error::unsupported("the rank of an adapter", rank, &format!("allowed are 1 to {RANK_MAX}")));
    }
    let rank = rank as usize;
    let narrow = finite(narrow.expect_shape(&[rank, columns])?)?;
    let wide = finite(wide.expect_shape(&[rows, rank])?)?;
    let scale = files.config.scale(&format!("model.{module}"), rank)?;
    let scaled: Vec<u8> = wide.to_f32()?.iter().flat_map(|number| (number * scale).to_le_bytes()).collect();
    let pack = |tensor: &Tensor, rows, columns, format, bytes: &[u8]| {
        let name = tensor.name().to_owned();
        Matrix::pack(cpu, format, rows, columns, bytes, precision).map_err(|source| Error::Pack { name, source })
    };
    Ok(LowRank {
        narrow: pack(&narrow, rank, columns, narrow.format(), narrow.bytes())?,
        wide: pack(&wide, rows, rank, Format::F32, &scaled)?,
    })
}
