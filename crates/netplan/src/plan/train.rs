//! Training: memory of a GPU and time of one iteration, over ways to cut a model.
//!
//! Memory as in Megatron with its distributed optimizer: BF16 weights and FP32 gradients on every rank, twelve bytes
//! of optimizer a number spread over data-parallel ranks; activations as in Korthikanti et al. (2022) with selective
//! recomputation (34 bytes a token and hidden number of a layer, over tensor and context ranks). Time: arithmetic at
//! its share of the peak, collectives by [`crate::collective`], gradients hidden behind the backward pass as far as
//! it lasts, the pipeline's bubble `(p - 1) / m`.

use super::{Assumptions, Cluster};
use crate::collective::{Group, Kind, best};
use crate::error::{Error, Result};
use crate::model::Model;

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainRequest {
    /// Sequences of one iteration.
    pub batch: u32,
    /// Tokens of a sequence.
    pub sequence: f64,
    /// What is taken for granted.
    pub assumptions: Assumptions,
}

impl Default for TrainRequest {
    fn default() -> Self {
        Self { batch: 1_024, sequence: 4_096.0, assumptions: Assumptions::default() }
    }
}

/// One way to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainPlan {
    /// Tensor-parallel ranks.
    pub tensor: u32,
    /// Pipeline stages.
    pub pipeline: u32,
    /// Context-parallel ranks.
    pub context: u32,
    /// Data-parallel ranks.
    pub data: u32,
    /// Ranks over which experts are spread.
    pub expert: u32,
    /// Micro-batches of one sequence each.
    pub micro_batches: u32,
    /// Weights and gradients of a GPU.
    pub weight_bytes: f64,
    /// Optimizer of a GPU.
    pub optimizer_bytes: f64,
    /// Activations of a GPU.
    pub activation_bytes: f64,
    /// One iteration.
    pub iteration_s: f64,
    /// Of this: arithmetic.
    pub compute_s: f64,
    /// Of this: among tensor and context ranks.
    pub tensor_s: f64,
    /// Of this: among experts, not hidden.
    pub expert_s: f64,
    /// Of this: gradients and weights, not hidden.
    pub data_s: f64,
    /// Of this: stages that wait.
    pub bubble_s: f64,
    /// Tokens a second of one GPU.
    pub tokens_per_s_per_gpu: f64,
    /// Arithmetic that the model needs over what the GPUs could do.
    pub utilisation: f64,
    /// Ways that were looked at.
    pub searched: u32,
}

/// The fastest way that fits, or `None`.
///
/// # Errors
/// If the request has no tokens.
pub fn train(model: &Model, cluster: &Cluster, request: &TrainRequest) -> Result<Option<TrainPlan>> {
    if request.batch == 0 || !(request.sequence.is_finite() && (1.0..=1e8).contains(&request.sequence)) {
        let detail = format!("{} sequences of {} tokens", request.batch, request.sequence);
        return Err(Error::invalid("training", detail));
    }
    let powers = |most: u32| (0..20).map(|power| 1_u32 << power).take_while(move |&size| size <= most.max(1));
    let gpus = cluster.gpus();
    let mut searched = 0;
    let mut found: Option<TrainPlan> = None;
    for tensor in powers(cluster.gpus_per_host) {
        for pipeline in powers((gpus / tensor).min(model.layers as u32)) {
            for context in powers((gpus / (tensor * pipeline)).min(if request.sequence > 8_192.0 { 64 } else { 1 })) {
                let data = gpus / (tensor * pipeline * context);
                let experts_max = model.experts.map_or(1, |experts| experts.count as u32).min(data * context);
                for expert in powers(experts_max) {
                    searched += 1;
                    let cut = Cut { tensor, pipeline, context, data, expert };
                    if let Some(plan) = iteration(model, cluster, request, cut)
                        && found.as_ref().is_none_or(|best| plan.iteration_s < best.iteration_s)
                    {
                        found = Some(plan);
                    }
                }
            }
        }
    }
    Ok(found.map(|plan| TrainPlan { searched, ..plan }))
}

#[derive(Clone, Copy)]
struct Cut {
    tensor: u32,
    pipeline: u32,
    context: u32,
    data: u32,
    expert: u32,
}

