//! A tokenizer from one form of file into the other: `tokenizer.json` and the lists of GGUF.
//!
//! Both say the same of Qwen's byte-level BPE. GGUF has a name where the file has a pattern, and a kind for each token
//! where the file has a list of added ones; what it cannot say is refused by the name of the field.

use serde_json::{Value, json};

use super::gguf::{PATTERNS, unsupported};
use super::{Tokenizer, broken};
use crate::{Error, Result};

/// Kinds of tokens in GGUF.
const NORMAL: u32 = 1;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;
const UNUSED: u32 = 5;
const BYTE: u32 = 6;

/// Ids that one file may have.
const IDS_MAX: usize = 1 << 24;

/// A tokenizer as GGUF has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufLists {
    /// `tokenizer.ggml.pre`.
    pub pre: String,
    /// `tokenizer.ggml.tokens`, by id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`.
    pub kinds: Vec<u32>,
    /// `tokenizer.ggml.merges`.
    pub merges: Vec<String>,
}

impl GgufLists {
    /// The lists that say what a `tokenizer.json` says. What is put behind a whole text is not part of them.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`], and [`Error::Unsupported`] for what GGUF has no word for.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        // It is a tokenizer that is read exactly, or it is refused here.
        Tokenizer::from_json(bytes)?;
        let file: Value = serde_json::from_slice(bytes).map_err(broken)?;
        let model = &file["model"];
        if model["ignore_merges"] == Value::Bool(true) {
            return Err(unsupported("model.ignore_merges", "true"));
        }
        if file["normalizer"]["type"] != "NFC" {
            return Err(unsupported("normalizer", &file["normalizer"].to_string()));
        }
        let vocabulary = model["vocab"].as_object().ok_or_else(|| broken("model.vocab is no object"))?;
        let added = file["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut placed = Vec::with_capacity(vocabulary.len() + added.len());
        for (name, id) in vocabulary {
            placed.push((id, name.as_str(), NORMAL));
        }
        for token in added {
            let kind = if token["special"] == Value::Bool(true) { CONTROL } else { USER_DEFINED };
            placed.push((&token["id"], token["content"].as_str().unwrap_or_default(), kind));
        }
        let (mut tokens, mut kinds) = (Vec::new(), Vec::new());
        for (id, name, kind) in placed {
            let at = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&id| id < IDS_MAX);
            let at = at.ok_or_else(|| broken(format!("{name:?} has the id {id}")))?;
            if at >= tokens.len() {
                let unnamed = (tokens.len()..=at).map(|id| format!("[PAD{id}]"));
                tokens.extend(unnamed);
                kinds.resize(at + 1, UNUSED);
            }
            // An added token may stand in the vocabulary as well; what it is added as counts.
            (tokens[at], kinds[at]) = (name.to_owned(), kind);
        }
        let merge = |merge: &Value| match (merge.as_str(), merge.as_array().map(Vec::as_slice)) {
            (Some(line), _) => Ok(line.to_owned()),
            (None, Some([left, right])) => {
                Ok(format!("{} {}", left.as_str().unwrap_or_default(), right.as_str().unwrap_or_default()))
            }
            (None, _) => Err(broken(format!("the merge {merge} is not a pair"))),
        };
        let merges = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Self {
            pre: pattern_name(&file["pre_tokenizer"])?.to_owned(),
            tokens,
            kinds,
            merges: merges.iter().map(merge).collect::<Result<_>>()?,
        })
    }

    /// The `tokenizer.json` that says what the lists say. `ending`, a token of the lists, is put behind a whole text.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::TokenizerBroken`] for lists that are no tokenizer of Qwen's.
    pub fn to_json(&self, ending: Option<&str>) -> Result<Vec<u8>> {
        let pattern = PATTERNS.iter().find(|(pre, _)| *pre == self.pre);
        let (_, pattern) = pattern.ok_or_else(|| unsupported("tokenizer.ggml.pre", &self.pre))?;
        if self.tokens.len() != self.kinds.len() {
            let reason = format!("{} tokens, but {} token types", self.tokens.len(), self.kinds.len());
            return Err(Error::TokenizerBroken { reason });
        }
        let (mut vocabulary, mut added) = (serde_json::Map::new(), Vec::new());
        for (id, (name, &kind)) in self.tokens.iter().zip(&self.kinds).enumerate() {
            match kind {
                NORMAL | BYTE => {
                    vocabulary.insert(name.clone(), json!(id));
                }
                CONTROL | USER_DEFINED => added.push(json!({
                    "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": kind == CONTROL,
                })),
                UNUSED => {}
                other => return Err(unsupported("tokenizer.ggml.token_type", &other.to_string())),
            }
        }
        let merges: Vec<Vec<&str>> = self.merges.iter().map(|merge| merge.split(' ').collect()).collect();
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes]},
            "post_processor": self.post_processor(ending, &bytes)?,
            "decoder": bytes,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": merges,
            },
        });
        let file = serde_json::to_vec(&file).map_err(broken)?;
        Tokenizer::from_json(&file)?;
        Ok(file)
    }

    fn post_processor(&self, ending: Option<&str>, bytes: &Value) -> Result<Value> {
        let Some(ending) = ending else { return Ok(bytes.clone()) };
        let id = self.tokens.iter().position(|token| token == ending);
        let id = id.ok_or_else(|| broken(format!("there is no token {ending:?}")))?;
        let text = |sequence: &str| json!({"Sequence": {"id": sequence, "type_id": 0}});
        let end = json!({"SpecialToken": {"id": ending, "type_id": 0}});
        let template = json!({
            "type": "TemplateProcessing",
            "single": [text("A"), end],
            "pair": [text("A"), end, text("B"), end],
            "special_tokens": {ending: {"id": ending, "ids": [id], "tokens": [ending]}},
        });
        Ok(json!({"type": "Sequence", "processors": [bytes, template]}))
    }
}

/// GGUF's name of a splitting rule.
fn pattern_name(pre_tokenizer: &Value) -> Result<&'static str> {
    let parts = pre_tokenizer["pretokenizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let [split, bytes] = parts
        && split["type"] == "Split"
        && split["behavior"] == "Isolated"
        && split["invert"] != Value::Bool(true)
        && bytes["type"] == "ByteLevel"
        && bytes["add_prefix_space"] == Value::Bool(false)
        && bytes["use_regex"] == Value::Bool(false)
    {
        let pattern = split["pattern"]["Regex"].as_str();
        if let Some((name, _)) = PATTERNS.iter().find(|(_, known)| Some(*known) == pattern) {
            return Ok(name);
        }
    }
    Err(unsupported("pre_tokenizer", &pre_tokenizer.to_string()))
}
