//! Serving: how many sequences fit, how long a step takes, how many GPUs prefill and how many decode.

use super::{Assumptions, Cluster};
use crate::collective::{Group, Kind, best};
use crate::error::{Error, Result};
use crate::model::Model;

/// What counts as nearly as fast.
const NEARLY: f64 = 0.9;

/// What is asked of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ServeRequest {
    /// Tokens of a prompt.
    pub prompt_tokens: f64,
    /// Tokens of an answer.
    pub answer_tokens: f64,
    /// The longest time between two tokens of an answer.
    pub token_s_max: f64,
    /// Bytes a weight: 2 for BF16, 1 for FP8.
    pub weight_bytes: f64,
    /// Bytes a number of the cache.
    pub kv_bytes: f64,
    /// What is taken for granted.
    pub assumptions: Assumptions,
}

impl Default for ServeRequest {
    fn default() -> Self {
        Self {
            prompt_tokens: 2_048.0,
            answer_tokens: 1_024.0,
            token_s_max: 0.05,
            weight_bytes: 2.0,
            kv_bytes: 2.0,
            assumptions: Assumptions::default(),
        }
    }
}

impl ServeRequest {
    fn check(&self) -> Result<()> {
        let numbers = [self.prompt_tokens, self.answer_tokens, self.token_s_max, self.weight_bytes, self.kv_bytes];
        let sound = numbers.iter().all(|number| number.is_finite() && *number > 0.0);
        let tokens_max = 1e8;
        if !sound || self.prompt_tokens > tokens_max || self.answer_tokens > tokens_max {
            return Err(Error::invalid("request", format!("{numbers:?}: positive, at most {tokens_max} tokens")));
        }
        Ok(())
    }
}

/// One way to decode.
#[derive(Debug, Clone, PartialEq)]
pub struct Decode {
    /// Tensor-parallel ranks.
    pub tensor: u32,
    /// Pipeline stages.
    pub pipeline: u32,
    /// Attention replicas over which experts are spread; 1 without experts.
    pub attention_replicas: u32,
    /// GPUs of one replica of the model.
    pub gpus: u32,
    /// Sequences that one attention replica decodes together.
    pub batch: u32,
    /// Time between two tokens of an answer.
    pub token_s: f64,
    /// Of this: memory and arithmetic.
    pub compute_s: f64,
    /// Of this: communication among tensor ranks.
    pub tensor_s: f64,
    /// Of this: communication among experts that is not hidden.
    pub expert_s: f64,
    /// Of this: hand-over between stages.
    pub hand_over_s: f64,
    /// Of this: starts of kernels.
    pub other_s: f64,
    /// Tokens a second of one GPU.
    pub tokens_per_s_per_gpu: f64,
    /// Weights on a GPU.
    pub weight_bytes: f64,
    /// Cache on a GPU at that batch.
    pub cache_bytes: f64,
    /// What would be left over.
    pub free_bytes: f64,
}

/// How prompts are read on such a replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prefill {
    /// Tokens a second of one GPU.
    pub tokens_per_s_per_gpu: f64,
    /// Until the first token of an answer, the queue left out.
    pub first_token_s: f64,
}

/// The plan.
#[derive(Debug, Clone, PartialEq)]
pub struct ServePlan {
    /// Whether the model fits with at least one sequence.
    pub fits: bool,
    /// Weights of the whole model.
    pub weight_bytes: f64,
    /// The smallest number of GPUs that hold the weights.
    pub gpus_min: u32,
    /// Cache of one token.
    pub kv_bytes_per_token: f64,
    /// The best way to decode; `None` if nothing fits.
    pub decode: Option<Decode>,
    /// The same replicas at prefill.
    pub prefill: Option<Prefill>,
    /// Replicas that prefill and that decode; both 0 where every replica does both in turns.
    pub split: (u32, u32),
    /// Replicas in all.
    pub replicas: u32,
    /// Time to hand a prompt's cache over to the replica that decodes.
    pub kv_transfer_s: f64,
    /// Tokens of answers a second, all together.
    pub tokens_per_s: f64,
    /// The same of one GPU.
    pub tokens_per_s_per_gpu: f64,
    /// US dollars for a million tokens of answers, prompts included.
    pub usd_per_million: f64,
    /// Power of everything.
    pub watts: f64,
    /// Ways that were looked at.
    pub searched: u32,
    /// Whether a token comes as quickly as asked.
    pub quick_enough: bool,
}

