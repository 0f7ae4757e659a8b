//! The models through their public API, against the goldens of `fixtures/`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adapters;
mod bad_input;
mod bert;
mod convert;
mod convert_families;
mod embedding;
mod far;
mod goldens;
mod mutant;
mod mutations;
mod mutations_of_files;
mod mutations_of_sight;
mod perplexity;
mod predictor;
mod quantised;
mod streaming;
mod truth;
mod vision;
mod weight_cache;
