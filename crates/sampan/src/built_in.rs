//! The model that is part of the program.

use models::Embedded;

/// Its name.
pub(crate) const NAME: &str = "sampan-nano";

/// Its files; `train/` holds the recipe and says what it can do.
pub(crate) const FILES: Embedded = Embedded {
    config: include_bytes!("../../../fixtures/nano/config.json"),
    generation_config: include_bytes!("../../../fixtures/nano/generation_config.json"),
    tokenizer: include_bytes!("../../../fixtures/nano/tokenizer.json"),
    tokenizer_config: include_bytes!("../../../fixtures/nano/tokenizer_config.json"),
    weights: include_bytes!("../../../fixtures/nano/model.safetensors"),
};
