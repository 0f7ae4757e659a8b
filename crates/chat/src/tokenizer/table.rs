//! The bytes of every token.

use tokenizers::models::bpe::Vocab;

use super::{AddedToken, bytes};
use crate::{Error, Result};

/// Ids a vocabulary may use. Qwen's is about 150,000 and the largest known about 260,000; the table is allocated by
/// the highest id in the file, so that id has a limit.
const VOCABULARY_MAX: usize = 1 << 22;

/// Bytes of all tokens in a row, and where each ends.
pub(super) struct TokenTable {
    bytes: Vec<u8>,
    /// `ends[id]` is the end of the token in `bytes`, the one before it (or 0) its start. [ids]
    ends: Vec<u32>,
    /// What stands at each id. [ids]
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Missing,
    Text,
    Special,
}

impl TokenTable {
    /// Added tokens take precedence over ordinary ones of the same id.
    pub(super) fn new(vocabulary: &Vocab, added: &[AddedToken]) -> Result<Self> {
        let ordinary = vocabulary.values().copied();
        let Some(highest) = ordinary.chain(added.iter().map(|token| token.id)).max() else {
            return Err(Error::TokenizerBroken { reason: "the vocabulary is empty".to_owned() });
        };
        let count = highest as usize + 1;
        if count > VOCABULARY_MAX {
            return Err(Error::TokenizerBroken {
                reason: format!("the highest token id is {highest}, allowed: below {VOCABULARY_MAX}"),
            });
        }
        let mut tokens: Vec<Option<(Vec<u8>, Kind)>> = vec![None; count];
        for (spelling, &id) in vocabulary {
            let token = &mut tokens[id as usize];
            if token.is_some() {
                return Err(Error::TokenizerBroken { reason: format!("two tokens have the id {id}") });
            }
            *token = Some((bytes::unspell(spelling), Kind::Text));
        }
        for token in added {
            let kind = if token.special { Kind::Special } else { Kind::Text };
            tokens[token.id as usize] = Some((token.name.clone().into_bytes(), kind));
        }
        Self::pack(&tokens)
    }

    fn pack(tokens: &[Option<(Vec<u8>, Kind)>]) -> Result<Self> {
        let mut table = Self { bytes: Vec::new(), ends: Vec::new(), kinds: Vec::new() };
        for token in tokens {
            let (bytes, kind) = token.as_ref().map_or((&[][..], Kind::Missing), |(bytes, kind)| (bytes, *kind));
            table.bytes.extend_from_slice(bytes);
            let end = u32::try_from(table.bytes.len());
            table.ends.push(end.map_err(|_| Error::TokenizerBroken { reason: "the tokens exceed 4 GiB".to_owned() })?);
            table.kinds.push(kind);
        }
        Ok(table)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let index = id as usize;
        if *self.kinds.get(index)? == Kind::Missing {
            return None;
        }
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start as usize..self.ends[index] as usize])
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.kinds.get(id as usize) == Some(&Kind::Special)
    }
}
