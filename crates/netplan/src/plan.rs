//! Does a model fit a cluster, how fast is it there, what does it cost, and what breaks.
//!
//! * [`serve()`]: prefill and decode on GPUs of their own, the split that balances them, tokens a second, their price.
//! * [`train()`]: one iteration of training, searched over tensor, pipeline, expert, data and context parallelism.
//! * [`failures`]: the slowdown of the network under every single failure, turned into tokens a second.
//!
//! Estimates are rooflines: a step takes as long as its slower of arithmetic and memory, plus communication that is
//! not hidden. The shares of the peaks that real programs reach stand in [`Assumptions`], with their reasons; they are
//! the first thing to replace by measurements of your own.

mod cluster;
mod failures;
mod serve;
mod train;

#[cfg(test)]
mod tests;

pub use cluster::{Cluster, GPUS, Gpu};
pub use failures::{Failure, Failures, failures};
pub use serve::{Decode, Prefill, ServePlan, ServeRequest, serve};
pub use train::{TrainPlan, TrainRequest, train};

/// What the estimates take for granted.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumptions {
    /// Share of the peak that large matrix products reach.
    pub arithmetic_share: f64,
    /// Share of the memory's rate that reading weights and caches reaches.
    pub memory_share: f64,
    /// Share of memory that may be used.
    pub memory_used: f64,
    /// Bytes a GPU keeps for buffers and the runtime.
    pub reserve_bytes: f64,
    /// Start of the kernels of one layer.
    pub layer_s: f64,
    /// The largest expert load over the mean, where experts are spread.
    pub expert_imbalance: f64,
    /// Share of expert communication that two half batches hide behind each other's computation.
    pub expert_overlap: f64,
    /// Power of a host and its share of the network over that of its GPUs.
    pub power_factor: f64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            // Dense BF16 training of large models reports 40 to 55 % on H100; products alone are higher.
            arithmetic_share: 0.55,
            memory_share: 0.80,
            memory_used: 0.92,
            reserve_bytes: 3e9,
            layer_s: 12e-6,
            expert_imbalance: 1.2,
            expert_overlap: 0.5,
            // An eight-GPU H100 host is rated 10.2 kW for 5.6 kW of GPUs; the network adds some percent.
            power_factor: 1.9,
        }
    }
}
