//! Keys that are shown once: what is kept of them is a hash.

use base::Entropy;
use sha2::{Digest as _, Sha256};

/// How every service key begins, so that a scanner of leaked secrets knows it.
pub const KEY_PREFIX: &str = "sk-sampan-";
/// Random bytes of a key. Nobody guesses 256 bits, so one round of a hash is enough to keep them.
const KEY_BYTES: usize = 32;
/// Hexadecimal digits of a key.
const KEY_DIGITS: usize = 2 * KEY_BYTES;
/// Random bytes of a name.
const NAME_BYTES: usize = 12;

/// A new key: its text, and what is kept.
pub(crate) fn new_key(entropy: &dyn Entropy) -> (String, [u8; 32]) {
    let mut bytes = [0; KEY_BYTES];
    entropy.fill(&mut bytes);
    let text = format!("{KEY_PREFIX}{}", hexadecimal(&bytes));
    let kept = hash(&text);
    (text, kept)
}

/// A new name that begins so.
pub(crate) fn new_name(entropy: &dyn Entropy, prefix: &str) -> String {
    let mut bytes = [0; NAME_BYTES];
    entropy.fill(&mut bytes);
    format!("{prefix}_{}", hexadecimal(&bytes))
}

/// Whether the text could be one of our keys at all.
pub(crate) fn looks_like_a_key(text: &str) -> bool {
    text.strip_prefix(KEY_PREFIX).is_some_and(|digits| {
        digits.len() == KEY_DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// What is kept of a secret of 128 random bits or more.
pub(crate) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The bytes as hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes every digit");
    }
    text
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::{hash, looks_like_a_key, new_key, new_name};

    #[test]
    fn keys_are_256_bits_and_kept_as_a_hash() {
        let entropy = SeededEntropy::new(1);
        let ((one, kept), (other, _)) = (new_key(&entropy), new_key(&entropy));
        assert_ne!(one, other);
        assert_eq!(one.len(), "sk-sampan-".len() + 64);
        assert_eq!(kept, hash(&one));
        assert!(looks_like_a_key(&one));
        for text in ["", "sk-sampan-", "sk-sampan-00", &one[1..], &format!("{one}0"), &one.to_uppercase()] {
            assert!(!looks_like_a_key(text), "{text}");
        }
        assert!(new_name(&entropy, "proj").starts_with("proj_"));
    }
}
