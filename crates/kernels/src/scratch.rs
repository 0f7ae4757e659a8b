//! Buffers that live from step to step.

/// The working memory of one caller: it grows in the first steps and is then reused, so that a step does not allocate.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Packed activations, one buffer for each kind.
    pub(crate) packed: [Vec<u32>; 3],
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
