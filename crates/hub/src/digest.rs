//! What a file's bytes hash to, in the three ways that hubs say it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Bytes that are hashed at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// A hash of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-256: large files at Hugging Face, all files at ModelScope.
    Sha256([u8; 32]),
    /// SHA-1 of `blob LENGTH NUL` and the bytes, as git names files: small files at Hugging Face.
    GitBlob([u8; 20]),
    /// BLAKE3: files of another Sampan.
    Blake3([u8; 32]),
}

impl Digest {
    /// Which hash.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitBlob(_) => "git-blob",
            Self::Blake3(_) => "blake3",
        }
    }

    /// The hash in hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        match self {
            Self::Sha256(bytes) | Self::Blake3(bytes) => hex(bytes),
            Self::GitBlob(bytes) => hex(bytes),
        }
    }

    /// `sha256:…`, as [`Self::parse`] reads it.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}:{}", self.kind(), self.hex())
    }

    /// What [`Self::text`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, digits) = text.split_once(':')?;
        match kind {
            "sha256" => unhex(digits).map(Self::Sha256),
            "git-blob" => unhex(digits).map(Self::GitBlob),
            "blake3" => unhex(digits).map(Self::Blake3),
            _ => None,
        }
    }

    /// An etag: SHA-256 or a git blob by its length, without quotes and `W/`.
    #[must_use]
    pub fn from_etag(etag: &str) -> Option<Self> {
        let bare = etag.trim_start_matches("W/").trim_matches('"');
        unhex(bare).map(Self::Sha256).or_else(|| unhex(bare).map(Self::GitBlob))
    }
}

/// What a file hashes to.
pub(crate) struct Hashed {
    pub(crate) blake3: [u8; 32],
    /// By the way that was asked for.
    pub(crate) digest: Option<Digest>,
}

/// Reads a file once and hashes it by BLAKE3 and the way of `like`.
pub(crate) fn hash_file(path: &Path, like: Option<Digest>, seen: &mut dyn FnMut(u64)) -> Result<Hashed> {
    let mut file = File::open(path).map_err(Error::file("open", path))?;
    let length = file.metadata().map_err(Error::file("look at", path))?.len();
    let mut blake3 = blake3::Hasher::new();
    let mut other = Other::new(like, length);
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        // Ends where the file ends.
        let count = file.read(&mut block).map_err(Error::file("read", path))?;
        if count == 0 {
            break;
        }
        blake3.update(&block[..count]);
        other.update(&block[..count]);
        seen(count as u64);
    }
    let blake3 = *blake3.finalize().as_bytes();
    Ok(Hashed { blake3, digest: other.finish(blake3, like) })
}

enum Other {
    Sha256(Sha256),
    GitBlob(Sha1),
    None,
}

impl Other {
    fn new(like: Option<Digest>, length: u64) -> Self {
        match like {
            Some(Digest::Sha256(_)) => Self::Sha256(Sha256::new()),
            Some(Digest::GitBlob(_)) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {length}\0"));
                Self::GitBlob(hasher)
            }
            Some(Digest::Blake3(_)) | None => Self::None,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::GitBlob(hasher) => hasher.update(bytes),
            Self::None => {}
        }
    }

    fn finish(self, blake3: [u8; 32], like: Option<Digest>) -> Option<Digest> {
        match self {
            Self::Sha256(hasher) => Some(Digest::Sha256(hasher.finalize().into())),
            Self::GitBlob(hasher) => Some(Digest::GitBlob(hasher.finalize().into())),
            Self::None => like.map(|_| Digest::Blake3(blake3)),
        }
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn unhex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = ((pair[0] as char).to_digit(16)?, (pair[1] as char).to_digit(16)?);
        *byte = (high << 4 | low) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Digest, hash_file};

    #[test]
    fn the_three_hashes_are_those_of_the_tools() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "hello\n").unwrap();
        // `sha256sum`, `git hash-object` and `b3sum` of the same file.
        for expected in [
            "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "git-blob:ce013625030ba8dba906f756967f9e9ca394464a",
            "blake3:8e4c7c1b99dbfd50e7a95185fead5ee1448fa904a2fdd778eaf5f2dbfd629a99",
        ] {
            let digest = Digest::parse(expected).unwrap();
            assert_eq!(digest.text(), expected);
            let hashed = hash_file(&path, Some(digest), &mut |_| ()).unwrap();
            assert_eq!(hashed.digest.map(|digest| digest.text()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn an_etag_is_read_by_its_length() {
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(Digest::from_etag(&format!("\"{sha}\"")).map(|digest| digest.kind()), Some("sha256"));
        let git = "W/\"ce013625030ba8dba906f756967f9e9ca394464a\"";
        assert_eq!(Digest::from_etag(git).map(|digest| digest.kind()), Some("git-blob"));
        for none in ["", "\"\"", "ce01", "zz013625030ba8dba906f756967f9e9ca394464a", "\u{e4}\u{e4}"] {
            assert_eq!(Digest::from_etag(none), None, "{none}");
        }
        assert_eq!(Digest::parse("md5:00"), None);
    }
}
