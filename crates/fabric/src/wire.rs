//! The protocol, byte by byte. All numbers are little-endian.
//!
//! # A connection
//! Every connection is like every other: any may bring the manifest, carry chunks and ask to finish. It begins with the
//! [handshake](crate::handshake) (144 bytes in all, fixed sizes). After it both sides send frames:
//!
//! ```text
//! offset  size
//! 0       1     kind
//! 1       3     zero
//! 4       4     n, the length of the body
//! 8       n     body
//! 8+n     16    tag: BLAKE3 keyed with this direction's key, over the count of frames before this one in this
//!               direction (u64), the 8 bytes of the head, and the body; its first 16 bytes
//! ```
//!
//! | kind | name | from | body |
//! |---|---|---|---|
//! | 1 | join | sender | 32: BLAKE3 of the manifest, which names the transfer |
//! | 2 | want | receiver | 0: the transfer is new here, send the manifest |
//! | 3 | manifest | sender | the bytes of the [manifest](crate::manifest) |
//! | 4 | have | receiver | u64 memory, u32 chunks of the transfer, then a bit a chunk, lowest first: 1 is received |
//! | 5 | chunk | sender | u32 number, u32 length; **behind the tag follow that many bytes of the file** |
//! | 6 | end | sender | u32 number, 32 BLAKE3 of the chunk; follows the bytes of a chunk |
//! | 7 | received | receiver | u32 number: checked, written, and in the journal |
//! | 8 | durable | receiver | u32 numbers: on the disk, whatever happens to the receiver |
//! | 9 | bad | receiver | u32 number: the bytes do not have that hash, send them again |
//! | 10 | alive | both | 0: sent when there is nothing to say, by a receiver every [`ALIVE_EVERY_MS`] |
//! | 11 | finish | sender | 0: everything is durable, put the files in their places |
//! | 12 | done | receiver | 32 root: BLAKE3 of all chunk hashes in their order (zero where files were there already) |
//! | 13 | refused | receiver | u8 kind of error, then its text in UTF-8; the connection ends |
//!
//! # A transfer
//! The sender opens its streams, each with `join`. The first is answered by `want`, `manifest`, `have`; the others by
//! `have` at once. A stream has at most one chunk's length of bytes under way that are not `received`, so that a peer
//! that is killed costs at most one chunk a stream. A receiver that starts anew reads its journal; the streams join
//! again and are told what it `have`s. `memory` is a number drawn when a receiver opened the transfer: a sender that
//! sees a new one learns from it which chunks it must send again. With a number that it knows, `have` only adds: it may
//! have been written before a `received` that came over another connection. A chunk may arrive twice, over two planes;
//! the second is dropped.

use base::Kind;

use crate::error::{Error, Result, at_most};
use crate::manifest::{CHUNKS_MAX, MANIFEST_BYTES_MAX};

/// How often a receiver says something on every connection.
pub const ALIVE_EVERY_MS: u64 = 25;
/// Bytes of the head of a frame.
pub const HEAD_BYTES: usize = 8;
/// Bytes of the tag behind a frame.
pub const TAG_BYTES: usize = 16;
/// The longest text of a refusal.
const REFUSAL_BYTES_MAX: u32 = 1_024;
/// The most numbers in one `durable`.
pub const DURABLE_MAX: usize = 4_096;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table above explains every field")]
pub enum Frame {
    Join { transfer: Hash },
    Want,
    Manifest { bytes: Vec<u8> },
    Have { memory: u64, chunks: u32, bits: Vec<u8> },
    Chunk { number: u32, length: u32 },
    End { number: u32, hash: Hash },
    Received { number: u32 },
    Durable { numbers: Vec<u32> },
    Bad { number: u32 },
    Alive,
    Finish,
    Done { root: Hash },
    Refused { kind: Kind, message: String },
}