/// Searches for the way to serve that gives the most tokens a second within the time for a token; if none is quick
/// enough, the quickest.
///
/// # Errors
/// If a number of the request is not positive.
pub fn serve(model: &Model, cluster: &Cluster, request: &ServeRequest) -> Result<ServePlan> {
    request.check()?;
    let parameters = model.parameters();
    let weight_bytes = parameters.total as f64 * request.weight_bytes;
    let usable = usable_bytes(cluster, &request.assumptions);
    let mut plan = ServePlan {
        fits: false,
        weight_bytes,
        gpus_min: (weight_bytes / usable.max(1.0)).ceil().min(f64::from(u32::MAX)) as u32,
        kv_bytes_per_token: model.kv_bytes_per_token(request.kv_bytes),
        decode: None,
        prefill: None,
        split: (0, 0),
        replicas: 0,
        kv_transfer_s: 0.0,
        tokens_per_s: 0.0,
        tokens_per_s_per_gpu: 0.0,
        usd_per_million: f64::INFINITY,
        watts: f64::from(cluster.gpus()) * cluster.gpu.watts * request.assumptions.power_factor,
        searched: 0,
        quick_enough: false,
    };
    let mut ways: Vec<ServePlan> = Vec::new();
    for (tensor, pipeline, replicas) in shapes(model, cluster) {
        plan.searched += 1;
        if let Some(decode) = decode(model, cluster, request, tensor, pipeline, replicas) {
            ways.push(whole(model, cluster, request, decode, &plan));
        }
    }
    let searched = plan.searched;
    Ok(choose(ways).map_or(plan, |chosen| ServePlan { searched, ..chosen }))
}

/// Of those that are quick enough and nearly as fast as the fastest the one with the smallest replica: a failure takes
/// less with it. If none is quick enough, the quickest.
fn choose(ways: Vec<ServePlan>) -> Option<ServePlan> {
    let quick = ways.iter().filter(|way| way.quick_enough);
    let fastest = quick.map(|way| way.tokens_per_s).fold(0.0, f64::max);
    let gpus = |way: &ServePlan| way.decode.as_ref().map_or(u32::MAX, |decode| decode.gpus);
    let token_s = |way: &ServePlan| way.decode.as_ref().map_or(f64::INFINITY, |decode| decode.token_s);
    if fastest > 0.0 {
        let near = ways.into_iter().filter(|way| way.quick_enough && way.tokens_per_s >= NEARLY * fastest);
        return near.min_by(|a, b| gpus(a).cmp(&gpus(b)).then(b.tokens_per_s.total_cmp(&a.tokens_per_s)));
    }
    ways.into_iter().min_by(|a, b| token_s(a).total_cmp(&token_s(b)))
}

/// Tensor ranks, stages and attention replicas that fit in the cluster.
fn shapes(model: &Model, cluster: &Cluster) -> Vec<(u32, u32, u32)> {
    let mut shapes = Vec::new();
    let powers = |most: u32| (0..16).map(|power| 1_u32 << power).take_while(move |&size| size <= most);
    for tensor in powers(cluster.gpus_per_host) {
        for pipeline in powers(cluster.gpus().min(64)).filter(|&stages| u64::from(stages) <= model.layers) {
            let most = cluster.gpus() / (tensor * pipeline);
            let experts = model.experts.map_or(1, |experts| experts.count as u32);
            let replicas_max =
                if model.experts.is_some() { most.min(experts / tensor.min(experts)) } else { most.min(1) };
            for replicas in powers(replicas_max) {
                // Host borders are kept: a replica is whole hosts, or a power of two inside one.
                shapes.push((tensor, pipeline, replicas));
            }
        }
    }
    shapes
}

pub(super) fn usable_bytes(cluster: &Cluster, assumptions: &Assumptions) -> f64 {
    cluster.gpu.memory_bytes * assumptions.memory_used - assumptions.reserve_bytes
}

/// What one GPU holds, and what a step costs it.
struct Load {
    weight_bytes: f64,
    dense_bytes: f64,
    expert_bytes: f64,
    cache_bytes_per_token: f64,
}

fn load(model: &Model, request: &ServeRequest, tensor: u32, pipeline: u32, replicas: u32) -> Load {
    let parameters = model.parameters();
    let (tensor, pipeline, replicas) = (f64::from(tensor), f64::from(pipeline), f64::from(replicas));
    let dense = (parameters.total - parameters.routed) as f64 * request.weight_bytes / (tensor * pipeline);
    let experts = parameters.routed as f64 * request.weight_bytes / (tensor * replicas * pipeline);
    let cuts = tensor.min(model.kv_cuts() as f64);
    Load {
        weight_bytes: dense + experts,
        dense_bytes: dense,
        expert_bytes: experts,
        cache_bytes_per_token: model.kv_bytes_per_token(request.kv_bytes) / (cuts * pipeline),
    }
}

