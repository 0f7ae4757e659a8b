//! Secrets that must come back as they were (a signature is checked with the secret itself) are kept encrypted, with a
//! key that lies in a file beside the database and not in it.
//!
//! | offset | what |
//! |---|---|
//! | 0 | nonce, 24 random bytes |
//! | 24 | the secret by XChaCha20-Poly1305, then its tag of 16 bytes |
//!
//! What a secret belongs to is authenticated with it, so that rows cannot be exchanged.

use base::Entropy;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::{Error, Result};

/// Bytes of the key file.
pub const SEAL_KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Encrypts and decrypts with the key of the key file.
#[derive(Clone)]
pub(crate) struct Sealer(XChaCha20Poly1305);

impl Sealer {
    /// With this key.
    pub(crate) fn new(key: &[u8; SEAL_KEY_BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Encrypts a secret that belongs to `owner`.
    ///
    /// # Panics
    /// If the secret is longer than 256 GiB.
    pub(crate) fn seal(&self, entropy: &dyn Entropy, owner: &str, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce);
        let payload = Payload { msg: secret, aad: owner.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).expect("a secret is short");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Decrypts the secret of `owner`.
    ///
    /// # Errors
    /// [`Error::Sealed`] if it was encrypted with another key, for another owner, or changed since.
    pub(crate) fn open(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(Error::Sealed)?;
        let payload = Payload { msg: rest, aad: owner.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| Error::Sealed)
    }
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::Sealer;

    #[test]
    fn what_is_sealed_comes_back_for_its_owner_only() {
        let entropy = SeededEntropy::new(1);
        let sealer = Sealer::new(&[7; 32]);
        let sealed = sealer.seal(&entropy, "one", b"secret");
        assert_ne!(sealed, sealer.seal(&entropy, "one", b"secret"), "a nonce is never used twice");
        assert_eq!(sealer.open("one", &sealed).unwrap(), b"secret");
        assert!(sealer.open("other", &sealed).is_err());
        assert!(Sealer::new(&[8; 32]).open("one", &sealed).is_err());
        for cut in 0..sealed.len() {
            assert!(sealer.open("one", &sealed[..cut]).is_err(), "{cut}");
        }
        let mut changed = sealed;
        changed[30] ^= 1;
        assert!(sealer.open("one", &changed).is_err());
    }
}
