//! Checkpoints of the Qwen3 family, and what a forward pass does with them.
//!
//! A model is opened in three steps, each of which can refuse by name and value:
//!
//! 1. **[`Checkpoint`]** finds the files (a Hugging Face folder, a GGUF file, or bytes inside the binary), maps them
//!    into memory and knows every tensor under one canonical name: [`weights`], [`safetensors`](mod@safetensors_files),
//!    [`gguf`].
//! 2. **[`Config`]** is the shape of the model, read from `config.json` or from GGUF metadata and checked once.
//! 3. **[`Qwen3`]** holds the packed weights and computes logits; **[`Vision`]** turns pictures into what stands in the
//!    places of tokens, **[`bert::Bert`]** texts into vectors; an **[`Adapter`]** changes what a model says for those
//!    sequences of a step that have it.
//!
//! **[`convert`]** writes a checkpoint in another form or format, **[`observe`]** says which errors count in it, and
//! **[`divergence`]** how far one model's predictions lie from another's.
//!
//! The weight format is a variant inside `kernels::Matrix`, not a second model source: one `qwen3.rs` reads every
//! format. Nothing here knows what a request, a sampler or a scheduler is.

#![warn(missing_docs)]

mod adapter;
pub mod bert;
mod checkpoint;
pub mod config;
pub mod convert;
pub mod divergence;
pub mod embedding;
mod encoder;
mod error;
mod finite;
pub mod gguf;
mod loader;
mod mmap;
pub mod observe;
pub mod picture;
mod quantised;
pub mod qwen3;
mod rope;
pub mod safetensors_files;
mod streaming;
pub mod text;
mod texts;
pub mod vision;
mod weight_cache;
pub mod weights;

pub use adapter::{Adapter, AdapterFiles};
pub use checkpoint::{Checkpoint, Embedded, is_tower, tower_path};
pub use config::Config;
pub use error::{Error, Result};
pub use mmap::FileBytes;
pub use qwen3::{Followed, Head, Inserted, KvPool, LogitRows, Predictor, Qwen3, Recurrence, Sequence, Workspace};
pub use streaming::{ReadWay, StreamFigures};
pub use texts::Texts;
pub use vision::Vision;
pub use weight_cache::WeightCache;
