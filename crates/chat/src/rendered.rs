//! A prompt as text, which still knows what the template wrote and what it was given.

use std::ops::Range;

use crate::{Segment, Specials};

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// The whole prompt.
    pub text: String,
    /// Where the template itself wrote a control token, in order and without overlap. The same letters anywhere else
    /// are somebody's text.
    pub control: Vec<Range<usize>>,
}

impl Rendered {
    /// The prompt in stretches that are encoded one by one.
    #[must_use]
    pub fn segments(&self) -> Vec<Segment<'_>> {
        let mut segments = Vec::with_capacity(2 * self.control.len() + 1);
        let mut done = 0;
        for control in &self.control {
            segments.push(Segment { text: &self.text[done..control.start], specials: Specials::AsText });
            segments.push(Segment { text: &self.text[control.clone()], specials: Specials::Parse });
            done = control.end;
        }
        segments.push(Segment { text: &self.text[done..], specials: Specials::AsText });
        segments
    }

    /// Whether the prompt ends with an open `<think>`, so that the answer begins inside the reasoning.
    #[must_use]
    pub fn ends_in_reasoning(&self) -> bool {
        self.text.trim_end().ends_with("<think>")
    }
}
