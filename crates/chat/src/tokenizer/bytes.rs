//! The spelling of bytes in vocabulary files: every byte is one printable character, GPT-2's table.

use tokenizers::models::bpe::Vocab;

use crate::{Error, Result};

/// The first of the characters that stand for bytes which have no printable character of their own.
const SHIFTED_FIRST: u32 = 256;

/// The character of a byte: itself if it is printable in Latin-1, or else the next free one from U+0100 on.
fn to_char(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0..=b' ' => SHIFTED_FIRST + u32::from(byte),
        0x7f..=0xa0 => SHIFTED_FIRST + 33 + u32::from(byte - 0x7f),
        0xad => SHIFTED_FIRST + 67,
    };
    char::from_u32(code).expect("codes up to U+0143 are characters")
}

fn to_byte(spelled: char) -> Option<u8> {
    let code = u32::from(spelled);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        256..=288 => code - SHIFTED_FIRST,
        289..=322 => code - SHIFTED_FIRST - 33 + 0x7f,
        323 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Writes bytes as vocabulary files do.
pub(super) fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| to_char(byte)).collect()
}

/// Reads a spelling; one that is not made of the table's characters stands for itself, as in Hugging Face's decoder.
pub(super) fn unspell(spelling: &str) -> Vec<u8> {
    spelling.chars().map(to_byte).collect::<Option<Vec<u8>>>().unwrap_or_else(|| spelling.as_bytes().to_vec())
}

/// Refuses a vocabulary in which some byte has no token: its text would vanish from prompts without a word.
pub(super) fn require_all(vocabulary: &Vocab) -> Result<()> {
    match (0..=u8::MAX).find(|&byte| !vocabulary.contains_key(&spell(&[byte]))) {
        Some(byte) => Err(Error::TokenizerBroken { reason: format!("the byte {byte:#04x} has no token") }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{spell, unspell};

    #[test]
    fn every_byte_has_its_own_character_and_comes_back() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let spelled = spell(&all);
        let mut different: Vec<char> = spelled.chars().collect();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 256);
        assert!(!spelled.chars().any(|c| c.is_whitespace() || c.is_control()), "{spelled}");
        assert_eq!(unspell(&spelled), all);
        assert_eq!(spell(b" \n!\xad"), "ĠĊ!Ń");
    }

    #[test]
    fn what_is_not_in_the_table_stands_for_itself() {
        assert_eq!(unspell("a b"), b"a b");
        assert_eq!(unspell("<｜x｜>"), "<｜x｜>".as_bytes());
    }
}
