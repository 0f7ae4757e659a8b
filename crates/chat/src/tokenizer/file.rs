//! Reading `tokenizer.json`, Hugging Face's format.
//!
//! Only what is encoded exactly is accepted: byte-level BPE without unknown token, byte fallback or dropout. A
//! post-processor may put tokens behind a text ([`Tokenizer::ending`]), not before it. All of Qwen's are so, and a
//! tokenizer that would be read wrongly is refused by the name of the field.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

use super::{AddedToken, Parts, Tokenizer, assemble, broken};
use crate::{Error, Result};

/// Size of a file that is read. Qwen's has 11 MB.
const FILE_BYTES_MAX: usize = 128 << 20;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// Older files write `"a b"`, newer ones `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair(String, String),
}

pub(super) fn read(json: &[u8]) -> Result<Tokenizer> {
    if json.len() > FILE_BYTES_MAX {
        return Err(Error::TooMany { what: "bytes in tokenizer.json", count: json.len(), limit: FILE_BYTES_MAX });
    }
    let file: File = serde_json::from_slice(json).map_err(broken)?;
    require_supported(&file)?;
    let ending = ending(&file.post_processor)?;
    let pre_tokenizer = file.pre_tokenizer.ok_or_else(|| unsupported("pre_tokenizer", "null"))?;
    let added = file.added_tokens.into_iter().map(added_token).collect::<Result<Vec<_>>>()?;
    let merges = file.model.merges.into_iter().map(merge).collect::<Result<Vec<_>>>()?;
    assemble(Parts {
        vocabulary: file.model.vocab.into_iter().collect(),
        merges,
        ignore_merges: file.model.ignore_merges,
        normalizer: file.normalizer,
        pre_tokenizer,
        added,
        ending,
    })
}

fn require_supported(file: &File) -> Result<()> {
    let model = &file.model;
    if let Some(kind) = model.kind.as_deref()
        && kind != "BPE"
    {
        return Err(unsupported("model.type", kind));
    }
    require_byte_level("decoder", &file.decoder)?;
    for (field, value) in [("model.dropout", &model.dropout), ("model.unk_token", &model.unk_token)] {
        if !value.is_null() {
            return Err(unsupported(field, &value.to_string()));
        }
    }
    let affixes = [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ];
    for (field, affix) in affixes {
        if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
            return Err(unsupported(field, affix));
        }
    }
    if model.byte_fallback {
        return Err(unsupported("model.byte_fallback", "true"));
    }
    Ok(())
}

fn require_byte_level(field: &str, part: &Value) -> Result<()> {
    match part.get("type").and_then(Value::as_str) {
        Some("ByteLevel") => Ok(()),
        other => Err(unsupported(field, other.unwrap_or("null"))),
    }
}

/// The tokens that the post-processor puts behind a text.
fn ending(processor: &Value) -> Result<Vec<u32>> {
    let mut ending = Vec::new();
    let parts = match processor.get("processors").and_then(Value::as_array) {
        Some(parts) if processor["type"] == "Sequence" => parts.as_slice(),
        Some(_) | None if processor.is_null() => &[],
        Some(_) | None => std::slice::from_ref(processor),
    };
    for part in parts {
        if part["type"] == "TemplateProcessing" {
            ending.extend(behind(part).ok_or_else(|| unsupported("post_processor", &part.to_string()))?);
        } else {
            require_byte_level("post_processor", part)?;
        }
    }
    Ok(ending)
}

/// The tokens of a template for one text that begins with the text.
fn behind(template: &Value) -> Option<Vec<u32>> {
    let (text, tokens) = template["single"].as_array()?.split_first()?;
    let mut ids = Vec::new();
    text.get("Sequence")?;
    for token in tokens {
        let name = token["SpecialToken"]["id"].as_str()?;
        for id in template["special_tokens"][name]["ids"].as_array()? {
            ids.push(u32::try_from(id.as_u64()?).ok()?);
        }
    }
    Some(ids)
}

fn added_token(token: Added) -> Result<AddedToken> {
    if token.content.is_empty() {
        return Err(Error::TokenizerBroken { reason: format!("the added token {} is empty", token.id) });
    }
    let rules = [("lstrip", token.lstrip), ("rstrip", token.rstrip), ("single_word", token.single_word)];
    match rules.iter().find(|(_, set)| *set) {
        Some((rule, _)) => Err(unsupported(rule, &format!("true at {}", token.content))),
        None => Ok(AddedToken { id: token.id, name: token.content, special: token.special }),
    }
}

fn merge(merge: Merge) -> Result<(String, String)> {
    match merge {
        Merge::Pair(left, right) => Ok((left, right)),
        Merge::Line(line) => split_merge(&line),
    }
}

/// Splits `"a b"`. A spelling holds no space, so there is just one.
pub(super) fn split_merge(line: &str) -> Result<(String, String)> {
    match line.split_once(' ') {
        Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
        None => Err(Error::TokenizerBroken { reason: format!("the merge {line:?} is not a pair") }),
    }
}

fn unsupported(field: &str, value: &str) -> Error {
    Error::Unsupported { what: format!("tokenizer.json: {field} {value}"), why: "byte-level BPE only".to_owned() }
}
