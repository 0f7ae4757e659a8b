//! From a text to words.
//!
//! Compatibility forms are made one (NFKC), letters small. Words are those of Unicode's rules (UAX 29), stemmed where
//! the language has a Snowball stemmer. Chinese, Japanese and Korean write words without spaces: each two characters
//! that follow each other are a word, and a single one where it stands alone, which finds what a dictionary would and
//! needs none.

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization as _;
use unicode_segmentation::UnicodeSegmentation as _;

use super::Language;

/// Longer words (keys, base64) are cut: nobody asks for them whole.
const WORD_BYTES_MAX: usize = 64;

/// Calls `each` with every word of a text, in order.
pub(crate) fn tokens(text: &str, language: Language, each: &mut dyn FnMut(&str)) {
    let text: String = text.nfkc().flat_map(char::to_lowercase).collect();
    let stemmer = stemmer(language);
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let is_dense = is_dense_script(first);
        let end = rest.find(|char| is_dense_script(char) != is_dense).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        if is_dense {
            pairs(run, each);
            continue;
        }
        for word in run.unicode_words() {
            let word = cut(word);
            match &stemmer {
                Some(stemmer) => each(&stemmer.stem(word)),
                None => each(word),
            }
        }
    }
}

/// Every two characters that follow each other; a single one by itself.
fn pairs(run: &str, each: &mut dyn FnMut(&str)) {
    let mut starts = run.char_indices().map(|(start, _)| start).chain([run.len()]);
    let (mut first, mut second) = (starts.next().unwrap_or(0), starts.next().unwrap_or(run.len()));
    if second == run.len() {
        each(run);
        return;
    }
    for third in starts {
        each(&run[first..third]);
        (first, second) = (second, third);
    }
    debug_assert_eq!(second, run.len(), "the last pair ends the run");
}

fn cut(word: &str) -> &str {
    &word[..word.floor_char_boundary(WORD_BYTES_MAX)]
}

fn stemmer(language: Language) -> Option<Stemmer> {
    let algorithm = match language {
        Language::En => Algorithm::English,
        Language::Fr => Algorithm::French,
        Language::Es => Algorithm::Spanish,
        Language::Pt => Algorithm::Portuguese,
        Language::It => Algorithm::Italian,
        Language::De => Algorithm::German,
        Language::Nl => Algorithm::Dutch,
        Language::Standard | Language::Zh | Language::Ja | Language::Ko => return None,
    };
    Some(Stemmer::create(algorithm))
}

/// Whether a character belongs to a script that is written without spaces between words: Han, Hiragana, Katakana; and
/// Hangul, whose words carry their endings.
fn is_dense_script(char: char) -> bool {
    matches!(u32::from(char),
        0x3005..=0x3007 | 0x3040..=0x30FF | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
        | 0xAC00..=0xD7AF | 0x1100..=0x11FF | 0x3130..=0x318F | 0x20000..=0x3134F)
}
