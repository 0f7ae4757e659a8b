//! Text to token ids and back.
//!
//! A byte-level BPE vocabulary as Qwen publishes it: added tokens (`<|im_end|>`, `<think>`, …) are cut out first,
//! longest match, then each piece between them is brought to NFC, split by the vocabulary's pattern and merged. The
//! `tokenizers` crate does the pieces; the added tokens are ours, because whether they are recognised is a question
//! of trust that is decided for every stretch of text ([`Specials`]), and not once for a tokenizer.

mod bytes;
mod exchange;
mod file;
mod gguf;
mod table;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{DecoderWrapper, Model as _, NormalizerWrapper, PostProcessorWrapper, TokenizerImpl};

use crate::{Error, Rendered, Result};

pub use exchange::GgufLists;
pub use gguf::GgufVocabulary;
use table::TokenTable;

/// Bytes of text that one call encodes. Four times what a context of a million tokens holds of English.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// Whether text may contain added tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// The text is ours, or its author may speak to the model's machinery: `<|im_end|>` becomes the control token.
    Parse,
    /// The text is somebody's data: `<|im_end|>` becomes the letters that it is made of.
    AsText,
}

/// A stretch of text and how far it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'text> {
    /// The text.
    pub text: &'text str,
    /// Whether added tokens in it are recognised.
    pub specials: Specials,
}

type Pieces = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// A vocabulary with everything needed to encode and decode.
pub struct Tokenizer {
    /// Normalisation, splitting and merging; knows no added tokens.
    pieces: Pieces,
    table: TokenTable,
    added: AddedTokens,
    ending: Vec<u32>,
}

impl Tokenizer {
    /// Reads a Hugging Face `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::TokenizerBroken`] if it is no such file, [`Error::Unsupported`] if it is of a kind that this crate
    /// would not encode exactly (the field and its value are named).
    pub fn from_json(json: &[u8]) -> Result<Self> {
        file::read(json)
    }

    /// Builds the tokenizer that a GGUF file describes in its metadata.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`].
    pub fn from_gguf(vocabulary: GgufVocabulary<'_>) -> Result<Self> {
        gguf::build(vocabulary)
    }

    /// The ids of a text. An empty text has none.
    ///
    /// Cost: about linear, also for a single long run of one character.
    ///
    /// # Errors
    /// [`Error::TooMany`] if the text is longer than [`TEXT_BYTES_MAX`].
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        self.encode_segments(&[Segment { text, specials }])
    }

    /// The ids of several texts in a row. Each is encoded by itself: no token spans two segments.
    ///
    /// # Errors
    /// [`Error::TooMany`] if the texts together are longer than [`TEXT_BYTES_MAX`].
    pub fn encode_segments(&self, segments: &[Segment<'_>]) -> Result<Vec<u32>> {
        let bytes: usize = segments.iter().map(|segment| segment.text.len()).sum();
        if bytes > TEXT_BYTES_MAX {
            return Err(Error::TooMany { what: "bytes of text", count: bytes, limit: TEXT_BYTES_MAX });
        }
        let mut ids = Vec::new();
        for segment in segments {
            match segment.specials {
                Specials::AsText => self.encode_piece(segment.text, &mut ids)?,
                Specials::Parse => self.encode_parsed(segment.text, &mut ids)?,
            }
        }
        Ok(ids)
    }

    /// The ids of a rendered conversation: added tokens where the template wrote them, text everywhere else, so that
    /// nobody's message can end its own turn.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered(&self, rendered: &Rendered) -> Result<Vec<u32>> {
        self.encode_segments(&rendered.segments())
    }

    /// The text of ids. Bytes that are not UTF-8 become U+FFFD; ids that do not exist are passed over.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            if !(skip_special && self.is_special(id)) {
                bytes.extend_from_slice(self.token_bytes(id).unwrap_or_default());
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of a token, not always whole characters; `None` if there is no such id.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.table.bytes(id)
    }

    /// Whether this is a control token that is left out of text meant for people, such as `<|im_end|>`. `<think>` and
    /// `<tool_call>` are not special in this sense.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.table.is_special(id)
    }

    /// What the file puts behind a whole text (Qwen3-Embedding: the end of the text). Encoding adds nothing; who reads
    /// the model at its last token adds this.
    #[must_use]
    pub fn ending(&self) -> &[u32] {
        &self.ending
    }

    /// The id of the token that is spelled so, an added one first.
    #[must_use]
    pub fn token_id(&self, text: &str) -> Option<u32> {
        let added = self.added.names.iter().position(|name| name == text);
        match added {
            Some(index) => Some(self.added.ids[index]),
            None => self.pieces.get_model().token_to_id(&bytes::spell(text.as_bytes())),
        }
    }

    /// The spellings of all added tokens.
    #[must_use]
    pub fn added_tokens(&self) -> &[String] {
        &self.added.names
    }

    /// One more than the highest id that exists. A model may have more logits than that; those beyond must never be
    /// sampled.
    #[must_use]
    pub fn vocabulary_size(&self) -> usize {
        self.table.len()
    }

    fn encode_parsed(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut done = 0;
        for found in self.added.finder.find_iter(text) {
            self.encode_piece(&text[done..found.start()], ids)?;
            ids.push(self.added.ids[found.pattern().as_usize()]);
            done = found.end();
        }
        self.encode_piece(&text[done..], ids)
    }

    fn encode_piece(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let encoding = self.pieces.encode_fast(text, false).map_err(broken)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tokenizer")
            .field("vocabulary_size", &self.vocabulary_size())
            .field("added", &self.added.names.len())
            .finish_non_exhaustive()
    }
}

/// The added tokens and what finds them in a text.
struct AddedTokens {
    names: Vec<String>,
    /// Parallel to `names`.
    ids: Vec<u32>,
    /// Its patterns are `names`, in order.
    finder: AhoCorasick,
}

/// What a tokenizer is made of, whichever file it came from.
struct Parts {
    /// Tokens by their byte-to-unicode spelling.
    vocabulary: Vocab,
    merges: Vec<(String, String)>,
    ignore_merges: bool,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: PreTokenizerWrapper,
    added: Vec<AddedToken>,
    /// Put behind a whole text.
    ending: Vec<u32>,
}

/// A token that is cut out of the text before everything else.
struct AddedToken {
    id: u32,
    name: String,
    special: bool,
}

fn assemble(parts: Parts) -> Result<Tokenizer> {
    let table = TokenTable::new(&parts.vocabulary, &parts.added)?;
    bytes::require_all(&parts.vocabulary)?;
    let model = BPE::builder()
        .vocab_and_merges(parts.vocabulary, parts.merges)
        .ignore_merges(parts.ignore_merges)
        .build()
        .map_err(broken)?;
    let mut pieces = Pieces::new(model);
    pieces.with_normalizer(parts.normalizer);
    pieces.with_pre_tokenizer(Some(parts.pre_tokenizer));
    let (names, ids): (Vec<String>, Vec<u32>) = parts.added.into_iter().map(|token| (token.name, token.id)).unzip();
    let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&names).map_err(broken)?;
    Ok(Tokenizer { pieces, table, added: AddedTokens { names, ids, finder }, ending: parts.ending })
}

fn broken(cause: impl std::fmt::Display) -> Error {
    Error::TokenizerBroken { reason: cause.to_string() }
}

#[cfg(test)]
mod tests;