fn decode(
    model: &Model,
    cluster: &Cluster,
    request: &ServeRequest,
    tensor: u32,
    pipeline: u32,
    replicas: u32,
) -> Option<Decode> {
    let load = load(model, request, tensor, pipeline, replicas);
    let free = usable_bytes(cluster, &request.assumptions) - load.weight_bytes;
    let context = request.prompt_tokens + request.answer_tokens;
    let state = model.state_bytes() / f64::from(tensor * pipeline);
    let sequence_bytes = load.cache_bytes_per_token * context + state;
    // Each stage has a batch of its own in flight, so the cache holds that many.
    let batch_max = (free / sequence_bytes / f64::from(pipeline)).floor();
    if batch_max < 1.0 {
        return None;
    }
    let at = |batch: u32| step(model, cluster, request, (tensor, pipeline, replicas), &load, f64::from(batch));
    // The time of a step grows with the batch, and so does the rate: the largest batch that is quick enough.
    let (mut low, mut high) = (1_u32, batch_max.min(4_096.0) as u32);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if at(middle).token_s <= request.token_s_max { low = middle } else { high = middle - 1 }
    }
    let mut found = at(low);
    found.cache_bytes = sequence_bytes * f64::from(low * pipeline);
    found.free_bytes = free - found.cache_bytes;
    Some(found)
}

fn step(
    model: &Model,
    cluster: &Cluster,
    request: &ServeRequest,
    (tensor, pipeline, replicas): (u32, u32, u32),
    load: &Load,
    batch: f64,
) -> Decode {
    let assumptions = &request.assumptions;
    let (parameters, gpu) = (model.parameters(), &cluster.gpu);
    let tokens = batch * f64::from(replicas);
    let memory_rate = gpu.memory_bytes_per_s * assumptions.memory_share;
    let flops = if request.weight_bytes < 1.5 { gpu.fp8_flops } else { gpu.bf16_flops } * assumptions.arithmetic_share;
    // Half of the answer is there on average.
    let context = request.prompt_tokens + request.answer_tokens / 2.0;
    let met = model.experts.map_or(0.0, |experts| {
        let miss = 1.0 - experts.per_token as f64 / experts.count as f64;
        1.0 - miss.powf(tokens)
    });
    let read = load.dense_bytes + load.expert_bytes * met + batch * load.cache_bytes_per_token * context;
    let ranks = f64::from(tensor * pipeline);
    let imbalance = if replicas > 1 { assumptions.expert_imbalance } else { 1.0 };
    // The embedding is looked up, the output matrix is multiplied: it is the same where they are tied.
    let looked_up = if model.tied { 0 } else { parameters.embedding / 2 };
    let matrix = 2.0 * (parameters.active - looked_up) as f64;
    let work = batch * (matrix * imbalance + model.attention_flops(context)) / ranks;
    // The stage with the most layers holds up the others.
    let layers = model.layers.div_ceil(u64::from(pipeline)) as f64;
    let uneven = layers * f64::from(pipeline) / model.layers as f64;
    let activation = batch * model.hidden as f64 * 2.0;
    let compute_s = uneven * (read / memory_rate).max(work / flops);
    let tensor_group = Group::strided(tensor, 1, cluster.gpus_per_host);
    let tensor_s = 2.0 * layers * best(&cluster.machine, Kind::AllReduce, tensor_group, activation).seconds;
    let expert_s = model.experts.filter(|_| replicas > 1).map_or(0.0, |experts| {
        let group = Group::strided(tensor * replicas, 1, cluster.gpus_per_host);
        // Tensor ranks share the sending of their tokens; out in the bytes of a weight, back in BF16.
        let bytes =
            activation / 2.0 * experts.per_token as f64 / f64::from(tensor) * (request.weight_bytes.min(2.0) + 2.0);
        let both = best(&cluster.machine, Kind::AllToAll, group, bytes / 2.0).seconds * 2.0;
        layers * both * (1.0 - assumptions.expert_overlap)
    });
    let card = cluster.machine.card_line * cluster.machine.card_share;
    let hand_over = if pipeline > 1 { activation / f64::from(tensor) / card + 10e-6 } else { 0.0 };
    let other_s = layers * assumptions.layer_s;
    let stage_s = compute_s + tensor_s + expert_s + hand_over + other_s;
    let stages = f64::from(pipeline);
    Decode {
        tensor,
        pipeline,
        attention_replicas: replicas,
        gpus: tensor * pipeline * replicas,
        batch: batch as u32,
        token_s: stage_s * stages,
        compute_s: compute_s * stages,
        tensor_s: tensor_s * stages,
        expert_s: expert_s * stages,
        hand_over_s: hand_over * stages,
        other_s: other_s * stages,
        // Every stage works on a batch of its own at any time.
        tokens_per_s_per_gpu: tokens / stage_s / f64::from(tensor * pipeline * replicas),
        weight_bytes: load.weight_bytes,
        cache_bytes: 0.0,
        free_bytes: 0.0,
    }
}

