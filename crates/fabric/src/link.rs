//! Frames on a connection, each with a tag that proves who wrote it and in which order.

use std::io::{ErrorKind, Read, Write};

use crate::error::{Error, Result};
use crate::wire::{Frame, HEAD_BYTES, Hash, TAG_BYTES, decode_head};

/// Writes frames of one direction.
pub(crate) struct Sealer {
    key: Hash,
    count: u64,
}

impl Sealer {
    pub(crate) fn new(key: Hash) -> Self {
        Self { key, count: 0 }
    }

    /// Appends a frame and its tag.
    pub(crate) fn seal(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        let start = out.len();
        frame.encode(out);
        let tag = tag(&self.key, self.count, &out[start..]);
        out.extend_from_slice(&tag);
        self.count += 1;
    }

    /// Writes a frame; `scratch` only saves an allocation.
    pub(crate) fn write(&mut self, frame: &Frame, stream: &mut impl Write, scratch: &mut Vec<u8>) -> Result<()> {
        scratch.clear();
        self.seal(frame, scratch);
        stream.write_all(scratch).map_err(|source| Error::Transport { what: "write to the peer", source })
    }
}

/// Reads frames of the other direction.
pub(crate) struct Opener {
    key: Hash,
    count: u64,
    bytes: Vec<u8>,
}

impl Opener {
    pub(crate) fn new(key: Hash) -> Self {
        Self { key, count: 0, bytes: Vec::new() }
    }

    /// The next frame. Whenever the stream's timeout passes without a byte, `idle` says whether to go on.
    pub(crate) fn open(&mut self, stream: &mut impl Read, idle: &mut dyn FnMut() -> Result<()>) -> Result<Frame> {
        let mut head = [0; HEAD_BYTES];
        fill(stream, &mut head, idle)?;
        let (kind, length) = decode_head(head)?;
        let end = HEAD_BYTES + length as usize;
        self.bytes.resize(end + TAG_BYTES, 0);
        self.bytes[..HEAD_BYTES].copy_from_slice(&head);
        fill(stream, &mut self.bytes[HEAD_BYTES..], idle)?;
        let own = tag(&self.key, self.count, &self.bytes[..end]);
        if !same(&own, &self.bytes[end..]) {
            return Err(Error::Forged);
        }
        self.count += 1;
        Frame::decode(kind, &self.bytes[HEAD_BYTES..end])
    }
}

fn tag(key: &Hash, count: u64, frame: &[u8]) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&count.to_le_bytes()).update(frame);
    *hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 16")
}

/// Whether two tags are equal, in a time that does not tell where they differ.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
}

/// Fills `bytes` from a stream whose reads may time out.
pub(crate) fn fill(stream: &mut impl Read, bytes: &mut [u8], idle: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Err(Error::Closed),
            Ok(count) => filled += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => idle()?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Transport { what: "read from the peer", source }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Opener, Sealer};
    use crate::error::{Error, Result};
    use crate::wire::Frame;

    fn sealed(frames: &[Frame]) -> Vec<Vec<u8>> {
        let mut sealer = Sealer::new([7; 32]);
        let seal = |frame| {
            let mut bytes = Vec::new();
            sealer.seal(frame, &mut bytes);
            bytes
        };
        frames.iter().map(seal).collect()
    }

    fn open(mut bytes: &[u8]) -> Result<Frame> {
        Opener::new([7; 32]).open(&mut bytes, &mut || Ok(()))
    }

    #[test]
    fn a_changed_bit_a_replay_and_a_cut_are_noticed() {
        let frames = sealed(&[Frame::Received { number: 3 }, Frame::Received { number: 4 }]);
        assert_eq!(open(&frames[0]).unwrap(), Frame::Received { number: 3 });
        assert!(matches!(open(&frames[1]), Err(Error::Forged)), "the second frame comes first");
        for bit in 0..8 * frames[0].len() {
            let mut changed = frames[0].clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&changed).is_err(), "bit {bit}");
        }
        assert!(matches!(open(&frames[0][..20]), Err(Error::Closed)));
    }
}
