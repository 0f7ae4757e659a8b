//! A model's tokens, as the grammars see them.

use std::collections::HashSet;
use std::sync::Arc;

use chat::{Specials, Tokenizer};
use llguidance::ParserFactory;
use llguidance::toktrie::{InferenceCapabilities, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

/// Lexer states of one grammar. At one to two kilobytes each this bounds what a request can make us remember.
const LEXER_STATES_MAX: usize = 50_000;

struct Vocabulary {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// Text that a grammar forces, as the model would have written it.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encoded = |text: &str| {
            let tokens = self.tokenizer.encode(text, Specials::AsText).ok();
            // The tokenizer brings text to NFC; what is forced must stay as it is.
            tokens.filter(|tokens| self.tokenizer.decode(tokens, false) == text)
        };
        let greedy = |text: &str| encoded(text).unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()));
        self.trie.tokenize_with_greedy_fallback(bytes, greedy)
    }
}

/// What compiles grammars for a vocabulary; `ends` are the tokens that end a turn.
///
/// Cost: tens to hundreds of milliseconds for 150,000 tokens, and some 20 MB; once a model, when it is first needed.
pub(super) fn factory(tokenizer: Arc<Tokenizer>, ends: &[u32]) -> Result<ParserFactory, String> {
    let added: HashSet<&str> = tokenizer.added_tokens().iter().map(String::as_str).collect();
    let count = tokenizer.vocabulary_size() as u32;
    let word = |id: u32| match tokenizer.token_bytes(id) {
        Some(bytes) if std::str::from_utf8(bytes).is_ok_and(|name| added.contains(name)) => {
            // Marked, so that no text rule of a grammar matches a control token.
            [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
        }
        // The marker is no byte of UTF-8; the token of that byte is never part of text.
        Some(bytes) if bytes.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER) => bytes.to_vec(),
        Some(_) | None => Vec::new(),
    };
    let words: Vec<Vec<u8>> = (0..count).map(word).collect();
    let ends: Vec<u32> = ends.iter().copied().filter(|&end| end < count).collect();
    let first = *ends.first().ok_or("it names no token that ends a turn")?;
    let trie = TokTrie::from(&TokRxInfo::new(count, first), &words).with_eos_tokens(&ends);
    let env: Arc<dyn TokenizerEnv + Sync> = Arc::new(Vocabulary { trie, tokenizer });
    let slices = llguidance::earley::SlicedBiasComputer::general_slices();
    let mut factory =
        ParserFactory::new(&env, InferenceCapabilities::default(), &slices).map_err(|why| why.to_string())?;
    factory.quiet();
    factory.limits_mut().max_lexer_states = LEXER_STATES_MAX;
    factory.limits_mut().verbose_errors = false;
    Ok(factory)
}
