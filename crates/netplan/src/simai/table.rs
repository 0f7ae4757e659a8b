//! The table: times of every layer, and their sums.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::import::aicb::{Group, Kind, Pass, Workload};

use super::bandwidth::{Shape, bus_bandwidth};
use super::ratio::RatioTables;
use super::{BusBandwidth, Machine};

/// 2^30, SimAI's giga.
const GIBI: f64 = 1_073_741_824.0;
/// Below this size SimAI has fixed times.
const SMALL_BYTES: u64 = 1 << 20;

/// Everything that SimAI-Analytical prints.
#[derive(Debug, Clone, PartialEq)]
pub struct SimaiTable {
    /// A row a layer.
    pub layers: Vec<LayerRow>,
    /// The sums.
    pub summary: Summary,
    /// Every bandwidth that was looked up, once.
    pub used: Vec<Used>,
    /// Columns of the tables that were needed and are missing: there the share is 1.
    pub missing: BTreeSet<String>,
}

/// Times of one layer, microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRow {
    /// Its name.
    pub name: String,
    /// Forward pass.
    pub forward: PassRow,
    /// Gradients of the weights.
    pub weight_gradient: PassRow,
    /// Gradients of the inputs.
    pub input_gradient: PassRow,
}

/// Times of one pass, microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassRow {
    /// Computation.
    pub compute_us: f64,
    /// Communication that is not hidden.
    pub exposed_us: f64,
    /// Communication.
    pub communication_us: f64,
    /// Bytes over time, 2^30 a second; NaN without communication.
    pub algorithm: f64,
    /// The same as bus bandwidth, 0 without communication.
    pub bus: f64,
}

/// Sums over the layers, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    /// Data-parallel communication that is not hidden.
    pub data_us: f64,
    /// The same among replicas of experts.
    pub data_expert_us: f64,
    /// Tensor-parallel communication that is not hidden.
    pub tensor_us: f64,
    /// Expert-parallel communication that is not hidden.
    pub expert_us: f64,
    /// Pipeline communication that is not hidden.
    pub pipeline_us: f64,
    /// Idle time of the pipeline.
    pub bubble_us: f64,
    /// Computation.
    pub compute_us: f64,
    /// Communication that is not hidden.
    pub exposed_us: f64,
    /// Everything.
    pub total_us: f64,
}

/// One bandwidth that was looked up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Used {
    /// The collective.
    pub kind: Kind,
    /// Whose.
    pub group: Group,
    /// How many take part.
    pub ranks: u32,
    /// How much.
    pub bytes: u64,
    /// The bandwidth.
    pub bandwidth: BusBandwidth,
    /// What is left of it at this size.
    pub ratio: f32,
}

struct Context<'a> {
    machine: &'a Machine,
    tables: &'a RatioTables,
    workload: &'a Workload,
    data: u32,
    used: Vec<Used>,
    missing: BTreeSet<String>,
}

