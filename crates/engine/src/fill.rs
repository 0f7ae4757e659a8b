//! Filling in the middle, as Qwen's coders were trained on it (technical report of Qwen2.5-Coder, section 3.2.1).

use chat::{Error, Result, Specials, Tokenizer};

/// What the model is likely to say when the gap is filled.
const ENDS: [&str; 8] = [
    "<|endoftext|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// The prompt that asks for what stands between two texts. Control tokens in them are text.
pub(crate) fn prompt(tokenizer: &Tokenizer, before: &str, after: &str) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for (tag, text) in [("<|fim_prefix|>", before), ("<|fim_suffix|>", after), ("<|fim_middle|>", "")] {
        let unsupported = || Error::Unsupported {
            what: "a suffix".to_owned(),
            why: format!("this model fills no gaps: its vocabulary has no {tag}"),
        };
        tokens.push(tokenizer.token_id(tag).ok_or_else(unsupported)?);
        tokens.extend(tokenizer.encode(text, Specials::AsText)?);
    }
    Ok(tokens)
}

/// The tokens that end what is filled in.
pub(crate) fn ends(tokenizer: &Tokenizer) -> Vec<u32> {
    ENDS.iter().filter_map(|end| tokenizer.token_id(end)).collect()
}
