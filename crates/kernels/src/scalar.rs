//! Plain Rust bodies: obviously right, never optimised. They are the oracle of the others.

mod ops;
mod pack;
mod tile;

pub(crate) use ops::{Weights, rms_norm, rms_norm_in_place, softmax_block, swiglu};
pub(crate) use pack::{pack_bf16, pack_f32, pack_i8};
pub(crate) use tile::{tile_bf16, tile_bf16_f32, tile_f32, tile_i8};
