//! Filling in the middle, as Qwen's coders were trained on it (technical report of Qwen2.5-Coder, section 3.2.1).

use chat::{ContextFile, Error, Result, Specials, Tokenizer};

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

/// A repository's name and a file's, where nobody says: they were there in training (llama.cpp sends these).
const REPOSITORY: &str = "myproject\n";
const FILE: &str = "filename";

/// The prompt that asks for what stands between two texts, with other files of the repository before them (section
/// 3.2.2). Control tokens in any of them are text.
pub(crate) fn prompt(tokenizer: &Tokenizer, before: &str, after: &str, files: &[ContextFile]) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    let mut tagged = |tag: &str, text: &str| -> Result<()> {
        let unsupported = || Error::Unsupported {
            what: "a suffix".to_owned(),
            why: format!("this model fills no gaps: its vocabulary has no {tag}"),
        };
        tokens.push(tokenizer.token_id(tag).ok_or_else(unsupported)?);
        tokens.extend(tokenizer.encode(text, Specials::AsText)?);
        Ok(())
    };
    if !files.is_empty() {
        tagged("<|repo_name|>", REPOSITORY)?;
        for file in files {
            let name = if file.name.is_empty() { FILE } else { &file.name };
            tagged("<|file_sep|>", &format!("{name}\n{}", file.text))?;
        }
        tagged("<|file_sep|>", &format!("{FILE}\n"))?;
    }
    for (tag, text) in [("<|fim_prefix|>", before), ("<|fim_suffix|>", after), ("<|fim_middle|>", "")] {
        tagged(tag, text)?;
    }
    Ok(tokens)
}

/// The tokens that end what is filled in.
pub(crate) fn ends(tokenizer: &Tokenizer) -> Vec<u32> {
    ENDS.iter().filter_map(|end| tokenizer.token_id(end)).collect()
}
