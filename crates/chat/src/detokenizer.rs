//! Text from tokens as they come.

use crate::Tokenizer;

/// Turns token ids into text one by one and never hands out half a character.
///
/// All pieces together, with [`Detokenizer::finish`] at the end, are what [`Tokenizer::decode`] makes of all ids.
#[derive(Debug, Clone, Default)]
pub struct Detokenizer {
    /// The beginning of a character whose end has not come yet: at most three bytes.
    pending: Vec<u8>,
    skip_special: bool,
}

impl Detokenizer {
    /// One that writes special tokens out (`<|im_end|>`), or leaves them out.
    #[must_use]
    pub fn new(skip_special: bool) -> Self {
        Self { pending: Vec::new(), skip_special }
    }

    /// The text that has become certain with this token; often empty within an emoji. Bytes that cannot become a
    /// character are U+FFFD. Ids that do not exist add nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        if self.skip_special && tokenizer.is_special(id) {
            return String::new();
        }
        self.push_bytes(tokenizer.token_bytes(id).unwrap_or_default())
    }

    /// The rest: U+FFFD if the last character was never completed, else nothing.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = invalid;
                    // Without a length the bytes are the beginning of a character that may still be completed.
                    let Some(length) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[length..];
                }
            }
        }
        self.pending = rest.to_vec();
        assert!(self.pending.len() < 4, "no character has more than four bytes");
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Detokenizer;

    fn pieces_of(chunks: &[Vec<u8>]) -> String {
        let mut detokenizer = Detokenizer::new(false);
        let mut text: String = chunks.iter().map(|chunk| detokenizer.push_bytes(chunk)).collect();
        text.push_str(&detokenizer.finish());
        text
    }

    #[test]
    fn a_character_comes_whole_and_at_once() {
        let mut detokenizer = Detokenizer::new(false);
        let shown: Vec<String> = "é🙂!".bytes().map(|byte| detokenizer.push_bytes(&[byte])).collect();
        assert_eq!(shown, ["", "é", "", "", "", "🙂", "!"]);
    }

    proptest! {
        #[test]
        fn pieces_together_are_the_whole_for_any_bytes(chunks: Vec<Vec<u8>>) {
            let whole = chunks.concat();
            prop_assert_eq!(pieces_of(&chunks), String::from_utf8_lossy(&whole));
        }

        #[test]
        fn pieces_together_are_the_whole_for_cut_text(text: String, cuts: Vec<usize>) {
            let bytes = text.as_bytes();
            let mut chunks = Vec::new();
            let mut rest = bytes;
            for cut in cuts {
                let (left, right) = rest.split_at(cut % (rest.len() + 1));
                chunks.push(left.to_vec());
                rest = right;
            }
            chunks.push(rest.to_vec());
            prop_assert_eq!(pieces_of(&chunks), text);
        }
    }
}
