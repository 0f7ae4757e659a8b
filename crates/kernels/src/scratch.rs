//! Buffers that live from step to step.

use crate::activations::KINDS;
use crate::layout::LANES;

/// The working memory of one caller: it grows in the first steps and is then reused, so that a step does not allocate.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Packed activations, one buffer for each kind.
    pub(crate) packed: [Lines; KINDS],
    /// Quantised weights as BF16, a part for each thread.
    pub(crate) unpacked: Lines,
    /// Working memory of attention.
    pub(crate) floats: Vec<f32>,
    pub(crate) plans: crate::matmul::Plans,
}

impl Scratch {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// A buffer that begins on a cache line: a register's load that crosses two lines costs twice as much.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<Line>);

/// A cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u32; LANES]);

impl Lines {
    /// At least so many words; what they hold is left from earlier.
    pub(crate) fn words(&mut self, count: usize) -> &mut [u32] {
        let lines = count.div_ceil(LANES);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; LANES]));
        }
        // SAFETY: a line is sixteen words without padding, and lines of a vector follow each other.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LANES) }
    }

    /// At least so many bytes; what they hold is left from earlier.
    pub(crate) fn bytes(&mut self, count: usize) -> &mut [u8] {
        let words = self.words(count.div_ceil(4));
        // SAFETY: a word is four bytes, and any bits are valid for them.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
    }
}
