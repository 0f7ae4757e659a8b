//! AICB's workload files, as SimAI reads them: a line of parallelism, a count, and one line a layer.
//!
//! ```text
//! HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 8 ep: 1 pp: 1 vpp: 1 ga: 1 all_gpus: 128 …
//! 2
//! name dependency  forward_ns collective bytes  input_gradient_ns collective bytes  weight_gradient_ns … update_ns
//! ```

use super::TEXT_BYTES_MAX;
use crate::error::{Error, Result, at_most};

const FORMAT: &str = "AICB workload";

/// The most layers that a workload may have.
pub const LAYERS_MAX: u64 = 1_000_000;

/// What a model does in one iteration of training, on one pipeline stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Workload {
    /// Tensor-parallel ranks.
    pub tensor: u32,
    /// Expert-parallel ranks.
    pub expert: u32,
    /// Pipeline stages.
    pub pipeline: u32,
    /// Virtual pipeline stages of a GPU.
    pub virtual_pipeline: u32,
    /// Micro-batches of an iteration (gradient accumulation).
    pub micro_batches: u32,
    /// All GPUs.
    pub gpus: u32,
    /// Bytes between two stages.
    pub pipeline_bytes: u64,
    /// Layers in order.
    pub layers: Vec<Layer>,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Forward pass.
    pub forward: Pass,
    /// Gradients of the inputs.
    pub input_gradient: Pass,
    /// Gradients of the weights.
    pub weight_gradient: Pass,
}

/// Computation and the collective that follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Nanoseconds of computation.
    pub compute_ns: u64,
    /// What is communicated.
    pub collective: Option<Kind>,
    /// Among whom; `None` for a spelling that SimAI ignores.
    pub group: Option<Group>,
    /// How much.
    pub bytes: u64,
}

/// A collective operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Everybody gets the sum.
    AllReduce,
    /// Everybody gets everything.
    AllGather,
    /// Everybody gets a part of the sum.
    ReduceScatter,
    /// Everybody sends a part to everybody.
    AllToAll,
    /// One sends to all.
    Broadcast,
    /// Neighbours pass on.
    SendReceive,
}

impl Kind {
    /// The spelling of nccl-tests.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AllReduce => "all_reduce",
            Self::AllGather => "all_gather",
            Self::ReduceScatter => "reduce_scatter",
            Self::AllToAll => "all_to_all",
            Self::Broadcast => "broadcast",
            Self::SendReceive => "sendrecv",
        }
    }

    /// Bus bandwidth over algorithm bandwidth, as nccl-tests defines it (its PERFORMANCE.md).
    #[must_use]
    pub fn bus_factor(self, ranks: u32) -> f64 {
        let share = f64::from(ranks.max(1) - 1) / f64::from(ranks.max(1));
        match self {
            Self::AllReduce => 2.0 * share,
            Self::AllGather | Self::ReduceScatter | Self::AllToAll => share,
            Self::Broadcast | Self::SendReceive => 1.0,
        }
    }

    /// From any of the usual spellings: `all_reduce`, `allreduce`, `AllReduce`, `all_reduce_perf`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let letters: String = word.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
        let kinds = [
            ("allreduce", Self::AllReduce),
            ("allgather", Self::AllGather),
            ("reducescatter", Self::ReduceScatter),
            ("alltoall", Self::AllToAll),
            ("broadcast", Self::Broadcast),
            ("sendrecv", Self::SendReceive),
        ];
        kinds.iter().find(|(spelling, _)| letters.starts_with(spelling)).map(|(_, kind)| *kind)
    }
}

/// Whose collective it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Tensor-parallel.
    Tensor,
    /// Expert-parallel.
    Expert,
    /// Data-parallel.
    Data,
    /// Data-parallel over replicas of experts.
    DataExpert,
}

impl Group {
    /// SimAI's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tensor => "TP",
            Self::Expert => "EP",
            Self::Data => "DP",
            Self::DataExpert => "DP_EP",
        }
    }
}