/// The table of one workload.
///
/// # Errors
/// If more GPUs are needed than `gpus`.
pub fn table(workload: &Workload, machine: &Machine, gpus: u32, tables: &RatioTables) -> Result<SimaiTable> {
    let model_parallel = u64::from(workload.tensor) * u64::from(workload.pipeline);
    let data = (u64::from(gpus) / model_parallel) as u32;
    if data == 0 || machine.gpus_per_host == 0 || machine.nics_per_host == 0 {
        let detail = format!("{gpus} GPUs for {model_parallel} ranks of one model");
        return Err(crate::Error::invalid("SimAI workload", detail));
    }
    let mut context = Context { machine, tables, workload, data, used: Vec::new(), missing: BTreeSet::new() };
    let mut summary = Summary::default();
    let mut layers = Vec::with_capacity(workload.layers.len());
    for layer in &workload.layers {
        let forward = at_least_a_page(layer.forward);
        let passes = [&forward, &layer.weight_gradient, &layer.input_gradient];
        let ranks = [context.model_ranks(passes[0]), context.data_ranks(passes[1]), context.model_ranks(passes[2])];
        let [forward_ns, weight_ns, input_ns] = [0, 1, 2].map(|at| context.time_ns(passes[at], ranks[at]));
        let compute_us = passes.iter().map(|pass| pass.compute_ns as f64 / 1e3).sum::<f64>();
        if layer.name != "embedding_layer" {
            summary.bubble_us += compute_us + (forward_ns + input_ns) as f64 / 1e3;
        }
        let data_exposed = keep(weight_ns, machine.data_overlap);
        let by_experts = layer.forward.group == Some(Group::Expert);
        let overlap = if by_experts { machine.expert_overlap } else { machine.tensor_overlap };
        let (forward_exposed, input_exposed) = (keep(forward_ns, overlap), keep(input_ns, overlap));
        let model_us = (forward_exposed + input_exposed) as f64 / 1e3;
        *(if by_experts { &mut summary.expert_us } else { &mut summary.tensor_us }) += model_us;
        let by_replicas = layer.weight_gradient.group == Some(Group::DataExpert);
        let data_us = data_exposed as f64 / 1e3;
        *(if by_replicas { &mut summary.data_expert_us } else { &mut summary.data_us }) += data_us;
        summary.compute_us += compute_us;
        summary.exposed_us += model_us + data_us;
        layers.push(LayerRow {
            name: layer.name.clone(),
            forward: row(passes[0], ranks[0], forward_exposed, forward_ns),
            weight_gradient: row(passes[1], ranks[1], data_exposed, weight_ns),
            input_gradient: row(passes[2], ranks[2], input_exposed, input_ns),
        });
    }
    finish(&mut summary, workload, machine);
    Ok(SimaiTable { layers, summary, used: context.used, missing: context.missing })
}

/// Messages of the forward pass are rounded up to 4 KiB.
fn at_least_a_page(pass: Pass) -> Pass {
    Pass { bytes: if pass.bytes > 0 { pass.bytes.max(4_096) } else { 0 }, ..pass }
}

fn finish(summary: &mut Summary, workload: &Workload, machine: &Machine) {
    let turns = f64::from(workload.virtual_pipeline) * f64::from(workload.micro_batches);
    let overlap = machine.pipeline_overlap;
    let one_ns = workload.pipeline_bytes as f64 / GIBI / f64::from(overlap) * 1e9;
    let whole = (2.0 * turns * one_ns / 1e3) as u64;
    summary.pipeline_us = keep(whole, overlap) as f64;
    summary.bubble_us *= f64::from(workload.pipeline - 1) / turns;
    summary.total_us = summary.compute_us + summary.exposed_us + summary.bubble_us + summary.pipeline_us;
}

/// What is left of a time: whole ticks times a single-precision share, as the program does it.
fn keep(ticks: u64, overlap: f32) -> u64 {
    (ticks as f32 * (1.0 - overlap)) as u64
}

fn row(pass: &Pass, ranks: u32, exposed_ns: u64, ns: u64) -> PassRow {
    let microseconds = ns as f64 / 1e3;
    let algorithm = (pass.bytes as f64 / microseconds * 1e6 / GIBI) as f32;
    let share = f64::from(ranks) - 1.0;
    let bus = match pass.collective {
        None => 0.0,
        Some(Kind::AllReduce) => f64::from(algorithm * 2.0 * share as f32) / f64::from(ranks),
        Some(_) => f64::from(algorithm * share as f32) / f64::from(ranks),
    };
    PassRow {
        compute_us: pass.compute_ns as f64 / 1e3,
        exposed_us: exposed_ns as f64 / 1e3,
        communication_us: microseconds,
        algorithm: f64::from(algorithm),
        bus: f64::from(bus as f32),
    }
}

