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

    /// Adds text that says nothing but itself.
    pub fn push_text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a control token.
    pub fn push_control(&mut self, token: &str) {
        let start = self.text.len();
        self.text.push_str(token);
        self.control.push(start..self.text.len());
    }

    /// Adds a stretch of another prompt, in which control tokens stay what they are. One that is cut becomes text.
    ///
    /// # Panics
    /// If the stretch is not one of whole characters of that prompt.
    pub fn push_stretch(&mut self, other: &Self, stretch: Range<usize>) {
        let begins = self.text.len();
        self.text.push_str(&other.text[stretch.clone()]);
        let whole = other.control.iter().filter(|control| control.start >= stretch.start && control.end <= stretch.end);
        self.control
            .extend(whole.map(|control| begins + control.start - stretch.start..begins + control.end - stretch.start));
    }

    /// Whether the prompt ends with an open `<think>`, so that the answer begins inside the reasoning.
    #[must_use]
    pub fn ends_in_reasoning(&self) -> bool {
        self.text.trim_end().ends_with("<think>")
    }
}

#[cfg(test)]
mod tests {
    use super::Rendered;

    #[test]
    fn stretches_keep_their_control_tokens() {
        let mut prompt = Rendered::default();
        prompt.push_text("a");
        prompt.push_control("<|b|>");
        prompt.push_text("c");
        let mut other = Rendered::default();
        other.push_text("x");
        other.push_stretch(&prompt, 1..prompt.text.len());
        other.push_stretch(&prompt, 3..6);
        assert_eq!(other.text, "x<|b|>cb|>");
        assert_eq!(format!("{:?}", other.control), "[1..6]");
    }
}