/// Reads a workload.
///
/// # Errors
/// If a line cannot be read, fewer layers follow than are announced, or a limit is passed.
pub fn aicb(text: &str) -> Result<Workload> {
    at_most("bytes of workload", text.len() as u64, TEXT_BYTES_MAX)?;
    let mut lines = text.lines().enumerate();
    let (_, first) = lines.next().ok_or_else(|| syntax(0, "the file is empty"))?;
    let mut workload = header(first)?;
    let (index, count) = lines.next().ok_or_else(|| syntax(1, "the number of layers is missing"))?;
    let count: u64 = count.trim().parse().map_err(|_| syntax(index, format!("{count:?} is no number of layers")))?;
    at_most("layers", count, LAYERS_MAX)?;
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()).take(count as usize) {
        workload.layers.push(layer(index, line)?);
    }
    if workload.layers.len() as u64 != count {
        let found = workload.layers.len();
        return Err(syntax(1, format!("{count} layers are announced, {found} follow")));
    }
    Ok(workload)
}

fn header(line: &str) -> Result<Workload> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if !words.first().is_some_and(|word| word.contains("TRANSFORMER")) {
        let word = words.first().copied().unwrap_or_default();
        return Err(syntax(0, format!("{word:?}: a transformer workload is expected")));
    }
    let number = |name: &str, missing: u32| -> Result<u32> {
        let found = words.iter().position(|word| word.trim_end_matches(':') == name);
        let Some(word) = found.and_then(|at| words.get(at + 1)) else { return Ok(missing) };
        let parsed = word.parse().ok().filter(|&number| number <= i32::MAX as u32);
        parsed.ok_or_else(|| syntax(0, format!("{name} is {word:?}")))
    };
    let positive = |name: &str| -> Result<u32> {
        let found = number(name, 1)?;
        if found == 0 { Err(syntax(0, format!("{name} is 0"))) } else { Ok(found) }
    };
    Ok(Workload {
        tensor: positive("model_parallel_NPU_group")?,
        expert: positive("ep")?,
        pipeline: positive("pp")?,
        virtual_pipeline: positive("vpp")?,
        micro_batches: positive("ga")?,
        gpus: positive("all_gpus")?,
        pipeline_bytes: u64::from(number("pp_comm", 0)?),
        layers: Vec::new(),
    })
}

fn layer(index: usize, line: &str) -> Result<Layer> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.len() < 11 {
        return Err(syntax(index, format!("{} fields of at least 11", words.len())));
    }
    let pass = |at: usize, own: Group| -> Result<Pass> {
        let number = |at: usize| {
            let word = words[at];
            word.parse::<u64>().map_err(|_| syntax(index, format!("{word:?} is no whole number")))
        };
        let (collective, group) = communication(words[at + 1], own);
        Ok(Pass { compute_ns: number(at)?, collective, group, bytes: number(at + 2)? })
    };
    Ok(Layer {
        name: words[0].to_owned(),
        forward: pass(2, Group::Tensor)?,
        input_gradient: pass(5, Group::Tensor)?,
        weight_gradient: pass(8, Group::Data)?,
    })
}

/// `ALLGATHER_DP_EP`: the collective, and whose it is; without a suffix the group of the pass.
fn communication(word: &str, own: Group) -> (Option<Kind>, Option<Group>) {
    let kinds = [
        ("ALLREDUCE", Kind::AllReduce),
        ("ALLTOALL", Kind::AllToAll),
        ("ALLGATHER", Kind::AllGather),
        ("REDUCESCATTER", Kind::ReduceScatter),
    ];
    let Some((name, kind)) = kinds.into_iter().find(|(name, _)| word.starts_with(name)) else { return (None, None) };
    let group = match &word[name.len()..] {
        "" => Some(own),
        "_EP" => Some(Group::Expert),
        "_DP_EP" => Some(Group::DataExpert),
        _ => None,
    };
    (Some(kind), group)
}

fn syntax(index: usize, detail: impl Into<String>) -> Error {
    Error::Syntax { format: FORMAT, line: index + 1, detail: detail.into() }
}
