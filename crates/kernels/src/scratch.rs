//! Buffers that live from step to step.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};

use crate::activations::KINDS;
use crate::memory::{ALIGNMENT, Memory};

/// The working memory of one caller: it grows in the first steps and is then reused, so that a step does not allocate.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Packed activations, one buffer for each kind.
    pub(crate) packed: [Lines; KINDS],
    /// Quantised weights as BF16, a part for each thread.
    pub(crate) unpacked: Lines,
    /// What goes from a gate to the next projection, packed.
    pub(crate) activations: Lines,
    /// The same not yet packed, and the gate's other operand.
    pub(crate) gates: [Floats; 2],
    /// Working memory of attention.
    pub(crate) floats: Floats,
    pub(crate) plans: crate::matmul::Plans,
}

impl Scratch {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Numbers that are kept from step to step, on cache lines and, if they are many, on huge pages: a register's load or
/// store that crosses two lines costs twice as much, and a product writes to as many pages as it has rows.
#[derive(Debug, Default)]
pub struct Floats {
    lines: Lines,
    length: usize,
}

impl Floats {
    /// From now on there are `length` numbers, of which each is zero or whatever it was at some time.
    pub fn resize(&mut self, length: usize) {
        self.lines.bytes(4 * length);
        self.length = length;
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let Some(memory) = &self.lines.0 else { return &[] };
        // SAFETY: the memory begins on a line, any bits are valid for f32, and so many of its bytes were asked for.
        unsafe { std::slice::from_raw_parts(memory.as_ptr().cast(), self.length) }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        let Some(memory) = &mut self.lines.0 else { return &mut [] };
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), self.length) }
    }
}

/// A buffer that begins on a cache line.
#[derive(Debug, Default)]
pub(crate) struct Lines(Option<Memory>);

impl Lines {
    /// At least so many bytes; what they hold is zero or left from earlier.
    pub(crate) fn bytes(&mut self, count: usize) -> &mut [u8] {
        let length = self.0.as_ref().map_or(0, |memory| memory.len());
        if length < count {
            // The old one goes first. Steps grow little by little, and each time should be worth it.
            self.0 = None;
            let bytes = count.max(length + length / 2).next_multiple_of(ALIGNMENT);
            let Ok(memory) = Memory::zeroed(bytes) else {
                handle_alloc_error(Layout::from_size_align(bytes, ALIGNMENT).unwrap_or(Layout::new::<u8>()));
            };
            self.0 = Some(memory);
        }
        self.0.as_deref_mut().unwrap_or_default()
    }

    /// At least so many words; what they hold is zero or left from earlier.
    pub(crate) fn words(&mut self, count: usize) -> &mut [u32] {
        let bytes = self.bytes(4 * count);
        if bytes.is_empty() {
            return &mut [];
        }
        // SAFETY: a buffer is whole lines that begin on one, and any bits are valid for words.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / 4) }
    }
}
