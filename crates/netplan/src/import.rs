//! Files of others: SimAI's topologies, `nvidia-smi topo -m`, our own TOML, and AICB's workloads.
//!
//! Every reader takes text of any size and origin: it refuses what is too large by a named limit, never panics, and
//! says the line that it could not read.

pub mod aicb;
mod nvidia_smi;
mod simai;
mod toml_file;

pub use nvidia_smi::{GpuHost, Reach, nvidia_smi};
pub use simai::simai;
pub use toml_file::toml;

/// The longest text that a reader of topologies looks at.
pub const TEXT_BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests;
