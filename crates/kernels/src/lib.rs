//! SIMD kernels and the pool of threads that runs them: the arithmetic of a forward pass, on a CPU.
//!
//! A model is read once. [`Matrix::pack`] takes the rows of a file in the file's own [`Format`] and lays them out in
//! panels of sixteen rows, in the order in which a step reads them; [`matmul`] and its kin then stream the panels past
//! one to sixteen columns of activations at a time. Keys and values live in a [`KvCache`], whose blocks have the same
//! panel layout, so that [`attention`] is two of the same microkernels with a softmax between them.
//!
//! The sketch that everything is measured against (two Zen 4 cores): decoding one token reads every weight once, so it
//! costs `bytes / bandwidth` (40 to 64 GB/s); a prompt costs `2 * weights * tokens` operations at 950 Gop/s in int8 or
//! 430 Gop/s in BF16. A panel of sixteen rows is one AVX-512 register wide, two AVX2 registers, or a plain loop.
//!
//! Rules that callers may rely on:
//!
//! * **Precision.** [`Precision::Exact`] multiplies f32 activations with the exactly dequantised weights and sums in
//!   f32. [`Precision::Fast`] rounds activations to BF16 for BF16 weights and to int8 (one scale for 32) for quantised
//!   ones, and stores F32 and F16 weights as BF16. Where the processor has tiles for BF16, rows of a prompt
//!   ([`Role`]) meet quantised weights in BF16.
//! * **Batch invariance.** On one ISA a row of the result depends on its role, but not on how many rows stand beside
//!   it, on the number of threads, on how a prompt was cut into steps, or on which experts other tokens chose: every
//!   output element is summed in one fixed order.
//! * **No allocation in a step.** What a function needs lies in a [`Scratch`], which grows in the first steps and then
//!   stays.
//! * **Lengths are asserted** once, at the public function; foreign sizes are refused with an [`Error`] when a matrix
//!   or a cache is made.
//!
//! Beside that, [`codes`] searches among vectors: scans over one-bit codes and products of rows.
//!
//! This crate is the one home of `unsafe`, and knows nothing of files, models or requests.

#![warn(missing_docs)]
#![expect(unsafe_code, reason = "SIMD, shared slices and mapped memory; see CONTRIBUTING.md, Unsafe and SIMD")]

mod activations;
mod attention;
pub mod codes;
mod cpu;
mod delta;
mod encoder;
mod error;
mod format;
mod gate;
mod isa;
mod kv;
mod layout;
mod matmul;
mod matrix;
mod memory;
mod ops;
mod parts;
mod pool;
mod quant;
mod scalar;
mod scratch;
mod table;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use attention::{AttentionShape, attention};
pub use cpu::{Cpu, CpuOptions};
pub use delta::{DeltaCopy, DeltaShape, DeltaSpan, DeltaStates, HeadOrder, delta_convolve, delta_rule};
pub use encoder::{FullAttention, Gelu, add_bias, full_attention, gelu, layer_norm};
pub use error::{Error, Result};
pub use format::Format;
pub use gate::sigmoid_gate;
pub use isa::Isa;
pub use kv::{KV_BLOCK_TOKENS, KvCache, KvFormat, Span, kv_write};
pub use matmul::{Gated, Gathered, Role, Rows, feed_forward, matmul, matmul_add, matmul_gathered, matmul_group};
pub use matrix::{Matrix, PACKED_VERSION, PANEL_ROWS, Precision, SharedBytes, Stored};
pub use memory::{Memory, give_back_memory, share_heaps};
pub use ops::{HeadNorm, Rope, add, head_norm_rope, rms_norm, scale_add, softmax, swiglu};
pub use quant::{dequantize, quantize};
pub use scratch::{Floats, Scratch};
