//! In which format each tensor is written.
//!
//! The mixes are llama.cpp's (`src/llama-quant.cpp`): what every token passes through and what suffers most is kept
//! in more bits. Norms and routers are F32 in GGUF.

use kernels::Format;

use super::layout::{Kind, Slot};
use super::pieces::Pieces;
use super::{Container, Order};
use crate::Result;
use crate::config::Quantisation;

/// The formats of a model's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// Each as it is, if the container has that format; what it cannot hold exactly (FP8, scattered groups; in folders
    /// all blocks) becomes BF16.
    AsIs,
    /// Exact, whatever it was.
    F32,
    /// F16.
    F16,
    /// BF16.
    Bf16,
    /// 8.5 bits a number.
    Q8_0,
    /// 4.5 bits a number, the head 6.6.
    Q4_0,
    /// Q4_K, 4.5 bits a number; the head, and in half of the layers values and down projections, in Q6_K.
    Q4KM,
    /// 6.6 bits a number.
    Q6K,
}

impl Recipe {
    /// `general.file_type`, llama.cpp's number of the mix.
    pub(super) fn file_type(self, most: Format) -> u32 {
        match (self, most) {
            (Self::Q4KM, _) => 15,
            (Self::Q4_0, _) | (_, Format::Q4_0) => 2,
            (Self::Q8_0, _) | (_, Format::Q8_0) => 7,
            (Self::Q6K, _) | (_, Format::Q6K) => 18,
            (Self::F16, _) | (_, Format::F16) => 1,
            (Self::Bf16, _) | (_, Format::Bf16) => 32,
            (Self::F32 | Self::AsIs, _) => 0,
        }
    }

    /// Whether matrices get fewer bits.
    pub(super) fn quantises(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q4_0 | Self::Q4KM | Self::Q6K)
    }

    /// Whether this container can be written so.
    #[must_use]
    pub fn fits(self, container: Container) -> bool {
        container == Container::Gguf || !self.quantises()
    }
}

/// What is never quantised, and F32 in every GGUF file: few numbers, on which much depends.
const ALWAYS_F32: [Kind; 11] = [
    Kind::Norm,
    Kind::PlainNorm,
    Kind::Router,
    Kind::Opening,
    Kind::HeadGate,
    Kind::HeadGates,
    Kind::HeadBias,
    Kind::Rates,
    Kind::Taps,
    Kind::TowerPlain,
    Kind::PatchFrame,
];

/// The format of a slot whose numbers are stored in this format.
pub(super) fn format(pieces: Pieces<'_>, order: &Order<'_>, slot: &Slot, stored: Format) -> Format {
    let is_plain = stored.block_elements() == 1;
    let is_gguf = order.container == Container::Gguf;
    if is_gguf && ALWAYS_F32.contains(&slot.kind) {
        return Format::F32;
    }
    let config = &pieces.checkpoint.config;
    let layers = config.layers;
    let is_head = slot.kind == Kind::Head || slot.kind == Kind::Embedding && config.tied;
    let wanted = match order.recipe {
        Recipe::AsIs if is_computed(pieces, slot, stored) || !is_plain && !is_gguf => Format::Bf16,
        // A tower is small beside its model, and what it sees is not repaired by anybody.
        recipe if slot.kind == Kind::Tower && recipe.quantises() => return stored,
        Recipe::AsIs => return stored,
        Recipe::F32 => Format::F32,
        Recipe::F16 => Format::F16,
        Recipe::Bf16 => Format::Bf16,
        Recipe::Q8_0 => Format::Q8_0,
        Recipe::Q6K => Format::Q6K,
        Recipe::Q4_0 if is_head => Format::Q6K,
        Recipe::Q4_0 => Format::Q4_0,
        Recipe::Q4KM if is_head => Format::Q6K,
        Recipe::Q4KM if matches!(slot.kind, Kind::Value | Kind::Down) && has_more_bits(slot.layer, layers) => {
            Format::Q6K
        }
        Recipe::Q4KM => Format::Q4K,
    };
    let columns = slot.columns();
    if columns.is_multiple_of(wanted.block_elements()) {
        wanted
    } else if columns.is_multiple_of(Format::Q8_0.block_elements()) {
        Format::Q8_0
    } else {
        Format::F16
    }
}

/// Matrices of quantised checkpoints that were computed because no block holds them.
fn is_computed(pieces: Pieces<'_>, slot: &Slot, stored: Format) -> bool {
    let is_in_file = pieces.in_file(slot, 0).is_some();
    let is_quantised = matches!(
        pieces.checkpoint.config.quantisation,
        Some(Quantisation::Fp8 { .. } | Quantisation::Gptq { .. } | Quantisation::Awq { .. })
    );
    is_quantised && stored == Format::F32 && !is_in_file
}

/// The first and the last eighth of the layers, and every third between them.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// The format of a slot's pieces if they all have one, else F32. Numbers are not looked at, except of four-bit
/// checkpoints, whose groups decide which format holds them exactly.
///
/// # Errors
/// What reading a piece can say.
pub(super) fn stored_format(pieces: Pieces<'_>, slot: &Slot) -> Result<Format> {
    let mut found = None;
    for index in slot.pieces() {
        let format = match pieces.in_file(slot, index) {
            Some(tensor) => tensor.format(),
            None => pieces.piece(slot, index)?.format(),
        };
        if found.is_some_and(|found| found != format) {
            return Ok(Format::F32);
        }
        found = Some(format);
    }
    Ok(found.unwrap_or(Format::F32))
}

#[cfg(test)]
mod tests {
    use super::has_more_bits;

    #[test]
    fn half_of_the_layers_have_more_bits() {
        let of = |layers| (0..layers).filter(|&layer| has_more_bits(layer, layers)).collect::<Vec<_>>();
        assert_eq!(of(28), [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]);
        assert_eq!(of(1), [0]);
        assert_eq!(of(3), [2]);
    }
}