/// The kinds of errors in the order of their numbers on the wire.
const KINDS: [Kind; 9] = [
    Kind::Invalid,
    Kind::Unauthenticated,
    Kind::Forbidden,
    Kind::NotFound,
    Kind::Conflict,
    Kind::Exhausted,
    Kind::Unavailable,
    Kind::Corrupt,
    Kind::Internal,
];

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Join { .. } => 1,
            Self::Want => 2,
            Self::Manifest { .. } => 3,
            Self::Have { .. } => 4,
            Self::Chunk { .. } => 5,
            Self::End { .. } => 6,
            Self::Received { .. } => 7,
            Self::Durable { .. } => 8,
            Self::Bad { .. } => 9,
            Self::Alive => 10,
            Self::Finish => 11,
            Self::Done { .. } => 12,
            Self::Refused { .. } => 13,
        }
    }

    /// Appends head and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.kind(), 0, 0, 0, 0, 0, 0, 0]);
        match self {
            Self::Join { transfer: hash } | Self::Done { root: hash } => out.extend_from_slice(hash),
            Self::Manifest { bytes } => out.extend_from_slice(bytes),
            Self::Have { memory, chunks, bits } => {
                out.extend_from_slice(&memory.to_le_bytes());
                out.extend_from_slice(&chunks.to_le_bytes());
                out.extend_from_slice(bits);
            }
            Self::Chunk { number, length } => {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&length.to_le_bytes());
            }
            Self::End { number, hash } => {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(hash);
            }
            Self::Received { number } | Self::Bad { number } => out.extend_from_slice(&number.to_le_bytes()),
            Self::Durable { numbers } => {
                numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
            }
            Self::Refused { kind, message } => {
                out.push(KINDS.iter().position(|known| known == kind).unwrap_or_default() as u8);
                let cut = message.floor_char_boundary(REFUSAL_BYTES_MAX as usize - 1);
                out.extend_from_slice(&message.as_bytes()[..cut]);
            }
            Self::Want | Self::Alive | Self::Finish => {}
        }
        let length = (out.len() - start - HEAD_BYTES) as u32;
        out[start + 4..start + HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
    }

    /// Reads a body of a kind.
    ///
    /// # Errors
    /// If the kind is not known or the body not of its form.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self> {
        let frame = match kind {
            1 => Self::Join { transfer: exactly(kind, body)? },
            2 => empty(body, Self::Want)?,
            3 => Self::Manifest { bytes: body.to_vec() },
            4 => {
                let Some((memory, rest)) = body.split_first_chunk::<8>() else {
                    return Err(Error::malformed("frame have", format!("{} bytes", body.len())));
                };
                let (chunks, bits) = number(kind, rest)?;
                if bits.len() as u64 != u64::from(chunks).div_ceil(8) {
                    return Err(Error::malformed("frame have", format!("{} bytes for {chunks} chunks", bits.len())));
                }
                Self::Have { memory: u64::from_le_bytes(*memory), chunks, bits: bits.to_vec() }
            }
            5 => {
                let (number_of, rest) = number(kind, body)?;
                Self::Chunk { number: number_of, length: u32::from_le_bytes(exactly(kind, rest)?) }
            }
            6 => {
                let (number_of, rest) = number(kind, body)?;
                Self::End { number: number_of, hash: exactly(kind, rest)? }
            }
            7 => Self::Received { number: u32::from_le_bytes(exactly(kind, body)?) },
            8 => {
                let (numbers, rest) = body.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(Error::malformed("frame durable", format!("{} bytes", body.len())));
                }
                Self::Durable { numbers: numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect() }
            }
            9 => Self::Bad { number: u32::from_le_bytes(exactly(kind, body)?) },
            10 => empty(body, Self::Alive)?,
            11 => empty(body, Self::Finish)?,
            12 => Self::Done { root: exactly(kind, body)? },
            13 => {
                let Some((&first, text)) = body.split_first() else {
                    return Err(Error::malformed("frame refused", "empty"));
                };
                let kind = *KINDS.get(first as usize).unwrap_or(&Kind::Internal);
                Self::Refused { kind, message: String::from_utf8_lossy(text).into_owned() }
            }
            other => return Err(Error::malformed("frame", format!("kind {other}"))),
        };
        Ok(frame)
    }
}

/// Reads the head of a frame: its kind and the length of its body, which is within the limit of the kind.
///
/// # Errors
/// If the kind is unknown, the reserved bytes are not zero, or the body is longer than any of its kind may be.
pub fn decode_head(head: [u8; HEAD_BYTES]) -> Result<(u8, u32)> {
    let [kind, reserved @ .., l0, l1, l2, l3] = head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let limit = match kind {
        1 | 12 => 32,
        2 | 10 | 11 => 0,
        3 => MANIFEST_BYTES_MAX,
        4 => 12 + CHUNKS_MAX.div_ceil(8),
        5 => 8,
        6 => 36,
        7 | 9 => 4,
        8 => 4 * DURABLE_MAX as u32,
        13 => REFUSAL_BYTES_MAX,
        other => return Err(Error::malformed("frame", format!("kind {other}"))),
    };
    if reserved != [0; 3] {
        return Err(Error::malformed("frame", format!("reserved bytes {reserved:02x?}")));
    }
    at_most("bytes in a frame", u64::from(length), u64::from(limit))?;
    Ok((kind, length))
}

fn empty(body: &[u8], frame: Frame) -> Result<Frame> {
    if body.is_empty() { Ok(frame) } else { Err(Error::malformed("frame", format!("{} bytes too many", body.len()))) }
}

fn exactly<const N: usize>(kind: u8, body: &[u8]) -> Result<[u8; N]> {
    body.try_into().map_err(|_| Error::malformed("frame", format!("{} bytes in a body of kind {kind}", body.len())))
}

fn number(kind: u8, body: &[u8]) -> Result<(u32, &[u8])> {
    match body.split_first_chunk::<4>() {
        Some((bytes, rest)) => Ok((u32::from_le_bytes(*bytes), rest)),
        None => Err(Error::malformed("frame", format!("{} bytes in a body of kind {kind}", body.len()))),
    }
}

/// Feeds foreign bytes to everything that reads a frame; for fuzzing.
///
/// # Panics
/// If what was read is not written as it was: a fault of this module.
pub fn fuzz_frame(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return };
    let Ok((kind, length)) = decode_head(*head) else { return };
    let body = &rest[..rest.len().min(length as usize)];
    if let Ok(frame) = Frame::decode(kind, body) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        if !matches!(frame, Frame::Refused { .. }) {
            assert_eq!(&again[HEAD_BYTES..], body, "a frame that was read is written as it was: {frame:?}");
        }
    }
}

#[cfg(test)]
mod tests;
