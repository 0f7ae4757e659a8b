//! What there is to say about a checkpoint without computing with it.

use std::collections::BTreeMap;

use chat::ModelFacts;
use models::Checkpoint;

use crate::prompt::TextSide;

pub(crate) fn of(checkpoint: &Checkpoint, text: &TextSide) -> ModelFacts {
    let bytes_by_format = checkpoint.weights.bytes_by_type();
    let size_bytes = bytes_by_format.values().sum();
    let chat_template = checkpoint.text.chat_template.clone().unwrap_or_default();
    ModelFacts {
        architecture: checkpoint.config.architecture.model_type().to_owned(),
        container: checkpoint.container.to_owned(),
        weight_format: most_common(bytes_by_format),
        parameters: checkpoint.config.parameters().0,
        size_bytes,
        vision: checkpoint.config.vision.is_some(),
        tools: text.template.as_ref().is_some_and(|template| template.tool_format().is_some()),
        thinking: text.template.is_some() && chat_template.contains("enable_thinking"),
        chat_template,
    }
}

/// The format of most bytes. Ties go to the name that comes first, so that the same file is always described alike.
pub(crate) fn most_common(bytes_by_format: BTreeMap<String, u64>) -> String {
    let most = bytes_by_format.into_iter().max_by(|(a, a_bytes), (b, b_bytes)| a_bytes.cmp(b_bytes).then(b.cmp(a)));
    most.map_or_else(String::new, |(format, _)| format.to_uppercase())
}