fn prefill(model: &Model, cluster: &Cluster, request: &ServeRequest, decode: &Decode) -> Prefill {
    let assumptions = &request.assumptions;
    let parameters = model.parameters();
    let gpu = &cluster.gpu;
    let flops = if request.weight_bytes < 1.5 { gpu.fp8_flops } else { gpu.bf16_flops } * assumptions.arithmetic_share;
    let per_token =
        2.0 * (parameters.active - parameters.embedding) as f64 + model.attention_flops(request.prompt_tokens / 2.0);
    // One prompt on the ranks of one attention replica; the other replicas have prompts of their own.
    let ranks = f64::from(decode.tensor * decode.pipeline);
    let imbalance = if decode.attention_replicas > 1 { assumptions.expert_imbalance } else { 1.0 };
    let compute_s = request.prompt_tokens * per_token * imbalance / (flops * ranks);
    let activation = request.prompt_tokens * model.hidden as f64 * 2.0;
    let layers = model.layers as f64;
    let tensor_group = Group::strided(decode.tensor, 1, cluster.gpus_per_host);
    let tensor_s = 2.0 * layers * best(&cluster.machine, Kind::AllReduce, tensor_group, activation).seconds;
    let expert_s = model.experts.filter(|_| decode.attention_replicas > 1).map_or(0.0, |experts| {
        let group = Group::strided(decode.tensor * decode.attention_replicas, 1, cluster.gpus_per_host);
        let bytes = activation * experts.per_token as f64 / f64::from(decode.tensor);
        2.0 * layers * best(&cluster.machine, Kind::AllToAll, group, bytes).seconds * (1.0 - assumptions.expert_overlap)
    });
    // Stages overlap between prompts, so communication counts once a stage.
    let busy_s = compute_s + (tensor_s + expert_s) / f64::from(decode.pipeline);
    let first_token_s = compute_s * f64::from(decode.pipeline) + tensor_s + expert_s;
    Prefill { tokens_per_s_per_gpu: request.prompt_tokens / busy_s / ranks, first_token_s }
}

/// The whole cluster on replicas of this shape.
fn whole(model: &Model, cluster: &Cluster, request: &ServeRequest, decode: Decode, start: &ServePlan) -> ServePlan {
    let prefill = prefill(model, cluster, request, &decode);
    let replicas = cluster.gpus() / decode.gpus;
    let gpus = f64::from(decode.gpus);
    let (reading, writing) = (prefill.tokens_per_s_per_gpu * gpus, decode.tokens_per_s_per_gpu * gpus);
    // Answers a second with so many replicas that only prefill.
    let answers = |readers: u32| {
        let (readers, writers) = (f64::from(readers), f64::from(replicas - readers));
        (readers * reading / request.prompt_tokens).min(writers * writing / request.answer_tokens)
    };
    let in_turns = f64::from(replicas) / (request.prompt_tokens / reading + request.answer_tokens / writing);
    let apart = (1..replicas).max_by(|&a, &b| answers(a).total_cmp(&answers(b)));
    // Apart is worth a little loss: prompts do not hold up answers. Below 85 % it is not.
    let (split, rate) = match apart {
        Some(readers) if answers(readers) >= 0.85 * in_turns => ((readers, replicas - readers), answers(readers)),
        _ => ((0, 0), in_turns),
    };
    let tokens_per_s = rate * request.answer_tokens;
    let card = cluster.machine.card_line * cluster.machine.card_share;
    let kv = model.kv_bytes_per_token(request.kv_bytes) * request.prompt_tokens;
    let senders = f64::from(decode.tensor.min(model.kv_cuts() as u32).max(1) * decode.pipeline);
    ServePlan {
        fits: true,
        quick_enough: decode.token_s <= request.token_s_max,
        kv_transfer_s: if split.0 > 0 { kv / (card * senders) } else { 0.0 },
        tokens_per_s,
        tokens_per_s_per_gpu: tokens_per_s / f64::from(cluster.gpus()),
        usd_per_million: cluster.usd_per_hour() / 3_600.0 / tokens_per_s * 1e6,
        prefill: Some(prefill),
        decode: Some(decode),
        replicas,
        split,
        ..start.clone()
    }
}
