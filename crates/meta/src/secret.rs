//! Keys that are shown once: what is kept of them is a hash.

use base::Entropy;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// How every service key begins, so that a scanner of leaked secrets knows it.
pub const KEY_PREFIX: &str = "sk-sampan-";
/// How every session's secret begins.
const SESSION_PREFIX: &str = "ss-sampan-";
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

/// A new session's secret, and what is kept of it.
pub(crate) fn new_session(entropy: &dyn Entropy) -> (String, [u8; 32]) {
    let mut bytes = [0; KEY_BYTES];
    entropy.fill(&mut bytes);
    let text = format!("{SESSION_PREFIX}{}", hexadecimal(&bytes));
    let kept = hash(&text);
    (text, kept)
}

/// What a page must say beside the session's cookie before it may change something. It tells nothing of the secret.
#[must_use]
pub fn page_token(session: &str) -> String {
    hexadecimal(&Sha256::digest(format!("page token of {session}").as_bytes()))
}

/// Whether two secrets are equal, in a time that does not depend on where they differ.
#[must_use]
pub fn is_same_secret(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// A new name that begins so.
pub(crate) fn new_name(entropy: &dyn Entropy, prefix: &str) -> String {
    let mut bytes = [0; NAME_BYTES];
    entropy.fill(&mut bytes);
    format!("{prefix}_{}", hexadecimal(&bytes))
}

/// Whether the text could be one of our keys at all.
pub(crate) fn looks_like_a_key(text: &str) -> bool {
    looks_like(text, KEY_PREFIX)
}

/// Whether the text could be a session's secret at all.
pub(crate) fn looks_like_a_session(text: &str) -> bool {
    looks_like(text, SESSION_PREFIX)
}

fn looks_like(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        digits.len() == KEY_DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// What is kept of a secret of 128 random bits or more.
pub(crate) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// So many random bytes, in hexadecimal.
pub(crate) fn random(entropy: &dyn Entropy, bytes: usize) -> String {
    let mut drawn = vec![0; bytes];
    entropy.fill(&mut drawn);
    hexadecimal(&drawn)
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
