//! The models that are part of the program.

use models::Embedded;
use models::bert::EmbeddedBert;

/// The name of the one that answers.
pub(crate) const NAME: &str = "sampan-nano";

/// Its files; `train/` holds the recipe and says what it can do.
pub(crate) const FILES: Embedded = Embedded {
    config: include_bytes!("../../../fixtures/nano/config.json"),
    generation_config: include_bytes!("../../../fixtures/nano/generation_config.json"),
    tokenizer: include_bytes!("../../../fixtures/nano/tokenizer.json"),
    tokenizer_config: include_bytes!("../../../fixtures/nano/tokenizer_config.json"),
    weights: include_bytes!("../../../fixtures/nano/model.safetensors"),
};

/// The name of the one that embeds.
pub(crate) const EMBEDDER_NAME: &str = "sampan-nano-embed";

/// Its files; `train/embed/` holds the recipe.
pub(crate) const EMBEDDER_FILES: EmbeddedBert = EmbeddedBert {
    config: include_bytes!("../../../fixtures/nano_embed/config.json"),
    pooling: include_bytes!("../../../fixtures/nano_embed/1_Pooling/config.json"),
    tokenizer: include_bytes!("../../../fixtures/nano_embed/tokenizer.json"),
    weights: include_bytes!("../../../fixtures/nano_embed/model.safetensors"),
};
