//! The tokenizer in a GGUF file's metadata (`tokenizer.ggml.*`).

use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, SplitDelimiterBehavior};

use super::file::split_merge;
use super::{AddedToken, Parts, Tokenizer, assemble, broken};
use crate::{Error, Result};

/// The pattern of Qwen2, Qwen2.5 and Qwen3 (`tokenizer.json` of those models).
const QWEN2_PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// The pattern of Qwen3.5, which keeps combining marks with their letters.
const QWEN35_PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// `tokenizer.ggml.pre` and the pattern that it names.
pub(super) const PATTERNS: [(&str, &str); 2] = [("qwen2", QWEN2_PATTERN), ("qwen35", QWEN35_PATTERN)];

/// What the file says of its tokenizer.
#[derive(Debug, Clone)]
pub struct GgufVocabulary<'file> {
    /// `tokenizer.ggml.model`, only `gpt2` (byte-level BPE) is supported.
    pub model: &'file str,
    /// `tokenizer.ggml.pre`, the name of the split pattern.
    pub pre: &'file str,
    /// `tokenizer.ggml.tokens`: by id, in byte-to-unicode spelling; added tokens as they are.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`: 1 normal, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub kinds: Vec<i32>,
    /// `tokenizer.ggml.merges`: `"a b"`, best first.
    pub merges: Vec<String>,
}

pub(super) fn build(vocabulary: GgufVocabulary<'_>) -> Result<Tokenizer> {
    if vocabulary.model != "gpt2" {
        return Err(unsupported("tokenizer.ggml.model", vocabulary.model));
    }
    let (tokens, kinds) = (vocabulary.tokens.len(), vocabulary.kinds.len());
    if tokens != kinds {
        return Err(Error::TokenizerBroken { reason: format!("{tokens} tokens, but {kinds} token types") });
    }
    let mut parts = Parts {
        vocabulary: std::iter::empty::<(String, u32)>().collect(),
        merges: vocabulary.merges.iter().map(|line| split_merge(line)).collect::<Result<Vec<_>>>()?,
        ignore_merges: false,
        normalizer: Some(NormalizerWrapper::NFC(NFC)),
        pre_tokenizer: pre_tokenizer(vocabulary.pre)?,
        added: Vec::new(),
        ending: Vec::new(),
    };
    for (index, (name, kind)) in vocabulary.tokens.into_iter().zip(vocabulary.kinds).enumerate() {
        let id = u32::try_from(index).map_err(broken)?;
        match kind {
            1 | 6 => {
                parts.vocabulary.insert(name, id);
            }
            3 | 4 => parts.added.push(AddedToken { id, name, special: kind == 3 }),
            5 => {}
            other => return Err(unsupported("tokenizer.ggml.token_type", &other.to_string())),
        }
    }
    assemble(parts)
}

pub(super) fn pre_tokenizer(pre: &str) -> Result<PreTokenizerWrapper> {
    let pattern = PATTERNS.iter().find(|(name, _)| *name == pre);
    let (_, pattern) = pattern.ok_or_else(|| unsupported("tokenizer.ggml.pre", pre))?;
    let split = Split::new(SplitPattern::Regex((*pattern).to_owned()), SplitDelimiterBehavior::Isolated, false);
    Ok(PreTokenizerWrapper::Sequence(Sequence::new(vec![
        PreTokenizerWrapper::Split(split.map_err(broken)?),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)),
    ])))
}

pub(super) fn unsupported(field: &str, value: &str) -> Error {
    Error::Unsupported { what: format!("{field} {value:?}"), why: "only Qwen's byte-level BPE is".to_owned() }
}