impl Context<'_> {
    fn model_ranks(&self, pass: &Pass) -> u32 {
        if pass.group == Some(Group::Expert) { self.workload.expert } else { self.workload.tensor }
    }

    fn data_ranks(&self, pass: &Pass) -> u32 {
        if pass.group == Some(Group::DataExpert) { self.data / self.workload.expert } else { self.data }
    }

    fn time_ns(&mut self, pass: &Pass, ranks: u32) -> u64 {
        let Some(kind) = pass.collective else { return 0 };
        if 1 < pass.bytes && pass.bytes < SMALL_BYTES {
            return small_ns(ranks);
        }
        let Some(group) = pass.group else { return 0 };
        let Some(shape) = self.shape(group, ranks) else { return 0 };
        let bandwidth = bus_bandwidth(self.machine, kind, shape);
        let ratio = self.ratio(kind, group, ranks, pass.bytes, bandwidth.by_nvlink);
        let used = Used { kind, group, ranks, bytes: pass.bytes, bandwidth, ratio };
        if !self.used.contains(&used) {
            self.used.push(used);
        }
        let passes = if kind == Kind::AllReduce { 2.0 } else { 1.0 };
        let rate = f64::from(ratio * bandwidth.value);
        let others = f64::from(ranks) - 1.0;
        // A cast of infinity saturates here where it is undefined there; both mean that nothing is known.
        (pass.bytes as f64 / GIBI / rate * 1e9 * passes * others / f64::from(ranks)) as u64
    }

    fn shape(&self, group: Group, ranks: u32) -> Option<Shape> {
        let (gpus, nics) = (self.machine.gpus_per_host, self.machine.nics_per_host);
        let tensor = self.workload.tensor;
        let shape = |hosts: u32, gpus_per_host: u32, nics_per_host: u32| {
            let (hosts, gpus_per_host) = (hosts as i32, gpus_per_host as i32);
            Some(Shape { hosts, gpus_per_host, nics_per_host: nics_per_host as f32 })
        };
        match group {
            Group::Tensor if tensor <= gpus => shape(1, tensor, nics),
            Group::Tensor => shape(tensor / gpus, gpus, nics),
            _ if ranks <= 1 => None,
            Group::Expert if u64::from(tensor) * u64::from(ranks) <= u64::from(gpus) => shape(1, gpus / tensor, nics),
            Group::Expert => {
                let hosts = (u64::from(tensor) * u64::from(ranks) / u64::from(gpus)) as u32;
                shape(hosts, (gpus / tensor).max(1), if tensor > gpus { nics / gpus } else { nics / tensor })
            }
            Group::Data if tensor <= gpus => shape(ranks, gpus / tensor, nics / tensor),
            Group::Data => shape(ranks, 1, nics / gpus),
            Group::DataExpert => match tensor.saturating_mul(self.workload.expert) {
                own if own <= gpus => shape(ranks, gpus / own, nics / own),
                _ => shape(ranks, 1, nics / gpus),
            },
        }
    }

    fn ratio(&mut self, kind: Kind, group: Group, ranks: u32, bytes: u64, by_nvlink: bool) -> f32 {
        let (gpus, tensor) = (self.machine.gpus_per_host, self.workload.tensor);
        let (table, hosts) = match (kind, group) {
            (Kind::AllGather | Kind::ReduceScatter, Group::Tensor) => {
                let table = if by_nvlink { &self.tables.nvlink } else { &self.tables.nic };
                (table, if tensor < gpus { 1 } else { tensor / gpus })
            }
            (Kind::AllToAll, Group::Expert) => {
                let all = tensor.saturating_mul(ranks);
                let hosts = if all <= gpus {
                    1
                } else if tensor >= gpus {
                    9
                } else {
                    all / gpus
                };
                (&self.tables.all_to_all, hosts)
            }
            (Kind::AllToAll, Group::Tensor) => {
                (&self.tables.all_to_all, if tensor <= gpus { 1 } else { tensor / gpus })
            }
            _ => return 1.0,
        };
        table.relative(bytes, hosts).unwrap_or_else(|missing| {
            self.missing.insert(missing);
            1.0
        })
    }
}

/// The fixed times of messages below a mebibyte.
fn small_ns(ranks: u32) -> u64 {
    match ranks {
        2 => 10_000,
        4 => 12_000,
        8 => 15_000,
        16 => 66_000,
        32 => 135_000,
        64 => 200_000,
        128 => 320_000,
        _ => 0,
    }
}
