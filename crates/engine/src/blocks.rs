//! Which blocks of the key/value cache are free.

/// Hands out blocks `0..count`. Constant time; the block freed last is given first, since it is likeliest in a cache.
#[derive(Debug)]
pub(crate) struct Blocks {
    free: Vec<u32>,
    count: u32,
}

impl Blocks {
    pub(crate) fn new(count: u32) -> Self {
        Self { free: (0..count).rev().collect(), count }
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    pub(crate) fn give_back(&mut self, blocks: &mut Vec<u32>) {
        self.free.extend(blocks.drain(..).rev());
        assert!(self.free.len() <= self.count as usize, "a block was given back twice");
    }
}