fn iteration(model: &Model, cluster: &Cluster, request: &TrainRequest, cut: Cut) -> Option<TrainPlan> {
    let Cut { tensor, pipeline, context, data, expert } = cut;
    let used = tensor * pipeline * context * data;
    let assumptions = &request.assumptions;
    let parameters = model.parameters();
    let (t, p, c, d) = (f64::from(tensor), f64::from(pipeline), f64::from(context), f64::from(data));
    // Sequences are shared out among data ranks; a rest costs a whole round.
    let micro_batches = request.batch.div_ceil(data);
    let dense = (parameters.total - parameters.routed) as f64 / (t * p);
    let routed = parameters.routed as f64 / (t * p * f64::from(expert));
    let weight_bytes = 6.0 * (dense + routed);
    let optimizer_bytes = 12.0 * (dense / (d * c) + routed / (d * c / f64::from(expert)).max(1.0));
    let in_flight = f64::from(pipeline.min(micro_batches));
    let per_layer = 34.0 * request.sequence * model.hidden as f64 / (t * c);
    let activation_bytes = per_layer * model.layers as f64 / p * in_flight;
    if weight_bytes + optimizer_bytes + activation_bytes > super::serve::usable_bytes(cluster, assumptions) {
        return None;
    }
    let flops = cluster.gpu.bf16_flops * assumptions.arithmetic_share;
    let forward =
        2.0 * (parameters.active - parameters.embedding / 2) as f64 + model.attention_flops(request.sequence / 2.0);
    let imbalance = if expert > 1 { 1.0 + 0.5 * (assumptions.expert_imbalance - 1.0) } else { 1.0 };
    // The stage with the most layers holds up the others.
    let layers = model.layers.div_ceil(u64::from(pipeline)) as f64;
    let uneven = layers * p / model.layers as f64;
    let micro_s = 3.0 * forward * request.sequence * imbalance * uneven / (flops * t * p * c);
    let activation = request.sequence / c * model.hidden as f64 * 2.0;
    let per_host = cluster.gpus_per_host;
    let machine = &cluster.machine;
    // With sequence parallelism: an all-gather and a reduce-scatter around each of two blocks, there and back.
    let tensor_group = Group::strided(tensor, 1, per_host);
    let pair_s = best(machine, Kind::AllGather, tensor_group, activation).seconds
        + best(machine, Kind::ReduceScatter, tensor_group, activation).seconds;
    let context_s = if context > 1 {
        let keys = model.kv_bytes_per_token(2.0) / model.cached_layers().max(1) as f64 * request.sequence / t;
        2.0 * best(machine, Kind::AllGather, Group::strided(context, tensor, per_host), keys).seconds
    } else {
        0.0
    };
    let tensor_s = layers * (4.0 * pair_s + context_s);
    let expert_s = model.experts.filter(|_| expert > 1).map_or(0.0, |experts| {
        let group = Group::strided(expert, tensor, per_host);
        let bytes = activation * experts.per_token as f64 / t;
        let share = experts.layers as f64 / model.layers as f64;
        4.0 * layers * share * best(machine, Kind::AllToAll, group, bytes).seconds * (1.0 - assumptions.expert_overlap)
    });
    let hand_over = if pipeline > 1 { 2.0 * activation / t / (machine.card_line * machine.card_share) } else { 0.0 };
    let busy_s = micro_s + tensor_s + expert_s + hand_over;
    let rounds = f64::from(micro_batches);
    let bubble_s = (p - 1.0) * busy_s;
    let data_s = gradients_s(cluster, cut, dense, routed, micro_s);
    let iteration_s = rounds * busy_s + bubble_s + data_s;
    let tokens = f64::from(request.batch) * request.sequence;
    let needed = 3.0 * forward * tokens / (cluster.gpu.bf16_flops * f64::from(used));
    Some(TrainPlan {
        tensor,
        pipeline,
        context,
        data,
        expert,
        micro_batches,
        weight_bytes,
        optimizer_bytes,
        activation_bytes,
        iteration_s,
        compute_s: rounds * micro_s,
        tensor_s: rounds * tensor_s,
        expert_s: rounds * expert_s,
        data_s,
        bubble_s: bubble_s + rounds * hand_over,
        tokens_per_s_per_gpu: tokens / iteration_s / f64::from(cluster.gpus()),
        utilisation: needed / iteration_s,
        searched: 0,
    })
}

/// Gradients and weights among data ranks, as far as the last backward pass does not hide them.
fn gradients_s(cluster: &Cluster, cut: Cut, dense: f64, routed: f64, micro_s: f64) -> f64 {
    let Cut { tensor, pipeline, context, data, expert } = cut;
    let (per_host, machine) = (cluster.gpus_per_host, &cluster.machine);
    let data_group = Group::strided(data * context, tensor * pipeline.min(per_host), per_host);
    let replicas = Group::strided((data * context / expert).max(1), tensor * expert, per_host);
    let gradients = |group: Group, numbers: f64| {
        best(machine, Kind::ReduceScatter, group, 4.0 * numbers).seconds
            + best(machine, Kind::AllGather, group, 2.0 * numbers).seconds
    };
    (gradients(data_group, dense) + gradients(replicas, routed) - 2.0 / 3.0 * micro_s).max(0.0)
}
