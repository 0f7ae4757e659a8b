//! Where codes lie that do not change any more.

use std::ops::{Deref, DerefMut};

use super::CodeWord;
use crate::memory::Memory;
use crate::{Error, Result};

/// Words of codes, zero at first, on huge pages where the system has them: a scan over small ones spends a part of its
/// time looking up where they lie.
#[derive(Debug)]
pub struct CodeMemory(Memory);

impl CodeMemory {
    /// Room for so many words.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system has none.
    pub fn zeroed(words: usize) -> Result<Self> {
        let bytes = words.checked_mul(size_of::<CodeWord>()).ok_or(Error::Memory { bytes: usize::MAX })?;
        Memory::zeroed(bytes).map(Self)
    }
}

impl Deref for CodeMemory {
    type Target = [CodeWord];

    fn deref(&self) -> &[CodeWord] {
        let count = self.0.len() / size_of::<CodeWord>();
        // SAFETY: the memory is aligned to a cache line, so many words fit into it, and all bytes are numbers.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), count) }
    }
}

impl DerefMut for CodeMemory {
    fn deref_mut(&mut self) -> &mut [CodeWord] {
        let count = self.0.len() / size_of::<CodeWord>();
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), count) }
    }
}

#[cfg(test)]
mod tests {
    use super::CodeMemory;

    #[test]
    fn words_are_zero_and_keep_what_is_written() {
        for count in [0, 1, 7, 40_000] {
            let mut memory = CodeMemory::zeroed(count).unwrap();
            assert_eq!(memory.len(), count);
            assert!(memory.iter().flatten().all(|word| *word == 0));
            for (place, word) in memory.iter_mut().enumerate() {
                *word = [place as u64; 8];
            }
            assert!(memory.iter().enumerate().all(|(place, word)| *word == [place as u64; 8]));
        }
        assert!(CodeMemory::zeroed(usize::MAX).is_err());
    }
}
