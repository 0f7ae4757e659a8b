//! Bytes in and out. All numbers are little-endian; a reader never trusts a length before it has seen the bytes.

use crc32fast::Hasher;

/// Appends numbers and bytes.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn f32s(&mut self, values: &[f32]) {
        for value in values {
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Bytes after their length as `u16`.
    ///
    /// # Panics
    /// If there are more than 65,535; limits above see to it.
    pub(crate) fn short_bytes(&mut self, bytes: &[u8]) {
        self.u16(u16::try_from(bytes.len()).expect("checked against a limit below 64 KiB"));
        self.0.extend_from_slice(bytes);
    }

    /// Bytes after their length as `u32`.
    ///
    /// # Panics
    /// If there are more than 4 GiB; limits above see to it.
    pub(crate) fn long_bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("checked against a limit below 4 GiB"));
        self.0.extend_from_slice(bytes);
    }

    /// Ends the bytes written since `start` with their checksum.
    pub(crate) fn seal(&mut self, start: usize) {
        let sum = checksum(&self.0[start..]);
        self.u32(sum);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Takes numbers and bytes off the front. Each call answers `None` when there are too few bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `count` numbers. Nothing is allocated before the bytes are known to be there.
    pub(crate) fn f32s(&mut self, count: usize) -> Option<Vec<f32>> {
        self.take(count.checked_mul(4)?).map(f32s)
    }

    pub(crate) fn u32s(&mut self, count: usize) -> Option<Vec<u32>> {
        let bytes = self.take(count.checked_mul(4)?)?;
        Some(bytes.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect())
    }

    pub(crate) fn u64s(&mut self, count: usize) -> Option<Vec<u64>> {
        let bytes = self.take(count.checked_mul(8)?)?;
        Some(bytes.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect())
    }

    pub(crate) fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u16()?;
        self.take(count.into())
    }

    pub(crate) fn long_bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()?;
        self.take(count as usize)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The numbers that the bytes spell; bytes left over are dropped.
pub(crate) fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// CRC-32 (IEEE 802.3).
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finalize()
}

/// The bytes before a checksum, if it is right.
pub(crate) fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let (bytes, sum) = sealed.split_last_chunk::<4>()?;
    (checksum(bytes) == u32::from_le_bytes(*sum)).then_some(bytes)
}

/// FNV-1a, mixed at the end as MurmurHash3 does, so that the high bits are as good as the low ones. Part of the
/// formats.
pub(crate) fn hash64(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::{Reader, Writer, checksum, hash64, unseal};

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.u8(1);
        writer.u16(2);
        writer.u32(3);
        writer.u64(4);
        writer.f32s(&[0.5, -1.0]);
        writer.short_bytes(b"ab");
        writer.long_bytes(b"");
        writer.seal(0);
        let mut reader = Reader(unseal(&writer.0).unwrap());
        assert_eq!((reader.u8(), reader.u16(), reader.u32(), reader.u64()), (Some(1), Some(2), Some(3), Some(4)));
        assert_eq!(reader.f32s(2), Some(vec![0.5, -1.0]));
        assert_eq!((reader.short_bytes(), reader.long_bytes()), (Some(&b"ab"[..]), Some(&b""[..])));
        assert!(reader.is_empty());
        assert_eq!((reader.u8(), reader.f32s(usize::MAX), reader.u64s(1)), (None, None, None));
    }

    #[test]
    fn the_sums_of_the_formats_never_change() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
        assert_eq!(hash64(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(unseal(b"abc"), None);
    }
}
