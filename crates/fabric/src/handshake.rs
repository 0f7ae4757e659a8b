//! Who is there: both sides prove that they know one token, and neither says it.
//!
//! ```text
//! sender    -> receiver   40   "SMPNET01", 32 bytes that were never used before (nonce)
//! receiver  -> sender     40   the same
//! sender    -> receiver   32   proof: BLAKE3 keyed with K over "sender proof____" and both nonces
//! receiver  -> sender     32   proof: the same over "receiver proof__"; 32 zeros if the sender's proof is wrong
//! ```
//!
//! K is `BLAKE3::derive_key("sampan net 2026 token", token)`. The keys of the two directions are BLAKE3 keyed with K
//! over "sender frames___" or "receiver frames_" and both nonces: another for every connection, so nothing can be
//! replayed. A stranger who speaks first learns a nonce and nothing else. Who records a handshake can try tokens
//! against it at leisure, which is why a token is long and drawn by a machine.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::link::{Opener, Sealer};
use crate::wire::Hash;

/// The first bytes of every connection.
pub const MAGIC: &[u8; 8] = b"SMPNET01";
/// The shortest token.
pub const TOKEN_CHARS_MIN: usize = 16;
/// The longest token.
pub const TOKEN_CHARS_MAX: usize = 1_024;

/// What both sides know. Never printed: it has neither `Debug` nor `Display`.
#[derive(Clone)]
pub struct Token(Hash);

impl Token {
    /// A token from its text; spaces and line ends around it do not count.
    ///
    /// # Errors
    /// If it is too short to be a secret, or too long.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        let length = text.chars().count();
        if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&length) {
            return Err(Error::TokenLength { length, min: TOKEN_CHARS_MIN, max: TOKEN_CHARS_MAX });
        }
        Ok(Self(blake3::derive_key("sampan net 2026 token", text.as_bytes())))
    }

    fn keyed(&self, label: &[u8; 16], sender: &Hash, receiver: &Hash) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(label).update(sender).update(receiver);
        hasher.finalize()
    }
}

/// Draws numbers that nobody can guess and that never repeat, from a seed that the operating system made.
pub struct Nonces {
    seed: Hash,
    drawn: AtomicU64,
}

impl Nonces {
    /// From 32 random bytes, which nobody else may ever see or use.
    #[must_use]
    pub fn seeded(seed: Hash) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }

    /// The next one.
    pub fn draw(&self) -> Hash {
        let count = self.drawn.fetch_add(1, Ordering::Relaxed);
        *blake3::keyed_hash(&self.seed, &count.to_le_bytes()).as_bytes()
    }
}

/// The sender's side.
pub(crate) fn call<S: Read + Write>(stream: &mut S, token: &Token, own: &Hash) -> Result<(Sealer, Opener)> {
    greet(stream, own)?;
    let peer = greeting(stream)?;
    let keyed = |label: &[u8; 16]| token.keyed(label, own, &peer);
    write(stream, keyed(b"sender proof____").as_bytes())?;
    let proof: Hash = read(stream)?;
    if proof == [0; 32] {
        return Err(Error::TokenRefused);
    }
    // `blake3::Hash` compares in constant time.
    if blake3::Hash::from_bytes(proof) != keyed(b"receiver proof__") {
        return Err(Error::TokenUnknown);
    }
    Ok((Sealer::new(*keyed(b"sender frames___").as_bytes()), Opener::new(*keyed(b"receiver frames_").as_bytes())))
}

/// The receiver's side.
pub(crate) fn answer<S: Read + Write>(stream: &mut S, token: &Token, own: &Hash) -> Result<(Sealer, Opener)> {
    let peer = greeting(stream)?;
    greet(stream, own)?;
    let keyed = |label: &[u8; 16]| token.keyed(label, &peer, own);
    let proof: Hash = read(stream)?;
    if blake3::Hash::from_bytes(proof) != keyed(b"sender proof____") {
        write(stream, &[0; 32])?;
        return Err(Error::TokenUnknown);
    }
    write(stream, keyed(b"receiver proof__").as_bytes())?;
    Ok((Sealer::new(*keyed(b"receiver frames_").as_bytes()), Opener::new(*keyed(b"sender frames___").as_bytes())))
}

fn greet(stream: &mut impl Write, nonce: &Hash) -> Result<()> {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..].copy_from_slice(nonce);
    write(stream, &bytes)
}

fn greeting(stream: &mut impl Read) -> Result<Hash> {
    let magic: [u8; 8] = read(stream)?;
    if magic != *MAGIC {
        return Err(Error::Stranger { found: magic });
    }
    read(stream)
}

fn write(stream: &mut impl Write, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).map_err(|source| Error::Transport { what: "shake hands", source })
}

fn read<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map_err(|source| match source.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::Closed,
        _ => Error::Transport { what: "shake hands", source },
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::{Nonces, Token, answer, call};
    use crate::error::{Error, Result};
    use crate::link::{Opener, Sealer};
    use crate::wire::Frame;

    type Side = Result<(Sealer, Opener)>;

    fn meet(sender: &str, receiver: &str) -> (Side, Side) {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let (sender, receiver) = (Token::new(sender).unwrap(), Token::new(receiver).unwrap());
        let nonces = Nonces::seeded([1; 32]);
        let (one, other) = (nonces.draw(), nonces.draw());
        assert_ne!(one, other);
        let answering = std::thread::spawn(move || answer(&mut far, &receiver, &other));
        let called = call(&mut near, &sender, &one);
        drop(near);
        (called, answering.join().unwrap())
    }

    #[test]
    fn one_token_makes_keys_that_fit() {
        let (called, answered) = meet("a token of some length", " a token of some length\n");
        let ((mut sealer, _), (_, mut opener)) = (called.unwrap(), answered.unwrap());
        let mut bytes = Vec::new();
        sealer.seal(&Frame::Finish, &mut bytes);
        assert_eq!(opener.open(&mut bytes.as_slice(), &mut || Ok(())).unwrap(), Frame::Finish);
    }

    #[test]
    fn another_token_is_refused_on_both_sides() {
        let (called, answered) = meet("a token of some length", "b token of some length");
        assert!(matches!(called, Err(Error::TokenRefused)));
        assert!(matches!(answered, Err(Error::TokenUnknown)));
    }

    #[test]
    fn a_stranger_is_told_from_a_peer() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut near, b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let token = Token::new("a token of some length").unwrap();
        assert!(matches!(answer(&mut far, &token, &[0; 32]), Err(Error::Stranger { .. })));
    }

    #[test]
    fn a_short_token_is_no_secret() {
        assert!(Token::new("   short   ").is_err_and(|error| error.to_string().contains("5 characters")));
    }
}
